/* Commands of the remoting protocol: a request or its answer, as the header of a frame.
 *
 * There are two formats. We ask in the binary one where the code fits into it, which costs both
 * sides less; a server answers in the format that it is configured for, whatever we use, so both
 * are read.
 *
 * Spec: [RMQ RemotingCommand.java] [RMQ RocketMQSerializable.java]. Thread: any.
 */
#pragma once

#include "rocketmq/rmq_fields.h"
#include "rocketmq/rmq_frame.h"

#define RMQ_FLAG_ANSWER  1u
#define RMQ_FLAG_ONE_WAY 2u /* nobody waits for an answer */

/* An ordinal of MQVersion.java that is later than that of 5.3.1, so that servers which are about to
 * stop say so. */
#define RMQ_VERSION        500
#define RMQ_LANGUAGE_CPP   1
#define RMQ_LANGUAGE_OTHER 7

struct rmq_command {
    int32_t code;
    int32_t version;
    int32_t opaque; /* given back by the answer */
    uint32_t flag;
    struct slice remark; /* for people; borrowed */
    struct rmq_fields fields;
    char *unescaped; /* owned: texts that were escaped in JSON */
};

/* Decodes the header of a frame, from which the command borrows until rmq_command_done.
 * Returns 0; ERR_MALFORMED: *ret_why (constant text) says what is wrong; ERR_FULL: more than
 * RMQ_FIELDS_MAX fields; ERR_NOMEM. */
MUST_CHECK int rmq_command_decode(const struct rmq_frame *frame, struct rmq_command *ret_command,
                                  const char **ret_why);
void rmq_command_done(struct rmq_command *command);

/* The format in which a request with this code can be sent. */
enum rmq_format rmq_command_format(int32_t code);

/* Makes the frame of a command. *ret_frame: one reference, the caller's.
 * Returns 0; ERR_FULL: the frame would be larger than RMQ_FRAME_SIZE_MAX; ERR_INVALID: the format
 * has no room for the code, or for the size of a name; ERR_NOMEM. */
MUST_CHECK int rmq_command_encode(const struct rmq_command *command, enum rmq_format format,
                                  struct slice body, struct buf **ret_frame);
