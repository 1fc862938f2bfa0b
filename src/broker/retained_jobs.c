/* Retained messages: keeping the index, and sending them to new subscriptions.
 *
 * How far a job has got goes into the subscription's row with each QoS 2 message it sends, in the
 * record that makes that one durable: after a crash the job goes on behind it. [MQTT5-4.3.3-13]
 * A job walks the index for one subscription and remembers only the topic it sent last, so a `#`
 * over a million retained messages costs the client's window and buffer, not memory.
 * [MQTT3-3.3.1-6] [MQTT5-3.3.1-9]
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"

#define RETAINED_VISITS_MAX 2048u /* index steps in one turn */
#define RETAINED_TURN_MAX   256u  /* messages in one turn */

/* --- the index
 * -------------------------------------------------------------------------------------- */

static void retained_gauge(struct broker *broker)
{
    metric_set(&broker->deps.metrics->retained, (int64_t)retained_count(broker->retained));
}

static void retained_set_absent(struct broker *broker, struct retained *retained)
{
    struct topic *topic = topic_by_id(broker, retained->topic_id);
    if (topic && retained->present)
        topic->retained_count--;
    broker->retained_bytes -= retained->size;
    retained->size = 0;
    retained_mark(broker->retained, retained, false);
}

/* The new message takes the old one's place, at QoS 0 too; an empty one only removes it.
 * Spec: [MQTT3-3.3.1-5] [MQTT3-3.3.1-7] [MQTT3-3.3.1-11] [MQTT5-3.3.1-5] [MQTT5-3.3.1-7] */
struct retained *retained_storing(struct broker *broker, const struct message *message,
                                  struct slice *ret_topic)
{
    struct slice topic;
    if (txn_reserve(&broker->txn, TXN_ROW_ROOM + message->topic.size) < 0 ||
        core_copy(message->topic, &topic) < 0)
        return NULL;
    struct retained *retained = retained_put(broker->retained, topic);
    if (!retained) {
        core_free(&topic);
        return NULL;
    }
    *ret_topic = topic;
    retained->pending++;
    broker->retained_submitted++;
    if (message->payload.size == 0) {
        row_delete_retained(&broker->txn, message->topic);
    } else {
        const struct retained row = {
            .expires_ms = message->expiry_s == MESSAGE_NO_EXPIRY
                              ? UINT64_MAX
                              : message->time_ms + (uint64_t)message->expiry_s * 1000,
            .size = message->topic.size + message->payload.size + message->props.size,
            .topic_id = message->topic_id,
        };
        row_put_retained(&broker->txn, message->topic, &row);
    }
    return retained;
}

void retained_set(struct broker *broker, struct retained *retained, const struct retained *value)
{
    struct topic *topic = topic_by_id(broker, value->topic_id);
    if (topic && !retained->present)
        topic->retained_count++;
    broker->retained_bytes += value->size;
    broker->retained_bytes -= retained->size;
    const uint32_t pending = retained->pending;
    const bool present = retained->present;
    *retained = *value;
    retained->pending = pending;
    retained->present = present;
    retained_mark(broker->retained, retained, true);
    retained_gauge(broker);
}

/* Outcomes come in the order of submission, so the oldest jobs are ready first. */
static void retained_wake(struct broker *broker)
{
    while (!list_empty(&broker->retained_waiting)) {
        struct retained_job *job =
            LIST_FIRST(&broker->retained_waiting, struct retained_job, wait_node);
        if (job->wait_for > broker->retained_finished)
            return;
        list_remove(&job->wait_node);
        session_pump(job->sub->session);
    }
}

void retained_stored(struct broker *broker, struct slice topic, struct retained *retained,
                     const struct message *stored)
{
    ASSERT(retained->pending > 0);
    retained->pending--;
    broker->retained_finished++;
    retained_wake(broker);
    if (stored && stored->payload.size == 0) {
        retained_set_absent(broker, retained); /* [MQTT3-3.3.1-10] [MQTT5-3.3.1-6] */
    } else if (stored) {
        const struct retained value = {
            .position = stored->position,
            .origin = stored->position,
            .expires_ms = stored->expiry_s == MESSAGE_NO_EXPIRY
                              ? UINT64_MAX
                              : stored->time_ms + (uint64_t)stored->expiry_s * 1000,
            .size = stored->topic.size + stored->payload.size + stored->props.size,
            .topic_id = stored->topic_id,
        };
        retained_set(broker, retained, &value);
    }
    if (!retained->present && retained->pending == 0)
        retained_remove(broker->retained, topic);
    retained_gauge(broker);
}

void retained_drop(struct broker *broker, struct slice topic)
{
    struct retained *retained = retained_find(broker->retained, topic);
    if (!retained || retained->pending > 0)
        return;
    retained_set_absent(broker, retained);
    row_delete_retained(&broker->txn, topic);
    retained_remove(broker->retained, topic);
    retained_gauge(broker);
}

/* --- jobs
 * --------------------------------------------------------------------------------------------- */

static void job_free(struct retained_job *job)
{
    reader_cancel(&job->reader);
    list_remove(&job->node);
    list_remove(&job->wait_node);
    core_free(&job->after);
    core_free(&job->next);
    mem_free(job);
}

void retained_job_start(struct sub *sub, uint64_t retained_from, uint16_t held_by)
{
    struct session *session = sub->session;
    struct broker *broker = session->broker;
    retained_jobs_cancel(session, sub);
    sub->flags &= (uint8_t)~SUB_RETAIN_PENDING;
    const bool waits = broker->retained_finished < broker->retained_submitted;
    if ((retained_count(broker->retained) == 0 && !waits) || sub->group)
        return;
    struct retained_job *job = mem_new(sizeof *job);
    job->sub = sub;
    job->held_by = held_by;
    job->after = slice_of("", 0);
    list_push_back(&session->retained_jobs, &job->node);
    /* What was published before the SUBSCRIBE is what it must get, or see removed. */
    list_init(&job->wait_node);
    job->wait_for = broker->retained_submitted;
    if (waits)
        list_push_back(&broker->retained_waiting, &job->wait_node);
    sub->flags |= SUB_RETAIN_PENDING;
    sub->retained_from = retained_from;
    session_pump(session);
}

void retained_jobs_pause(struct session *session)
{
    list_each (it, &session->retained_jobs) {
        struct retained_job *job = CONTAINER_OF(it, struct retained_job, node);
        reader_cancel(&job->reader);
        job->held_by = 0;
    }
}

void retained_jobs_cancel(struct session *session, const struct sub *sub)
{
    list_each_safe (it, &session->retained_jobs) {
        struct retained_job *job = CONTAINER_OF(it, struct retained_job, node);
        if (!sub || job->sub == sub)
            job_free(job);
    }
}

void retained_jobs_release(struct session *session, uint16_t packet_id)
{
    list_each (it, &session->retained_jobs) {
        struct retained_job *job = CONTAINER_OF(it, struct retained_job, node);
        if (job->held_by == packet_id)
            job->held_by = 0;
    }
    session_pump(session);
}

static void job_finish(struct retained_job *job)
{
    struct sub *sub = job->sub;
    struct session *session = sub->session;
    struct broker *broker = session->broker;
    job_free(job);
    sub->flags &= (uint8_t)~SUB_RETAIN_PENDING;
    if (session->durable) {
        row_put_cursor(&broker->txn, &session->direct); /* what is in flight is not lost with it */
        row_put_sub(&broker->txn, sub);
        (void)lost_write(session, STORE_LAZY, NULL, NULL);
    }
}

void retained_job_recover(struct sub *sub, struct slice after)
{
    struct retained_job *job = mem_new(sizeof *job);
    job->sub = sub;
    if (core_copy(after, &job->after) < 0)
        job->after = slice_of("", 0); /* the walk begins anew */
    list_init(&job->wait_node);
    list_push_back(&sub->session->retained_jobs, &job->node);
}

struct slice retained_job_after(const struct sub *sub)
{
    list_each (it, &sub->session->retained_jobs) {
        const struct retained_job *job = CONTAINER_OF(it, struct retained_job, node);
        if (job->sub == sub)
            return job->sending ? job->next : job->after;
    }
    return slice_of("", 0);
}

void retained_jobs_put(struct session *session)
{
    struct txn *txn = &session->broker->txn;
    row_put_cursor(txn, &session->direct);
    list_each (it, &session->retained_jobs) {
        row_put_sub(txn, CONTAINER_OF(it, struct retained_job, node)->sub);
    }
}

/* Returns 0 or ERR_NOMEM: it stays where it is. */
static int job_advance(struct retained_job *job, struct slice topic)
{
    struct slice copy;
    const int err = core_copy(topic, &copy);
    if (err < 0)
        return err;
    core_free(&job->after);
    job->after = copy;
    return 0;
}

static void job_read(void *owner, int err, const struct store_read *read)
{
    struct retained_job *job = owner;
    enum deliver_result result = DELIVER_SKIPPED;
    /* One that is gone or unreadable is passed over: the walk goes on behind it. */
    job->sending = true;
    if (err == 0 && read->entry_count > 0)
        result = deliver_retained(job->sub, &read->entries[0]);
    job->sending = false;
    if (result == DELIVER_BLOCKED) {
        job->blocked = true;
        return;
    }
    if (!job->stepping)
        session_pump(job->sub->session);
    core_free(&job->after);
    job->after = job->next;
    job->next = slice_of("", 0);
}

/* One step. Returns false when the job has to wait or is over. */
static bool job_step(struct retained_job *job, bool *ret_over)
{
    struct broker *broker = job->sub->session->broker;
    struct slice topic = slice_of("", 0);
    const struct retained *retained = retained_next(broker->retained, job->sub->filter->text,
                                                    job->after, RETAINED_VISITS_MAX, &topic);
    if (!retained) {
        *ret_over = topic.size == 0;
        if (!*ret_over) {
            (void)!job_advance(job, topic);
            session_pump_later(job->sub->session);
        }
        return false;
    }
    if (retained->expires_ms <= core_wall_ms(broker)) {
        if (job_advance(job, topic) < 0) {
            session_pump_later(job->sub->session);
            return false;
        }
        retained_drop(broker, job->after);
        core_write_lazy(broker);
        return true;
    }
    job->blocked = false;
    core_free(&job->next);
    if (core_copy(topic, &job->next) < 0) {
        session_pump_later(job->sub->session);
        return false;
    }
    job->stepping = true;
    reader_message(broker, &job->reader, retained->position, job_read, job);
    job->stepping = false;
    return !job->reader && !job->blocked;
}

void retained_jobs_pump(struct session *session)
{
    uint32_t turn = 0;
    list_each_safe (it, &session->retained_jobs) {
        struct retained_job *job = CONTAINER_OF(it, struct retained_job, node);
        if (job->held_by || job->reader || !list_empty(&job->wait_node))
            continue;
        bool over = false;
        while (turn++ < RETAINED_TURN_MAX && job_step(job, &over))
            ;
        if (over)
            job_finish(job);
        if (session->blocked)
            return;
        if (turn >= RETAINED_TURN_MAX) {
            session_pump_later(session);
            return;
        }
    }
}
