/* Before retention frees the oldest messages, live retained ones among them are copied forward.
 *
 * Passes over the whole index are made until one finds nothing below the limit: an entry that a
 * publish is about to replace is left for the next pass, because the publish may still fail. A copy
 * moves the row in the record that holds it, and counts in memory only if the entry still points at
 * what was copied.
 *
 * They may be a million: a turn of the loop visits a bounded number of entries, and a bounded
 * number of reads and copies is under way at any time, so that others are served in between.
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"
#include "mqtt/topic.h"

#define TRIM_READS_MAX  16u
#define TRIM_COPIES_MAX 64u                 /* reads and copies under way */
#define TRIM_BYTES_MAX  (UINT64_C(4) << 20) /* of copies under way, unless it is one */
#define TRIM_VISITS_MAX 1024u               /* entries looked at in one turn */
#define TRIM_RETRY_MS   1000u
#define TRIM_WAIT_MS    10u /* for publishes under way that will replace what was found */

struct trim_read {
    struct trim *trim;
    struct reader *reader;
    struct slice topic; /* owned; no bytes: the place is free */
};

struct trim {
    struct broker *broker;
    uint64_t position;   /* entries below it must move */
    struct slice filter; /* owned: what takes in the first-level topic being walked */
    struct slice after;  /* owned */
    struct trim_read reads[TRIM_READS_MAX];
    uint32_t read_count;
    uint32_t copies; /* under way */
    uint64_t copy_bytes;
    bool found;  /* something below the limit in this pass */
    bool waits;  /* and something that a publish is about to replace */
    bool ended;  /* this pass has seen all entries */
    bool failed; /* the store takes nothing: wait for next_turn */
    struct timer next_turn;
    struct deferred step;
};

struct copy {
    struct store_append append;
    struct trim *trim;
    struct slice topic; /* owned */
    uint64_t position;  /* of what was copied */
    uint64_t size;
};

/* A publish is about to replace it; whether it succeeds is seen by a later pass. */
static bool is_being_replaced(const struct retained *retained)
{
#ifdef MUTATION_STALE_RETAINED_COPY
    (void)retained;
    return false;
#else
    return retained->pending > 0;
#endif
}

static void trim_go_on(struct trim *trim)
{
    loop_defer(trim->broker->deps.loop, &trim->step);
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
    if (err == 0)
        metric_add(&broker->deps.metrics->retained_copied, 1);
    trim->copies--;
    trim->copy_bytes -= copy->size;
    core_free(&copy->topic);
    mem_free(copy);
    core_ended(broker);
    trim_go_on(trim);
}

/* Returns 0, also when there is nothing to copy any more, or why it cannot be done now. */
static int trim_copy(struct trim *trim, const struct message *message)
{
    struct broker *broker = trim->broker;
    struct retained *retained = retained_find(broker->retained, message->topic);
    if (!retained || !retained->present || retained->position != message->position)
        return 0;
    if (is_being_replaced(retained))
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
    copy->size = retained->size;
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
    trim->copy_bytes += copy->size;
    return 0;
}

/* Goes on later, when the store takes writes again or there is memory. */
static void trim_fail(struct trim *trim)
{
    trim->failed = true;
    timer_start(trim->broker->deps.timers, &trim->next_turn, TRIM_RETRY_MS);
}

static void trim_read_done(void *owner, int err, const struct store_read *read)
{
    struct trim_read *place = owner;
    struct trim *trim = place->trim;
    struct broker *broker = trim->broker;
    trim->read_count--;
    if (err == 0 && read->entry_count > 0) {
        err = trim_copy(trim, &read->entries[0].message);
    } else if (err == ERR_TRIMMED || err == ERR_CORRUPT) {
        retained_drop(broker, place->topic); /* or no pass would ever be the last */
        core_write_lazy(broker);
        err = 0;
    }
    core_free(&place->topic);
    place->topic = (struct slice){.bytes = NULL};
    if (err < 0)
        trim_fail(trim);
    trim_go_on(trim);
}

/* Begins with the first-level topic behind the present one; false: there is none. Without memory
 * for its name the pass begins anew. */
static bool trim_next_topic(struct trim *trim)
{
    const struct topic *topic = trim->filter.size
                                    ? topic_above(trim->broker, topic_first(trim->filter))
                                    : topic_first_of(trim->broker);
    core_free(&trim->after);
    core_free(&trim->filter);
    if (!topic)
        return false;
    struct txn *txn = &trim->broker->txn; /* puts a text together */
    txn_begin(txn, META_DELETE);
    txn_bytes(txn, topic->name);
    txn_bytes(txn, slice_str("/#"));
    if (core_copy(txn_ops(txn)[0].key, &trim->filter) < 0)
        trim_fail(trim);
    txn_clear(txn);
    return true;
}

enum found { FOUND_ONE, FOUND_NOTHING_YET, FOUND_END };

/* Finds the next entry below the limit within the topic; *visits_left go down. */
static enum found trim_find(struct trim *trim, uint32_t *visits_left, uint64_t *ret_position)
{
    struct broker *broker = trim->broker;
    struct slice at = trim->after;
    enum found result = FOUND_NOTHING_YET;
    for (; *visits_left > 0; --*visits_left) {
        struct slice topic = slice_of("", 0);
        const struct retained *retained =
            retained_next(broker->retained, trim->filter, at, TRIM_VISITS_MAX, &topic);
        if (!retained && topic.size == 0) {
            result = FOUND_END;
            break;
        }
        at = topic;
        if (!retained || retained->position >= trim->position)
            continue;
        if (is_being_replaced(retained)) {
            trim->waits = true;
        } else {
            *ret_position = retained->position;
            result = FOUND_ONE;
            break;
        }
    }
    if (at.bytes != trim->after.bytes) {
        struct slice after;
        if (core_copy(at, &after) < 0) {
            trim_fail(trim);
            return FOUND_NOTHING_YET;
        }
        core_free(&trim->after);
        trim->after = after;
    }
    return result;
}

static void trim_read(struct trim *trim, uint64_t position)
{
    struct trim_read *place = trim->reads;
    while (place->topic.bytes)
        place++;
    ASSERT(place < trim->reads + TRIM_READS_MAX);
    if (core_copy(trim->after, &place->topic) < 0) {
        trim_fail(trim);
        return;
    }
    trim->read_count++;
    reader_message(trim->broker, &place->reader, position, trim_read_done, place);
}

static void trim_end_pass(struct trim *trim)
{
    struct broker *broker = trim->broker;
    if (trim->read_count > 0 || trim->copies > 0)
        return;
    if (trim->found || trim->waits) {
        timer_start(broker->deps.timers, &trim->next_turn, trim->found ? 0 : TRIM_WAIT_MS);
        trim->found = trim->waits = trim->ended = false;
        return;
    }
    broker->trim = trim_free(broker, trim);
    store_trim_go(broker->deps.store);
}

static bool trim_has_room(const struct trim *trim)
{
    return trim->read_count < TRIM_READS_MAX && trim->read_count + trim->copies < TRIM_COPIES_MAX &&
           trim->copy_bytes < TRIM_BYTES_MAX;
}

static void trim_step(struct deferred *deferred)
{
    struct trim *trim = CONTAINER_OF(deferred, struct trim, step);
    struct broker *broker = trim->broker;
    uint32_t visits_left = TRIM_VISITS_MAX;
    if (broker->draining || trim->failed)
        return;
    while (!trim->ended && !trim->failed && trim_has_room(trim) && visits_left > 0) {
        uint64_t position = 0;
        const enum found found =
            trim->filter.size ? trim_find(trim, &visits_left, &position) : FOUND_END;
        if (found == FOUND_ONE) {
            trim->found = true;
            trim_read(trim, position);
            if (trim->failed)
                return;
        } else if (found == FOUND_END) {
            trim->ended = !trim_next_topic(trim);
            visits_left--;
        }
    }
    if (trim->ended)
        trim_end_pass(trim);
    else if (trim_has_room(trim)) /* else a read or a copy that ends goes on */
        timer_start(broker->deps.timers, &trim->next_turn, 0);
}

static void trim_turn(struct timer *timer)
{
    struct trim *trim = CONTAINER_OF(timer, struct trim, next_turn);
    trim->failed = false;
    trim_go_on(trim);
}

void trim_begin(struct broker *broker, uint64_t position)
{
    ASSERT(!broker->trim);
    struct trim *trim = mem_new(sizeof *trim);
    trim->broker = broker;
    trim->position = position;
    trim->filter = slice_of("", 0);
    trim->after = slice_of("", 0);
    for (uint32_t i = 0; i < TRIM_READS_MAX; i++)
        trim->reads[i].trim = trim;
    trim->next_turn.on_due = trim_turn;
    trim->step.run = trim_step;
    list_init(&trim->step.node);
    broker->trim = trim;
#ifdef MUTATION_KILL_NO_COPY
    trim_end_pass(trim);
    return;
#endif
    trim_go_on(trim);
}

struct trim *trim_free(struct broker *broker, struct trim *trim)
{
    if (!trim)
        return NULL;
    timer_stop(broker->deps.timers, &trim->next_turn);
    deferred_cancel(&trim->step);
    for (uint32_t i = 0; i < TRIM_READS_MAX; i++) {
        reader_cancel(&trim->reads[i].reader);
        if (trim->reads[i].topic.bytes)
            core_free(&trim->reads[i].topic);
    }
    core_free(&trim->after);
    core_free(&trim->filter);
    mem_free(trim);
    return NULL;
}
