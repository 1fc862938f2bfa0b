/* The inbox fills one block after the other. Of a block whose frames were all taken nothing is
 * reused: who kept a slice of it may still read it. What is left of a frame that a block could not
 * hold is copied into the next, which has room for all of that frame; so a byte is copied once at
 * most, except in the first bytes of a frame, which do not say yet how large it is.
 */
#include "rocketmq/rmq_frame.h"

#include "rocketmq/rmq_cursor.h"

#include <string.h>

enum { BLOCK_SIZE = 64 * 1024, ROOM_MIN = 4096, SIZE_SIZE = 4 };

int rmq_frame_parse(struct slice bytes, uint32_t size_max, struct rmq_frame *ret_frame,
                    const char **ret_why)
{
    struct rmq_cursor cursor = rmq_cursor_on(bytes);
    if (bytes.size < SIZE_SIZE)
        return ERR_AGAIN;
    const uint32_t rest_size = rmq_cursor_u32(&cursor);
    if (rest_size < SIZE_SIZE) {
        *ret_why = "the frame is too short for the size of its header";
        return ERR_MALFORMED;
    }
    if (rest_size > size_max - SIZE_SIZE) {
        *ret_why = "the frame is larger than allowed, or this is not RocketMQ's protocol";
        return ERR_FULL;
    }
    if (bytes.size < RMQ_FRAME_HEAD_SIZE)
        return ERR_AGAIN;
    const uint32_t mark = rmq_cursor_u32(&cursor);
    const uint32_t header_size = mark & RMQ_HEADER_SIZE_MAX;
    if (mark >> 24 != RMQ_JSON && mark >> 24 != RMQ_BINARY) {
        *ret_why = "the format of the header is neither JSON nor ROCKETMQ";
        return ERR_MALFORMED;
    }
    if (header_size > rest_size - SIZE_SIZE) {
        *ret_why = "the header is larger than its frame";
        return ERR_MALFORMED;
    }
    if (bytes.size - SIZE_SIZE < rest_size)
        return ERR_AGAIN;
    const uint8_t *header = bytes.bytes + RMQ_FRAME_HEAD_SIZE;
    const uint32_t body_size = rest_size - SIZE_SIZE - header_size;
    *ret_frame = (struct rmq_frame){
        .format = (enum rmq_format)(mark >> 24),
        .size = rest_size + SIZE_SIZE,
        .header = {.bytes = header, .size = header_size, .buf = bytes.buf},
        .body = {.bytes = header + header_size, .size = body_size, .buf = bytes.buf},
    };
    return 0;
}

void rmq_inbox_init(struct rmq_inbox *inbox, uint32_t size_max)
{
    ASSERT(size_max > RMQ_FRAME_HEAD_SIZE);
    *inbox = (struct rmq_inbox){.size_max = size_max};
}

void rmq_inbox_done(struct rmq_inbox *inbox)
{
    (void)buf_unref(inbox->buf);
    *inbox = (struct rmq_inbox){0};
}

/* How large the frame that begins in the inbox is; 0 while that is not known. */
static uint32_t frame_size(const struct rmq_inbox *inbox)
{
    if (inbox->end - inbox->begin < SIZE_SIZE)
        return 0;
    struct rmq_cursor cursor =
        rmq_cursor_on(slice_of(buf_bytes(inbox->buf) + inbox->begin, SIZE_SIZE));
    const uint32_t rest_size = rmq_cursor_u32(&cursor);
    /* What is too large was refused by rmq_inbox_take. */
    return rest_size > inbox->size_max - SIZE_SIZE ? 0 : rest_size + SIZE_SIZE;
}

int rmq_inbox_room(struct rmq_inbox *inbox, uint8_t **ret_bytes, uint32_t *ret_room)
{
    const uint32_t held = inbox->end - inbox->begin;
    const uint32_t size = inbox->buf ? frame_size(inbox) : 0;
    const uint32_t needed = MAX(size, held + (size == 0 ? ROOM_MIN : 1));
    if (!inbox->buf || needed > buf_size(inbox->buf) - inbox->begin) {
        struct buf *block = buf_try_new(MAX(needed, BLOCK_SIZE));
        if (!block)
            return ERR_NOMEM;
        if (held > 0)
            memcpy(buf_bytes(block), buf_bytes(inbox->buf) + inbox->begin, held);
        (void)buf_unref(inbox->buf);
        inbox->buf = block;
        inbox->begin = 0;
        inbox->end = held;
    }
    *ret_bytes = buf_bytes(inbox->buf) + inbox->end;
    *ret_room = buf_size(inbox->buf) - inbox->end;
    return 0;
}

void rmq_inbox_filled(struct rmq_inbox *inbox, uint32_t size)
{
    ASSERT(inbox->buf && size <= buf_size(inbox->buf) - inbox->end);
    inbox->end += size;
}

int rmq_inbox_take(struct rmq_inbox *inbox, struct rmq_frame *ret_frame, const char **ret_why)
{
    if (!inbox->buf)
        return ERR_AGAIN;
    struct slice bytes = slice_of(buf_bytes(inbox->buf) + inbox->begin, inbox->end - inbox->begin);
    bytes.buf = inbox->buf;
    const int err = rmq_frame_parse(bytes, inbox->size_max, ret_frame, ret_why);
    if (err == 0)
        inbox->begin += ret_frame->size;
    return err;
}
