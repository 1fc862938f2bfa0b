/* The control plane: `POST /` with the header X-TC-Action and a JSON object as body, in the manner
 * of Tencent Cloud's API for TDMQ for MQTT, version 2024-05-16.
 *
 * Errors too come with HTTP status 200: {"Response": {"Error": {"Code", "Message"}, "RequestId"}}.
 * What their API lacks is asked for by parameters of our own (`Force`). Private to admin.
 */
#pragma once

#include "admin/request.h"

void actions_handle(struct request *request, const char *rest);
/* The answer (401) to a request without the token. */
void actions_refuse_stranger(struct request *request);

/* {"Response": {…, "RequestId"}}; `response` (an object) is taken, NULL for none. */
void actions_reply(struct request *request, json_t *response);
void actions_fail(struct request *request, const char *code, const char *fmt, ...) PRINTF(3, 4);

/* Fails for what changing a stored rule said. exists, missing: the codes for a name that is taken,
 * and for one that is not there. */
void actions_fail_rule(struct request *request, int err, const char *detail, const char *exists,
                       const char *missing);

/* One action. Answers, or waits. `params`: a JSON object, borrowed for the call. */
typedef void action_fn(struct request *request, const json_t *params);

action_fn topic_action_create;
action_fn topic_action_delete;
action_fn topic_action_modify;
action_fn topic_action_describe;
action_fn topic_action_list;
action_fn client_action_list;
action_fn client_action_kick;
action_fn policy_action_create;
action_fn policy_action_modify;
action_fn policy_action_delete;
action_fn policy_action_order;
action_fn policy_action_list;
action_fn block_action_create;
action_fn block_action_modify;
action_fn block_action_delete;
action_fn block_action_list;
action_fn instance_action_describe;
action_fn instance_action_list;
action_fn device_action_create;
action_fn device_action_modify;
action_fn device_action_delete;
action_fn device_action_describe;
action_fn device_action_list;
action_fn ca_action_apply_code;
action_fn ca_action_register;
action_fn ca_action_activate;
action_fn ca_action_deactivate;
action_fn ca_action_delete;
action_fn ca_action_describe;
action_fn ca_action_list;
action_fn certificate_action_register;
action_fn certificate_action_activate;
action_fn certificate_action_deactivate;
action_fn certificate_action_revoke;
action_fn certificate_action_delete;
action_fn certificate_action_describe;
action_fn certificate_action_list;
