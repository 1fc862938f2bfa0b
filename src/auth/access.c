#include "auth/access.h"

#include "base/hashmap.h"
#include "base/mem.h"
#include "mqtt/topic.h"

#include <stdio.h>
#include <string.h>

#define KEPT_GROUP     8u /* decisions that are looked through for a topic; it may be in one group */
#define KEPT_MOST      64u /* decisions of a client that goes on coming with others */
#define KEPT_GROW      32u /* after so many that were not kept */
#define KEPT_ROOM_MIN  32u
#define KEPT_TOPIC_MAX 256u /* bytes; longer names are decided anew */

/* A decision about publishing to a topic. */
struct kept {
    uint8_t *topic; /* owned, of `room` bytes; NULL: none */
    uint32_t size, room, hash;
    uint8_t qos;
    bool retain;
    struct decision decision;
};

struct access {
    uint32_t refs;
    struct rulebook *rulebook;
    uint64_t generation; /* of what follows; 0: nothing does */
    uint64_t *concerns;  /* owned: bit n: rule n concerns this client */
    struct kept *kept;   /* owned: kept_count of them, from the first decision on, or NULL */
    uint32_t kept_count, kept_next; /* kept_next: counts those that were put in */
    struct acl *acl;
    uint8_t *client_id;  /* owned: one that came later, or NULL */
    uint16_t first_size; /* of the one before, with client_id */
    struct address address;
    bool is_superuser;
    uint16_t sizes[FACT_COUNT]; /* of the facts; all but a client_id are in `texts`, in order */
    uint8_t texts[];
};

struct access *access_new(struct rulebook *rulebook, const struct facts *facts)
{
    size_t size = 0;
    for (int i = 0; i < FACT_COUNT; i++) {
        ASSERT(facts->values[i].size <= UINT16_MAX); /* as all strings of MQTT are */
        size += facts->values[i].size;
    }
    struct access *access = mem_try_zeroed(sizeof *access + size);
    if (!access)
        return NULL;
    access->refs = 1;
    access->rulebook = rulebook;
    access->acl = acl_ref(facts->acl);
    access->address = facts->address;
    access->is_superuser = facts->is_superuser;
    uint8_t *at = access->texts;
    for (int i = 0; i < FACT_COUNT; i++) {
        const struct slice value = facts->values[i];
        if (value.size > 0)
            memcpy(at, value.bytes, value.size);
        access->sizes[i] = (uint16_t)value.size;
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

static void forget_kept(struct access *access)
{
    if (!access->kept)
        return;
    for (uint32_t i = 0; i < access->kept_count; i++)
        mem_free(access->kept[i].topic);
    mem_free(access->kept);
    access->kept = NULL;
    access->kept_count = 0;
}

/* Forgets what was found out under an earlier generation. */
static void forget(struct access *access)
{
    forget_kept(access);
    mem_free(access->concerns);
    access->concerns = NULL;
    access->generation = 0;
}

struct access *access_unref(struct access *access)
{
    if (!access || --access->refs > 0)
        return NULL;
    forget(access);
    (void)acl_unref(access->acl);
    mem_free(access->client_id);
    mem_free(access);
    return NULL;
}

struct facts access_facts(const struct access *access)
{
    struct facts facts = {
        .address = access->address, .acl = access->acl, .is_superuser = access->is_superuser};
    const uint8_t *at = access->texts;
    for (int i = 0; i < FACT_COUNT; i++) {
        const bool later = i == FACT_CLIENT_ID && access->client_id;
        facts.values[i] = slice_of(later ? access->client_id : at, access->sizes[i]);
        at += later ? access->first_size : access->sizes[i];
    }
    return facts;
}

int access_set_client_id(struct access *access, struct slice client_id)
{
    uint8_t *copy = (uint8_t *)mem_try_copy(client_id.bytes, client_id.size);
    if (!copy)
        return ERR_NOMEM;
    ASSERT(client_id.size <= UINT16_MAX);
    if (!access->client_id)
        access->first_size = access->sizes[FACT_CLIENT_ID];
    mem_free(access->client_id);
    access->client_id = copy;
    access->sizes[FACT_CLIENT_ID] = (uint16_t)client_id.size;
    forget(access);
    return 0;
}

bool access_is_checked(const struct access *access)
{
    return access && rulebook_enabled(access->rulebook) && !access->is_superuser;
}

/* --- deciding -----------------------------------------------------------------------------------
 */

/* Without memory for it, every rule is asked whom it concerns each time. */
static void find_concerns(struct access *access)
{
    const struct facts facts = access_facts(access);
    const struct rule_table table = rulebook_table(access->rulebook, &facts);
    access->generation = rulebook_generation(access->rulebook);
    access->concerns = mem_try_zeroed((table.count / 64 + 1) * sizeof *access->concerns);
    for (size_t i = 0; access->concerns && i < table.count; i++) {
        enum rule_origin origin;
        if (rule_concerns(rule_table_get(&table, i, &origin), &facts) == RULE_MATCHES)
            access->concerns[i / 64] |= UINT64_C(1) << (i % 64);
    }
}

/* Asks one rule. Returns whether it decides. */
static bool ask(const struct rule_table *table, size_t i, const struct facts *facts,
                const struct rule_request *request, struct decision *ret_decision)
{
    enum rule_origin origin;
    const struct rule *rule = rule_table_get(table, i, &origin);
    if (rule_decides(rule, facts, request) != RULE_MATCHES)
        return false;
    *ret_decision = (struct decision){.allowed = rule->allow, .rule = rule, .origin = origin};
    return true;
}

static struct decision decide(const struct access *access, const struct rule_request *request)
{
    struct decision decision = {.allowed = false};
    const struct facts facts = access_facts(access);
    const struct rule_table table = rulebook_table(access->rulebook, &facts);
    for (size_t at = 0; at < table.count && access->concerns; at += 64) {
        for (uint64_t left = access->concerns[at / 64]; left; left &= left - 1) {
            const size_t i = at + (size_t)__builtin_ctzll(left);
            if (ask(&table, i, &facts, request, &decision))
                return decision;
        }
    }
    for (size_t i = 0; i < table.count && !access->concerns; i++) {
        enum rule_origin origin;
        if (rule_concerns(rule_table_get(&table, i, &origin), &facts) == RULE_MATCHES &&
            ask(&table, i, &facts, request, &decision))
            return decision;
    }
    return decision;
}

static bool kept_is(const struct kept *kept, const struct rule_request *request, uint32_t hash)
{
    return kept->hash == hash && kept->topic && kept->size == request->topic.size &&
           kept->qos == request->qos && kept->retain == request->retain &&
           memcmp(kept->topic, request->topic.bytes, kept->size) == 0;
}

static void keep(struct access *access, struct kept *group, const struct rule_request *request,
                 uint32_t hash, const struct decision *decision)
{
    struct kept *kept = &group[access->kept_next++ % KEPT_GROUP];
    if (request->topic.size > kept->room || !kept->topic) {
        mem_free(kept->topic);
        kept->room = MAX(request->topic.size, KEPT_ROOM_MIN);
        kept->topic = mem_try_alloc(kept->room);
        if (!kept->topic)
            return;
    }
    memcpy(kept->topic, request->topic.bytes, request->topic.size);
    kept->hash = hash;
    kept->size = request->topic.size;
    kept->qos = request->qos;
    kept->retain = request->retain;
    kept->decision = *decision;
}

/* Makes room for decisions, and for more of them once that is worth it. false: no memory. */
static bool has_room(struct access *access)
{
    uint32_t count = KEPT_GROUP;
    if (access->kept && (access->kept_count == KEPT_MOST || access->kept_next < KEPT_GROW))
        return true;
    if (access->kept)
        count = KEPT_MOST;
    forget_kept(access);
    access->kept = mem_try_zeroed(count * sizeof *access->kept);
    access->kept_count = access->kept ? count : 0;
    access->kept_next = 0;
    return access->kept;
}

static struct decision decide_publish(struct access *access, const struct rule_request *request)
{
    if (request->topic.size > KEPT_TOPIC_MAX || !has_room(access))
        return decide(access, request);
    const uint32_t hash = (uint32_t)hash_bytes(request->topic.bytes, request->topic.size);
    struct kept *group = &access->kept[hash % (access->kept_count / KEPT_GROUP) * KEPT_GROUP];
    for (uint32_t i = 0; i < KEPT_GROUP; i++) {
        if (kept_is(&group[i], request, hash))
            return group[i].decision;
    }
    const struct decision decision = decide(access, request);
    keep(access, group, request, hash, &decision);
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
    const struct rule_table table = rulebook_table(rulebook, facts);
    for (size_t i = 0; i < table.count; i++) {
        enum rule_origin origin;
        const struct rule *rule = rule_table_get(&table, i, &origin);
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
                       acl_number(access->acl, decision->rule));
    else
        (void)snprintf(room, size, "policy '%s'%s", decision->rule->name,
                       decision->origin == ORIGIN_FILE ? " of the policy file" : "");
    return room;
}
