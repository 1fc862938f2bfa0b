#include "broker/rows.h"

#include "base/mem.h"
#include "mqtt/topic.h"

#include <string.h>

static void row_key(struct txn *txn, enum meta_kind kind, enum row_kind row)
{
    txn_begin(txn, kind);
    txn_u8(txn, (uint8_t)row);
}

void row_put_numbers(struct txn *txn, uint64_t number_limit, uint32_t queue_id_limit)
{
    row_key(txn, META_PUT, ROW_NUMBERS);
    txn_value(txn);
    txn_u64(txn, number_limit);
    txn_u32(txn, queue_id_limit);
}

void row_put_topic(struct txn *txn, const struct topic *topic)
{
    row_key(txn, META_PUT, ROW_TOPIC);
    txn_bytes(txn, topic->name);
    txn_value(txn);
    txn_u32(txn, topic->id);
    txn_u64(txn, topic->created_ms);
    txn_sized(txn, topic->remark);
}

void row_delete_topic(struct txn *txn, struct slice name)
{
    row_key(txn, META_DELETE, ROW_TOPIC);
    txn_bytes(txn, name);
}

static void row_will(struct txn *txn, const struct will *will)
{
    txn_u8(txn, will ? 1 : 0);
    if (!will)
        return;
    txn_u8(txn, will->qos);
    txn_u8(txn, will->retain);
    txn_u32(txn, will->delay_s);
    txn_u32(txn, will->expiry_s);
    txn_sized(txn, will->topic);
    txn_sized(txn, will->props);
    txn_sized(txn, will->payload);
}

int row_get_will(struct row_reader *reader, struct will **ret_will)
{
    *ret_will = NULL;
    if (!row_u8(reader))
        return 0;
    struct will *will = mem_new(sizeof *will);
    will->qos = row_u8(reader) & 3;
    will->retain = row_u8(reader) != 0;
    will->delay_s = row_u32(reader);
    will->expiry_s = row_u32(reader);
    const struct slice topic = row_sized(reader), props = row_sized(reader),
                       payload = row_sized(reader);
    const int err = will_fill(will, topic, payload, props);
    if (err == 0)
        *ret_will = will;
    else
        (void)will_free(will);
    return err;
}

void row_put_session(struct txn *txn, const struct session *session)
{
    row_key(txn, META_PUT, ROW_SESSION);
    txn_bytes(txn, session->client_id);
    txn_value(txn);
    txn_u64(txn, session->number);
    txn_u32(txn, session->expiry_s);
    txn_u8(txn, session->version);
    txn_u8(txn, session->clean_start);
    txn_u16(txn, session->keep_alive_s);
    txn_u64(txn, session->created_ms);
    txn_u64(txn, session->connected_ms);
    txn_u64(txn, session->disconnected_ms);
    txn_u64(txn, session->trimmed);
    txn_sized(txn, session->username);
    row_will(txn, session->will);
}

void row_delete_session(struct txn *txn, struct slice client_id)
{
    row_key(txn, META_DELETE, ROW_SESSION);
    txn_bytes(txn, client_id);
}

void row_filter_text(struct txn *txn, const struct filter *filter, const struct group *group)
{
    if (filter->is_private) {
        txn_u8(txn, 0); /* no filter has this byte; the client ID is the session's */
        return;
    }
    if (group) {
        txn_bytes(txn, slice_str("$share/"));
        txn_bytes(txn, group->name);
        txn_bytes(txn, slice_str("/"));
    }
    txn_bytes(txn, filter->text);
}

static void row_key_sub(struct txn *txn, enum meta_kind kind, const struct sub *sub)
{
    row_key(txn, kind, ROW_SUB);
    txn_be64(txn, sub->session->number);
    row_filter_text(txn, sub->filter, sub->group);
}

void row_put_sub(struct txn *txn, const struct sub *sub)
{
    row_key_sub(txn, META_PUT, sub);
    txn_value(txn);
    /* Only of one that reads it: others may outlive the queue. */
    txn_u32(txn, sub->group || sub_reads_queue(sub) ? sub->filter->queue_id : 0);
    txn_u8(txn, sub->qos);
    txn_u8(txn, sub->flags);
    txn_u32(txn, sub->id);
    txn_u64(txn, sub->begin_position);
    txn_u64(txn, sub->end_position);
    txn_u64(txn, sub->hole_begin);
    txn_u64(txn, sub->hole_end);
    txn_u64(txn, sub->retained_from);
    txn_u8(txn, sub->filter->is_private);
    if (sub->flags & SUB_RETAIN_PENDING)
        txn_bytes(txn, retained_job_after(sub));
}

void row_delete_sub(struct txn *txn, const struct sub *sub)
{
    row_key_sub(txn, META_DELETE, sub);
}

int row_get_sub(struct slice key, struct slice value, struct row_sub *ret)
{
    struct row_reader reader = {.rest = key};
    (void)row_u8(&reader);
    ret->number = row_be64(&reader);
    ret->filter = reader.rest;
    const bool key_bad = reader.bad;
    reader = (struct row_reader){.rest = value};
    ret->queue_id = row_u32(&reader);
    ret->qos = row_u8(&reader);
    ret->flags = row_u8(&reader);
    ret->id = row_u32(&reader);
    ret->begin_position = row_u64(&reader);
    ret->end_position = row_u64(&reader);
    ret->hole_begin = row_u64(&reader);
    ret->hole_end = row_u64(&reader);
    ret->retained_from = row_u64(&reader);
    ret->is_private = row_u8(&reader) != 0;
    ret->retained_after = reader.rest;
    const bool bad = key_bad || reader.bad || ret->qos > 2 || ret->filter.size == 0 ||
                     ((ret->is_private || ret->qos > 0) && ret->queue_id == 0);
    return bad ? ERR_CORRUPT : 0;
}

static void row_key_group(struct txn *txn, enum meta_kind kind, const struct group *group)
{
    row_key(txn, kind, ROW_GROUP);
    row_filter_text(txn, group->filter, group);
}

void row_put_group(struct txn *txn, const struct group *group)
{
    row_key_group(txn, META_PUT, group);
    txn_value(txn);
    txn_u64(txn, group->number);
    txn_u64(txn, group->begin_position);
}

void row_delete_group(struct txn *txn, const struct group *group)
{
    row_key_group(txn, META_DELETE, group);
}

static void row_key_cursor(struct txn *txn, enum meta_kind kind, uint64_t owner, uint32_t queue_id)
{
    row_key(txn, kind, ROW_CURSOR);
    txn_be64(txn, owner);
    txn_be32(txn, queue_id);
}

static uint8_t open_flags(const struct inflight *inflight)
{
    return (uint8_t)((inflight->retain ? 1 : 0) | (inflight->alone ? 2 : 0));
}

void row_open_flags(struct row_open *open, uint8_t flags)
{
    open->retain = (flags & 1) != 0;
    open->alone = (flags & 2) != 0;
}

void row_put_cursor(struct txn *txn, const struct cursor *cursor)
{
    row_key_cursor(txn, META_PUT, cursor->owner, cursor->queue_id);
    txn_value(txn);
    txn_u64(txn, cursor->next_seq);
    list_each (it, &cursor->open) {
        const struct inflight *open = CONTAINER_OF(it, struct inflight, cursor_node);
        txn_u64(txn, open->seq);
        txn_u64(txn, open->position);
        txn_u32(txn, open->sub_id);
        txn_u16(txn, open->packet_id);
        txn_u8(txn, (uint8_t)(open->qos | open_flags(open) << 2));
        txn_u8(txn, open->state);
    }
}

bool row_open_next(struct row_reader *reader, struct row_open *ret)
{
    if (reader->rest.size == 0 || reader->bad)
        return false;
    ret->seq = row_u64(reader);
    ret->position = row_u64(reader);
    ret->sub_id = row_u32(reader);
    ret->packet_id = row_u16(reader);
    const uint8_t bits = row_u8(reader);
    ret->qos = bits & 3;
    row_open_flags(ret, bits >> 2);
    ret->state = row_u8(reader);
    return !reader->bad;
}

void row_delete_cursor(struct txn *txn, uint64_t owner, uint32_t queue_id)
{
    row_key_cursor(txn, META_DELETE, owner, queue_id);
}

static void row_key_inbound(struct txn *txn, enum meta_kind kind, uint64_t number,
                            uint16_t packet_id)
{
    row_key(txn, kind, ROW_INBOUND);
    txn_be64(txn, number);
    txn_u16(txn, packet_id);
}

void row_put_inbound(struct txn *txn, uint64_t number, uint16_t packet_id)
{
    row_key_inbound(txn, META_PUT, number, packet_id);
    txn_value(txn);
}

void row_delete_inbound(struct txn *txn, uint64_t number, uint16_t packet_id)
{
    row_key_inbound(txn, META_DELETE, number, packet_id);
}

static void row_key_outbound(struct txn *txn, enum meta_kind kind, const struct inflight *inflight)
{
    row_key(txn, kind, ROW_OUTBOUND);
    txn_be64(txn, inflight->number);
    /* A retained message may be sent again before the row of the last time is gone. */
    txn_be64(txn, inflight->queue_id ? inflight->owner : inflight->packet_id);
    txn_be32(txn, inflight->queue_id);
    txn_be64(txn, inflight->seq);
}

void row_put_outbound(struct txn *txn, const struct inflight *inflight)
{
    row_key_outbound(txn, META_PUT, inflight);
    txn_value(txn);
    txn_u64(txn, inflight->position);
    txn_u32(txn, inflight->sub_id);
    txn_u16(txn, inflight->packet_id);
    txn_u8(txn, inflight->state);
    txn_u8(txn, open_flags(inflight));
}

void row_delete_outbound(struct txn *txn, const struct inflight *inflight)
{
    row_key_outbound(txn, META_DELETE, inflight);
}

void row_put_retained(struct txn *txn, struct slice topic, const struct retained *retained)
{
    row_key(txn, META_PUT_AT, ROW_RETAINED);
    txn_bytes(txn, topic);
    txn_value(txn);
    txn_u64(txn, retained->origin);
    txn_u64(txn, retained->expires_ms);
    txn_u32(txn, retained->size);
    txn_u32(txn, retained->topic_id);
}

void row_delete_retained(struct txn *txn, struct slice topic)
{
    row_key(txn, META_DELETE, ROW_RETAINED);
    txn_bytes(txn, topic);
}
