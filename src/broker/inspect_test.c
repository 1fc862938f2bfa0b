/* What administrators see and do, over the model engine. */
#include "store/mem/mem.h"

#include "base/strbuf.h"
#include "broker/testbed.h"

static struct client a, b, c;

struct answer {
    int count, err;
    char detail[128];
};

static void on_answer(void *data, int err, const char *detail)
{
    struct answer *answer = data;
    answer->count++;
    answer->err = err;
    (void)snprintf(answer->detail, sizeof answer->detail, "%s", detail ? detail : "");
}

static void list_topic(void *data, const struct topic_info *info)
{
    strbuf_addf(data, "%.*s ", (int)info->name.size, (const char *)info->name.bytes);
}

static void list_client(void *data, const struct client_info *info)
{
    strbuf_addf(data, "%.*s%c ", (int)info->client_id.size, (const char *)info->client_id.bytes,
                info->online ? '+' : '-');
}

static void list_filter(void *data, const struct subscription_info *info)
{
    strbuf_addf(data, "%.*s:%u:%u ", (int)info->filter.size, (const char *)info->filter.bytes,
                info->qos, (unsigned)info->lag);
}

static void topics_are_created_changed_listed(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    bed->config.topics_auto_create = false;
    bed->config.topics_max = 3;
    broker_configure(bed->broker, &bed->config);
    static const char *const names[] = {"m", "z", "a"};
    struct answer answer = {0};
    for (int i = 0; i < 3; i++)
        inspect_topic_create(bed->broker, slice_str(names[i]), slice_str("old"), on_answer,
                             &answer);
    assert_int_equal(answer.count, 0); /* not before it is durable */
    bed_run(bed);
    assert_int_equal(answer.count, 3);
    assert_int_equal(answer.err, 0);
    inspect_topic_create(bed->broker, slice_str("m"), slice_str(""), on_answer, &answer);
    assert_int_equal(answer.err, ERR_EXISTS);
    inspect_topic_create(bed->broker, slice_str("q"), slice_str(""), on_answer, &answer);
    assert_int_equal(answer.err, ERR_FULL);
    inspect_topic_create(bed->broker, slice_str("a/b"), slice_str(""), on_answer, &answer);
    assert_int_equal(answer.err, ERR_INVALID);
    inspect_topic_create(bed->broker, slice_str("$SYS"), slice_str(""), on_answer, &answer);
    assert_int_equal(answer.err, ERR_INVALID);
    inspect_topic_modify(bed->broker, slice_str("a"), slice_str("new"), on_answer, &answer);
    bed_run(bed);
    assert_int_equal(answer.err, 0);
    bed_crash(bed, false);
    char text[64];
    struct strbuf list;
    strbuf_init_array(&list, text, sizeof text);
    assert_int_equal(inspect_topics(bed->broker, slice_of("", 0), 2, list_topic, &list), 2);
    assert_string_equal(text, "a m ");
    assert_int_equal(inspect_topics(bed->broker, slice_str("m"), 9, list_topic, &list), 1);
    assert_string_equal(text, "a m z ");
    struct topic_info info;
    assert_int_equal(inspect_topic(bed->broker, slice_str("a"), &info), 0);
    assert_true(slice_equal(info.remark, slice_str("new")));
    assert_int_equal(inspect_topic(bed->broker, slice_str("q"), &info), ERR_NOTFOUND);
    assert_int_equal(inspect_topic_count(bed->broker), 3);
    bed_close(bed);
}

/* Deleting takes the retained messages and what waits for clients; a new topic of the name is
 * another one. */
static void topics_are_deleted_with_all_they_hold(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", durable);
    client_connect(bed, &c, "c", durable);
    client_subscribe(bed, &b, "t/#", (struct wants){.qos = 1});
    client_subscribe(bed, &c, "#", (struct wants){.qos = 1});
    client_disconnect(&b);
    client_disconnect(&c);
    client_publish(&a, "t/x", "old", (struct options){.qos = 1, .retain = true});
    client_publish(&a, "u/x", "kept", (struct options){.qos = 1, .packet_id = 2});
    bed_run(bed);
    struct answer answer = {0};
    inspect_topic_delete(bed->broker, slice_str("t"), false, on_answer, &answer);
    assert_int_equal(answer.err, ERR_DENIED);
    assert_non_null(strstr(answer.detail, "1 subscription"));
    inspect_topic_delete(bed->broker, slice_str("none"), true, on_answer, &answer);
    assert_int_equal(answer.err, ERR_NOTFOUND);
    inspect_topic_delete(bed->broker, slice_str("t"), true, on_answer, &answer);
    bed_run(bed);
    assert_int_equal(answer.err, 0);
    for (int crash = 0; crash < 2; crash++) {
        client_connect(bed, &b, "b", durable);
        client_expect_nothing(&b);
        client_connect(bed, &c, "c", durable);
        client_expect_message(&c, "kept", 1);
        client_expect_nothing(&c);
        client_connect(bed, &a, "a", transient);
        client_subscribe(bed, &a, "t/#", (struct wants){.qos = 0});
        client_expect_nothing(&a);
        bed_pass(bed, 500);
        bed_crash(bed, false);
    }
    bed_close(bed);
}

static void clients_are_listed(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", durable);
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &c, "c", durable);
    client_subscribe(bed, &b, "$share/g/t", (struct wants){.qos = 2});
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
    client_disconnect(&b);
    client_publish(&a, "t", "x", (struct options){.qos = 1});
    bed_run(bed);
    char text[64];
    struct strbuf list;
    strbuf_init_array(&list, text, sizeof text);
    assert_int_equal(
        inspect_clients(bed->broker, slice_of("", 0), 2, CLIENT_ANY, list_client, &list), 2);
    assert_string_equal(text, "a+ b- ");
    assert_int_equal(
        inspect_clients(bed->broker, slice_str("a"), 9, CLIENT_ONLINE, list_client, &list), 1);
    assert_string_equal(text, "a+ b- c+ ");
    struct client_info info;
    strbuf_init_array(&list, text, sizeof text);
    assert_int_equal(inspect_client(bed->broker, slice_str("b"), &info, list_filter, &list), 0);
    assert_string_equal(text, "$share/g/t:2:1 t:1:1 ");
    assert_int_equal(info.subscription_count, 2);
    assert_int_equal(inspect_client(bed->broker, slice_str("d"), &info, NULL, NULL), ERR_NOTFOUND);
    bed_close(bed);
}

/* A subscription that still delivers what came before its UNSUBSCRIBE is none any more. */
static void drained_subscriptions_are_not_listed(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &a, "a", transient);
    client_connect(bed, &b, "b", (struct how){.expiry_s = 100, .receive_max = 1});
    client_subscribe(bed, &b, "t", (struct wants){.qos = 1});
    client_subscribe(bed, &b, "u", (struct wants){.qos = 0});
    client_publish(&a, "t", "1", (struct options){.qos = 1});
    client_publish(&a, "t", "2", (struct options){.qos = 1, .packet_id = 2});
    bed_run(bed);
    const uint16_t pid = client_expect_message(&b, "1", 1)->packet_id;
    assert_int_equal(client_unsubscribe(bed, &b, "t"), 0);
    char text[64];
    struct strbuf list;
    strbuf_init_array(&list, text, sizeof text);
    struct client_info info;
    assert_int_equal(inspect_client(bed->broker, slice_str("b"), &info, list_filter, &list), 0);
    assert_string_equal(text, "u:0:0 ");
    assert_int_equal(info.subscription_count, 1);
    client_ack(bed, &b, PACKET_PUBACK, pid);
    client_expect_message(&b, "2", 1);
    bed_close(bed);
}

static void clients_are_kicked(void **state)
{
    (void)state;
    struct bed *bed = bed_open();
    client_connect(bed, &b, "b", transient);
    client_subscribe(bed, &b, "will", (struct wants){.qos = 1});
    client_connect(bed, &a, "a", (struct how){.expiry_s = 100, .will = "will", .will_qos = 1});
    struct answer answer = {0};
    inspect_client_kick(bed->broker, slice_str("a"), false, on_answer, &answer);
    bed_run(bed);
    assert_int_equal(answer.err, 0);
    assert_int_equal(a.closed, REASON_ADMINISTRATIVE);
    client_expect_message(&b, "will", 1);
    client_connect(bed, &a, "a", durable);
    assert_true(a.present);
    inspect_client_kick(bed->broker, slice_str("a"), true, on_answer, &answer);
    bed_run(bed);
    assert_int_equal(answer.count, 2);
    bed_crash(bed, false);
    client_connect(bed, &a, "a", durable);
    assert_false(a.present);
    inspect_client_kick(bed->broker, slice_str("none"), true, on_answer, &answer);
    assert_int_equal(answer.err, ERR_NOTFOUND);
    bed_close(bed);
}

const char *__asan_default_options(void);

/* A crash leaves the memory of requests under way behind. */
const char *__asan_default_options(void)
{
    return "detect_leaks=0";
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(topics_are_created_changed_listed),
        cmocka_unit_test(topics_are_deleted_with_all_they_hold),
        cmocka_unit_test(clients_are_listed),
        cmocka_unit_test(drained_subscriptions_are_not_listed),
        cmocka_unit_test(clients_are_kicked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
