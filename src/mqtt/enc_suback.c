#include "mqtt/enc.h"

#include "mqtt/write.h"

/* One code for each filter, in their order. [MQTT3-3.8.4-5] [MQTT3-3.9.3-1] [MQTT5-3.8.4-6]
 * [MQTT5-3.9.3-1] [MQTT5-3.11.3-1] */
static int codes_encode(const struct enc_room *to, uint8_t packet_type, uint16_t packet_id,
                        struct slice codes, const struct props *props)
{
    const bool v5 = to->version >= MQTT_V5;
    uint8_t fixed[2];
    (void)write_u16(fixed, packet_id); /* [MQTT3-2.3.1-7] [MQTT5-2.2.1-6] [MQTT5-3.8.4-2] */
    const struct enc_parts parts = {
        .fixed = fixed,
        .fixed_size = 2,
        .tail = codes.bytes,
        .tail_size = codes.size,
        .props = v5 ? props : NULL,
        .props_written = v5,
    };
    const int size = enc_packet(to, (uint8_t)(packet_type << 4), &parts);
    if (size < 0)
        return size;
    uint8_t *const written = to->bytes + size - codes.size;
    for (uint32_t i = 0; i < codes.size; i++) {
        if (v5) /* [MQTT5-3.9.3-2] [MQTT5-3.11.3-2] */
            written[i] = reason_fit(written[i], packet_type);
        else if (written[i] > 2) /* [MQTT3-3.9.3-2] */
            written[i] = REASON_UNSPECIFIED;
    }
    return size;
}

int enc_suback(const struct enc_room *to, uint16_t packet_id, const uint8_t *codes, uint32_t count,
               const struct props *props)
{
    ASSERT(count > 0);
    return codes_encode(to, PACKET_SUBACK, packet_id, slice_of(codes, count), props);
}

int enc_unsuback(const struct enc_room *to, uint16_t packet_id, const uint8_t *codes,
                 uint32_t count, const struct props *props)
{
    ASSERT(count > 0);
    const uint32_t sent = to->version >= MQTT_V5 ? count : 0;
    return codes_encode(to, PACKET_UNSUBACK, packet_id, slice_of(codes, sent), props);
}
