/* Any bytes as a frame of the remoting protocol. What is decoded lies within limits, is the same
 * again after it was encoded in either format, and is what jansson reads in a JSON header that both
 * accept. The same bytes as a body in JSON must not do harm. */
#include "base/mem.h"
#include "rocketmq/rmq_command.h"
#include "rocketmq/rmq_json.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_same(const struct rmq_command *a, const struct rmq_command *b)
{
    ASSERT(a->code == b->code);
    ASSERT(a->opaque == b->opaque);
    ASSERT(a->version == b->version);
    ASSERT(a->flag == b->flag);
    ASSERT(a->fields.count == b->fields.count);
}

static void check_again(const struct rmq_command *command, struct slice body,
                        enum rmq_format format)
{
    static struct rmq_command again;
    struct rmq_frame frame;
    const char *why = NULL;
    struct buf *made_frame = NULL;
    const int made = rmq_command_encode(command, format, body, &made_frame);
    if (made < 0) {
        ASSERT(made == ERR_INVALID || made == ERR_FULL);
        ASSERT(made == ERR_FULL || format == RMQ_BINARY);
        return;
    }
    const uint32_t size = buf_size(made_frame);
    int err =
        rmq_frame_parse(slice_of(buf_bytes(made_frame), size), RMQ_FRAME_SIZE_MAX, &frame, &why);
    ASSERT(err == 0);
    ASSERT(frame.size == size && slice_equal(frame.body, body));
    err = rmq_command_decode(&frame, &again, &why);
    ASSERT(err == 0);
    check_same(command, &again);
    for (uint32_t i = 0; i < again.fields.count && format == RMQ_BINARY; i++) {
        ASSERT(slice_equal(command->fields.items[i].name, again.fields.items[i].name));
        ASSERT(slice_equal(command->fields.items[i].value, again.fields.items[i].value));
    }
    rmq_command_done(&again);
    (void)buf_unref(made_frame);
}

static bool is_int32(const json_t *value)
{
    return json_is_integer(value) &&
           json_integer_value(value) == (int32_t)json_integer_value(value);
}

/* Where jansson finds the members that count, of the kinds that are expected, they are the same. */
static void check_json(struct slice header, const struct rmq_command *command, int err)
{
    json_t *root = json_loadb((const char *)header.bytes, header.size,
                              JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    const json_t *fields = json_object_get(root, "extFields");
    if (is_int32(json_object_get(root, "code")) && json_object_size(root) == 1)
        ASSERT(err == 0);
    if (err == 0 && is_int32(json_object_get(root, "code")))
        ASSERT(command->code == json_integer_value(json_object_get(root, "code")));
    if (err == 0 && is_int32(json_object_get(root, "opaque")))
        ASSERT(command->opaque == json_integer_value(json_object_get(root, "opaque")));
    for (uint32_t i = 0; err == 0 && json_is_object(fields) && i < command->fields.count; i++) {
        char *name =
            mem_try_copy(command->fields.items[i].name.bytes, command->fields.items[i].name.size);
        ASSERT(name);
        const json_t *value = json_object_get(fields, name);
        if (json_is_string(value) && strlen(name) == command->fields.items[i].name.size)
            ASSERT(slice_equal(command->fields.items[i].value,
                               slice_of(json_string_value(value), json_string_length(value))));
        mem_free(name);
    }
    json_decref(root);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static struct rmq_command command;
    struct rmq_frame frame;
    const char *why = NULL;
    json_t *body = NULL;
    if (size > 1 << 20)
        return 0;
    if (rmq_json_parse(slice_of(bytes, size), &body, &why) == 0)
        json_decref(body);
    int err = rmq_frame_parse(slice_of(bytes, size), RMQ_FRAME_SIZE_MAX, &frame, &why);
    ASSERT(err == 0 || err == ERR_AGAIN || err == ERR_MALFORMED || err == ERR_FULL);
    ASSERT(err == 0 || err == ERR_AGAIN || why);
    if (err < 0)
        return 0;
    ASSERT(frame.size <= size);
    ASSERT(frame.header.size + frame.body.size + RMQ_FRAME_HEAD_SIZE == frame.size);
    why = NULL;
    err = rmq_command_decode(&frame, &command, &why);
    ASSERT(err == 0 || ((err == ERR_MALFORMED || err == ERR_FULL) && why));
    if (frame.format == RMQ_JSON)
        check_json(frame.header, &command, err);
    if (err < 0)
        return 0;
    check_again(&command, frame.body, RMQ_BINARY);
    check_again(&command, frame.body, RMQ_JSON);
    rmq_command_done(&command);
    return 0;
}
