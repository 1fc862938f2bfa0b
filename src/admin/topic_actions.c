#include "admin/params.h"
#include "broker/inspect.h"

#include <string.h>

#define REMARK_MAX     128
#define LIST_LIMIT_MAX 20

/* The error of the API for one of ours. */
static void fail_topic(struct request *request, int err, const char *detail)
{
    const char *text = detail && detail[0] != '\0' ? detail : err_text(err);
    switch (err) {
    case ERR_EXISTS:
        actions_fail(request, "UnsupportedOperation.ResourceAlreadyExists",
                     "a topic of this name exists already");
        break;
    case ERR_INVALID:
        actions_fail(request, "InvalidParameterValue", "Topic: %s", text);
        break;
    case ERR_FULL:
        actions_fail(request, "LimitExceeded.TopicNum", "limits.topics is reached: %s", text);
        break;
    case ERR_NOTFOUND:
        actions_fail(request, "ResourceNotFound.Topic", "there is no topic of this name");
        break;
    case ERR_DENIED:
        actions_fail(request, "ResourceInUse", "%s", text);
        break;
    case ERR_UNAVAILABLE:
    case ERR_CLOSED:
        actions_fail(request, "ResourceUnavailable", "%s", text);
        break;
    default:
        actions_fail(request, "InternalError", "%s", text);
        break;
    }
}

/* A change has become durable, or failed. */
static void on_changed(void *data, int err, const char *detail)
{
    struct request *request = data;
    if (request->connection) {
        if (err < 0) {
            fail_topic(request, err, detail);
        } else {
            actions_reply(request, NULL);
        }
    }
    request_done_waiting(request);
}

/* As on_changed, with the names that CreateTopic answers, found in the request's own body. */
static void on_created(void *data, int err, const char *detail)
{
    struct request *request = data;
    if (err < 0 || !request->connection) {
        on_changed(data, err, detail);
        return;
    }
    json_t *params = json_loadb(request->body.text, request->body.size, 0, NULL);
    json_t *response = json_object();
    (void)json_object_set(response, "InstanceId", json_object_get(params, "InstanceId"));
    (void)json_object_set(response, "Topic", json_object_get(params, "Topic"));
    json_decref(params);
    actions_reply(request, response);
    request_done_waiting(request);
}

void topic_action_create(struct request *request, const json_t *params)
{
    struct slice name, remark;
    if (!params_text(request, params, "Topic", /* empty_allowed= */ true, &name) ||
        !params_optional_text(request, params, "Remark", REMARK_MAX, &remark)) {
        return;
    }
    request_wait(request, NULL, NULL);
    inspect_topic_create(request->admin->deps.broker, name, remark, on_created, request);
}

void topic_action_delete(struct request *request, const json_t *params)
{
    struct slice name;
    bool force;
    if (!params_text(request, params, "Topic", /* empty_allowed= */ true, &name) ||
        !params_bool(request, params, "Force", &force)) {
        return;
    }
    request_wait(request, NULL, NULL);
    inspect_topic_delete(request->admin->deps.broker, name, force, on_changed, request);
}

void topic_action_modify(struct request *request, const json_t *params)
{
    struct slice name, remark;
    if (!params_text(request, params, "Topic", /* empty_allowed= */ true, &name) ||
        !params_optional_text(request, params, "Remark", REMARK_MAX, &remark)) {
        return;
    }
    struct topic_info info;
    const int err = inspect_topic(request->admin->deps.broker, name, &info);
    if (err < 0) {
        fail_topic(request, err, NULL);
        return;
    }
    if (!remark.bytes) { /* nothing to change */
        actions_reply(request, NULL);
        return;
    }
    request_wait(request, NULL, NULL);
    inspect_topic_modify(request->admin->deps.broker, name, remark, on_changed, request);
}

static json_t *topic_item(const struct request *request, const struct topic_info *info)
{
    json_t *item = json_object();
    (void)json_object_set_new(item, "InstanceId", json_string(request->admin->config.instance_id));
    (void)json_object_set_new(item, "Topic", request_json_text(info->name));
    (void)json_object_set_new(item, "Remark", request_json_text(info->remark));
    return item;
}

void topic_action_describe(struct request *request, const json_t *params)
{
    struct slice name;
    struct topic_info info;
    if (!params_text(request, params, "Topic", /* empty_allowed= */ true, &name)) {
        return;
    }
    const int err = inspect_topic(request->admin->deps.broker, name, &info);
    if (err < 0) {
        fail_topic(request, err, NULL);
        return;
    }
    json_t *response = topic_item(request, &info);
    /* Seconds here, milliseconds nearly everywhere else: so it is in the API. */
    (void)json_object_set_new(response, "CreatedTime",
                              json_integer((json_int_t)(info.created_ms / 1000)));
    actions_reply(request, response);
}

struct topic_list {
    const struct request *request;
    const json_t *names; /* parts of names to look for, NULL: all */
    uint64_t offset, limit, matched;
    json_t *data;
};

static bool name_matches(struct slice name, const json_t *names)
{
    for (size_t i = 0; i < json_array_size(names); i++) {
        const json_t *part = json_array_get(names, i);
        if (memmem(name.bytes, name.size, json_string_value(part), json_string_length(part))) {
            return true;
        }
    }
    return !names;
}

static void list_topic(void *data, const struct topic_info *info)
{
    struct topic_list *list = data;
    if (!name_matches(info->name, list->names)) {
        return;
    }
    if (list->matched >= list->offset && list->matched < list->offset + list->limit) {
        (void)json_array_append_new(list->data, topic_item(list->request, info));
    }
    list->matched++;
}

void topic_action_list(struct request *request, const json_t *params)
{
    static const char *const filters[] = {"TopicName", NULL};
    struct topic_list list = {.request = request};
    int64_t offset, limit;
    if (!params_filter(request, params, filters, "TopicName", &list.names) ||
        !params_integer(request, params, "Offset", (struct param_range){0, INT32_MAX, 0},
                        &offset) ||
        !params_integer(request, params, "Limit",
                        (struct param_range){1, LIST_LIMIT_MAX, LIST_LIMIT_MAX}, &limit)) {
        return;
    }
    list.offset = (uint64_t)offset;
    list.limit = (uint64_t)limit;
    list.data = json_array();
    (void)inspect_topics(request->admin->deps.broker, slice_of("", 0), SIZE_MAX, list_topic, &list);
    json_t *response = json_object();
    (void)json_object_set_new(response, "TotalCount", json_integer((json_int_t)list.matched));
    (void)json_object_set_new(response, "Data", list.data);
    actions_reply(request, response);
}
