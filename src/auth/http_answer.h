/* What a server of ours answers when it is asked about a client.
 *
 * Status 200 and a JSON object: {"result": "allow" | "deny" | "ignore", "is_superuser": bool,
 * "client_attrs": {…}, "expire_at": seconds since 1970, "acl": [rules]}, of which only `result` is
 * required; or 204, which allows. Anything else counts as "ignore". client_attrs are checked for
 * their form and not used. Private to auth/. Thread: any.
 */
#pragma once

#include "auth/auth.h"

struct http_verdict {
    enum auth_result result; /* AUTH_ALLOWED, AUTH_BAD_CREDENTIALS or AUTH_IGNORED */
    const char *wrong;       /* with AUTH_IGNORED: what is wrong with the answer; NULL: nothing */
    bool is_superuser;
    uint64_t expire_at_ms; /* 0 = never */
    struct slice acl;      /* owned: slice_done */
};

/* now_ms: wall clock; who is allowed until a moment that has passed is denied. */
void http_answer_parse(uint32_t status, struct slice body, uint64_t now_ms,
                       struct http_verdict *ret_verdict);
