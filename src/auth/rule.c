#include "auth/rule.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <string.h>

struct rule *rule_new(void)
{
    return mem_new(sizeof(struct rule));
}

struct rule *rule_free(struct rule *rule)
{
    if (!rule)
        return NULL;
    for (uint32_t i = 0; i < rule->resource_count; i++)
        (void)pattern_free(rule->resources[i]);
    mem_free(rule->resources);
    mem_free(rule->heads);
    (void)pattern_free(rule->client_id);
    (void)pattern_free(rule->username);
    mem_free(rule->networks);
    mem_free(rule->ip);
    mem_free(rule->name);
    mem_free(rule->remark);
    mem_free(rule);
    return NULL;
}

/* --- fields -------------------------------------------------------------------------------------
 */

static const struct {
    const char *file, *api;
} fields[RULE_FIELD_COUNT] = {
    [RULE_NAME] = {"name", "PolicyName"},
    [RULE_VERSION] = {"policy_version", "PolicyVersion"},
    [RULE_PRIORITY] = {"priority", "Priority"},
    [RULE_EFFECT] = {"effect", "Effect"},
    [RULE_ACTIONS] = {"actions", "Actions"},
    [RULE_RESOURCES] = {"resources", "Resources"},
    [RULE_CLIENT_ID] = {"client_id", "ClientId"},
    [RULE_USERNAME] = {"username", "Username"},
    [RULE_IP] = {"ip", "Ip"},
    [RULE_QOS] = {"qos", "Qos"},
    [RULE_RETAIN] = {"retain", "Retain"},
    [RULE_REMARK] = {"remark", "Remark"},
};

const char *rule_field_name(enum rule_field field, bool in_api)
{
    return in_api ? fields[field].api : fields[field].file;
}

enum rule_field rule_field_find(struct slice name, bool in_api)
{
    int field = 0;
    while (field < RULE_FIELD_COUNT &&
           !slice_equal(slice_str(rule_field_name((enum rule_field)field, in_api)), name))
        field++;
    return (enum rule_field)field;
}

static int refuse(struct errmsg *reterr, struct slice value, const char *allowed)
{
    errmsg_wrap(reterr, "'%.*s' is not allowed; allowed is %s", (int)MIN(value.size, 100u),
                (const char *)value.bytes, allowed);
    return ERR_INVALID;
}

static struct slice trimmed(struct slice text)
{
    while (text.size > 0 && text.bytes[0] == ' ')
        text = slice_of(text.bytes + 1, text.size - 1);
    while (text.size > 0 && text.bytes[text.size - 1] == ' ')
        text.size--;
    return text;
}

typedef int item_fn(struct rule *rule, struct slice item, struct errmsg *reterr);

/* Gives every item to `each`. */
static int each_item(struct rule *rule, struct rule_value value, item_fn *each,
                     struct errmsg *reterr)
{
    int err = 0;
    for (size_t i = 0; i < value.count && err == 0; i++) {
        struct slice rest = value.items[i];
        const uint8_t *comma = NULL;
        do {
            comma = value.is_list ? NULL : memchr(rest.bytes, ',', rest.size);
            const size_t size = comma ? (size_t)(comma - rest.bytes) : rest.size;
            err = each(rule, trimmed(slice_of(rest.bytes, size)), reterr);
            rest = slice_of(rest.bytes + size + 1, comma ? rest.size - size - 1 : 0);
        } while (comma && err == 0);
    }
    return err;
}

static int add_action(struct rule *rule, struct slice item, struct errmsg *reterr)
{
    static const struct {
        const char *name;
        uint8_t actions;
    } rows[] = {
        {"connect", RULE_CONNECT}, {"pub", RULE_PUB},
        {"publish", RULE_PUB},     {"sub", RULE_SUB},
        {"subscribe", RULE_SUB},   {"all", RULE_CONNECT | RULE_PUB | RULE_SUB},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (slice_equal(slice_str(rows[i].name), item)) {
            rule->actions |= rows[i].actions;
            return 0;
        }
    }
    return refuse(reterr, item, "connect, pub and sub");
}

static int add_qos(struct rule *rule, struct slice item, struct errmsg *reterr)
{
    if (item.size != 1 || item.bytes[0] < '0' || item.bytes[0] > '2')
        return refuse(reterr, item, "0, 1 and 2");
    rule->qos |= (uint8_t)(1u << (item.bytes[0] - '0'));
    return 0;
}

static int add_resource(struct rule *rule, struct slice item, struct errmsg *reterr)
{
    if (rule->resource_count == RULE_RESOURCES_MAX) {
        errmsg_wrap(reterr, "too many topics; allowed are %u", RULE_RESOURCES_MAX);
        return ERR_INVALID;
    }
    rule->resources =
        mem_grow(rule->resources, (rule->resource_count + 1) * sizeof(struct pattern *));
    const int err = pattern_new(rule->mqtt_only ? PATTERN_FILTER : PATTERN_TOPIC, item,
                                &rule->resources[rule->resource_count], reterr);
    if (err < 0)
        return err;
    rule->heads = mem_grow(rule->heads, (rule->resource_count + 1) * sizeof *rule->heads);
    rule->heads[rule->resource_count] = pattern_head(rule->resources[rule->resource_count]);
    rule->resource_count++;
    return 0;
}

static int add_network(struct rule *rule, struct slice item, struct errmsg *reterr)
{
    struct network network;
    if (rule->network_count == RULE_NETWORKS_MAX) {
        errmsg_wrap(reterr, "too many addresses; allowed are %u", RULE_NETWORKS_MAX);
        return ERR_INVALID;
    }
    if (network_parse(item, &network) < 0)
        return refuse(reterr, item, "an IP address, or a range such as 10.0.0.0/8");
    rule->networks = mem_grow(rule->networks, (rule->network_count + 1) * sizeof network);
    rule->networks[rule->network_count++] = network;
    return 0;
}

static int set_effect(struct rule *rule, struct slice item, struct errmsg *reterr)
{
    rule->allow = slice_equal(item, slice_str("allow"));
    rule->has_effect = true;
    if (!rule->allow && !slice_equal(item, slice_str("deny")))
        return refuse(reterr, item, "allow or deny");
    return 0;
}

static int set_retain(struct rule *rule, struct slice item, struct errmsg *reterr)
{
    static const struct {
        const char *name;
        uint8_t retain;
    } rows[] = {
        {"true", RULE_RETAINED}, {"false", RULE_NOT_RETAINED}, {"any", RULE_RETAIN_ANY},
        {"1", RULE_RETAINED},    {"2", RULE_NOT_RETAINED},     {"3", RULE_RETAIN_ANY},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (slice_equal(slice_str(rows[i].name), item)) {
            rule->retain = rows[i].retain;
            return 0;
        }
    }
    return refuse(reterr, item, "true (or 1), false (or 2) and any (or 3)");
}

static int set_version(struct rule *rule, struct slice item, struct errmsg *reterr)
{
    rule->has_version = true;
    return slice_equal(item, slice_str("1")) ? 0 : refuse(reterr, item, "1");
}

static int set_priority(struct rule *rule, struct slice item, struct errmsg *reterr)
{
    uint32_t value = 0;
    bool sound = item.size > 0 && item.size <= 7;
    for (uint32_t i = 0; i < item.size && sound; i++) {
        sound = item.bytes[i] >= '0' && item.bytes[i] <= '9';
        value = value * 10 + (uint32_t)(item.bytes[i] - '0');
    }
    if (!sound || value < 1 || value > RULE_PRIORITY_MAX)
        return refuse(reterr, item, "a number from 1 to 1000000; smaller ones decide first");
    rule->priority = value;
    rule->has_priority = true;
    return 0;
}

/* Characters, or -1 for what is no text or has control characters. */
static int64_t character_count(struct slice text)
{
    int64_t count = 0;
    if (!utf8_check(text.bytes, text.size))
        return -1;
    for (uint32_t i = 0; i < text.size; i++) {
        if (text.bytes[i] < ' ' || text.bytes[i] == 0x7f)
            return -1;
        count += (text.bytes[i] & 0xc0) != 0x80;
    }
    return count;
}

static int set_text(char **text, struct slice item)
{
    *text = mem_try_copy(item.bytes, item.size);
    return *text ? 0 : ERR_NOMEM;
}

static int set_name(struct rule *rule, struct slice item, struct errmsg *reterr)
{
    const int64_t count = character_count(item);
    if (count < RULE_NAME_MIN || count > RULE_NAME_MAX)
        return refuse(reterr, item, "a name of 3 to 64 characters");
    return set_text(&rule->name, item);
}

static int set_remark(struct rule *rule, struct slice item, struct errmsg *reterr)
{
    const int64_t count = character_count(item);
    if (count < 0 || count > RULE_REMARK_MAX)
        return refuse(reterr, item, "a text of at most 128 characters in one line");
    return set_text(&rule->remark, item);
}

/* Fields of one text; commas in it are its own. */
static int set_single(struct rule *rule, enum rule_field field, struct rule_value value,
                      struct errmsg *reterr)
{
    const struct slice item = value.items[0];
    if (value.count != 1 || value.is_list) {
        errmsg_wrap(reterr, "takes one value, not a list");
        return ERR_INVALID;
    }
    if (field == RULE_NAME)
        return set_name(rule, item, reterr);
    if (field == RULE_VERSION)
        return set_version(rule, item, reterr);
    if (field == RULE_PRIORITY)
        return set_priority(rule, item, reterr);
    if (field == RULE_EFFECT)
        return set_effect(rule, item, reterr);
    if (field == RULE_RETAIN)
        return set_retain(rule, item, reterr);
    if (field == RULE_REMARK)
        return set_remark(rule, item, reterr);
    return pattern_new(PATTERN_NAME, item,
                       field == RULE_CLIENT_ID ? &rule->client_id : &rule->username, reterr);
}

/* Keeps the addresses as written, joined by commas. */
static int set_ip(struct rule *rule, struct rule_value value, struct errmsg *reterr)
{
    int err = each_item(rule, value, add_network, reterr);
    size_t size = 0;
    for (size_t i = 0; i < value.count; i++)
        size += value.items[i].size + 1;
    if (err == 0)
        rule->ip = mem_try_alloc(size);
    if (!rule->ip)
        return err < 0 ? err : ERR_NOMEM;
    size_t at = 0;
    for (size_t i = 0; i < value.count; i++) {
        memcpy(rule->ip + at, value.items[i].bytes, value.items[i].size);
        at += value.items[i].size;
        rule->ip[at++] = i + 1 < value.count ? ',' : '\0';
    }
    return 0;
}

static bool is_set(const struct rule *rule, enum rule_field field)
{
    const bool set[RULE_FIELD_COUNT] = {
        [RULE_NAME] = rule->name,
        [RULE_VERSION] = rule->has_version,
        [RULE_PRIORITY] = rule->has_priority,
        [RULE_EFFECT] = rule->has_effect,
        [RULE_ACTIONS] = rule->actions != 0,
        [RULE_RESOURCES] = rule->resource_count > 0,
        [RULE_CLIENT_ID] = rule->client_id,
        [RULE_USERNAME] = rule->username,
        [RULE_IP] = rule->ip,
        [RULE_QOS] = rule->qos != 0,
        [RULE_RETAIN] = rule->retain != 0,
        [RULE_REMARK] = rule->remark,
    };
    return set[field];
}

int rule_set(struct rule *rule, enum rule_field field, struct rule_value value,
             struct errmsg *reterr)
{
    ASSERT(field < RULE_FIELD_COUNT);
    if (is_set(rule, field)) {
        errmsg_wrap(reterr, "is given twice");
        return ERR_INVALID;
    }
    if (value.count == 1 && !value.is_list && value.items[0].size == 0)
        return 0;
    if (value.count == 0) {
        errmsg_wrap(reterr, "is an empty list; leave it out where nothing is to be compared");
        return ERR_INVALID;
    }
    if (field == RULE_ACTIONS)
        return each_item(rule, value, add_action, reterr);
    if (field == RULE_QOS)
        return each_item(rule, value, add_qos, reterr);
    if (field == RULE_RESOURCES)
        return each_item(rule, value, add_resource, reterr);
    if (field == RULE_IP)
        return set_ip(rule, value, reterr);
    return set_single(rule, field, value, reterr);
}

int rule_check(struct rule *rule, bool is_policy, bool in_api, struct errmsg *reterr)
{
    static const enum rule_field needed[] = {RULE_EFFECT, RULE_ACTIONS, RULE_NAME, RULE_PRIORITY};
    for (size_t i = 0; i < (is_policy ? ARRAY_COUNT(needed) : 2); i++) {
        if (!is_set(rule, needed[i])) {
            errmsg_wrap(reterr, "%s is missing", rule_field_name(needed[i], in_api));
            return ERR_INVALID;
        }
    }
    if (rule->qos == 0)
        rule->qos = RULE_QOS_ANY;
    if (rule->retain == 0)
        rule->retain = RULE_RETAIN_ANY;
    return 0;
}

/* --- deciding -----------------------------------------------------------------------------------
 */

enum rule_result rule_concerns(const struct rule *rule, const struct facts *facts)
{
    const struct pattern_client client = {.facts = facts};
    if (rule->client_id && !pattern_matches(rule->client_id, client, facts->values[FACT_CLIENT_ID]))
        return RULE_OTHER_CLIENT;
    if (rule->username && !pattern_matches(rule->username, client, facts->values[FACT_USERNAME]))
        return RULE_OTHER_USERNAME;
    if (rule->network_count == 0)
        return RULE_MATCHES;
    for (uint32_t i = 0; i < rule->network_count; i++) {
        if (network_has(&rule->networks[i], &facts->address))
            return RULE_MATCHES;
    }
    return RULE_OTHER_ADDRESS;
}

static bool topic_decides(const struct rule *rule, const struct pattern *pattern,
                          const struct facts *facts, const struct rule_request *request)
{
    const struct pattern_client client = {.facts = facts, .strict = rule->allow};
    if (request->action == RULE_PUB)
        return pattern_matches(pattern, client, request->topic);
    return rule->allow ? pattern_covers(pattern, client, request->topic)
                       : pattern_overlaps(pattern, client, request->topic);
}

enum rule_result rule_decides(const struct rule *rule, const struct facts *facts,
                              const struct rule_request *request)
{
    if (!(rule->actions & request->action))
        return RULE_OTHER_ACTION;
    if (request->action == RULE_CONNECT)
        return RULE_MATCHES;
    if (!(rule->qos & (1u << request->qos)))
        return RULE_OTHER_QOS;
    if (request->action == RULE_PUB &&
        !(rule->retain & (request->retain ? RULE_RETAINED : RULE_NOT_RETAINED)))
        return RULE_OTHER_RETAIN;
    if (rule->resource_count == 0)
        return RULE_MATCHES;
    const uint64_t head = pattern_head_of(request->topic);
    /* A filter may overlap with what begins otherwise. */
    const bool by_head = request->action == RULE_PUB || rule->allow;
    for (uint32_t i = 0; i < rule->resource_count; i++) {
        if (by_head && (head & rule->heads[i].mask) != rule->heads[i].bits)
            continue;
        if (topic_decides(rule, rule->resources[i], facts, request))
            return RULE_MATCHES;
    }
    return RULE_OTHER_TOPIC;
}

const char *rule_result_text(enum rule_result result)
{
    switch (result) {
    case RULE_MATCHES:
        return "it matches";
    case RULE_OTHER_ACTION:
        return "it is about other actions";
    case RULE_OTHER_CLIENT:
        return "the client ID does not match";
    case RULE_OTHER_USERNAME:
        return "the user name does not match";
    case RULE_OTHER_ADDRESS:
        return "the address does not match";
    case RULE_OTHER_QOS:
        return "it is about another QoS";
    case RULE_OTHER_RETAIN:
        return "it is about another RETAIN flag";
    case RULE_OTHER_TOPIC:
        return "no topic of it matches";
    }
    return "";
}
