#include "mqtt/enc.h"

int enc_connack(const struct enc_room *to, bool session_present, uint8_t reason,
                const struct props *props)
{
    /* The other acknowledge flags stay 0: [MQTT5-3.2.2-1]; a refusal has no session, and 3.1 has no
     * such flag: [MQTT3-3.2.2-4] [MQTT5-3.2.2-6] */
    const bool present = session_present && reason == REASON_SUCCESS && to->version > MQTT_V31;
    const bool v5 = to->version >= MQTT_V5;
    const uint8_t code = v5 ? reason_fit(reason, PACKET_CONNACK) : reason_to_connack3(reason);
    if (!v5 && code == REASON_CONNACK3_NONE)
        return ERR_INVALID; /* [MQTT3-3.2.2-6] */
    const struct enc_parts parts = {
        .fixed = (uint8_t[]){present, code},
        .fixed_size = 2,
        .props = v5 ? props : NULL,
        .props_written = v5,
    };
    return enc_packet(to, PACKET_CONNACK << 4, &parts);
}
