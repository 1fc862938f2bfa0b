#include "mqtt/dec.h"

int dec_disconnect(struct slice body, uint8_t version, struct packet_disconnect *ret,
                   uint8_t *ret_reason)
{
    struct reader in = reader_of(body);
    return dec_outcome(&in, version, PACKET_DISCONNECT, &ret->reason, &ret->props, ret_reason);
}
