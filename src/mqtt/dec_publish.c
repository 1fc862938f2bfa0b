#include "mqtt/dec.h"
#include "mqtt/topic.h"

#define FLAG_DUP    8u
#define FLAG_RETAIN 1u

/* An empty topic is one that an alias names. */
static int topic_check(const struct packet_publish *packet, uint8_t *ret_reason)
{
    if (packet->topic.size == 0 && PROPS_HAS(&packet->props, PROP_TOPIC_ALIAS))
        return 0;
    switch (topic_name_check(packet->topic, TOPIC_NO_LIMIT)) {
    case 0:
        return 0;
    case ERR_MALFORMED: /* [MQTT3-3.3.2-1] [MQTT5-3.3.2-1] */
        return dec_malformed(ret_reason);
    default: /* [MQTT3-3.3.2-2] [MQTT5-3.3.2-2] [MQTT3-4.7.3-1] [MQTT5-4.7.3-1] */
        return dec_protocol(packet->topic.size == 0 ? REASON_PROTOCOL_ERROR : REASON_TOPIC_INVALID,
                            ret_reason);
    }
}

int dec_publish(struct slice body, uint8_t flags, uint8_t version, struct packet_publish *ret,
                uint8_t *ret_reason)
{
    struct reader in = reader_of(body);
    ret->dup = (flags & FLAG_DUP) != 0;
    ret->retain = (flags & FLAG_RETAIN) != 0;
    ret->qos = flags >> 1 & 3;
    if (ret->qos == 3)
        return dec_malformed(ret_reason); /* [MQTT3-3.3.1-4] [MQTT5-3.3.1-4] */
    if (ret->dup && ret->qos == 0 && version > MQTT_V31)
        return dec_malformed(ret_reason); /* [MQTT3-3.3.1-2] [MQTT5-3.3.1-2] */

    if (!read_binary(&in, &ret->topic))
        return dec_malformed(ret_reason);
    ret->packet_id = 0; /* [MQTT3-2.3.1-5] [MQTT5-2.2.1-2] */
    int err = ret->qos > 0 ? dec_packet_id(&in, &ret->packet_id, ret_reason) : 0;
    if (err < 0)
        return err;
    err = dec_props(&in, version, PACKET_PUBLISH, &ret->props, ret_reason);
    if (err < 0)
        return err;
    err = topic_check(ret, ret_reason);
    if (err < 0)
        return err;
    if (ret->props.sub_id_count > 0) /* only a server says which subscription: [MQTT5-3.3.4-6] */
        return dec_protocol(REASON_PROTOCOL_ERROR, ret_reason);
    ret->payload = slice_of(in.at, read_left(&in));
    return 0;
}
