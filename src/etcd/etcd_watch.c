/* What comes is a stream of JSON objects, a line each. They are taken out of it at the end of the
 * turn, not while libcurl delivers them, so that the owner may do as it likes. */
#include "etcd/etcd_priv.h"

#include "base/mem.h"

#include <string.h>

struct etcd_watch {
    struct etcd *etcd;
    struct slice key, end; /* owned */
    uint64_t next_revision;
    struct etcd_watcher watcher;
    struct http_call *http; /* NULL between two connections */
    uint32_t member;
    struct strbuf lines; /* what has come */
    struct deferred work;
    struct timer again;
    bool over;    /* after a gap */
    bool working; /* the owner is being told */
    bool freed;   /* meanwhile */
};

static void on_done(void *data, const struct http_answer *answer);
static void on_part(void *data, struct slice bytes);

static void start(struct etcd_watch *watch)
{
    struct strbuf body;
    strbuf_init(&body, UINT32_MAX);
    etcd_watch_write(&body, watch->key, watch->end, watch->next_revision);
    watch->member = watch->etcd->member;
    const struct etcd_post post = {
        .path = "/v3/watch", .body = &body, .on_part = on_part, .done = on_done, .data = watch};
    const int err = etcd_post(watch->etcd, &post, &watch->http);
    strbuf_done(&body);
    if (err < 0) {
        watch->http = NULL;
        timer_start(loop_timers(watch->etcd->loop), &watch->again, ETCD_AGAIN_MS);
    }
}

static void on_again(struct timer *timer)
{
    start(CONTAINER_OF(timer, struct etcd_watch, again));
}

/* Half an object that was on its way when the connection broke comes again. */
static void restart(struct etcd_watch *watch, const char *why)
{
    if (watch->http)
        http_call_cancel(watch->http);
    watch->http = NULL;
    strbuf_done(&watch->lines);
    strbuf_init(&watch->lines, ETCD_ANSWER_MAX);
    etcd_leave_member(watch->etcd, watch->member, why);
    timer_start(loop_timers(watch->etcd->loop), &watch->again, ETCD_AGAIN_MS);
}

static void on_part(void *data, struct slice bytes)
{
    struct etcd_watch *watch = data;
    strbuf_add_bytes(&watch->lines, bytes.bytes, bytes.size);
    loop_defer(watch->etcd->loop, &watch->work);
}

static void on_done(void *data, const struct http_answer *answer)
{
    struct etcd_watch *watch = data;
    watch->http = NULL;
    if (!watch->over)
        restart(watch, answer->err < 0 ? answer->why : "the watch has ended");
}

/* --- telling the owner ------------------------------------------------------------------------ */

static void tell_changes(struct etcd_watch *watch, const struct etcd_changes *changes)
{
    const uint64_t last = changes->all[changes->count - 1].row.changed;
    if (last < watch->next_revision)
        return;
    watch->next_revision = last + 1;
    watch->watcher.on_changes(watch->watcher.data, changes->all, changes->count, last);
}

static void tell_gap(struct etcd_watch *watch)
{
    watch->over = true;
    watch->watcher.on_gap(watch->watcher.data);
}

/* Returns false when the connection is of no use any more. */
static bool take_line(struct etcd_watch *watch, struct slice line)
{
    struct etcd_changes changes;
    const char *why = NULL;
    const int err = etcd_changes_read(line, &changes, &why);
    if (err < 0)
        log_write(watch->etcd->log, LOG_WARN, "etcd", "a watch: %s", why);
    else if (changes.compacted > 0)
        tell_gap(watch);
    else if (changes.count > 0)
        tell_changes(watch, &changes);
    const bool usable = err == 0 && !changes.over;
    etcd_changes_done(&changes);
    return usable;
}

/* Takes the whole lines. Returns false as take_line. */
static bool take_lines(struct etcd_watch *watch, struct slice all, uint32_t *ret_used)
{
    uint32_t used = 0;
    bool usable = true;
    while (usable && used < all.size && !watch->freed && !watch->over) {
        const uint8_t *end = memchr(all.bytes + used, '\n', all.size - used);
        if (!end)
            break;
        const uint32_t size = (uint32_t)(end - (all.bytes + used));
        usable = size == 0 || take_line(watch, slice_of(all.bytes + used, size));
        used += size + 1;
    }
    *ret_used = used;
    return usable;
}

static void watch_end(struct etcd_watch *watch);

static void on_work(struct deferred *work)
{
    struct etcd_watch *watch = CONTAINER_OF(work, struct etcd_watch, work);
    struct strbuf *lines = &watch->lines;
    uint32_t used = 0;
    bool usable = strbuf_err(lines) == 0;
    watch->working = true;
    if (usable)
        usable = take_lines(watch, slice_of(lines->text, lines->size), &used);
    watch->working = false;
    if (watch->freed) {
        watch_end(watch);
        return;
    }
    if (used > 0) {
        memmove(lines->text, lines->text + used, lines->size - used);
        lines->size -= used;
        lines->text[lines->size] = '\0';
    }
    if (watch->over && watch->http) {
        http_call_cancel(watch->http);
        watch->http = NULL;
    } else if (!usable && !watch->over) {
        restart(watch, "the watch has ended");
    }
}

/* --- life ------------------------------------------------------------------------------------- */

static struct slice copy(struct slice bytes)
{
    uint8_t *copied = mem_new((size_t)bytes.size + 1);
    if (bytes.size > 0)
        memcpy(copied, bytes.bytes, bytes.size);
    return slice_of(copied, bytes.size);
}

struct etcd_watch *etcd_watch_new(struct etcd *etcd, struct slice key, struct slice end,
                                  uint64_t from_revision, const struct etcd_watcher *watcher)
{
    struct etcd_watch *watch = mem_new(sizeof *watch);
    watch->etcd = etcd;
    watch->key = copy(key);
    watch->end = copy(end);
    watch->next_revision = from_revision;
    watch->watcher = *watcher;
    watch->work.run = on_work;
    list_init(&watch->work.node);
    watch->again.on_due = on_again;
    strbuf_init(&watch->lines, ETCD_ANSWER_MAX);
    start(watch);
    return watch;
}

void etcd_watch_renew(struct etcd_watch *watch)
{
    if (!watch->over)
        restart(watch, "its changes do not come any more");
}

static void watch_end(struct etcd_watch *watch)
{
    if (watch->http)
        http_call_cancel(watch->http);
    timer_stop(loop_timers(watch->etcd->loop), &watch->again);
    deferred_cancel(&watch->work);
    strbuf_done(&watch->lines);
    mem_free((void *)watch->key.bytes);
    mem_free((void *)watch->end.bytes);
    mem_free(watch);
}

struct etcd_watch *etcd_watch_free(struct etcd_watch *watch)
{
    if (watch && watch->working)
        watch->freed = true;
    else if (watch)
        watch_end(watch);
    return NULL;
}
