/* Acknowledgements, DISCONNECT, AUTH and PINGREQ: short and long forms, reason codes. */
#include "mqtt/dec_unit.h"

#define ACK(type, version, text, err, reason)                                                      \
    {                                                                                              \
        PACKET_##type, 0, version, text, err, reason                                               \
    }

/* The long form, and the short form that it is cut to, are valid; what lies between is not. */
static void forms(void **state)
{
    (void)state;
    static const struct unit_row rows[] = {
        ACK(PUBACK, 3, "0001", 0, 0),
        ACK(PUBACK, 4, "ffff", 0, 0),
        ACK(PUBACK, 4, "", ERR_MALFORMED, 0x81),
        ACK(PUBACK, 4, "00", ERR_MALFORMED, 0x81),
        ACK(PUBACK, 4, "0001 00", ERR_MALFORMED, 0x81),
        ACK(PUBREL, 3, "0001 00", ERR_MALFORMED, 0x81),
        ACK(PUBACK, 5, "", ERR_MALFORMED, 0x81),
        ACK(PUBACK, 5, "00", ERR_MALFORMED, 0x81),
        ACK(PUBACK, 5, "0001", 0, 0),
        ACK(PUBACK, 5, "0001 00", 0, 0),
        ACK(PUBACK, 5, "0001 10", 0, 0),
        ACK(PUBACK, 5, "0001 00 00", 0, 0),
        ACK(PUBACK, 5, "0001 00 00 00", ERR_MALFORMED, 0x81),
        ACK(PUBREC, 5, "0001 97 0d 1f <ab> 26 <n> <v> ", ERR_MALFORMED, 0x81),
        ACK(PUBREC, 5, "0001 97 0c 1f <ab> 26 <n> <v>", 0, 0),
        ACK(PUBREC, 5, "0001 97 0c 1f <ab> 26 <n> <>", ERR_MALFORMED, 0x81),
        ACK(PUBREC, 5, "0001 97 0c 1f <ab> 26 <n>", ERR_MALFORMED, 0x81),
        ACK(PUBREC, 5, "0001 97 0c 1f <ab> 26", ERR_MALFORMED, 0x81),
        ACK(PUBREC, 5, "0001 97 0c 1f <ab>", ERR_MALFORMED, 0x81),
        ACK(PUBREC, 5, "0001 97 0c 1f 0002 61", ERR_MALFORMED, 0x81),
        ACK(PUBREC, 5, "0001 97 0c", ERR_MALFORMED, 0x81),
        ACK(PUBREC, 5, "0001 97 80", ERR_MALFORMED, 0x81),
        ACK(PUBREL, 5, "0001 92", 0, 0),
        ACK(PUBCOMP, 5, "0001 92 00", 0, 0),
        ACK(PUBCOMP, 5, "0001 00 05 11 00000001", ERR_MALFORMED, 0x81),
        ACK(PUBCOMP, 5, "0001 00 06 1f 0003 6100ff", ERR_MALFORMED, 0x81),
        ACK(PUBACK, 4, "0000", ERR_PROTOCOL, 0x82), /* [MQTT3-2.3.1-6] [MQTT5-2.2.1-5] */
        ACK(PUBREL, 5, "0000", ERR_PROTOCOL, 0x82),
        ACK(DISCONNECT, 3, "", 0, 0),
        ACK(DISCONNECT, 4, "", 0, 0),
        ACK(DISCONNECT, 4, "00", ERR_MALFORMED, 0x81),
        ACK(DISCONNECT, 5, "", 0, 0),
        ACK(DISCONNECT, 5, "00", 0, 0),
        ACK(DISCONNECT, 5, "04", 0, 0),
        ACK(DISCONNECT, 5, "00 00", 0, 0),
        ACK(DISCONNECT, 5, "00 05 11 00000000", 0, 0),
        ACK(DISCONNECT, 5, "00 05 11 000000", ERR_MALFORMED, 0x81),
        ACK(DISCONNECT, 5, "00 05", ERR_MALFORMED, 0x81),
        ACK(DISCONNECT, 5, "00 00 00", ERR_MALFORMED, 0x81),
        ACK(DISCONNECT, 5, "00 03 21 0001", ERR_MALFORMED, 0x81),
        ACK(AUTH, 5, "18 04 15 <m>", 0, 0),
        ACK(AUTH, 5, "19 08 15 <m> 16 0001 00", 0, 0),
        ACK(AUTH, 5, "18 04 15 0001", ERR_MALFORMED, 0x81),
        ACK(AUTH, 5, "18 04 15 00", ERR_MALFORMED, 0x81),
        ACK(AUTH, 5, "18 04 15", ERR_MALFORMED, 0x81),
        ACK(AUTH, 5, "18 04", ERR_MALFORMED, 0x81),
        ACK(AUTH, 5, "18 00", ERR_PROTOCOL, 0x82), /* without a method */
        ACK(AUTH, 5, "18", ERR_PROTOCOL, 0x82),
        ACK(AUTH, 5, "", ERR_PROTOCOL, 0x82), /* success: the server's to say */
        ACK(AUTH, 5, "00 04 15 <m>", ERR_PROTOCOL, 0x82),
        ACK(PINGREQ, 4, "", 0, 0),
        ACK(PINGREQ, 5, "00", ERR_MALFORMED, 0x81),
    };
    unit_rows_check(rows, ARRAY_COUNT(rows));
}

/* [MQTT5-3.4.2-1] [MQTT5-3.5.2-1] [MQTT5-3.6.2-1] [MQTT5-3.7.2-1] [MQTT5-3.14.2-1]
 * [MQTT5-3.15.2-1] Any other code than those listed is a protocol error. */
static void reason_codes(void **state)
{
    (void)state;
    for (uint8_t type = PACKET_PUBACK; type <= PACKET_AUTH; type++) {
        const bool ack = type <= PACKET_PUBCOMP;
        if (!ack && type != PACKET_DISCONNECT && type != PACKET_AUTH)
            continue;
        for (uint32_t code = 0; code < 256; code++) {
            const uint8_t bytes[] = {0, 1, (uint8_t)code, 4, PROP_AUTH_METHOD, 0, 1, 'm'};
            const struct slice body = ack                   ? slice_of(bytes, 3)
                                      : type == PACKET_AUTH ? slice_of(bytes + 2, 6)
                                                            : slice_of(bytes + 2, 1);
            uint8_t reason = 0;
            bool valid = reason_allowed((uint8_t)code, type);
            if (type == PACKET_AUTH)
                valid = code == REASON_CONTINUE_AUTH || code == REASON_REAUTHENTICATE;
            assert_int_equal(unit_decode(type, 0, 5, body, &reason), valid ? 0 : ERR_PROTOCOL);
            assert_int_equal(reason, valid ? 0 : REASON_PROTOCOL_ERROR);
        }
    }
}

static bool is(struct slice slice, const char *text)
{
    return slice_equal(slice, slice_of(text, strlen(text)));
}

static void all_fields(void **state)
{
    (void)state;
    uint8_t room[64], reason;
    struct packet_ack ack;
    struct slice body = unit_bytes("abcd 97 05 1f <no>", room, sizeof room);
    assert_int_equal(dec_ack(body, PACKET_PUBREC, 5, &ack, &reason), 0);
    assert_int_equal(ack.packet_id, 0xabcd);
    assert_int_equal(ack.reason, 0x97);
    assert_true(is(ack.props.reason_string, "no"));
    assert_int_equal(dec_ack(slice_of(room, 2), PACKET_PUBREC, 4, &ack, &reason), 0);
    assert_int_equal(ack.reason, 0);
    assert_true(ack.props.has == 0);

    struct packet_disconnect disconnect;
    body = unit_bytes("04 05 11 00000102", room, sizeof room);
    assert_int_equal(dec_disconnect(body, 5, &disconnect, &reason), 0);
    assert_int_equal(disconnect.reason, 4);
    assert_int_equal(disconnect.props.session_expiry_s, 0x102);

    struct packet_auth auth;
    body = unit_bytes("19 09 15 <m> 16 0002 00ff", room, sizeof room);
    assert_int_equal(dec_auth(body, &auth, &reason), 0);
    assert_int_equal(auth.reason, 0x19);
    assert_true(is(auth.props.auth_method, "m"));
    assert_int_equal(auth.props.auth_data.size, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(forms),
        cmocka_unit_test(reason_codes),
        cmocka_unit_test(all_fields),
    };
    return cmocka_run_group_tests_name("mqtt/dec_ack", tests, NULL, NULL);
}
