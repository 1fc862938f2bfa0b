/* JWT: an authenticator over signed tokens (RFC 7519) in the password or the user name.
 *
 * What is no token is ignored; what looks like one is decided upon: every fault of it is a denial.
 * Signatures are verified on workers. The link ends when the token expires, a leeway later.
 *
 * The user name that counts afterwards is the token's `sub`; without one it is the name that the
 * client gave if a rule of `claims` compares it, else none: a name that nobody vouches for must not
 * open what is another's.
 */
#pragma once

#include "auth/auth.h"

struct auth_chain;
struct http_client;

/* true when any source of keys is given. */
bool jwt_is_configured(const struct jwt_config *config);
/* Checks what can be told without reading files. Returns 0, or ERR_INVALID as
 * auth_config_check. */
MUST_CHECK int jwt_check_config(const struct jwt_config *config, const char **ret_key,
                                const char **ret_item, struct errmsg *reterr);

/* Reads the files (blocking). before: the chain in force, or NULL; keys that its own jwt has
 * fetched from the same URL are kept. Returns 0, or an error with the reason in reterr. */
MUST_CHECK int jwt_new(const struct jwt_config *config, const struct auth_deps *deps,
                       struct http_client *http, const struct auth_chain *before,
                       struct authenticator **ret_authenticator, struct errmsg *reterr);
