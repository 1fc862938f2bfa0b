#include "proxy/share.h"

#include <string.h>

enum {
    RUN_SIZE = 16 * 1024,
    MESSAGE_MAX = RUN_SIZE / 4, /* larger payloads are referenced anyhow */
    CONNS_MIN = 8,              /* fewer cost less by copying */
    BACKLOG_MAX = 4 * RUN_SIZE, /* bytes waiting for a conn that keeps up */
};

void share_init(struct share *share, struct out_pool *pool)
{
    *share = (struct share){.pool = pool};
}

void share_done(struct share *share)
{
    for (size_t i = 0; i < ARRAY_COUNT(share->runs); i++)
        (void)buf_unref(share->runs[i].buf);
    share_init(share, share->pool);
}

/* Encodes the message behind the one before. Returns 0 or ERR_NOMEM. */
static int encode(struct share_run *run, const struct enc_publish *publish, struct slice payload,
                  uint32_t size)
{
    if (!run->buf || RUN_SIZE - run->used < size) {
        struct buf *buf = buf_try_new(RUN_SIZE);
        if (!buf)
            return ERR_NOMEM;
        (void)buf_unref(run->buf);
        run->buf = buf;
        run->used = 0;
    }
    uint8_t *to = buf_bytes(run->buf) + run->used;
    const int head_size = enc_publish_head(publish, to, size);
    ASSERT(head_size > 0);
    ASSERT((uint32_t)head_size + payload.size == size);
    if (payload.size > 0)
        memcpy(to + head_size, payload.bytes, payload.size);
    run->begin = run->used;
    run->size = size;
    run->used += size;
    return 0;
}

/* Nothing in it is of one conn only. */
static bool is_common(const struct enc_publish *publish)
{
    return publish->qos == 0 && publish->topic_alias == 0 && publish->sub_id_count == 0;
}

bool share_add(struct share *share, uint64_t fanout, const struct enc_publish *publish,
               struct slice payload, uint64_t size, struct outbuf *out)
{
    if (fanout == 0 || !is_common(publish) || size > MESSAGE_MAX)
        return false;
    if (share->fanout != fanout) {
        share->fanout = fanout;
        share->count = 0;
    }
    if (++share->count < CONNS_MIN || out->size > BACKLOG_MAX)
        return false;
    struct share_run *run = &share->runs[(publish->version >= 5) + 2 * publish->retain];
    if (run->fanout != fanout && encode(run, publish, payload, (uint32_t)size) < 0)
        return false;
    run->fanout = fanout;
    return outbuf_add_part(out, share->pool, run->buf, run->begin, run->size) == 0;
}
