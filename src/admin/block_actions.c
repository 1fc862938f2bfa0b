#include "admin/params.h"
#include "broker/stored_rules.h"

static void on_changed(void *data, int err, const char *detail, uint64_t id)
{
    (void)id;
    struct request *request = data;
    if (request->connection && err < 0) {
        actions_fail_rule(request, err, detail, "UnsupportedOperation.ResourceAlreadyExists",
                          "ResourceNotFound");
    } else if (request->connection) {
        actions_reply(request, NULL);
    }
    request_done_waiting(request);
}

/* As on_changed, with the names that CreateBlockRule answers, found in the request's own body. */
static void on_created(void *data, int err, const char *detail, uint64_t id)
{
    struct request *request = data;
    if (err < 0 || !request->connection) {
        on_changed(data, err, detail, id);
        return;
    }
    json_t *params = json_loadb(request->body.text, request->body.size, 0, NULL);
    json_t *response = json_object();
    (void)json_object_set(response, "InstanceId", json_object_get(params, "InstanceId"));
    (void)json_object_set(response, "Name", json_object_get(params, "Name"));
    json_decref(params);
    actions_reply(request, response);
    request_done_waiting(request);
}

/* Whether the rule can keep anybody out. One that is changed may be ended by its time. */
static int check(const struct request *request, const struct block *block, bool is_new,
                 struct errmsg *reterr)
{
    if (is_new && block_expired(block, loop_wall_ms(request->admin->deps.loop))) {
        errmsg_wrap(reterr, "ExpireTime: that time is over; allowed is one to come, or 0: never");
        return ERR_INVALID;
    }
    return block_check_addresses(block, /* in_api= */ true, reterr);
}

/* Stores what `item` says. */
static void put(struct request *request, const json_t *item, bool is_new)
{
    struct block *block;
    struct errmsg why = {0};
    int err = block_json_read(item, &block, &why);
    if (err == 0) {
        err = check(request, block, is_new, &why);
        if (err < 0) {
            (void)block_free(block);
        }
    }
    if (err == ERR_INVALID) {
        actions_fail(request, "InvalidParameterValue", "%s", why.text);
        return;
    }
    if (err < 0) {
        actions_fail(request, "InternalError", "%s", err_text(err));
        return;
    }
    request_wait(request, NULL, NULL);
    stored_block_put(request->admin->deps.broker, block, is_new, is_new ? on_created : on_changed,
                     request);
}

void block_action_create(struct request *request, const json_t *params)
{
    put(request, params, /* is_new= */ true);
}

void block_action_modify(struct request *request, const json_t *params)
{
    struct slice name;
    if (!params_text(request, params, "Name", /* empty_allowed= */ false, &name)) {
        return;
    }
    const struct block *before = rulebook_block(request->admin->deps.rulebook, name);
    if (!before) {
        actions_fail(request, "ResourceNotFound", "there is no block rule of this name");
        return;
    }
    json_t *item = block_json_item(before);
    (void)json_object_update(item, (json_t *)(uintptr_t)params); /* what is given wins */
    put(request, item, /* is_new= */ false);
    json_decref(item);
}

void block_action_delete(struct request *request, const json_t *params)
{
    struct slice name;
    if (!params_text(request, params, "BlockRuleName", /* empty_allowed= */ false, &name)) {
        return;
    }
    request_wait(request, NULL, NULL);
    stored_block_remove(request->admin->deps.broker, name, on_changed, request);
}

void block_action_list(struct request *request, const json_t *params)
{
    (void)params;
    const struct blocks *stored = rulebook_blocks(request->admin->deps.rulebook, ORIGIN_STORED);
    const uint64_t now_ms = loop_wall_ms(request->admin->deps.loop);
    json_t *data = json_array();
    for (size_t i = 0; i < stored->count; i++) {
        if (!block_expired(stored->items[i], now_ms)) {
            (void)json_array_append_new(data, block_json_item(stored->items[i]));
        }
    }
    json_t *response = json_object();
    (void)json_object_set_new(response, "TotalCount",
                              json_integer((json_int_t)json_array_size(data)));
    (void)json_object_set_new(response, "Data", data);
    actions_reply(request, response);
}
