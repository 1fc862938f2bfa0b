#include "etcd/etcd_priv.h"

#include "base/mem.h"

/* Kept alive so many times within its life, so that two failures in a row cost nothing. */
enum { KEEP_ALIVES = 3, HTTP_OK = 200 };

struct etcd_lease {
    struct etcd *etcd;
    uint32_t ttl_s;
    struct etcd_lease_owner owner;
    uint64_t id;      /* 0: none */
    uint64_t sent_ms; /* the request that is under way */
    uint32_t member;  /* that it went to */
    struct http_call *http;
    struct timer next; /* request */
    struct timer end;  /* from here on it may have ended */
};

static struct timer_set *timers_of(const struct etcd_lease *lease)
{
    return loop_timers(lease->etcd->loop);
}

static uint64_t life_ms(const struct etcd_lease *lease)
{
    return (uint64_t)lease->ttl_s * 1000;
}

static void on_done(void *data, const struct http_answer *answer);

/* Asks for a lease, or for the life of the one there is. */
static void ask(struct etcd_lease *lease)
{
    struct strbuf body;
    strbuf_init(&body, UINT32_MAX);
    if (lease->id == 0)
        strbuf_addf(&body, "{\"TTL\":\"%u\",\"ID\":\"0\"}", lease->ttl_s);
    else
        strbuf_addf(&body, "{\"ID\":\"%llu\"}", (unsigned long long)lease->id);
    lease->sent_ms = timer_set_now_ms(timers_of(lease));
    lease->member = lease->etcd->member;
    const uint32_t patience_ms = (uint32_t)life_ms(lease) / KEEP_ALIVES;
    const struct etcd_post post = {
        .path = lease->id == 0 ? "/v3/lease/grant" : "/v3/lease/keepalive",
        .body = &body,
        .timeout_ms = MIN(patience_ms, lease->etcd->timeout_ms),
        .done = on_done,
        .data = lease,
    };
    const int err = etcd_post(lease->etcd, &post, &lease->http);
    strbuf_done(&body);
    if (err < 0) {
        lease->http = NULL;
        timer_start(timers_of(lease), &lease->next, ETCD_AGAIN_MS);
    }
}

static void on_next(struct timer *timer)
{
    ask(CONTAINER_OF(timer, struct etcd_lease, next));
}

static void lose(struct etcd_lease *lease)
{
    if (lease->http)
        http_call_cancel(lease->http);
    lease->http = NULL;
    lease->id = 0;
    timer_stop(timers_of(lease), &lease->end);
    timer_start(timers_of(lease), &lease->next, 0);
    lease->owner.on_lost(lease->owner.data);
}

static void on_end(struct timer *timer)
{
    struct etcd_lease *lease = CONTAINER_OF(timer, struct etcd_lease, end);
    log_write(lease->etcd->log, LOG_WARN, "etcd",
              "no member has kept the lease of this proxy alive for %u seconds: it counts as ended",
              lease->ttl_s);
    lose(lease);
}

/* Its life began when etcd had the request, which was not before it was sent. */
static void hold(struct etcd_lease *lease, uint64_t id)
{
    const bool is_new = lease->id == 0;
    const uint64_t now_ms = timer_set_now_ms(timers_of(lease));
    const uint64_t end_ms = lease->sent_ms + life_ms(lease);
    lease->id = id;
    timer_start(timers_of(lease), &lease->end, end_ms > now_ms ? end_ms - now_ms : 0);
    timer_start(timers_of(lease), &lease->next, life_ms(lease) / KEEP_ALIVES);
    if (is_new)
        lease->owner.on_held(lease->owner.data, id);
}

static void on_done(void *data, const struct http_answer *answer)
{
    struct etcd_lease *lease = data;
    uint64_t id = 0;
    uint32_t ttl_s = 0;
    const char *why = answer->why ? answer->why : "it refused to keep a lease";
    lease->http = NULL;
    const bool answered = answer->err == 0 && answer->status == HTTP_OK &&
                          etcd_lease_read(answer->body, &id, &ttl_s, &why) == 0;
    if (!answered) {
        etcd_leave_member(lease->etcd, lease->member, why);
        timer_start(timers_of(lease), &lease->next, ETCD_AGAIN_MS);
    } else if (ttl_s == 0) {
        lose(lease);
    } else {
        hold(lease, id);
    }
}

struct etcd_lease *etcd_lease_new(struct etcd *etcd, uint32_t ttl_s,
                                  const struct etcd_lease_owner *owner)
{
    ASSERT(ttl_s > 0);
    struct etcd_lease *lease = mem_new(sizeof *lease);
    lease->etcd = etcd;
    lease->ttl_s = ttl_s;
    lease->owner = *owner;
    lease->next.on_due = on_next;
    lease->end.on_due = on_end;
    ask(lease);
    return lease;
}

static void on_revoked(void *data, const struct http_answer *answer)
{
    (void)data;
    (void)answer; /* when it did not work the lease ends by itself */
}

struct etcd_lease *etcd_lease_free(struct etcd_lease *lease)
{
    if (!lease)
        return NULL;
    if (lease->http)
        http_call_cancel(lease->http);
    timer_stop(timers_of(lease), &lease->next);
    timer_stop(timers_of(lease), &lease->end);
    if (lease->id != 0) {
        struct strbuf body;
        struct http_call *call = NULL;
        strbuf_init(&body, UINT32_MAX);
        strbuf_addf(&body, "{\"ID\":\"%llu\"}", (unsigned long long)lease->id);
        const struct etcd_post post = {
            .path = "/v3/lease/revoke",
            .body = &body,
            .timeout_ms = lease->etcd->timeout_ms,
            .done = on_revoked,
        };
        (void)!etcd_post(lease->etcd, &post, &call);
        strbuf_done(&body);
    }
    mem_free(lease);
    return NULL;
}
