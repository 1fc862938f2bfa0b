/* Progress: cursors, and the records that make them durable.
 *
 * A cursor's row is its next entry and the open entries before it, so that what was acknowledged
 * out of order is not delivered again. Rows are gathered and written every PROGRESS_MS without
 * forcing the disk; QoS 2 rows of finished deliveries go in the same record behind them: a cursor
 * never forgets an entry whose row is gone.
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"

#define PROGRESS_MS       100u
#define PROGRESS_RETRY_MS 1000u

void cursor_init(struct cursor *cursor, uint64_t owner, uint32_t queue_id, uint64_t next_seq)
{
    *cursor = (struct cursor){.owner = owner, .queue_id = queue_id, .next_seq = next_seq};
    list_init(&cursor->dirty_node);
    list_init(&cursor->open);
}

void cursor_done(struct broker *broker, struct cursor *cursor)
{
    while (!list_empty(&cursor->open)) {
        struct inflight *inflight = LIST_FIRST(&cursor->open, struct inflight, cursor_node);
        inflight_close(inflight);
        if (inflight->state == INFLIGHT_ENDED)
            inflight_dispose(broker, inflight);
    }
    list_remove(&cursor->dirty_node);
    cursor->dirty = false;
}

void cursor_advance(struct broker *broker, struct cursor *cursor, uint64_t next_seq)
{
    ASSERT(next_seq >= cursor->next_seq);
    cursor->next_seq = next_seq;
    cursor_touch(broker, cursor);
    if (cursor->ended_count == 0)
        return;
    list_each_safe (it, &cursor->open) {
        struct inflight *inflight = CONTAINER_OF(it, struct inflight, cursor_node);
        if (inflight->seq >= next_seq)
            return;
        if (inflight->state != INFLIGHT_ENDED)
            continue;
        cursor->ended_count--;
        inflight_close(inflight);
        inflight_dispose(broker, inflight);
    }
}

void progress_soon(struct broker *broker)
{
    if (broker->progress_timer.due_ms == 0)
        timer_start(broker->deps.timers, &broker->progress_timer, PROGRESS_MS);
}

void cursor_touch(struct broker *broker, struct cursor *cursor)
{
    if (!cursor->durable || cursor->dirty)
        return;
    cursor->dirty = true;
    list_push_back(&broker->dirty_cursors, &cursor->dirty_node);
    progress_soon(broker);
}

bool cursor_is_open(const struct cursor *cursor, uint64_t seq)
{
    for (const struct list *it = cursor->open.prev; it != &cursor->open; it = it->prev) {
        const struct inflight *open = CONTAINER_OF(it, struct inflight, cursor_node);
        if (open->seq <= seq)
            return open->seq == seq;
    }
    return false;
}

/* Frees a list of struct inflight, whose rows are gone. One that its cursor has still to come to
 * stays there. */
static void free_finished(struct broker *broker, struct list *finished)
{
    while (!list_empty(finished)) {
        struct inflight *inflight = LIST_FIRST(finished, struct inflight, node);
        list_remove(&inflight->node);
        inflight->has_row = false;
        if (!inflight->cursor)
            inflight_free(broker, inflight);
    }
}

void progress_free_finished(struct broker *broker)
{
    free_finished(broker, &broker->finished);
}

/* A progress record was lost with a failed write: every cursor may have changed since its row. */
static void progress_lost(struct broker *broker, struct list *finished)
{
    list_take(finished, &broker->finished);
    progress_soon(broker);
    list_each (it, &broker->session_list) {
        struct session *session = CONTAINER_OF(it, struct session, node);
        cursor_touch(broker, &session->direct);
        list_each (at, &session->subs) {
            struct sub *sub = CONTAINER_OF(at, struct sub, session_node);
            cursor_touch(broker, sub->group ? &sub->group->cursor : &sub->cursor);
        }
    }
}

/* data: the entries whose rows it has deleted. */
static void progress_written(struct broker *broker, void *data, int err)
{
    struct list *finished = data;
    if (err < 0)
        progress_lost(broker, finished);
    free_finished(broker, finished);
    mem_free(finished);
}

static struct list *list_new(void)
{
    struct list *list = mem_new(sizeof *list);
    list_init(list);
    return list;
}

/* Builds one record's worth. The cursors and entries stay listed until the submit succeeded. */
static void progress_collect(struct broker *broker, struct list *cursors, struct list *finished)
{
    while (!list_empty(&broker->dirty_cursors) && !txn_is_large(&broker->txn)) {
        struct cursor *cursor = LIST_FIRST(&broker->dirty_cursors, struct cursor, dirty_node);
        row_put_cursor(&broker->txn, cursor);
        list_remove(&cursor->dirty_node);
        list_push_back(cursors, &cursor->dirty_node);
    }
    while (list_empty(&broker->dirty_cursors) && !list_empty(&broker->finished) &&
           !txn_is_large(&broker->txn)) {
        struct inflight *inflight = LIST_FIRST(&broker->finished, struct inflight, node);
        row_delete_outbound(&broker->txn, inflight);
        list_remove(&inflight->node);
        list_push_back(finished, &inflight->node);
    }
}

/* --- queues nobody reads any more --------------------------------------------------------------
 */

struct dropped_queue {
    struct list node;
    uint32_t queue_id;
};

void progress_drop_queue(struct broker *broker, uint32_t queue_id)
{
    struct dropped_queue *dropped = mem_new(sizeof *dropped);
    dropped->queue_id = queue_id;
    list_push_back(&broker->dropped_queues, &dropped->node);
    progress_soon(broker);
}

void progress_free_dropped(struct list *dropped)
{
    while (!list_empty(dropped)) {
        struct list *node = dropped->next;
        list_remove(node);
        mem_free(CONTAINER_OF(node, struct dropped_queue, node));
    }
}

static void dropped_durable(struct broker *broker, void *data, int err)
{
    struct list *dropped = data;
    if (err < 0) {
        list_take(dropped, &broker->dropped_queues);
        progress_soon(broker);
    }
    list_each (it, dropped) {
        store_queue_drop(broker->deps.store,
                         CONTAINER_OF(it, struct dropped_queue, node)->queue_id);
    }
    progress_free_dropped(dropped);
    mem_free(dropped);
}

/* A record that must be durable follows those that deleted the rows; its content does not matter.
 */
static void progress_drop(struct broker *broker)
{
    if (list_empty(&broker->dropped_queues))
        return;
    struct list *dropped = list_new();
    row_put_numbers(&broker->txn, broker->number_limit, broker->queue_id_limit);
    if (core_write(broker, STORE_SYNC, dropped_durable, dropped) < 0) {
        mem_free(dropped);
        if (!broker->draining)
            timer_start(broker->deps.timers, &broker->progress_timer, PROGRESS_RETRY_MS);
        return;
    }
    list_take(&broker->dropped_queues, dropped);
}

void progress_flush(struct broker *broker)
{
    struct list cursors;
    timer_stop(broker->deps.timers, &broker->progress_timer);
    if (!lost_retry(broker)) {
        if (!broker->draining)
            timer_start(broker->deps.timers, &broker->progress_timer, PROGRESS_RETRY_MS);
        return;
    }
    list_init(&cursors);
    while (!list_empty(&broker->dirty_cursors) || !list_empty(&broker->finished)) {
        ASSERT(broker->txn.count == 0);
        struct list *finished = list_new();
        progress_collect(broker, &cursors, finished);
        if (core_write(broker, STORE_LAZY, progress_written, finished) < 0) {
            list_take(&cursors, &broker->dirty_cursors);
            list_take(finished, &broker->finished);
            mem_free(finished);
            if (!broker->draining)
                timer_start(broker->deps.timers, &broker->progress_timer, PROGRESS_RETRY_MS);
            return;
        }
        while (!list_empty(&cursors)) {
            struct cursor *cursor = LIST_FIRST(&cursors, struct cursor, dirty_node);
            list_remove(&cursor->dirty_node);
            cursor->dirty = false;
        }
    }
    progress_drop(broker);
}

static void progress_due(struct timer *timer)
{
    progress_flush(CONTAINER_OF(timer, struct broker, progress_timer));
}

void progress_init(struct broker *broker)
{
    broker->progress_timer.on_due = progress_due;
}
