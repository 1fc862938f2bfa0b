/* Properties: each one in each packet, twice, cut short and out of range; what goes on to
 * subscribers; what is encoded. */
#include "mqtt/props.h"

#include "mqtt/dec_unit.h"

#include <stdio.h>

/* Every property with a valid value and, after the specification's table 2-4, the packets it may be
 * in. W is the Will. */
static const struct {
    uint8_t id;
    const char *text, *name;
    const char *packets;
} properties[] = {
    {0x01, "01 01", "payload format indicator", "PUBLISH WILL"},
    {0x02, "02 0000000a", "message expiry interval", "PUBLISH WILL"},
    {0x03, "03 <text/plain>", "content type", "PUBLISH WILL"},
    {0x08, "08 <a/b>", "response topic", "PUBLISH WILL"},
    {0x09, "09 0003 ff00fe", "correlation data", "PUBLISH WILL"},
    {0x0b, "0b 8001", "subscription identifier", "PUBLISH SUBSCRIBE"},
    {0x11, "11 ffffffff", "session expiry interval", "CONNECT CONNACK DISCONNECT"},
    {0x12, "12 <id>", "assigned client identifier", "CONNACK"},
    {0x13, "13 003c", "server keep alive", "CONNACK"},
    {0x15, "15 <SCRAM>", "authentication method", "CONNECT CONNACK AUTH"},
    {0x16, "16 0001 00", "authentication data", "CONNECT CONNACK AUTH"},
    {0x17, "17 00", "request problem information", "CONNECT"},
    {0x18, "18 00000001", "will delay interval", "WILL"},
    {0x19, "19 01", "request response information", "CONNECT"},
    {0x1a, "1a <info>", "response information", "CONNACK"},
    {0x1c, "1c <other:1883>", "server reference", "CONNACK DISCONNECT"},
    {0x1f, "1f <why>", "reason string",
     "CONNACK PUBACK PUBREC PUBREL PUBCOMP SUBACK UNSUBACK DISCONNECT AUTH"},
    {0x21, "21 0001", "receive maximum", "CONNECT CONNACK"},
    {0x22, "22 0000", "topic alias maximum", "CONNECT CONNACK"},
    {0x23, "23 ffff", "topic alias", "PUBLISH"},
    {0x24, "24 01", "maximum QoS", "CONNACK"},
    {0x25, "25 00", "retain available", "CONNACK"},
    {0x26, "26 <n> <v>", "user property",
     "CONNECT CONNACK PUBLISH WILL PUBACK PUBREC PUBREL PUBCOMP SUBSCRIBE SUBACK UNSUBSCRIBE "
     "UNSUBACK DISCONNECT AUTH"},
    {0x27, "27 00000001", "maximum packet size", "CONNECT CONNACK"},
    {0x28, "28 00", "wildcard subscription available", "CONNACK"},
    {0x29, "29 01", "subscription identifiers available", "CONNACK"},
    {0x2a, "2a 01", "shared subscription available", "CONNACK"},
};

static const char *const packets[] = {
    "WILL",    "CONNECT",  "CONNACK",    "PUBLISH", "PUBACK",      "PUBREC",
    "PUBREL",  "PUBCOMP",  "SUBSCRIBE",  "SUBACK",  "UNSUBSCRIBE", "UNSUBACK",
    "PINGREQ", "PINGRESP", "DISCONNECT", "AUTH",
};

static bool listed(const char *list, const char *word)
{
    const size_t size = strlen(word);
    for (const char *at = strstr(list, word); at; at = strstr(at + 1, word)) {
        if ((at == list || at[-1] == ' ') && (at[size] == ' ' || at[size] == '\0'))
            return true;
    }
    return false;
}

/* Decodes the blocks given as text, with the right length in front, from the heap. */
static int decode_text(const char *text, uint8_t packet_type, struct props *ret_props,
                       struct slice *ret_copy, uint8_t *ret_reason)
{
    uint8_t room[1024];
    const struct slice block = unit_bytes(text, room + 2, sizeof room - 2);
    assert_true(block.size < 16384);
    room[0] = (uint8_t)(block.size | 0x80);
    room[1] = (uint8_t)(block.size >> 7);
    const bool two = block.size >= 128;
    room[1] = two ? room[1] : (uint8_t)block.size;
    *ret_copy = unit_copy(slice_of(two ? room : room + 1, block.size + (two ? 2 : 1)),
                          block.size + (two ? 2 : 1));
    return props_decode(ret_copy->bytes, ret_copy->size, packet_type, ret_props, ret_reason);
}

static void expect(const char *text, uint8_t packet_type, int err, uint8_t reason)
{
    struct props props;
    struct slice copy;
    uint8_t got_reason = 0;
    const int got = decode_text(text, packet_type, &props, &copy, &got_reason);
    const int expected = err == 0 ? (int)copy.size : err;
    unit_free(copy);
    if (got != expected || got_reason != reason)
        fail_msg("'%s' in %s: %d 0x%02x", text, packets[packet_type], got, got_reason);
}

/* A property is taken in the packets that may have it, and malformed in all others. */
static void each_property_in_each_packet(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(properties); i++) {
        assert_string_equal(props_text(properties[i].id), properties[i].name);
        for (uint8_t type = PROPS_PACKET_WILL; type <= PACKET_AUTH; type++) {
            const bool allowed = listed(properties[i].packets, packets[type]);
            if (allowed && properties[i].id == PROP_AUTH_DATA) {
                expect(properties[i].text, type, ERR_PROTOCOL, 0x82); /* without a method */
                expect("16 0001 00 15 <m>", type, 0, 0);
                continue;
            }
            expect(properties[i].text, type, allowed ? 0 : ERR_MALFORMED, allowed ? 0 : 0x81);
        }
    }
}

/* Identifiers that no property has, in every packet. */
static void unknown_properties(void **state)
{
    (void)state;
    for (uint32_t id = 0; id < 256; id++) {
        bool known = false;
        for (size_t i = 0; i < ARRAY_COUNT(properties); i++)
            known = known || properties[i].id == id;
        if (known)
            continue;
        assert_string_equal(props_text((uint8_t)id), "unknown property");
        char text[32];
        (void)snprintf(text, sizeof text, "%02x 0000000000000000", id);
        for (uint8_t type = PROPS_PACKET_WILL; type <= PACKET_AUTH; type++)
            expect(text, type, ERR_MALFORMED, 0x81);
    }
}

/* Twice is a protocol error, but for user properties, and subscription identifiers in PUBLISH. */
static void twice(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(properties); i++) {
        char text[128];
        (void)snprintf(text, sizeof text, "%s %s", properties[i].text, properties[i].text);
        for (uint8_t type = PROPS_PACKET_WILL; type <= PACKET_AUTH; type++) {
            if (!listed(properties[i].packets, packets[type]))
                continue;
            const bool fine = properties[i].id == PROP_USER ||
                              (properties[i].id == PROP_SUB_ID && type == PACKET_PUBLISH);
            expect(text, type, fine ? 0 : ERR_PROTOCOL, fine ? 0 : 0x82);
        }
    }
}

/* [MQTT5-1.5.4-1] [MQTT5-1.5.4-2] [MQTT5-1.5.7-1] [MQTT5-3.3.2-8] [MQTT5-3.3.2-13] [MQTT5-3.3.2-14]
 * [MQTT5-3.3.2-19] */
static void values_out_of_range(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        const char *text;
        int err;
        uint8_t reason;
    } rows[] = {
        {PACKET_PUBLISH, "01 00", 0, 0},
        {PACKET_PUBLISH, "01 02", ERR_PROTOCOL, 0x82},
        {PACKET_CONNECT, "17 02", ERR_PROTOCOL, 0x82},
        {PACKET_CONNECT, "19 02", ERR_PROTOCOL, 0x82},
        {PACKET_CONNACK, "24 02", ERR_PROTOCOL, 0x82},
        {PACKET_CONNACK, "25 ff", ERR_PROTOCOL, 0x82},
        {PACKET_CONNECT, "21 0000", ERR_PROTOCOL, 0x82},
        {PACKET_CONNECT, "21 ffff", 0, 0},
        {PACKET_CONNECT, "27 00000000", ERR_PROTOCOL, 0x82},
        {PACKET_CONNECT, "27 ffffffff", 0, 0},
        {PACKET_PUBLISH, "23 0000", ERR_PROTOCOL, 0x94},
        {PACKET_PUBLISH, "23 0001", 0, 0},
        {PACKET_SUBSCRIBE, "0b 00", ERR_PROTOCOL, 0x82},
        {PACKET_SUBSCRIBE, "0b 01", 0, 0},
        {PACKET_SUBSCRIBE, "0b ffffff7f", 0, 0},
        {PACKET_SUBSCRIBE, "0b ffffffff01", ERR_MALFORMED, 0x81},
        {PACKET_SUBSCRIBE, "0b 8100", ERR_MALFORMED, 0x81},
        {PACKET_PUBLISH, "08 <a/+>", ERR_PROTOCOL, 0x82},
        {PACKET_PUBLISH, "08 <#>", ERR_PROTOCOL, 0x82},
        {PACKET_PUBLISH, "08 0000", ERR_PROTOCOL, 0x82},
        {PACKET_PUBLISH, "08 0001 ff", ERR_MALFORMED, 0x81},
        {PACKET_PUBLISH, "03 0002 c3c3", ERR_MALFORMED, 0x81},
        {PACKET_PUBLISH, "03 0001 00", ERR_MALFORMED, 0x81},
        {PACKET_PUBLISH, "03 0003 eda080", ERR_MALFORMED, 0x81},
        {PACKET_PUBLISH, "03 0000", 0, 0},
        {PACKET_PUBLISH, "09 0000", 0, 0},
        {PACKET_PUBLISH, "26 0000 0000", 0, 0},
        {PACKET_PUBLISH, "26 0001 00 <v>", ERR_MALFORMED, 0x81},
        {PACKET_PUBLISH, "26 <n> 0001 00", ERR_MALFORMED, 0x81},
        {PACKET_PUBLISH, "26 <n> 0001 80", ERR_MALFORMED, 0x81},
        {PACKET_AUTH, "15 0001 80", ERR_MALFORMED, 0x81},
        {PACKET_CONNECT, "15 <m> 16 0002 ff00", 0, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++)
        expect(rows[i].text, rows[i].type, rows[i].err, rows[i].reason);
}

/* Every property cut at every byte: by the end of the packet, and by the end of the block. */
static void truncated_everywhere(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(properties); i++) {
        uint8_t type = PROPS_PACKET_WILL;
        while (!listed(properties[i].packets, packets[type]))
            type++;
        uint8_t room[64];
        const struct slice block = unit_bytes(properties[i].text, room + 1, sizeof room - 1);
        for (uint32_t cut = 0; cut < block.size; cut++) {
            for (uint32_t stated = cut > 0 ? cut : 1; stated <= block.size;
                 stated += block.size > cut ? block.size - cut : 1) {
                struct props props;
                uint8_t reason = 0;
                room[0] = (uint8_t)stated;
                const struct slice copy = unit_copy(slice_of(room, block.size + 1), cut + 1);
                assert_int_equal(props_decode(copy.bytes, copy.size, type, &props, &reason),
                                 ERR_MALFORMED);
                assert_int_equal(reason, 0x81);
                unit_free(copy);
            }
        }
    }
}

/* [MQTT5-2.2.2-1] [MQTT5-1.5.5-1] The length of the block itself. */
static void block_length(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int result;
    } rows[] = {
        {"00", 1},
        {"00 ff", 1}, /* what follows is none of ours */
        {"02 0101 ff", 3},
        {"8200 0101", ERR_MALFORMED},
        {"80808000", ERR_MALFORMED},
        {"8080808001", ERR_MALFORMED},
        {"80", ERR_MALFORMED},
        {"", ERR_MALFORMED},
        {"03 0101", ERR_MALFORMED},
        {"ffffff7f 0101", ERR_MALFORMED},
        {"01 0101", ERR_MALFORMED},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        uint8_t room[64], reason = 0;
        const struct slice bytes = unit_bytes(rows[i].text, room, sizeof room);
        const struct slice copy = unit_copy(bytes, bytes.size);
        struct props props;
        assert_int_equal(props_decode(copy.bytes, copy.size, PACKET_PUBLISH, &props, &reason),
                         rows[i].result);
        assert_int_equal(reason, rows[i].result < 0 ? 0x81 : 0);
        if (rows[i].result == 1)
            assert_true(props.has == 0 && props.raw.size == 0);
        unit_free(copy);
    }
}

static bool is(struct slice slice, const char *text)
{
    return slice_equal(slice, slice_of(text, strlen(text)));
}

/* [MQTT5-3.3.2-18] User properties in their order, wherever they stand; identifiers likewise. */
static void repeated_in_order(void **state)
{
    (void)state;
    struct props props;
    struct slice copy;
    uint8_t reason;
    assert_true(decode_text("26 <a> <1> 0b 05 26 <b> <> 01 01 0b 8002 26 <a> <2> 0b 06",
                            PACKET_PUBLISH, &props, &copy, &reason) > 0);
    assert_int_equal(props.user_count, 3);
    assert_int_equal(props.sub_id_count, 3);
    assert_int_equal(props.sub_id, 5);
    static const char *const names[] = {"a", "b", "a"}, *const values[] = {"1", "", "2"};
    struct prop_pair pair = {0};
    uint32_t pos = 0;
    for (uint32_t i = 0; i < ARRAY_COUNT(names); i++) {
        assert_true(props_user_next(&props, &pos, &pair));
        assert_true(is(pair.name, names[i]));
        assert_true(is(pair.value, values[i]));
    }
    assert_false(props_user_next(&props, &pos, &pair));
    static const uint32_t ids[] = {5, 256, 6};
    uint32_t id = 0;
    pos = 0;
    for (uint32_t i = 0; i < ARRAY_COUNT(ids); i++) {
        assert_true(props_sub_id_next(&props, &pos, &id));
        assert_int_equal(id, ids[i]);
    }
    assert_false(props_sub_id_next(&props, &pos, &id));
    unit_free(copy);

    assert_true(decode_text("01 01", PACKET_PUBLISH, &props, &copy, &reason) > 0);
    pos = 0;
    assert_false(props_user_next(&props, &pos, &pair));
    assert_false(props_sub_id_next(&props, &pos, &id));
    unit_free(copy);
}

/* [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18]
 * [MQTT5-3.3.2-20] [MQTT5-3.1.3-10] What a subscriber gets: without a copy when it lies together.
 */
static void forwarded(void **state)
{
    (void)state;
    static const struct {
        uint8_t type;
        const char *received, *forward;
        bool copied;
    } rows[] = {
        {PACKET_PUBLISH, "", "", false},
        {PACKET_PUBLISH, "02 00000001 23 0001", "", false},
        {PACKET_PUBLISH, "26 <b> <1> 09 0001 00 01 01 08 <r> 03 <c> 26 <a> <2>",
         "26 <b> <1> 09 0001 00 01 01 08 <r> 03 <c> 26 <a> <2>", false},
        {PACKET_PUBLISH, "02 00000001 01 00 26 <a> <b> 23 0001", "01 00 26 <a> <b>", false},
        {PACKET_PUBLISH, "26 <b> <1> 02 00000001 26 <a> <2> 23 0007 08 <r>",
         "26 <b> <1> 26 <a> <2> 08 <r>", true},
        {PROPS_PACKET_WILL, "01 01 18 00000005 03 <c>", "01 01 03 <c>", true},
        {PROPS_PACKET_WILL, "18 00000005 26 <b> <1> 26 <a> <2>", "26 <b> <1> 26 <a> <2>", false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct props props;
        struct slice copy, forward = {0};
        uint8_t reason, room[64], copied[64];
        assert_true(decode_text(rows[i].received, rows[i].type, &props, &copy, &reason) > 0);
        const struct slice expected = unit_bytes(rows[i].forward, room, sizeof room);
        assert_int_equal(props.forward_size, expected.size);
        if (rows[i].copied)
            assert_int_equal(props_forward(&props, copied, expected.size - 1, &forward), ERR_FULL);
        assert_int_equal(
            props_forward(&props, copied, rows[i].copied ? expected.size : 0, &forward), 0);
        assert_true(slice_equal(forward, expected));
        assert_int_equal(forward.bytes == copied, rows[i].copied);
        unit_free(copy);
    }
}

/* All that a CONNACK can carry: set, encoded, decoded, the same. */
static void set_and_encode(void **state)
{
    (void)state;
    static const struct {
        enum prop prop;
        uint32_t value;
        const char *text;
    } rows[] = {
        {PROP_SESSION_EXPIRY, 0x12345678, NULL},
        {PROP_ASSIGNED_CLIENT_ID, 0, "auto-1"},
        {PROP_SERVER_KEEP_ALIVE, 300, NULL},
        {PROP_AUTH_METHOD, 0, "m"},
        {PROP_AUTH_DATA, 0, "d"},
        {PROP_RESPONSE_INFO, 0, "r/"},
        {PROP_SERVER_REFERENCE, 0, "h"},
        {PROP_REASON_STRING, 0, "because"},
        {PROP_RECEIVE_MAX, 1024, NULL},
        {PROP_TOPIC_ALIAS_MAX, 10, NULL},
        {PROP_MAX_QOS, 1, NULL},
        {PROP_RETAIN_AVAILABLE, 1, NULL},
        {PROP_MAX_PACKET, 1048576, NULL},
        {PROP_WILDCARD_AVAILABLE, 0, NULL},
        {PROP_SUB_ID_AVAILABLE, 1, NULL},
        {PROP_SHARED_AVAILABLE, 0, NULL},
    };
    struct props props = {0};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (rows[i].text)
            props_set_slice(&props, rows[i].prop, slice_of(rows[i].text, strlen(rows[i].text)));
        else
            props_set_u32(&props, rows[i].prop, rows[i].value);
    }
    uint8_t room[256], reason;
    const uint32_t size = props_size(&props, UINT64_MAX);
    assert_int_equal(size, 65);
    room[0] = (uint8_t)size;
    assert_ptr_equal(props_write(&props, UINT64_MAX, room + 1), room + 1 + size);
    struct props again;
    assert_int_equal(props_decode(room, size + 1, PACKET_CONNACK, &again, &reason), (int)size + 1);
    assert_true(again.has == props.has);
    assert_int_equal(again.session_expiry_s, 0x12345678);
    assert_int_equal(again.server_keep_alive_s, 300);
    assert_int_equal(again.receive_max, 1024);
    assert_int_equal(again.topic_alias_max, 10);
    assert_int_equal(again.max_packet_size, 1048576);
    assert_int_equal(again.max_qos, 1);
    assert_int_equal(again.wildcard_available, 0);
    assert_true(is(again.assigned_client_id, "auto-1"));
    assert_true(is(again.reason_string, "because"));
    assert_true(is(again.server_reference, "h"));
    assert_true(is(again.response_info, "r/"));

    const uint64_t fewer = ~PROPS_BIT(PROP_REASON_STRING);
    assert_int_equal(props_size(&props, fewer), size - 10);
    assert_ptr_equal(props_write(&props, fewer, room), room + size - 10);
}

/* Every property that was decoded is encoded to the same bytes. */
static void encode_what_was_decoded(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(properties); i++) {
        uint8_t type = PROPS_PACKET_WILL;
        while (!listed(properties[i].packets, packets[type]))
            type++;
        char text[64];
        (void)snprintf(text, sizeof text, "%s %s",
                       properties[i].id == PROP_AUTH_DATA ? "15 <m>" : "", properties[i].text);
        struct props props;
        struct slice copy;
        uint8_t reason, room[64];
        assert_true(decode_text(text, type, &props, &copy, &reason) > 0);
        assert_int_equal(props_size(&props, UINT64_MAX), copy.size - 1);
        assert_ptr_equal(props_write(&props, UINT64_MAX, room), room + copy.size - 1);
        assert_memory_equal(room, copy.bytes + 1, copy.size - 1);
        unit_free(copy);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_property_in_each_packet),
        cmocka_unit_test(unknown_properties),
        cmocka_unit_test(twice),
        cmocka_unit_test(values_out_of_range),
        cmocka_unit_test(truncated_everywhere),
        cmocka_unit_test(block_length),
        cmocka_unit_test(repeated_in_order),
        cmocka_unit_test(forwarded),
        cmocka_unit_test(set_and_encode),
        cmocka_unit_test(encode_what_was_decoded),
    };
    return cmocka_run_group_tests_name("mqtt/props", tests, NULL, NULL);
}
