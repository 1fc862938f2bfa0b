/* CAs and devices' certificates of the registry. Times are in milliseconds, as in the API. */
#include "admin/certificate_json.h"
#include "admin/params.h"
#include "base/mem.h"

#include <stdlib.h>

#define LIST_LIMIT_MAX 100

/* The error of the API for an outcome. */
static const char *code_of(enum registry_outcome outcome)
{
    static const char *const codes[] = {
        [REGISTRY_BAD_VALUE] = "InvalidParameterValue",
        [REGISTRY_NO_CODE] = "FailedOperation.InstanceRegistrationCodeEmpty",
        [REGISTRY_WRONG_CODE] = "FailedOperation.RegistrationCodeVerifyFailed",
        [REGISTRY_WRONG_SIGNATURE] = "FailedOperation.PublicKeyVerifyFailed",
        [REGISTRY_UNVERIFIED] = "FailedOperation.CertificateVerificationFailed",
        [REGISTRY_EXISTS] = "UnsupportedOperation.ResourceAlreadyExists",
        [REGISTRY_NO_CA] = "ResourceNotFound.Ca",
        [REGISTRY_NO_CERTIFICATE] = "ResourceNotFound.Certificate",
        [REGISTRY_IN_USE] = "FailedOperation.RelatedDeviceCertificateExists",
        [REGISTRY_IS_REVOKED] = "OperationDenied",
        [REGISTRY_BUSY] = "ResourceInUse",
        [REGISTRY_FULL] = "LimitExceeded",
        [REGISTRY_FAILED] = "ResourceUnavailable",
    };
    ASSERT(outcome != REGISTRY_DONE && outcome < ARRAY_COUNT(codes));
    return codes[outcome];
}

/* Answers with `response`, taken, or the error. */
static void end(struct request *request, const struct registry_result *result, json_t *response)
{
    if (!request->connection) {
        json_decref(response);
    } else if (result->outcome == REGISTRY_DONE) {
        actions_reply(request, response);
    } else {
        json_decref(response);
        actions_fail(request, code_of(result->outcome), "%s", result->detail);
    }
    request_done_waiting(request);
}

static void on_changed(void *data, const struct registry_result *result)
{
    end(data, result, NULL);
}

static json_t *instance_json(const struct request *request)
{
    return json_pack("{s:s}", "InstanceId", request->admin->config.instance_id);
}

static struct registry *registry_of(const struct request *request)
{
    return request->admin->deps.registry;
}

/* --- parameters ------------------------------------------------------------------------------- */

/* PEM is the only format. */
static bool check_format(struct request *request, const json_t *params)
{
    struct slice format;
    if (!params_optional_text(request, params, "Format", UINT8_MAX, &format)) {
        return false;
    }
    if (format.bytes && !slice_equal(format, slice_str("PEM"))) {
        actions_fail(request, "InvalidParameterValue", "Format must be PEM");
        return false;
    }
    return true;
}

static bool read_state(struct request *request, const json_t *params,
                       enum registry_state *ret_state)
{
    struct slice text;
    if (!params_optional_text(request, params, "Status", UINT8_MAX, &text)) {
        return false;
    }
    *ret_state = REGISTRY_ACTIVE;
    if (slice_equal(text, slice_str("INACTIVE"))) {
        *ret_state = REGISTRY_INACTIVE;
    } else if (text.bytes && !slice_equal(text, slice_str("ACTIVE"))) {
        actions_fail(request, "InvalidParameterValue", "Status must be ACTIVE or INACTIVE");
        return false;
    }
    return true;
}

static bool read_sn(struct request *request, const json_t *params, const char *name,
                    struct serial *ret_sn)
{
    struct slice text;
    if (!params_text(request, params, name, /* empty_allowed= */ false, &text)) {
        return false;
    }
    serial_read(text, ret_sn);
    return true;
}

/* --- CAs -------------------------------------------------------------------------------------- */

static void on_code(void *data, const struct registry_result *result)
{
    const struct request *request = data;
    json_t *response = instance_json(request);
    (void)json_object_set_new(response, "RegistrationCode",
                              request_json_text(registry_code(registry_of(request))));
    end(data, result, response);
}

void ca_action_apply_code(struct request *request, const json_t *params)
{
    (void)params;
    request_wait(request, NULL, NULL);
    registry_make_code(registry_of(request), on_code, request);
}

static void on_ca_added(void *data, const struct registry_result *result)
{
    json_t *response = instance_json(data);
    (void)json_object_set_new(response, "CaSn", request_json_text(result->sn));
    end(data, result, response);
}

void ca_action_register(struct request *request, const json_t *params)
{
    struct slice pem, verification;
    enum registry_state state;
    if (params_text(request, params, "CaCertificate", /* empty_allowed= */ false, &pem) &&
        params_text(request, params, "VerificationCertificate", /* empty_allowed= */ false,
                    &verification) &&
        check_format(request, params) && read_state(request, params, &state)) {
        request_wait(request, NULL, NULL);
        registry_add_ca(registry_of(request), pem, verification, state, on_ca_added, request);
    }
}

static void set_ca(struct request *request, const json_t *params, enum registry_state state)
{
    struct serial sn;
    if (read_sn(request, params, "CaSn", &sn)) {
        request_wait(request, NULL, NULL);
        registry_set_ca(registry_of(request), serial_slice(&sn), state, on_changed, request);
    }
}

void ca_action_activate(struct request *request, const json_t *params)
{
    set_ca(request, params, REGISTRY_ACTIVE);
}

void ca_action_deactivate(struct request *request, const json_t *params)
{
    set_ca(request, params, REGISTRY_INACTIVE);
}

void ca_action_delete(struct request *request, const json_t *params)
{
    struct serial sn;
    if (read_sn(request, params, "CaSn", &sn)) {
        request_wait(request, NULL, NULL);
        registry_remove_ca(registry_of(request), serial_slice(&sn), on_changed, request);
    }
}

void ca_action_describe(struct request *request, const json_t *params)
{
    struct serial sn;
    if (!read_sn(request, params, "CaSn", &sn)) {
        return;
    }
    const struct registry_ca *ca = registry_find_ca(registry_of(request), serial_slice(&sn));
    if (!ca) {
        actions_fail(request, code_of(REGISTRY_NO_CA), "no CA of this serial number is registered");
        return;
    }
    actions_reply(request, registry_ca_json(ca));
}

void ca_action_list(struct request *request, const json_t *params)
{
    (void)params;
    json_t *rows = json_array();
    const struct registry *registry = registry_of(request);
    const struct registry_ca *it = registry_ca_above(registry, slice_of("", 0));
    for (; it; it = registry_ca_above(registry, it->record.name)) {
        (void)json_array_append_new(rows, registry_ca_json(it));
    }
    actions_reply(request, json_pack("{s:o}", "Data", rows));
}

/* --- certificates of devices ------------------------------------------------------------------ */

static void on_added(void *data, const struct registry_result *result)
{
    const struct request *request = data;
    json_t *response = instance_json(request);
    const struct registry_certificate *added = registry_find(registry_of(request), result->sn);
    if (added) {
        (void)json_object_set_new(response, "CaSn", request_json_text(added->ca_sn));
    }
    (void)json_object_set_new(response, "DeviceCertificateSn", request_json_text(result->sn));
    end(data, result, response);
}

void certificate_action_register(struct request *request, const json_t *params)
{
    struct registry_wish wish;
    struct serial ca_sn;
    if (params_text(request, params, "DeviceCertificate", /* empty_allowed= */ false, &wish.pem) &&
        read_sn(request, params, "CaSn", &ca_sn) &&
        params_optional_text(request, params, "ClientId", RECORD_NAME_MAX, &wish.client_id) &&
        check_format(request, params) && read_state(request, params, &wish.state)) {
        wish.ca_sn = serial_slice(&ca_sn);
        request_wait(request, NULL, NULL);
        registry_add(registry_of(request), &wish, on_added, request);
    }
}

static void set(struct request *request, const json_t *params, enum registry_state state)
{
    struct serial sn;
    if (read_sn(request, params, "DeviceCertificateSn", &sn)) {
        request_wait(request, NULL, NULL);
        registry_set(registry_of(request), serial_slice(&sn), state, on_changed, request);
    }
}

void certificate_action_activate(struct request *request, const json_t *params)
{
    set(request, params, REGISTRY_ACTIVE);
}

void certificate_action_deactivate(struct request *request, const json_t *params)
{
    set(request, params, REGISTRY_INACTIVE);
}

void certificate_action_revoke(struct request *request, const json_t *params)
{
    set(request, params, REGISTRY_REVOKED);
}

void certificate_action_delete(struct request *request, const json_t *params)
{
    struct serial sn;
    if (read_sn(request, params, "DeviceCertificateSn", &sn)) {
        request_wait(request, NULL, NULL);
        registry_remove(registry_of(request), serial_slice(&sn), on_changed, request);
    }
}

void certificate_action_describe(struct request *request, const json_t *params)
{
    struct serial sn;
    if (!read_sn(request, params, "DeviceCertificateSn", &sn)) {
        return;
    }
    const struct registry_certificate *it = registry_find(registry_of(request), serial_slice(&sn));
    if (!it) {
        actions_fail(request, code_of(REGISTRY_NO_CERTIFICATE),
                     "no certificate of this serial number is registered");
        return;
    }
    actions_reply(request, registry_certificate_json(it));
}

/* --- the list of them ------------------------------------------------------------------------- */

enum {
    FILTER_CLIENT_ID,
    FILTER_CA_SN,
    FILTER_SN,
    FILTER_CN,
    FILTER_UNIT,
    FILTER_STATUS,
    FILTER_NOT_AFTER_START,
    FILTER_NOT_AFTER_END,
    FILTER_COUNT,
};
static const char *const filter_names[] = {
    [FILTER_CLIENT_ID] = "ClientId",
    [FILTER_CA_SN] = "CaSn",
    [FILTER_SN] = "DeviceCertificateSn",
    [FILTER_CN] = "DeviceCertificateCn",
    [FILTER_UNIT] = "OrganizationalUnit",
    [FILTER_STATUS] = "Status",
    [FILTER_NOT_AFTER_START] = "NotAfterStart",
    [FILTER_NOT_AFTER_END] = "NotAfterEnd",
    [FILTER_COUNT] = NULL,
};

/* What is asked for, and what was found. */
struct query {
    const json_t *filters[FILTER_COUNT]; /* values, or NULL */
    bool is_filtered;
    struct slice order; /* empty: by serial number */
    int64_t offset, limit;
    const struct registry_certificate **found; /* owned */
    size_t count;
};

static bool has_value(const json_t *values, struct slice text)
{
    for (size_t i = 0; i < json_array_size(values); i++) {
        if (slice_equal(slice_str(json_string_value(json_array_get(values, i))), text)) {
            return true;
        }
    }
    return !values;
}

static bool has_serial(const json_t *values, struct slice sn)
{
    for (size_t i = 0; i < json_array_size(values); i++) {
        struct serial value;
        serial_read(slice_str(json_string_value(json_array_get(values, i))), &value);
        if (slice_equal(serial_slice(&value), sn)) {
            return true;
        }
    }
    return !values;
}

/* Milliseconds; `fallback` without the filter. */
static int64_t bound_of(const json_t *values, int64_t fallback)
{
    const char *text = json_string_value(json_array_get(values, 0));
    return text ? strtoll(text, NULL, 10) : fallback;
}

static bool fits(const struct query *query, const struct registry_certificate *it)
{
    const int64_t end_ms = it->not_after_s * 1000;
    return has_value(query->filters[FILTER_CLIENT_ID], it->client_id) &&
           has_serial(query->filters[FILTER_CA_SN], it->ca_sn) &&
           has_serial(query->filters[FILTER_SN], it->record.name) &&
           has_value(query->filters[FILTER_CN], it->common_name) &&
           has_value(query->filters[FILTER_UNIT], it->unit) &&
           has_value(query->filters[FILTER_STATUS], slice_str(registry_state_text(it->state))) &&
           end_ms >= bound_of(query->filters[FILTER_NOT_AFTER_START], INT64_MIN) &&
           end_ms <= bound_of(query->filters[FILTER_NOT_AFTER_END], INT64_MAX);
}

static int by_creation(const void *a, const void *b)
{
    const struct registry_certificate *const *x = a, *const *y = b;
    const uint64_t p = (*x)->times.created_ms, q = (*y)->times.created_ms;
    return (p > q) - (p < q);
}

static int by_change(const void *a, const void *b)
{
    const struct registry_certificate *const *x = a, *const *y = b;
    const uint64_t p = (*x)->times.changed_ms, q = (*y)->times.changed_ms;
    return (p > q) - (p < q);
}

static int by_creation_descending(const void *a, const void *b)
{
    return by_creation(b, a);
}

static int by_change_descending(const void *a, const void *b)
{
    return by_change(b, a);
}

typedef int order_fn(const void *a, const void *b);

/* NULL: there is no such order. */
static order_fn *find_order(struct slice name)
{
    static const struct {
        const char *name;
        order_fn *order;
    } orders[] = {
        {"CREATE_TIME_ASC", by_creation},
        {"CREATE_TIME_DESC", by_creation_descending},
        {"UPDATE_TIME_ASC", by_change},
        {"UPDATE_TIME_DESC", by_change_descending},
    };
    for (size_t i = 0; i < ARRAY_COUNT(orders); i++) {
        if (slice_equal(name, slice_str(orders[i].name))) {
            return orders[i].order;
        }
    }
    return NULL;
}

static bool read_query(struct request *request, const json_t *params, struct query *ret_query)
{
    *ret_query = (struct query){0};
    for (size_t i = 0; i < FILTER_COUNT; i++) {
        if (!params_filter(request, params, filter_names, filter_names[i],
                           &ret_query->filters[i])) {
            return false;
        }
        ret_query->is_filtered |= ret_query->filters[i] != NULL;
    }
    if (!params_optional_text(request, params, "OrderBy", UINT8_MAX, &ret_query->order) ||
        !params_integer(request, params, "Offset", (struct param_range){0, INT32_MAX, 0},
                        &ret_query->offset) ||
        !params_integer(request, params, "Limit", (struct param_range){1, LIST_LIMIT_MAX, 20},
                        &ret_query->limit)) {
        return false;
    }
    if (ret_query->order.size > 0 && !find_order(ret_query->order)) {
        actions_fail(request, "InvalidParameterValue",
                     "OrderBy must be CREATE_TIME_ASC, CREATE_TIME_DESC, UPDATE_TIME_ASC or "
                     "UPDATE_TIME_DESC");
        return false;
    }
    return true;
}

/* Those that fit, in order; no further than what is asked for when that can be told. */
static void run_query(const struct registry *registry, struct query *query)
{
    const bool whole = query->is_filtered || query->order.size > 0;
    const uint64_t wanted = (uint64_t)(query->offset + query->limit);
    size_t room = 0;
    const struct registry_certificate *it = registry_above(registry, slice_of("", 0));
    for (; it && (whole || query->count < wanted); it = registry_above(registry, it->record.name)) {
        if (!fits(query, it)) {
            continue;
        }
        if (query->count == room) {
            room = MAX(room * 2, (size_t)128);
            query->found = mem_grow(query->found, room * sizeof(const void *));
        }
        query->found[query->count++] = it;
    }
    if (query->order.size > 0 && query->count > 1) {
        qsort(query->found, query->count, sizeof(const void *), find_order(query->order));
    }
}

void certificate_action_list(struct request *request, const json_t *params)
{
    struct query query;
    if (!read_query(request, params, &query)) {
        return;
    }
    const struct registry *registry = registry_of(request);
    run_query(registry, &query);
    json_t *rows = json_array();
    for (size_t i = (size_t)query.offset;
         i < query.count && i < (size_t)(query.offset + query.limit); i++) {
        (void)json_array_append_new(rows, registry_certificate_json(query.found[i]));
    }
    const bool whole = query.is_filtered || query.order.size > 0;
    const uint64_t total = whole ? query.count : registry_certificate_count(registry);
    mem_free(query.found);
    actions_reply(request, json_pack("{s:I,s:o}", "TotalCount", (json_int_t)total, "Data", rows));
}
