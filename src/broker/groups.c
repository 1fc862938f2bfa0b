/* Shared subscriptions: members of a group take turns over one cursor.
 *
 * A QoS 1 message whose receiver goes away unacknowledged is given to another member; a QoS 2
 * message stays with the session it was sent to. [MQTT5-4.8.2-4] [MQTT5-4.8.2-5] [MQTT5-4.8.2-6]
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"

struct group *group_find(const struct filter *filter, struct slice name)
{
    if (name.size == 0)
        return NULL;
    list_each (it, &filter->groups) {
        struct group *group = CONTAINER_OF(it, struct group, filter_node);
        if (slice_equal(group->name, name))
            return group;
    }
    return NULL;
}

struct group *group_new(struct broker *broker, struct filter *filter, struct slice name,
                        uint64_t number)
{
    ASSERT(filter->queue_id);
    struct group *group = mem_new(sizeof *group);
    if (core_copy(name, &group->name) < 0) {
        mem_free(group);
        return NULL;
    }
    group->broker = broker;
    group->filter = filter;
    group->number = number;
    list_init(&group->members);
    list_init(&group->redeliver);
    list_push_back(&filter->groups, &group->filter_node);
    filter->queue_sub_count++;
    uint64_t first, next;
    store_queue_bounds(broker->deps.store, filter->queue_id, &first, &next);
    cursor_init(&group->cursor, number, filter->queue_id, next);
    group->begin_position = core_head(broker);
    metric_add(&broker->deps.metrics->shared_groups, 1);
    return group;
}

void group_join(struct group *group, struct sub *sub)
{
    list_push_back(&group->members, &sub->member_node);
    group->member_count++;
    if (sub->session->durable) {
        group->durable_count++;
        group->cursor.durable = true;
        group->filter->queue_has_rows = true;
    }
}

static void group_free(struct group *group)
{
    struct broker *broker = group->broker;
    if (group->cursor.durable && !broker->closing) {
        row_delete_group(&broker->txn, group);
        row_delete_cursor(&broker->txn, group->number, group->cursor.queue_id);
    }
    reader_cancel(&group->reader);
    while (!list_empty(&group->redeliver)) {
        struct inflight *inflight = LIST_FIRST(&group->redeliver, struct inflight, node);
        list_remove(&inflight->node);
        inflight_close(inflight);
        inflight_free(broker, inflight);
    }
    list_each (it, &group->cursor.open) {
        CONTAINER_OF(it, struct inflight, cursor_node)->group = NULL;
    }
    cursor_done(broker, &group->cursor);
    list_remove(&group->filter_node);
    group->filter->queue_sub_count--;
    metric_add(&broker->deps.metrics->shared_groups, -1);
    core_free(&group->name);
    mem_free(group);
}

void group_leave(struct group *group, struct sub *sub)
{
    list_remove(&sub->member_node);
    group->member_count--;
    if (sub->session->durable)
        group->durable_count--;
    if (group->member_count == 0)
        group_free(group);
}

/* The next member that can take a message now; it goes to the end of the row. */
static struct sub *group_pick(struct group *group)
{
    list_each (it, &group->members) {
        struct sub *sub = CONTAINER_OF(it, struct sub, member_node);
        if (sub->denied || !session_ready(sub->session))
            continue;
        list_remove(&sub->member_node);
        list_push_back(&group->members, &sub->member_node);
        return sub;
    }
    return NULL;
}

/* Tries members until one takes it or it is skipped for good. */
static enum deliver_result group_deliver(struct group *group, const struct store_entry *entry)
{
    if (entry->message.position < group->begin_position)
        return DELIVER_SKIPPED;
    if (group->cursor.open_count >= CURSOR_OPEN_MAX)
        return DELIVER_BLOCKED; /* until an acknowledgement comes */
    struct sub *sub;
    while ((sub = group_pick(group))) {
        const enum deliver_result result = deliver_entry(sub, &group->cursor, entry);
        if (result != DELIVER_BLOCKED)
            return result;
    }
    return DELIVER_BLOCKED;
}

void group_mark_lagging(struct group *group)
{
    group->lagging = true;
}

void group_event(struct group *group, const struct store_entry *entry)
{
    struct cursor *cursor = &group->cursor;
    if (group->lagging || entry->seq < cursor->next_seq)
        return;
    if (entry->seq > cursor->next_seq || !list_empty(&group->redeliver) ||
        group_deliver(group, entry) == DELIVER_BLOCKED) {
        group_mark_lagging(group);
        group_wake(group);
        return;
    }
    cursor_advance(group->broker, cursor, entry->seq + 1);
}

void group_event_qos0(struct group *group, const struct message *message)
{
    list_each (it, &group->members) {
        struct sub *sub = CONTAINER_OF(it, struct sub, member_node);
        struct session *session = sub->session;
        if (sub->denied || !session->link || session->opening || session->blocked)
            continue;
        list_remove(&sub->member_node);
        list_push_back(&group->members, &sub->member_node);
        const struct delivery delivery = {.message = message,
                                          .expiry_s = message->expiry_s,
                                          .subscription_id_count = sub->id ? 1 : 0,
                                          .subscription_ids = &sub->id};
        if (session_send(session, &delivery, false) < 0)
            metric_add(&group->broker->deps.metrics->publish_qos0_dropped, 1);
        return;
    }
    metric_add(&group->broker->deps.metrics->publish_qos0_dropped, 1);
}

/* --- what lags, and what came back
 * ------------------------------------------------------------------ */

static void group_entries(void *owner, int err, const struct store_read *read)
{
    struct group *group = owner;
    struct cursor *cursor = &group->cursor;
    if (err < 0) {
        log_write(group->broker->deps.log, LOG_ERROR, "store",
                  "could not read for group '%.*s': %s", (int)group->name.size,
                  (const char *)group->name.bytes, err_text(err));
        return;
    }
    for (uint16_t i = 0; i < read->entry_count; i++) {
        const struct store_entry *entry = &read->entries[i];
        if (entry->seq < cursor->next_seq)
            continue;
        if (entry->seq > cursor->next_seq)
            metric_add(&group->broker->deps.metrics->messages_trimmed,
                       (int64_t)(entry->seq - cursor->next_seq));
        if (group_deliver(group, entry) == DELIVER_BLOCKED)
            return;
        cursor_advance(group->broker, cursor, entry->seq + 1);
    }
    if (read->entry_count == 0 && read->lost_until > cursor->next_seq) {
        metric_add(&group->broker->deps.metrics->messages_trimmed,
                   (int64_t)(read->lost_until - cursor->next_seq));
        cursor_advance(group->broker, cursor, read->lost_until);
    }
    uint64_t first, next;
    store_queue_bounds(group->broker->deps.store, cursor->queue_id, &first, &next);
    if (cursor->next_seq < first && first == next) { /* retention has taken all */
        metric_add(&group->broker->deps.metrics->messages_trimmed,
                   (int64_t)(first - cursor->next_seq));
        cursor_advance(group->broker, cursor, first);
    }
    if (cursor->next_seq >= next)
        group->lagging = false;
    else
        group_wake(group);
}

static void group_drop_redeliver(struct group *group, struct inflight *inflight)
{
    list_remove(&inflight->node);
    inflight_close(inflight);
    inflight_free(group->broker, inflight);
    cursor_touch(group->broker, &group->cursor);
    group_wake(group);
}

/* The oldest entry given back has been read: another member gets it. */
static void group_redelivered(void *owner, int err, const struct store_read *read)
{
    struct group *group = owner;
    struct inflight *inflight = LIST_FIRST(&group->redeliver, struct inflight, node);
    if (!inflight || inflight->position != group->reading) {
        group_wake(group); /* an older one has been given back meanwhile */
        return;
    }
    if (err == ERR_TRIMMED || err == ERR_CORRUPT || (err == 0 && read->entry_count == 0)) {
        metric_add(&group->broker->deps.metrics->messages_trimmed, 1);
        group_drop_redeliver(group, inflight);
        return;
    }
    if (err < 0) {
        log_write(group->broker->deps.log, LOG_ERROR, "store",
                  "could not read for group '%.*s': %s", (int)group->name.size,
                  (const char *)group->name.bytes, err_text(err));
        return;
    }
    struct store_entry entry = read->entries[0];
    entry.seq = inflight->seq;
    inflight_close(inflight); /* or it would count as open */
    if (group_deliver(group, &entry) == DELIVER_BLOCKED)
        inflight_open(&group->cursor, inflight);
    else
        group_drop_redeliver(group, inflight);
}

void group_wake(struct group *group)
{
    list_each (it, &group->members) {
        const struct sub *sub = CONTAINER_OF(it, struct sub, member_node);
        struct session *session = sub->session;
        if (!sub->denied && session_ready(session)) {
            session_pump(session);
            return;
        }
    }
}

void group_pump(struct group *group)
{
    if (group->reader)
        return;
    if (!list_empty(&group->redeliver)) {
        const struct inflight *inflight = LIST_FIRST(&group->redeliver, struct inflight, node);
        group->reading = inflight->position;
        reader_message(group->broker, &group->reader, inflight->position, group_redelivered, group);
        return;
    }
    const struct reader_span span = {.from_seq = group->cursor.next_seq,
                                     .queue_id = group->cursor.queue_id,
                                     .entries_max = STORE_READ_MAX};
    reader_queue(group->broker, &group->reader, span, group_entries, group);
}

void group_take_back(struct inflight *inflight)
{
    struct group *group = inflight->group;
    ASSERT(inflight->qos == 1 || inflight->state == INFLIGHT_STORING);
    ASSERT(inflight->writes == 0);
    inflight_leave_session(inflight);
    inflight->state = INFLIGHT_FREE;
    inflight->has_row = false;
    inflight->packet_id = 0;
    inflight->sent_before = false;
    struct list *place = &group->redeliver;
    while (place->prev != &group->redeliver &&
           CONTAINER_OF(place->prev, struct inflight, node)->seq > inflight->seq)
        place = place->prev;
    list_insert_before(place, &inflight->node);
    cursor_touch(group->broker, &group->cursor);
}

void group_take_all(struct group *group, struct session *session)
{
    list_each_safe (it, &session->inflight) {
        struct inflight *inflight = CONTAINER_OF(it, struct inflight, node);
        if (inflight->group == group && inflight->qos == 1)
            group_take_back(inflight);
    }
}

void group_take_ended(struct group *group, struct session *session)
{
    list_each_safe (it, &session->inflight) {
        struct inflight *inflight = CONTAINER_OF(it, struct inflight, node);
        if (inflight->group == group && inflight->state == INFLIGHT_STORING &&
            inflight->writes == 0)
            group_take_back(inflight);
    }
    group_take_all(group, session);
}

static bool group_has_online(const struct group *group, const struct session *except)
{
    list_each (it, &group->members) {
        const struct sub *sub = CONTAINER_OF(it, struct sub, member_node);
        if (sub->session != except && sub->session->link && !sub->denied)
            return true;
    }
    return false;
}

void group_member_offline(struct group *group, struct session *session)
{
    if (session->durable && !group_has_online(group, session))
        return; /* it gets them again when it returns, with the same packet IDs */
    group_take_all(group, session);
    group_wake(group);
}

void group_member_online(struct group *group, struct session *session)
{
    list_each (it, &group->members) {
        struct session *other = CONTAINER_OF(it, struct sub, member_node)->session;
        if (other != session && !other->link)
            group_take_all(group, other);
    }
    uint64_t first, next;
    store_queue_bounds(group->broker->deps.store, group->cursor.queue_id, &first, &next);
    if (next > group->cursor.next_seq)
        group->lagging = true;
    session_pump(session);
}
