#include "auth/jwks_source.h"

#include "base/mem.h"
#include "io/loop.h"
#include "net/http_client.h"

#include <string.h>

enum {
    TIMEOUT_MS = 10000,
    RETRY_MS = 5000,  /* after a failure */
    HURRY_MS = 10000, /* between fetches that tokens ask for: anybody can make up a key's name */
    ANSWER_MAX = 256 * 1024,
};

struct jwks_source {
    uint32_t refs;
    char *url, *ca_file;
    uint64_t refresh_ms;
    uint32_t allowed;
    struct auth_deps deps;
    struct http_client *http;
    struct http_call *call; /* while it is being fetched */
    struct timer timer;
    uint64_t fetched_ms; /* monotonic: when a fetch began last */
    struct jws_keys *keys;
};

static void wait(struct jwks_source *source, uint64_t delay_ms)
{
    timer_start(loop_timers(source->deps.loop), &source->timer, delay_ms);
}

static int take(struct jwks_source *source, const struct http_answer *answer, struct errmsg *reterr)
{
    struct jws_keys *keys = NULL;
    if (answer->err < 0) {
        errmsg_wrap(reterr, "%s", answer->why);
        return answer->err;
    }
    if (answer->status != 200) {
        errmsg_wrap(reterr, "the server answered with status %u", answer->status);
        return ERR_UNAVAILABLE;
    }
    const int err = jws_keys_set(answer->body, source->allowed, &keys, reterr);
    if (err < 0)
        return err;
    if (!source->keys || source->keys->count != keys->count)
        log_write(source->deps.log, LOG_INFO, "auth", "read %u keys from auth.jwt.jwks",
                  keys->count);
    (void)jws_keys_unref(source->keys);
    source->keys = keys;
    return 0;
}

static void on_answer(void *data, const struct http_answer *answer)
{
    struct jwks_source *source = data;
    struct errmsg why = {0};
    source->call = NULL;
    const int err = take(source, answer, &why);
    if (err < 0)
        log_write(source->deps.log, LOG_WARN, "auth",
                  "could not read keys from auth.jwt.jwks: %s; %s", why.text,
                  source->keys ? "those of before stay" : "tokens are refused until then");
    wait(source, err < 0 ? MIN(source->refresh_ms, (uint64_t)RETRY_MS) : source->refresh_ms);
}

static void fetch(struct jwks_source *source)
{
    const struct http_request request = {
        .url = source->url,
        .connect_timeout_ms = TIMEOUT_MS,
        .read_timeout_ms = TIMEOUT_MS,
        .answer_max = ANSWER_MAX,
        .ca_file = source->ca_file,
    };
    if (source->call)
        return;
    source->fetched_ms = loop_now_ms(source->deps.loop);
    timer_stop(loop_timers(source->deps.loop), &source->timer);
    if (http_client_start(source->http, &request, on_answer, source, &source->call) < 0) {
        source->call = NULL;
        wait(source, RETRY_MS);
    }
}

static void on_due(struct timer *timer)
{
    fetch(CONTAINER_OF(timer, struct jwks_source, timer));
}

struct jwks_source *jwks_source_new(const struct jwks_source_config *config,
                                    const struct auth_deps *deps, struct http_client *http)
{
    struct jwks_source *source = mem_new(sizeof *source);
    source->refs = 1;
    source->url = mem_strdup(config->url);
    source->ca_file = mem_strdup(config->ca_file);
    source->refresh_ms = config->refresh_ms;
    source->allowed = config->allowed;
    source->deps = *deps;
    source->http = http;
    source->timer.on_due = on_due;
    fetch(source);
    return source;
}

struct jwks_source *jwks_source_ref(struct jwks_source *source)
{
    source->refs++;
    return source;
}

struct jwks_source *jwks_source_unref(struct jwks_source *source)
{
    if (source && --source->refs == 0) {
        if (source->call)
            http_call_cancel(source->call);
        timer_stop(loop_timers(source->deps.loop), &source->timer);
        (void)jws_keys_unref(source->keys);
        mem_free(source->url);
        mem_free(source->ca_file);
        mem_free(source);
    }
    return NULL;
}

bool jwks_source_is(const struct jwks_source *source, const struct jwks_source_config *config)
{
    return strcmp(source->url, config->url) == 0 && strcmp(source->ca_file, config->ca_file) == 0 &&
           source->refresh_ms == config->refresh_ms && source->allowed == config->allowed;
}

struct jws_keys *jwks_source_keys(const struct jwks_source *source)
{
    return source->keys;
}

bool jwks_source_hurry(struct jwks_source *source)
{
    if (!source->call && loop_now_ms(source->deps.loop) - source->fetched_ms >= HURRY_MS)
        fetch(source);
    return source->call != NULL;
}
