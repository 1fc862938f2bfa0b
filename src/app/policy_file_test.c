/* The policy file: what it may say, and what each mistake is answered with. */
#include "app/policy_file.h"

#include "base/unit.h"

#include <stdio.h>
#include <string.h>

static int parse(const char *text, size_t size, struct policies *policies, struct blocks *blocks,
                 struct errmsg *why)
{
    *why = (struct errmsg){0};
    return policy_file_parse("p.yaml", text, size, policies, blocks, why);
}

static const char sound[] = "# who may do what\n"
                            "policies:\n"
                            "  - name: sensors\n"
                            "    priority: 20\n"
                            "    effect: allow\n"
                            "    actions: [pub, sub]\n"
                            "    resources: ['sensors/${ClientId}/#', \"a,b\"]\n"
                            "    client_id: sensor*\n"
                            "    username: '*'\n"
                            "    ip: 10.0.0.0/8\n"
                            "    qos: [0, 1]\n"
                            "    retain: false\n"
                            "    remark: of the plant\n"
                            "  - {priority: 1, name: everybody, actions: 'connect, sub',\n"
                            "     effect: deny}\n"
                            "block_rules:\n"
                            "  - name: stolen\n"
                            "    include: 10.1.*\n"
                            "    type: ip_address\n"
                            "    excludes: [10.1.0.1, 10.1.2.0/24]\n"
                            "    expire_time: 2026-12-31T23:59:59Z\n";

static void reads_policies_and_blocks(void **state)
{
    (void)state;
    struct policies policies;
    struct blocks blocks;
    struct errmsg why;
    if (parse(sound, strlen(sound), &policies, &blocks, &why) < 0)
        fail_msg("%s", why.text);
    assert_int_equal(policies.count, 2);
    assert_string_equal(policies.items[0]->name, "everybody"); /* by priority */
    assert_false(policies.items[0]->allow);
    assert_int_equal(policies.items[0]->actions, RULE_CONNECT | RULE_SUB);
    const struct rule *rule = policies.items[1];
    assert_int_equal(rule->resource_count, 2); /* the comma in a list is the topic's */
    assert_int_equal(rule->qos, 3);
    assert_int_equal(rule->retain, RULE_NOT_RETAINED);
    assert_int_equal(rule->network_count, 1);
    assert_string_equal(rule->remark, "of the plant");
    assert_int_equal(blocks.count, 1);
    assert_int_equal(blocks.items[0]->exclude_count, 2);
    assert_true(blocks.items[0]->excludes[1].is_network);
    policies_done(&policies);
    blocks_done(&blocks);
}

#define HEAD "policies:\n  - name: one\n    priority: 1\n    effect: allow\n    actions: pub\n"

static void names_every_mistake(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"a", "p.yaml:1: expected `policies:` and `block_rules:`"},
        {"policies: x", "p.yaml:1: a list is expected here"},
        {"policy: []", "p.yaml:1: this key is not known; known are policies and block_rules"},
        {"policies: []\npolicies: []", "p.yaml:2: this key is given twice"},
        {"? [a]\n: b", "p.yaml:1: this key is not known"},
        {"policies: [a]", "p.yaml:1: an entry of this list is `key: value` lines"},
        {"policies:\n  - colour: red", "p.yaml:2: colour: is not known"},
        {"policies:\n  - ? [a]\n    : b", "p.yaml:2: a key is not a word"},
        {"policies:\n  - name: one", "p.yaml:2: effect is missing"},
        {HEAD "    effect: deny", "p.yaml:6: effect: is given twice"},
        {HEAD "    qos: 5", "p.yaml:6: qos: '5' is not allowed; allowed is 0, 1 and 2"},
        {HEAD "    qos: {a: b}", "p.yaml:6: qos: takes a value, or a list"},
        {HEAD "    qos: [[0]]", "p.yaml:6: qos: takes a value, or a list"},
        {HEAD "    ip: here", "p.yaml:6: ip: 'here' is not allowed"},
        {HEAD "    resources: [a/#/b]", "p.yaml:6: resources: 'a/#/b': not a topic filter"},
        {HEAD "    client_id: ${x}", "p.yaml:6: client_id: '${x}': an unknown variable"},
        {HEAD "  - name: one\n    priority: 2\n    effect: allow\n    actions: pub",
         "p.yaml:6: there is a policy of the name 'one' already"},
        {HEAD "  - name: two\n    priority: 1\n    effect: allow\n    actions: pub",
         "p.yaml:6: policy 'one' has the priority 1 already"},
        {"block_rules:\n  - name: b\n    type: 9", "p.yaml:3: type: '9' is not allowed"},
        {"block_rules:\n  - name: b\n    type: 1", "p.yaml:2: include is missing"},
        {"block_rules:\n  - name: b\n    effect: allow", "p.yaml:3: effect: is not known"},
        {"block_rules:\n- {name: b, type: 1, include: a}\n- {name: b, type: 1, include: a}",
         "p.yaml:3: there is a block rule of the name 'b' already"},
        {"policies:\n  - {", "this is not YAML"},
        {"policies: []\n---\npolicies: []", "p.yaml: a second document begins"},
        {"policies: []\n--- {", "this is not YAML"},
        {"policies: &a\n  - *a", "p.yaml:1: an entry of this list is `key: value` lines"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct policies policies;
        struct blocks blocks;
        struct errmsg why;
        const int err = parse(rows[i].text, strlen(rows[i].text), &policies, &blocks, &why);
        if (err != ERR_INVALID || !strstr(why.text, rows[i].why))
            fail_msg("%s\ngives: %s", rows[i].text, why.text);
        assert_int_equal(policies.count + blocks.count, 0);
    }
}

static void may_be_empty(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "# nothing\n", "policies:\n", "block_rules: []\n"};
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct policies policies;
        struct blocks blocks;
        struct errmsg why;
        if (parse(texts[i], strlen(texts[i]), &policies, &blocks, &why) < 0)
            fail_msg("%s: %s", texts[i], why.text);
        assert_int_equal(policies.count + blocks.count, 0);
    }
}

static void survives_every_cut(void **state)
{
    (void)state;
    for (size_t size = 0; size < sizeof sound; size++) {
        struct policies policies;
        struct blocks blocks;
        struct errmsg why;
        const int err = parse(sound, size, &policies, &blocks, &why);
        assert_true(err == 0 || why.text[0] != '\0');
        policies_done(&policies);
        blocks_done(&blocks);
    }
}

static void says_what_cannot_be_read(void **state)
{
    (void)state;
    struct policies policies;
    struct blocks blocks;
    struct errmsg why = {0};
    assert_true(policy_file_read("/nowhere/p.yaml", &policies, &blocks, &why) < 0);
    assert_non_null(strstr(why.text, "authorization.policy_file '/nowhere/p.yaml'"));
    assert_int_equal(policy_file_read("", &policies, &blocks, &why), 0);
    assert_int_equal(policy_file_read(NULL, &policies, &blocks, &why), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_policies_and_blocks),
        cmocka_unit_test(names_every_mistake),
        cmocka_unit_test(may_be_empty),
        cmocka_unit_test(survives_every_cut),
        cmocka_unit_test(says_what_cannot_be_read),
    };
    return cmocka_run_group_tests_name("app/policy_file", tests, NULL, NULL);
}
