/* Will messages. They are part of the session's row, so they outlive a crash of the server.
 *
 * One whose time has come is published in the record that takes it out of that row, or, when the
 * session ends, that removes all rows of the session. It is tried again until that is written. At
 * QoS 1 and 2 subscribers get it then; at QoS 0 they have had it, and what is published with RETAIN
 * meanwhile is newer: it stays the topic's retained message. [MQTT3-3.3.1-5] [MQTT5-3.3.1-5]
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"

#define WILL_RETRY_MS 1000u

int will_fill(struct will *will, struct slice topic, struct slice payload, struct slice props)
{
    int err = core_copy(topic, &will->topic);
    if (err == 0)
        err = core_copy(payload, &will->payload);
    if (err == 0)
        err = core_copy(props, &will->props);
    return err;
}

/* The properties that go with the message, copied together. */
static int copy_texts(struct will *will, const struct packet_connect *packet)
{
    const struct props *props = &packet->will_props;
    struct slice forward = slice_of("", 0);
    uint8_t *room = NULL;
    if (props->forward_size > 0) {
        room = mem_try_alloc(props->forward_size);
        if (!room)
            return ERR_NOMEM;
        const int err = props_forward(props, room, props->forward_size, &forward);
        ASSERT(err == 0);
    }
    const int err = will_fill(will, packet->will_topic, packet->will_payload, forward);
    mem_free(room);
    return err;
}

int will_new(const struct packet_connect *packet, struct will **ret_will)
{
    *ret_will = NULL;
    if (!packet->has_will)
        return 0; /* [MQTT3-3.1.2-12] */
    struct will *will = mem_new(sizeof *will);
    const int err = copy_texts(will, packet);
    if (err < 0) {
        (void)will_free(will);
        return err;
    }
    const struct props *props = &packet->will_props;
    will->qos = packet->will_qos;
    will->retain = packet->will_retain;
    will->delay_s = props->will_delay_s;
    will->expiry_s =
        PROPS_HAS(props, PROP_MESSAGE_EXPIRY) ? props->message_expiry_s : MESSAGE_NO_EXPIRY;
    *ret_will = will;
    return 0;
}

struct will *will_free(struct will *will)
{
    if (!will)
        return NULL;
    core_free(&will->topic);
    core_free(&will->payload);
    core_free(&will->props);
    mem_free(will);
    return NULL;
}

/* --- publishing ---------------------------------------------------------------------------------
 */

struct will_job *will_job_free(struct will_job *job)
{
    list_remove(&job->node);
    job->will = will_free(job->will);
    job->access = access_unref(job->access);
    core_free(&job->client_id);
    txn_done(&job->rows);
    mem_free(job);
    return NULL;
}

struct will_job *will_job_new(struct session *session)
{
    struct will_job *job = mem_new(sizeof *job);
    list_init(&job->node);
    job->will = TAKE(session->will);
    ASSERT(job->will);
    if (core_copy(session->client_id, &job->client_id) < 0)
        job->client_id = slice_of("", 0); /* the will goes out without its publisher's name */
    job->number = session->number;
    job->access = access_ref(session->access);
    timer_stop(session->broker->deps.timers, &session->will_timer);
    return job;
}

/* The row without the will, or the removal of all rows, goes in the record of the message:
 * published once, whatever happens. */
static void will_rows(struct broker *broker, struct will_job *job)
{
    const struct session *session = session_by_number(broker, job->number);
    if (job->rows.count > 0) {
        txn_copy(&broker->txn, &job->rows);
        session = session_find(broker, job->client_id);
    }
    if (session && session->has_row)
        row_put_session(&broker->txn, session);
}

static void will_later(struct broker *broker, struct will_job *job)
{
    list_push_back(&broker->wills_due, &job->node);
    if (broker->wills_timer.due_ms == 0)
        timer_start(broker->deps.timers, &broker->wills_timer, WILL_RETRY_MS);
}

void wills_replaced(struct broker *broker, struct slice topic)
{
    list_each (it, &broker->wills_due) {
        struct will_job *job = CONTAINER_OF(it, struct will_job, node);
        if (job->delivered && slice_equal(job->will->topic, topic))
            job->will->retain = false;
    }
}

void will_stored(struct broker *broker, struct will_job *job, int err)
{
    if (err < 0) {
        will_later(broker, job);
        return;
    }
    metric_add(&broker->deps.metrics->wills_published, 1);
    (void)will_job_free(job);
}

static void will_submit(struct broker *broker, struct will_job *job)
{
    const struct will *will = job->will;
    const struct publish_request request = {
        .topic = will->topic,
        .payload = will->payload,
        .props = will->props,
        .client_id = job->client_id,
        .publisher = job->number,
        .expiry_s = will->expiry_s,
        .qos = will->qos,
        .retain = will->retain,
        .access = job->access,
        .will = job,
    };
    ASSERT(broker->txn.count == 0);
    will_rows(broker, job);
    const int err = publish_submit(broker, &request);
    if (err == 0) {
        if (!job->storing)
            will_stored(broker, job, 0);
        return;
    }
    if (err == ERR_UNAVAILABLE || err == ERR_AGAIN) {
        will_later(broker, job);
        return;
    }
    log_write(broker->deps.log, LOG_WARN, "will", "the will of client '%.*s' was not published: %s",
              (int)job->client_id.size, (const char *)job->client_id.bytes, err_text(err));
    will_rows(broker, job); /* or it would be tried again after a restart */
    core_write_lazy(broker);
    (void)will_job_free(job);
}

void will_publish(struct session *session)
{
    will_submit(session->broker, will_job_new(session));
}

void will_publish_ended(struct broker *broker, struct will_job *job)
{
    txn_copy(&job->rows, &broker->txn);
    txn_clear(&broker->txn);
    will_submit(broker, job);
}

/* What is under way may be newer: its outcome tells whether this one is to be retained. */
static bool will_waits(const struct broker *broker, const struct will_job *job)
{
    const struct retained *retained = retained_find(broker->retained, job->will->topic);
    return job->delivered && job->will->retain && retained && retained->pending > 0;
}

void wills_retry(struct broker *broker)
{
    const struct list *last = broker->wills_due.prev; /* those that fail again come behind it */
    for (bool more = !list_empty(&broker->wills_due); more;) {
        struct will_job *job = LIST_FIRST(&broker->wills_due, struct will_job, node);
        more = &job->node != last;
        list_remove(&job->node);
        job->storing = false;
        if (will_waits(broker, job))
            will_later(broker, job);
        else
            will_submit(broker, job);
    }
}

static void wills_timer_due(struct timer *timer)
{
    wills_retry(CONTAINER_OF(timer, struct broker, wills_timer));
}

void wills_init(struct broker *broker)
{
    list_init(&broker->wills_due);
    broker->wills_timer.on_due = wills_timer_due;
}

void wills_done(struct broker *broker)
{
    timer_stop(broker->deps.timers, &broker->wills_timer);
    list_each_safe (it, &broker->wills_due) {
        (void)will_job_free(CONTAINER_OF(it, struct will_job, node));
    }
}

/* Spec: [MQTT3-3.1.2-8] [MQTT3-3.1.2-10] [MQTT3-3.1.2-16] [MQTT3-3.1.2-17] [MQTT5-3.1.2-8]
 * [MQTT5-3.1.2-10] [MQTT5-3.1.2-14] [MQTT5-3.1.2-15] */
bool will_due(struct session *session)
{
    const uint64_t wait_ms = (uint64_t)session->will->delay_s * 1000;
    if (wait_ms == 0)
        will_publish(session);
    else
        timer_start(session->broker->deps.timers, &session->will_timer, wait_ms);
    return wait_ms == 0;
}
