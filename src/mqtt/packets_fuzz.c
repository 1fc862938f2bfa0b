/* Fuzz target: a stream of packets of one protocol version, as a connection would receive it.
 *
 * The first byte chooses the version; the rest is framed and decoded packet by packet, each body in
 * memory of its exact size. What was decoded is walked through, encoded again and decoded once
 * more: the second packet must say what the first said.
 */
#include "base/mem.h"
#include "mqtt/encode.h"
#include "mqtt/packets.h"
#include "mqtt/topic.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Room for what is encoded again: a little more than the input. */
struct scratch {
    uint8_t *bytes, *blob;
    size_t size;
    uint8_t version;
};

static struct enc_room room_of(const struct scratch *scratch)
{
    return (struct enc_room){
        .bytes = scratch->bytes, .size = (uint32_t)scratch->size, .version = scratch->version};
}

/* Frames what was encoded; returns its body. */
static struct slice body_of(const struct scratch *scratch, int size, struct frame_head *ret_head)
{
    ASSERT(size >= 2);
    const int err =
        frame_parse(scratch->bytes, (size_t)size, FRAME_PACKET_MAX, scratch->version, ret_head);
    ASSERT(err == 0);
    ASSERT(ret_head->head_size + ret_head->remaining_size == (uint32_t)size);
    return slice_of(scratch->bytes + ret_head->head_size, ret_head->remaining_size);
}

static void users_compare(const struct props *a, const struct props *b)
{
    struct prop_pair pair_a, pair_b;
    uint32_t pos_a = 0, pos_b = 0, count = 0;
    ASSERT(a->user_count == b->user_count);
    for (; props_user_next(a, &pos_a, &pair_a); count++) {
        const bool found = props_user_next(b, &pos_b, &pair_b);
        ASSERT(found);
        ASSERT(slice_equal(pair_a.name, pair_b.name));
        ASSERT(slice_equal(pair_a.value, pair_b.value));
    }
    ASSERT(count == a->user_count);
}

static void props_compare(const struct props *a, const struct props *b, uint64_t which)
{
    ASSERT((a->has & which) == (b->has & which));
    ASSERT(slice_equal(a->reason_string, b->reason_string));
    ASSERT(slice_equal(a->server_reference, b->server_reference));
    ASSERT(slice_equal(a->auth_method, b->auth_method));
    ASSERT(slice_equal(a->auth_data, b->auth_data));
    ASSERT(slice_equal(a->content_type, b->content_type));
    ASSERT(slice_equal(a->response_topic, b->response_topic));
    ASSERT(slice_equal(a->correlation_data, b->correlation_data));
    ASSERT(a->payload_format == b->payload_format);
    users_compare(a, b);
}

static void publish_again(const struct packet_publish *packet, const struct scratch *scratch)
{
    struct enc_publish publish = {
        .version = scratch->version,
        .qos = packet->qos,
        .dup = packet->dup,
        .retain = packet->retain,
        .packet_id = packet->packet_id,
        .topic = packet->topic,
        .payload_size = packet->payload.size,
        .topic_alias = (uint16_t)packet->props.topic_alias,
        .has_expiry = PROPS_HAS(&packet->props, PROP_MESSAGE_EXPIRY),
        .expiry_s = packet->props.message_expiry_s,
    };
    int err =
        props_forward(&packet->props, scratch->blob, packet->props.forward_size, &publish.forward);
    ASSERT(err == 0);
    ASSERT(publish.forward.size == packet->props.forward_size);
    const int head_size = enc_publish_head(&publish, scratch->bytes, enc_publish_room(&publish));
    ASSERT(head_size > 0);
    ASSERT(enc_publish_size(&publish) == (uint64_t)head_size + packet->payload.size);
    if (packet->payload.size > 0)
        memcpy(scratch->bytes + head_size, packet->payload.bytes, packet->payload.size);

    struct frame_head head;
    struct packet_publish again;
    uint8_t reason;
    const struct slice body = body_of(scratch, head_size + (int)packet->payload.size, &head);
    err = dec_publish(body, head.flags, scratch->version, &again, &reason);
    ASSERT(err == 0);
    ASSERT(again.qos == packet->qos && again.retain == packet->retain);
    ASSERT(again.packet_id == packet->packet_id);
    ASSERT(slice_equal(again.topic, packet->topic));
    ASSERT(slice_equal(again.payload, packet->payload));
    props_compare(&packet->props, &again.props, UINT64_MAX);
    ASSERT(again.props.topic_alias == packet->props.topic_alias);
    ASSERT(again.props.message_expiry_s == packet->props.message_expiry_s);
}

static void ack_again(const struct packet_ack *packet, uint8_t type, const struct scratch *scratch)
{
    const struct enc_room to = room_of(scratch);
    struct frame_head head;
    struct packet_ack again;
    uint8_t reason;
    const int size = enc_ack(&to, type, packet->packet_id, packet->reason, &packet->props);
    const int err = dec_ack(body_of(scratch, size, &head), type, scratch->version, &again, &reason);
    ASSERT(err == 0);
    ASSERT(again.packet_id == packet->packet_id && again.reason == packet->reason);
    props_compare(&packet->props, &again.props, UINT64_MAX);
}

static void disconnect_again(const struct packet_disconnect *packet, const struct scratch *scratch)
{
    const struct enc_room to = room_of(scratch);
    struct frame_head head;
    struct packet_disconnect again;
    uint8_t reason;
    const int size = enc_disconnect(&to, packet->reason, &packet->props);
    if (scratch->version < MQTT_V5) {
        ASSERT(size == ERR_INVALID);
        return;
    }
    const int err =
        dec_disconnect(body_of(scratch, size, &head), scratch->version, &again, &reason);
    ASSERT(err == 0);
    ASSERT(again.reason == packet->reason);
    props_compare(&packet->props, &again.props, ~PROPS_BIT(PROP_SESSION_EXPIRY));
    ASSERT(!PROPS_HAS(&again.props, PROP_SESSION_EXPIRY)); /* no server sends it */
}

static void auth_again(const struct packet_auth *packet, const struct scratch *scratch)
{
    const struct enc_room to = room_of(scratch);
    struct frame_head head;
    struct packet_auth again;
    uint8_t reason;
    const int size = enc_auth(&to, packet->reason, &packet->props);
    const int err = dec_auth(body_of(scratch, size, &head), &again, &reason);
    ASSERT(err == 0);
    ASSERT(again.reason == packet->reason);
    props_compare(&packet->props, &again.props, UINT64_MAX);
}

/* The entries are as many as were counted, each a valid filter; they are answered one by one. */
static void subscribe_walk(const struct packet_subscribe *packet, const struct scratch *scratch)
{
    struct subscribe_entry entry;
    uint32_t pos = 0, count = 0;
    for (; subscribe_next(packet, &pos, &entry); count++) {
        ASSERT(entry.qos <= 2 && entry.retain_handling <= 2);
        ASSERT(topic_filter_check(entry.filter, TOPIC_NO_LIMIT) == 0);
        scratch->blob[count] = entry.qos;
    }
    ASSERT(count == packet->count);
    const struct enc_room to = room_of(scratch);
    const int size = enc_suback(&to, packet->packet_id, scratch->blob, count, NULL);
    ASSERT(size > 0);
    ASSERT(memcmp(scratch->bytes + (uint32_t)size - count, scratch->blob, count) == 0);
}

static void unsubscribe_walk(const struct packet_unsubscribe *packet)
{
    struct slice filter;
    uint32_t pos = 0, count = 0;
    for (; unsubscribe_next(packet, &pos, &filter); count++)
        ASSERT(topic_filter_check(filter, TOPIC_NO_LIMIT) == 0);
    ASSERT(count == packet->count);
}

/* Decodes a CONNECT and what of its will goes to subscribers; answers it either way. */
static int connect_walk(struct slice body, const struct scratch *scratch, uint8_t *ret_reason)
{
    struct packet_connect packet;
    const int err = dec_connect(body, &packet, ret_reason);
    ASSERT(err < 0 || (packet.version >= MQTT_V31 && packet.version <= MQTT_V5));
    if (packet.version > 0) {
        struct enc_room to = room_of(scratch);
        to.version = packet.version;
        const int size = enc_connack(&to, true, err < 0 ? *ret_reason : 0, NULL);
        ASSERT(size > 0 || size == ERR_INVALID);
    }
    if (err < 0)
        return err;
    ASSERT(!packet.has_will || topic_name_check(packet.will_topic, TOPIC_NO_LIMIT) == 0);
    struct slice forward;
    const int err_forward =
        props_forward(&packet.will_props, scratch->blob, scratch->size, &forward);
    ASSERT(err_forward == 0);
    users_compare(&packet.will_props, &packet.will_props);
    users_compare(&packet.props, &packet.props);
    return 0;
}

static int packet_decode(const struct frame_head *head, struct slice body,
                         const struct scratch *scratch, uint8_t *ret_reason)
{
    const uint8_t version = scratch->version;
    union {
        struct packet_publish publish;
        struct packet_ack ack;
        struct packet_subscribe subscribe;
        struct packet_unsubscribe unsubscribe;
        struct packet_disconnect disconnect;
        struct packet_auth auth;
    } packet;
    int err;
    switch (head->type) {
    case PACKET_CONNECT:
        return connect_walk(body, scratch, ret_reason);
    case PACKET_PUBLISH:
        err = dec_publish(body, head->flags, version, &packet.publish, ret_reason);
        if (err == 0)
            publish_again(&packet.publish, scratch);
        return err;
    case PACKET_PUBACK:
    case PACKET_PUBREC:
    case PACKET_PUBREL:
    case PACKET_PUBCOMP:
        err = dec_ack(body, head->type, version, &packet.ack, ret_reason);
        if (err == 0)
            ack_again(&packet.ack, head->type, scratch);
        return err;
    case PACKET_SUBSCRIBE:
        err = dec_subscribe(body, version, &packet.subscribe, ret_reason);
        if (err == 0)
            subscribe_walk(&packet.subscribe, scratch);
        return err;
    case PACKET_UNSUBSCRIBE:
        err = dec_unsubscribe(body, version, &packet.unsubscribe, ret_reason);
        if (err == 0)
            unsubscribe_walk(&packet.unsubscribe);
        return err;
    case PACKET_DISCONNECT:
        err = dec_disconnect(body, version, &packet.disconnect, ret_reason);
        if (err == 0)
            disconnect_again(&packet.disconnect, scratch);
        return err;
    case PACKET_AUTH:
        err = dec_auth(body, &packet.auth, ret_reason);
        if (err == 0)
            auth_again(&packet.auth, scratch);
        return err;
    default:
        return packet_ping_check(body, ret_reason);
    }
}

/* A copy of its exact size, so that a sanitizer sees each step beyond it. */
static uint8_t *copy_new(const uint8_t *bytes, size_t size)
{
    uint8_t *const copy = mem_try_alloc(size > 0 ? size : 1);
    ASSERT(copy);
    if (size > 0)
        memcpy(copy, bytes, size);
    return copy;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0)
        return 0;
    struct scratch scratch = {.size = size + 64, .version = (uint8_t)(MQTT_V31 + bytes[0] % 3)};
    scratch.bytes = mem_try_alloc(scratch.size);
    scratch.blob = mem_try_alloc(scratch.size);
    ASSERT(scratch.bytes && scratch.blob);
    bytes++;
    size--;

    struct frame_head head;
    while (frame_parse(bytes, size, 1 << 20, scratch.version, &head) == 0 &&
           size - head.head_size >= head.remaining_size) {
        uint8_t *const body = copy_new(bytes + head.head_size, head.remaining_size);
        uint8_t reason = 0;
        const int err =
            packet_decode(&head, slice_of(body, head.remaining_size), &scratch, &reason);
        ASSERT(err == 0 || err == ERR_MALFORMED || err == ERR_PROTOCOL);
        ASSERT((err < 0) == (reason >= 0x80));
        mem_free(body);
        bytes += head.head_size + head.remaining_size;
        size -= head.head_size + head.remaining_size;
    }
    mem_free(scratch.bytes);
    mem_free(scratch.blob);
    return 0;
}
