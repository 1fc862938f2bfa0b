/* MQTT control packets that a server receives: one struct and one decoder each.
 *
 * A decoder takes the body of a frame whose head frame_parse accepted (`flags`: the head's low four
 * bits) and the protocol level of the connection. Slices in the result borrow the body; nothing is
 * allocated, copied or changed [MQTT3-1.5.3-3] [MQTT5-1.5.4-3]. Whatever a server must reject
 * whatever its state is rejected here.
 *
 * All return 0, ERR_MALFORMED or ERR_PROTOCOL. After a failure *ret is undefined, and *ret_reason
 * (set only then) is the reason code of the v5 answer; a 3.x connection is closed, or a CONNECT
 * answered by reason_to_connack3(). PINGREQ has no body: packet_ping_check. Thread: any.
 */
#pragma once

#include "mqtt/frame.h"
#include "mqtt/props.h"
#include "mqtt/reason.h"

struct packet_connect {
    uint8_t version;  /* enum mqtt_version */
    bool clean_start; /* Clean Session in 3.x */
    bool has_will, has_username, has_password;
    bool will_retain;
    uint8_t will_qos;
    uint16_t keep_alive_s;  /* 0 = off */
    struct slice client_id; /* empty: the server assigns one */
    struct slice username, password;
    struct slice will_topic, will_payload;
    struct props props, will_props;
};

/* Decodes a CONNECT. Unlike others, ret->version is set on failure too: the version in which to
 * answer, or 0 when the protocol name is not MQTT's and the connection is just to be closed.
 * A password without a user name is accepted in v5 only; user name and password that are announced
 * but missing in 3.1 count as absent, as that version asks. A protocol level with the bridge bit
 * (0x80) is an unsupported version.
 * Spec: [MQTT3-3.1.2-1] [MQTT3-3.1.2-2] [MQTT3-3.1.2-3] [MQTT3-3.1.3-8] [MQTT5-3.1.2-1]
 * [MQTT5-3.1.2-2] [MQTT5-3.1.2-3] and more beside the code */
MUST_CHECK int dec_connect(struct slice body, struct packet_connect *ret, uint8_t *ret_reason);

struct packet_publish {
    bool dup, retain;
    uint8_t qos;
    uint16_t packet_id; /* 0 at QoS 0, else not 0 */
    struct slice topic; /* empty only when props carry a topic alias */
    struct slice payload;
    struct props props;
};

/* Decodes a PUBLISH from a client. Alias limits, rights and levels are the caller's. */
MUST_CHECK int dec_publish(struct slice body, uint8_t flags, uint8_t version,
                           struct packet_publish *ret, uint8_t *ret_reason);

/* PUBACK, PUBREC, PUBREL, PUBCOMP. */
struct packet_ack {
    uint16_t packet_id;
    uint8_t reason; /* REASON_SUCCESS in 3.x */
    struct props props;
};

MUST_CHECK int dec_ack(struct slice body, uint8_t packet_type, uint8_t version,
                       struct packet_ack *ret, uint8_t *ret_reason);

/* SUBSCRIBE and UNSUBSCRIBE; their entries are checked already and read with *_next. */
struct packet_subscribe {
    uint16_t packet_id;
    uint8_t version;
    uint32_t count;       /* entries, at least 1 */
    struct slice entries; /* their bytes */
    struct props props;
};

struct subscribe_entry {
    struct slice filter; /* as sent, with $share/group/ in front when shared (topic_share_parse) */
    uint8_t qos;
    uint8_t retain_handling; /* 0, 1, 2; 0 in 3.x */
    bool no_local, retain_as_published;
};

/* Decodes a SUBSCRIBE: strings, filters (shared ones too) and options of every entry. The number of
 * levels is the caller's to limit (topic_levels). */
MUST_CHECK int dec_subscribe(struct slice body, uint8_t version, struct packet_subscribe *ret,
                             uint8_t *ret_reason);

/* Reads the entry at *pos (0 to start) and moves on; false at the end. */
bool subscribe_next(const struct packet_subscribe *packet, uint32_t *pos,
                    struct subscribe_entry *ret_entry);

struct packet_unsubscribe {
    uint16_t packet_id;
    uint32_t count; /* filters, at least 1 */
    struct slice entries;
    struct props props;
};

MUST_CHECK int dec_unsubscribe(struct slice body, uint8_t version, struct packet_unsubscribe *ret,
                               uint8_t *ret_reason);
bool unsubscribe_next(const struct packet_unsubscribe *packet, uint32_t *pos,
                      struct slice *ret_filter);

struct packet_disconnect {
    uint8_t reason; /* REASON_SUCCESS in 3.x */
    struct props props;
};

MUST_CHECK int dec_disconnect(struct slice body, uint8_t version, struct packet_disconnect *ret,
                              uint8_t *ret_reason);

struct packet_auth {
    uint8_t reason;     /* REASON_CONTINUE_AUTH or REASON_REAUTHENTICATE */
    struct props props; /* the method is always there */
};

/* Decodes an AUTH from a client (v5 only). */
MUST_CHECK int dec_auth(struct slice body, struct packet_auth *ret, uint8_t *ret_reason);

/* PINGREQ must have an empty body. */
static inline int packet_ping_check(struct slice body, uint8_t *ret_reason)
{
    if (body.size == 0)
        return 0;
    *ret_reason = REASON_MALFORMED;
    return ERR_MALFORMED;
}
