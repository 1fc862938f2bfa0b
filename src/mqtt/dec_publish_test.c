/* dec_publish: flags, topic, packet identifier, properties and payload in all versions. */
#include "mqtt/dec_unit.h"

#define ROW(flags, version, text, err, reason)                                                     \
    {                                                                                              \
        PACKET_PUBLISH, flags, version, text, err, reason                                          \
    }

/* Without payload, so that each shorter body is a wrong one. */
static const struct unit_row valid[] = {
    ROW(0, 3, "<a/b>", 0, 0),
    ROW(0, 4, "<a/b>", 0, 0),
    ROW(1, 4, "<a>", 0, 0),
    ROW(2, 4, "<a> 0001", 0, 0),
    ROW(4, 4, "<a> ffff", 0, 0),
    ROW(0x0d, 4, "<a> 0001", 0, 0),
    ROW(0, 5, "<a> 00", 0, 0),
    ROW(2, 5, "<a> 0001 00", 0, 0),
    ROW(2, 5, "<> 0001 03 23 0001", 0, 0),
    ROW(4, 5, "<a> 0001 1a 02 0000003c 01 01 23 000a 08 <r/t> 09 0002 00ff 26 <> <>", 0, 0),
};

/* [MQTT3-3.3.2-1] [MQTT5-3.3.2-1] */
static void valid_and_truncated(void **state)
{
    (void)state;
    unit_rows_check(valid, ARRAY_COUNT(valid));
    unit_rows_truncate(valid, ARRAY_COUNT(valid));
}

/* [MQTT3-3.3.1-2] [MQTT3-3.3.1-4] [MQTT3-2.3.1-1] [MQTT5-3.3.1-2] [MQTT5-3.3.1-4] [MQTT5-2.2.1-3]
 */
static void flags_and_packet_id(void **state)
{
    (void)state;
    static const struct unit_row rows[] = {
        ROW(6, 3, "<a> 0001", ERR_MALFORMED, 0x81),    ROW(6, 4, "<a> 0001", ERR_MALFORMED, 0x81),
        ROW(7, 5, "<a> 0001 00", ERR_MALFORMED, 0x81), ROW(8, 4, "<a>", ERR_MALFORMED, 0x81),
        ROW(8, 5, "<a> 00", ERR_MALFORMED, 0x81),      ROW(8, 3, "<a>", 0, 0),
        ROW(2, 3, "<a> 0000", ERR_PROTOCOL, 0x82),     ROW(2, 4, "<a> 0000", ERR_PROTOCOL, 0x82),
        ROW(4, 5, "<a> 0000 00", ERR_PROTOCOL, 0x82),
    };
    unit_rows_check(rows, ARRAY_COUNT(rows));
}

/* [MQTT3-3.3.2-2] [MQTT3-4.7.1-1] [MQTT3-4.7.3-1] [MQTT5-3.3.2-2] [MQTT5-4.7.0-1] [MQTT5-4.7.3-1]
 */
static void topics(void **state)
{
    (void)state;
    static const struct unit_row rows[] = {
        ROW(0, 4, "<a/+>", ERR_PROTOCOL, 0x90),
        ROW(0, 4, "<#>", ERR_PROTOCOL, 0x90),
        ROW(0, 5, "<a/#> 00", ERR_PROTOCOL, 0x90),
        ROW(0, 5, "<a/#> 03 23 0001", ERR_PROTOCOL, 0x90),
        ROW(0, 4, "<>", ERR_PROTOCOL, 0x82),
        ROW(0, 5, "<> 00", ERR_PROTOCOL, 0x82),
        ROW(0, 4, "0002 6100", ERR_MALFORMED, 0x81),
        ROW(0, 5, "0001 ff 00", ERR_MALFORMED, 0x81),
        ROW(0, 5, "0003 eda080 00", ERR_MALFORMED, 0x81),
        ROW(0, 4, "0003 efbbbf", 0, 0), /* [MQTT3-1.5.3-3] [MQTT5-1.5.4-3] */
    };
    unit_rows_check(rows, ARRAY_COUNT(rows));
}

/* [MQTT5-3.3.4-6] and alias 0: [MQTT5-3.3.2-8] */
static void properties(void **state)
{
    (void)state;
    static const struct unit_row rows[] = {
        ROW(0, 5, "<a> 02 0b 01", ERR_PROTOCOL, 0x82),
        ROW(0, 5, "<a> 03 23 0000", ERR_PROTOCOL, 0x94),
        ROW(0, 5, "<a> 06 23 0001 23 0001", ERR_PROTOCOL, 0x82),
        ROW(0, 5, "<a> 02 01 02", ERR_PROTOCOL, 0x82),
        ROW(0, 5, "<a> 04 08 <+>", ERR_PROTOCOL, 0x82),
        ROW(0, 5, "<a> 05 11 00000001", ERR_MALFORMED, 0x81),
        ROW(0, 5, "<a> 8000", ERR_MALFORMED, 0x81),
        ROW(0, 5, "<a> 7f 01 01", ERR_MALFORMED, 0x81),
    };
    unit_rows_check(rows, ARRAY_COUNT(rows));
}

static bool is(struct slice slice, const char *text)
{
    return slice_equal(slice, slice_of(text, strlen(text)));
}

/* Each field arrives, as slices of the body. [MQTT3-2.3.1-5] [MQTT5-2.2.1-2] */
static void all_fields(void **state)
{
    (void)state;
    uint8_t room[128], reason;
    struct packet_publish packet;
    struct slice body =
        unit_bytes("<a/b> 1234 0a 02 0000003c 23 0007 01 01 'payload'", room, sizeof room);
    assert_int_equal(dec_publish(body, 0x0b, 5, &packet, &reason), 0);
    assert_true(packet.dup && packet.retain);
    assert_int_equal(packet.qos, 1);
    assert_int_equal(packet.packet_id, 0x1234);
    assert_int_equal(packet.props.message_expiry_s, 60);
    assert_int_equal(packet.props.topic_alias, 7);
    assert_true(PROPS_HAS(&packet.props, PROP_PAYLOAD_FORMAT));
    assert_true(is(packet.topic, "a/b") && packet.topic.bytes == room + 2);
    assert_true(is(packet.payload, "payload"));
    assert_ptr_equal(packet.payload.bytes + packet.payload.size, room + body.size);

    body = unit_bytes("<t> '\x01\x02'", room, sizeof room);
    assert_int_equal(dec_publish(body, 0, 4, &packet, &reason), 0);
    assert_false(packet.dup || packet.retain);
    assert_int_equal(packet.packet_id, 0);
    assert_true(packet.props.has == 0);
    assert_true(is(packet.payload, "\x01\x02"));
    body = unit_bytes("<t> 0001", room, sizeof room);
    assert_int_equal(dec_publish(body, 4, 4, &packet, &reason), 0);
    assert_int_equal(packet.qos, 2);
    assert_int_equal(packet.payload.size, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_and_truncated),
        cmocka_unit_test(flags_and_packet_id),
        cmocka_unit_test(topics),
        cmocka_unit_test(properties),
        cmocka_unit_test(all_fields),
    };
    return cmocka_run_group_tests_name("mqtt/dec_publish", tests, NULL, NULL);
}
