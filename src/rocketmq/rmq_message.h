/* Messages as a Broker stores them, and as they come in the body of an answer: one behind the
 * other.
 *
 * A message that was read through an LMQ says where it lies in its parent topic; where it lies in
 * the LMQ is in its properties (rmq_message_lmq_offset).
 *
 * Spec: [RMQ MessageDecoder.java] [RMQ MessageSysFlag.java]. Thread: any.
 */
#pragma once

#include "rocketmq/rmq_properties.h"

#define RMQ_MESSAGE_BODY_MAX (4u << 20) /* as Brokers take it by default */
#define RMQ_MESSAGE_ID_SIZE  32u        /* of one that came over IPv4, in hexadecimal digits */
#define RMQ_MESSAGE_ID6_SIZE 56u

enum rmq_compression { RMQ_PLAIN, RMQ_ZLIB, RMQ_LZ4, RMQ_ZSTD, RMQ_COMPRESSION_UNKNOWN };

struct rmq_host {
    uint8_t address[16];
    uint8_t address_size; /* 4 or 16 */
    uint32_t port;
};

/* Slices lie in what was decoded, and name its buf. */
struct rmq_message {
    uint32_t size; /* of the whole */
    bool is_v2;    /* the size of its topic has two bytes */
    uint32_t body_crc;
    uint32_t queue_id;
    int32_t flag; /* the sender's own */
    uint64_t queue_offset;
    uint64_t position; /* in the Broker's commit log */
    uint32_t sys_flag;
    int64_t born_ms, store_ms; /* since 1970 */
    struct rmq_host born_host, store_host;
    int32_t reconsume_times;
    int64_t prepared_offset; /* of a transaction */
    struct slice body, topic, properties;
};

/* Decodes the message at the start of `bytes`.
 * Returns 0; ERR_MALFORMED: it is cut, or says what cannot be, *ret_why (constant text) tells. */
MUST_CHECK int rmq_message_decode(struct slice bytes, struct rmq_message *ret_message,
                                  const char **ret_why);
/* Takes the next message off `rest`. Returns 0; ERR_NOTFOUND: there is none; ERR_MALFORMED. */
MUST_CHECK int rmq_message_next(struct slice *rest, struct rmq_message *ret_message,
                                const char **ret_why);

/* Whether the body is what the Broker got; costs about 4 ns a byte. */
bool rmq_message_is_sound(const struct rmq_message *message);
enum rmq_compression rmq_message_compression(const struct rmq_message *message);
/* The body as its sender meant it: a copy where it is compressed, else a reference to, or a copy
 * of, the body as it is. Of what clients may compress with, only zlib, their default, is
 * understood. *ret_body: slice_done it. Returns 0; ERR_INVALID: compressed by other means;
 * ERR_MALFORMED: it cannot be decompressed; ERR_FULL: it would be larger than size_max; ERR_NOMEM.
 */
MUST_CHECK int rmq_message_body(const struct rmq_message *message, uint32_t size_max,
                                struct slice *ret_body);

/* Its place in an LMQ, named with its prefix. Returns 0; ERR_NOTFOUND: it was not sent there;
 * ERR_MALFORMED: the offsets that the Broker noted do not match the names. */
MUST_CHECK int rmq_message_lmq_offset(const struct rmq_message *message, struct slice lmq,
                                      uint64_t *ret_offset);
/* Writes the ID under which this Broker gives it out again. */
void rmq_message_id(const struct rmq_message *message, char ret_id[RMQ_MESSAGE_ID6_SIZE + 1]);
/* Takes an ID apart. Returns 0 or ERR_INVALID. */
MUST_CHECK int rmq_message_parse_id(const char *id, struct rmq_host *ret_host,
                                    uint64_t *ret_position);
