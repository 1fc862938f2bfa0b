/* Subscriptions: one session, one filter. */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"
#include "mqtt/topic.h"

struct sub_key {
    const struct session *session;
    const struct filter *filter;
    const struct group *group;
};

static bool sub_has_key(const struct hashnode *node, const void *key)
{
    const struct sub *sub = CONTAINER_OF(node, struct sub, by_key);
    const struct sub_key *wanted = key;
    return sub->session == wanted->session && sub->filter == wanted->filter &&
           sub->group == wanted->group;
}

static uint64_t sub_hash(const struct sub_key *key)
{
    return hash_u64((uint64_t)(uintptr_t)key->session ^ hash_u64((uint64_t)(uintptr_t)key->filter) ^
                    hash_u64((uint64_t)(uintptr_t)key->group + 1));
}

struct sub *sub_find(const struct session *session, const struct filter *filter,
                     const struct group *group)
{
    const struct sub_key key = {.session = session, .filter = filter, .group = group};
    struct hashnode *node = hashmap_find(&session->broker->subs, sub_hash(&key), sub_has_key, &key);
    return node ? CONTAINER_OF(node, struct sub, by_key) : NULL;
}

static struct topic *sub_topic(const struct sub *sub)
{
    const struct slice first = topic_first(sub->filter->text);
    return sub->filter->is_private || topic_has_wildcard(first)
               ? NULL
               : topic_find(sub->session->broker, first);
}

struct sub *sub_new(struct session *session, struct filter *filter, struct group *group)
{
    struct broker *broker = session->broker;
    struct sub *sub = mem_new(sizeof *sub);
    const struct sub_key key = {.session = session, .filter = filter, .group = group};
    sub->session = session;
    sub->filter = filter;
    sub->end_position = UINT64_MAX;
    list_init(&sub->live_node);
    list_init(&sub->lag_node);
    list_init(&sub->member_node);
    cursor_init(&sub->cursor, session->number, 0, 0);
    hashmap_insert(&broker->subs, &sub->by_key, sub_hash(&key));
    list_push_back(&session->subs, &sub->session_node);
    session->sub_count++;
    broker->sub_count++;
    filter->sub_count++;
    metric_add(&broker->deps.metrics->subscriptions, 1);
    struct topic *topic = sub_topic(sub);
    if (topic)
        topic->sub_count++;
    if (group) {
        sub->group = group;
        group_join(group, sub);
        list_push_back(&session->shared, &sub->lag_node);
    }
    return sub;
}

bool sub_reads_queue(const struct sub *sub)
{
    return sub->cursor.queue_id != 0;
}

static void sub_read_start(struct sub *sub)
{
    struct filter *filter = sub->filter;
    ASSERT(filter->queue_id);
    filter->queue_sub_count++;
    uint64_t first, next;
    store_queue_bounds(sub->session->broker->deps.store, filter->queue_id, &first, &next);
    cursor_init(&sub->cursor, sub->session->number, filter->queue_id, next);
    sub->cursor.durable = sub->session->durable;
    filter->queue_has_rows |= sub->session->durable;
}

void sub_read_stop(struct sub *sub)
{
    if (!sub_reads_queue(sub))
        return;
    sub->filter->queue_sub_count--;
    reader_cancel(&sub->reader);
    list_remove(&sub->lag_node);
    sub->lagging = false;
    inflight_hand_over(&sub->cursor, sub->session);
    if (sub->session->durable)
        row_delete_cursor(&sub->session->broker->txn, sub->session->number, sub->cursor.queue_id);
    cursor_done(sub->session->broker, &sub->cursor);
    cursor_init(&sub->cursor, sub->session->number, 0, 0);
}

void sub_set_qos(struct sub *sub, uint8_t qos)
{
    sub->qos = qos;
    if (sub->group)
        return;
    if (qos > 0 && !sub_reads_queue(sub))
        sub_read_start(sub);
    else if (qos == 0 && sub_reads_queue(sub))
        sub_mark_lagging(sub); /* the pump stops it */
}

void session_put_cursors(struct session *session)
{
    list_each (it, &session->subs) {
        const struct sub *sub = CONTAINER_OF(it, struct sub, session_node);
        if (sub->cursor.dirty)
            row_put_cursor(&session->broker->txn, &sub->cursor);
    }
}

bool sub_is_drained(const struct sub *sub)
{
    return sub->end_position != UINT64_MAX && (sub->drained || sub_lag(sub) == 0);
}

void sub_free(struct sub *sub)
{
    struct session *session = sub->session;
    struct broker *broker = session->broker;
    struct topic *topic = sub_topic(sub);
    if (topic && topic->sub_count > 0)
        topic->sub_count--;
    retained_jobs_cancel(session, sub);
    reader_cancel(&sub->reader);
    cursor_done(sub->session->broker, &sub->cursor);
    list_remove(&sub->live_node);
    list_remove(&sub->lag_node);
    list_remove(&sub->session_node);
    hashmap_remove(&broker->subs, &sub->by_key);
    session->sub_count--;
    broker->sub_count--;
    metric_add(&broker->deps.metrics->subscriptions, -1);
    if (session->p2p == sub)
        session->p2p = NULL;
    struct filter *filter = sub->filter;
    filter->sub_count--;
    if (sub_reads_queue(sub))
        filter->queue_sub_count--;
    if (sub->group)
        group_leave(sub->group, sub);
    filter_tidy(broker, filter);
    mem_free(sub);
}

void sub_remove(struct sub *sub)
{
    struct session *session = sub->session;
    if (sub->group) {
        inflight_hand_over(&sub->group->cursor, session);
        if (sub->group->cursor.durable) /* what it had is not the group's any more */
            row_put_cursor(&session->broker->txn, &sub->group->cursor);
    }
    if (session->durable)
        row_delete_sub(&session->broker->txn, sub);
    sub_read_stop(sub);
    sub_free(sub);
}

void sub_mark_lagging(struct sub *sub)
{
    ASSERT(sub_reads_queue(sub));
    if (!sub->lagging)
        list_push_back(&sub->session->lagging, &sub->lag_node);
    sub->lagging = true;
}

uint64_t sub_lag(const struct sub *sub)
{
    const struct cursor *cursor = sub->group ? &sub->group->cursor : &sub->cursor;
    if (cursor->queue_id == 0)
        return 0;
    uint64_t first, next;
    store_queue_bounds(sub->session->broker->deps.store, cursor->queue_id, &first, &next);
    const uint64_t from = MAX(cursor->next_seq, first);
    return next > from ? next - from : 0;
}

void sub_attach(struct sub *sub)
{
    if (sub->group)
        return;
    list_remove(&sub->live_node);
    list_push_back(&sub->filter->live, &sub->live_node);
    if (sub_reads_queue(sub) &&
        (sub_lag(sub) > 0 || sub->qos == 0 || sub->end_position != UINT64_MAX))
        sub_mark_lagging(sub);
}

void sub_detach(struct sub *sub)
{
    list_remove(&sub->live_node);
    reader_cancel(&sub->reader);
    if (!sub->group) {
        list_remove(&sub->lag_node);
        sub->lagging = false;
    }
}
