/* Writing big-endian fields; the caller has made sure of the room. Each returns the end of what it
 * wrote. Thread: any. */
#pragma once

#include "base/base.h"
#include "base/buf.h"

#include <string.h>

static inline uint8_t *write_u8(uint8_t *at, uint8_t value)
{
    *at = value;
    return at + 1;
}

static inline uint8_t *write_u16(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 8);
    at[1] = (uint8_t)value;
    return at + 2;
}

static inline uint8_t *write_u32(uint8_t *at, uint32_t value)
{
    return write_u16(write_u16(at, value >> 16), value & 0xffff);
}

static inline uint8_t *write_bytes(uint8_t *at, const uint8_t *bytes, size_t size)
{
    if (size > 0)
        memcpy(at, bytes, size);
    return at + size;
}

/* A two-byte length and the bytes. */
static inline uint8_t *write_binary(uint8_t *at, struct slice slice)
{
    return write_bytes(write_u16(at, slice.size), slice.bytes, slice.size);
}

static inline uint32_t varint_size(uint32_t value)
{
    return value < 128 ? 1 : value < 16384 ? 2 : value < 2097152 ? 3 : 4;
}

/* In the shortest form. [MQTT5-1.5.5-1] */
static inline uint8_t *write_varint(uint8_t *at, uint32_t value)
{
    for (; value >= 128; value >>= 7)
        *at++ = (uint8_t)(value | 0x80);
    *at++ = (uint8_t)value;
    return at;
}
