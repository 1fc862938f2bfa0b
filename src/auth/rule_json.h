/* Policies as JSON: the items of the control plane, which the rows of stored ones are too. Pure;
 * any thread. */
#pragma once

#include "auth/rule.h"

#include <jansson.h>

/* Sets a field from a text, number, switch, or a list of them; null leaves it out. As rule_set. */
MUST_CHECK int rule_json_set(struct rule *rule, enum rule_field field, const json_t *value,
                             struct errmsg *reterr);
/* Reads a policy from the parameters of CreateAuthorizationPolicy, or from what rule_json_item
 * made; members that are no field are passed over. Returns 0; ERR_INVALID with the field in reterr
 * ("Qos: …"); ERR_NOMEM. */
MUST_CHECK int rule_json_read(const json_t *object, struct rule **ret_rule, struct errmsg *reterr);
/* An AuthorizationPolicyItem without InstanceId; NULL when out of memory. */
json_t *rule_json_item(const struct rule *rule);
