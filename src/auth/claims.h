/* Claims: what a token says about its bearer, checked against the configuration (RFC 7519).
 * Private to auth/. Thread: any.
 */
#pragma once

#include "auth/auth.h"

#include <jansson.h>

#define CLAIMS_ACL_MAX (64u * 1024) /* bytes of a client's own rules */

struct claims_rules {
    const char *issuer, *audience; /* that must be named; NULL: need not */
    uint64_t leeway_ms;            /* by which clocks may differ */
    char **expected;               /* "name=template": further claims that must be so */
    uint32_t expected_count;
};

/* What they come to. */
struct claims_result {
    const char *wrong; /* NULL: nothing; else what, for the log: nothing of the token in it */
    uint64_t expire_at_ms;
    struct slice acl, username; /* owned: claims_done */
};

/* Returns 0, or ERR_INVALID: the form is wrong, with the reason in reterr. */
MUST_CHECK int claims_check_rule(const char *rule, struct errmsg *reterr);

/* now_ms: wall clock. The user name is the one in `sub`, or the given one when a rule compares it.
 * Returns 0 or ERR_NOMEM. */
MUST_CHECK int claims_check(const json_t *claims, const struct claims_rules *rules,
                            const struct auth_credentials *credentials, uint64_t now_ms,
                            struct claims_result *ret_result);
void claims_done(struct claims_result *result);

/* A list of rules as one text, kept in a buffer. Returns 0; ERR_FULL: larger than CLAIMS_ACL_MAX;
 * ERR_INVALID: no list; ERR_NOMEM. */
MUST_CHECK int claims_acl(const json_t *acl, struct slice *ret_acl);
/* Seconds since 1970, of any kind of JSON number, as milliseconds, at most UINT64_MAX / 2. false:
 * not a number, or before 1970. */
bool claims_time(const json_t *value, uint64_t *ret_ms);
