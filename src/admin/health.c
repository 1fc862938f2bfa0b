#include "admin/pages.h"
#include "broker/inspect.h"

#include <inttypes.h>

#define METRICS_MAX (1024u * 1024)

void pages_health(struct request *request, const char *rest)
{
    (void)rest;
    request_reply_text(request, MHD_HTTP_OK, "ok\n");
}

void pages_ready(struct request *request, const char *rest)
{
    (void)rest;
    struct store_stats stats;
    inspect_store(request->admin->deps.broker, &stats);
    struct strbuf out;
    strbuf_init(&out, 1024);
    const bool ready = !request->admin->draining && stats.writable;
    if (request->admin->draining) {
        strbuf_add(&out, "draining\n");
    } else if (!stats.writable) {
        strbuf_addf(&out, "the store takes no writes: %s\n", stats.reason);
    } else {
        strbuf_add(&out, "ready\n");
    }
    request_reply_strbuf(request, ready ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE,
                         "text/plain; charset=utf-8", &out);
}

static void add_metric(void *data, const char *name, const char *help, bool counter, int64_t value)
{
    struct strbuf *out = data;
    strbuf_addf(out, "# TYPE %s %s\n", name, counter ? "counter" : "gauge");
    strbuf_addf(out, "# HELP %s %s\n", name, help);
    strbuf_addf(out, "%s%s %" PRId64 "\n", name, counter ? "_total" : "", value);
}

void pages_metrics(struct request *request, const char *rest)
{
    (void)rest;
    const struct admin_deps *deps = &request->admin->deps;
    struct strbuf out;
    strbuf_init(&out, METRICS_MAX);
    strbuf_add(&out, "# TYPE tidemq_build info\n# HELP tidemq_build the version that runs\n"
                     "tidemq_build_info{version=\"" TIDEMQ_VERSION "\"} 1\n"
                     "# TYPE tidemq_uptime_seconds gauge\n# UNIT tidemq_uptime_seconds seconds\n"
                     "# HELP tidemq_uptime_seconds time since the server started\n");
    const uint64_t uptime_ms = inspect_uptime_ms(deps->broker);
    strbuf_addf(&out, "tidemq_uptime_seconds %" PRIu64 ".%03u\n", uptime_ms / 1000,
                (unsigned)(uptime_ms % 1000));
    metrics_each(deps->metrics, add_metric, &out);
    strbuf_add(&out, "# EOF\n");
    request_reply_strbuf(request, MHD_HTTP_OK,
                         "application/openmetrics-text; version=1.0.0; charset=utf-8", &out);
}
