/* External HTTP: an authenticator that asks a server of the operator's.
 *
 * What is asked is made of templates (auth/template.h); what may be answered is in
 * auth/http_answer.h. A server that does not answer, or not as it should, ignores; whether anybody
 * else lets the client in is then up to the rest of the chain.
 *
 * So many requests at once as `concurrency` says; the others wait in order, and are told to come
 * back when that takes longer than the server itself may take.
 */
#pragma once

#include "auth/auth.h"

struct http_client;

/* Returns 0, or ERR_INVALID as auth_config_check. */
MUST_CHECK int http_auth_check_config(const struct http_auth_config *config, const char **ret_key,
                                      const char **ret_item, struct errmsg *reterr);
/* http: borrowed as long as the authenticator. */
struct authenticator *http_auth_new(const struct http_auth_config *config,
                                    const struct auth_deps *deps, struct http_client *http);
