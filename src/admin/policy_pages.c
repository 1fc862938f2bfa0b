/* The rulebook for the command line: lists, and what it would decide. */
#include "admin/pages.h"
#include "auth/access.h"
#include "auth/rule_json.h"

#include <string.h>

/* A list that is one page. `rows` is taken. */
static void reply_list(struct request *request, const char *what, json_t *rows)
{
    json_t *answer = json_object();
    (void)json_object_set_new(answer, what, rows);
    (void)json_object_set_new(answer, "next", json_null());
    request_reply_json(request, MHD_HTTP_OK, answer);
}

static const char *origin_name(enum rule_origin origin)
{
    return origin == ORIGIN_FILE ? "file" : "stored";
}

static json_t *policy_json(const struct rule *rule, enum rule_origin origin)
{
    json_t *row = rule_json_item(rule);
    (void)json_object_set_new(row, "Source", json_string(origin_name(origin)));
    return row;
}

void pages_policies(struct request *request, const char *rest)
{
    (void)rest;
    json_t *rows = json_array();
    for (int origin = ORIGIN_FILE; origin <= ORIGIN_STORED; origin++) {
        const struct policies *policies =
            rulebook_policies(request->admin->deps.rulebook, (enum rule_origin)origin);
        for (size_t i = 0; i < policies->count; i++) {
            (void)json_array_append_new(rows,
                                        policy_json(policies->items[i], (enum rule_origin)origin));
        }
    }
    reply_list(request, "policies", rows);
}

void pages_blocks(struct request *request, const char *rest)
{
    (void)rest;
    const uint64_t now_ms = loop_wall_ms(request->admin->deps.loop);
    json_t *rows = json_array();
    for (int origin = ORIGIN_FILE; origin <= ORIGIN_STORED; origin++) {
        const struct blocks *blocks =
            rulebook_blocks(request->admin->deps.rulebook, (enum rule_origin)origin);
        for (size_t i = 0; i < blocks->count; i++) {
            if (block_expired(blocks->items[i], now_ms)) {
                continue;
            }
            json_t *row = block_json_item(blocks->items[i]);
            (void)json_object_set_new(row, "Source",
                                      json_string(origin_name((enum rule_origin)origin)));
            (void)json_array_append_new(rows, row);
        }
    }
    reply_list(request, "blocks", rows);
}

/* --- what would be decided ---------------------------------------------------------------------
 */

static void read_facts(const struct request *request, struct facts *ret_facts)
{
    struct slice address = slice_of("", 0);
    *ret_facts = (struct facts){.acl = NULL};
    for (int i = 0; i < FACT_COUNT; i++) {
        ret_facts->values[i] = slice_of("", 0);
        (void)request_argument(request, fact_name((enum fact)i), &ret_facts->values[i]);
    }
    (void)request_argument(request, "client_id", &ret_facts->values[FACT_CLIENT_ID]);
    (void)request_argument(request, "username", &ret_facts->values[FACT_USERNAME]);
    (void)request_argument(request, "address", &address);
    ret_facts->address = address_parse(address);
}

/* Returns false when the request has been refused. */
static bool read_wish(struct request *request, struct rule_request *ret_wish)
{
    static const struct {
        const char *name;
        enum rule_action action;
    } actions[] = {{"connect", RULE_CONNECT}, {"pub", RULE_PUB}, {"sub", RULE_SUB}};
    struct slice action = slice_of("", 0), qos = slice_str("0"), retain = slice_of("", 0);
    *ret_wish = (struct rule_request){.topic = slice_of("", 0)};
    (void)request_argument(request, "action", &action);
    (void)request_argument(request, "topic", &ret_wish->topic);
    (void)request_argument(request, "qos", &qos);
    (void)request_argument(request, "retain", &retain);
    bool known = false;
    for (size_t i = 0; i < ARRAY_COUNT(actions); i++) {
        if (slice_equal(action, slice_str(actions[i].name))) {
            ret_wish->action = actions[i].action;
            known = true;
        }
    }
    if (!known) {
        request_reply_problem(request, MHD_HTTP_BAD_REQUEST, "action is connect, pub or sub");
        return false;
    }
    if (qos.size != 1 || qos.bytes[0] < '0' || qos.bytes[0] > '2') {
        request_reply_problem(request, MHD_HTTP_BAD_REQUEST, "qos is 0, 1 or 2");
        return false;
    }
    ret_wish->qos = (uint8_t)(qos.bytes[0] - '0');
    ret_wish->retain = slice_equal(retain, slice_str("true"));
    return true;
}

/* Returns false when the request has been refused. */
static bool check_topic(struct request *request, const struct rule_request *wish)
{
    int err = 0;
    if (wish->action == RULE_PUB) {
        err = access_check_topic(wish->topic, /* is_filter= */ false);
    } else if (wish->action == RULE_SUB) {
        err = access_check_topic(wish->topic, /* is_filter= */ true);
    }
    if (err < 0) {
        request_reply_problem(request, MHD_HTTP_BAD_REQUEST, "topic is not a topic %s",
                              wish->action == RULE_PUB ? "name" : "filter");
    }
    return err == 0;
}

static void add_step(void *data, const struct rule *rule, enum rule_origin origin,
                     enum rule_result result)
{
    json_t *row = json_object();
    (void)json_object_set_new(row, "policy", json_string(rule->name));
    (void)json_object_set_new(row, "source", json_string(origin_name(origin)));
    (void)json_object_set_new(row, "priority", json_integer(rule->priority));
    (void)json_object_set_new(row, "effect", json_string(rule->allow ? "allow" : "deny"));
    (void)json_object_set_new(row, "matches", json_boolean(result == RULE_MATCHES));
    (void)json_object_set_new(row, "why", json_string(rule_result_text(result)));
    (void)json_array_append_new(data, row);
}

void pages_policy_test(struct request *request, const char *rest)
{
    (void)rest;
    struct facts facts;
    struct rule_request wish;
    const struct rulebook *rulebook = request->admin->deps.rulebook;
    read_facts(request, &facts);
    if (!read_wish(request, &wish) || !check_topic(request, &wish)) {
        return;
    }
    json_t *steps = json_array();
    json_t *answer = json_object();
    const struct block *block =
        rulebook_blocks_client(rulebook, &facts, loop_wall_ms(request->admin->deps.loop));
    const struct decision decision = access_explain(rulebook, &facts, &wish, add_step, steps);
    const bool enabled = rulebook_enabled(rulebook);
    (void)json_object_set_new(answer, "allowed",
                              json_boolean(!block && (!enabled || decision.allowed)));
    (void)json_object_set_new(answer, "enabled", json_boolean(enabled));
    (void)json_object_set_new(answer, "blocked_by", block ? json_string(block->name) : json_null());
    (void)json_object_set_new(answer, "policy",
                              decision.rule ? json_string(decision.rule->name) : json_null());
    (void)json_object_set_new(answer, "steps", steps);
    request_reply_json(request, MHD_HTTP_OK, answer);
}
