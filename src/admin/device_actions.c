#include "admin/params.h"
#include "auth/devices.h"

#include <inttypes.h>
#include <string.h>

#define LIST_LIMIT_MAX 100

enum { STATUS_ACTIVE = 1, STATUS_INACTIVE = 2 };

/* The error of the API for one of ours. */
static void fail_device(struct request *request, int err)
{
    switch (err) {
    case ERR_EXISTS:
        actions_fail(request, "UnsupportedOperation.ResourceAlreadyExists",
                     "a device of this ID exists already");
        break;
    case ERR_INVALID:
        actions_fail(request, "InvalidParameterValue",
                     "DeviceId is 1 to %u bytes without control characters", DEVICE_ID_MAX);
        break;
    case ERR_NOTFOUND:
        actions_fail(request, "ResourceNotFound", "there is no device of this ID");
        break;
    case ERR_AGAIN:
        actions_fail(request, "ResourceInUse", "another change of this device is under way");
        break;
    case ERR_FULL:
        actions_fail(request, "LimitExceeded", "there are too many devices, or the disk is busy");
        break;
    default:
        actions_fail(request, "ResourceUnavailable", "%s", err_text(err));
        break;
    }
}

static void on_changed(void *data, int err)
{
    struct request *request = data;
    if (request->connection) {
        if (err < 0) {
            fail_device(request, err);
        } else {
            actions_reply(request, NULL);
        }
    }
    request_done_waiting(request);
}

/* --- parameters
 * -----------------------------------------------------------------------------------
 */

struct change_params {
    struct slice id;
    struct device_change change;
    struct sas_key keys[2];
    struct device_properties properties;
};

static bool read_key(struct request *request, const json_t *params, const char *name,
                     struct sas_key *key, const struct sas_key **ret_key)
{
    struct slice text;
    if (!params_optional_text(request, params, name, SAS_KEY_TEXT_SIZE, &text)) {
        return false;
    }
    if (!text.bytes) {
        return true;
    }
    if (sas_key_parse(text, key) < 0) {
        actions_fail(request, "InvalidParameterValue", "%s must be %u to %u bytes in base64", name,
                     SAS_KEY_MIN, SAS_KEY_MAX);
        return false;
    }
    *ret_key = key;
    return true;
}

/* A word, or the number that DescribeDeviceIdentity answers. */
static bool read_status(struct request *request, const json_t *params, struct device_change *change)
{
    static const char *const words[] = {"ACTIVE", "1", "INACTIVE", "2"};
    struct slice text;
    if (!params_optional_text(request, params, "Status", UINT8_MAX, &text)) {
        return false;
    }
    if (!text.bytes) {
        return true;
    }
    for (size_t i = 0; i < ARRAY_COUNT(words); i++) {
        if (slice_equal(text, slice_str(words[i]))) {
            change->set_enabled = true;
            change->enabled = i < 2;
            return true;
        }
    }
    actions_fail(request, "InvalidParameterValue", "Status must be ACTIVE or INACTIVE");
    return false;
}

/* A list of {Key, Value}; an empty one takes away what there was. */
static bool read_properties(struct request *request, const json_t *params,
                            struct change_params *ret)
{
    const json_t *list = json_object_get(params, "PropagatingProperties");
    if (!list || json_is_null(list)) {
        return true;
    }
    int err = json_is_array(list) ? 0 : ERR_INVALID;
    for (size_t i = 0; i < json_array_size(list) && err == 0; i++) {
        const json_t *item = json_array_get(list, i);
        const json_t *key = json_object_get(item, "Key"), *value = json_object_get(item, "Value");
        err = json_is_string(key) && json_is_string(value) ? 0 : ERR_INVALID;
        if (err == 0) {
            err = device_properties_add(
                &ret->properties, slice_of(json_string_value(key), json_string_length(key)),
                slice_of(json_string_value(value), json_string_length(value)));
        }
    }
    if (err < 0) {
        actions_fail(
            request, "InvalidParameterValue",
            "PropagatingProperties must be a list of at most %u {Key, Value}, two texts of "
            "which Key is not empty, with %u bytes in all",
            DEVICE_PROPERTIES_MAX, DEVICE_PROPERTIES_SIZE_MAX);
        return false;
    }
    ret->change.properties = &ret->properties;
    return true;
}

static bool read_change(struct request *request, const json_t *params, struct change_params *ret)
{
    *ret = (struct change_params){0};
    return params_text(request, params, "DeviceId", /* empty_allowed= */ false, &ret->id) &&
           read_status(request, params, &ret->change) &&
           read_key(request, params, "PrimaryKey", &ret->keys[0], &ret->change.keys[0]) &&
           read_key(request, params, "SecondaryKey", &ret->keys[1], &ret->change.keys[1]) &&
           read_properties(request, params, ret) &&
           params_bool(request, params, "Rotate", &ret->change.rotate);
}

/* --- actions
 * --------------------------------------------------------------------------------------
 */

/* The submit has been tried; answers when it failed. */
static void end_submit(struct request *request, int err)
{
    if (err < 0) {
        fail_device(request, err);
        request_done_waiting(request);
    }
}

void device_action_create(struct request *request, const json_t *params)
{
    struct change_params it;
    if (read_change(request, params, &it)) {
        request_wait(request, NULL, NULL);
        end_submit(request, devices_add(request->admin->deps.devices, it.id, &it.change, on_changed,
                                        request));
    }
    explicit_bzero(&it, sizeof(it));
}

void device_action_modify(struct request *request, const json_t *params)
{
    struct change_params it;
    if (read_change(request, params, &it)) {
        request_wait(request, NULL, NULL);
        end_submit(request, devices_modify(request->admin->deps.devices, it.id, &it.change,
                                           on_changed, request));
    }
    explicit_bzero(&it, sizeof(it));
}

void device_action_delete(struct request *request, const json_t *params)
{
    struct slice id;
    if (!params_text(request, params, "DeviceId", /* empty_allowed= */ false, &id)) {
        return;
    }
    request_wait(request, NULL, NULL);
    end_submit(request, devices_remove(request->admin->deps.devices, id, on_changed, request));
}

static json_t *properties_json(const struct device *device)
{
    json_t *rows = json_array();
    struct slice key, value;
    uint32_t pos = 0;
    while (device_properties_next(device->properties, &pos, &key, &value)) {
        (void)json_array_append_new(rows, json_pack("{s:o,s:o}", "Key", request_json_text(key),
                                                    "Value", request_json_text(value)));
    }
    return rows;
}

static json_t *device_item(const struct request *request, const struct device *device)
{
    static const char *const names[] = {"PrimaryKey", "SecondaryKey"};
    json_t *item = json_object();
    (void)json_object_set_new(item, "InstanceId", json_string(request->admin->config.instance_id));
    (void)json_object_set_new(item, "DeviceId", request_json_text(device->record.name));
    (void)json_object_set_new(item, "Status",
                              json_integer(device->enabled ? STATUS_ACTIVE : STATUS_INACTIVE));
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        char text[SAS_KEY_TEXT_SIZE];
        sas_key_text(&device->keys[i], text);
        (void)json_object_set_new(item, names[i], json_string(text));
        explicit_bzero(text, sizeof(text));
    }
    (void)json_object_set_new(item, "CreatedTime", json_integer((json_int_t)device->created_ms));
    (void)json_object_set_new(item, "PropagatingProperties", properties_json(device));
    return item;
}

void device_action_describe(struct request *request, const json_t *params)
{
    struct slice id;
    if (!params_text(request, params, "DeviceId", /* empty_allowed= */ false, &id)) {
        return;
    }
    const struct device *device = devices_find(request->admin->deps.devices, id);
    if (!device) {
        fail_device(request, ERR_NOTFOUND);
        return;
    }
    actions_reply(request, device_item(request, device));
}

void device_action_list(struct request *request, const json_t *params)
{
    const struct devices *devices = request->admin->deps.devices;
    int64_t offset, limit;
    if (!params_integer(request, params, "Offset", (struct param_range){0, 100000, 0}, &offset) ||
        !params_integer(request, params, "Limit", (struct param_range){1, LIST_LIMIT_MAX, 20},
                        &limit)) {
        return;
    }
    json_t *rows = json_array();
    const struct device *it = devices_above(devices, slice_of("", 0));
    for (int64_t i = 0; it && i < offset + limit;
         i++, it = devices_above(devices, it->record.name)) {
        if (i >= offset) {
            (void)json_array_append_new(rows, device_item(request, it));
        }
    }
    json_t *response = json_object();
    (void)json_object_set_new(response, "TotalCount",
                              json_integer((json_int_t)devices_count(devices)));
    (void)json_object_set_new(response, "Data", rows);
    actions_reply(request, response);
}
