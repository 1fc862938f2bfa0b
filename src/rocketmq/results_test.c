/* What the client is made of, by itself: signatures, routes, receipts of POP. */
#include "base/unit.h"
#include "rocketmq/rmq_acl.h"
#include "rocketmq/rmq_results.h"
#include "rocketmq/rmq_route.h"

#include <string.h>

/* As the Java client signs the same. */
static void requests_are_signed(void **state)
{
    (void)state;
    struct rmq_fields fields;
    char room[RMQ_SIGNATURE_SIZE_MAX];
    rmq_fields_clear(&fields);
    rmq_fields_add_text(&fields, "topic", "t");
    rmq_fields_add_text(&fields, "b", "2");
    rmq_fields_add_text(&fields, "a", "1");
    rmq_fields_add_text(&fields, "bb", "");
    assert_int_equal(rmq_acl_sign(&fields, slice_str("body"), "adm", "12345678", room), 0);
    /* HMAC-SHA1("12345678", "adm" "1" "2" "" "t" "body") by openssl */
    assert_true(slice_equal(rmq_fields_find(&fields, "Signature"),
                            slice_str("gL76dz9E0yNUpzdiF0YaNhTx06w=")));
    assert_true(slice_equal(rmq_fields_find(&fields, "AccessKey"), slice_str("adm")));
}

static void routes_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *body, *why;
    } rows[] = {
        {"", "empty"},
        {"[]", "lacks its lists"},
        {"{\"brokerDatas\":[{}],\"queueDatas\":[]}", "name of a Broker"},
        {"{\"brokerDatas\":[{\"brokerName\":\"a\"}],\"queueDatas\":[]}", "no addresses"},
        {"{\"brokerDatas\":[{\"brokerName\":\"a\",\"brokerAddrs\":{\"x\":\"h:1\"}}],"
         "\"queueDatas\":[]}",
         "not a number"},
        {"{\"brokerDatas\":[{\"brokerName\":\"a\",\"brokerAddrs\":{0:1}}],\"queueDatas\":[]}",
         "not a text"},
        {"{\"brokerDatas\":[{\"brokerName\":\"a\",\"brokerAddrs\":{0:\"h:1\"}}],"
         "\"queueDatas\":[{\"brokerName\":\"a\",\"perm\":6,\"readQueueNums\":-1,"
         "\"writeQueueNums\":1}]}",
         "within bounds"},
        {"{\"brokerDatas\":[{\"brokerName\":\"a\",\"brokerAddrs\":{0:\"a\",1:\"a\",2:\"a\",3:\"a\","
         "4:\"a\",5:\"a\",6:\"a\",7:\"a\",8:\"a\"}}],\"queueDatas\":[]}",
         "more replicas"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct rmq_route *route = NULL;
        const char *why = NULL;
        assert_int_equal(rmq_route_parse(slice_str(rows[i].body), &route, &why), ERR_MALFORMED);
        assert_null(route);
        if (!why || !strstr(why, rows[i].why))
            fail_msg("%s: %s", rows[i].body, why ? why : "no reason");
    }
    struct rmq_route *route = NULL;
    const char *why = NULL;
    static const char sound[] =
        "{\"brokerDatas\":[{\"brokerName\":\"a\",\"brokerAddrs\":{0:\"h:1\",2:\"h:2\"}}],"
        "\"queueDatas\":[{\"brokerName\":\"gone\",\"perm\":6}]}";
    assert_int_equal(rmq_route_parse(slice_str(sound), &route, &why), 0);
    assert_string_equal(rmq_group_master(rmq_route_group(route, "a")), "h:1");
    assert_null(rmq_route_group(route, "gone"));
    assert_true(rmq_route_has_address(route, "h:2"));
    assert_false(rmq_route_has_address(route, "h:3"));
    route = rmq_route_free(route);
}

static void receipts_are_made(void **state)
{
    (void)state;
    struct rmq_command command = {0};
    struct rmq_result result = {.command = &command, .broker = "a"};
    struct rmq_message message = {.queue_id = 2, .queue_offset = 46};
    struct strbuf handle, hidden;
    uint64_t offset = 0;
    strbuf_init(&handle, 1000);
    strbuf_init(&hidden, 1000);
    assert_int_equal(rmq_result_receipt(&result, &message, NULL, &handle, &offset), ERR_MALFORMED);
    rmq_fields_add_text(&command.fields, "popTime", "1700");
    rmq_fields_add_text(&command.fields, "invisibleTime", "60000");
    rmq_fields_add_text(&command.fields, "reviveQid", "5");
    rmq_fields_add_text(&command.fields, "startOffsetInfo", "1 2 9;0 0 7;0 2 45");
    assert_int_equal(rmq_result_receipt(&result, &message, NULL, &handle, &offset), 0);
    assert_string_equal(handle.text, "45 1700 60000 5 0 a 2 46");
    assert_true(offset == 46);
    assert_int_equal(rmq_result_hidden(&result, slice_str("45 1 2 3 0 a 2 46"), &hidden), 0);
    assert_string_equal(hidden.text, "46 1700 60000 5 0 a 2 46");
    assert_int_equal(rmq_result_hidden(&result, slice_str("45 1 2"), &hidden), ERR_MALFORMED);
    strbuf_done(&handle);
    strbuf_done(&hidden);
    strbuf_init(&handle, 1000);
    message.properties = slice_str("INNER_MULTI_DISPATCH\1L\2INNER_MULTI_QUEUE_OFFSET\0018\2");
    assert_int_equal(rmq_result_receipt(&result, &message, "L", &handle, &offset), 0);
    assert_string_equal(handle.text, "7 1700 60000 5 0 a 0 8");
    strbuf_done(&handle);
    message.queue_id = 9; /* not among those that were popped */
    assert_int_equal(rmq_result_receipt(&result, &message, NULL, &handle, &offset), ERR_MALFORMED);
    message.properties = slice_str("POP_CK\0011 2 3 4 1 a 0 77\2");
    strbuf_init(&handle, 1000);
    assert_int_equal(rmq_result_receipt(&result, &message, NULL, &handle, &offset), 0);
    assert_string_equal(handle.text, "1 2 3 4 1 a 0 77");
    assert_true(offset == 77);
    strbuf_done(&handle);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(requests_are_signed),
        cmocka_unit_test(routes_are_checked),
        cmocka_unit_test(receipts_are_made),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
