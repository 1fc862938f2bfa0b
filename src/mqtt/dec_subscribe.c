#include "mqtt/dec.h"
#include "mqtt/topic.h"

/* Subscription options: QoS in bits 0 and 1, then these. */
#define OPTION_NO_LOCAL 4u
#define OPTION_RAP      8u
#define OPTION_RESERVED 0xc0u

/* Takes a checked options byte apart; 3.x has only the QoS. */
static void options_split(uint8_t options, uint8_t version, struct subscribe_entry *ret_entry)
{
    ret_entry->qos = options & 3;
    const bool v5 = version == MQTT_V5;
    ret_entry->no_local = v5 && (options & OPTION_NO_LOCAL) != 0;
    ret_entry->retain_as_published = v5 && (options & OPTION_RAP) != 0;
    ret_entry->retain_handling = v5 ? options >> 4 & 3 : 0;
}

static int options_check(uint8_t options, uint8_t version, bool shared, uint8_t *ret_reason)
{
    const uint8_t qos = options & 3;
    if (version == MQTT_V31)
        return qos == 3 ? dec_malformed(ret_reason) : 0; /* the other bits had no meaning yet */
    if (version == MQTT_V311)
        return options > 2 ? dec_malformed(ret_reason) : 0; /* [MQTT3-3.8.3-4] */
    if (options & OPTION_RESERVED)
        return dec_malformed(ret_reason); /* [MQTT5-3.8.3-5] */
    if (qos == 3 || (options >> 4 & 3) == 3)
        return dec_protocol(REASON_PROTOCOL_ERROR, ret_reason);
    if (shared && (options & OPTION_NO_LOCAL))
        return dec_protocol(REASON_PROTOCOL_ERROR, ret_reason); /* [MQTT5-3.8.3-4] */
    return 0;
}

/* [MQTT3-3.8.3-1] [MQTT3-3.10.3-1] [MQTT5-3.8.3-1] [MQTT5-3.10.3-1] and what makes a filter. */
static int filter_read(struct reader *in, bool *ret_shared, uint8_t *ret_reason)
{
    struct slice filter;
    if (!read_binary(in, &filter))
        return dec_malformed(ret_reason);
    const int err = topic_filter_check(filter, TOPIC_NO_LIMIT);
    if (err == ERR_MALFORMED)
        return dec_malformed(ret_reason);
    struct topic_share share;
    const int err_share = err < 0 ? err : topic_share_parse(filter, &share);
    if (err < 0 || err_share == ERR_INVALID)
        return dec_protocol(REASON_FILTER_INVALID, ret_reason);
    *ret_shared = err_share == 0;
    return 0;
}

int dec_subscribe(struct slice body, uint8_t version, struct packet_subscribe *ret,
                  uint8_t *ret_reason)
{
    struct reader in = reader_of(body);
    int err = dec_packet_id(&in, &ret->packet_id, ret_reason);
    if (err < 0)
        return err;
    err = dec_props(&in, version, PACKET_SUBSCRIBE, &ret->props, ret_reason);
    if (err < 0)
        return err;
    ret->version = version;
    ret->count = 0;
    ret->entries = slice_of(in.at, read_left(&in));
    for (; read_left(&in) > 0; ret->count++) {
        bool shared;
        uint8_t options;
        err = filter_read(&in, &shared, ret_reason);
        if (err < 0)
            return err;
        if (!read_u8(&in, &options))
            return dec_malformed(ret_reason);
        err = options_check(options, version, shared, ret_reason);
        if (err < 0)
            return err;
    }
    if (ret->count == 0) /* [MQTT3-3.8.3-3] [MQTT5-3.8.3-2] */
        return dec_protocol(REASON_PROTOCOL_ERROR, ret_reason);
    return 0;
}

bool subscribe_next(const struct packet_subscribe *packet, uint32_t *pos,
                    struct subscribe_entry *ret_entry)
{
    ASSERT(*pos <= packet->entries.size);
    if (*pos == packet->entries.size)
        return false;
    struct reader in = reader_of(packet->entries);
    in.at += *pos;
    uint8_t options = 0;
    const bool whole = read_binary(&in, &ret_entry->filter) && read_u8(&in, &options);
    ASSERT(whole);
    options_split(options, packet->version, ret_entry);
    *pos = (uint32_t)(in.at - packet->entries.bytes);
    return true;
}

int dec_unsubscribe(struct slice body, uint8_t version, struct packet_unsubscribe *ret,
                    uint8_t *ret_reason)
{
    struct reader in = reader_of(body);
    int err = dec_packet_id(&in, &ret->packet_id, ret_reason);
    if (err < 0)
        return err;
    err = dec_props(&in, version, PACKET_UNSUBSCRIBE, &ret->props, ret_reason);
    if (err < 0)
        return err;
    ret->count = 0;
    ret->entries = slice_of(in.at, read_left(&in));
    for (; read_left(&in) > 0; ret->count++) {
        bool shared;
        err = filter_read(&in, &shared, ret_reason);
        if (err < 0)
            return err;
    }
    if (ret->count == 0) /* [MQTT3-3.10.3-2] [MQTT5-3.10.3-2] */
        return dec_protocol(REASON_PROTOCOL_ERROR, ret_reason);
    return 0;
}

bool unsubscribe_next(const struct packet_unsubscribe *packet, uint32_t *pos,
                      struct slice *ret_filter)
{
    ASSERT(*pos <= packet->entries.size);
    if (*pos == packet->entries.size)
        return false;
    struct reader in = reader_of(packet->entries);
    in.at += *pos;
    const bool whole = read_binary(&in, ret_filter);
    ASSERT(whole);
    *pos = (uint32_t)(in.at - packet->entries.bytes);
    return true;
}
