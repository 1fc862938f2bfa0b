/* Any bytes as a PROXY header. What is taken lies within the input, and a part of it is never taken
 * for the whole; more bytes behind it change nothing. */
#include "wire/proxy_protocol.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct proxy_protocol header = {0}, again = {0};
    const int err = proxy_protocol_parse(bytes, size, &header);
    ASSERT(err == 0 || err == ERR_AGAIN || err == ERR_NOTFOUND || err == ERR_MALFORMED ||
           err == ERR_FULL);
    if (err != 0)
        return 0;
    ASSERT(header.size > 0);
    ASSERT(header.size <= size);
    ASSERT(header.size <= PROXY_PROTOCOL_SIZE_MAX);
    if (header.authority.size > 0) {
        ASSERT(header.authority.bytes >= bytes);
        ASSERT(header.authority.bytes + header.authority.size <= bytes + header.size);
    }
    const int part = proxy_protocol_parse(bytes, header.size - 1, &again);
    ASSERT(part == ERR_AGAIN);
    const int whole = proxy_protocol_parse(bytes, header.size, &again);
    ASSERT(whole == 0);
    ASSERT(again.size == header.size && again.source == header.source && again.port == header.port);
    ASSERT(memcmp(again.address, header.address, sizeof header.address) == 0);
    ASSERT(slice_equal(again.authority, header.authority));
    return 0;
}
