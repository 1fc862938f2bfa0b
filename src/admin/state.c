/* The /v1 pages. All JSON is built before control returns to the loop: what broker/inspect.h hands
 * out does not live longer. */
#include "admin/client_json.h"
#include "admin/pages.h"
#include "auth/devices.h"
#include "auth/registry.h"
#include "broker/inspect.h"
#include "proxy/proxy.h"
#include "proxy/proxy_tls.h"

#include <string.h>

#define PAGE_MAX 1000

/* The arguments of a list. Returns false when the request has been refused. */
static bool read_page(struct request *request, struct slice *ret_after, size_t *ret_limit)
{
    struct slice limit;
    *ret_after = slice_of("", 0);
    *ret_limit = PAGE_MAX;
    (void)request_argument(request, "after", ret_after);
    if (!request_argument(request, "limit", &limit)) {
        return true;
    }
    size_t value = 0;
    for (uint32_t i = 0; i < limit.size; i++) {
        const uint8_t c = limit.bytes[i];
        value = c >= '0' && c <= '9' && value <= PAGE_MAX ? value * 10 + (size_t)(c - '0')
                                                          : PAGE_MAX + 1;
    }
    if (value < 1 || value > PAGE_MAX) {
        request_reply_problem(request, MHD_HTTP_BAD_REQUEST, "limit is a number from 1 to %d",
                              PAGE_MAX);
        return false;
    }
    *ret_limit = value;
    return true;
}

/* A page under way: the rows, and the name of the last one. */
struct page {
    json_t *rows;
    json_t *last;
};

static void page_add(struct page *page, json_t *row, struct slice name)
{
    (void)json_array_append_new(page->rows, row);
    json_decref(page->last);
    page->last = request_json_text(name);
}

static void reply_page(struct request *request, const char *what, struct page *page, bool full)
{
    json_t *answer = json_object();
    (void)json_object_set_new(answer, what, page->rows);
    (void)json_object_set_new(answer, "next", full && page->last ? page->last : json_null());
    if (!full) {
        json_decref(page->last);
    }
    request_reply_json(request, MHD_HTTP_OK, answer);
}

static json_t *topic_json(const struct topic_info *info)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "name", request_json_text(info->name));
    (void)json_object_set_new(row, "remark", request_json_text(info->remark));
    (void)json_object_set_new(row, "created_ms", json_integer((json_int_t)info->created_ms));
    (void)json_object_set_new(row, "messages", json_integer((json_int_t)info->messages));
    (void)json_object_set_new(row, "retained", json_integer((json_int_t)info->retained));
    (void)json_object_set_new(row, "subscriptions", json_integer((json_int_t)info->subscriptions));
    return row;
}

static void add_topic(void *data, const struct topic_info *info)
{
    page_add(data, topic_json(info), info->name);
}

void pages_topics(struct request *request, const char *rest)
{
    (void)rest;
    struct slice after;
    size_t limit;
    if (!read_page(request, &after, &limit)) {
        return;
    }
    struct page page = {.rows = json_array()};
    const size_t count =
        inspect_topics(request->admin->deps.broker, after, limit, add_topic, &page);
    reply_page(request, "topics", &page, count == limit);
}

void pages_topic(struct request *request, const char *rest)
{
    struct topic_info info;
    if (inspect_topic(request->admin->deps.broker, slice_str(rest), &info) < 0) {
        request_reply_problem(request, MHD_HTTP_NOT_FOUND, "there is no topic of this name");
        return;
    }
    request_reply_json(request, MHD_HTTP_OK, topic_json(&info));
}

static void add_client(void *data, const struct client_info *info)
{
    page_add(data, client_json(info), info->client_id);
}

void pages_clients(struct request *request, const char *rest)
{
    (void)rest;
    struct slice after, state = slice_of("", 0);
    size_t limit;
    if (!read_page(request, &after, &limit)) {
        return;
    }
    (void)request_argument(request, "state", &state);
    enum client_filter filter = CLIENT_ANY;
    if (slice_equal(state, slice_str("online"))) {
        filter = CLIENT_ONLINE;
    } else if (slice_equal(state, slice_str("offline"))) {
        filter = CLIENT_OFFLINE;
    } else if (state.size > 0) {
        request_reply_problem(request, MHD_HTTP_BAD_REQUEST, "state is online or offline");
        return;
    }
    struct page page = {.rows = json_array()};
    const size_t count =
        inspect_clients(request->admin->deps.broker, after, limit, filter, add_client, &page);
    reply_page(request, "clients", &page, count == limit);
}

static void add_subscription(void *data, const struct subscription_info *info)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "filter", request_json_text(info->filter));
    (void)json_object_set_new(row, "qos", json_integer(info->qos));
    (void)json_object_set_new(row, "lag", json_integer((json_int_t)info->lag));
    (void)json_object_set_new(row, "inflight", json_integer(info->inflight));
    (void)json_array_append_new(data, row);
}

void pages_client(struct request *request, const char *rest)
{
    struct client_info info;
    json_t *subscriptions = json_array();
    if (inspect_client(request->admin->deps.broker, slice_str(rest), &info, add_subscription,
                       subscriptions) < 0) {
        json_decref(subscriptions);
        request_reply_problem(request, MHD_HTTP_NOT_FOUND, "there is no client of this ID");
        return;
    }
    json_t *row = client_json(&info);
    (void)json_object_set_new(row, "subscriptions", subscriptions);
    request_reply_json(request, MHD_HTTP_OK, row);
}

static void add_listener(void *data, const char *url, const char *bound)
{
    (void)url;
    (void)json_array_append_new(data, json_string(bound));
}

static json_t *device_json(const struct device *device)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "id", request_json_text(device->record.name));
    (void)json_object_set_new(row, "enabled", json_boolean(device->enabled));
    (void)json_object_set_new(row, "created_ms", json_integer((json_int_t)device->created_ms));
    (void)json_object_set_new(row, "changed_ms", json_integer((json_int_t)device->changed_ms));
    return row;
}

void pages_devices(struct request *request, const char *rest)
{
    (void)rest;
    struct slice after;
    size_t limit, count = 0;
    if (!read_page(request, &after, &limit)) {
        return;
    }
    struct page page = {.rows = json_array()};
    const struct devices *devices = request->admin->deps.devices;
    for (const struct device *it = devices_above(devices, after); it && count < limit;
         it = devices_above(devices, it->record.name), count++) {
        page_add(&page, device_json(it), it->record.name);
    }
    reply_page(request, "devices", &page, count == limit);
}

void pages_device(struct request *request, const char *rest)
{
    const struct device *device = devices_find(request->admin->deps.devices, slice_str(rest));
    if (!device) {
        request_reply_problem(request, MHD_HTTP_NOT_FOUND, "there is no device of this ID");
        return;
    }
    request_reply_json(request, MHD_HTTP_OK, device_json(device));
}

static json_t *ca_json(const struct registry_ca *ca)
{
    const struct certificate *certificate = ca->certificate;
    json_t *row = json_object();
    (void)json_object_set_new(row, "sn", request_json_text(ca->record.name));
    (void)json_object_set_new(row, "subject", json_string(certificate->subject_text));
    (void)json_object_set_new(row, "state", json_string(registry_state_text(ca->state)));
    (void)json_object_set_new(row, "devices", json_integer((json_int_t)ca->device_count));
    (void)json_object_set_new(row, "not_after_s", json_integer(certificate->not_after_s));
    return row;
}

void pages_cas(struct request *request, const char *rest)
{
    (void)rest;
    struct page page = {.rows = json_array()};
    const struct registry *registry = request->admin->deps.registry;
    for (const struct registry_ca *it = registry_ca_above(registry, slice_of("", 0)); it;
         it = registry_ca_above(registry, it->record.name)) {
        page_add(&page, ca_json(it), it->record.name);
    }
    reply_page(request, "cas", &page, false);
}

static json_t *device_certificate_json(const struct registry_certificate *it)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "sn", request_json_text(it->record.name));
    (void)json_object_set_new(row, "common_name", request_json_text(it->common_name));
    (void)json_object_set_new(row, "client_id", request_json_text(it->client_id));
    (void)json_object_set_new(row, "state", json_string(registry_state_text(it->state)));
    (void)json_object_set_new(row, "source", json_string(it->came_by_itself ? "JITP" : "API"));
    (void)json_object_set_new(row, "ca_sn", request_json_text(it->ca_sn));
    (void)json_object_set_new(row, "not_after_s", json_integer(it->not_after_s));
    return row;
}

void pages_device_certificates(struct request *request, const char *rest)
{
    (void)rest;
    struct slice after;
    size_t limit, count = 0;
    if (!read_page(request, &after, &limit)) {
        return;
    }
    struct page page = {.rows = json_array()};
    const struct registry *registry = request->admin->deps.registry;
    for (const struct registry_certificate *it = registry_above(registry, after);
         it && count < limit; it = registry_above(registry, it->record.name), count++) {
        page_add(&page, device_certificate_json(it), it->record.name);
    }
    reply_page(request, "device-certificates", &page, count == limit);
}

static json_t *store_json(struct admin *admin)
{
    struct store_stats stats;
    inspect_store(admin->deps.broker, &stats);
    json_t *row = json_object();
    (void)json_object_set_new(row, "engine", json_string(admin->config.store_name));
    (void)json_object_set_new(row, "writable", json_boolean(stats.writable));
    (void)json_object_set_new(row, "reason", json_string(stats.reason));
    (void)json_object_set_new(row, "log_bytes", json_integer((json_int_t)stats.log_bytes));
    (void)json_object_set_new(row, "disk_bytes", json_integer((json_int_t)stats.disk_bytes));
    (void)json_object_set_new(row, "first_position",
                              json_integer((json_int_t)stats.first_position));
    (void)json_object_set_new(row, "head_position", json_integer((json_int_t)stats.head_position));
    (void)json_object_set_new(row, "applied_position",
                              json_integer((json_int_t)stats.applied_position));
    (void)json_object_set_new(row, "segments", json_integer(stats.segment_count));
    (void)json_object_set_new(row, "index_files", json_integer(stats.index_file_count));
    return row;
}

static void add_limit(void *data, const struct limit_info *info)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "name", json_string(info->name));
    (void)json_object_set_new(
        row, "limit", info->limit > 0 ? json_integer((json_int_t)info->limit) : json_null());
    (void)json_object_set_new(row, "used", info->used < 0 ? json_null() : json_integer(info->used));
    (void)json_object_set_new(row, "refused", json_integer(info->refused));
    (void)json_array_append_new(data, row);
}

static json_t *limits_json(const struct admin *admin)
{
    const struct limit_info connections = {
        .name = "limits.max_connections",
        .limit = admin->config.connections_max,
        .used = proxy_connections(admin->deps.proxy),
        .refused = metric_get(&admin->deps.metrics->connections_refused),
    };
    json_t *rows = json_array();
    add_limit(rows, &connections);
    inspect_limits(admin->deps.broker, add_limit, rows);
    return rows;
}

void pages_limits(struct request *request, const char *rest)
{
    (void)rest;
    json_t *answer = json_object();
    (void)json_object_set_new(answer, "limits", limits_json(request->admin));
    request_reply_json(request, MHD_HTTP_OK, answer);
}

void pages_store(struct request *request, const char *rest)
{
    (void)rest;
    request_reply_json(request, MHD_HTTP_OK, store_json(request->admin));
}

static void add_number(void *data, const char *name, const char *help, bool counter, int64_t value)
{
    (void)help;
    (void)counter;
    (void)json_object_set_new(data, name + strlen("tidemq_"), json_integer(value));
}

static void add_certificate(void *data, const struct proxy_certificate *certificate)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "listener", json_string(certificate->listener));
    (void)json_object_set_new(row, "use", json_string(certificate->use));
    (void)json_object_set_new(row, "file", request_json_text(slice_str(certificate->file)));
    (void)json_object_set_new(row, "subject", request_json_text(slice_str(certificate->subject)));
    (void)json_object_set_new(row, "names", request_json_text(slice_str(certificate->names)));
    (void)json_object_set_new(row, "not_before_s", json_integer(certificate->not_before_s));
    (void)json_object_set_new(row, "not_after_s", json_integer(certificate->not_after_s));
    (void)json_array_append_new(data, row);
}

void pages_certificates(struct request *request, const char *rest)
{
    (void)rest;
    json_t *rows = json_array();
    json_t *answer = json_object();
    proxy_tls_certificates(request->admin->deps.proxy, add_certificate, rows);
    (void)json_object_set_new(answer, "certificates", rows);
    (void)json_object_set_new(answer, "next", json_null());
    request_reply_json(request, MHD_HTTP_OK, answer);
}

void pages_status(struct request *request, const char *rest)
{
    (void)rest;
    struct admin *admin = request->admin;
    json_t *listeners = json_array();
    json_t *numbers = json_object();
    proxy_listeners(admin->deps.proxy, add_listener, listeners);
    metrics_each(admin->deps.metrics, add_number, numbers);
    json_t *row = json_object();
    (void)json_object_set_new(row, "version", json_string(TIDEMQ_VERSION));
    (void)json_object_set_new(row, "instance_id", json_string(admin->config.instance_id));
    (void)json_object_set_new(row, "state", json_string(admin->draining ? "draining" : "running"));
    (void)json_object_set_new(row, "uptime_ms",
                              json_integer((json_int_t)inspect_uptime_ms(admin->deps.broker)));
    (void)json_object_set_new(row, "data_dir", json_string(admin->config.data_dir));
    (void)json_object_set_new(row, "listeners", listeners);
    (void)json_object_set_new(row, "topics",
                              json_integer((json_int_t)inspect_topic_count(admin->deps.broker)));
    (void)json_object_set_new(row, "store", store_json(admin));
    (void)json_object_set_new(row, "limits", limits_json(admin));
    (void)json_object_set_new(row, "metrics", numbers);
    request_reply_json(request, MHD_HTTP_OK, row);
}
