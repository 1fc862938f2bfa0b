/* Access: the rights of one client, as the rulebook and the client's own facts have them.
 *
 * The proxy makes one when the client is authenticated and gives it to the core with the link; the
 * core asks. Which rules concern the client is found once for each generation of the rulebook, and
 * the last few decisions about publishing are kept, so that a client that goes on with its topics
 * costs one comparison for each message.
 *
 * Refcounted, because a will may be published when its link is gone. Thread: the loop's.
 */
#pragma once

#include "auth/rulebook.h"

struct access;

/* Why: the rule that decided, or none that matched. */
struct decision {
    bool allowed;
    const struct rule *rule; /* NULL: none matched. Borrowed until the rulebook changes. */
    enum rule_origin origin; /* of the rule */
};

/* Copies the facts, refers to their acl. rulebook: borrowed until the last unref. Returns NULL when
 * out of memory. */
struct access *access_new(struct rulebook *rulebook, const struct facts *facts);
struct access *access_ref(struct access *access);   /* NULL is fine; returns access */
struct access *access_unref(struct access *access); /* NULL is fine; returns NULL */

/* Slices borrowed as long as `access`, or until access_set_client_id. */
struct facts access_facts(const struct access *access);
/* The server has chosen the client ID. Returns 0 or ERR_NOMEM. */
MUST_CHECK int access_set_client_id(struct access *access, struct slice client_id);

/* Whether anything is checked: not without a rulebook that is switched on, nor for a superuser.
 * NULL: no. */
bool access_is_checked(const struct access *access);
/* Decides. ret_decision may be NULL. Returns whether it is allowed. */
bool access_check(struct access *access, const struct rule_request *request,
                  struct decision *ret_decision);

/* Decides without keeping anything, telling about each rule asked: why it does not match, or that
 * it decides. */
typedef void access_each_fn(void *data, const struct rule *rule, enum rule_origin origin,
                            enum rule_result result);
struct decision access_explain(const struct rulebook *rulebook, const struct facts *facts,
                               const struct rule_request *request, access_each_fn *each,
                               void *data);
/* Whether a text is a topic name or filter at all. Returns 0 or < 0. */
MUST_CHECK int access_check_topic(struct slice topic, bool is_filter);
/* What decided, for logs and people: "policy 'x'", "policy 'x' of the policy file", "rule 2 of the
 * authenticator's answer", "no rule allows it". Returns `room`. */
const char *access_reason(const struct access *access, const struct decision *decision, char *room,
                          size_t size);
