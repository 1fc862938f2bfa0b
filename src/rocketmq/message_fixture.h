/* A message in the form in which a Broker stores it. For unit tests and the fake Broker. */
#pragma once

#include "base/mem.h"
#include "base/unit.h"
#include "rocketmq/rmq_cursor.h"
#include "rocketmq/rmq_message.h"

#include <string.h>
#include <zlib.h>

static inline uint8_t *put_bytes(uint8_t *bytes, struct slice slice)
{
    if (slice.size > 0)
        memcpy(bytes, slice.bytes, slice.size);
    return bytes + slice.size;
}

static inline uint8_t *put_host(uint8_t *bytes, const struct rmq_host *host)
{
    const uint8_t size = host->address_size ? host->address_size : 4;
    bytes = put_bytes(bytes, slice_of(host->address, size));
    return rmq_put_number(bytes, host->port, 4);
}

/* Sizes and the sum over the body are filled in; of the flags only those of the hosts. */
static inline uint32_t message_put(uint8_t *room, size_t room_size,
                                   const struct rmq_message *message)
{
    uint32_t sys_flag = message->sys_flag;
    sys_flag |= message->born_host.address_size == 16 ? 0x10 : 0;
    sys_flag |= message->store_host.address_size == 16 ? 0x20 : 0;
    assert_true(room_size >=
                128 + (size_t)message->body.size + message->topic.size + message->properties.size);
    uint8_t *next = room + 4;
    next = rmq_put_number(next, message->is_v2 ? 0xdaa320ab : 0xdaa320a7, 4);
    next = rmq_put_number(
        next,
        message->body.size ? crc32(0, message->body.bytes, message->body.size) & 0x7fffffff : 0, 4);
    next = rmq_put_number(next, message->queue_id, 4);
    next = rmq_put_number(next, (uint64_t)message->flag, 4);
    next = rmq_put_number(next, message->queue_offset, 8);
    next = rmq_put_number(next, message->position, 8);
    next = rmq_put_number(next, sys_flag, 4);
    next = rmq_put_number(next, (uint64_t)message->born_ms, 8);
    next = put_host(next, &message->born_host);
    next = rmq_put_number(next, (uint64_t)message->store_ms, 8);
    next = put_host(next, &message->store_host);
    next = rmq_put_number(next, (uint64_t)message->reconsume_times, 4);
    next = rmq_put_number(next, (uint64_t)message->prepared_offset, 8);
    next = rmq_put_number(next, message->body.size, 4);
    next = put_bytes(next, message->body);
    next = rmq_put_number(next, message->topic.size, message->is_v2 ? 2 : 1);
    next = put_bytes(next, message->topic);
    next = rmq_put_number(next, message->properties.size, 2);
    next = put_bytes(next, message->properties);
    (void)rmq_put_number(room, (uint64_t)(next - room), 4);
    return (uint32_t)(next - room);
}
