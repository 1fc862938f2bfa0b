/* The pump: what a session is sent beside live events, once per turn of the loop.
 *
 * In this order: entries in flight that must go out (again), lagging queues one after the other,
 * groups it is a member of, retained messages for new subscriptions. It stops when the client's
 * window or the conn's buffer is full, and begins anew when either opens. Only QoS 1 and 2 wait for
 * the window, and only they: acknowledgements and QoS 0 do not pass through here.
 * [MQTT3-4.6.0-5] [MQTT5-3.3.4-10] [MQTT5-4.6.0-5] [MQTT5-4.9.0-3]
 */
#include "broker/core_priv.h"

#include "broker/rows.h"

/* true when the message will not come back: trimmed, or damaged. */
static bool read_is_hopeless(int err, const struct store_read *read)
{
    return err == ERR_TRIMMED || err == ERR_CORRUPT || (err == 0 && read->entry_count == 0);
}

static void resend_read(void *owner, int err, const struct store_read *read)
{
    struct session *session = owner;
    struct inflight *inflight = CONTAINER_OF(session->resend, struct inflight, node);
    if (read_is_hopeless(err, read)) {
        session->trimmed++;
        metric_add(&session->broker->deps.metrics->messages_trimmed, 1);
        inflight_give_up(inflight);
    } else if (err < 0) {
        session_kick_later(session, REASON_UNSPECIFIED);
        return;
    } else {
        ASSERT(read->entries[0].message.position == inflight->position);
        const enum deliver_result result = deliver_again(inflight, &read->entries[0]);
        if (result == DELIVER_BLOCKED)
            return;
        if (result == DELIVER_SKIPPED)
            inflight_give_up(inflight);
        else
            session->resend = inflight->node.next;
    }
    session_pump(session);
}

/* true when the entry needs nothing more now. */
static bool resend_one(struct session *session, struct inflight *inflight)
{
    if (!inflight->unsent)
        return true;
    if (inflight->state == INFLIGHT_RELEASED) {
        /* [MQTT3-4.4.0-1] [MQTT5-4.4.0-1] */
        inflight->unsent = false;
        session->link->ops->ack(session->link, PACKET_PUBREL, inflight->packet_id, REASON_SUCCESS,
                                NULL);
        return true;
    }
    return inflight->state == INFLIGHT_RELEASING; /* PUBREL goes out when it is durable */
}

static void pump_resend(struct session *session)
{
    while (session->resend && !session->resend_reader && !session->blocked) {
        if (session->resend == &session->inflight) {
            session->resend = NULL;
            return;
        }
        struct inflight *inflight = CONTAINER_OF(session->resend, struct inflight, node);
        if (inflight_waits(inflight)) {
            if (inflight->writes == 0)
                inflight_write(inflight);
            return;
        }
        if (resend_one(session, inflight)) {
            session->resend = inflight->node.next;
            continue;
        }
        if (session->awaited >= session->link->receive_max)
            return; /* [MQTT5-3.3.4-9]; an acknowledgement comes first */
        const struct list *before = session->resend;
        reader_message(session->broker, &session->resend_reader, inflight->position, resend_read,
                       session);
        if (session->resend == before)
            return;
    }
    if (session->resend == &session->inflight)
        session->resend = NULL;
}

static void sub_caught_up(struct sub *sub)
{
    list_remove(&sub->lag_node);
    sub->lagging = false;
}

/* The first entry kept lies behind the cursor: retention was faster than the client, or a repair
 * had to give up what was there. */
static void sub_skip_trimmed(struct sub *sub, uint64_t first_seq)
{
    const uint64_t lost = first_seq - sub->cursor.next_seq;
    sub->session->trimmed += lost;
    metric_add(&sub->session->broker->deps.metrics->messages_trimmed, (int64_t)lost);
    log_write(
        sub->session->broker->deps.log, LOG_WARN, "session",
        "%llu messages for client '%.*s' were removed by retention or lost to damage before it "
        "read them",
        (unsigned long long)lost, (int)sub->session->client_id.size,
        (const char *)sub->session->client_id.bytes);
    cursor_advance(sub->session->broker, &sub->cursor, first_seq);
}

static void sub_entries(void *owner, int err, const struct store_read *read)
{
    struct sub *sub = owner;
    struct session *session = sub->session;
    const uint32_t count_before = session->outbound.count;
    if (err < 0) {
        log_write(session->broker->deps.log, LOG_ERROR, "store",
                  "could not read for client '%.*s': %s", (int)session->client_id.size,
                  (const char *)session->client_id.bytes, err_text(err));
        session_kick_later(session, REASON_UNSPECIFIED);
        return;
    }
    for (uint16_t i = 0; i < read->entry_count; i++) {
        const struct store_entry *entry = &read->entries[i];
        if (entry->seq < sub->cursor.next_seq)
            continue;
        if (entry->message.position >= sub->end_position) {
            sub->drained = true; /* gone with a later turn of the pump */
            break;
        }
        if (entry->seq > sub->cursor.next_seq)
            sub_skip_trimmed(sub, entry->seq);
        if (deliver_entry(sub, &sub->cursor, entry) == DELIVER_BLOCKED)
            return;
        cursor_advance(session->broker, &sub->cursor, entry->seq + 1);
    }
    if (read->entry_count == 0 && read->lost_until > sub->cursor.next_seq)
        sub_skip_trimmed(sub, read->lost_until);
    if (sub->end_position == UINT64_MAX && sub->qos > 0 && sub_lag(sub) == 0) {
        sub_caught_up(sub);
    } else {
        list_remove(&sub->lag_node);
        list_push_back(&session->lagging, &sub->lag_node);
    }
    if (session->outbound.count > count_before)
        session_pump(session); /* until its window is full */
    else
        session_pump_later(session);
}

/* Nothing more comes through it: it was unsubscribed or lowered to QoS 0, and has delivered all
 * from before that. */
static bool sub_is_done(const struct sub *sub)
{
    return sub_is_drained(sub) || (sub->qos == 0 && sub_lag(sub) == 0);
}

/* What such a subscription has delivered, others that match must pass over as long as they come to
 * it: so it stays until they are through. */
static bool sub_may_go(const struct sub *sub)
{
    if (!sub_is_done(sub))
        return false;
    list_each (it, &sub->session->lagging) {
        if (!sub_is_done(CONTAINER_OF(it, struct sub, lag_node)))
            return false;
    }
    return true;
}

static bool sub_stopped(struct sub *sub)
{
    struct session *session = sub->session;
    struct broker *broker = session->broker;
    if (!sub_may_go(sub))
        return false;
    session_put_cursors(session);
    if (sub_is_drained(sub)) {
        sub_remove(sub);
    } else {
        sub_read_stop(sub);
        if (session->durable)
            row_put_sub(&broker->txn, sub);
        filter_tidy(broker, sub->filter);
    }
    if (broker->txn.count > 0)
        (void)lost_write(session, STORE_LAZY, NULL, NULL);
    return true;
}

bool session_drains(const struct session *session)
{
    list_each (it, &session->lagging) {
        const struct sub *sub = CONTAINER_OF(it, struct sub, lag_node);
        if (sub->end_position != UINT64_MAX && !sub_is_drained(sub))
            return true;
    }
    return false;
}

/* One that was unsubscribed is drained before others go on: what they bring of its topics is newer.
 */
static void pump_lagging(struct session *session)
{
    /* Bounded: what is sent counts against the client's window until an acknowledgement comes. */
    uint32_t tries = session->sub_count;
    while (!list_empty(&session->lagging) && session_ready(session) && tries-- > 0) {
        struct sub *sub = LIST_FIRST(&session->lagging, struct sub, lag_node);
        if (!sub->reader && sub_stopped(sub))
            continue;
        const bool waits = sub->end_position == UINT64_MAX && session_drains(session);
        if (sub->reader || waits || sub_is_done(sub)) {
            list_remove(&sub->lag_node);
            list_push_back(&session->lagging, &sub->lag_node);
            continue;
        }
        const struct reader_span span = {.from_seq = sub->cursor.next_seq,
                                         .queue_id = sub->cursor.queue_id,
                                         .entries_max = inflight_window(session)};
        reader_queue(session->broker, &sub->reader, span, sub_entries, sub);
    }
}

static void pump_groups(struct session *session)
{
    list_each_safe (it, &session->shared) {
        struct group *group = CONTAINER_OF(it, struct sub, lag_node)->group;
        if (group->lagging || !list_empty(&group->redeliver))
            group_pump(group);
    }
}

static void session_pump_run(struct deferred *deferred)
{
    struct session *session = CONTAINER_OF(deferred, struct session, pump);
    if (session->kick && session->link) {
        session_kick(session, session->kick, NULL);
        return;
    }
    if (!session->link || session->opening || session->blocked)
        return;
    pump_resend(session);
    if (session->resend)
        return;
    pump_lagging(session);
    pump_groups(session);
    retained_jobs_pump(session);
}

static void pump_later_due(struct timer *timer)
{
    session_pump(CONTAINER_OF(timer, struct session, pump_later));
}

void session_pump_later(struct session *session)
{
    timer_start(session->broker->deps.timers, &session->pump_later, 0);
}

void session_pump_init(struct session *session)
{
    session->pump_later.on_due = pump_later_due;
    session->pump.run = session_pump_run;
    list_init(&session->pump.node);
}

void session_pump(struct session *session)
{
    loop_defer(session->broker->deps.loop, &session->pump);
}

void session_pump_stop(struct session *session)
{
    deferred_cancel(&session->pump);
    timer_stop(session->broker->deps.timers, &session->pump_later);
    reader_cancel(&session->resend_reader);
    session->resend = NULL;
}
