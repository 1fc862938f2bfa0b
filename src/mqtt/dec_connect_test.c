/* dec_connect: all three versions, what each of them refuses, and the version to answer in. */
#include "mqtt/dec_unit.h"

#define ROW(version, text, err, reason)                                                            \
    {                                                                                              \
        PACKET_CONNECT, 0, version, text, err, reason                                              \
    }

/* Strict truncation applies to all but two rows of 3.1, tested on their own. */
static const struct unit_row valid[] = {
    ROW(3, "<MQIsdp> 03 02 003c <a>", 0, 0),
    ROW(3, "<MQIsdp> 03 03 003c <a>", 0, 0), /* the reserved bit had no meaning */
    ROW(3, "<MQIsdp> 03 38 003c <a>", 0, 0), /* nor had these without the Will flag */
    ROW(3, "<MQIsdp> 03 02 003c <abcdefghijklmnopqrstuvwxyz>", 0, 0),
    ROW(4, "<MQTT> 04 02 003c <>", 0, 0),
    ROW(4, "<MQTT> 04 00 0000 <a>", 0, 0),
    ROW(4, "<MQTT> 04 f6 003c <a> <w/t> <payload> <user> <pass>", 0, 0),
    ROW(4, "<MQTT> 04 0e 003c <a> <w> <>", 0, 0),
    ROW(4, "<MQTT> 04 82 003c <a> <>", 0, 0),
    ROW(5, "<MQTT> 05 02 003c 00 <>", 0, 0),
    ROW(5, "<MQTT> 05 00 003c 00 <>", 0, 0),
    ROW(5, "<MQTT> 05 42 003c 00 <a> 0002 ff00", 0, 0),
    ROW(5, "<MQTT> 05 00 003c 0e 11 ffffffff 21 0014 26 <k> <> <a>", 0, 0),
    ROW(5, "<MQTT> 05 ee 003c 05 11 0000000a <a> 0e 18 00000005 01 01 26 <k> <v> <w/t> <p> <u> <s>",
        0, 0),
    ROW(5, "<MQTT> 05 02 003c 09 15 <m> 16 0002 00ff <a>", 0, 0),
};

/* [MQTT3-3.1.3-1] [MQTT3-3.1.3-3] [MQTT3-3.1.3-5] [MQTT3-3.1.2-9] [MQTT3-3.1.2-19] [MQTT3-3.1.2-21]
 * [MQTT5-3.1.3-1] [MQTT5-3.1.3-3] [MQTT5-3.1.3-5] [MQTT5-3.1.2-9] [MQTT5-3.1.2-17]
 * [MQTT5-3.1.2-19] A field that is announced must be there. */
static void valid_and_truncated(void **state)
{
    (void)state;
    unit_rows_check(valid, ARRAY_COUNT(valid));
    unit_rows_truncate(valid, ARRAY_COUNT(valid));
}

/* [MQTT3-3.1.2-1] [MQTT3-3.1.2-2] [MQTT5-3.1.2-1] [MQTT5-3.1.2-2] */
static void versions(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint8_t version;
        int err;
        uint8_t reason;
    } rows[] = {
        {"<MQTT> 04 02 0000 <a>", 4, 0, 0},
        {"<MQTT> 05 02 0000 00 <a>", 5, 0, 0},
        {"<MQIsdp> 03 02 0000 <a>", 3, 0, 0},
        {"<MQTT> 03 02 0000 <a>", 4, ERR_PROTOCOL, 0x84},
        {"<MQTT> 00 02 0000 <a>", 4, ERR_PROTOCOL, 0x84},
        {"<MQTT> 06 02 0000 <a>", 5, ERR_PROTOCOL, 0x84},
        {"<MQTT> 84 02 0000 <a>", 4, ERR_PROTOCOL, 0x84}, /* bridges of mosquitto */
        {"<MQIsdp> 04 02 0000 <a>", 4, ERR_PROTOCOL, 0x84},
        {"<MQIsdp> 83 02 0000 <a>", 4, ERR_PROTOCOL, 0x84},
        {"<mqtt> 04 02 0000 <a>", 0, ERR_PROTOCOL, 0x84},
        {"<MQTTX> 04 02 0000 <a>", 0, ERR_PROTOCOL, 0x84},
        {"<> 04 02 0000 <a>", 0, ERR_PROTOCOL, 0x84},
        {"'GET / HTTP/1.1'", 0, ERR_MALFORMED, 0x81},
        {"<MQTT>", 0, ERR_MALFORMED, 0x81},
        {"<MQTT> 05 02 0000 00", 5, ERR_MALFORMED, 0x81},
        {"", 0, ERR_MALFORMED, 0x81},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct packet_connect packet;
        uint8_t room[64], reason = 0;
        const struct slice bytes = unit_bytes(rows[i].text, room, sizeof room);
        const struct slice body = unit_copy(bytes, bytes.size);
        assert_int_equal(dec_connect(body, &packet, &reason), rows[i].err);
        assert_int_equal(packet.version, rows[i].version);
        assert_int_equal(reason, rows[i].reason);
        unit_free(body);
    }
    struct packet_connect packet;
    uint8_t reason = 0;
    assert_int_equal(dec_connect((struct slice){0}, &packet, &reason), ERR_MALFORMED);
}

/* [MQTT3-3.1.2-3] [MQTT3-3.1.2-11] [MQTT3-3.1.2-13] [MQTT3-3.1.2-14] [MQTT3-3.1.2-15]
 * [MQTT3-3.1.2-18] [MQTT3-3.1.2-20] [MQTT3-3.1.2-22] [MQTT5-3.1.2-3] [MQTT5-3.1.2-11]
 * [MQTT5-3.1.2-12] [MQTT5-3.1.2-13] [MQTT5-3.1.2-16] [MQTT5-3.1.2-18] */
static void flags(void **state)
{
    (void)state;
    static const struct unit_row rows[] = {
        ROW(4, "<MQTT> 04 03 003c <a>", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 03 003c 00 <a>", ERR_MALFORMED, 0x81),
        ROW(3, "<MQIsdp> 03 1e 003c <a> <w> <p>", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 1e 003c <a> <w> <p>", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 1e 003c 00 <a> 00 <w> <p>", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 0a 003c <a>", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 12 003c <a>", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 22 003c <a>", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 0a 003c 00 <a>", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 22 003c 00 <a>", ERR_MALFORMED, 0x81),
        ROW(3, "<MQIsdp> 03 42 003c <a> <p>", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 42 003c <a> <p>", ERR_MALFORMED, 0x81),
        /* more fields than the flags announce */
        ROW(4, "<MQTT> 04 02 003c <a> <u>", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 82 003c <a> <u> <p>", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 02 003c <a> <w> <p>", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 02 003c <a> 00", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 02 003c 00 <a> <u>", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 82 003c 00 <a> <u> <p>", ERR_MALFORMED, 0x81),
        ROW(3, "<MQIsdp> 03 c2 003c <a> <u> <p> 00", ERR_MALFORMED, 0x81),
    };
    unit_rows_check(rows, ARRAY_COUNT(rows));
}

/* [MQTT3-3.1.3-4] [MQTT3-3.1.3-7] [MQTT3-3.1.3-8] [MQTT3-3.1.3-10] [MQTT3-3.1.3-11]
 * [MQTT3-1.5.3-1] [MQTT3-1.5.3-2] [MQTT5-3.1.3-4] [MQTT5-3.1.3-11] [MQTT5-3.1.3-12] */
static void fields(void **state)
{
    (void)state;
    static const struct unit_row rows[] = {
        ROW(3, "<MQIsdp> 03 02 003c <>", ERR_PROTOCOL, 0x85),
        ROW(4, "<MQTT> 04 00 003c <>", ERR_PROTOCOL, 0x85),
        ROW(4, "<MQTT> 04 02 003c 0001 00", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 02 003c 0003 eda080", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 02 003c 0003 efbbbf", 0, 0),
        ROW(5, "<MQTT> 05 02 003c 00 0001 ff", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 06 003c <a> 0001 00 <p>", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 06 003c 00 <a> 00 0001 80 <p>", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 06 003c <a> <w/#> <p>", ERR_PROTOCOL, 0x90),
        ROW(4, "<MQTT> 04 06 003c <a> <> <p>", ERR_PROTOCOL, 0x90),
        ROW(5, "<MQTT> 05 06 003c 00 <a> 00 <+> <p>", ERR_PROTOCOL, 0x90),
        ROW(4, "<MQTT> 04 82 003c <a> 0001 c0", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 82 003c 00 <a> 0002 6100", ERR_MALFORMED, 0x81),
        ROW(4, "<MQTT> 04 c2 003c <a> <u> 0002 c000", 0, 0), /* a password is any bytes */
    };
    unit_rows_check(rows, ARRAY_COUNT(rows));
}

/* Properties of CONNECT and of the Will: each block takes its own only. */
static void properties(void **state)
{
    (void)state;
    static const struct unit_row rows[] = {
        ROW(5, "<MQTT> 05 02 003c 05 18 00000001 <a>", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 06 003c 00 <a> 05 11 00000001 <w> <p>", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 06 003c 00 <a> 03 23 0001 <w> <p>", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 02 003c 03 21 0000 <a>", ERR_PROTOCOL, 0x82),
        ROW(5, "<MQTT> 05 02 003c 05 27 00000000 <a>", ERR_PROTOCOL, 0x82),
        ROW(5, "<MQTT> 05 02 003c 0a 11 00000001 11 00000001 <a>", ERR_PROTOCOL, 0x82),
        ROW(5, "<MQTT> 05 02 003c 04 16 0001 00 <a>", ERR_PROTOCOL, 0x82),
        ROW(5, "<MQTT> 05 06 003c 00 <a> 02 01 02 <w> <p>", ERR_PROTOCOL, 0x82),
        ROW(5, "<MQTT> 05 02 003c 7f 11 00000001 <a>", ERR_MALFORMED, 0x81),
        ROW(5, "<MQTT> 05 02 003c 8500 11 00000001 <a>", ERR_MALFORMED, 0x81),
    };
    unit_rows_check(rows, ARRAY_COUNT(rows));
}

static bool is(struct slice slice, const char *text)
{
    return slice_equal(slice, slice_of(text, strlen(text)));
}

/* Each field arrives where it belongs. */
static void all_fields(void **state)
{
    (void)state;
    uint8_t room[256], reason;
    struct packet_connect packet;
    struct slice body =
        unit_bytes("<MQTT> 05 f4 012c 05 11 0000000a <id> 0c 18 00000005 26 <k> <v> "
                   "<w/t> <bye> <user> <secret>",
                   room, sizeof room);
    assert_int_equal(dec_connect(body, &packet, &reason), 0);
    assert_int_equal(packet.version, 5);
    assert_false(packet.clean_start);
    assert_int_equal(packet.keep_alive_s, 300);
    assert_int_equal(packet.props.session_expiry_s, 10);
    assert_true(is(packet.client_id, "id"));
    assert_true(packet.has_will && packet.will_retain);
    assert_int_equal(packet.will_qos, 2);
    assert_int_equal(packet.will_props.will_delay_s, 5);
    assert_int_equal(packet.will_props.user_count, 1);
    assert_true(is(packet.will_topic, "w/t"));
    assert_true(is(packet.will_payload, "bye"));
    assert_true(packet.has_username && is(packet.username, "user"));
    assert_true(packet.has_password && is(packet.password, "secret"));

    body = unit_bytes("<MQTT> 04 02 0000 <id>", room, sizeof room);
    assert_int_equal(dec_connect(body, &packet, &reason), 0);
    assert_true(packet.clean_start);
    assert_false(packet.has_will || packet.has_username || packet.has_password);
    assert_true(packet.props.has == 0 && packet.will_props.has == 0);
    assert_int_equal(packet.username.size, 0);
}

/* 3.1 lets user name and password be missing though the flags announce them. */
static void credentials_missing_in_31(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        bool has_username, has_password;
    } rows[] = {
        {"<MQIsdp> 03 c2 003c <a>", false, false},
        {"<MQIsdp> 03 c2 003c <a> <u>", true, false},
        {"<MQIsdp> 03 c2 003c <a> <u> <p>", true, true},
        {"<MQIsdp> 03 82 003c <a>", false, false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        uint8_t room[64], reason;
        struct packet_connect packet;
        const struct slice body = unit_bytes(rows[i].text, room, sizeof room);
        assert_int_equal(dec_connect(body, &packet, &reason), 0);
        assert_int_equal(packet.has_username, rows[i].has_username);
        assert_int_equal(packet.has_password, rows[i].has_password);
    }
    static const struct unit_row cut[] = {
        ROW(3, "<MQIsdp> 03 c2 003c <a> 00", ERR_MALFORMED, 0x81),
        ROW(3, "<MQIsdp> 03 c2 003c <a> <u> 0002 61", ERR_MALFORMED, 0x81),
    };
    unit_rows_check(cut, ARRAY_COUNT(cut));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_and_truncated),
        cmocka_unit_test(versions),
        cmocka_unit_test(flags),
        cmocka_unit_test(fields),
        cmocka_unit_test(properties),
        cmocka_unit_test(all_fields),
        cmocka_unit_test(credentials_missing_in_31),
    };
    return cmocka_run_group_tests_name("mqtt/dec_connect", tests, NULL, NULL);
}
