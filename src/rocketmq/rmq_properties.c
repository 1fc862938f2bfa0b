#include "rocketmq/rmq_properties.h"

#include <string.h>

enum {
    NAME_END = 1,
    VALUE_END = 2,
    ADDED_SIZE = 512,    /* by the Broker to any message: cluster, region, unique key, trace, CRC */
    ADDED_LMQ_SIZE = 20, /* to one for LMQs, for each: an offset and a comma */
};

static struct slice part(struct slice whole, uint32_t begin, uint32_t end)
{
    return (struct slice){.bytes = whole.bytes + begin, .size = end - begin, .buf = whole.buf};
}

static uint32_t find_byte(struct slice slice, uint8_t byte)
{
    const uint8_t *found = slice.size > 0 ? memchr(slice.bytes, byte, slice.size) : NULL;
    return found ? (uint32_t)(found - slice.bytes) : slice.size;
}

bool rmq_properties_next(struct slice *rest, struct rmq_property *ret_property)
{
    while (rest->size > 0) {
        const uint32_t size = find_byte(*rest, VALUE_END);
        const struct slice piece = part(*rest, 0, size);
        const uint32_t name_size = find_byte(piece, NAME_END);
        *rest = part(*rest, MIN(size + 1, rest->size), rest->size);
        if (name_size > 0 && name_size < piece.size) {
            ret_property->name = part(piece, 0, name_size);
            ret_property->value = part(piece, name_size + 1, piece.size);
            return true;
        }
    }
    return false;
}

struct slice rmq_properties_find(struct slice properties, const char *name)
{
    const struct slice wanted = slice_str(name);
    struct rmq_property property;
    while (rmq_properties_next(&properties, &property)) {
        if (slice_equal(property.name, wanted))
            return property.value;
    }
    return slice_of(NULL, 0);
}

void rmq_properties_init(struct strbuf *strbuf, uint32_t lmq_count)
{
    const uint64_t added = ADDED_SIZE + (uint64_t)lmq_count * ADDED_LMQ_SIZE;
    strbuf_init(strbuf, added < RMQ_PROPERTIES_SIZE_MAX ? RMQ_PROPERTIES_SIZE_MAX - added : 0);
}

static bool has_separator(struct slice text)
{
    return find_byte(text, NAME_END) < text.size || find_byte(text, VALUE_END) < text.size;
}

int rmq_properties_add(struct strbuf *strbuf, struct slice name, struct slice value)
{
    if (name.size == 0 || has_separator(name) || has_separator(value))
        return ERR_INVALID;
    strbuf_add_bytes(strbuf, name.bytes, name.size);
    strbuf_add_bytes(strbuf, "\1", 1);
    strbuf_add_bytes(strbuf, value.bytes, value.size);
    strbuf_add_bytes(strbuf, "\2", 1);
    return 0;
}
