/* Reason codes: which packet may carry which, and what 3.x clients get instead. */
#include "mqtt/reason.h"

#include "base/unit.h"
#include "mqtt/frame.h"

#include <string.h>

/* The lists of the specification, packet by packet.
 * [MQTT5-3.2.2-8] [MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-3.6.2-1] [MQTT5-3.7.2-1] [MQTT5-3.9.3-2]
 * [MQTT5-3.11.3-2] [MQTT5-3.14.2-1] [MQTT5-3.15.2-1] */
static void each_packet_has_its_codes(void **state)
{
    (void)state;
    static const struct {
        uint8_t type, fallback;
        const char *codes; /* ascending, without 0x00 */
    } rows[] = {
        {PACKET_CONNECT, 0x80, NULL},
        {PACKET_CONNACK, 0x80,
         "\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8c\x90\x95\x97\x99\x9a\x9b\x9c\x9d\x9f"},
        {PACKET_PUBLISH, 0x80, NULL},
        {PACKET_PUBACK, 0x80, "\x10\x80\x83\x87\x90\x91\x97\x99"},
        {PACKET_PUBREC, 0x80, "\x10\x80\x83\x87\x90\x91\x97\x99"},
        {PACKET_PUBREL, 0x92, "\x92"},
        {PACKET_PUBCOMP, 0x92, "\x92"},
        {PACKET_SUBSCRIBE, 0x80, NULL},
        {PACKET_SUBACK, 0x80, "\x01\x02\x80\x83\x87\x8f\x91\x97\x9e\xa1\xa2"},
        {PACKET_UNSUBSCRIBE, 0x80, NULL},
        {PACKET_UNSUBACK, 0x80, "\x11\x80\x83\x87\x8f\x91"},
        {PACKET_PINGREQ, 0x80, NULL},
        {PACKET_PINGRESP, 0x80, NULL},
        {PACKET_DISCONNECT, 0x80,
         "\x04\x80\x81\x82\x83\x87\x89\x8b\x8c\x8d\x8e\x8f\x90\x93\x94\x95\x96\x97\x98\x99\x9a\x9b"
         "\x9c\x9d\x9e\x9f\xa0\xa1\xa2"},
        {PACKET_AUTH, 0x80, "\x18\x19"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const char *const codes = rows[i].codes;
        for (uint32_t code = 0; code < 256; code++) {
            const bool listed = codes && (code == 0 || strchr(codes, (char)code));
            assert_int_equal(reason_allowed((uint8_t)code, rows[i].type), listed);
            assert_int_equal(reason_fit((uint8_t)code, rows[i].type),
                             listed ? code : rows[i].fallback);
        }
    }
}

static void codes_have_text(void **state)
{
    (void)state;
    assert_string_equal(reason_text(0), "Success");
    assert_string_equal(reason_text(0x8e), "Session taken over");
    assert_string_equal(reason_text(0xa2), "Wildcard Subscriptions not supported");
    assert_string_equal(reason_text(0x03), "Unknown reason code");
    assert_string_equal(reason_text(0xa3), "Unknown reason code");
    assert_string_equal(reason_text(0xff), "Unknown reason code");
}

/* [MQTT3-3.1.2-2] [MQTT3-3.1.3-9] [MQTT3-3.1.4-1] [MQTT3-3.2.2-6] Where nothing fits there is no
 * CONNACK. */
static void connack3_codes(void **state)
{
    (void)state;
    static const uint8_t codes[256] = {
        [0x84] = 1, [0x85] = 2, [0x88] = 3, [0x89] = 3, [0x8b] = 3, [0x97] = 3, [0x9c] = 3,
        [0x9d] = 3, [0x9f] = 3, [0x86] = 4, [0x87] = 5, [0x8a] = 5, [0x8c] = 5,
    };
    for (uint32_t code = 1; code < 256; code++) {
        const uint8_t expected = codes[code] ? codes[code] : REASON_CONNACK3_NONE;
        assert_int_equal(reason_to_connack3((uint8_t)code), expected);
    }
    assert_int_equal(reason_to_connack3(0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_packet_has_its_codes),
        cmocka_unit_test(codes_have_text),
        cmocka_unit_test(connack3_codes),
    };
    return cmocka_run_group_tests_name("mqtt/reason", tests, NULL, NULL);
}
