#include "auth/access.h"

#include "base/hashmap.h"
#include "base/mem.h"
#include "mqtt/topic.h"

#include <stdio.h>
#include <string.h>

#define KEPT_COUNT     8u   /* decisions; a power of two */
#define KEPT_TOPIC_MAX 256u /* bytes; longer names are decided anew */

/* A decision about publishing to a topic. */
struct kept {
    uint8_t *topic; /* owned; NULL: none */
    uint32_t size;
    uint8_t qos;
    bool retain;
    struct decision decision;
};

struct access {
    uint32_t refs;
    struct rulebook *rulebook;
    uint64_t generation; /* of what follows; 0: nothing does */
    uint64_t *concerns;  /* owned: bit n: rule n concerns this client */
    struct kept *kept;   /* owned: KEPT_COUNT of them, from the first decision on, or NULL */
    uint8_t *client_id;  /* owned: one that came later, or NULL */
    struct facts facts;  /* whose texts are in `texts` */
    uint8_t texts[];
};

struct access *access_new(struct rulebook *rulebook, const struct facts *facts)
{
    size_t size = 0;
    for (int i = 0; i < FACT_COUNT; i++)
        size += facts->values[i].size;
    struct access *access = mem_try_zeroed(sizeof *access + size);
    if (!access)
        return NULL;
    access->refs = 1;
    access->rulebook = rulebook;
    access->facts = *facts;
    (void)acl_ref(facts->acl);
    uint8_t *at = access->texts;
    for (int i = 0; i < FACT_COUNT; i++) {
        const struct slice value = facts->values[i];
        if (value.size > 0)
            memcpy(at, value.bytes, value.size);
        access->facts.values[i] = slice_of(at, value.size);
        at += value.size;
    }
    return access;
}

struct access *access_ref(struct access *access)
{
    if (access)
        access->refs++;
    return access;
}

/* Forgets what was found out under an earlier generation. */
static void forget(struct access *access)
{
    for (uint32_t i = 0; access->kept && i < KEPT_COUNT; i++)
        mem_free(access->kept[i].topic);
    mem_free(access->kept);
    mem_free(access->concerns);
    access->kept = NULL;
    access->concerns = NULL;
    access->generation = 0;
}

struct access *access_unref(struct access *access)
{
    if (!access || --access->refs > 0)
        return NULL;
    forget(access);
    (void)acl_unref(access->facts.acl);
    mem_free(access->client_id);
    mem_free(access);
    return NULL;
}

const struct facts *access_facts(const struct access *access)
{
    return &access->facts;
}

int access_set_client_id(struct access *access, struct slice client_id)
{
    uint8_t *copy = (uint8_t *)mem_try_copy(client_id.bytes, client_id.size);
    if (!copy)
        return ERR_NOMEM;
    mem_free(access->client_id);
    access->client_id = copy;
    access->facts.values[FACT_CLIENT_ID] = slice_of(copy, client_id.size);
    forget(access);
    return 0;
}

bool access_is_checked(const struct access *access)
{
    return access && rulebook_enabled(access->rulebook) && !access->facts.is_superuser;
}

/* --- deciding -----------------------------------------------------------------------------------
 */

/* Without memory for it, every rule is asked whom it concerns each time. */
static void find_concerns(struct access *access)
{
    const size_t count = rulebook_rule_count(access->rulebook, &access->facts);
    access->generation = rulebook_generation(access->rulebook);
    access->concerns = mem_try_zeroed((count / 64 + 1) * sizeof *access->concerns);
    for (size_t i = 0; access->concerns && i < count; i++) {
        enum rule_origin origin;
        const struct rule *rule = rulebook_rule(access->rulebook, &access->facts, i, &origin);
        if (rule_concerns(rule, &access->facts) == RULE_MATCHES)
            access->concerns[i / 64] |= UINT64_C(1) << (i % 64);
    }
}

static bool concerns(const struct access *access, const struct rule *rule, size_t i)
{
    if (!access->concerns)
        return rule_concerns(rule, &access->facts) == RULE_MATCHES;
    return access->concerns[i / 64] >> (i % 64) & 1;
}

static struct decision decide(const struct access *access, const struct rule_request *request)
{
    const size_t count = rulebook_rule_count(access->rulebook, &access->facts);
    for (size_t i = 0; i < count; i++) {
        enum rule_origin origin;
        const struct rule *rule = rulebook_rule(access->rulebook, &access->facts, i, &origin);
        if (concerns(access, rule, i) &&
            rule_decides(rule, &access->facts, request) == RULE_MATCHES)
            return (struct decision){.allowed = rule->allow, .rule = rule, .origin = origin};
    }
    return (struct decision){.allowed = false};
}

static bool kept_is(const struct kept *kept, const struct rule_request *request)
{
    return kept->topic && kept->size == request->topic.size && kept->qos == request->qos &&
           kept->retain == request->retain &&
           memcmp(kept->topic, request->topic.bytes, kept->size) == 0;
}

static void keep(struct kept *kept, const struct rule_request *request,
                 const struct decision *decision)
{
    mem_free(kept->topic);
    kept->topic = (uint8_t *)mem_try_copy(request->topic.bytes, request->topic.size);
    kept->size = request->topic.size;
    kept->qos = request->qos;
    kept->retain = request->retain;
    kept->decision = *decision;
}

static struct decision decide_publish(struct access *access, const struct rule_request *request)
{
    if (request->topic.size > KEPT_TOPIC_MAX)
        return decide(access, request);
    if (!access->kept)
        access->kept = mem_try_zeroed(KEPT_COUNT * sizeof *access->kept);
    if (!access->kept)
        return decide(access, request);
    const uint64_t hash = hash_bytes(request->topic.bytes, request->topic.size);
    struct kept *kept = &access->kept[(hash ^ request->qos) % KEPT_COUNT];
    if (kept_is(kept, request))
        return kept->decision;
    const struct decision decision = decide(access, request);
    keep(kept, request, &decision);
    return decision;
}

bool access_check(struct access *access, const struct rule_request *request,
                  struct decision *ret_decision)
{
    struct decision decision = {.allowed = true};
    if (access_is_checked(access)) {
        if (access->generation != rulebook_generation(access->rulebook)) {
            forget(access);
            find_concerns(access);
        }
        decision =
            request->action == RULE_PUB ? decide_publish(access, request) : decide(access, request);
    }
    if (ret_decision)
        *ret_decision = decision;
    return decision.allowed;
}

struct decision access_explain(const struct rulebook *rulebook, const struct facts *facts,
                               const struct rule_request *request, access_each_fn *each, void *data)
{
    const size_t count = rulebook_rule_count(rulebook, facts);
    for (size_t i = 0; i < count; i++) {
        enum rule_origin origin;
        const struct rule *rule = rulebook_rule(rulebook, facts, i, &origin);
        enum rule_result result = rule_concerns(rule, facts);
        if (result == RULE_MATCHES)
            result = rule_decides(rule, facts, request);
        each(data, rule, origin, result);
        if (result == RULE_MATCHES)
            return (struct decision){.allowed = rule->allow, .rule = rule, .origin = origin};
    }
    return (struct decision){.allowed = false};
}

int access_check_topic(struct slice topic, bool is_filter)
{
    return is_filter ? topic_filter_check(topic, TOPIC_NO_LIMIT)
                     : topic_name_check(topic, TOPIC_NO_LIMIT);
}

/* Its number in the ACL, from 1. */
static size_t acl_number(const struct acl *acl, const struct rule *rule)
{
    size_t i = 0;
    while (i < acl_count(acl) && acl_rule(acl, i) != rule)
        i++;
    return i + 1;
}

const char *access_reason(const struct access *access, const struct decision *decision, char *room,
                          size_t size)
{
    if (!decision->rule)
        (void)snprintf(room, size, "no rule allows it");
    else if (decision->origin == ORIGIN_ACL)
        (void)snprintf(room, size, "rule %zu that its authentication gave",
                       acl_number(access->facts.acl, decision->rule));
    else
        (void)snprintf(room, size, "policy '%s'%s", decision->rule->name,
                       decision->origin == ORIGIN_FILE ? " of the policy file" : "");
    return room;
}
