#include "mqtt/enc.h"

#include "mqtt/write.h"

/* Size of the packet with the properties in `which`, and of its parts. */
struct sizes {
    uint64_t packet;
    uint32_t remaining, fixed, props;
};

static struct sizes sizes_of(const struct enc_parts *parts, uint64_t which)
{
    struct sizes sizes = {0};
    sizes.props = parts->props ? props_size(parts->props, which) : 0;
    sizes.fixed = parts->fixed_size;
    if (parts->code_optional && sizes.props == 0 && parts->fixed[sizes.fixed - 1] == REASON_SUCCESS)
        sizes.fixed--;
    uint64_t remaining = (uint64_t)sizes.fixed + parts->tail_size;
    if (parts->props_written || sizes.props > 0)
        remaining += varint_size(sizes.props) + sizes.props;
    sizes.packet = remaining > FRAME_REMAINING_MAX
                       ? UINT64_MAX
                       : 1 + varint_size((uint32_t)remaining) + remaining;
    sizes.remaining = (uint32_t)remaining;
    return sizes;
}

int enc_packet(const struct enc_room *to, uint8_t first_byte, const struct enc_parts *parts)
{
    /* In the order in which they are given up: [MQTT5-3.2.2-19] [MQTT5-3.2.2-20] [MQTT5-3.4.2-2]
     * [MQTT5-3.4.2-3] [MQTT5-3.5.2-2] [MQTT5-3.5.2-3] [MQTT5-3.6.2-2] [MQTT5-3.6.2-3]
     * [MQTT5-3.7.2-2] [MQTT5-3.7.2-3] [MQTT5-3.9.2-1] [MQTT5-3.9.2-2] [MQTT5-3.11.2-1]
     * [MQTT5-3.11.2-2] [MQTT5-3.14.2-3] [MQTT5-3.14.2-4] [MQTT5-3.15.2-2] [MQTT5-3.15.2-3] */
    static const uint64_t masks[] = {
        UINT64_MAX,
        ~PROPS_BIT(PROP_USER),
        ~(PROPS_BIT(PROP_USER) | PROPS_BIT(PROP_REASON_STRING)),
    };
    const uint32_t packet_max = to->packet_max > 0 ? to->packet_max : FRAME_PACKET_MAX;
    for (size_t i = 0; i < ARRAY_COUNT(masks); i++) {
        const uint64_t which = masks[i] & ~parts->props_never;
        const struct sizes sizes = sizes_of(parts, which);
        if (sizes.packet > packet_max)
            continue;
        if (sizes.packet > to->size)
            return ERR_FULL;
        uint8_t *at = write_u8(to->bytes, first_byte);
        at = write_varint(at, sizes.remaining);
        at = write_bytes(at, parts->fixed, sizes.fixed);
        if (parts->props_written || sizes.props > 0)
            at = write_varint(at, sizes.props);
        if (sizes.props > 0)
            at = props_write(parts->props, which, at);
        at = write_bytes(at, parts->tail, parts->tail_size);
        ASSERT((uint64_t)(at - to->bytes) == sizes.packet);
        return (int)sizes.packet;
    }
    return ERR_FULL;
}
