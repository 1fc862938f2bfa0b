#include "admin/client_scan.h"
#include "admin/params.h"

void client_action_list(struct request *request, const json_t *params)
{
    static const enum client_filter filters[] = {CLIENT_ANY, CLIENT_ONLINE, CLIENT_OFFLINE};
    struct slice client_id;
    int64_t number, status, max_ms;
    if (!params_optional_text(request, params, "ClientId", UINT16_MAX, &client_id) ||
        !params_integer(request, params, "Number",
                        (struct param_range){1, CLIENT_SCAN_MAX, CLIENT_SCAN_MAX}, &number) ||
        !params_integer(request, params, "OnlineStatus", (struct param_range){0, 2, 0}, &status) ||
        !params_integer(request, params, "MaxTimestamp",
                        (struct param_range){0, INT64_MAX, INT64_MAX}, &max_ms)) {
        return;
    }
    if (client_id.size > 0) {
        actions_reply(request, client_scan_one(request->admin->deps.broker, client_id));
        return;
    }
    client_scan_start(request, filters[status], (size_t)number, (uint64_t)max_ms);
}

static void on_kicked(void *data, int err, const char *detail)
{
    struct request *request = data;
    if (!request->connection) {
        request_done_waiting(request);
        return;
    }
    if (err == ERR_NOTFOUND) {
        actions_fail(request, "ResourceNotFound", "there is no client of this ID");
    } else if (err == ERR_UNAVAILABLE) {
        actions_fail(request, "ResourceUnavailable", "%s", detail ? detail : err_text(err));
    } else if (err < 0) {
        actions_fail(request, "FailedOperation", "%s", detail ? detail : err_text(err));
    } else {
        actions_reply(request, NULL);
    }
    request_done_waiting(request);
}

void client_action_kick(struct request *request, const json_t *params)
{
    struct slice client_id;
    bool delete_session;
    if (!params_text(request, params, "ClientId", /* empty_allowed= */ false, &client_id) ||
        !params_bool(request, params, "DeleteSession", &delete_session)) {
        return;
    }
    request_wait(request, NULL, NULL);
    inspect_client_kick(request->admin->deps.broker, client_id, delete_session, on_kicked, request);
}
