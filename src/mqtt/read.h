/* Reading big-endian fields from a packet, never beyond its end. Thread: any. */
#pragma once

#include "base/base.h"
#include "base/buf.h"

struct reader {
    const uint8_t *at, *end;
};

static inline struct reader reader_of(struct slice bytes)
{
    return (struct reader){
        .at = bytes.bytes,
        .end = bytes.size > 0 ? bytes.bytes + bytes.size : bytes.bytes, /* NULL + 0 is undefined */
    };
}

static inline size_t read_left(const struct reader *in)
{
    return (size_t)(in->end - in->at);
}

/* All return false when the bytes end too early, and then have read nothing. */
static inline bool read_u8(struct reader *in, uint8_t *ret)
{
    if (read_left(in) < 1)
        return false;
    *ret = *in->at++;
    return true;
}

static inline bool read_u16(struct reader *in, uint16_t *ret)
{
    if (read_left(in) < 2)
        return false;
    *ret = (uint16_t)(in->at[0] << 8 | in->at[1]);
    in->at += 2;
    return true;
}

static inline bool read_u32(struct reader *in, uint32_t *ret)
{
    if (read_left(in) < 4)
        return false;
    *ret = (uint32_t)in->at[0] << 24 | (uint32_t)in->at[1] << 16 | (uint32_t)in->at[2] << 8 |
           in->at[3];
    in->at += 4;
    return true;
}

/* A two-byte length and as many bytes. */
static inline bool read_binary(struct reader *in, struct slice *ret)
{
    uint16_t size;
    if (!read_u16(in, &size))
        return false;
    if (read_left(in) < size) {
        in->at -= 2;
        return false;
    }
    *ret = slice_of(in->at, size);
    in->at += size;
    return true;
}

/* A variable byte integer in its shortest form; false for a longer one too. [MQTT5-1.5.5-1] */
static inline bool read_varint(struct reader *in, uint32_t *ret)
{
    uint32_t value = 0;
    const size_t left = read_left(in);
    for (uint8_t i = 0; i < 4 && i < left; i++) {
        const uint8_t byte = in->at[i];
        value |= (uint32_t)(byte & 0x7f) << (7 * i);
        if ((byte & 0x80) == 0) {
            if (byte == 0 && i > 0)
                return false;
            in->at += i + 1;
            *ret = value;
            return true;
        }
    }
    return false;
}
