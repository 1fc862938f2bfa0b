#include "mqtt/dec.h"

int dec_auth(struct slice body, struct packet_auth *ret, uint8_t *ret_reason)
{
    struct reader in = reader_of(body);
    const int err = dec_outcome(&in, MQTT_V5, PACKET_AUTH, &ret->reason, &ret->props, ret_reason);
    if (err < 0)
        return err;
    /* Success is the server's to send, and a method is always named. [MQTT5-3.15.2-1] */
    if (ret->reason == REASON_SUCCESS || !PROPS_HAS(&ret->props, PROP_AUTH_METHOD))
        return dec_protocol(REASON_PROTOCOL_ERROR, ret_reason);
    return 0;
}
