/* dec_subscribe and dec_unsubscribe: entries, filters and options in all versions. */
#include "mqtt/dec_unit.h"

#include <stdio.h>

#define SUB(version, text, err, reason)                                                            \
    {                                                                                              \
        PACKET_SUBSCRIBE, 2, version, text, err, reason                                            \
    }
#define UNSUB(version, text, err, reason)                                                          \
    {                                                                                              \
        PACKET_UNSUBSCRIBE, 2, version, text, err, reason                                          \
    }

/* One entry each, so that every shorter body is a wrong one. */
static const struct unit_row valid[] = {
    SUB(3, "0001 <a/b> 00", 0, 0),
    SUB(3, "0001 <a/b> 82", 0, 0), /* only the QoS had a meaning */
    SUB(4, "0001 <a/b> 01", 0, 0),
    SUB(4, "ffff <#> 02", 0, 0),
    SUB(4, "0001 <$share/g/a/+> 02", 0, 0),
    SUB(5, "0001 00 <a> 00", 0, 0),
    SUB(5, "0001 00 <a> 2e", 0, 0),
    SUB(5, "0001 00 <$share/g/a> 2a", 0, 0),
    SUB(5, "0001 09 0b 05 26 <k> <v> <+/b/#> 1d", 0, 0),
    SUB(5, "0001 02 0b 01 <a> 00", 0, 0),
    UNSUB(3, "0001 <a>", 0, 0),
    UNSUB(4, "0001 <a/#>", 0, 0),
    UNSUB(5, "0001 00 <a>", 0, 0),
    UNSUB(5, "0001 07 26 <k> <v> <$share/g/+>", 0, 0),
};

/* [MQTT3-3.8.3-3] [MQTT3-3.10.3-2] [MQTT5-3.8.3-2] [MQTT5-3.10.3-2] and cut to no entry at all. */
static void valid_and_truncated(void **state)
{
    (void)state;
    unit_rows_check(valid, ARRAY_COUNT(valid));
    unit_rows_truncate(valid, ARRAY_COUNT(valid));
    static const struct unit_row none[] = {
        SUB(4, "0001", ERR_PROTOCOL, 0x82),
        SUB(5, "0001 00", ERR_PROTOCOL, 0x82),
        UNSUB(4, "0001", ERR_PROTOCOL, 0x82),
        UNSUB(5, "0001 00", ERR_PROTOCOL, 0x82),
    };
    unit_rows_check(none, ARRAY_COUNT(none));
}

/* What becomes of an options byte in that version. */
static int options_expected(uint32_t value, uint8_t version)
{
    const uint32_t qos = value & 3, handling = value >> 4 & 3;
    if (version == MQTT_V31)
        return qos == 3 ? ERR_MALFORMED : 0;
    if (version == MQTT_V311)
        return value > 2 ? ERR_MALFORMED : 0;
    if (value >> 6 != 0)
        return ERR_MALFORMED;
    return qos == 3 || handling == 3 ? ERR_PROTOCOL : 0;
}

static void options_check_one(uint32_t value, uint8_t version)
{
    const uint8_t v3[] = {0, 1, 0, 1, 'a', (uint8_t)value};
    const uint8_t v5[] = {0, 1, 0, 0, 1, 'a', (uint8_t)value};
    const bool is_v5 = version == MQTT_V5;
    const int expected = options_expected(value, version);
    struct packet_subscribe packet;
    uint8_t reason = 0;
    const int err = dec_subscribe(is_v5 ? slice_of(v5, sizeof v5) : slice_of(v3, sizeof v3),
                                  version, &packet, &reason);
    assert_int_equal(err, expected);
    assert_int_equal(reason, err == 0 ? 0 : err == ERR_PROTOCOL ? 0x82 : 0x81);
    if (err < 0)
        return;
    struct subscribe_entry entry = {0};
    uint32_t pos = 0;
    assert_true(subscribe_next(&packet, &pos, &entry));
    assert_int_equal(entry.qos, value & 3);
    assert_int_equal(entry.no_local, is_v5 && (value & 4) != 0);
    assert_int_equal(entry.retain_as_published, is_v5 && (value & 8) != 0);
    assert_int_equal(entry.retain_handling, is_v5 ? value >> 4 & 3 : 0);
    assert_false(subscribe_next(&packet, &pos, &entry));
}

/* [MQTT3-3.8.3-4] [MQTT5-3.8.3-4] [MQTT5-3.8.3-5]: every value of the options byte. */
static void options(void **state)
{
    (void)state;
    for (uint32_t value = 0; value < 256; value++) {
        for (uint8_t version = MQTT_V31; version <= MQTT_V5; version++)
            options_check_one(value, version);
    }
    static const struct unit_row shared[] = {
        SUB(5, "0001 00 <$share/g/a> 04", ERR_PROTOCOL, 0x82),
        SUB(5, "0001 00 <a> 04 <$share/g/a> 00", 0, 0),
        SUB(5, "0001 00 <a> 00 <$share/g/a> 05", ERR_PROTOCOL, 0x82),
    };
    unit_rows_check(shared, ARRAY_COUNT(shared));
}

/* [MQTT3-3.8.3-1] [MQTT3-3.10.3-1] [MQTT3-4.7.1-2] [MQTT3-4.7.1-3] [MQTT5-3.8.3-1]
 * [MQTT5-3.10.3-1] [MQTT5-4.7.1-1] [MQTT5-4.7.1-2] [MQTT5-4.7.3-1] [MQTT5-4.8.2-1] [MQTT5-4.8.2-2]
 */
static void filters(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int err;
        uint8_t reason;
    } rows[] = {
        {"<a/#>", 0, 0},
        {"<>", ERR_PROTOCOL, 0x8f},
        {"<a#>", ERR_PROTOCOL, 0x8f},
        {"<#/a>", ERR_PROTOCOL, 0x8f},
        {"<a+>", ERR_PROTOCOL, 0x8f},
        {"<$share/g>", ERR_PROTOCOL, 0x8f},
        {"<$share//a>", ERR_PROTOCOL, 0x8f},
        {"<$share/+/a>", ERR_PROTOCOL, 0x8f},
        {"<$share/g/>", ERR_PROTOCOL, 0x8f},
        {"0002 6100", ERR_MALFORMED, 0x81},
        {"0001 ff", ERR_MALFORMED, 0x81},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char text[128];
        for (uint8_t version = 3; version <= 5; version++) {
            const char *const props = version == 5 ? "00" : "";
            struct unit_row row = SUB(version, text, rows[i].err, rows[i].reason);
            (void)snprintf(text, sizeof text, "0001 %s <ok> 00 %s 00", props, rows[i].text);
            unit_rows_check(&row, 1);
            (void)snprintf(text, sizeof text, "0001 %s <ok> %s", props, rows[i].text);
            row.packet_type = PACKET_UNSUBSCRIBE;
            unit_rows_check(&row, 1);
        }
    }
}

/* [MQTT3-2.3.1-1] [MQTT5-2.2.1-3] */
static void packet_id_and_properties(void **state)
{
    (void)state;
    static const struct unit_row rows[] = {
        SUB(4, "0000 <a> 00", ERR_PROTOCOL, 0x82),
        SUB(5, "0000 00 <a> 00", ERR_PROTOCOL, 0x82),
        UNSUB(4, "0000 <a>", ERR_PROTOCOL, 0x82),
        UNSUB(5, "0000 00 <a>", ERR_PROTOCOL, 0x82),
        SUB(5, "0001 02 0b 00 <a> 00", ERR_PROTOCOL, 0x82),
        SUB(5, "0001 04 0b 01 0b 02 <a> 00", ERR_PROTOCOL, 0x82),
        SUB(5, "0001 03 23 0001 <a> 00", ERR_MALFORMED, 0x81),
        SUB(5, "0001 04 1f <a> <a> 00", ERR_MALFORMED, 0x81),
        UNSUB(5, "0001 02 0b 01 <a>", ERR_MALFORMED, 0x81),
    };
    unit_rows_check(rows, ARRAY_COUNT(rows));
}

static bool is(struct slice slice, const char *text)
{
    return slice_equal(slice, slice_of(text, strlen(text)));
}

/* Several entries, in their order. */
static void entries_in_order(void **state)
{
    (void)state;
    static const char *const filters_sent[] = {"a", "$share/g/b/#", "+"};
    uint8_t room[128], reason;
    struct packet_subscribe packet;
    struct slice body =
        unit_bytes("0102 03 0b 8001 <a> 00 <$share/g/b/#> 21 <+> 0e", room, sizeof room);
    assert_int_equal(dec_subscribe(body, 5, &packet, &reason), 0);
    assert_int_equal(packet.packet_id, 0x102);
    assert_int_equal(packet.count, 3);
    assert_int_equal(packet.props.sub_id, 128);
    struct subscribe_entry entry = {0};
    uint32_t pos = 0;
    for (uint32_t i = 0; i < ARRAY_COUNT(filters_sent); i++) {
        assert_true(subscribe_next(&packet, &pos, &entry));
        assert_true(is(entry.filter, filters_sent[i]));
    }
    assert_false(subscribe_next(&packet, &pos, &entry));
    assert_true(entry.qos == 2 && entry.no_local && entry.retain_as_published);

    struct packet_unsubscribe unsubscribe;
    body = unit_bytes("0102 <a> <$share/g/b/#> <+>", room, sizeof room);
    assert_int_equal(dec_unsubscribe(body, 4, &unsubscribe, &reason), 0);
    assert_int_equal(unsubscribe.packet_id, 0x102);
    assert_int_equal(unsubscribe.count, 3);
    struct slice filter = {0};
    pos = 0;
    for (uint32_t i = 0; i < ARRAY_COUNT(filters_sent); i++) {
        assert_true(unsubscribe_next(&unsubscribe, &pos, &filter));
        assert_true(is(filter, filters_sent[i]));
    }
    assert_false(unsubscribe_next(&unsubscribe, &pos, &filter));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(valid_and_truncated),
        cmocka_unit_test(options),
        cmocka_unit_test(filters),
        cmocka_unit_test(packet_id_and_properties),
        cmocka_unit_test(entries_in_order),
    };
    return cmocka_run_group_tests_name("mqtt/dec_subscribe", tests, NULL, NULL);
}
