/* Share: a PUBLISH encoded once for all conns that are to get the same bytes but for the packet ID.
 *
 * At QoS 0 the output buffers refer to it, messages that follow one another in one piece, so that a
 * fan-out to many costs neither a copy nor memory for each. A conn that does not keep up gets a
 * copy: it would keep alive a whole buffer for each message in it that is still to go out. At QoS 1
 * and 2 each conn gets a copy with a packet ID of its own.
 *
 * Thread: owner loop.
 */
#pragma once

#include "mqtt/encode.h"
#include "proxy/outbuf.h"

/* What conns must agree in. */
struct share_key {
    uint64_t
        message; /* names it among those of its QoS: a fan-out, a position in the log; 0: none */
    uint32_t expiry_s;
    uint8_t version, qos;
    bool retain;
};

/* One sequence of encoded messages, for conns of one kind. */
struct share_run {
    struct buf *buf; /* NULL: none yet */
    uint32_t used;
    uint32_t begin, size; /* the message encoded last, in buf */
    uint32_t id_at;       /* where in the message the packet ID is, with QoS 1 and 2 */
    uint64_t message;     /* its key's; 0: none */
    uint32_t expiry_s;
    uint64_t offered; /* the message offered last, and how many times it was */
    uint32_t offered_count;
};

struct share {
    struct out_pool *pool;     /* of the output buffers; borrowed */
    struct share_run runs[12]; /* by QoS, RETAIN, and whether it is MQTT 5 */
};

void share_init(struct share *share, struct out_pool *pool);
void share_done(struct share *share);
/* Returns the message as it was encoded before, until the next call; or NULL. */
const struct share_run *share_find(struct share *share, const struct share_key *key);
/* Tells that a conn was sent the message by itself, so that it is encoded for others when more and
 * more ask for it and it is small. publish: nothing in it is of that conn only but the packet ID.
 */
void share_offer(struct share *share, const struct share_key *key,
                 const struct enc_publish *publish, struct slice payload);
/* Appends a message found. packet_id: 0 with QoS 0. Returns 0 or ERR_NOMEM, when a part may be in
 * `out`. */
MUST_CHECK int share_put(struct share *share, const struct share_run *run, uint16_t packet_id,
                         struct outbuf *out);
