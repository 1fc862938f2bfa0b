/* Messages sent to a client and not yet acknowledged.
 *
 * QoS 2 of a durable session: its row (packet ID and place in the queue) is durable before the
 * PUBLISH leaves, and its new state before the PUBREL leaves. The packet ID stays with the entry
 * until its last acknowledgement. [MQTT3-2.3.1-3] [MQTT5-4.3.3-3] [MQTT5-4.3.3-5] [MQTT5-4.3.3-6]
 *
 * One of a durable group has a row whoever it is sent to, until the row of the group's cursor knows
 * of it: it outlives its session.
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"

/* One is needed for each message and freed soon after: a few are kept. Not where a sanitizer is to
 * see what is used after its end. */
#ifdef __SANITIZE_ADDRESS__
static const uint32_t spare_max = 0;
#else
static const uint32_t spare_max = 64 * 1024;
#endif

struct inflight *inflight_alloc(struct broker *broker)
{
    struct inflight *inflight = LIST_FIRST(&broker->spare_inflights, struct inflight, node);
    if (!inflight)
        return mem_new(sizeof *inflight);
    list_remove(&inflight->node);
    broker->spare_inflight_count--;
    *inflight = (struct inflight){0};
    return inflight;
}

void inflight_free(struct broker *broker, struct inflight *inflight)
{
    if (broker->spare_inflight_count >= spare_max) {
        mem_free(inflight);
        return;
    }
    list_init(&inflight->node);
    list_push_front(&broker->spare_inflights, &inflight->node);
    broker->spare_inflight_count++;
}

void inflight_free_spare(struct broker *broker)
{
    while (!list_empty(&broker->spare_inflights)) {
        struct inflight *inflight = LIST_FIRST(&broker->spare_inflights, struct inflight, node);
        list_remove(&inflight->node);
        mem_free(inflight);
    }
}

void inflight_open(struct cursor *cursor, struct inflight *inflight)
{
    struct list *place = &cursor->open;
    while (place->prev != &cursor->open &&
           CONTAINER_OF(place->prev, struct inflight, cursor_node)->seq > inflight->seq)
        place = place->prev;
    list_insert_before(place, &inflight->cursor_node);
    cursor->open_count++;
    inflight->cursor = cursor;
    inflight->owner = cursor->owner;
    inflight->queue_id = cursor->queue_id;
}

void inflight_close(struct inflight *inflight)
{
    if (inflight->cursor)
        inflight->cursor->open_count--;
    list_remove(&inflight->cursor_node);
    inflight->cursor = NULL;
}

void inflight_hand_over(struct cursor *cursor, struct session *session)
{
    bool changed = false;
    list_each_safe (it, &cursor->open) {
        struct inflight *inflight = CONTAINER_OF(it, struct inflight, cursor_node);
        if (inflight->session != session)
            continue;
        if (inflight->qos == 2 && inflight->group)
            continue; /* the group's cursor must pass over it */
        inflight_close(inflight);
        inflight->group = NULL;
        if (inflight->qos == 2)
            continue; /* has a row of its own */
        inflight->seq = inflight->position;
        inflight_open(&session->direct, inflight);
        changed = true;
    }
    if (changed && session->durable)
        row_put_cursor(&session->broker->txn, &session->direct);
}

/* Spec: [MQTT3-2.3.1-4] [MQTT5-2.2.1-4] [MQTT5-4.3.2-1] [MQTT5-4.3.3-1] */
struct inflight *inflight_new(struct session *session, struct cursor *cursor,
                              const struct store_entry *entry)
{
    const uint16_t packet_id = outbound_next(&session->outbound);
    ASSERT(packet_id != 0);
    struct inflight *inflight = inflight_alloc(session->broker);
    inflight->seq = entry->seq;
    inflight->position = entry->message.position;
    inflight->packet_id = packet_id;
    inflight->state = INFLIGHT_SENT;
    list_init(&inflight->cursor_node);
    inflight_open(cursor, inflight);
    inflight_adopt(session, inflight);
    return inflight;
}

void inflight_adopt(struct session *session, struct inflight *inflight)
{
    inflight->session = session;
    inflight->number = session->number;
    list_push_back(&session->inflight, &inflight->node);
    outbound_put(&session->outbound, inflight);
    metric_add(&session->broker->deps.metrics->inflight, 1);
}

void inflight_resend_from(struct session *session, struct list *place)
{
    reader_cancel(&session->resend_reader);
    session->resend = place == &session->inflight ? NULL : place;
    if (session->link)
        session_pump(session);
}

void inflight_was_sent(struct inflight *inflight)
{
    inflight->sent_before = true;
    if (!inflight->counted)
        inflight->session->awaited++;
    inflight->counted = true;
}

void inflight_leave_session(struct inflight *inflight)
{
    struct session *session = inflight->session;
    if (session->resend == &inflight->node)
        inflight_resend_from(session, inflight->node.next);
    if (inflight->counted)
        session->awaited--;
    inflight->counted = false;
    list_remove(&inflight->node);
    outbound_remove(&session->outbound, inflight);
    metric_add(&session->broker->deps.metrics->inflight, -1);
    inflight->session = NULL;
}

bool inflight_needs_row(const struct inflight *inflight)
{
    const struct group *group = inflight->group;
    return inflight->qos == 2 && (inflight->session->durable || (group && group->cursor.durable));
}

void inflight_end(struct inflight *inflight)
{
    struct broker *broker = inflight->session->broker;
    struct cursor *cursor = inflight->cursor;
    inflight_leave_session(inflight);
    if (cursor)
        cursor_touch(broker, cursor);
    inflight_over(broker, inflight);
}

/* Its row goes behind that of its cursor. */
static void inflight_finished(struct broker *broker, struct inflight *inflight)
{
    list_remove(&inflight->node);
    list_push_back(&broker->finished, &inflight->node);
    progress_soon(broker);
}

void inflight_over(struct broker *broker, struct inflight *inflight)
{
    struct cursor *cursor = inflight->cursor;
    if (!cursor || !cursor->queue_id || inflight->seq < cursor->next_seq) {
        inflight_close(inflight);
        inflight_dispose(broker, inflight);
        return;
    }
    inflight->state = INFLIGHT_ENDED;
    cursor->ended_count++;
    if (inflight->has_row && inflight->writes == 0)
        inflight_finished(broker, inflight);
}

void inflight_undo(struct inflight *inflight)
{
    struct session *session = inflight->session;
    ASSERT(!inflight->has_row);
    inflight_leave_session(inflight);
    inflight_close(inflight);
    inflight_free(session->broker, inflight);
}

void inflight_dispose(struct broker *broker, struct inflight *inflight)
{
    if (inflight->writes > 0) {
        inflight->dead = true;
    } else if (inflight->has_row) {
        inflight_finished(broker, inflight);
    } else {
        inflight_free(broker, inflight);
    }
}

/* Spec: [MQTT5-3.3.4-9] [MQTT5-4.9.0-1] [MQTT5-4.9.0-2] */
uint32_t inflight_window(const struct session *session)
{
    if (!session->link)
        return 0;
    uint32_t window = MIN(session->link->receive_max, session->broker->config.max_inflight);
    if (core_is_full(session->broker))
        window = MIN(window, FULL_WINDOW);
    return window > session->outbound.count ? window - session->outbound.count : 0;
}

static void inflight_written(struct broker *broker, void *data, int err)
{
    struct inflight *inflight = data;
    inflight->writes--;
    if (inflight->dead) {
        inflight_dispose(broker, inflight);
        return;
    }
    if (inflight->state == INFLIGHT_ENDED) {
        if (inflight->has_row && inflight->writes == 0)
            inflight_finished(broker, inflight);
        return;
    }
    struct session *session = inflight->session;
    if (err < 0) {
        /* Without its row it must not go out: begin again with the next connection. */
        if (inflight->state == INFLIGHT_RELEASING)
            inflight->state = INFLIGHT_SENT;
        session_kick(session, REASON_QUOTA_EXCEEDED, "storage takes no writes");
        return;
    }
    if (inflight->state == INFLIGHT_STORING) {
        inflight->state = INFLIGHT_SENT;
        inflight->unsent = true;
        if (session->link && !session->opening)
            inflight_resend_from(session,
                                 session->resend ? session->inflight.next : &inflight->node);
    } else if (inflight->state == INFLIGHT_DROPPING) {
        inflight->has_row = false;
        inflight_end(inflight);
    } else if (inflight->state == INFLIGHT_RELEASING) {
        inflight->state = INFLIGHT_RELEASED;
        if (!session->link || session->opening)
            return; /* all in flight goes out again when the connection is there */
        inflight->unsent = false;
        session->link->ops->ack(session->link, PACKET_PUBREL, inflight->packet_id, REASON_SUCCESS,
                                NULL);
    }
}

/* The row says what is true once it is durable. */
void inflight_put_row(struct txn *txn, struct inflight *inflight)
{
    const uint8_t state = inflight->state;
    inflight->state = state == INFLIGHT_STORING ? INFLIGHT_SENT : INFLIGHT_RELEASED;
    row_put_outbound(txn, inflight);
    inflight->state = state;
    inflight->has_row = true;
}

/* Its cursor has passed it: otherwise it would be delivered when that comes to it again. */
static void delete_row(struct txn *txn, const struct inflight *inflight)
{
    if (inflight->cursor && inflight->cursor->durable)
        row_put_cursor(txn, inflight->cursor);
    row_delete_outbound(txn, inflight);
}

bool inflight_waits(const struct inflight *inflight)
{
    return inflight->state == INFLIGHT_STORING || inflight->state == INFLIGHT_DROPPING;
}

void inflight_write(struct inflight *inflight)
{
    struct broker *broker = inflight->session->broker;
    ASSERT(inflight->qos == 2);
    const uint8_t state = inflight->state;
    if (state == INFLIGHT_STORING && inflight->queue_id == 0)
        retained_jobs_put(inflight->session);
    if (state == INFLIGHT_DROPPING)
        delete_row(&broker->txn, inflight);
    else
        inflight_put_row(&broker->txn, inflight);
    const int err = core_write(broker, STORE_SYNC, inflight_written, inflight);
    if (err == 0) {
        inflight->writes++;
        return;
    }
    if (state == INFLIGHT_RELEASING)
        inflight->state = INFLIGHT_SENT;
    session_kick_later(inflight->session, REASON_QUOTA_EXCEEDED);
}

void inflight_release(struct inflight *inflight)
{
    struct session *session = inflight->session;
    ASSERT(inflight->state == INFLIGHT_SENT);
    if (session->durable) {
        inflight->state = INFLIGHT_RELEASING;
        inflight_write(inflight);
        return;
    }
    inflight->state = INFLIGHT_RELEASED;
    inflight->unsent = false;
    session->link->ops->ack(session->link, PACKET_PUBREL, inflight->packet_id, REASON_SUCCESS,
                            NULL);
}

void inflight_give_up(struct inflight *inflight)
{
    struct session *session = inflight->session;
    if (inflight->qos == 2 && inflight->sent_before && inflight->state == INFLIGHT_SENT) {
        if (session->resend == &inflight->node)
            session->resend = inflight->node.next;
        inflight_release(inflight);
    } else if (inflight->has_row && !inflight->sent_before) {
        inflight->state = INFLIGHT_DROPPING;
        inflight_write(inflight);
    } else {
        inflight_end(inflight);
    }
}
