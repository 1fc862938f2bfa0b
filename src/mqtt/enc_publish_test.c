/* enc_publish_head: the bytes, the sizes, and that dec_publish reads the same back. */
#include "mqtt/encode.h"

#include "mqtt/dec_unit.h"

static void expect(const struct enc_publish *publish, const char *text)
{
    uint8_t room[256], bytes[256];
    const struct slice expected = unit_bytes(text, room, sizeof room);
    const int size = enc_publish_head(publish, bytes, sizeof bytes);
    if (size < 0 || !slice_equal(slice_of(bytes, (size_t)size), expected))
        fail_msg("'%s' is not what was encoded (%d)", text, size);
    assert_true(enc_publish_size(publish) == (uint64_t)size + publish->payload_size);
    assert_true((size_t)size <= enc_publish_room(publish));
    for (uint32_t less = 0; less < expected.size; less++)
        assert_int_equal(enc_publish_head(publish, bytes, less), ERR_FULL);
}

/* [MQTT3-2.3.1-4] [MQTT3-2.3.1-5] [MQTT3-3.3.1-2] [MQTT5-2.2.1-2] [MQTT5-2.2.1-4] [MQTT5-2.2.2-1]
 * [MQTT5-3.3.1-2] [MQTT5-3.3.2-6] [MQTT5-3.3.4-3] [MQTT5-3.3.4-4] */
static void heads(void **state)
{
    (void)state;
    static const uint32_t ids[] = {1, 200, FRAME_REMAINING_MAX};
    uint8_t blob[64];
    const struct slice forward = unit_bytes("01 01 26 <k> <v>", blob, sizeof blob);
    struct enc_publish publish = {.version = 4, .topic = slice_of("a/b", 3), .payload_size = 7};
    expect(&publish, "30 0c <a/b>");
    publish.dup = true; /* never at QoS 0 */
    expect(&publish, "30 0c <a/b>");
    publish.qos = 1;
    publish.packet_id = 0x1234;
    expect(&publish, "3a 0e <a/b> 1234");
    publish.dup = false;
    publish.retain = true;
    publish.qos = 2;
    expect(&publish, "35 0e <a/b> 1234");

    publish.forward = forward;
    publish.topic_alias = 5;
    publish.has_expiry = true;
    publish.expiry_s = 0x01020304;
    publish.sub_ids = ids;
    publish.sub_id_count = 3;
    expect(&publish, "35 0e <a/b> 1234"); /* nothing of this in 3.1.1 */
    publish.version = 5;
    expect(&publish, "35 2a <a/b> 1234 1b 02 01020304 23 0005 0b 01 0b c801 0b ffffff7f "
                     "01 01 26 <k> <v>");
    publish.topic = (struct slice){0};
    publish.sub_id_count = 0;
    publish.has_expiry = false;
    expect(&publish, "35 18 <> 1234 0c 23 0005 01 01 26 <k> <v>");
    publish = (struct enc_publish){.version = 5, .topic = slice_of("t", 1)};
    expect(&publish, "30 04 <t> 00");
}

/* [MQTT5-3.1.2-24] Sizes at the limits of the length field, and beyond what MQTT can carry. */
static void sizes(void **state)
{
    (void)state;
    static const struct {
        uint32_t payload_size;
        uint64_t size;
    } rows[] = {
        {124, 129},
        {125, 131},
        {16380, 16386},
        {16381, 16388},
        {2097148, 2097155},
        {2097149, 2097157},
        {FRAME_REMAINING_MAX - 3, FRAME_PACKET_MAX},
    };
    uint8_t bytes[16];
    struct enc_publish publish = {.version = 4, .topic = slice_of("t", 1)};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        publish.payload_size = rows[i].payload_size;
        assert_true(enc_publish_size(&publish) == rows[i].size);
        assert_int_equal(enc_publish_head(&publish, bytes, sizeof bytes),
                         rows[i].size - rows[i].payload_size);
    }
    publish.payload_size = FRAME_REMAINING_MAX - 2;
    assert_true(enc_publish_size(&publish) > FRAME_PACKET_MAX);
    assert_int_equal(enc_publish_head(&publish, bytes, sizeof bytes), ERR_FULL);
    publish.version = 5;
    publish.payload_size = 0;
    publish.forward = slice_of(bytes, UINT32_MAX); /* only its size is looked at */
    assert_true(enc_publish_size(&publish) > FRAME_PACKET_MAX);
    assert_int_equal(enc_publish_head(&publish, bytes, sizeof bytes), ERR_FULL);
}

/* Received, forwarded, received again: all that a subscriber is to get is the same.
 * [MQTT5-3.3.2-4] [MQTT5-3.3.2-15] [MQTT5-3.3.2-16] [MQTT5-3.3.2-17] [MQTT5-3.3.2-18]
 * [MQTT5-3.3.2-20] */
static void forwarded_unaltered(void **state)
{
    (void)state;
    uint8_t room[128], reason, bytes[256], blob[128];
    const struct slice body =
        unit_bytes("<a/b> 0001 2f 26 <k> <1> 02 0000000a 03 <text> 26 <j> <2> "
                   "08 <r> 09 0002 00ff 23 0001 26 <k> <3> 01 01 'payload'",
                   room, sizeof room);
    struct packet_publish in, out;
    assert_int_equal(dec_publish(body, 2, 5, &in, &reason), 0);
    struct enc_publish publish = {
        .version = 5,
        .qos = 1,
        .packet_id = 7,
        .topic = in.topic,
        .payload_size = in.payload.size,
        .has_expiry = true,
        .expiry_s = 4,
    };
    assert_int_equal(props_forward(&in.props, blob, sizeof blob, &publish.forward), 0);
    const int head = enc_publish_head(&publish, bytes, sizeof bytes);
    assert_true(head > 0);
    memcpy(bytes + head, in.payload.bytes, in.payload.size);
    struct frame_head frame;
    assert_int_equal(frame_parse(bytes, sizeof bytes, sizeof bytes, 5, &frame), 0);
    assert_int_equal(frame.remaining_size + 2, enc_publish_size(&publish));
    assert_int_equal(
        dec_publish(slice_of(bytes + 2, frame.remaining_size), frame.flags, 5, &out, &reason), 0);
    assert_true(slice_equal(out.topic, in.topic) && slice_equal(out.payload, in.payload));
    assert_true(slice_equal(out.props.content_type, in.props.content_type));
    assert_true(slice_equal(out.props.response_topic, in.props.response_topic));
    assert_true(slice_equal(out.props.correlation_data, in.props.correlation_data));
    assert_int_equal(out.props.payload_format, 1);
    assert_int_equal(out.props.message_expiry_s, 4);
    assert_false(PROPS_HAS(&out.props, PROP_TOPIC_ALIAS));
    assert_int_equal(out.props.user_count, 3);
    struct prop_pair pair_in, pair_out;
    for (uint32_t pos_in = 0, pos_out = 0; props_user_next(&in.props, &pos_in, &pair_in);) {
        assert_true(props_user_next(&out.props, &pos_out, &pair_out));
        assert_true(slice_equal(pair_in.name, pair_out.name));
        assert_true(slice_equal(pair_in.value, pair_out.value));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads),
        cmocka_unit_test(sizes),
        cmocka_unit_test(forwarded_unaltered),
    };
    return cmocka_run_group_tests_name("mqtt/enc_publish", tests, NULL, NULL);
}
