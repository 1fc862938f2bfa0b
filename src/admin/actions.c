#include "admin/actions.h"

#include "admin/params.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define API_VERSION "2024-05-16"

struct action {
    const char *name;
    bool instance; /* InstanceId is required */
    action_fn *run;
};

static const struct action actions[] = {
    {"CreateTopic", true, topic_action_create},
    {"DeleteTopic", true, topic_action_delete},
    {"ModifyTopic", true, topic_action_modify},
    {"DescribeTopic", true, topic_action_describe},
    {"DescribeTopicList", true, topic_action_list},
    {"DescribeClientList", true, client_action_list},
    {"KickOutClient", true, client_action_kick},
    {"CreateAuthorizationPolicy", true, policy_action_create},
    {"ModifyAuthorizationPolicy", true, policy_action_modify},
    {"DeleteAuthorizationPolicy", true, policy_action_delete},
    {"UpdateAuthorizationPolicyPriority", true, policy_action_order},
    {"DescribeAuthorizationPolicies", true, policy_action_list},
    {"CreateBlockRule", true, block_action_create},
    {"ModifyBlockRule", true, block_action_modify},
    {"DeleteBlockRule", true, block_action_delete},
    {"DescribeBlockRuleList", true, block_action_list},
    {"DescribeInstance", true, instance_action_describe},
    {"CreateDeviceIdentity", true, device_action_create},
    {"ModifyDeviceIdentity", true, device_action_modify},
    {"DeleteDeviceIdentity", true, device_action_delete},
    {"DescribeDeviceIdentity", true, device_action_describe},
    {"DescribeDeviceIdentities", true, device_action_list},
    {"ApplyRegistrationCode", true, ca_action_apply_code},
    {"RegisterCaCertificate", true, ca_action_register},
    {"ActivateCaCertificate", true, ca_action_activate},
    {"DeactivateCaCertificate", true, ca_action_deactivate},
    {"DeleteCaCertificate", true, ca_action_delete},
    {"DescribeCaCertificate", true, ca_action_describe},
    {"DescribeCaCertificates", true, ca_action_list},
    {"RegisterDeviceCertificate", true, certificate_action_register},
    {"ActivateDeviceCertificate", true, certificate_action_activate},
    {"DeactivateDeviceCertificate", true, certificate_action_deactivate},
    {"RevokedDeviceCertificate", true, certificate_action_revoke},
    {"DeleteDeviceCertificate", true, certificate_action_delete},
    {"DescribeDeviceCertificate", true, certificate_action_describe},
    {"DescribeDeviceCertificates", true, certificate_action_list},
    {"DescribeInstanceList", false, instance_action_list},
};

/* Answers {"Response": response} with the request's id in it; `response` is taken. */
static void reply(struct request *request, unsigned status, json_t *response)
{
    (void)json_object_set_new(response, "RequestId", json_string(request->id));
    json_t *answer = json_object();
    (void)json_object_set_new(answer, "Response", response);
    request_reply_json(request, status, answer);
}

void actions_reply(struct request *request, json_t *response)
{
    reply(request, MHD_HTTP_OK, response ? response : json_object());
}

static json_t *error_json(const char *code, const char *message)
{
    return json_pack("{s:{s:s,s:s}}", "Error", "Code", code, "Message", message);
}

void actions_fail(struct request *request, const char *code, const char *fmt, ...)
{
    char message[512];
    va_list va;
    va_start(va, fmt);
    (void)vsnprintf(message, sizeof(message), fmt, va);
    va_end(va);
    if (request->action) { /* without the message, which may repeat what was sent */
        log_write(request->admin->deps.log, LOG_INFO, "admin", "refused the action %s: %s (%s)",
                  request->action, code, request->id);
    }
    reply(request, MHD_HTTP_OK, error_json(code, message));
}

void actions_fail_rule(struct request *request, int err, const char *detail, const char *exists,
                       const char *missing)
{
    const char *code;
    switch (err) {
    case ERR_EXISTS:
        code = exists;
        break;
    case ERR_FULL:
        code = "LimitExceeded";
        break;
    case ERR_NOTFOUND:
        code = missing;
        break;
    case ERR_AGAIN:
    case ERR_UNAVAILABLE:
        code = "ResourceUnavailable";
        break;
    default:
        code = "InternalError";
        break;
    }
    actions_fail(request, code, "%s", detail);
}

void actions_refuse_stranger(struct request *request)
{
    reply(request, MHD_HTTP_UNAUTHORIZED,
          error_json("AuthFailure",
                     "this needs the header 'Authorization: Bearer TOKEN'; the token "
                     "is in the file admin.token of the server's data directory"));
}

static const struct action *find_action(const char *name)
{
    for (size_t i = 0; i < ARRAY_COUNT(actions); i++) {
        if (strcmp(actions[i].name, name) == 0) {
            return &actions[i];
        }
    }
    return NULL;
}

static bool check_instance(struct request *request, const json_t *params)
{
    struct slice given;
    if (!params_text(request, params, "InstanceId", /* empty_allowed= */ false, &given)) {
        return false;
    }
    if (!slice_equal(given, slice_str(request->admin->config.instance_id))) {
        actions_fail(request, "ResourceNotFound.Instance", "this server is the instance %s",
                     request->admin->config.instance_id);
        return false;
    }
    return true;
}

/* The body as a JSON object; an empty body is an empty one. NULL: the request has been refused. */
static json_t *read_params(struct request *request)
{
    json_error_t error;
    if (request->body.size == 0) {
        return json_object();
    }
    json_t *params =
        json_loadb(request->body.text, request->body.size, JSON_REJECT_DUPLICATES, &error);
    if (!params) {
        actions_fail(request, "InvalidParameter", "the body is not JSON: line %d: %.200s",
                     error.line, error.text);
    } else if (!json_is_object(params)) {
        json_decref(params);
        params = NULL;
        actions_fail(request, "InvalidParameter", "the body must be a JSON object");
    }
    return params;
}

void actions_handle(struct request *request, const char *rest)
{
    (void)rest;
    const char *name = request_header(request, "X-TC-Action");
    const char *version = request_header(request, "X-TC-Version");
    const struct action *action = name ? find_action(name) : NULL;
    if (!name) {
        actions_fail(request, "MissingParameter", "the header X-TC-Action is missing");
        return;
    }
    if (version && strcmp(version, API_VERSION) != 0) {
        actions_fail(request, "NoSuchVersion", "the version of this API is " API_VERSION);
        return;
    }
    if (!action) {
        actions_fail(request, "InvalidAction", "there is no action '%.100s' on this server", name);
        return;
    }
    request->action = action->name;
    json_t *params = read_params(request);
    if (!params) {
        return;
    }
    if (!action->instance || check_instance(request, params)) {
        action->run(request, params);
    }
    json_decref(params);
}
