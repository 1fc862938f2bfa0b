/* ACL: the rules that an authenticator gives for one client, in order; the first that matches
 * decides. Refcounted, immutable. Thread: any (atomic count).
 *
 * As an HTTP service answers or a JWT claim carries them:
 *
 *     [{"effect": "allow", "action": ["publish", "subscribe"], "topic": "a/${ClientId}/#",
 *       "qos": [0, 1], "retain": false}, …]
 *
 * effect: allow or deny; action: publish (pub), subscribe (sub), connect, all. Both are needed.
 * topic: MQTT filters; `*` is an ordinary character; none: any topic. qos and retain: any when
 * missing. action, topic and qos may be one value or a list. Members that are not known are errors:
 * a condition that nobody checks would let in more than was meant.
 */
#pragma once

#include "auth/rule.h"

#include <jansson.h>

#define ACL_RULES_MAX 256u

/* rules: borrowed. Returns 0; ERR_INVALID with the rule and member at fault in reterr ("rule 2:
 * qos: …"); ERR_NOMEM. */
MUST_CHECK int acl_new(const json_t *rules, struct acl **ret_acl, struct errmsg *reterr);
/* The same from JSON text. */
MUST_CHECK int acl_parse(struct slice text, struct acl **ret_acl, struct errmsg *reterr);
struct acl *acl_ref(struct acl *acl);   /* NULL is fine; returns acl */
struct acl *acl_unref(struct acl *acl); /* NULL is fine; returns NULL */

size_t acl_count(const struct acl *acl);
struct rule *const *acl_rules(const struct acl *acl); /* NULL when acl is */
const struct rule *acl_rule(const struct acl *acl, size_t i);
