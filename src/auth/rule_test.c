/* Rules: fields, what is missing or wrong, deciding; policies as JSON; ACLs. */
#include "auth/acl.h"
#include "auth/rule_json.h"
#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

static struct facts facts_of(const char *client_id, const char *username, const char *address)
{
    struct facts facts = {.address = address_parse(slice_str(address))};
    for (int i = 0; i < FACT_COUNT; i++)
        facts.values[i] = slice_of("", 0);
    facts.values[FACT_CLIENT_ID] = slice_str(client_id);
    facts.values[FACT_USERNAME] = slice_str(username);
    return facts;
}

static json_t *json_of(const char *text)
{
    json_t *json = json_loads(text, 0, NULL);
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

#define HEAD "{'PolicyName':'p-1','Priority':1,'Effect':'allow','Actions':'pub'"

/* Single quotes read better in C. */
static const char *quoted(const char *text)
{
    static char room[512];
    size_t size = strlen(text);
    assert_true(size < sizeof room);
    for (size_t i = 0; i <= size; i++)
        room[i] = text[i] == '\'' ? '"' : text[i];
    return room;
}

static void refuses_wrong_policies(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"{}", "Effect is missing"},
        {"{'Effect':'allow'}", "Actions is missing"},
        {"{'Effect':'allow','Actions':'pub'}", "PolicyName is missing"},
        {"{'Effect':'allow','Actions':'pub','PolicyName':'abc'}", "Priority is missing"},
        {"{'Effect':'permit'}", "Effect: 'permit' is not allowed; allowed is allow or deny"},
        {"{'Effect':['allow']}", "Effect: takes one value"},
        {"{'Effect':{}}", "Effect: must be a text or number"},
        {HEAD ",'Qos':'3'}", "Qos: '3' is not allowed; allowed is 0, 1 and 2"},
        {HEAD ",'Qos':[0,'x']}", "Qos: 'x' is not allowed"},
        {HEAD ",'Qos':[]}", "Qos: is an empty list"},
        {HEAD ",'Retain':4}", "Retain: '4' is not allowed"},
        {HEAD ",'Retain':1.5}", "Retain: must be a text"},
        {HEAD ",'Ip':'10.0.0.0/99'}", "Ip: '10.0.0.0/99' is not allowed"},
        {HEAD ",'Resources':'a/#/b'}", "Resources: 'a/#/b': not a topic filter"},
        {HEAD ",'Resources':'a,,b'}", "Resources: not a text of 1 to 1024 bytes"},
        {HEAD ",'ClientId':'${x}'}", "ClientId: '${x}': an unknown variable"},
        {HEAD ",'PolicyVersion':2}", "PolicyVersion: '2' is not allowed; allowed is 1"},
        {"{'PolicyName':'ab'}", "PolicyName: 'ab' is not allowed; allowed is a name of 3 to 64"},
        {"{'PolicyName':'ab\\u0007c'}", "PolicyName"},
        {"{'Priority':0}", "Priority: '0' is not allowed"},
        {"{'Priority':-1}", "Priority: '-1' is not allowed"},
        {"{'Priority':1000001}", "Priority"},
        {"{'Actions':'pub,fly'}", "Actions: 'fly' is not allowed; allowed is connect, pub and sub"},
        {"{'Actions':''}", "Effect is missing"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct rule *rule = NULL;
        struct errmsg why = {0};
        json_t *json = json_of(quoted(rows[i].text));
        if (rule_json_read(json, &rule, &why) != ERR_INVALID || !strstr(why.text, rows[i].why))
            fail_msg("%s gives: %s", rows[i].text, why.text);
        json_decref(json);
    }
}

static void fields_are_set_once(void **state)
{
    (void)state;
    struct rule *rule = rule_new();
    struct errmsg why = {0};
    const struct slice deny = slice_str("deny");
    const struct rule_value value = {.items = &deny, .count = 1};
    assert_int_equal(rule_set(rule, RULE_EFFECT, value, &why), 0);
    assert_int_equal(rule_set(rule, RULE_EFFECT, value, &why), ERR_INVALID);
    assert_string_equal(why.text, "is given twice");
    assert_int_equal(rule_field_find(slice_str("client_id"), false), RULE_CLIENT_ID);
    assert_int_equal(rule_field_find(slice_str("client_id"), true), RULE_FIELD_COUNT);
    (void)rule_free(rule);
}

static void items_come_back(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "{'PolicyName':'p-1','Priority':1,'Effect':'allow','Actions':'connect,pub,sub',"
        "'Resources':'a/#,b/*','ClientId':'s*','Username':'u','Ip':'10.0.0.0/8,::1','Qos':'0,2',"
        "'Retain':2,'Remark':'why','Id':7,'CreatedTime':5,'UpdateTime':6}",
        "{'PolicyName':'p-1','Priority':1,'Effect':'deny','Actions':['sub'],"
        "'Resources':['a,b','c']}",
    };
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        struct rule *rule = rule_of(quoted(texts[i]));
        json_t *item = rule_json_item(rule);
        struct rule *again = NULL;
        assert_int_equal(rule_json_read(item, &again, NULL), 0);
        json_t *second = rule_json_item(again);
        assert_true(json_equal(item, second));
        assert_int_equal(again->resource_count, 2);
        if (i == 0)
            assert_string_equal(json_string_value(json_object_get(item, "Qos")), "0,2");
        json_decref(item);
        json_decref(second);
        (void)rule_free(rule);
        (void)rule_free(again);
    }
}

static void concerns_clients(void **state)
{
    (void)state;
    static const struct {
        const char *fields;
        enum rule_result result;
    } rows[] = {
        {"", RULE_MATCHES},
        {",'ClientId':'s*'", RULE_MATCHES},
        {",'ClientId':'t*'", RULE_OTHER_CLIENT},
        {",'ClientId':'${Username}-1'", RULE_OTHER_CLIENT},
        {",'Username':'user*'", RULE_MATCHES},
        {",'Username':'other'", RULE_OTHER_USERNAME},
        {",'Ip':'192.0.2.0/24'", RULE_MATCHES},
        {",'Ip':'10.0.0.0/8, 192.0.2.7'", RULE_MATCHES},
        {",'Ip':'10.0.0.0/8'", RULE_OTHER_ADDRESS},
    };
    const struct facts facts = facts_of("s-1", "user1", "192.0.2.7:1234");
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char text[256];
        (void)snprintf(text, sizeof text, HEAD "%s}", rows[i].fields);
        struct rule *rule = rule_of(quoted(text));
        if (rule_concerns(rule, &facts) != rows[i].result)
            fail_msg("%s: %s", text, rule_result_text(rule_concerns(rule, &facts)));
        (void)rule_free(rule);
    }
}

static void decides_requests(void **state)
{
    (void)state;
    static const struct {
        const char *effect, *fields;
        struct rule_request request;
        enum rule_result result;
    } rows[] = {
        {"allow", "'Actions':'pub'", {.action = RULE_SUB}, RULE_OTHER_ACTION},
        {"allow", "'Actions':'pub,sub'", {.action = RULE_SUB}, RULE_MATCHES},
        {"allow", "'Actions':'connect','Resources':'a'", {.action = RULE_CONNECT}, RULE_MATCHES},
        {"allow", "'Actions':'pub','Qos':'0,1'", {.action = RULE_PUB, .qos = 1}, RULE_MATCHES},
        {"allow", "'Actions':'pub','Qos':'0,1'", {.action = RULE_PUB, .qos = 2}, RULE_OTHER_QOS},
        {"allow", "'Actions':'sub','Qos':'0,1'", {.action = RULE_SUB, .qos = 2}, RULE_OTHER_QOS},
        {"allow", "'Actions':'pub','Retain':1", {.action = RULE_PUB}, RULE_OTHER_RETAIN},
        {"allow", "'Actions':'pub','Retain':1", {.action = RULE_PUB, .retain = true}, RULE_MATCHES},
        {"allow", "'Actions':'pub','Retain':2", {.action = RULE_PUB}, RULE_MATCHES},
        {"allow", "'Actions':'sub','Retain':1", {.action = RULE_SUB}, RULE_MATCHES},
        {"allow", "'Actions':'pub','Resources':'b,a/+'", {.action = RULE_PUB}, RULE_MATCHES},
        {"allow", "'Actions':'pub','Resources':'b'", {.action = RULE_PUB}, RULE_OTHER_TOPIC},
        /* a filter: all of it to allow, any of it to deny */
        {"allow", "'Actions':'sub','Resources':'a/b'", {.action = RULE_SUB}, RULE_MATCHES},
        {"allow",
         "'Actions':'sub','Resources':'a/b/c,a/b/d'",
         {.action = RULE_SUB},
         RULE_OTHER_TOPIC},
    };
    const struct facts facts = facts_of("s-1", "user1", "192.0.2.7:1234");
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char text[256];
        (void)snprintf(text, sizeof text, "{'PolicyName':'p-1','Priority':1,'Effect':'%s',%s}",
                       rows[i].effect, rows[i].fields);
        struct rule *rule = rule_of(quoted(text));
        struct rule_request request = rows[i].request;
        request.topic = slice_str("a/b");
        if (rule_decides(rule, &facts, &request) != rows[i].result)
            fail_msg("%s: %s", text, rule_result_text(rule_decides(rule, &facts, &request)));
        (void)rule_free(rule);
    }
}

static void filters_are_taken_whole(void **state)
{
    (void)state;
    const struct facts facts = facts_of("s-1", "user1", "");
    const struct rule_request request = {.action = RULE_SUB, .topic = slice_str("a/#")};
    static const struct {
        const char *effect, *resource;
        enum rule_result result;
    } rows[] = {
        {"allow", "a/#", RULE_MATCHES},     {"allow", "a/*", RULE_MATCHES},
        {"allow", "a/b", RULE_OTHER_TOPIC}, {"deny", "a/b", RULE_MATCHES},
        {"deny", "*/b", RULE_MATCHES},      {"deny", "b/#", RULE_OTHER_TOPIC},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char text[256];
        (void)snprintf(text, sizeof text,
                       "{'PolicyName':'p-1','Priority':1,'Effect':'%s','Actions':'sub',"
                       "'Resources':'%s'}",
                       rows[i].effect, rows[i].resource);
        struct rule *rule = rule_of(quoted(text));
        if (rule_decides(rule, &facts, &request) != rows[i].result)
            fail_msg("%s %s", rows[i].effect, rows[i].resource);
        (void)rule_free(rule);
    }
}

static void acls_are_read(void **state)
{
    (void)state;
    struct acl *acl = NULL;
    struct errmsg why = {0};
    const char *text = quoted(
        "[{'effect':'deny','action':['publish','connect'],'topic':'a/*','qos':[1]},"
        "{'effect':'allow','action':'all','topic':['b/#','${ClientId}'],'retain':true,'qos':0}]");
    assert_int_equal(acl_parse(slice_of(text, strlen(text) - 1), &acl, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "the ACL is not JSON"));
    assert_int_equal(acl_parse(slice_str(text), &acl, &why), 0);
    assert_int_equal(acl_count(acl), 2);
    assert_int_equal(acl_rule(acl, 0)->actions, RULE_PUB | RULE_CONNECT);
    assert_int_equal(acl_rule(acl, 0)->qos, 2);
    assert_int_equal(acl_rule(acl, 1)->retain, RULE_RETAINED);
    const struct facts facts = facts_of("c", "", "");
    struct rule_request request = {.action = RULE_PUB, .topic = slice_str("a/b"), .qos = 1};
    assert_int_equal(rule_decides(acl_rule(acl, 0), &facts, &request), RULE_OTHER_TOPIC);
    request.topic = slice_str("a/*"); /* an ordinary character here */
    assert_int_equal(rule_decides(acl_rule(acl, 0), &facts, &request), RULE_MATCHES);
    struct acl *second = acl_ref(acl);
    (void)acl_unref(acl);
    assert_int_equal(acl_count(second), 2);
    assert_null(acl_unref(second));
    assert_int_equal(acl_count(NULL), 0);
}

static void wrong_acls_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *why;
    } rows[] = {
        {"{}", "the ACL is not a list"},
        {"[1]", "rule 1 of the ACL: is not an object"},
        {"[{}]", "rule 1 of the ACL: effect is missing"},
        {"[{'effect':'allow'}]", "rule 1 of the ACL: actions is missing"},
        {"[{'effect':'allow','action':'pub'},{'permission':'allow'}]",
         "rule 2 of the ACL: permission: is not known"},
        {"[{'effect':'allow','action':'pub','qos':7}]", "rule 1 of the ACL: qos: '7'"},
        {"[{'effect':'allow','action':'pub','topic':'a#'}]", "rule 1 of the ACL: topic: 'a#'"},
        {"[{'effect':'allow','action':'pub','topic':[{}]}]", "rule 1 of the ACL: topic: must be"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct acl *acl = NULL;
        struct errmsg why = {0};
        json_t *json = json_of(quoted(rows[i].text));
        if (acl_new(json, &acl, &why) != ERR_INVALID || !strstr(why.text, rows[i].why))
            fail_msg("%s gives: %s", rows[i].text, why.text);
        json_decref(json);
    }
}

static void outlives_missing_memory(void **state)
{
    (void)state;
    static const char text[] = "{'PolicyName':'p-1','Priority':1,'Effect':'allow','Actions':'pub',"
                               "'Resources':'a','ClientId':'c','Ip':'::1','Remark':'r'}";
    json_t *json = json_of(quoted(text));
    int err = ERR_NOMEM;
    for (uint64_t n = 1; err == ERR_NOMEM; n++) {
        struct rule *rule = NULL;
        mem_fail_at(n);
        err = rule_json_read(json, &rule, NULL);
        mem_fail_at(0);
        if (err == 0)
            (void)rule_free(rule);
        assert_true(n < 100);
    }
    assert_int_equal(err, 0);
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refuses_wrong_policies),  cmocka_unit_test(fields_are_set_once),
        cmocka_unit_test(items_come_back),         cmocka_unit_test(concerns_clients),
        cmocka_unit_test(decides_requests),        cmocka_unit_test(filters_are_taken_whole),
        cmocka_unit_test(acls_are_read),           cmocka_unit_test(wrong_acls_are_refused),
        cmocka_unit_test(outlives_missing_memory),
    };
    return cmocka_run_group_tests_name("auth/rule", tests, NULL, NULL);
}
