/* How results look as JSON. */
#include "probe.h"

#include "base/mem.h"

#include <stdio.h>

/* Bytes as text; what is not UTF-8 as null. */
static json_t *text_of(struct slice slice)
{
    json_t *text = slice.bytes ? json_stringn((const char *)slice.bytes, slice.size) : NULL;
    return text ? text : json_null();
}

static void set(json_t *out, const char *name, json_t *value)
{
    (void)json_object_set_new(out, name, value);
}

static void set_wrong(json_t *out)
{
    set(out, "wrong", json_string("the answer lacks what it should have"));
}

void probe_tell_nothing(const struct job *job, const struct rmq_result *result, json_t *out)
{
    (void)job;
    (void)result;
    (void)out;
}

void probe_tell_sent(const struct job *job, const struct rmq_result *result, json_t *out)
{
    struct rmq_sent sent;
    (void)job;
    if (result->outcome != RMQ_DONE && result->outcome != RMQ_STORED)
        return;
    if (rmq_result_sent(result, &sent) < 0) {
        set_wrong(out);
        return;
    }
    set(out, "message_id", text_of(sent.message_id));
    set(out, "queue_id", json_integer(sent.queue_id));
    set(out, "queue_offset", json_integer((json_int_t)sent.queue_offset));
}

/* --- messages -----------------------------------------------------------------------------------
 */

static json_t *properties_of(const struct rmq_message *message)
{
    json_t *out = json_object();
    struct slice rest = message->properties;
    struct rmq_property property;
    while (rmq_properties_next(&rest, &property))
        (void)json_object_setn_new(out, (const char *)property.name.bytes, property.name.size,
                                   text_of(property.value));
    return out;
}

static json_t *message_of(const struct job *job, const struct rmq_message *message)
{
    char id[RMQ_MESSAGE_ID6_SIZE + 1];
    const char *lmq = probe_text(job, "lmq");
    uint64_t lmq_offset = 0;
    struct slice body = {0};
    rmq_message_id(message, id);
    json_t *out = json_object();
    set(out, "id", json_string(id));
    set(out, "topic", text_of(message->topic));
    set(out, "queue_id", json_integer(message->queue_id));
    set(out, "queue_offset", json_integer((json_int_t)message->queue_offset));
    set(out, "position", json_integer((json_int_t)message->position));
    set(out, "born_ms", json_integer(message->born_ms));
    set(out, "store_ms", json_integer(message->store_ms));
    set(out, "is_v2", json_boolean(message->is_v2));
    set(out, "is_sound", json_boolean(rmq_message_is_sound(message)));
    set(out, "properties", properties_of(message));
    if (rmq_message_body(message, RMQ_MESSAGE_BODY_MAX, &body) == 0)
        set(out, "body", text_of(body));
    set(out, "body_size", json_integer(body.size));
    slice_done(&body);
    if (lmq && rmq_message_lmq_offset(message, slice_str(lmq), &lmq_offset) == 0)
        set(out, "lmq_offset", json_integer((json_int_t)lmq_offset));
    return out;
}

typedef void message_fn(const struct job *job, const struct rmq_result *result,
                        const struct rmq_message *message, json_t *out);

static void tell_messages(const struct job *job, const struct rmq_result *result,
                          message_fn *tell_more, json_t *out)
{
    struct slice rest = result->body;
    struct rmq_message message;
    const char *why = NULL;
    json_t *messages = json_array();
    int err = ERR_NOTFOUND;
    while (result->outcome == RMQ_DONE && (err = rmq_message_next(&rest, &message, &why)) == 0) {
        json_t *one = message_of(job, &message);
        if (tell_more)
            tell_more(job, result, &message, one);
        (void)json_array_append_new(messages, one);
    }
    if (err == ERR_MALFORMED)
        set(out, "wrong", json_string(why));
    set(out, "messages", messages);
}

void probe_tell_messages(const struct job *job, const struct rmq_result *result, json_t *out)
{
    tell_messages(job, result, NULL, out);
}

void probe_tell_pulled(const struct job *job, const struct rmq_result *result, json_t *out)
{
    struct rmq_pulled pulled;
    if (!result->command || result->outcome > RMQ_MOVED)
        return;
    if (rmq_result_pulled(result, &pulled) < 0) {
        set_wrong(out);
        return;
    }
    set(out, "next_offset", json_integer((json_int_t)pulled.next_offset));
    set(out, "first_offset", json_integer((json_int_t)pulled.first_offset));
    set(out, "end_offset", json_integer((json_int_t)pulled.end_offset));
    tell_messages(job, result, NULL, out);
}

static void tell_receipt(const struct job *job, const struct rmq_result *result,
                         const struct rmq_message *message, json_t *out)
{
    struct strbuf handle;
    uint64_t offset = 0;
    strbuf_init(&handle, RMQ_PROPERTIES_SIZE_MAX);
    if (rmq_result_receipt(result, message, probe_text(job, "lmq"), &handle, &offset) == 0) {
        set(out, "handle", json_string(handle.text));
        set(out, "offset", json_integer((json_int_t)offset));
    } else {
        set_wrong(out);
    }
    strbuf_done(&handle);
}

void probe_tell_popped(const struct job *job, const struct rmq_result *result, json_t *out)
{
    tell_messages(job, result, tell_receipt, out);
}

void probe_tell_hidden(const struct job *job, const struct rmq_result *result, json_t *out)
{
    struct strbuf handle;
    strbuf_init(&handle, RMQ_PROPERTIES_SIZE_MAX);
    if (result->outcome == RMQ_DONE) {
        if (rmq_result_hidden(result, slice_str(probe_text(job, "handle")), &handle) == 0)
            set(out, "handle", json_string(handle.text));
        else
            set_wrong(out);
    }
    strbuf_done(&handle);
}

void probe_tell_offset(const struct job *job, const struct rmq_result *result, json_t *out)
{
    uint64_t offset = 0;
    (void)job;
    if (result->outcome == RMQ_DONE && rmq_result_offset(result, &offset) == 0)
        set(out, "offset", json_integer((json_int_t)offset));
}

void probe_tell_value(const struct job *job, const struct rmq_result *result, json_t *out)
{
    (void)job;
    if (result->outcome == RMQ_DONE)
        set(out, "value", text_of(rmq_result_value(result)));
}

void probe_tell_body(const struct job *job, const struct rmq_result *result, json_t *out)
{
    int64_t boot_ms = 0;
    (void)job;
    if (result->outcome != RMQ_DONE)
        return;
    set(out, "body", text_of(result->body));
    if (rmq_state_number(result->body, "bootTimestamp", &boot_ms) == 0)
        set(out, "boot_ms", json_integer(boot_ms));
}

void probe_print(json_t *line)
{
    char *text = json_dumps(line, JSON_COMPACT);
    json_decref(line);
    if (text) {
        (void)puts(text);
        (void)fflush(stdout);
    }
    free(text);
}
