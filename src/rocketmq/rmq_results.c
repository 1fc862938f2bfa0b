/* A receipt handle has eight parts, separated by blanks:
 *
 *     first offset of the batch | pop time | invisible time | revive queue | 0, or 1: retry topic |
 *     Broker | queue | offset
 *
 * The answer to a POP says the first offset for each queue ("0 3 120;0 2 45": topic or retry topic,
 * queue, offset). Messages of a retry topic bring their handle along.
 *
 * Spec: [RMQ ExtraInfoUtil.java] [RMQ MQClientAPIImpl.java].
 */
#include "rocketmq/rmq_results.h"

#include <string.h>

enum { PART_POP_TIME = 1, PART_INVISIBLE = 2, PART_REVIVE = 3, PART_OFFSET = 7, PARTS = 8 };

static int take_offset(const struct rmq_result *result, const char *name, uint64_t *ret_offset)
{
    int64_t value = 0;
    if (rmq_fields_int(&result->command->fields, name, &value) < 0 || value < 0)
        return ERR_MALFORMED;
    *ret_offset = (uint64_t)value;
    return 0;
}

int rmq_result_sent(const struct rmq_result *result, struct rmq_sent *ret_sent)
{
    uint64_t queue_id = 0, offset = 0;
    const struct slice id = rmq_fields_find(&result->command->fields, "msgId");
    if (!id.bytes || take_offset(result, "queueId", &queue_id) < 0 || queue_id > INT32_MAX ||
        take_offset(result, "queueOffset", &offset) < 0)
        return ERR_MALFORMED;
    *ret_sent =
        (struct rmq_sent){.message_id = id, .queue_id = (uint32_t)queue_id, .queue_offset = offset};
    return 0;
}

int rmq_result_pulled(const struct rmq_result *result, struct rmq_pulled *ret_pulled)
{
    struct rmq_pulled pulled;
    if (take_offset(result, "nextBeginOffset", &pulled.next_offset) < 0 ||
        take_offset(result, "minOffset", &pulled.first_offset) < 0 ||
        take_offset(result, "maxOffset", &pulled.end_offset) < 0)
        return ERR_MALFORMED;
    *ret_pulled = pulled;
    return 0;
}

int rmq_result_offset(const struct rmq_result *result, uint64_t *ret_offset)
{
    return take_offset(result, "offset", ret_offset);
}

struct slice rmq_result_value(const struct rmq_result *result)
{
    return rmq_fields_find(&result->command->fields, "value");
}

/* --- receipts -----------------------------------------------------------------------------------
 */

/* Takes what is before the next separator off `rest`. */
static struct slice take_part(struct slice *rest, char separator)
{
    const uint8_t *found = rest->size > 0 ? memchr(rest->bytes, separator, rest->size) : NULL;
    const uint32_t size = found ? (uint32_t)(found - rest->bytes) : rest->size;
    const struct slice part = slice_of(rest->bytes, size);
    *rest = found ? slice_of(found + 1, rest->size - size - 1) : slice_of(NULL, 0);
    return part;
}

static int split_handle(struct slice handle, struct slice parts[PARTS])
{
    for (int i = 0; i < PARTS; i++) {
        parts[i] = take_part(&handle, ' ');
        if (parts[i].size == 0)
            return ERR_MALFORMED;
    }
    return handle.size == 0 ? 0 : ERR_MALFORMED;
}

/* The first offset that was popped from a queue. */
static int find_start(struct slice starts, uint32_t queue_id, struct slice *ret_start)
{
    while (starts.size > 0) {
        struct slice entry = take_part(&starts, ';');
        int64_t id = 0;
        const struct slice kind = take_part(&entry, ' ');
        if (rmq_fields_parse_int(take_part(&entry, ' '), &id) < 0)
            return ERR_MALFORMED;
        if (slice_equal(kind, slice_str("0")) && id == queue_id) {
            *ret_start = entry;
            return entry.size > 0 ? 0 : ERR_MALFORMED;
        }
    }
    return ERR_MALFORMED;
}

static void add_slice(struct strbuf *strbuf, struct slice slice)
{
    strbuf_add_bytes(strbuf, slice.bytes, slice.size);
}

int rmq_result_receipt(const struct rmq_result *result, const struct rmq_message *message,
                       const char *lmq, struct strbuf *handle, uint64_t *ret_offset)
{
    const struct rmq_fields *fields = &result->command->fields;
    const struct slice brought = rmq_properties_find(message->properties, RMQ_PROPERTY_POP_CHECK);
    const struct slice pop_time = rmq_fields_find(fields, "popTime");
    const struct slice invisible = rmq_fields_find(fields, "invisibleTime");
    const struct slice revive = rmq_fields_find(fields, "reviveQid");
    const uint32_t queue_id = lmq ? 0 : message->queue_id;
    struct slice parts[PARTS], start = {0};
    uint64_t offset = message->queue_offset;
    int64_t own = 0;
    if (brought.bytes) {
        if (split_handle(brought, parts) < 0 ||
            rmq_fields_parse_int(parts[PART_OFFSET], &own) < 0 || own < 0)
            return ERR_MALFORMED;
        add_slice(handle, brought);
        *ret_offset = (uint64_t)own;
        return 0;
    }
    if (lmq && rmq_message_lmq_offset(message, slice_str(lmq), &offset) < 0)
        return ERR_MALFORMED;
    if (pop_time.size == 0 || invisible.size == 0 || revive.size == 0 ||
        find_start(rmq_fields_find(fields, "startOffsetInfo"), queue_id, &start) < 0)
        return ERR_MALFORMED;
    strbuf_addf(handle, "%.*s %.*s %.*s %.*s 0 %s %u %llu", (int)start.size,
                (const char *)start.bytes, (int)pop_time.size, (const char *)pop_time.bytes,
                (int)invisible.size, (const char *)invisible.bytes, (int)revive.size,
                (const char *)revive.bytes, result->broker, queue_id, (unsigned long long)offset);
    *ret_offset = offset;
    return 0;
}

int rmq_result_hidden(const struct rmq_result *result, struct slice old_handle,
                      struct strbuf *handle)
{
    const struct rmq_fields *fields = &result->command->fields;
    struct slice parts[PARTS];
    if (split_handle(old_handle, parts) < 0)
        return ERR_MALFORMED;
    parts[PART_POP_TIME] = rmq_fields_find(fields, "popTime");
    parts[PART_INVISIBLE] = rmq_fields_find(fields, "invisibleTime");
    parts[PART_REVIVE] = rmq_fields_find(fields, "reviveQid");
    for (int i = 0; i < PARTS; i++) {
        if (parts[i].size == 0)
            return ERR_MALFORMED;
        strbuf_add(handle, i > 0 ? " " : "");
        /* the offset of a hidden message is the first of a batch of its own */
        add_slice(handle, parts[i == 0 ? PART_OFFSET : i]);
    }
    return 0;
}
