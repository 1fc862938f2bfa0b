#include "mqtt/frame.h"

/* The flags each type must carry. PUBLISH (here 0xff) has flags of its own. */
static const uint8_t flags_by_type[16] = {
    [PACKET_PUBLISH] = 0xff,
    [PACKET_PUBREL] = 2,
    [PACKET_SUBSCRIBE] = 2,
    [PACKET_UNSUBSCRIBE] = 2,
};

/* 3.1 knew a DUP flag on PUBREL, SUBSCRIBE and UNSUBSCRIBE. */
#define FLAG_DUP 8u

static bool flags_valid(uint8_t type, uint8_t flags, uint8_t version)
{
    const uint8_t expected = flags_by_type[type];
    if (flags == expected || expected == 0xff)
        return true;
    return version == MQTT_V31 && expected == 2 && flags == (expected | FLAG_DUP);
}

int frame_parse(const uint8_t *bytes, size_t size, uint32_t size_max, uint8_t version,
                struct frame_head *ret_head)
{
    ASSERT(bytes || size == 0);
    ASSERT(size_max >= 2);

    if (size == 0)
        return ERR_AGAIN;
    const uint8_t type = bytes[0] >> 4, flags = bytes[0] & 0x0f;
    if (type == 0 || !flags_valid(type, flags, version))
        return ERR_MALFORMED;
    if (version == 0 && type != PACKET_CONNECT)
        return ERR_PROTOCOL; /* [MQTT3-3.1.0-1] [MQTT5-3.1.0-1] */
    if (version < MQTT_V5 && type == PACKET_AUTH)
        return ERR_MALFORMED;

    uint32_t value = 0;
    uint8_t count = 0;
    uint8_t byte;
    do {
        if (count == 4)
            return ERR_MALFORMED;
        if (size < 2u + count)
            return ERR_AGAIN;
        byte = bytes[1 + count];
        value |= (uint32_t)(byte & 0x7f) << (7 * count);
        count++;
        if (value + 1u + count > size_max)
            return ERR_FULL; /* whatever follows, it only grows */
    } while (byte & 0x80);
    if (count > 1 && byte == 0)
        return ERR_MALFORMED; /* longer than its value needs: [MQTT5-1.5.5-1] */

    *ret_head = (struct frame_head){
        .type = type,
        .flags = flags,
        .head_size = (uint8_t)(1 + count),
        .remaining_size = value,
    };
    return 0;
}
