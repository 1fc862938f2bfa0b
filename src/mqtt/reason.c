#include "mqtt/reason.h"

#include "mqtt/frame.h"

#define ON(packet) (1u << PACKET_##packet)
#define ON_ACKS    (ON(PUBACK) | ON(PUBREC))
#define ON_RELS    (ON(PUBREL) | ON(PUBCOMP))

static const struct reason_row {
    const char *text;
    uint16_t packets; /* bit 1 << packet type */
} rows[] = {
#define X(name, code, text, packets) [code] = {text, packets},
#include "mqtt/reason.def"
#undef X
};

const char *reason_text(uint8_t reason)
{
    if (reason >= ARRAY_COUNT(rows) || !rows[reason].text)
        return "Unknown reason code";
    return rows[reason].text;
}

bool reason_allowed(uint8_t reason, uint8_t packet_type)
{
    ASSERT(packet_type >= PACKET_CONNECT && packet_type <= PACKET_AUTH);
    return reason < ARRAY_COUNT(rows) && (rows[reason].packets >> packet_type & 1) != 0;
}

uint8_t reason_fit(uint8_t reason, uint8_t packet_type)
{
    if (reason_allowed(reason, packet_type))
        return reason;
    if (packet_type == PACKET_PUBREL || packet_type == PACKET_PUBCOMP)
        return REASON_PACKET_ID_NOT_FOUND;
    return REASON_UNSPECIFIED;
}

uint8_t reason_to_connack3(uint8_t reason)
{
    switch (reason) {
    case REASON_SUCCESS:
        return 0;
    case REASON_UNSUPPORTED_VERSION: /* [MQTT3-3.1.2-2] */
        return 1;
    case REASON_CLIENT_ID_INVALID: /* [MQTT3-3.1.3-8] [MQTT3-3.1.3-9] */
        return 2;
    case REASON_SERVER_UNAVAILABLE:
    case REASON_SERVER_BUSY:
    case REASON_SHUTTING_DOWN:
    case REASON_QUOTA_EXCEEDED:
    case REASON_CONNECTION_RATE:
    case REASON_USE_ANOTHER_SERVER:
    case REASON_SERVER_MOVED:
        return 3;
    case REASON_BAD_CREDENTIALS:
        return 4;
    case REASON_NOT_AUTHORIZED:
    case REASON_BANNED:
    case REASON_BAD_AUTH_METHOD:
        return 5;
    default: /* [MQTT3-3.1.4-1] [MQTT3-3.2.2-6] */
        return REASON_CONNACK3_NONE;
    }
}
