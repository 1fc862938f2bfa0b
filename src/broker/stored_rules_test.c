/* Policies and block rules that are stored: when they count, what outlives a crash, what is
 * refused, and block rules that end by themselves. */
#include "store/mem/mem.h"

#include "auth/rule_json.h"
#include "broker/stored_rules.h"
#include "broker/testbed.h"

#include <errno.h>

struct outcome {
    int calls, err;
    char detail[256];
    uint64_t id;
};

static void on_done(void *data, int err, const char *detail, uint64_t id)
{
    struct outcome *outcome = data;
    outcome->calls++;
    outcome->err = err;
    outcome->id = id;
    (void)snprintf(outcome->detail, sizeof outcome->detail, "%s", detail ? detail : "");
}

static struct rule *policy(uint64_t id, const char *name, int priority)
{
    json_t *item = json_pack("{s:s,s:i,s:s,s:s,s:[s]}", "PolicyName", name, "Priority", priority,
                             "Effect", "allow", "Actions", "pub", "Resources", "a,b");
    struct rule *rule = NULL;
    assert_int_equal(rule_json_read(item, &rule, NULL), 0);
    rule->id = id;
    json_decref(item);
    return rule;
}

static struct block *block(const char *name, uint64_t expire_ms)
{
    json_t *item = json_pack("{s:s,s:i,s:s,s:I}", "Name", name, "Type", 1, "Include", "x*",
                             "ExpireTime", (json_int_t)expire_ms);
    struct block *made = NULL;
    assert_int_equal(block_json_read(item, &made, NULL), 0);
    json_decref(item);
    return made;
}

static struct outcome put_policy(struct bed *bed, uint64_t id, const char *name, int priority)
{
    struct outcome outcome = {.calls = 0};
    stored_policy_put(bed->broker, policy(id, name, priority), on_done, &outcome);
    bed_run(bed);
    assert_int_equal(outcome.calls, 1);
    return outcome;
}

static struct outcome put_block(struct bed *bed, const char *name, uint64_t expire_ms, bool is_new)
{
    struct outcome outcome = {.calls = 0};
    stored_block_put(bed->broker, block(name, expire_ms), is_new, on_done, &outcome);
    bed_run(bed);
    assert_int_equal(outcome.calls, 1);
    return outcome;
}

/* kill -9: what was durable is read into a new rulebook. */
static void crash(struct bed *bed)
{
    struct rulebook *before = bed->rulebook;
    bed->rulebook = rulebook_new();
    bed_crash(bed, false);
    (void)rulebook_free(before);
}

static void close_all(struct bed *bed)
{
    struct rulebook *rulebook = bed->rulebook;
    bed_close(bed);
    (void)rulebook_free(rulebook);
}

static void a_policy_counts_once_it_is_durable(void **state)
{
    (void)state;
    struct bed *bed = bed_open_with(rulebook_new());
    struct outcome outcome = {.calls = 0}, second = {.calls = 0};
    stored_policy_put(bed->broker, policy(0, "one", 1), on_done, &outcome);
    assert_int_equal(outcome.calls, 0);
    assert_null(rulebook_policy_named(bed->rulebook, slice_str("one")));
    stored_policy_put(bed->broker, policy(0, "two", 2), on_done, &second);
    assert_int_equal(second.err, ERR_AGAIN); /* one at a time */
    bed_run(bed);
    assert_int_equal(outcome.err, 0);
    const struct rule *rule = rulebook_policy(bed->rulebook, outcome.id);
    assert_string_equal(rule->name, "one");
    assert_true(rule->created_ms > 0 && rule->created_ms == rule->updated_ms);
    crash(bed);
    rule = rulebook_policy(bed->rulebook, outcome.id);
    assert_string_equal(rule->name, "one");
    assert_int_equal(rule->resource_count, 1); /* the comma is the topic's */
    close_all(bed);
}

static void policies_are_changed_and_removed(void **state)
{
    (void)state;
    struct bed *bed = bed_open_with(rulebook_new());
    const uint64_t id = put_policy(bed, 0, "one", 1).id;
    assert_int_equal(put_policy(bed, 0, "one", 2).err, ERR_EXISTS);
    assert_int_equal(put_policy(bed, id + 100, "two", 2).err, ERR_NOTFOUND);
    bed_pass(bed, 100);
    assert_int_equal(put_policy(bed, id, "renamed", 7).err, 0);
    assert_int_equal(rulebook_policies(bed->rulebook, ORIGIN_STORED)->count, 1);
    const struct rule *rule = rulebook_policy(bed->rulebook, id);
    assert_string_equal(rule->name, "renamed");
    assert_true(rule->updated_ms > rule->created_ms);
    const uint64_t other = put_policy(bed, 0, "one", 1).id;
    assert_true(other != id);
    struct outcome outcome = {.calls = 0};
    stored_policy_remove(bed->broker, id, on_done, &outcome);
    bed_run(bed);
    assert_int_equal(outcome.err, 0);
    stored_policy_remove(bed->broker, id, on_done, &outcome);
    assert_int_equal(outcome.err, ERR_NOTFOUND);
    crash(bed);
    assert_int_equal(rulebook_policies(bed->rulebook, ORIGIN_STORED)->count, 1);
    assert_non_null(rulebook_policy(bed->rulebook, other));
    close_all(bed);
}

static struct outcome order(struct bed *bed, const struct policy_priority *priorities, size_t count)
{
    struct outcome outcome = {.calls = 0};
    stored_policies_order(bed->broker, priorities, count, on_done, &outcome);
    bed_run(bed);
    assert_int_equal(outcome.calls, 1);
    return outcome;
}

static void expect_order(const struct bed *bed, const char *names)
{
    char text[64] = "";
    const struct policies *stored = rulebook_policies(bed->rulebook, ORIGIN_STORED);
    for (size_t i = 0; i < stored->count; i++)
        (void)snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", i ? " " : "",
                       stored->items[i]->name);
    assert_string_equal(text, names);
}

/* Policies exchange their priorities at once, and after a crash have them all; a list with anything
 * wrong in it changes none. */
static void policies_are_put_into_another_order(void **state)
{
    (void)state;
    struct bed *bed = bed_open_with(rulebook_new());
    const uint64_t one = put_policy(bed, 0, "one", 1).id, two = put_policy(bed, 0, "two", 2).id;
    const uint64_t three = put_policy(bed, 0, "three", 3).id;
    const struct {
        struct policy_priority list[2];
        int err;
        const char *said;
    } wrong[] = {
        {{{one, 9}, {three + 100, 8}}, ERR_NOTFOUND, "there is no policy of the id"},
        {{{one, 9}, {one, 8}}, ERR_EXISTS, "stands in the list twice"},
        {{{one, 9}, {two, 9}}, ERR_EXISTS, "policy 'one' has the priority 9 already"},
        {{{one, 2}, {two, 3}}, ERR_EXISTS, "policy 'three' has the priority 3 already"},
        {{{one, 9}, {two, RULE_PRIORITY_MAX + 1}}, ERR_INVALID, "Priority"},
        {{{one, 9}, {two, 0}}, ERR_INVALID, "Priority"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        const uint64_t generation = rulebook_generation(bed->rulebook);
        const struct outcome outcome = order(bed, wrong[i].list, 2);
        assert_int_equal(outcome.err, wrong[i].err);
        assert_non_null(strstr(outcome.detail, wrong[i].said));
        assert_int_equal(rulebook_generation(bed->rulebook), generation);
        expect_order(bed, "one two three");
    }
    bed_pass(bed, 100);
    const struct policy_priority turned[] = {{one, 3}, {three, 1}};
    struct outcome outcome = {.calls = 0}, second = {.calls = 0};
    stored_policies_order(bed->broker, turned, 2, on_done, &outcome);
    expect_order(bed, "one two three"); /* not durable yet */
    stored_policies_order(bed->broker, turned, 2, on_done, &second);
    assert_int_equal(second.err, ERR_AGAIN);
    bed_run(bed);
    assert_int_equal(outcome.err, 0);
    expect_order(bed, "three two one");
    const struct rule *rule = rulebook_policy(bed->rulebook, three);
    assert_true(rule->updated_ms > rule->created_ms);
    assert_int_equal(rule->resource_count, 1);
    rule = rulebook_policy(bed->rulebook, two);
    assert_int_equal(rule->updated_ms, rule->created_ms);
    crash(bed);
    expect_order(bed, "three two one");
    mem_store_fail_append(bed->store, 1, -EIO);
    const struct policy_priority back[] = {{one, 1}, {three, 3}};
    assert_int_equal(order(bed, back, 2).err, -EIO);
    expect_order(bed, "three two one");
    close_all(bed);
}

/* More text than one record should have: said, and the next change goes on from a clean slate. */
static void an_order_of_huge_policies_is_refused(void **state)
{
    (void)state;
    struct bed *bed = bed_open_with(rulebook_new());
    struct policy_priority list[40];
    json_t *topics = json_array();
    char topic[PATTERN_TEXT_MAX + 1], name[16];
    memset(topic, 'x', sizeof topic - 1);
    topic[sizeof topic - 1] = '\0';
    for (size_t i = 0; i < RULE_RESOURCES_MAX; i++)
        (void)json_array_append_new(topics, json_string(topic));
    for (uint32_t i = 0; i < ARRAY_COUNT(list); i++) {
        (void)snprintf(name, sizeof name, "huge-%u", i);
        json_t *item =
            json_pack("{s:s,s:i,s:s,s:s,s:O}", "PolicyName", name, "Priority", (int)i + 1, "Effect",
                      "allow", "Actions", "pub", "Resources", topics);
        struct rule *rule = NULL;
        assert_int_equal(rule_json_read(item, &rule, NULL), 0);
        json_decref(item);
        struct outcome outcome = {.calls = 0};
        stored_policy_put(bed->broker, rule, on_done, &outcome);
        bed_run(bed);
        assert_int_equal(outcome.err, 0);
        list[i] = (struct policy_priority){outcome.id, 100 + i};
    }
    json_decref(topics);
    const struct outcome refused = order(bed, list, ARRAY_COUNT(list));
    assert_int_equal(refused.err, ERR_FULL);
    assert_non_null(strstr(refused.detail, "name fewer"));
    assert_int_equal(order(bed, list, 10).err, 0);
    crash(bed);
    assert_int_equal(rulebook_policy(bed->rulebook, list[9].id)->priority, 109);
    assert_int_equal(rulebook_policy(bed->rulebook, list[10].id)->priority, 11);
    close_all(bed);
}

static void nothing_changes_without_a_store(void **state)
{
    (void)state;
    struct bed *bed = bed_open_with(rulebook_new());
    const uint64_t id = put_policy(bed, 0, "one", 1).id;
    for (uint32_t late = 0; late < 2; late++) { /* the submit fails, or the write later */
        if (late)
            mem_store_fail_append(bed->store, 1, -EIO);
        else
            mem_store_set_writable(bed->store, false);
        assert_true(put_policy(bed, 0, "two", 2).err < 0);
        if (late)
            mem_store_fail_append(bed->store, 1, -EIO);
        struct outcome outcome = {.calls = 0};
        stored_policy_remove(bed->broker, id, on_done, &outcome);
        bed_run(bed);
        assert_int_equal(outcome.calls, 1);
        assert_true(outcome.err < 0);
        assert_true(outcome.detail[0] != '\0');
        assert_int_equal(rulebook_policies(bed->rulebook, ORIGIN_STORED)->count, 1);
        mem_store_set_writable(bed->store, true);
    }
    close_all(bed);
}

static void block_rules_are_kept_and_expire(void **state)
{
    (void)state;
    struct bed *bed = bed_open_with(rulebook_new());
    assert_int_equal(put_block(bed, "forever", 0, true).err, 0);
    assert_int_equal(put_block(bed, "brief", bed_wall_ms(bed) + 5000, true).err, 0);
    assert_int_equal(put_block(bed, "brief", 0, true).err, ERR_EXISTS);
    assert_int_equal(put_block(bed, "other", 0, false).err, ERR_NOTFOUND);
    crash(bed);
    assert_int_equal(rulebook_blocks(bed->rulebook, ORIGIN_STORED)->count, 2);
    bed_pass(bed, 5100);
    assert_null(rulebook_block(bed->rulebook, slice_str("brief")));
    bed_pass(bed, 500); /* its row is removed lazily */
    struct outcome outcome = {.calls = 0};
    stored_block_remove(bed->broker, slice_str("forever"), on_done, &outcome);
    bed_run(bed);
    assert_int_equal(outcome.err, 0);
    stored_block_remove(bed->broker, slice_str("forever"), on_done, &outcome);
    assert_int_equal(outcome.err, ERR_NOTFOUND);
    crash(bed);
    assert_int_equal(rulebook_blocks(bed->rulebook, ORIGIN_STORED)->count, 0);
    close_all(bed);
}

/* A row that says nothing sound stops the start: rules that are lost let in too much. */
static void damaged_rows_stop_the_start(void **state)
{
    (void)state;
    static const struct {
        const char *key, *value;
    } rows[] = {
        {"P12345678", "{}"},
        {"P12345678", "not JSON"},
        {"P1", "{\"PolicyName\":\"one\",\"Priority\":1,\"Effect\":\"deny\",\"Actions\":\"pub\"}"},
        {"Bname", "{\"Name\":\"other\",\"Type\":1,\"Include\":\"x\"}"},
        {"Bname", "{"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct bed *bed = bed_open_with(rulebook_new());
        txn_begin(&bed->broker->txn, META_PUT);
        txn_bytes(&bed->broker->txn, slice_str(rows[i].key));
        txn_value(&bed->broker->txn);
        txn_bytes(&bed->broker->txn, slice_str(rows[i].value));
        assert_int_equal(core_write(bed->broker, STORE_SYNC, NULL, NULL), 0);
        bed_run(bed);
        const struct broker_deps deps = bed->broker->deps;
        struct broker *second = NULL;
        struct errmsg why = {0};
        struct rulebook *fresh = rulebook_new();
        struct broker_deps again = deps;
        again.rulebook = fresh;
        assert_int_equal(broker_new(&bed->config, &again, &second, &why), ERR_CORRUPT);
        assert_non_null(strstr(why.text, "could not read the stored"));
        (void)rulebook_free(fresh);
        close_all(bed);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_policy_counts_once_it_is_durable),
        cmocka_unit_test(policies_are_changed_and_removed),
        cmocka_unit_test(policies_are_put_into_another_order),
        cmocka_unit_test(an_order_of_huge_policies_is_refused),
        cmocka_unit_test(nothing_changes_without_a_store),
        cmocka_unit_test(block_rules_are_kept_and_expire),
        cmocka_unit_test(damaged_rows_stop_the_start),
    };
    return cmocka_run_group_tests_name("broker/stored_rules", tests, NULL, NULL);
}
