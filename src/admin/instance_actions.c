/* This server as the one instance of the control plane. Fields of the API that stand for what the
 * server does not have are left out, or zero where their SDK expects a number. */
#include "admin/params.h"
#include "auth/registry.h"
#include "broker/inspect.h"

#include <string.h>
#include <strings.h>

#define INSTANCE_TYPE   "PLATINUM"
#define INSTANCE_STATUS "RUNNING"
#define INSTANCE_NAME   "tidemq"

static void set_number(json_t *object, const char *name, uint64_t value)
{
    (void)json_object_set_new(object, name, json_integer((json_int_t)MIN(value, INT64_MAX)));
}

/* What DescribeInstance and the items of DescribeInstanceList have in common. */
static json_t *common(const struct request *request)
{
    const struct admin_config *config = &request->admin->config;
    json_t *row = json_object();
    (void)json_object_set_new(row, "InstanceId", json_string(config->instance_id));
    (void)json_object_set_new(row, "InstanceName", json_string(INSTANCE_NAME));
    (void)json_object_set_new(row, "InstanceType", json_string(INSTANCE_TYPE));
    (void)json_object_set_new(row, "InstanceStatus", json_string(INSTANCE_STATUS));
    (void)json_object_set_new(row, "SkuCode", json_string("self-hosted"));
    (void)json_object_set_new(row, "Remark", json_string(""));
    (void)json_object_set_new(row, "PayMode", json_string("POSTPAID"));
    (void)json_object_set_new(row, "DeleteProtect", json_true());
    set_number(row, "TopicNum", inspect_topic_count(request->admin->deps.broker));
    set_number(row, "TopicNumLimit", config->topics_max);
    set_number(row, "ClientNumLimit", config->clients_max);
    set_number(row, "MaxSubscriptionPerClient", config->filters_per_client_max);
    set_number(row, "MaxSubscription", config->subscriptions_max);
    set_number(row, "RenewFlag", 0);
    return row;
}

static void set_certificates(json_t *row, const struct admin *admin)
{
    const struct admin_config *config = &admin->config;
    const char *mode = config->asks_registry ? "BYOC" : config->trusts_cas ? "mTLS" : "TLS";
    (void)json_object_set_new(row, "X509Mode", json_string(mode));
    (void)json_object_set_new(row, "DeviceCertificateProvisionType",
                              json_string(config->enrols ? "JITP" : "API"));
    (void)json_object_set_new(row, "AutomaticActivation", json_boolean(config->activates));
    (void)json_object_set_new(row, "RegistrationCode",
                              request_json_text(registry_code(admin->deps.registry)));
    set_number(row, "MaxCaNum", REGISTRY_CAS_MAX);
}

void instance_action_describe(struct request *request, const json_t *params)
{
    (void)params;
    json_t *response = common(request);
    /* Seconds here, milliseconds in the list: so it is in the API. */
    set_number(response, "CreatedTime", request->admin->config.created_ms / 1000);
    set_certificates(response, request->admin);
    actions_reply(request, response);
}

/* true when there is no such filter, or one of its values fits. */
static bool fits(const json_t *values, const char *text, bool exact)
{
    for (size_t i = 0; i < json_array_size(values); i++) {
        const char *value = json_string_value(json_array_get(values, i));
        if (exact ? strcmp(text, value) == 0 : strcasestr(text, value) != NULL) {
            return true;
        }
    }
    return !values;
}

void instance_action_list(struct request *request, const json_t *params)
{
    static const char *const known[] = {"InstanceName", "InstanceId", "InstanceStatus", "PayMode",
                                        NULL};
    const json_t *name, *id, *status, *pay_mode;
    int64_t offset, limit;
    if (!params_filter(request, params, known, "InstanceName", &name) ||
        !params_filter(request, params, known, "InstanceId", &id) ||
        !params_filter(request, params, known, "InstanceStatus", &status) ||
        !params_filter(request, params, known, "PayMode", &pay_mode) ||
        !params_integer(request, params, "Offset", (struct param_range){0, INT32_MAX, 0},
                        &offset) ||
        !params_integer(request, params, "Limit", (struct param_range){1, 100, 20}, &limit)) {
        return;
    }
    const bool found = fits(name, INSTANCE_NAME, false) &&
                       fits(id, request->admin->config.instance_id, true) &&
                       fits(status, INSTANCE_STATUS, true) && fits(pay_mode, "POSTPAID", true);
    json_t *data = json_array();
    if (found && offset == 0) {
        json_t *item = common(request);
        (void)json_object_set_new(item, "Version", json_string(TIDEMQ_VERSION));
        set_number(item, "CreateTime", request->admin->config.created_ms);
        (void)json_array_append_new(data, item);
    }
    json_t *response = json_object();
    set_number(response, "TotalCount", found);
    (void)json_object_set_new(response, "Data", data);
    actions_reply(request, response);
}
