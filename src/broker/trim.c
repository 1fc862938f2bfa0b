/* Before retention frees the oldest messages, live retained ones among them are copied forward.
 *
 * Passes over the whole index are made until one finds nothing below the limit: an entry that a
 * publish is about to replace is left for the next pass, because the publish may still fail. A copy
 * moves the row in the record that holds it, and counts in memory only if the entry still points at
 * what was copied.
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"

#define TRIM_COPIES_MAX 64u
#define TRIM_VISITS_MAX 4096u
#define TRIM_RETRY_MS   1000u

struct trim {
    struct broker *broker;
    uint64_t position;  /* entries below it must move */
    struct slice first; /* owned: the first-level topic being walked */
    struct slice after; /* owned */
    struct reader *reader;
    struct timer next_turn;
    uint32_t copies; /* under way */
    bool found;      /* something below the limit in this pass */
};

struct copy {
    struct store_append append;
    struct trim *trim;
    struct slice topic; /* owned */
    uint64_t position;  /* of what was copied */
};

static void trim_go_on(struct trim *trim);

static void trim_end_copy(struct trim *trim)
{
    trim->copies--;
    trim_go_on(trim);
}

static void copy_done(struct store_append *append, int err)
{
    struct copy *copy = CONTAINER_OF(append, struct copy, append);
    struct trim *trim = copy->trim;
    struct broker *broker = trim->broker;
    struct retained *retained = retained_find(broker->retained, copy->topic);
    if (retained) {
        retained->pending--;
        if (err == 0 && retained->position == copy->position)
            retained->position = append->stored.position;
        if (!retained->present && retained->pending == 0)
            retained_remove(broker->retained, copy->topic);
    }
    core_free(&copy->topic);
    mem_free(copy);
    core_ended(broker);
    trim_end_copy(trim);
}

/* Returns 0, also when there is nothing to copy any more, or why it cannot be done now. */
static int trim_copy(struct trim *trim, const struct message *message)
{
    struct broker *broker = trim->broker;
    struct retained *retained = retained_find(broker->retained, message->topic);
    if (!retained || !retained->present || retained->pending > 0 ||
        retained->position != message->position)
        return 0;
    struct message copied = *message;
    copied.flags |= MESSAGE_COPY;
    copied.origin = retained->origin;
    struct copy *copy = mem_new(sizeof *copy);
    if (txn_reserve(&broker->txn, TXN_ROW_ROOM + message->topic.size) < 0 ||
        core_copy(message->topic, &copy->topic) < 0) {
        mem_free(copy);
        return ERR_NOMEM;
    }
    copy->trim = trim;
    copy->position = message->position;
    row_put_retained(&broker->txn, message->topic, retained);
    copy->append = (struct store_append){
        .message = &copied,
        .ops = txn_ops(&broker->txn),
        .op_count = (uint16_t)broker->txn.count,
        .level = STORE_SYNC,
        .done = copy_done,
    };
    const int err = store_append(broker->deps.store, &copy->append);
    txn_clear(&broker->txn);
    if (err < 0) {
        core_free(&copy->topic);
        mem_free(copy);
        return err;
    }
    retained->pending++;
    broker->pending++;
    trim->copies++;
    return 0;
}

static void trim_read(void *owner, int err, const struct store_read *read)
{
    struct trim *trim = owner;
    struct broker *broker = trim->broker;
    if (err == 0 && read->entry_count > 0) {
        err = trim_copy(trim, &read->entries[0].message);
    } else if (err == ERR_TRIMMED || err == ERR_CORRUPT) {
        retained_drop(broker, trim->after); /* or no pass would ever be the last */
        core_write_lazy(broker);
        err = 0;
    }
    timer_start(broker->deps.timers, &trim->next_turn, err < 0 ? TRIM_RETRY_MS : 0);
}

/* The next first-level topic in name order; NULL at the end of the pass. */
static const struct topic *trim_topic(const struct trim *trim)
{
    list_each (it, &trim->broker->topics_sorted) {
        const struct topic *topic = CONTAINER_OF(it, struct topic, node);
        if (!trim->first.bytes || core_order(topic->name, trim->first) > 0)
            return topic;
    }
    return NULL;
}

static bool trim_next_topic(struct trim *trim)
{
    const struct topic *topic = trim_topic(trim);
    struct slice first = {.bytes = NULL};
    if (topic && core_copy(topic->name, &first) < 0)
        return true; /* the same one again */
    core_free(&trim->after);
    if (trim->first.bytes)
        core_free(&trim->first);
    trim->first = first;
    return topic != NULL;
}

/* Finds the next entry below the limit within the topic. Returns 1 found, 0 go on later, -1 the
 * end. */
static int trim_find(struct trim *trim, uint64_t *ret_position)
{
    struct broker *broker = trim->broker;
    char *filter = mem_try_alloc((size_t)trim->first.size + 2);
    if (!filter)
        return 0;
    for (uint32_t i = 0; i < trim->first.size; i++)
        filter[i] = (char)trim->first.bytes[i];
    filter[trim->first.size] = '/';
    filter[trim->first.size + 1] = '#';
    const struct slice text = slice_of(filter, (size_t)trim->first.size + 2);
    int result = 0;
    for (uint32_t visits = 0; visits < TRIM_VISITS_MAX; visits++) {
        struct slice topic = slice_of("", 0);
        const struct retained *retained =
            retained_next(broker->retained, text, trim->after, TRIM_VISITS_MAX, &topic);
        if (!retained && topic.size == 0) {
            result = -1;
            break;
        }
        struct slice after;
        if (core_copy(topic, &after) < 0)
            break;
        core_free(&trim->after);
        trim->after = after;
        if (retained && retained->position < trim->position) {
            *ret_position = retained->position;
            result = 1;
            break;
        }
    }
    mem_free(filter);
    return result;
}

static void trim_finish(struct trim *trim)
{
    struct broker *broker = trim->broker;
    broker->trim = trim_free(broker, trim);
    store_trim_go(broker->deps.store);
}

static void trim_go_on(struct trim *trim)
{
    struct broker *broker = trim->broker;
    uint64_t position = 0;
    if (trim->reader || trim->copies >= TRIM_COPIES_MAX || broker->draining)
        return;
    if (!trim->first.bytes && !trim_next_topic(trim)) {
        trim_finish(trim); /* no topics at all */
        return;
    }
    if (!trim->first.bytes) { /* no memory for its name */
        timer_start(broker->deps.timers, &trim->next_turn, TRIM_RETRY_MS);
        return;
    }
    const int found = trim_find(trim, &position);
    if (found > 0) {
        trim->found = true;
        reader_message(broker, &trim->reader, position, trim_read, trim);
    } else if (found == 0 || trim_next_topic(trim)) {
        timer_start(broker->deps.timers, &trim->next_turn, 0);
    } else if (trim->copies == 0 && !trim->found) {
        trim_finish(trim);
    } else if (trim->copies == 0) {
        trim->found = false;
        timer_start(broker->deps.timers, &trim->next_turn, 0);
    }
}

static void trim_turn(struct timer *timer)
{
    trim_go_on(CONTAINER_OF(timer, struct trim, next_turn));
}

void trim_begin(struct broker *broker, uint64_t position)
{
    ASSERT(!broker->trim);
    struct trim *trim = mem_new(sizeof *trim);
    trim->broker = broker;
    trim->position = position;
    trim->after = slice_of("", 0);
    trim->next_turn.on_due = trim_turn;
    broker->trim = trim;
    trim_go_on(trim);
}

struct trim *trim_free(struct broker *broker, struct trim *trim)
{
    if (!trim)
        return NULL;
    timer_stop(broker->deps.timers, &trim->next_turn);
    reader_cancel(&trim->reader);
    core_free(&trim->after);
    if (trim->first.bytes)
        core_free(&trim->first);
    mem_free(trim);
    return NULL;
}
