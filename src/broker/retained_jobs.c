/* Retained messages: keeping the index, and sending them to new subscriptions.
 *
 * A job reads some messages with one read, those that come next in the index. When they are there
 * it walks the index again, over the same stretch, and sends each whose entry still says that it
 * lies where it was read: what was deleted meanwhile is passed over, and at one that was replaced
 * or is new the job stops and reads from there.
 *
 * All jobs together ask for no more than RETAINED_MS_MAX messages in a millisecond, those still
 * being read counted, and take turns, a batch each. So a walk leaves the loop thread idle for part
 * of each millisecond: one that never sleeps is what the scheduler takes the processor from when
 * there are not enough of them, and then all clients wait.
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

#include <string.h>

#define RETAINED_MS_MAX      256u /* messages in a millisecond, for all sessions */
#define RETAINED_BATCH       STORE_READ_MAX
#define RETAINED_VISITS_MAX  2048u /* index steps to the first message of a batch */
#define RETAINED_VISITS_NEXT 32u   /* to each further one: or it is left for the next batch */

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

static void job_read_over(struct retained_job *job)
{
    job->sub->session->broker->retained_reading -= job->reading;
    job->reading = 0;
}

static void job_read_cancel(struct retained_job *job)
{
    reader_cancel(&job->reader);
    job_read_over(job);
}

static void job_free(struct retained_job *job)
{
    job_read_cancel(job);
    list_remove(&job->node);
    list_remove(&job->wait_node);
    core_free(&job->after);
    mem_free(job->next);
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
        job_read_cancel(job);
        job->held_by = 0;
        job->no_window = false;
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
            return job->sending.size ? job->sending : job->after;
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

/* Remembers a topic of the read under way as done. */
static void job_passed(struct retained_job *job, struct slice topic)
{
    ASSERT(topic.size <= job->next_room);
    memcpy(job->next, topic.bytes, topic.size);
    core_free(&job->after);
    job->after = slice_of(TAKE(job->next), topic.size);
}

/* The next topic behind `after` whose message is among those read from `first` on; ret_at: which it
 * is. Those before it are not the topic's any more. false: none is, or one comes first that was not
 * read. */
static bool job_match(const struct retained_job *job, const struct store_read *read,
                      struct slice after, uint16_t *at, struct slice *ret_topic)
{
    struct slice topic = slice_of("", 0);
    const uint32_t visits = *at ? RETAINED_VISITS_NEXT : RETAINED_VISITS_MAX;
    const struct retained *retained = retained_next(job->sub->session->broker->retained,
                                                    job->sub->filter->text, after, visits, &topic);
    if (!retained || topic.size > job->next_room)
        return false;
    while (*at < read->entry_count && read->entries[*at].message.position != retained->position)
        (*at)++;
    *ret_topic = topic;
    return *at < read->entry_count;
}

static void job_send(struct retained_job *job, const struct store_read *read)
{
    struct session *session = job->sub->session;
    struct slice done = slice_of("", 0), topic;
    uint16_t at = 0;
    while (job_match(job, read, done.size ? done : job->after, &at, &topic)) {
        job->sending = topic;
        const enum deliver_result result = deliver_retained(job->sub, &read->entries[at]);
        job->sending = slice_of("", 0);
        if (result == DELIVER_BLOCKED) {
            job->blocked = true;
            job->no_window = !session->blocked && !session->resend && inflight_window(session) == 0;
            break;
        }
        done = topic;
        at++;
    }
    if (done.size)
        job_passed(job, done);
}

/* The first one is gone or unreadable: the walk goes on behind it, unless it lies elsewhere now. */
static void job_skip(struct retained_job *job, uint64_t position)
{
    struct slice topic = slice_of("", 0);
    const struct retained *retained =
        retained_next(job->sub->session->broker->retained, job->sub->filter->text, job->after,
                      RETAINED_VISITS_MAX, &topic);
    if (retained && retained->position == position && topic.size <= job->next_room)
        job_passed(job, topic);
}

/* What all jobs may still ask for in this millisecond. */
static uint32_t retained_left(struct broker *broker)
{
    const uint64_t now_ms = core_now_ms(broker);
    if (broker->retained_ms != now_ms)
        broker->retained_used = broker->retained_reading;
    broker->retained_ms = now_ms;
    return RETAINED_MS_MAX - MIN(broker->retained_used, RETAINED_MS_MAX);
}

/* Something that is not a read took about as long as one. */
static void retained_worked(struct broker *broker)
{
    broker->retained_used += RETAINED_BATCH;
}

static void job_read(void *owner, int err, const struct store_read *read)
{
    struct retained_job *job = owner;
    job_read_over(job);
    if (err == ERR_NOMEM)
        retained_worked(job->sub->session->broker); /* it is tried again */
    else if (err < 0 || read->entry_count == 0)
        job_skip(job, read->places[0].position);
    else
        job_send(job, read);
    if (!job->stepping && !job->blocked)
        session_pump(job->sub->session);
}

/* How many messages the job may ask for now. */
static uint32_t job_room(const struct retained_job *job)
{
    const struct session *session = job->sub->session;
    const uint32_t left = retained_left(session->broker);
    const uint32_t room = MIN(left, RETAINED_BATCH);
    /* At QoS 0 they need no window, whatever the subscription's. */
    return job->sub->qos == 0 ? room : MIN(room, MAX(inflight_window(session), 1u));
}

/* Where the walk stands before a read. */
struct ahead {
    struct store_place places[RETAINED_BATCH];
    uint32_t count;
    uint32_t topic_size_max;
    struct slice topic; /* the last one seen, in the index */
    bool expired;       /* ... and its message is past its time: nothing was planned */
    bool over;          /* nothing comes behind it */
};

static void job_look_ahead(const struct retained_job *job, uint32_t room, struct ahead *ret)
{
    const struct broker *broker = job->sub->session->broker;
    const uint64_t now_ms = core_wall_ms(broker);
    ret->count = ret->topic_size_max = 0;
    ret->expired = ret->over = false;
    ret->topic = job->after;
    while (ret->count < room) {
        const uint32_t visits = ret->count ? RETAINED_VISITS_NEXT : RETAINED_VISITS_MAX;
        const struct retained *retained = retained_next(broker->retained, job->sub->filter->text,
                                                        ret->topic, visits, &ret->topic);
        ret->expired = retained && retained->expires_ms <= now_ms;
        ret->over = !retained && ret->topic.size == 0;
        if (!retained || ret->expired)
            return;
        ret->places[ret->count++] =
            (struct store_place){.position = retained->position, .size = retained->size};
        ret->topic_size_max = MAX(ret->topic_size_max, ret->topic.size);
    }
}

/* Nothing to read lies ahead: over, or the walk goes on behind what was looked at. */
static void job_pass_over(struct retained_job *job, const struct ahead *ahead)
{
    struct broker *broker = job->sub->session->broker;
    const bool passed = job_advance(job, ahead->topic) == 0;
    if (passed && ahead->expired) {
        retained_drop(broker, job->after);
        core_write_lazy(broker);
        broker->retained_used++;
        return;
    }
    retained_worked(broker);
}

static void job_read_ahead(struct retained_job *job, const struct ahead *ahead)
{
    struct broker *broker = job->sub->session->broker;
    mem_free(job->next);
    job->next_room = ahead->topic_size_max;
    job->next = mem_try_alloc(job->next_room);
    if (!job->next) {
        retained_worked(broker);
        return;
    }
    job->blocked = job->no_window = false;
    job->reading = ahead->count;
    broker->retained_used += ahead->count;
    broker->retained_reading += ahead->count;
    job->stepping = true;
    const struct reader_plan plan = {.places = ahead->places, .count = ahead->count};
    reader_places(broker, &job->reader, plan, job_read, job);
    job->stepping = false;
}

/* true when the job waits for nothing but its turn. */
static bool job_ready(const struct retained_job *job)
{
    return !job->held_by && !job->reader && !job->blocked && list_empty(&job->wait_node);
}

/* One step, when something may be asked for. Returns false when the job is over. */
static bool job_step(struct retained_job *job)
{
    struct ahead ahead;
    job_look_ahead(job, job_room(job), &ahead);
    if (ahead.count > 0)
        job_read_ahead(job, &ahead);
    else if (!ahead.over)
        job_pass_over(job, &ahead);
    return !ahead.over || ahead.count > 0;
}

/* In turn, a batch each, as many as may be asked for now. Whose session takes nothing leaves the
 * line: its pump will run when it does. */
static void retained_serve(struct broker *broker)
{
    struct list *line = &broker->retained_line;
    while (!list_empty(line) && retained_left(broker) > 0) {
        struct retained_job *job = LIST_FIRST(line, struct retained_job, wait_node);
        const struct session *session = job->sub->session;
        list_remove(&job->wait_node);
        if (!session->link || session->opening || session->blocked || session->resend)
            continue;
        if (!job_step(job))
            job_finish(job);
        else if (job_ready(job))
            list_push_back(line, &job->wait_node);
    }
    if (!list_empty(line) && broker->retained_timer.due_ms == 0)
        timer_start(broker->deps.timers, &broker->retained_timer, 1);
}

void retained_jobs_pump(struct session *session)
{
    struct broker *broker = session->broker;
    list_each (it, &session->retained_jobs) {
        struct retained_job *job = CONTAINER_OF(it, struct retained_job, node);
        job->blocked = job->no_window && inflight_window(session) == 0;
        if (job_ready(job))
            list_push_back(&broker->retained_line, &job->wait_node);
    }
    retained_serve(broker);
}

static void retained_line_due(struct timer *timer)
{
    retained_serve(CONTAINER_OF(timer, struct broker, retained_timer));
}

void retained_jobs_init(struct broker *broker)
{
    list_init(&broker->retained_waiting);
    list_init(&broker->retained_line);
    broker->retained_timer.on_due = retained_line_due;
}
