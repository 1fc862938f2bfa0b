/* Rights over the model engine: what is refused, and what a change of the rules means for links,
 * subscriptions and messages that are there already. */
#include "store/mem/mem.h"

#include "auth/rule_json.h"
#include "broker/testbed.h"

#define CONNECT_RULE "{'PolicyName':'connect','Priority':1000,'Effect':'allow','Actions':'connect'}"
#define ALL_RULE     "{'PolicyName':'all','Priority':999,'Effect':'allow','Actions':'connect,pub,sub'}"

static struct client a, b, c;
static struct rulebook *rulebook;

static json_t *json_of(const char *text)
{
    char quoted[2048];
    const size_t size = strlen(text);
    assert_true(size < sizeof quoted);
    for (size_t i = 0; i <= size; i++)
        quoted[i] = text[i] == '\'' ? '"' : text[i];
    json_t *json = json_loads(quoted, 0, NULL);
    if (!json)
        fail_msg("not JSON: %s", text);
    return json;
}

/* The rules from now on. */
static void set_rules(const char *policies_text, const char *blocks_text)
{
    struct policies policies = {0};
    struct blocks blocks = {0};
    json_t *json = json_of(policies_text);
    for (size_t i = 0; i < json_array_size(json); i++) {
        struct rule *rule;
        struct errmsg why = {0};
        if (rule_json_read(json_array_get(json, i), &rule, &why) < 0 ||
            policies_add(&policies, rule, &why) < 0)
            fail_msg("%s", why.text);
    }
    json_decref(json);
    json = json_of(blocks_text);
    for (size_t i = 0; i < json_array_size(json); i++) {
        struct block *block;
        assert_int_equal(block_json_read(json_array_get(json, i), &block, NULL), 0);
        assert_int_equal(blocks_add(&blocks, block, NULL), 0);
    }
    json_decref(json);
    rulebook_configure(rulebook, true, &policies, &blocks);
}

static struct bed *open_with(const char *policies)
{
    rulebook = rulebook_new();
    set_rules(policies, "[]");
    return bed_open_with(rulebook);
}

static void close_all(struct bed *bed)
{
    bed_close(bed);
    struct client *clients[] = {&a, &b, &c};
    for (size_t i = 0; i < ARRAY_COUNT(clients); i++)
        clients[i]->link.access = access_unref(clients[i]->link.access);
    rulebook = rulebook_free(rulebook);
}

static uint8_t connect_reason(struct bed *bed, const char *id, struct how how)
{
    client_connect_begin(bed, &c, id, how);
    bed_run(bed);
    assert_true(c.answered);
    const uint8_t reason = c.connack;
    if (reason == 0)
        client_disconnect(&c);
    return reason;
}

static void connections_are_refused(void **state)
{
    (void)state;
    struct bed *bed =
        open_with("[{'PolicyName':'sensors','Priority':2,'Effect':'allow','Actions':'connect,pub',"
                  "'ClientId':'sensor*','Resources':'w/#'},"
                  "{'PolicyName':'autos','Priority':3,'Effect':'allow','Actions':'connect',"
                  "'ClientId':'auto-*'}]");
    assert_int_equal(connect_reason(bed, "sensor-1", transient), 0);
    assert_int_equal(connect_reason(bed, "pump-1", transient), REASON_NOT_AUTHORIZED);
    assert_int_equal(connect_reason(bed, "", transient), 0); /* by the name it is given */
    struct how how = {.clean = true, .will = "w/x"};
    assert_int_equal(connect_reason(bed, "sensor-1", how), 0);
    how.will = "other";
    assert_int_equal(connect_reason(bed, "sensor-1", how), REASON_NOT_AUTHORIZED);
    assert_int_equal(metric_get(&bed->metrics->denied_connect), 1);
    assert_int_equal(metric_get(&bed->metrics->denied_publish), 1);
    set_rules("[" ALL_RULE "]", "[{'Name':'b','Type':1,'Include':'pump-?','Excludes':['pump-7']}]");
    assert_int_equal(connect_reason(bed, "pump-1", transient), REASON_BANNED);
    assert_int_equal(connect_reason(bed, "pump-7", transient), 0);
    assert_int_equal(metric_get(&bed->metrics->denied_blocked), 1);
    close_all(bed);
}

static void publishes_are_refused(void **state)
{
    (void)state;
    struct bed *bed =
        open_with("[" CONNECT_RULE ","
                  "{'PolicyName':'own','Priority':1,'Effect':'allow','Actions':'pub,sub',"
                  "'Resources':'t/${ClientId}'},"
                  "{'PolicyName':'not retained','Priority':2,'Effect':'allow','Actions':'pub',"
                  "'Resources':'t/any','Retain':2}]");
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", transient);
    assert_int_equal(client_subscribe(bed, &b, "t/b", (struct wants){.qos = 1}), 1);
    for (uint8_t qos = 0; qos < 3; qos++) {
        client_publish(&a, "t/b", "m", (struct options){.qos = qos, .packet_id = 7});
        bed_run(bed);
        if (qos > 0)
            assert_int_equal(client_expect(&a, qos == 1 ? PACKET_PUBACK : PACKET_PUBREC)->reason,
                             REASON_NOT_AUTHORIZED);
        client_expect_nothing(&a);
        client_expect_nothing(&b);
    }
    assert_int_equal(metric_get(&bed->metrics->denied_publish), 3);
    assert_null(topic_find(bed->broker, slice_str("u")));
    client_publish(&a, "u/new", "m", (struct options){.qos = 1}); /* no topic is created for it */
    bed_run(bed);
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, REASON_NOT_AUTHORIZED);
    assert_null(topic_find(bed->broker, slice_str("u")));
    client_publish(&a, "t/any", "m", (struct options){.qos = 1});
    client_publish(&a, "t/any", "m", (struct options){.qos = 1, .packet_id = 2, .retain = true});
    bed_run(bed);
    /* The refusal comes at once, the other answer when the message is durable. */
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, REASON_NOT_AUTHORIZED);
    assert_int_equal(client_expect(&a, PACKET_PUBACK)->reason, REASON_NO_MATCHING_SUBSCRIBERS);
    client_publish(&b, "t/b", "own", (struct options){.qos = 1});
    bed_run(bed);
    assert_int_equal(client_expect(&b, PACKET_PUBACK)->reason, 0);
    client_expect_message(&b, "own", 1);
    close_all(bed);
}

static void subscriptions_are_refused(void **state)
{
    (void)state;
    struct bed *bed =
        open_with("[{'PolicyName':'secret','Priority':1,'Effect':'deny','Actions':'sub',"
                  "'Resources':'s/*'},"
                  "{'PolicyName':'low','Priority':2,'Effect':'deny','Actions':'sub','Qos':'2',"
                  "'Resources':'t/#'}," ALL_RULE "]");
    static const struct {
        const char *filter;
        uint8_t qos, reason;
    } rows[] = {
        {"t/#", 1, 1},
        {"t/#", 2, REASON_NOT_AUTHORIZED},
        {"s/x", 0, REASON_NOT_AUTHORIZED},
        {"+/x", 0, REASON_NOT_AUTHORIZED},
        {"#", 0, REASON_NOT_AUTHORIZED},
        {"$share/g/s/x", 1, REASON_NOT_AUTHORIZED},
        {"$share/g/t/x", 1, 1},
        {"$SYS/#", 0, 0},
    };
    client_connect(bed, &a, "a", transient);
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct wants wants = {.qos = rows[i].qos};
        if (client_subscribe(bed, &a, rows[i].filter, wants) != rows[i].reason)
            fail_msg("%s", rows[i].filter);
    }
    assert_int_equal(metric_get(&bed->metrics->denied_subscribe), 5);
    close_all(bed);
}

#define NO_T                                                                                       \
    "[{'PolicyName':'no "                                                                          \
    "t','Priority':1,'Effect':'deny','Actions':'sub','Resources':'t/#'}," ALL_RULE "]"

/* What comes while it is denied is passed by; what comes after that is not. */
static void a_change_reaches_subscriptions(void **state)
{
    (void)state;
    struct bed *bed = open_with("[" ALL_RULE "]");
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    for (uint8_t qos = 0; qos < 3; qos++) {
        char filter[8];
        (void)snprintf(filter, sizeof filter, "t/%u", qos);
        client_subscribe(bed, &b, filter, (struct wants){.qos = qos});
        client_publish(&a, filter, "1", (struct options){.qos = qos});
        bed_run(bed);
        client_ack(bed, &b, PACKET_PUBACK, client_expect_message(&b, "1", qos)->packet_id);
        set_rules(NO_T, "[]");
        bed_run(bed);
        client_publish(&a, filter, "2", (struct options){.qos = qos, .packet_id = 2});
        bed_run(bed);
        client_expect_nothing(&b);
        set_rules("[" ALL_RULE "]", "[]");
        bed_run(bed);
        client_publish(&a, filter, "3", (struct options){.qos = qos, .packet_id = 3});
        bed_run(bed);
        client_expect_message(&b, "3", qos);
        client_unsubscribe(bed, &b, filter);
    }
    assert_int_equal(metric_get(&bed->metrics->denied_deliveries), 3);
    close_all(bed);
}

/* Only the subscription that is denied; one that overlaps with it still brings the message. */
static void others_still_bring_it(void **state)
{
    (void)state;
    struct bed *bed = open_with("[" ALL_RULE "]");
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_subscribe(bed, &b, "t/#", (struct wants){.qos = 1});
    client_subscribe(bed, &b, "t/x", (struct wants){.qos = 1});
    set_rules("[{'PolicyName':'no y','Priority':1,'Effect':'deny','Actions':'sub',"
              "'Resources':'t/y'}," ALL_RULE "]",
              "[]");
    bed_run(bed);
    client_publish(&a, "t/y", "y", (struct options){.qos = 1});
    client_publish(&a, "t/x", "x", (struct options){.qos = 1, .packet_id = 2});
    bed_run(bed);
    client_expect_message(&b, "x", 1);
    client_expect_nothing(&b);
    /* In flight, it is sent again by the right of t/x. */
    client_lose(&b);
    client_connect(bed, &b, "b", durable);
    assert_true(client_expect_message(&b, "x", 1)->dup);
    close_all(bed);
}

static void what_waited_is_judged_at_resume(void **state)
{
    (void)state;
    struct bed *bed =
        open_with("[" CONNECT_RULE ",{'PolicyName':'x only','Priority':1,'Effect':'allow',"
                  "'Actions':'pub,sub','Username':'x'}]");
    const struct how as_x = {.expiry_s = 3600, .username = "x"};
    const struct how as_y = {.expiry_s = 3600, .username = "y"};
    client_connect(bed, &a, "a", as_x);
    client_connect(bed, &b, "b", as_x);
    assert_int_equal(client_subscribe(bed, &b, "t", (struct wants){.qos = 2}), 2);
    client_publish(&a, "t", "sent", (struct options){.qos = 1});
    bed_run(bed);
    client_expect_message(&b, "sent", 1); /* not acknowledged */
    client_lose(&b);
    client_publish(&a, "t", "waiting", (struct options){.qos = 1, .packet_id = 2});
    bed_run(bed);
    client_connect(bed, &b, "b", as_y); /* the same session, another user */
    assert_true(b.present);
    client_expect_nothing(&b);
    client_publish(&a, "t", "live", (struct options){.qos = 1, .packet_id = 3});
    bed_run(bed);
    client_expect_nothing(&b);
    client_lose(&b);
    client_connect(bed, &b, "b", as_x);
    client_publish(&a, "t", "again", (struct options){.qos = 1, .packet_id = 4});
    bed_run(bed);
    client_expect_message(&b, "again", 1);
    client_expect_nothing(&b);
    close_all(bed);
}

static void retained_messages_are_kept_back(void **state)
{
    (void)state;
    struct bed *bed = open_with("[" ALL_RULE "]");
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", transient);
    client_publish(&a, "t", "kept", (struct options){.qos = 1, .retain = true});
    bed_run(bed);
    b.full = true;
    client_subscribe(bed, &b, "t", (struct wants){.qos = 0});
    set_rules("[{'PolicyName':'no t','Priority':1,'Effect':'deny','Actions':'sub',"
              "'Resources':'t'}," ALL_RULE "]",
              "[]");
    bed_run(bed);
    b.full = false;
    link_writable(&b.link);
    bed_run(bed);
    client_expect_nothing(&b);
    close_all(bed);
}

static void members_of_groups_give_way(void **state)
{
    (void)state;
    struct bed *bed = open_with("[" ALL_RULE "]");
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_connect(bed, &c, "c", durable);
    client_subscribe(bed, &b, "$share/g/t", (struct wants){.qos = 1});
    client_publish(&a, "t", "1", (struct options){.qos = 1});
    bed_run(bed);
    client_expect_message(&b, "1", 1); /* not acknowledged */
    client_subscribe(bed, &c, "$share/g/t", (struct wants){.qos = 1});
    set_rules("[{'PolicyName':'no b','Priority':1,'Effect':'deny','Actions':'sub','ClientId':'b',"
              "'Resources':'t'}," ALL_RULE "]",
              "[]");
    bed_run(bed);
    client_expect_message(&c, "1", 1);
    for (uint16_t i = 0; i < 4; i++) {
        client_publish(&a, "t", "more", (struct options){.qos = 1, .packet_id = 2});
        client_publish(&a, "t", "more", (struct options){.qos = 0});
        bed_run(bed);
        (void)client_expect(&c, PACKET_PUBLISH);
        (void)client_expect(&c, PACKET_PUBLISH);
    }
    client_expect_nothing(&b);
    client_expect_nothing(&c);
    client_disconnect(&c); /* nobody is left: it waits */
    client_publish(&a, "t", "late", (struct options){.qos = 1, .packet_id = 3});
    bed_run(bed);
    client_expect_nothing(&b);
    set_rules("[" ALL_RULE "]", "[]");
    bed_run(bed);
    uint32_t late = 0;
    for (const struct event *event; (event = client_next(&b));)
        late += strcmp(event->payload, "late") == 0;
    assert_int_equal(late, 1);
    close_all(bed);
}

static void links_are_closed(void **state)
{
    (void)state;
    struct bed *bed = open_with("[" ALL_RULE "]");
    client_connect(bed, &a, "a", durable);
    client_connect(bed, &b, "b", durable);
    client_connect(bed, &c, "c", transient);
    set_rules("[{'PolicyName':'no a','Priority':1,'Effect':'deny','Actions':'connect',"
              "'ClientId':'a'}," ALL_RULE "]",
              "[{'Name':'b','Type':1,'Include':'b'}]");
    bed_run(bed);
    assert_int_equal(a.closed, REASON_NOT_AUTHORIZED);
    assert_int_equal(b.closed, REASON_ADMINISTRATIVE);
    assert_true(c.open);
    set_rules("[" ALL_RULE "]", "[{'Name':'all','Type':3,'Include':'192.0.2.0/24'}]");
    bed_run(bed);
    assert_int_equal(c.closed, REASON_ADMINISTRATIVE);
    close_all(bed);
}

/* A block rule ends by itself. */
static void blocks_expire(void **state)
{
    (void)state;
    struct bed *bed = open_with("[" ALL_RULE "]");
    char text[128];
    (void)snprintf(text, sizeof text, "[{'Name':'b','Type':2,'Include':'user','ExpireTime':%llu}]",
                   (unsigned long long)bed_wall_ms(bed) + 5000);
    set_rules("[" ALL_RULE "]", text);
    const struct how how = {.clean = true, .username = "user"};
    assert_int_equal(connect_reason(bed, "a", how), REASON_BANNED);
    bed_pass(bed, 4000);
    assert_int_equal(connect_reason(bed, "a", how), REASON_BANNED);
    bed_pass(bed, 1100);
    assert_int_equal(connect_reason(bed, "a", how), 0);
    close_all(bed);
}

static void wills_are_judged_again(void **state)
{
    (void)state;
    struct bed *bed = open_with("[" ALL_RULE "]");
    const struct how how = {.expiry_s = 3600, .will = "t/w", .will_qos = 1, .will_delay_s = 5};
    client_connect(bed, &b, "b", transient);
    client_subscribe(bed, &b, "t/#", (struct wants){.qos = 1});
    for (int round = 0; round < 2; round++) {
        client_connect(bed, &a, "a", how);
        client_lose(&a);
        if (round == 1)
            set_rules("[{'PolicyName':'no w','Priority':1,'Effect':'deny','Actions':'pub',"
                      "'Resources':'t/w'}," ALL_RULE "]",
                      "[]");
        bed_pass(bed, 6000);
        if (round == 0)
            client_expect_message(&b, "will", 1);
        client_expect_nothing(&b);
    }
    assert_int_equal(metric_get(&bed->metrics->denied_publish), 1);
    close_all(bed);
}

/* More than one slice, and a change in the middle of the walk. */
static void many_sessions_are_reviewed(void **state)
{
    (void)state;
    enum { MANY = 700 };
    static struct client many[MANY];
    struct bed *bed = open_with("[" ALL_RULE "]");
    for (int i = 0; i < MANY; i++) {
        char id[16];
        (void)snprintf(id, sizeof id, "m-%03d", i);
        client_connect(bed, &many[i], id, transient);
    }
    set_rules("[]", "[]");
    assert_int_equal(loop_turn(bed->loop, 0), 0);
    timer_set_advance(bed->timers, ++bed->now_ms);
    set_rules("[{'PolicyName':'last','Priority':1,'Effect':'allow','Actions':'connect',"
              "'ClientId':'m-6*'}]",
              "[]");
    bed_run(bed);
    int open = 0;
    for (int i = 0; i < MANY; i++) {
        open += many[i].open;
        many[i].link.access = access_unref(many[i].link.access);
    }
    assert_int_equal(open, 100);
    close_all(bed);
}

/* The switch: with it off, nothing is looked at. */
static void the_switch_counts(void **state)
{
    (void)state;
    struct bed *bed = open_with("[" CONNECT_RULE "]");
    client_connect(bed, &a, "a", transient);
    assert_int_equal(client_subscribe(bed, &a, "t", (struct wants){0}), REASON_NOT_AUTHORIZED);
    struct policies policies = {0};
    struct blocks blocks = {0};
    rulebook_configure(rulebook, false, &policies, &blocks);
    bed_run(bed);
    assert_int_equal(client_subscribe(bed, &a, "t", (struct wants){0}), 0);
    client_publish(&a, "t", "m", (struct options){.qos = 0});
    bed_run(bed);
    client_expect_message(&a, "m", 0);
    close_all(bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connections_are_refused),
        cmocka_unit_test(publishes_are_refused),
        cmocka_unit_test(subscriptions_are_refused),
        cmocka_unit_test(a_change_reaches_subscriptions),
        cmocka_unit_test(others_still_bring_it),
        cmocka_unit_test(what_waited_is_judged_at_resume),
        cmocka_unit_test(retained_messages_are_kept_back),
        cmocka_unit_test(members_of_groups_give_way),
        cmocka_unit_test(links_are_closed),
        cmocka_unit_test(blocks_expire),
        cmocka_unit_test(wills_are_judged_again),
        cmocka_unit_test(many_sessions_are_reviewed),
        cmocka_unit_test(the_switch_counts),
    };
    return cmocka_run_group_tests_name("broker/rights", tests, NULL, NULL);
}
