#include "mqtt/dec.h"

int dec_ack(struct slice body, uint8_t packet_type, uint8_t version, struct packet_ack *ret,
            uint8_t *ret_reason)
{
    ASSERT(packet_type >= PACKET_PUBACK && packet_type <= PACKET_PUBCOMP);
    struct reader in = reader_of(body);
    const int err = dec_packet_id(&in, &ret->packet_id, ret_reason);
    if (err < 0)
        return err;
    return dec_outcome(&in, version, packet_type, &ret->reason, &ret->props, ret_reason);
}
