/* As much of MQTT 3.1.1 and 5.0 as a load generator needs, written apart from the server so that
 * it does not share the server's mistakes.
 *
 * Pure functions over bytes. `version` is the protocol level on the wire: 4 or 5.
 */
#pragma once
#include "bytes.h"
#include <stdbool.h>

enum packet_type {
    PACKET_CONNECT = 1,
    PACKET_CONNACK,
    PACKET_PUBLISH,
    PACKET_PUBACK,
    PACKET_PUBREC,
    PACKET_PUBREL,
    PACKET_PUBCOMP,
    PACKET_SUBSCRIBE,
    PACKET_SUBACK,
    PACKET_DISCONNECT = 14,
};

/* What stands at the start of every payload that the generator publishes. */
struct packet_stamp {
    uint64_t sent_ns; /* CLOCK_MONOTONIC when the batch with this message was written */
    uint32_t seq;     /* from 1, per publisher; in numbered patterns of all publishers together */
    uint32_t publisher_index;
};

struct packet_login {
    uint32_t version;
    bool clean;
    uint16_t keep_alive_s;
    uint32_t session_expiry_s; /* 5.0 only */
    const char *client_id;
    const char *username; /* NULL: none */
    const char *password; /* NULL: none */
};

#define PACKET_NUMBER_DIGITS 7 /* a '*' in a topic stands for a number of so many digits */
#define PACKET_NUMBER_MAX    9999999
#define PACKET_TOPIC_NUMBERS 4 /* most '*' in a topic */

/* A PUBLISH that is copied for each message and patched in a few places. */
struct packet_template {
    struct bytes bytes;
    size_t id_offset; /* 0 at QoS 0 */
    size_t stamp_offset;
    size_t number_offsets[PACKET_TOPIC_NUMBERS];
    uint32_t number_count;
};

/* What a PUBLISH template is made of. */
struct packet_message {
    uint32_t version;
    uint32_t qos;
    bool retain;
    const char *topic; /* each '*' becomes a number, see packet_set_number() */
    size_t payload_size;
};

struct packet_publish {
    uint8_t qos;
    uint16_t id;
    const uint8_t *payload;
    size_t payload_size;
};

struct packet_connack {
    bool session_present;
    uint8_t code;
    uint16_t receive_max; /* 65,535 unless a 5.0 server says less */
};

void packet_add_connect(struct bytes *out, const struct packet_login *login);
/* A SUBSCRIBE is gathered filter by filter in `filters`, then added as a whole. */
void packet_add_filter(struct bytes *filters, const char *filter, uint32_t qos);
void packet_add_subscribe(struct bytes *out, uint32_t version, const struct bytes *filters);
void packet_add_disconnect(struct bytes *out);

/* Appends PUBACK, PUBREC, PUBREL or PUBCOMP, meaning success. */
void packet_add_ack(struct bytes *out, enum packet_type type, uint16_t id);

/* Builds the template; the payload is at least sizeof(struct packet_stamp) long. */
void packet_make_template(struct packet_template *ret_template,
                          const struct packet_message *message);

/* Writes `number`, at most PACKET_NUMBER_MAX, into a copy of the template's bytes. */
void packet_set_number(const struct packet_template *template, uint8_t *copy, uint32_t number);

/* Reads the fixed header. Returns 1 when set, 0 when more bytes are needed, -1 when malformed. */
int packet_parse_head(const uint8_t *data, size_t size, size_t *ret_head_size,
                      size_t *ret_body_size);

/* These read the body behind the fixed header; return false when it is malformed. */
bool packet_parse_publish(uint32_t version, uint8_t first, const uint8_t *body, size_t size,
                          struct packet_publish *ret_publish);
bool packet_parse_connack(uint32_t version, const uint8_t *body, size_t size,
                          struct packet_connack *ret_connack);
/* `ret_code` is 0 where the packet has none. */
bool packet_parse_ack(const uint8_t *body, size_t size, uint16_t *ret_id, uint8_t *ret_code);
/* `ret_codes` is set to the reason or return codes in the body, one per filter. */
bool packet_parse_suback(uint32_t version, const uint8_t *body, size_t size,
                         const uint8_t **ret_codes, size_t *ret_count);
