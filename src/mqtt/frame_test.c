/* frame_parse: every boundary of the length field, whole and cut short; flags by version. */
#include "mqtt/frame.h"

#include "base/unit.h"

/* The shortest and longest value of each length; one byte less asks for more.
 * [MQTT5-1.5.5-1] */
static void parse_length_boundaries(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[5];
        uint8_t size;
        uint32_t value;
    } rows[] = {
        {{0xc0, 0x00}, 2, 0},
        {{0x30, 0x01}, 2, 1},
        {{0x30, 0x7f}, 2, 127},
        {{0x30, 0x80, 0x01}, 3, 128},
        {{0x30, 0xff, 0x7f}, 3, 16383},
        {{0x30, 0x80, 0x80, 0x01}, 4, 16384},
        {{0x30, 0xff, 0xff, 0x7f}, 4, 2097151},
        {{0x30, 0x80, 0x80, 0x80, 0x01}, 5, 2097152},
        {{0x30, 0xff, 0xff, 0xff, 0x7f}, 5, FRAME_REMAINING_MAX},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct frame_head head;
        assert_int_equal(frame_parse(rows[i].bytes, rows[i].size, FRAME_PACKET_MAX, 4, &head), 0);
        assert_int_equal(head.type, rows[i].bytes[0] >> 4);
        assert_int_equal(head.flags, 0);
        assert_int_equal(head.head_size, rows[i].size);
        assert_int_equal(head.remaining_size, rows[i].value);
        for (size_t cut = 0; cut < rows[i].size; cut++)
            assert_int_equal(frame_parse(rows[i].bytes, cut, FRAME_PACKET_MAX, 4, &head),
                             ERR_AGAIN);
    }
}

/* A length that is too long, overlong, or too large for the receiver; nothing is set then. */
static void parse_length_refused(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[6];
        uint8_t size;
        uint32_t size_max;
        int err;
    } rows[] = {
        {{0x30, 0x80, 0x00}, 3, 1024, ERR_MALFORMED},
        {{0x30, 0x81, 0x80, 0x80, 0x00}, 5, 1024, ERR_MALFORMED},
        {{0x30, 0x80, 0x80, 0x80, 0x80}, 5, 1024, ERR_MALFORMED},
        {{0x30, 0xff, 0xff, 0xff, 0xff, 0x01}, 6, UINT32_MAX, ERR_MALFORMED},
        {{0x30, 0x01}, 2, 2, ERR_FULL},
        {{0x30, 0x01}, 2, 3, 0},
        {{0x30, 0xff, 0x7f}, 3, 1024, ERR_FULL},
        {{0x30, 0xff, 0xff}, 3, 1024, ERR_FULL}, /* large enough before its last byte */
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct frame_head head = {.type = 99};
        assert_int_equal(frame_parse(rows[i].bytes, rows[i].size, rows[i].size_max, 5, &head),
                         rows[i].err);
        assert_int_equal(head.type, rows[i].err == 0 ? 3 : 99);
    }
}

/* Each type accepts the flags that are listed for it and no others, from the first byte on; 3.1 has
 * DUP on three more types, and AUTH is new in 5.0.
 * [MQTT3-2.2.2-1] [MQTT3-2.2.2-2] [MQTT3-3.6.1-1] [MQTT3-3.8.1-1] [MQTT3-3.10.1-1] [MQTT3-3.14.1-1]
 * [MQTT5-2.1.3-1] [MQTT5-3.6.1-1] [MQTT5-3.8.1-1] [MQTT5-3.10.1-1] [MQTT5-3.14.1-1]
 * [MQTT5-3.15.1-1] */
static void parse_reserved_flags(void **state)
{
    (void)state;
    for (uint8_t version = MQTT_V31; version <= MQTT_V5; version++) {
        for (uint32_t first = 0; first < 256; first++) {
            const uint32_t type = first >> 4, flags = first & 15;
            const bool two =
                type == PACKET_PUBREL || type == PACKET_SUBSCRIBE || type == PACKET_UNSUBSCRIBE;
            bool valid = type == PACKET_PUBLISH || flags == (two ? 2 : 0);
            if (two && version == MQTT_V31 && flags == 10)
                valid = true;
            if (type == 0 || (type == PACKET_AUTH && version != MQTT_V5))
                valid = false;
            struct frame_head head;
            const uint8_t bytes[2] = {(uint8_t)first, 0};
            assert_int_equal(frame_parse(bytes, 2, 1024, version, &head),
                             valid ? 0 : ERR_MALFORMED);
            assert_int_equal(frame_parse(bytes, 1, 1024, version, &head),
                             valid ? ERR_AGAIN : ERR_MALFORMED);
        }
    }
}

/* [MQTT3-3.1.0-1] [MQTT5-3.1.0-1] Before CONNECT only CONNECT, known from its first byte. */
static void parse_first_packet(void **state)
{
    (void)state;
    struct frame_head head;
    for (uint8_t type = PACKET_CONNECT; type <= PACKET_AUTH; type++) {
        const uint8_t flags =
            type == PACKET_PUBREL || type == PACKET_SUBSCRIBE || type == PACKET_UNSUBSCRIBE ? 2 : 0;
        const uint8_t bytes[2] = {(uint8_t)(type << 4 | flags), 0x7f};
        assert_int_equal(frame_parse(bytes, 1, 1024, 0, &head),
                         type == PACKET_CONNECT ? ERR_AGAIN : ERR_PROTOCOL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parse_length_boundaries),
        cmocka_unit_test(parse_length_refused),
        cmocka_unit_test(parse_reserved_flags),
        cmocka_unit_test(parse_first_packet),
    };
    return cmocka_run_group_tests_name("mqtt/frame", tests, NULL, NULL);
}
