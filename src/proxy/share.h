/* Share: a PUBLISH at QoS 0 encoded once for all conns that are to get the very same bytes.
 *
 * The output buffers refer to it, messages that follow one another in one piece, so that a fan-out
 * to many costs neither a copy nor memory for each. A conn that does not keep up gets copies of its
 * own: it would keep alive a whole buffer for each message in it that is still to go out.
 *
 * Thread: owner loop.
 */
#pragma once

#include "mqtt/encode.h"
#include "proxy/outbuf.h"

/* One sequence of encoded messages: for MQTT 5 or before, with RETAIN or without. */
struct share_run {
    struct buf *buf; /* NULL: none yet */
    uint32_t used;
    uint32_t begin, size; /* the message encoded last, in buf */
    uint64_t fanout;      /* the fan-out it was encoded for */
};

struct share {
    struct out_pool *pool; /* of the output buffers; borrowed */
    uint64_t fanout;       /* the latest */
    uint32_t count;        /* conns that had part in it */
    struct share_run runs[4];
};

void share_init(struct share *share, struct out_pool *pool);
void share_done(struct share *share);
/* Appends the message, of `size` bytes with its payload, by reference. fanout: the same number for
 * the same message (struct delivery).
 * Returns false when it is to be encoded for this conn alone: it is not to many conns, it is large,
 * has something of this conn's in it, the conn does not keep up, or memory is short. */
MUST_CHECK bool share_add(struct share *share, uint64_t fanout, const struct enc_publish *publish,
                          struct slice payload, uint64_t size, struct outbuf *out);
