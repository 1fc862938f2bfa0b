/* Encoders of small packets: the bytes in each version, what is left out for a small client, and
 * that our own decoders read them back. */
#include "mqtt/encode.h"

#include "mqtt/dec_unit.h"

static struct enc_room room_of(uint8_t *bytes, uint32_t size, uint8_t version, uint32_t packet_max)
{
    return (struct enc_room){
        .bytes = bytes, .size = size, .packet_max = packet_max, .version = version};
}

static void expect(const uint8_t *bytes, int size, const char *text)
{
    uint8_t room[256];
    const struct slice expected = unit_bytes(text, room, sizeof room);
    if (size < 0 || !slice_equal(slice_of(bytes, (size_t)size), expected))
        fail_msg("'%s' is not what was encoded (%d)", text, size);
}

/* [MQTT3-3.2.2-4] [MQTT3-3.2.2-6] [MQTT5-3.2.2-1] [MQTT5-3.2.2-6] [MQTT5-3.2.2-8] [MQTT5-2.2.2-1]
 */
static void connack(void **state)
{
    (void)state;
    static const struct {
        uint8_t version;
        bool session_present;
        uint8_t reason;
        const char *text; /* NULL: no answer */
    } rows[] = {
        {3, false, 0, "20 02 0000"},
        {3, true, 0, "20 02 0000"},
        {4, false, 0, "20 02 0000"},
        {4, true, 0, "20 02 0100"},
        {4, true, 0x85, "20 02 0002"},
        {4, false, 0x84, "20 02 0001"},
        {4, false, 0x88, "20 02 0003"},
        {4, false, 0x86, "20 02 0004"},
        {4, false, 0x87, "20 02 0005"},
        {3, false, 0x87, "20 02 0005"},
        {4, false, 0x81, NULL},
        {3, false, 0x82, NULL},
        {5, false, 0, "20 03 0000 00"},
        {5, true, 0, "20 03 0100 00"},
        {5, true, 0x87, "20 03 0087 00"},
        {5, false, 0x81, "20 03 0081 00"},
        {5, false, 0x8e, "20 03 0080 00"}, /* not one of CONNACK's */
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        uint8_t bytes[8];
        const struct enc_room to = room_of(bytes, sizeof bytes, rows[i].version, 0);
        const int size = enc_connack(&to, rows[i].session_present, rows[i].reason, NULL);
        if (rows[i].text)
            expect(bytes, size, rows[i].text);
        else
            assert_int_equal(size, ERR_INVALID);
    }

    struct props props = {0};
    props_set_u32(&props, PROP_RECEIVE_MAX, 16);
    props_set_slice(&props, PROP_ASSIGNED_CLIENT_ID, slice_of("x", 1));
    uint8_t bytes[32];
    struct enc_room to = room_of(bytes, sizeof bytes, 5, 0);
    expect(bytes, enc_connack(&to, false, 0, &props), "20 0a 0000 07 12 <x> 21 0010");
    to.version = 4;
    expect(bytes, enc_connack(&to, false, 0, &props), "20 02 0000");
}

/* The shortest form there is. [MQTT3-2.3.1-6] [MQTT5-2.2.1-5] */
static void acks(void **state)
{
    (void)state;
    struct props props = {0};
    props_set_slice(&props, PROP_REASON_STRING, slice_of("no", 2));
    static const struct {
        uint8_t version, type, reason;
        bool with_props;
        const char *text;
    } rows[] = {
        {3, PACKET_PUBACK, 0, false, "40 02 1234"},
        {4, PACKET_PUBREC, 0, false, "50 02 1234"},
        {4, PACKET_PUBREL, 0, false, "62 02 1234"},
        {4, PACKET_PUBCOMP, 0, false, "70 02 1234"},
        {4, PACKET_PUBACK, 0x87, true, "40 02 1234"},
        {5, PACKET_PUBACK, 0, false, "40 02 1234"},
        {5, PACKET_PUBACK, 0x10, false, "40 03 1234 10"},
        {5, PACKET_PUBREC, 0x97, true, "50 09 1234 97 05 1f <no>"},
        {5, PACKET_PUBREL, 0x92, false, "62 03 1234 92"},
        {5, PACKET_PUBCOMP, 0, true, "70 09 1234 00 05 1f <no>"},
        {5, PACKET_PUBREL, 0x80, false, "62 03 1234 92"}, /* not one of PUBREL's */
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        uint8_t bytes[32], plain[4];
        const struct enc_room to = room_of(bytes, sizeof bytes, rows[i].version, 0);
        const int size =
            enc_ack(&to, rows[i].type, 0x1234, rows[i].reason, rows[i].with_props ? &props : NULL);
        expect(bytes, size, rows[i].text);
        struct packet_ack ack;
        uint8_t reason;
        assert_int_equal(dec_ack(slice_of(bytes + 2, (size_t)size - 2), rows[i].type,
                                 rows[i].version, &ack, &reason),
                         0);
        assert_int_equal(ack.packet_id, 0x1234);
        if (size > 4)
            continue;
        enc_ack_plain(plain, rows[i].type, 0x1234);
        assert_memory_equal(plain, bytes, 4);
    }
}

/* [MQTT3-2.3.1-7] [MQTT3-3.8.4-5] [MQTT3-3.9.3-1] [MQTT3-3.9.3-2] [MQTT5-2.2.1-6] [MQTT5-3.8.4-2]
 * [MQTT5-3.8.4-6] [MQTT5-3.9.3-1] [MQTT5-3.9.3-2] [MQTT5-3.11.3-1] [MQTT5-3.11.3-2] */
static void suback_and_unsuback(void **state)
{
    (void)state;
    static const uint8_t codes[] = {0, 2, 0x87, 1, 0x8f, 0x8e};
    uint8_t bytes[64];
    struct enc_room to = room_of(bytes, sizeof bytes, 4, 0);
    expect(bytes, enc_suback(&to, 0x1234, codes, 6, NULL), "90 08 1234 000280018080");
    to.version = 3;
    expect(bytes, enc_suback(&to, 0x1234, codes, 1, NULL), "90 03 1234 00");
    to.version = 5;
    expect(bytes, enc_suback(&to, 0x1234, codes, 6, NULL), "90 09 1234 00 000287018f80");

    static const uint8_t removed[] = {0, 0x11, 0x87, 0x97};
    expect(bytes, enc_unsuback(&to, 1, removed, 4, NULL), "b0 07 0001 00 00118780");
    to.version = 4;
    expect(bytes, enc_unsuback(&to, 1, removed, 4, NULL), "b0 02 0001");
    struct props props = {0};
    props_set_slice(&props, PROP_REASON_STRING, slice_of("no", 2));
    expect(bytes, enc_unsuback(&to, 1, removed, 4, &props), "b0 02 0001");
    to.version = 5;
    expect(bytes, enc_suback(&to, 1, codes, 1, &props), "90 09 0001 05 1f <no> 00");
}

/* [MQTT5-3.14.2-1] [MQTT5-3.14.2-2] [MQTT5-3.15.2-1] */
static void disconnect_auth_pingresp(void **state)
{
    (void)state;
    uint8_t bytes[64];
    struct props props = {0};
    props_set_slice(&props, PROP_REASON_STRING, slice_of("no", 2));
    struct enc_room to = room_of(bytes, sizeof bytes, 5, 0);
    expect(bytes, enc_disconnect(&to, 0, NULL), "e0 00");
    expect(bytes, enc_disconnect(&to, 0x8e, NULL), "e0 01 8e");
    expect(bytes, enc_disconnect(&to, 0x84, NULL), "e0 01 80"); /* CONNACK's only */
    expect(bytes, enc_disconnect(&to, 0x8b, &props), "e0 07 8b 05 1f <no>");
    props_set_u32(&props, PROP_SESSION_EXPIRY, 5); /* only a client says that */
    expect(bytes, enc_disconnect(&to, 0x8b, &props), "e0 07 8b 05 1f <no>");
    props_set_slice(&props, PROP_AUTH_METHOD, slice_of("m", 1));
    expect(bytes, enc_auth(&to, 0x18, &props), "f0 0b 18 09 15 <m> 1f <no>");
    expect(bytes, enc_auth(&to, 0x00, NULL), "f0 00");
    expect(bytes, enc_pingresp(&to), "d0 00");
    to.version = 4;
    assert_int_equal(enc_disconnect(&to, 0x8e, NULL), ERR_INVALID);
    assert_int_equal(enc_auth(&to, 0x18, NULL), ERR_INVALID);
    expect(bytes, enc_pingresp(&to), "d0 00");
}

/* Encodes one of the packets that may carry a reason string, with the properties given. */
static int encode_any(const struct enc_room *to, uint8_t type, const struct props *props)
{
    static const uint8_t code = 0;
    switch (type) {
    case PACKET_CONNACK:
        return enc_connack(to, false, 0, props);
    case PACKET_SUBACK:
        return enc_suback(to, 1, &code, 1, props);
    case PACKET_UNSUBACK:
        return enc_unsuback(to, 1, &code, 1, props);
    case PACKET_DISCONNECT:
        return enc_disconnect(to, 0, props);
    case PACKET_AUTH:
        return enc_auth(to, 0x18, props);
    default:
        return enc_ack(to, type, 1, 0, props);
    }
}

/* What is given up for the client's Maximum Packet Size, in every packet: first user properties,
 * then the reason string, then the packet; never a byte beyond the room. [MQTT5-3.1.2-24]
 * [MQTT5-3.2.2-19] [MQTT5-3.2.2-20] [MQTT5-3.4.2-2] [MQTT5-3.4.2-3] [MQTT5-3.5.2-2] [MQTT5-3.5.2-3]
 * [MQTT5-3.6.2-2] [MQTT5-3.6.2-3] [MQTT5-3.7.2-2] [MQTT5-3.7.2-3] [MQTT5-3.9.2-1] [MQTT5-3.9.2-2]
 * [MQTT5-3.11.2-1] [MQTT5-3.11.2-2] [MQTT5-3.14.2-3] [MQTT5-3.14.2-4] [MQTT5-3.15.2-2]
 * [MQTT5-3.15.2-3] */
static void left_out_for_small_clients(void **state)
{
    (void)state;
    static const uint8_t types[] = {PACKET_CONNACK,  PACKET_PUBACK,     PACKET_PUBREC,
                                    PACKET_PUBREL,   PACKET_PUBCOMP,    PACKET_SUBACK,
                                    PACKET_UNSUBACK, PACKET_DISCONNECT, PACKET_AUTH};
    uint8_t block[64], reason;
    const struct slice received = unit_bytes("15 1f <because> 26 <k> <val>", block, sizeof block);
    block[0] = (uint8_t)(received.size - 1);
    struct props props;
    assert_true(props_decode(block, received.size, PACKET_PUBACK, &props, &reason) > 0);

    for (size_t i = 0; i < ARRAY_COUNT(types); i++) {
        uint8_t bytes[64];
        struct enc_room to = room_of(bytes, sizeof bytes, 5, 0);
        const int whole = encode_any(&to, types[i], &props);
        const int bare = encode_any(&to, types[i], NULL);
        assert_true(whole > bare);
        const int with_reason = whole - 9;
        for (int max = 2; max <= whole; max++) {
            to.packet_max = (uint32_t)max;
            const int size = encode_any(&to, types[i], &props);
            if (max >= whole)
                assert_int_equal(size, whole);
            else if (max >= with_reason)
                assert_int_equal(size, with_reason);
            else
                assert_true(size == ERR_FULL ? max < bare : size <= max && size < with_reason);
        }
        to.packet_max = 0;
        for (int room = 0; room < whole; room++) {
            to.size = (uint32_t)room;
            memset(bytes, 0xee, sizeof bytes);
            assert_int_equal(encode_any(&to, types[i], &props), ERR_FULL);
            assert_int_equal(bytes[0], 0xee);
        }
    }
}

/* A DISCONNECT whose properties all fall away is the short one again. */
static void nothing_left_is_the_short_form(void **state)
{
    (void)state;
    uint8_t bytes[16];
    struct props props = {0};
    props_set_slice(&props, PROP_REASON_STRING, slice_of("no", 2));
    const struct enc_room to = room_of(bytes, sizeof bytes, 5, 5);
    expect(bytes, enc_disconnect(&to, 0x8e, &props), "e0 01 8e");
    expect(bytes, enc_ack(&to, PACKET_PUBACK, 1, 0x97, &props), "40 03 0001 97");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(connack),
        cmocka_unit_test(acks),
        cmocka_unit_test(suback_and_unsuback),
        cmocka_unit_test(disconnect_auth_pingresp),
        cmocka_unit_test(left_out_for_small_clients),
        cmocka_unit_test(nothing_left_is_the_short_form),
    };
    return cmocka_run_group_tests_name("mqtt/enc", tests, NULL, NULL);
}
