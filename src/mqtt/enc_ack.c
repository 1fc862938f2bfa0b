#include "mqtt/enc.h"

#include "mqtt/write.h"

int enc_ack(const struct enc_room *to, uint8_t packet_type, uint16_t packet_id, uint8_t reason,
            const struct props *props)
{
    ASSERT(packet_type >= PACKET_PUBACK && packet_type <= PACKET_PUBCOMP);
    const bool v5 = to->version >= MQTT_V5;
    const uint8_t code = reason_fit(reason, packet_type);
    uint8_t fixed[3];
    (void)write_u8(write_u16(fixed, packet_id), code); /* [MQTT3-2.3.1-6] [MQTT5-2.2.1-5] */
    const struct enc_parts parts = {
        .fixed = fixed,
        .fixed_size = v5 ? 3 : 2,
        .code_optional = v5,
        .props = v5 ? props : NULL,
    };
    return enc_packet(to, (uint8_t)(packet_type << 4 | (packet_type == PACKET_PUBREL ? 2 : 0)),
                      &parts);
}
