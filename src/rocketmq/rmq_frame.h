/* Frames of the remoting protocol: how a stream of bytes is cut into commands.
 *
 *     u32 size of what follows | u8 format, u24 size of the header | header | body
 *
 * Reading is incremental: rmq_inbox takes bytes as they come and gives frames that lie in counted
 * memory, so that a body can be kept without copying it.
 *
 * Spec: [RMQ RemotingCommand.java] [RMQ NettyDecoder.java]. Thread: owner's.
 */
#pragma once

#include "base/buf.h"

#define RMQ_FRAME_SIZE_MAX  (16u << 20) /* whole, as servers take them by default */
#define RMQ_FRAME_HEAD_SIZE 8u
#define RMQ_HEADER_SIZE_MAX ((1u << 24) - 1)

enum rmq_format { RMQ_JSON = 0, RMQ_BINARY = 1 };

struct rmq_frame {
    enum rmq_format format;
    uint32_t size; /* of the whole */
    struct slice header, body;
};

/* Finds the frame at the start of `bytes`; its slices lie in them, and name their buf.
 *
 * Returns 0; ERR_AGAIN: more bytes are needed; ERR_FULL: it is larger than size_max; ERR_MALFORMED.
 * With the last two *ret_why says what is wrong (constant text). Wrong sizes are found as soon as
 * they are there, not when the frame would be complete. Thread: any. */
MUST_CHECK int rmq_frame_parse(struct slice bytes, uint32_t size_max, struct rmq_frame *ret_frame,
                               const char **ret_why);

/* Gathers what comes. Init with zeroes and size_max. */
struct rmq_inbox {
    struct buf *buf;
    uint32_t begin, end; /* of what is not decoded yet */
    uint32_t size_max;   /* of a frame */
};

void rmq_inbox_init(struct rmq_inbox *inbox, uint32_t size_max);
void rmq_inbox_done(struct rmq_inbox *inbox);
/* Where the next bytes go: *ret_room bytes, at least one. Returns 0 or ERR_NOMEM. */
MUST_CHECK int rmq_inbox_room(struct rmq_inbox *inbox, uint8_t **ret_bytes, uint32_t *ret_room);
void rmq_inbox_filled(struct rmq_inbox *inbox, uint32_t size);
/* Takes the next whole frame; results as rmq_frame_parse. It stays valid until rmq_inbox_room, and
 * what slice_keep keeps of it, longer. */
MUST_CHECK int rmq_inbox_take(struct rmq_inbox *inbox, struct rmq_frame *ret_frame,
                              const char **ret_why);
