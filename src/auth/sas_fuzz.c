/* Any bytes as the token of a device: refused, or taken apart within its bounds. */
#include "auth/sas.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const struct sas_key key = {.size = 32};
    struct sas_token token;
    if (size > 1 << 17 || sas_parse(slice_of(bytes, size), &token) < 0)
        return 0;
    ASSERT(sas_looks_like_one(slice_of(bytes, size)));
    ASSERT(token.resource_size <= SAS_RESOURCE_MAX);
    ASSERT(token.expiry_s < 1000000000000000);
    (void)sas_is_signed(&token, &key);
    (void)sas_is_for(&token, slice_str("sensor-1"));
    return 0;
}
