#include "admin/params.h"
#include "auth/rule_json.h"
#include "broker/stored_rules.h"

/* A change has become durable, or failed. */
static void on_changed(void *data, int err, const char *detail, uint64_t id)
{
    struct request *request = data;
    if (request->connection && err < 0) {
        actions_fail_rule(request, err, detail,
                          "FailedOperation.DuplicateAuthorizationIdOrPriority",
                          "ResourceNotFound.AuthorizationPolicy");
    } else if (request->connection) {
        json_t *response = json_object();
        if (id > 0) {
            (void)json_object_set_new(response, "InstanceId",
                                      json_string(request->admin->config.instance_id));
            (void)json_object_set_new(response, "Id", json_integer((json_int_t)id));
        }
        actions_reply(request, response);
    }
    request_done_waiting(request);
}

/* As on_changed; only creation answers with names. */
static void on_modified(void *data, int err, const char *detail, uint64_t id)
{
    (void)id;
    on_changed(data, err, detail, 0);
}

/* NULL: the request has been refused. */
static struct rule *read_rule(struct request *request, const json_t *params)
{
    struct rule *rule;
    struct errmsg why = {0};
    const int err = rule_json_read(params, &rule, &why);
    if (err == ERR_INVALID) {
        actions_fail(request, "InvalidParameterValue", "%s", why.text);
    } else if (err < 0) {
        actions_fail(request, "InternalError", "%s", err_text(err));
    }
    return err < 0 ? NULL : rule;
}

void policy_action_create(struct request *request, const json_t *params)
{
    struct rule *rule = read_rule(request, params);
    if (!rule) {
        return;
    }
    rule->id = 0;
    request_wait(request, NULL, NULL);
    stored_policy_put(request->admin->deps.broker, rule, on_changed, request);
}

/* The policy that a parameter names. NULL: the request has been refused. */
static const struct rule *find_policy(struct request *request, const json_t *params)
{
    int64_t id;
    const struct param_range range = {0, INT64_MAX, 0};
    if (!params_integer(request, params, "Id", range, &id)) {
        return NULL;
    }
    const struct rule *rule = rulebook_policy(request->admin->deps.rulebook, (uint64_t)id);
    if (!rule) {
        actions_fail(request, "ResourceNotFound.AuthorizationPolicy",
                     "there is no policy of this Id");
    }
    return rule;
}

void policy_action_modify(struct request *request, const json_t *params)
{
    const struct rule *before = find_policy(request, params);
    json_t *item = before ? rule_json_item(before) : NULL;
    if (!item) {
        return;
    }
    const uint64_t id = before->id;
    (void)json_object_update(item, (json_t *)(uintptr_t)params); /* what is given wins */
    struct rule *rule = read_rule(request, item);
    json_decref(item);
    if (!rule) {
        return;
    }
    rule->id = id;
    request_wait(request, NULL, NULL);
    stored_policy_put(request->admin->deps.broker, rule, on_modified, request);
}

void policy_action_delete(struct request *request, const json_t *params)
{
    const struct rule *rule = find_policy(request, params);
    if (!rule) {
        return;
    }
    request_wait(request, NULL, NULL);
    stored_policy_remove(request->admin->deps.broker, rule->id, on_modified, request);
}

/* One item of Priorities: {Id, Priority}. Returns whether it is sound. */
static bool read_priority(struct request *request, const json_t *item,
                          struct policy_priority *ret_priority)
{
    static const char *const names[] = {"Id", "Priority"};
    static const struct param_range ranges[] = {{1, INT64_MAX, 0}, {1, RULE_PRIORITY_MAX, 0}};
    int64_t numbers[2];
    if (!json_is_object(item)) {
        actions_fail(request, "InvalidParameterValue",
                     "Priorities must be a list of {Id, Priority}");
        return false;
    }
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (!params_integer(request, item, names[i], ranges[i], &numbers[i])) {
            return false;
        }
        if (numbers[i] == 0) {
            actions_fail(request, "MissingParameter", "an item of Priorities has no %s", names[i]);
            return false;
        }
    }
    *ret_priority =
        (struct policy_priority){.id = (uint64_t)numbers[0], .priority = (uint32_t)numbers[1]};
    return true;
}

void policy_action_order(struct request *request, const json_t *params)
{
    struct policy_priority priorities[RULEBOOK_POLICIES_MAX];
    const json_t *list = json_object_get(params, "Priorities");
    const size_t count = json_array_size(list);
    if (!list || json_is_null(list)) {
        actions_fail(request, "MissingParameter", "the parameter Priorities is missing");
        return;
    }
    if (count == 0 || count > ARRAY_COUNT(priorities)) {
        actions_fail(request, "InvalidParameterValue",
                     "Priorities must be a list of 1 to %u {Id, Priority}", RULEBOOK_POLICIES_MAX);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        if (!read_priority(request, json_array_get(list, i), &priorities[i])) {
            return;
        }
    }
    request_wait(request, NULL, NULL);
    stored_policies_order(request->admin->deps.broker, priorities, count, on_modified, request);
}

/* Those that the API can change; those of the policy file it does not know. */
void policy_action_list(struct request *request, const json_t *params)
{
    (void)params;
    const struct policies *stored = rulebook_policies(request->admin->deps.rulebook, ORIGIN_STORED);
    json_t *data = json_array();
    for (size_t i = 0; i < stored->count; i++) {
        json_t *item = rule_json_item(stored->items[i]);
        (void)json_object_set_new(item, "InstanceId",
                                  json_string(request->admin->config.instance_id));
        (void)json_array_append_new(data, item);
    }
    json_t *response = json_object();
    (void)json_object_set_new(response, "Data", data);
    actions_reply(request, response);
}
