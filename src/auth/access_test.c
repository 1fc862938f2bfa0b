/* The rulebook and decisions: order, origins, kept decisions and generations, block rules. */
#include "auth/access.h"

#include "auth/rule_json.h"
#include "base/mem.h"
#include "base/unit.h"

#include <stdio.h>
#include <string.h>

static json_t *json_of(const char *text)
{
    char quoted[1024];
    const size_t size = strlen(text);
    assert_true(size < sizeof quoted);
    for (size_t i = 0; i <= size; i++)
        quoted[i] = text[i] == '\'' ? '"' : text[i];
    json_t *json = json_loads(quoted, 0, NULL);
    if (!json)
        fail_msg("not JSON: %s", text);
    return json;
}

static struct rule *rule_of(const char *text)
{
    struct rule *rule = NULL;
    struct errmsg why = {0};
    json_t *json = json_of(text);
    if (rule_json_read(json, &rule, &why) < 0)
        fail_msg("%s: %s", text, why.text);
    json_decref(json);
    return rule;
}

/* A policy that allows or denies publishing to a topic. */
static struct rule *policy(const char *name, int priority, const char *effect, const char *topic)
{
    char text[256];
    (void)snprintf(text, sizeof text,
                   "{'PolicyName':'%s','Priority':%d,'Effect':'%s','Actions':'pub',"
                   "'Resources':'%s','Id':%d}",
                   name, priority, effect, topic, priority);
    return rule_of(text);
}

static struct facts facts_of(const char *client_id)
{
    struct facts facts = {.address = address_parse(slice_str("192.0.2.7:1"))};
    facts.values[FACT_CLIENT_ID] = slice_str(client_id);
    return facts;
}

static struct rulebook *book_of(struct rule **file, size_t count)
{
    struct rulebook *rulebook = rulebook_new();
    struct policies policies = {0};
    struct blocks blocks = {0};
    for (size_t i = 0; i < count; i++)
        assert_int_equal(policies_add(&policies, file[i], NULL), 0);
    rulebook_configure(rulebook, true, &policies, &blocks);
    return rulebook;
}

static bool may_publish(struct access *access, const char *topic, struct decision *ret_decision)
{
    const struct rule_request request = {.action = RULE_PUB, .topic = slice_str(topic)};
    return access_check(access, &request, ret_decision);
}

static void the_first_that_matches_decides(void **state)
{
    (void)state;
    struct rule *file[] = {policy("file-late", 20, "allow", "a/#"),
                           policy("file-early", 10, "deny", "a/x")};
    struct rulebook *rulebook = book_of(file, 2);
    rulebook_put_policy(rulebook, policy("stored-1", 1, "deny", "a/#"));
    rulebook_put_policy(rulebook, policy("stored-2", 2, "deny", "c"));
    struct facts facts = facts_of("c1");
    json_t *rules = json_of("[{'effect':'deny','action':'pub','topic':'b/x'},"
                            "{'effect':'allow','action':'pub','topic':['b/#','c']}]");
    assert_int_equal(acl_new(rules, &facts.acl, NULL), 0);
    json_decref(rules);
    struct access *access = access_new(rulebook, &facts);
    (void)acl_unref(facts.acl);
    static const struct {
        const char *topic, *reason;
        bool allowed;
    } rows[] = {
        {"a/y", "policy 'file-late' of the policy file", true},
        {"a/x", "policy 'file-early' of the policy file", false},
        {"c", "policy 'stored-2'", false},
        {"b/y", "rule 2 that its authentication gave", true},
        {"b/x", "rule 1 that its authentication gave", false},
        {"d", "no rule allows it", false},
    };
    for (int round = 0; round < 2; round++) { /* the second from what was kept */
        for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
            struct decision decision;
            char room[128];
            assert_int_equal(may_publish(access, rows[i].topic, &decision), rows[i].allowed);
            assert_string_equal(access_reason(access, &decision, room, sizeof room),
                                rows[i].reason);
        }
    }
    (void)access_unref(access);
    (void)rulebook_free(rulebook);
}

static void nobody_is_checked_without_a_switch(void **state)
{
    (void)state;
    struct rulebook *rulebook = rulebook_new();
    struct facts facts = facts_of("c1");
    struct access *access = access_new(rulebook, &facts);
    assert_true(may_publish(NULL, "a", NULL));
    assert_true(may_publish(access, "a", NULL));
    struct policies policies = {0};
    struct blocks blocks = {0};
    rulebook_configure(rulebook, true, &policies, &blocks);
    assert_false(may_publish(access, "a", NULL));
    facts.is_superuser = true;
    struct access *superuser = access_new(rulebook, &facts);
    assert_true(may_publish(superuser, "a", NULL));
    (void)access_unref(superuser);
    (void)access_unref(access);
    (void)rulebook_free(rulebook);
}

static void changed(void *data)
{
    (*(int *)data)++;
}

static void a_change_counts_at_once(void **state)
{
    (void)state;
    int changes = 0;
    struct rulebook *rulebook = book_of(NULL, 0);
    rulebook_watch(rulebook, changed, &changes);
    const struct facts facts = facts_of("c1");
    struct access *access = access_ref(access_new(rulebook, &facts));
    (void)access_unref(access);
    assert_false(may_publish(access, "a", NULL));
    const uint64_t before = rulebook_generation(rulebook);
    rulebook_put_policy(rulebook, policy("all", 1, "allow", "*"));
    assert_true(rulebook_generation(rulebook) != before);
    assert_true(may_publish(access, "a", NULL));
    rulebook_put_policy(rulebook, policy("all", 1, "deny", "*")); /* in place of the other */
    assert_false(may_publish(access, "a", NULL));
    rulebook_remove_policy(rulebook, 99);
    assert_int_equal(changes, 2);
    rulebook_remove_policy(rulebook, 1);
    assert_int_equal(changes, 3);
    assert_int_equal(rulebook_policies(rulebook, ORIGIN_STORED)->count, 0);
    (void)access_unref(access);
    (void)rulebook_free(rulebook);
}

/* Kept decisions are for one topic, QoS and RETAIN flag each, however many there are. */
static void kept_decisions_do_not_mix(void **state)
{
    (void)state;
    struct rule *file[] = {
        policy("even", 1, "allow", "t/*0"),
        rule_of("{'PolicyName':'low','Priority':2,'Effect':'allow','Actions':'pub','Qos':'0',"
                "'Retain':2,'Resources':'t/#'}"),
    };
    struct rulebook *rulebook = book_of(file, 2);
    const struct facts facts = facts_of("c1");
    struct access *access = access_new(rulebook, &facts);
    for (int i = 0; i < 2000; i++) {
        char topic[512];
        const int n = i % 100;
        const int pad = i % 7 == 0 ? 300 : 1; /* some are too long to be kept */
        (void)snprintf(topic, sizeof topic, "t/%0*d", pad, n);
        const struct rule_request request = {.action = RULE_PUB,
                                             .topic = slice_str(topic),
                                             .qos = (uint8_t)(i / 100 % 2),
                                             .retain = i / 200 % 2};
        const bool expected = n % 10 == 0 || (request.qos == 0 && !request.retain);
        assert_int_equal(access_check(access, &request, NULL), expected);
    }
    (void)access_unref(access);
    (void)rulebook_free(rulebook);
}

static void outlives_missing_memory(void **state)
{
    (void)state;
    struct rule *file[] = {policy("own", 1, "allow", "t/${ClientId}")};
    struct rulebook *rulebook = book_of(file, 1);
    const struct facts facts = facts_of("c1");
    mem_fail_at(1);
    assert_null(access_new(rulebook, &facts));
    mem_fail_at(0);
    for (uint64_t n = 1; n <= 4; n++) {
        struct access *access = access_new(rulebook, &facts);
        mem_fail_at(n);
        assert_true(may_publish(access, "t/c1", NULL));
        assert_false(may_publish(access, "t/c2", NULL));
        mem_fail_at(0);
        (void)access_unref(access);
    }
    struct access *access = access_new(rulebook, &facts);
    assert_int_equal(access_set_client_id(access, slice_str("c2")), 0);
    assert_true(may_publish(access, "t/c2", NULL));
    assert_false(may_publish(access, "t/c1", NULL));
    mem_fail_at(1);
    assert_int_equal(access_set_client_id(access, slice_str("c3")), ERR_NOMEM);
    mem_fail_at(0);
    assert_true(may_publish(access, "t/c2", NULL));
    (void)access_unref(access);
    (void)rulebook_free(rulebook);
}

static void names_and_priorities_are_unique(void **state)
{
    (void)state;
    struct rulebook *rulebook = book_of(NULL, 0);
    struct errmsg why = {0};
    rulebook_put_policy(rulebook, policy("one", 1, "allow", "a"));
    struct rule *rule = policy("one", 2, "allow", "a");
    assert_int_equal(rulebook_check_policy(rulebook, rule, &why), ERR_EXISTS);
    assert_string_equal(why.text, "there is a policy of the name 'one' already");
    (void)rule_free(rule);
    rule = policy("two", 1, "allow", "a");
    rule->id = 2;
    why.text[0] = '\0';
    assert_int_equal(rulebook_check_policy(rulebook, rule, &why), ERR_EXISTS);
    assert_string_equal(why.text, "policy 'one' has the priority 1 already; give this one another");
    rule->id = 1; /* then it takes its place */
    assert_int_equal(rulebook_check_policy(rulebook, rule, &why), 0);
    (void)rule_free(rule);
    for (uint32_t i = 2; i <= RULEBOOK_POLICIES_MAX; i++) {
        char name[16];
        (void)snprintf(name, sizeof name, "p-%u", i);
        rulebook_put_policy(rulebook, policy(name, (int)i, "allow", "a"));
    }
    rule = policy("last", 5000, "allow", "a");
    assert_int_equal(rulebook_check_policy(rulebook, rule, &why), ERR_FULL);
    (void)rule_free(rule);
    const struct policies *stored = rulebook_policies(rulebook, ORIGIN_STORED);
    for (size_t i = 1; i < stored->count; i++)
        assert_true(stored->items[i - 1]->priority < stored->items[i]->priority);
    assert_non_null(rulebook_policy_named(rulebook, slice_str("p-7")));
    assert_null(rulebook_policy_named(rulebook, slice_str("p-7x")));
    (void)rulebook_free(rulebook);
}

struct told {
    enum rule_result results[8];
    size_t count;
};

static void tell(void *data, const struct rule *rule, enum rule_origin origin,
                 enum rule_result result)
{
    struct told *told = data;
    assert_non_null(rule);
    assert_int_equal(origin, ORIGIN_FILE);
    told->results[told->count++] = result;
}

static void decisions_are_explained(void **state)
{
    (void)state;
    struct rule *file[] = {
        rule_of("{'PolicyName':'client','Priority':1,'Effect':'allow','Actions':'pub',"
                "'ClientId':'x*'}"),
        policy("topic", 2, "allow", "b"),
        policy("hit", 3, "deny", "a"),
        policy("never", 4, "allow", "a"),
    };
    struct rulebook *rulebook = book_of(file, 4);
    const struct facts facts = facts_of("c1");
    const struct rule_request request = {.action = RULE_PUB, .topic = slice_str("a")};
    struct told told = {.count = 0};
    const struct decision decision = access_explain(rulebook, &facts, &request, tell, &told);
    assert_false(decision.allowed);
    assert_string_equal(decision.rule->name, "hit");
    assert_int_equal(told.count, 3);
    assert_int_equal(told.results[0], RULE_OTHER_CLIENT);
    assert_int_equal(told.results[1], RULE_OTHER_TOPIC);
    assert_int_equal(told.results[2], RULE_MATCHES);
    (void)rulebook_free(rulebook);
}

/* --- block rules --------------------------------------------------------------------------------
 */

static struct block *block_of(const char *text)
{
    struct block *block = NULL;
    struct errmsg why = {0};
    json_t *json = json_of(text);
    if (block_json_read(json, &block, &why) < 0)
        fail_msg("%s: %s", text, why.text);
    json_decref(json);
    return block;
}

static void blocks_find_clients(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        bool has;
    } rows[] = {
        {"'Type':1,'Include':'dev-*'", true},
        {"'Type':1,'Include':'dev-?'", true},
        {"'Type':1,'Include':'dev?-?'", false},
        {"'Type':1,'Include':'*','Excludes':['x','dev-1']", false},
        {"'Type':1,'Include':'*','Excludes':['x','dev-2*']", true},
        {"'Type':2,'Include':'us*'", true},
        {"'Type':2,'Include':'dev-*'", false},
        {"'Type':3,'Include':'192.0.2.7'", true},
        {"'Type':3,'Include':'192.0.2.*'", true},
        {"'Type':3,'Include':'192.0.0.0/16'", true},
        {"'Type':3,'Include':'192.0.0.0/16','Excludes':['192.0.2.0/24']", false},
        {"'Type':3,'Include':'::/0'", false},
        {"'Type':1,'Include':'*','ExpireTime':1000", false},
        {"'Type':1,'Include':'*','ExpireTime':1001", true},
    };
    struct facts facts = facts_of("dev-1");
    facts.values[FACT_USERNAME] = slice_str("user");
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "{'Name':'b-1',%s}", rows[i].fields);
        struct block *block = block_of(text);
        if (block_has(block, &facts, 1000) != rows[i].has)
            fail_msg("%s", text);
        (void)block_free(block);
    }
    /* What a client does not have, no pattern matches. */
    const struct facts nobody = {.address = {0}};
    for (int type = 2; type <= 3; type++) {
        char text[64];
        (void)snprintf(text, sizeof text, "{'Name':'b','Type':%d,'Include':'*'}", type);
        struct block *block = block_of(text);
        assert_false(block_has(block, &nobody, 0));
        (void)block_free(block);
    }
}

static void wrong_blocks_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"{}", "Name is missing"},
        {"{'Name':'a'}", "Type is missing"},
        {"{'Name':'a','Type':1}", "Include is missing"},
        {"{'Name':'a b'}", "Name: 'a b' is not allowed"},
        {"{'Name':{}}", "Name: must be a text"},
        {"{'Type':4}", "Type: '4' is not allowed"},
        {"{'Type':1,'Excludes':['a','b','c','d']}", "Excludes: has more than 3 items"},
        {"{'Type':1,'Excludes':['']}", "Excludes: not a text"},
        {"{'ExpireTime':-1}", "ExpireTime: '-1' is not allowed"},
        {"{'ExpireTime':'2026-02-30T00:00:00Z'}", "ExpireTime"},
        {"{'ExpireTime':'2026-12-31'}", "ExpireTime"},
        {"{'ExpireTime':'2026-12-31T24:00:00Z'}", "ExpireTime"},
        {"{'ExpireTime':99999999999999}", "ExpireTime"},
        {"{'Type':1,'Include':['a']}", "Include: must be a text"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct block *block = NULL;
        struct errmsg why = {0};
        json_t *json = json_of(rows[i].text);
        if (block_json_read(json, &block, &why) != ERR_INVALID || !strstr(why.text, rows[i].why))
            fail_msg("%s gives: %s", rows[i].text, why.text);
        json_decref(json);
    }
}

static void blocks_come_back(void **state)
{
    (void)state;
    struct block *block = block_of("{'Name':'b','Type':'ip_address','Include':'10.0.0.0/8',"
                                   "'Excludes':['10.0.0.1'],'Remark':'why',"
                                   "'ExpireTime':'2026-12-31T23:59:59Z','CreateTime':5}");
    assert_int_equal(block->expire_ms, UINT64_C(1798761599000));
    json_t *item = block_json_item(block), *second = NULL;
    struct block *again = NULL;
    assert_int_equal(block_json_read(item, &again, NULL), 0);
    second = block_json_item(again);
    assert_true(json_equal(item, second));
    json_decref(item);
    json_decref(second);
    (void)block_free(block);
    (void)block_free(again);
}

static void stored_blocks_have_names(void **state)
{
    (void)state;
    struct rulebook *rulebook = rulebook_new();
    struct errmsg why = {0};
    struct block *block = block_of("{'Name':'one','Type':1,'Include':'a'}");
    assert_int_equal(rulebook_check_block(rulebook, block, false, &why), ERR_NOTFOUND);
    assert_int_equal(rulebook_check_block(rulebook, block, true, &why), 0);
    rulebook_put_block(rulebook, block);
    assert_int_equal(rulebook_check_block(rulebook, block, true, &why), ERR_EXISTS);
    struct facts facts = facts_of("a");
    assert_ptr_equal(rulebook_blocks_client(rulebook, &facts, 0), block);
    rulebook_put_block(rulebook, block_of("{'Name':'one','Type':1,'Include':'b'}"));
    assert_null(rulebook_blocks_client(rulebook, &facts, 0));
    assert_int_equal(rulebook_blocks(rulebook, ORIGIN_STORED)->count, 1);
    const uint64_t before = rulebook_generation(rulebook);
    rulebook_remove_block(rulebook, slice_str("two"));
    assert_true(rulebook_generation(rulebook) == before);
    rulebook_remove_block(rulebook, slice_str("one"));
    assert_null(rulebook_block(rulebook, slice_str("one")));
    (void)rulebook_free(rulebook);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_that_matches_decides),
        cmocka_unit_test(nobody_is_checked_without_a_switch),
        cmocka_unit_test(a_change_counts_at_once),
        cmocka_unit_test(kept_decisions_do_not_mix),
        cmocka_unit_test(outlives_missing_memory),
        cmocka_unit_test(names_and_priorities_are_unique),
        cmocka_unit_test(decisions_are_explained),
        cmocka_unit_test(blocks_find_clients),
        cmocka_unit_test(wrong_blocks_are_refused),
        cmocka_unit_test(blocks_come_back),
        cmocka_unit_test(stored_blocks_have_names),
    };
    return cmocka_run_group_tests_name("auth/access", tests, NULL, NULL);
}
