/* Sessions: the table, the end of a connection, expiry, and removal with all rows.
 *
 * A session lasts at least as long as its link, then until its expiry; what it is owed stays in its
 * queues meanwhile. Retained messages are no part of it and survive its end.
 * [MQTT3-3.1.2-5] [MQTT3-3.1.2-7] [MQTT3-4.1.0-1] [MQTT3-4.1.0-2] [MQTT5-3.1.2-23] [MQTT5-4.1.0-1]
 * [MQTT5-4.1.0-2]
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/publish.h"
#include "broker/rows.h"

static bool session_has_id(const struct hashnode *node, const void *key)
{
    return slice_equal(CONTAINER_OF(node, struct session, by_id)->client_id,
                       *(const struct slice *)key);
}

static bool session_has_number(const struct hashnode *node, const void *key)
{
    return CONTAINER_OF(node, struct session, by_number)->number == *(const uint64_t *)key;
}

struct session *session_find(const struct broker *broker, struct slice client_id)
{
    struct hashnode *node = hashmap_find(
        &broker->sessions, hash_bytes(client_id.bytes, client_id.size), session_has_id, &client_id);
    return node ? CONTAINER_OF(node, struct session, by_id) : NULL;
}

static int session_order(const struct treenode *node, const void *key)
{
    return slice_order(CONTAINER_OF(node, const struct session, by_order)->client_id,
                       *(const struct slice *)key);
}

void sessions_init(struct broker *broker)
{
    tree_init(&broker->sessions_sorted, session_order);
}

static struct session *session_of(struct treenode *node)
{
    return node ? CONTAINER_OF(node, struct session, by_order) : NULL;
}

struct session *session_above(const struct broker *broker, struct slice client_id)
{
    return session_of(client_id.size ? tree_above(&broker->sessions_sorted, &client_id)
                                     : tree_first(&broker->sessions_sorted));
}

struct session *session_next(const struct session *session)
{
    return session_of(tree_next(&session->by_order));
}

struct session *session_by_number(const struct broker *broker, uint64_t number)
{
    struct hashnode *node =
        hashmap_find(&broker->sessions_by_number, hash_u64(number), session_has_number, &number);
    return node ? CONTAINER_OF(node, struct session, by_number) : NULL;
}

static void expiry_due(struct timer *timer)
{
    struct session *session = CONTAINER_OF(timer, struct session, expiry_timer);
    struct broker *broker = session->broker;
    ASSERT(!session->link);
    metric_add(&broker->deps.metrics->sessions_expired, 1);
    session_remove(session, STORE_LAZY);
}

static void will_timer_due(struct timer *timer)
{
    will_publish(CONTAINER_OF(timer, struct session, will_timer));
}

/* Off by default: only for 3.x clients and only when configured. */
static void retry_due(struct timer *timer)
{
    struct session *session = CONTAINER_OF(timer, struct session, retry_timer);
    struct broker *broker = session->broker;
    if (!session->link || broker->config.retry_interval_s == 0)
        return;
    list_each (it, &session->inflight) {
        struct inflight *inflight = CONTAINER_OF(it, struct inflight, node);
        if (inflight->sent_before || inflight->state == INFLIGHT_RELEASED)
            inflight->unsent = true;
    }
    inflight_resend_from(session, session->inflight.next);
    timer_start(broker->deps.timers, timer, (uint64_t)broker->config.retry_interval_s * 1000);
}

struct session *session_new(struct broker *broker, struct slice client_id, uint64_t number)
{
    struct session *session = mem_new(sizeof *session);
    if (core_copy(client_id, &session->client_id) < 0) {
        mem_free(session);
        return NULL;
    }
    session->broker = broker;
    session->username = slice_of("", 0);
    session->number = number;
    session->created_ms = core_wall_ms(broker);
    list_init(&session->subs);
    list_init(&session->lagging);
    list_init(&session->shared);
    list_init(&session->retained_jobs);
    list_init(&session->inflight);
    list_init(&session->publishing);
    list_init(&session->throttle_node);
    cursor_init(&session->direct, number, 0, 0);
    session->expiry_timer.on_due = expiry_due;
    session->will_timer.on_due = will_timer_due;
    session->retry_timer.on_due = retry_due;
    session_pump_init(session);
    hashmap_insert(&broker->sessions, &session->by_id, hash_bytes(client_id.bytes, client_id.size));
    hashmap_insert(&broker->sessions_by_number, &session->by_number, hash_u64(number));
    list_push_back(&broker->session_list, &session->node);
    tree_insert(&broker->sessions_sorted, &session->by_order, &session->client_id);
    broker->session_count++;
    metric_add(&broker->deps.metrics->sessions, 1);
    return session;
}

static void session_stop(struct session *session)
{
    struct timer_set *timers = session->broker->deps.timers;
    timer_stop(timers, &session->expiry_timer);
    timer_stop(timers, &session->will_timer);
    timer_stop(timers, &session->retry_timer);
    session_pump_stop(session);
    retained_jobs_pause(session);
}

/* A row that goes with those of its session, or stays for the next start with them. One of a group
 * tells that the message is not to go to another member. */
static bool row_is_own(const struct inflight *inflight)
{
    return inflight->has_row && !inflight->group;
}

static void session_end_inflight(struct session *session)
{
    while (!list_empty(&session->inflight)) {
        struct inflight *inflight = LIST_FIRST(&session->inflight, struct inflight, node);
        if (row_is_own(inflight))
            inflight->has_row = false;
        inflight_end(inflight);
    }
}

void session_free(struct session *session)
{
    struct broker *broker = session->broker;
    session_stop(session);
    retained_jobs_cancel(session, NULL);
    publish_forget(session);
    session_end_inflight(session);
    while (!list_empty(&session->subs))
        sub_free(LIST_FIRST(&session->subs, struct sub, session_node));
    cursor_done(broker, &session->direct);
    pidmap_done(&session->inbound);
    outbound_done(&session->outbound);
    session->will = will_free(session->will);
    hashmap_remove(&broker->sessions, &session->by_id);
    hashmap_remove(&broker->sessions_by_number, &session->by_number);
    list_remove(&session->node);
    list_remove(&session->throttle_node);
    lost_forget(session);
    tree_remove(&broker->sessions_sorted, &session->by_order);
    broker->session_count--;
    metric_add(&broker->deps.metrics->sessions, -1);
    core_free(&session->client_id);
    core_free(&session->username);
    session->access = access_unref(session->access);
    mem_free(session);
}

void session_write(struct session *session, uint8_t level)
{
    struct broker *broker = session->broker;
    row_put_session(&broker->txn, session);
    if (lost_write(session, level, NULL, NULL) == 0)
        session->has_row = true;
}

/* Rows beyond what one record takes go ahead in records of their own: they belong to nobody once
 * the session row is gone, which is in the first. */
static void discard_overflow(struct broker *broker, struct will_job **will)
{
    if (!txn_is_large(&broker->txn))
        return;
    if (*will)
        will_publish_ended(broker, TAKE(*will));
    else
        core_write_lazy(broker);
}

static void discard_rows(struct session *session, struct will_job **will)
{
    struct broker *broker = session->broker;
    struct txn *txn = &broker->txn;
    row_delete_session(txn, session->client_id);
    row_delete_cursor(txn, session->number, 0);
    for (uint32_t pid = 1; session->inbound.count > 0 && pid <= UINT16_MAX; pid++) {
        if (!pidmap_find(&session->inbound, (uint16_t)pid))
            continue;
        pidmap_remove(&session->inbound, (uint16_t)pid);
        row_delete_inbound(txn, session->number, (uint16_t)pid);
        discard_overflow(broker, will);
    }
    list_each (it, &session->inflight) {
        const struct inflight *inflight = CONTAINER_OF(it, struct inflight, node);
        if (row_is_own(inflight))
            row_delete_outbound(txn, inflight);
        discard_overflow(broker, will);
    }
    session_end_inflight(session);
    while (!list_empty(&session->subs)) {
        sub_remove(LIST_FIRST(&session->subs, struct sub, session_node));
        discard_overflow(broker, will);
    }
}

/* will: goes with the removal of the rows, or NULL. */
static void discard(struct session *session, struct will_job *will)
{
    struct broker *broker = session->broker;
    ASSERT(!session->link);
    ASSERT(broker->txn.count == 0);
    publish_forget(session);
    list_each (it, &session->shared) {
        struct group *group = CONTAINER_OF(it, struct sub, lag_node)->group;
        group_take_ended(group, session);
        group_wake(group);
    }
    if (session->has_row)
        discard_rows(session, &will);
    session_free(session);
    if (will)
        will_publish_ended(broker, will);
}

/* [MQTT5-3.1.2-8]: the will is due when the session ends, whatever its delay. */
static bool will_is_due(const struct session *session)
{
    return session->will && !session->broker->draining;
}

void session_discard(struct session *session)
{
    if (will_is_due(session))
        will_publish(session);
    discard(session, NULL);
}

/* --- ended sessions whose rows were not removed
 * -----------------------------------------------------
 */

/* One whose removal is being written, or was not written. */
struct removed {
    struct hashnode by_id;  /* broker->removals */
    struct list node;       /* broker->removed, or alone while a write is under way */
    struct slice client_id; /* owned */
};

static bool removed_has_id(const struct hashnode *node, const void *key)
{
    return slice_equal(CONTAINER_OF(node, struct removed, by_id)->client_id,
                       *(const struct slice *)key);
}

bool session_lingers(const struct broker *broker, struct slice client_id)
{
    return hashmap_find(&broker->removals, hash_bytes(client_id.bytes, client_id.size),
                        removed_has_id, &client_id) != NULL;
}

static struct removed *removed_new(struct broker *broker, struct slice client_id)
{
    struct removed *removed = mem_new(sizeof *removed);
    list_init(&removed->node);
    if (core_copy(client_id, &removed->client_id) < 0)
        removed->client_id = slice_of("", 0); /* then the removal is not tried again */
    hashmap_insert(&broker->removals, &removed->by_id,
                   hash_bytes(removed->client_id.bytes, removed->client_id.size));
    return removed;
}

static struct removed *removed_free(struct broker *broker, struct removed *removed)
{
    hashmap_remove(&broker->removals, &removed->by_id);
    list_remove(&removed->node);
    core_free(&removed->client_id);
    mem_free(removed);
    return NULL;
}

static void removed_written(struct broker *broker, void *data, int err)
{
    struct removed *removed = data;
    if (err == 0) {
        (void)removed_free(broker, removed);
        return;
    }
    list_push_back(&broker->removed, &removed->node);
    progress_soon(broker);
}

/* Submits what broker->txn holds; takes `removed`. */
static int removed_write(struct broker *broker, struct removed *removed, uint8_t level)
{
    const int err = core_write(broker, level, removed_written, removed);
    if (err < 0)
        removed_written(broker, removed, err);
    return err;
}

void session_remove(struct session *session, uint8_t level)
{
    struct broker *broker = session->broker;
    struct removed *removed = removed_new(broker, session->client_id);
    discard(session, will_is_due(session) ? will_job_new(session) : NULL);
    if (broker->txn.count > 0)
        (void)removed_write(broker, removed, level);
    else
        (void)removed_free(broker, removed);
}

/* Its session row is enough: without it the others belong to nobody. */
bool sessions_remove_again(struct broker *broker)
{
    struct list again;
    list_init(&again);
    list_take(&broker->removed, &again);
    list_each_safe (it, &again) {
        struct removed *removed = CONTAINER_OF(it, struct removed, node);
        const struct session *session = session_find(broker, removed->client_id);
        list_remove(&removed->node);
        if (session && session->has_row) {
            (void)removed_free(broker, removed); /* a later one has the row */
            continue;
        }
        row_delete_session(&broker->txn, removed->client_id);
        if (removed_write(broker, removed, STORE_LAZY) < 0) {
            list_take(&again, &broker->removed);
            return false;
        }
    }
    return true;
}

void sessions_forget_removed(struct broker *broker)
{
    list_each_safe (it, &broker->removed) {
        (void)removed_free(broker, CONTAINER_OF(it, struct removed, node));
    }
    hashmap_done(&broker->removals);
}

void session_start_expiry(struct session *session, uint64_t elapsed_ms)
{
    if (session->expiry_s == SESSION_NO_EXPIRY || session->broker->draining)
        return;
    const uint64_t expiry_ms = (uint64_t)session->expiry_s * 1000;
    timer_start(session->broker->deps.timers, &session->expiry_timer,
                expiry_ms > elapsed_ms ? expiry_ms - elapsed_ms : 0);
}

static void session_detach_link(struct session *session)
{
    struct broker *broker = session->broker;
    session->link->session = NULL;
    session->link = NULL;
    session->blocked = false;
    session->opening = false;
    session->kick = 0;
    list_remove(&session->throttle_node);
    metric_add(&broker->deps.metrics->sessions_online, -1);
    broker->online_count--;
    session_stop(session);
    publish_detach(session);
    pidmap_shrink(&session->inbound);
    outbound_shrink(&session->outbound);
    list_each_safe (it, &session->subs) {
        sub_detach(CONTAINER_OF(it, struct sub, session_node));
    }
    list_each_safe (it, &session->shared) {
        group_member_offline(CONTAINER_OF(it, struct sub, lag_node)->group, session);
    }
}

void session_offline(struct session *session, bool publish_will)
{
    struct broker *broker = session->broker;
    ASSERT(session->link);
    publish_will &= !session->opening; /* it was never accepted */
    const bool takes_will_back = !publish_will && session->will;
    bool written = false;
    session_detach_link(session);
    session->disconnected_ms = core_wall_ms(broker);
    if (!publish_will) {
        session->will = will_free(session->will); /* [MQTT3-3.1.2-10] [MQTT5-3.1.2-10] */
    } else if (session->will && !broker->draining && session->expiry_s > 0) {
        written = will_due(session); /* its row goes with the will */
    }
    if (session->expiry_s == 0 && !(broker->draining && session->will)) {
        session_remove(session, takes_will_back ? STORE_SYNC : STORE_LAZY);
        return;
    }
    if (!session->will)
        session->access = access_unref(session->access);
    if (session->has_row && !written)
        session_write(session, takes_will_back ? STORE_SYNC : STORE_LAZY);
    session_start_expiry(session, 0);
}

void session_kick(struct session *session, uint8_t reason, const char *text)
{
    struct link *link = session->link;
    if (!link)
        return;
    session_offline(session, true);
    link->ops->close(link, reason, text);
}

void session_kick_later(struct session *session, uint8_t reason)
{
    session->kick = reason;
    session_pump(session);
}
