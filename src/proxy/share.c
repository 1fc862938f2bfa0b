#include "proxy/share.h"

#include <string.h>

enum {
    RUN_SIZE = 16 * 1024,
    MESSAGE_MAX = RUN_SIZE / 4, /* larger payloads are referenced anyhow */
    CONNS_MIN = 8,              /* fewer cost less by themselves */
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

static struct share_run *run_of(struct share *share, const struct share_key *key)
{
    ASSERT(key->qos <= 2);
    return &share->runs[4 * key->qos + 2 * key->retain + (key->version >= 5)];
}

/* Room behind the message before; at its place when that was copied. Returns 0 or ERR_NOMEM. */
static int make_room(struct share_run *run, bool is_copied, uint32_t size)
{
    if (is_copied)
        run->used = 0;
    if (run->buf && RUN_SIZE - run->used >= size)
        return 0;
    struct buf *buf = buf_try_new(RUN_SIZE);
    if (!buf)
        return ERR_NOMEM;
    (void)buf_unref(run->buf);
    run->buf = buf;
    run->used = 0;
    return 0;
}

static int encode(struct share_run *run, const struct enc_publish *publish, struct slice payload,
                  uint32_t size)
{
    run->message = 0;
    const int err = make_room(run, publish->qos > 0, size);
    if (err < 0)
        return err;
    uint8_t *to = buf_bytes(run->buf) + run->used;
    const int head_size = enc_publish_head(publish, to, size);
    ASSERT(head_size > 0);
    ASSERT((uint32_t)head_size + payload.size == size);
    if (payload.size > 0)
        memcpy(to + head_size, payload.bytes, payload.size);
    run->begin = run->used;
    run->size = size;
    run->id_at = publish->qos > 0 ? enc_publish_id_at(publish) : 0;
    run->used += size;
    return 0;
}

const struct share_run *share_find(struct share *share, const struct share_key *key)
{
    const struct share_run *run = run_of(share, key);
    const bool is_it =
        key->message > 0 && run->message == key->message && run->expiry_s == key->expiry_s;
    return is_it ? run : NULL;
}

void share_offer(struct share *share, const struct share_key *key,
                 const struct enc_publish *publish, struct slice payload)
{
    if (key->message == 0)
        return;
    struct share_run *run = run_of(share, key);
    if (run->offered != key->message) {
        run->offered = key->message;
        run->offered_count = 0;
    }
    if (++run->offered_count < CONNS_MIN)
        return;
    const uint64_t size = enc_publish_size(publish);
    if (size > MESSAGE_MAX)
        return;
    if (encode(run, publish, payload, (uint32_t)size) < 0)
        return; /* as before, then */
    run->message = key->message;
    run->expiry_s = key->expiry_s;
}

int share_put(struct share *share, const struct share_run *run, uint16_t packet_id,
              struct outbuf *out)
{
    if (packet_id == 0 && out->size <= BACKLOG_MAX)
        return outbuf_add_part(out, share->pool, run->buf, run->begin, run->size);
    uint8_t *bytes = buf_bytes(run->buf) + run->begin;
    if (packet_id > 0) {
        bytes[run->id_at] = (uint8_t)(packet_id >> 8);
        bytes[run->id_at + 1] = (uint8_t)packet_id;
    }
    return outbuf_add(out, share->pool, bytes, run->size);
}
