#include "auth/acl.h"

#include "auth/rule_json.h"
#include "base/mem.h"

#include <stdatomic.h>
#include <string.h>

struct acl {
    _Atomic uint32_t refs;
    size_t count;
    struct rule *rules[];
};

static int add_member(struct rule *rule, const char *name, const json_t *value,
                      struct errmsg *reterr)
{
    static const struct {
        const char *name;
        enum rule_field field;
    } members[] = {
        {"effect", RULE_EFFECT}, {"action", RULE_ACTIONS}, {"topic", RULE_RESOURCES},
        {"qos", RULE_QOS},       {"retain", RULE_RETAIN},
    };
    for (size_t i = 0; i < ARRAY_COUNT(members); i++) {
        if (strcmp(members[i].name, name) == 0)
            return rule_json_set(rule, members[i].field, value, reterr);
    }
    errmsg_wrap(reterr, "is not known; known are effect, action, topic, qos and retain");
    return ERR_INVALID;
}

static int fill_rule(struct rule *rule, const json_t *object, struct errmsg *reterr)
{
    const char *name;
    json_t *value;
    if (!json_is_object(object)) {
        errmsg_wrap(reterr, "is not an object");
        return ERR_INVALID;
    }
    rule->mqtt_only = true;
    json_object_foreach((json_t *)(uintptr_t)object, name, value)
    {
        const int err = add_member(rule, name, value, reterr);
        if (err < 0) {
            errmsg_wrap(reterr, "%.40s", name);
            return err;
        }
    }
    return rule_check(rule, /* is_policy= */ false, /* in_api= */ false, reterr);
}

int acl_new(const json_t *rules, struct acl **ret_acl, struct errmsg *reterr)
{
    const size_t count = json_array_size(rules);
    if (!json_is_array(rules) || count > ACL_RULES_MAX) {
        errmsg_wrap(reterr, "the ACL is not a list of at most %u rules", ACL_RULES_MAX);
        return ERR_INVALID;
    }
    struct acl *acl = mem_try_zeroed(sizeof *acl + count * sizeof(struct rule *));
    if (!acl)
        return ERR_NOMEM;
    acl->refs = 1;
    for (size_t i = 0; i < count; i++) {
        acl->rules[acl->count++] = rule_new();
        const int err = fill_rule(acl->rules[i], json_array_get(rules, i), reterr);
        if (err < 0) {
            errmsg_wrap(reterr, "rule %zu of the ACL", i + 1);
            (void)acl_unref(acl);
            return err;
        }
    }
    *ret_acl = acl;
    return 0;
}

int acl_parse(struct slice text, struct acl **ret_acl, struct errmsg *reterr)
{
    json_error_t error;
    json_t *rules = json_loadb((const char *)text.bytes, text.size, JSON_REJECT_DUPLICATES, &error);
    if (!rules) {
        errmsg_wrap(reterr, "the ACL is not JSON: %.200s", error.text);
        return ERR_INVALID;
    }
    const int err = acl_new(rules, ret_acl, reterr);
    json_decref(rules);
    return err;
}

struct acl *acl_ref(struct acl *acl)
{
    if (acl)
        (void)atomic_fetch_add_explicit(&acl->refs, 1, memory_order_relaxed);
    return acl;
}

struct acl *acl_unref(struct acl *acl)
{
    if (!acl || atomic_fetch_sub_explicit(&acl->refs, 1, memory_order_acq_rel) > 1)
        return NULL;
    for (size_t i = 0; i < acl->count; i++)
        (void)rule_free(acl->rules[i]);
    mem_free(acl);
    return NULL;
}

size_t acl_count(const struct acl *acl)
{
    return acl ? acl->count : 0;
}

struct rule *const *acl_rules(const struct acl *acl)
{
    return acl ? acl->rules : NULL;
}

const struct rule *acl_rule(const struct acl *acl, size_t i)
{
    ASSERT(i < acl->count);
    return acl->rules[i];
}
