#include "mqtt/enc.h"

/* A reason code and properties, both left out when there is nothing to say. */
static int outcome_encode(const struct enc_room *to, uint8_t packet_type, uint8_t reason,
                          const struct props *props)
{
    if (to->version < MQTT_V5)
        return ERR_INVALID;
    const uint8_t code = reason_fit(reason, packet_type);
    const struct enc_parts parts = {
        .fixed = &code,
        .fixed_size = 1,
        .code_optional = true,
        .props = props,
        .props_never = PROPS_BIT(PROP_SESSION_EXPIRY), /* a client's alone: [MQTT5-3.14.2-2] */
    };
    return enc_packet(to, (uint8_t)(packet_type << 4), &parts);
}

int enc_disconnect(const struct enc_room *to, uint8_t reason, const struct props *props)
{
    return outcome_encode(to, PACKET_DISCONNECT, reason, props);
}

int enc_auth(const struct enc_room *to, uint8_t reason, const struct props *props)
{
    return outcome_encode(to, PACKET_AUTH, reason, props);
}

int enc_pingresp(const struct enc_room *to)
{
    const struct enc_parts parts = {0};
    return enc_packet(to, PACKET_PINGRESP << 4, &parts);
}
