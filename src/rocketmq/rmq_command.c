#include "rocketmq/rmq_command.h"

#include "base/mem.h"
#include "base/strbuf.h"
#include "rocketmq/rmq_cursor.h"
#include "rocketmq/rmq_header_json.h"

#include <string.h>

/* code, language, version, opaque, flag and the sizes of remark and fields */
enum { FIXED_SIZE = 2 + 1 + 2 + 4 + 4 + 4 + 4 };

/* --- binary headers -----------------------------------------------------------------------------
 */

static int decode_fields(struct slice bytes, struct rmq_fields *fields, const char **ret_why)
{
    struct rmq_cursor cursor = rmq_cursor_on(bytes);
    while (cursor.left > 0) {
        const struct slice name = rmq_cursor_slice(&cursor, rmq_cursor_u16(&cursor));
        const struct slice value = rmq_cursor_slice(&cursor, rmq_cursor_u32(&cursor));
        if (cursor.is_short) {
            *ret_why = "a field ends beyond the fields of the header";
            return ERR_MALFORMED;
        }
        if (fields->count == RMQ_FIELDS_MAX) {
            *ret_why = "the header has more fields than expected";
            return ERR_FULL;
        }
        fields->items[fields->count++] = (struct rmq_field){name, value};
    }
    return 0;
}

static int decode_binary(struct slice header, struct rmq_command *command, const char **ret_why)
{
    struct rmq_cursor cursor = rmq_cursor_on(header);
    command->code = (int16_t)rmq_cursor_u16(&cursor);
    (void)rmq_cursor_u8(&cursor); /* language */
    command->version = (int16_t)rmq_cursor_u16(&cursor);
    command->opaque = (int32_t)rmq_cursor_u32(&cursor);
    command->flag = rmq_cursor_u32(&cursor);
    command->remark = rmq_cursor_slice(&cursor, rmq_cursor_u32(&cursor));
    const struct slice fields = rmq_cursor_slice(&cursor, rmq_cursor_u32(&cursor));
    if (cursor.is_short) {
        *ret_why = "the header ends early";
        return ERR_MALFORMED;
    }
    if (cursor.left > 0) {
        *ret_why = "the header has bytes behind its fields";
        return ERR_MALFORMED;
    }
    return decode_fields(fields, &command->fields, ret_why);
}

static uint64_t fields_size(const struct rmq_fields *fields)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < fields->count; i++)
        size += 2 + 4 + (uint64_t)fields->items[i].name.size + fields->items[i].value.size;
    return size;
}

static uint8_t *put_slice(uint8_t *bytes, struct slice slice)
{
    if (slice.size > 0)
        memcpy(bytes, slice.bytes, slice.size);
    return bytes + slice.size;
}

static uint8_t *put_binary(uint8_t *bytes, const struct rmq_command *command)
{
    bytes = rmq_put_number(bytes, (uint64_t)command->code, 2);
    bytes = rmq_put_number(bytes, RMQ_LANGUAGE_CPP, 1);
    bytes = rmq_put_number(bytes, (uint64_t)command->version, 2);
    bytes = rmq_put_number(bytes, (uint64_t)command->opaque, 4);
    bytes = rmq_put_number(bytes, command->flag, 4);
    bytes = rmq_put_number(bytes, command->remark.size, 4);
    bytes = put_slice(bytes, command->remark);
    bytes = rmq_put_number(bytes, fields_size(&command->fields), 4);
    for (uint32_t i = 0; i < command->fields.count; i++) {
        const struct rmq_field *field = &command->fields.items[i];
        bytes = rmq_put_number(bytes, field->name.size, 2);
        bytes = put_slice(bytes, field->name);
        bytes = rmq_put_number(bytes, field->value.size, 4);
        bytes = put_slice(bytes, field->value);
    }
    return bytes;
}

static bool fits_binary(const struct rmq_command *command)
{
    if (command->code != (int16_t)command->code || command->version != (int16_t)command->version)
        return false;
    for (uint32_t i = 0; i < command->fields.count; i++) {
        if (command->fields.items[i].name.size > UINT16_MAX)
            return false;
    }
    return true;
}

/* --- frames -------------------------------------------------------------------------------------
 */

int rmq_command_decode(const struct rmq_frame *frame, struct rmq_command *ret_command,
                       const char **ret_why)
{
    struct rmq_command *command = ret_command;
    command->code = command->version = command->opaque = 0;
    command->flag = 0;
    command->remark = slice_of(NULL, 0);
    command->unescaped = NULL;
    rmq_fields_clear(&command->fields);
    const int err = frame->format == RMQ_JSON
                        ? rmq_header_json_decode(frame->header, command, ret_why)
                        : decode_binary(frame->header, command, ret_why);
    if (err < 0)
        rmq_command_done(command);
    return err;
}

void rmq_command_done(struct rmq_command *command)
{
    mem_free(command->unescaped);
    command->unescaped = NULL;
    rmq_fields_clear(&command->fields);
}

enum rmq_format rmq_command_format(int32_t code)
{
    return code == (int16_t)code ? RMQ_BINARY : RMQ_JSON;
}

/* Room for a frame, with its head in place. */
static int begin_frame(enum rmq_format format, uint64_t header_size, uint32_t body_size,
                       struct buf **ret_frame)
{
    const uint64_t size = RMQ_FRAME_HEAD_SIZE + header_size + body_size;
    if (size > RMQ_FRAME_SIZE_MAX || header_size > RMQ_HEADER_SIZE_MAX)
        return ERR_FULL;
    struct buf *frame = buf_try_new((uint32_t)size);
    if (!frame)
        return ERR_NOMEM;
    uint8_t *next = rmq_put_number(buf_bytes(frame), size - 4, 4);
    next = rmq_put_number(next, format, 1);
    (void)rmq_put_number(next, header_size, 3);
    *ret_frame = frame;
    return 0;
}

static void end_frame(struct buf *frame, uint8_t *next, struct slice body)
{
    next = put_slice(next, body);
    ASSERT(next == buf_bytes(frame) + buf_size(frame));
}

static int encode_json(const struct rmq_command *command, struct slice body, struct buf **ret_frame)
{
    struct strbuf header;
    strbuf_init(&header, RMQ_HEADER_SIZE_MAX);
    rmq_header_json_encode(command, &header);
    int err = strbuf_err(&header);
    if (err == 0)
        err = begin_frame(RMQ_JSON, header.size, body.size, ret_frame);
    if (err == 0) {
        uint8_t *next = buf_bytes(*ret_frame) + RMQ_FRAME_HEAD_SIZE;
        end_frame(*ret_frame, put_slice(next, slice_of(header.text, header.size)), body);
    }
    strbuf_done(&header);
    return err;
}

int rmq_command_encode(const struct rmq_command *command, enum rmq_format format, struct slice body,
                       struct buf **ret_frame)
{
    if (format == RMQ_JSON)
        return encode_json(command, body, ret_frame);
    if (!fits_binary(command))
        return ERR_INVALID;
    const uint64_t header_size = FIXED_SIZE + command->remark.size + fields_size(&command->fields);
    const int err = begin_frame(RMQ_BINARY, header_size, body.size, ret_frame);
    if (err < 0)
        return err;
    uint8_t *next = buf_bytes(*ret_frame) + RMQ_FRAME_HEAD_SIZE;
    end_frame(*ret_frame, put_binary(next, command), body);
    return 0;
}
