#include "auth/device_properties.h"

#include "base/utf8.h"

#include <string.h>

#define USER_PROPERTY 0x26u /* MQTT 5, 3.3.2.3.7 */
#define OVERHEAD      5u    /* the identifier and two sizes */

static uint8_t *put_text(uint8_t *at, struct slice text)
{
    *at++ = (uint8_t)(text.size >> 8);
    *at++ = (uint8_t)text.size;
    if (text.size > 0)
        memcpy(at, text.bytes, text.size);
    return at + text.size;
}

int device_properties_add(struct device_properties *properties, struct slice key,
                          struct slice value)
{
    const uint32_t room = DEVICE_PROPERTIES_SIZE_MAX - properties->size;
    if (key.size == 0 || !utf8_check(key.bytes, key.size) || !utf8_check(value.bytes, value.size))
        return ERR_INVALID;
    if (properties->count == DEVICE_PROPERTIES_MAX || key.size > room || value.size > room ||
        OVERHEAD + key.size + value.size > room)
        return ERR_FULL;
    uint8_t *at = properties->bytes + properties->size;
    *at++ = USER_PROPERTY;
    at = put_text(put_text(at, key), value);
    properties->size = (uint32_t)(at - properties->bytes);
    properties->count++;
    return 0;
}

/* false: it is cut short. */
static bool take_text(struct slice encoded, uint32_t *pos, struct slice *ret_text)
{
    if (encoded.size - *pos < 2)
        return false;
    const uint8_t *at = encoded.bytes + *pos;
    const uint32_t size = (uint32_t)at[0] << 8 | at[1];
    if (encoded.size - *pos - 2 < size)
        return false;
    *ret_text = slice_of(at + 2, size);
    *pos += 2 + size;
    return true;
}

bool device_properties_next(struct slice encoded, uint32_t *pos, struct slice *ret_key,
                            struct slice *ret_value)
{
    if (*pos >= encoded.size || encoded.bytes[*pos] != USER_PROPERTY)
        return false;
    uint32_t at = *pos + 1;
    if (!take_text(encoded, &at, ret_key) || !take_text(encoded, &at, ret_value))
        return false;
    *pos = at;
    return true;
}

bool device_properties_are_sound(struct slice encoded)
{
    struct slice key, value;
    uint32_t pos = 0, count = 0;
    if (encoded.size > DEVICE_PROPERTIES_SIZE_MAX)
        return false;
    while (device_properties_next(encoded, &pos, &key, &value)) {
        if (key.size == 0 || !utf8_check(key.bytes, key.size) ||
            !utf8_check(value.bytes, value.size))
            return false;
        count++;
    }
    return pos == encoded.size && count <= DEVICE_PROPERTIES_MAX;
}
