/* Recovery: from rows back to sessions, subscriptions, cursors and everything in flight.
 *
 * Order: numbers, topics, sessions, groups, subscriptions, cursors, QoS 2 rows, retained. Rows that
 * belong to no session are what an interrupted removal left; they are deleted. A client that was
 * connected counts as disconnected now: its expiry runs from here and its will waits for its delay
 * or the restart grace, whichever is longer.
 */
#include "broker/publish.h"

#include "base/mem.h"
#include "broker/rows.h"
#include "mqtt/topic.h"

enum {
    PREFETCH = 8,      /* sessions ahead of the one whose rows are read */
    SUBS_TO_WALK = 16, /* of a session; with more of them a table is faster */
};

/* A group's row, until a member's row says which queue it reads. */
struct group_row {
    struct hashnode by_text;
    struct slice text; /* owned */
    uint64_t number, begin_position;
    bool used;
};

struct numbered {
    uint64_t number;
    struct session *session;
};

struct recovery {
    struct broker *broker;
    struct txn sweep; /* deletions of rows that belong to nobody */
    struct hashmap group_rows;
    struct numbered *sessions; /* ordered by number, as the rows of what belongs to them are */
    uint64_t session_count, session_at;
};

static void recovery_sweep(struct recovery *recovery, struct slice key)
{
    txn_begin(&recovery->sweep, META_DELETE);
    txn_bytes(&recovery->sweep, key);
}

static struct slice key_rest(struct slice key)
{
    return slice_of(key.bytes + 1, key.size - 1);
}

/* Numbers in rows count too, in case that a reservation was lost with a failed write. */
static void recover_used(struct broker *broker, uint64_t number, uint32_t queue_id)
{
    if (number >= broker->next_number && number < PASSING_NUMBERS)
        broker->next_number = broker->number_limit = number + 1;
    if (queue_id >= broker->next_queue_id)
        broker->next_queue_id = broker->queue_id_limit = queue_id + 1;
}

static int recover_numbers(void *data, struct slice key, struct slice value)
{
    struct broker *broker = ((struct recovery *)data)->broker;
    struct row_reader reader = {.rest = value};
    (void)key;
    broker->next_number = broker->number_limit = row_u64(&reader);
    broker->next_queue_id = broker->queue_id_limit = row_u32(&reader);
    return reader.bad ? ERR_CORRUPT : 0;
}

static int recover_topic(void *data, struct slice key, struct slice value)
{
    struct broker *broker = ((struct recovery *)data)->broker;
    struct row_reader reader = {.rest = value};
    const uint32_t id = row_u32(&reader);
    const uint64_t created_ms = row_u64(&reader);
    const struct slice remark = row_sized(&reader);
    if (reader.bad || id == 0)
        return ERR_CORRUPT;
    recover_used(broker, 0, id);
    return topic_add(broker, key_rest(key), id, created_ms, remark) ? 0 : ERR_NOMEM;
}

static int recover_session(void *data, struct slice key, struct slice value)
{
    struct broker *broker = ((struct recovery *)data)->broker;
    struct row_reader reader = {.rest = value};
    struct session *session = session_new(broker, key_rest(key), row_u64(&reader));
    if (!session)
        return ERR_NOMEM;
    recover_used(broker, session->number, 0);
    session->expiry_s = row_u32(&reader);
    session->version = row_u8(&reader);
    session->clean_start = row_u8(&reader) != 0;
    session->keep_alive_s = row_u16(&reader);
    session->created_ms = row_u64(&reader);
    session->connected_ms = row_u64(&reader);
    session->disconnected_ms = row_u64(&reader);
    session->trimmed = row_u64(&reader);
    int err = core_copy(row_sized(&reader), &session->username);
    if (err == 0)
        err = row_get_will(&reader, &session->will);
    session->durable = session->has_row = session->row_written = true;
    session->direct.durable = true;
    return reader.bad ? ERR_CORRUPT : err;
}

/* One pass: `from` into `to`, ordered by the byte of the number that `shift` bits are below; of
 * equal ones the order stays. */
static void order_by_byte(const struct numbered *from, struct numbered *to, uint64_t count,
                          uint32_t shift)
{
    uint64_t places[UINT8_MAX + 1] = {0}, place = 0;
    for (uint64_t i = 0; i < count; i++)
        places[from[i].number >> shift & UINT8_MAX]++;
    for (uint32_t byte = 0; byte <= UINT8_MAX; byte++) {
        const uint64_t size = places[byte];
        places[byte] = place;
        place += size;
    }
    for (uint64_t i = 0; i < count; i++)
        to[places[from[i].number >> shift & UINT8_MAX]++] = from[i];
}

/* Orders by number, byte by byte from the lowest on: with a million sessions that takes a tenth of
 * what qsort does. Returns 0 or ERR_NOMEM. */
static int order_by_number(struct numbered **sessions, uint64_t count)
{
    uint64_t differ = 0;
    bool ordered = true;
    for (uint64_t i = 1; i < count; i++) {
        differ |= (*sessions)[i].number ^ (*sessions)[0].number;
        ordered &= (*sessions)[i].number > (*sessions)[i - 1].number;
    }
    if (ordered)
        return 0;
    struct numbered *other = mem_try_alloc(count * sizeof *other);
    if (!other)
        return ERR_NOMEM;
    for (uint32_t shift = 0; shift < 64; shift += 8) {
        if (!(differ >> shift & UINT8_MAX))
            continue; /* all have this byte in common */
        order_by_byte(*sessions, other, count, shift);
        struct numbered *const ordered_now = other;
        other = *sessions;
        *sessions = ordered_now;
    }
    mem_free(other);
    return 0;
}

/* To be called when all sessions are there. Returns 0 or ERR_NOMEM. */
static int recover_order_sessions(struct recovery *recovery)
{
    struct broker *broker = recovery->broker;
    recovery->sessions = mem_try_alloc(broker->session_count * sizeof *recovery->sessions);
    if (!recovery->sessions)
        return ERR_NOMEM;
    list_each (it, &broker->session_list) {
        struct session *session = CONTAINER_OF(it, struct session, node);
        recovery->sessions[recovery->session_count++] =
            (struct numbered){.number = session->number, .session = session};
    }
    return order_by_number(&recovery->sessions, recovery->session_count);
}

/* As session_by_number, for numbers that come in ascending order: the walk goes on where it was. */
static struct session *recover_owner(struct recovery *recovery, uint64_t number)
{
    const struct numbered *sessions = recovery->sessions;
    const uint64_t count = recovery->session_count;
    uint64_t at = recovery->session_at;
    if (at > 0 && sessions[at - 1].number >= number)
        at = 0; /* another kind of rows begins */
    while (at < count && sessions[at].number < number)
        at++;
    recovery->session_at = at;
    if (at + PREFETCH < count)
        __builtin_prefetch(sessions[at + PREFETCH].session);
    return at < count && sessions[at].number == number ? sessions[at].session : NULL;
}

/* Splits $share/group/filter as row_filter_text wrote it. */
static bool split_shared(struct slice text, struct topic_share *ret_share)
{
    *ret_share = (struct topic_share){.group = slice_of("", 0), .filter = text};
    return topic_share_parse(text, ret_share) == 0;
}

static int recover_group(void *data, struct slice key, struct slice value)
{
    struct recovery *recovery = data;
    struct row_reader reader = {.rest = value};
    struct topic_share share;
    const uint64_t number = row_u64(&reader);
    const uint64_t begin_position = row_u64(&reader);
    if (reader.bad || !split_shared(key_rest(key), &share))
        return ERR_CORRUPT;
    /* Its queue is named by its members' rows, which come next; until then it is only remembered.
     */
    struct group_row *row = mem_new(sizeof *row);
    if (core_copy(key_rest(key), &row->text) < 0) {
        mem_free(row);
        return ERR_NOMEM;
    }
    row->number = number;
    row->begin_position = begin_position;
    hashmap_insert(&recovery->group_rows, &row->by_text,
                   hash_bytes(row->text.bytes, row->text.size));
    recover_used(recovery->broker, number, 0);
    return 0;
}

static bool group_row_has_text(const struct hashnode *node, const void *key)
{
    return slice_equal(CONTAINER_OF(node, struct group_row, by_text)->text,
                       *(const struct slice *)key);
}

static struct group_row *group_row_find(const struct recovery *recovery, struct slice text)
{
    struct hashnode *node = hashmap_find(&recovery->group_rows, hash_bytes(text.bytes, text.size),
                                         group_row_has_text, &text);
    return node ? CONTAINER_OF(node, struct group_row, by_text) : NULL;
}

static struct group *recover_member_group(struct recovery *recovery, struct filter *filter,
                                          const struct topic_share *share, struct slice text)
{
    struct group *group = group_find(filter, share->group);
    if (group)
        return group;
    struct group_row *row = group_row_find(recovery, text);
    if (!row)
        return NULL;
    group = group_new(recovery->broker, filter, share->group, row->number);
    group->begin_position = row->begin_position;
    row->used = true;
    return group;
}

static int recover_sub(void *data, struct slice key, struct slice value)
{
    struct recovery *recovery = data;
    struct broker *broker = recovery->broker;
    struct row_sub row;
    if (row_get_sub(key, value, &row) < 0)
        return ERR_CORRUPT;
    struct session *session = recover_owner(recovery, row.number);
    if (!session) {
        recovery_sweep(recovery, key);
        return 0;
    }
    recover_used(broker, 0, row.queue_id);
    struct topic_share share;
    const bool shared = !row.is_private && split_shared(row.filter, &share);
    if (shared && row.queue_id == 0)
        return ERR_CORRUPT;
    struct filter *filter =
        row.is_private ? filter_new_private(broker, session->client_id, row.queue_id)
                       : filter_get(broker, shared ? share.filter : row.filter, row.queue_id);
    if (!filter)
        return ERR_NOMEM;
    struct group *group =
        shared ? recover_member_group(recovery, filter, &share, row.filter) : NULL;
    if (shared && !group) {
        filter_tidy(broker, filter);
        recovery_sweep(recovery, key);
        return 0;
    }
    struct sub *sub = sub_new(session, filter, group);
    if (row.is_private)
        session->p2p = sub;
    /* One lowered to QoS 0 may still have to read what came before. */
    sub_set_qos(sub, row.queue_id ? MAX(row.qos, 1) : 0);
    sub->qos = row.qos;
    sub->retained_from = row.retained_from;
    sub->hole_begin = row.hole_begin;
    sub->hole_end = row.hole_end;
    sub->flags = row.flags;
    sub->id = row.id;
    sub->begin_position = row.begin_position;
    sub->end_position = row.end_position;
    if (row.flags & SUB_RETAIN_PENDING)
        retained_job_recover(sub, row.retained_after);
    return 0;
}

/* --- cursors and what was in flight
 * ------------------------------------------------------------------ */

struct cursor_owner {
    struct session *session;
    struct group *group;
    struct cursor *cursor;
};

/* The cursor of the session's own subscription that reads the queue, or NULL. */
static struct cursor *cursor_of_session(struct session *session, uint32_t queue_id)
{
    if (queue_id == 0)
        return &session->direct;
    if (session->sub_count > SUBS_TO_WALK) {
        struct filter *filter = filter_by_queue(session->broker, queue_id);
        struct sub *sub = filter ? sub_find(session, filter, NULL) : NULL;
        return sub && sub_reads_queue(sub) ? &sub->cursor : NULL;
    }
    list_each (it, &session->subs) {
        struct sub *sub = CONTAINER_OF(it, struct sub, session_node);
        if (!sub->group && sub->cursor.queue_id == queue_id)
            return &sub->cursor;
    }
    return NULL;
}

static struct group *group_by_number(const struct broker *broker, uint64_t number,
                                     uint32_t queue_id)
{
    struct filter *filter = filter_by_queue(broker, queue_id);
    if (!filter)
        return NULL;
    list_each (it, &filter->groups) {
        struct group *group = CONTAINER_OF(it, struct group, filter_node);
        if (group->number == number)
            return group;
    }
    return NULL;
}

static bool cursor_find(struct recovery *recovery, uint64_t owner, uint32_t queue_id,
                        struct cursor_owner *ret)
{
    *ret = (struct cursor_owner){.session = recover_owner(recovery, owner)};
    if (ret->session) {
        ret->cursor = cursor_of_session(ret->session, queue_id);
        return ret->cursor != NULL;
    }
    ret->group = group_by_number(recovery->broker, owner, queue_id);
    if (ret->group)
        ret->cursor = &ret->group->cursor;
    return ret->group != NULL;
}

static struct inflight *recover_open(const struct row_open *open, struct cursor *cursor)
{
    struct inflight *inflight = mem_new(sizeof *inflight);
    inflight->seq = open->seq;
    inflight->position = open->position;
    inflight->sub_id = open->sub_id;
    inflight->packet_id = open->packet_id;
    inflight->qos = open->qos;
    inflight->state = open->state;
    inflight->retain = open->retain;
    inflight->alone = open->alone;
    inflight->sent_before = open->state != INFLIGHT_STORING;
    list_init(&inflight->node);
    list_init(&inflight->cursor_node);
    inflight_open(cursor, inflight);
    return inflight;
}

/* Entries of a group that were with a member go to whoever comes first; QoS 2 ones with a row of
 * their own are put back by recover_outbound. */
static void recover_group_open(struct group *group, struct inflight *inflight)
{
    inflight->group = group;
    inflight->sent_before = false;
    inflight->packet_id = 0;
    list_push_back(&group->redeliver, &inflight->node);
}

/* Rows of several cursors need not be of the same moment, so that two entries may claim one packet
 * ID. Neither is given up: the client may get one of them again. */
static void recover_adopt(struct session *session, struct inflight *inflight)
{
    if (inflight->packet_id == 0 || outbound_find(&session->outbound, inflight->packet_id))
        inflight->packet_id = outbound_next(&session->outbound);
    ASSERT(inflight->packet_id);
    inflight_adopt(session, inflight);
}

static int recover_cursor(void *data, struct slice key, struct slice value)
{
    struct recovery *recovery = data;
    struct row_reader reader = {.rest = key_rest(key)};
    const uint64_t owner = row_be64(&reader);
    const uint32_t queue_id = row_be32(&reader);
    struct cursor_owner found;
    if (reader.bad)
        return ERR_CORRUPT;
    if (!cursor_find(recovery, owner, queue_id, &found)) {
        recovery_sweep(recovery, key);
        return 0;
    }
    reader = (struct row_reader){.rest = value};
    uint64_t first, next;
    store_queue_bounds(recovery->broker->deps.store, queue_id, &first, &next);
    found.cursor->next_seq = row_u64(&reader);
    if (queue_id != 0) /* a repair may have had to number a queue anew */
        found.cursor->next_seq = MIN(found.cursor->next_seq, next);
    struct row_open open;
    while (row_open_next(&reader, &open)) {
        struct inflight *inflight = recover_open(&open, found.cursor);
        if (open.state == INFLIGHT_ENDED) /* before the cursor came to it */
            found.cursor->ended_count++;
        else if (found.group)
            recover_group_open(found.group, inflight);
        else
            recover_adopt(found.session, inflight);
    }
    return reader.bad ? ERR_CORRUPT : 0;
}

static int recover_inbound(void *data, struct slice key, struct slice value)
{
    struct recovery *recovery = data;
    struct row_reader reader = {.rest = key_rest(key)};
    (void)value;
    struct session *session = recover_owner(recovery, row_be64(&reader));
    const uint16_t packet_id = row_u16(&reader);
    if (reader.bad || packet_id == 0)
        return ERR_CORRUPT;
    if (!session) {
        recovery_sweep(recovery, key);
        return 0;
    }
#ifndef MUTATION_KILL_FORGET_INBOUND
    pidmap_put(&session->inbound, packet_id, INBOUND_RECEIVED);
#endif
    return 0;
}

/* The cursor an outbound row belongs to, and its group when it is a shared one's. A
 * subscription removed meanwhile leaves neither: the delivery is finished all the same. */
static struct cursor *outbound_cursor(struct recovery *recovery, struct session *session,
                                      const struct row_open *open, struct group **ret_group)
{
    *ret_group = NULL;
    if (open->owner == session->number)
        return cursor_of_session(session, open->queue_id);
    struct cursor_owner found;
    if (!cursor_find(recovery, open->owner, open->queue_id, &found))
        return NULL;
    *ret_group = found.group;
    return found.cursor;
}

/* What the cursor's row says of this entry, or NULL when it does not have it. */
static struct inflight *outbound_listed(const struct cursor *cursor, const struct row_open *open)
{
    list_each (it, &cursor->open) {
        struct inflight *inflight = CONTAINER_OF(it, struct inflight, cursor_node);
        /* In a queue only one can have the number, even if it was at QoS 1 with another member. A
         * retained message can be on its way twice. */
        if (inflight->seq == open->seq &&
            (cursor->queue_id || (inflight->qos == 2 && inflight->packet_id == open->packet_id)))
            return inflight;
    }
    return NULL;
}

/* Forgets what was put in from a cursor's row; the row of its own says more. */
static void recover_forget(struct inflight *inflight)
{
    if (inflight->state == INFLIGHT_ENDED)
        inflight->cursor->ended_count--;
    if (inflight->session)
        inflight_leave_session(inflight);
    else
        list_remove(&inflight->node); /* out of its group's list */
    inflight_close(inflight);
    mem_free(inflight); /* not to be kept: recovery makes many at once */
}

/* Another delivery holds the packet ID. Returns false when the one in `open` is the finished one of
 * the two: it was released, or is older. What is at QoS 1, or was never sent, goes with another ID.
 */
static bool recover_packet_id(struct session *session, const struct row_open *open)
{
    struct inflight *other = outbound_find(&session->outbound, open->packet_id);
    if (!other)
        return true;
    const bool moves = other->qos == 1 || other->state == INFLIGHT_STORING;
    if (!moves && !other->has_row) { /* from a cursor's row only, perhaps this one itself */
        recover_forget(other);
        return true;
    }
    if (moves) {
        inflight_leave_session(other);
        other->packet_id = outbound_next(&session->outbound);
        if (other->packet_id == open->packet_id)
            other->packet_id = outbound_next(&session->outbound);
        inflight_adopt(session, other);
        return true;
    }
    const bool released = open->state == INFLIGHT_RELEASED;
    if (released != (other->state == INFLIGHT_RELEASED) ? released
                                                        : open->position < other->position)
        return false;
    inflight_end(other);
    return true;
}

/* The delivery is over, but its row tells what the cursor's does not yet. */
static void recover_over(struct broker *broker, struct inflight *inflight)
{
    cursor_touch(broker, inflight->cursor);
    inflight_over(broker, inflight);
}

/* Puts one QoS 2 delivery back. The row of its cursor may be older or newer, but as long as its own
 * row is there it goes on where that says: once more than needed only with PUBREL. */
static void recover_delivery(struct recovery *recovery, struct session *session,
                             const struct row_open *open, struct slice key)
{
    struct group *group;
    struct cursor *cursor = outbound_cursor(recovery, session, open, &group);
    struct inflight *listed = cursor ? outbound_listed(cursor, open) : NULL;
    if (listed)
        recover_forget(listed);
    const bool finished = !recover_packet_id(session, open);
    if (finished && !cursor) {
        recovery_sweep(recovery, key);
        return;
    }
    struct inflight *inflight = recover_open(open, cursor ? cursor : &session->direct);
    inflight->owner = open->owner;
    inflight->queue_id = open->queue_id;
    inflight->group = group;
    inflight->has_row = true;
    inflight->number = session->number;
    if (finished)
        recover_over(recovery->broker, inflight);
    else
        inflight_adopt(session, inflight);
}

/* One whose session is gone: a group must not send it to another member. [MQTT5-4.8.2-5] One that
 * another has all the same was never sent to the first, whose row was told to have failed. */
static void recover_gone(struct recovery *recovery, uint64_t number, const struct row_open *open,
                         struct slice key)
{
    struct group *group = group_by_number(recovery->broker, open->owner, open->queue_id);
    struct inflight *listed = group ? outbound_listed(&group->cursor, open) : NULL;
    recover_used(recovery->broker, number, 0);
    if (!group || (listed && listed->session)) {
        recovery_sweep(recovery, key);
        return;
    }
    if (listed)
        recover_forget(listed);
    struct inflight *inflight = recover_open(open, &group->cursor);
    inflight->group = group;
    inflight->has_row = true;
    inflight->number = number;
    recover_over(recovery->broker, inflight);
}

static int recover_outbound(void *data, struct slice key, struct slice value)
{
    struct recovery *recovery = data;
    struct row_reader reader = {.rest = key_rest(key)};
    const uint64_t number = row_be64(&reader);
    struct session *session = recover_owner(recovery, number);
    struct row_open open = {.owner = row_be64(&reader), .qos = 2};
    open.queue_id = row_be32(&reader);
    open.seq = row_be64(&reader);
    if (open.queue_id == 0 && session)
        open.owner = session->number;
    const bool key_bad = reader.bad;
    reader = (struct row_reader){.rest = value};
    open.position = row_u64(&reader);
    open.sub_id = row_u32(&reader);
    open.packet_id = row_u16(&reader);
    open.state = row_u8(&reader);
    row_open_flags(&open, row_u8(&reader));
    if (key_bad || reader.bad || open.packet_id == 0)
        return ERR_CORRUPT;
    if (session)
        recover_delivery(recovery, session, &open, key);
    else
        recover_gone(recovery, number, &open, key);
    return 0;
}

static int recover_retained(void *data, struct slice key, struct slice value)
{
    struct recovery *recovery = data;
    struct broker *broker = recovery->broker;
    struct row_reader reader = {.rest = value};
    struct retained row = {.position = row_u64(&reader)};
    row.origin = row_u64(&reader);
    row.expires_ms = row_u64(&reader);
    row.size = row_u32(&reader);
    row.topic_id = row_u32(&reader);
    if (reader.bad)
        return ERR_CORRUPT;
    if (row.origin == 0)
        row.origin = row.position;
    if (!topic_by_id(broker, row.topic_id)) {
        recovery_sweep(recovery, key);
        return 0;
    }
    struct retained *retained = retained_put(broker->retained, key_rest(key));
    if (!retained)
        return ERR_NOMEM;
    retained_set(broker, retained, &row);
    return 0;
}

/* --- the whole
 * ----------------------------------------------------------------------------------------- */

static int recover_rows(struct recovery *recovery, enum row_kind kind, meta_scan_fn *each,
                        struct errmsg *reterr)
{
    const uint8_t prefix = (uint8_t)kind;
    const int err = meta_scan(recovery->broker->deps.meta, slice_of(&prefix, 1), each, recovery);
    if (err < 0)
        errmsg_wrap(reterr, "could not read the rows of kind '%c': %s", kind, err_text(err));
    return err;
}

/* Tables that grow while they are filled cost as much again as filling them. */
static void recover_reserve(struct broker *broker)
{
    const uint64_t sessions = meta_count(broker->deps.meta, ROW_SESSION);
    const uint64_t subs = meta_count(broker->deps.meta, ROW_SUB);
    hashmap_reserve(&broker->sessions, sessions);
    hashmap_reserve(&broker->sessions_by_number, sessions);
    hashmap_reserve(&broker->subs, subs);
    hashmap_reserve(&broker->filters_by_queue, subs);
    trie_reserve(broker->trie, subs);
}

static int recover_tables(struct recovery *recovery, struct errmsg *reterr)
{
    static const struct {
        enum row_kind kind;
        meta_scan_fn *each;
    } steps[] = {
        {ROW_NUMBERS, recover_numbers},   {ROW_TOPIC, recover_topic},
        {ROW_SESSION, recover_session},   {ROW_GROUP, recover_group},
        {ROW_SUB, recover_sub},           {ROW_CURSOR, recover_cursor},
        {ROW_INBOUND, recover_inbound},   {ROW_OUTBOUND, recover_outbound},
        {ROW_RETAINED, recover_retained},
    };
    for (size_t i = 0; i < ARRAY_COUNT(steps); i++) {
        int err = recover_rows(recovery, steps[i].kind, steps[i].each, reterr);
        if (err == 0 && steps[i].kind == ROW_SESSION)
            err = recover_order_sessions(recovery);
        if (err < 0)
            return err;
    }
    return 0;
}

static void recover_group_rows_free(struct recovery *recovery)
{
    uint64_t pos = 0;
    struct hashnode *node = NULL;
    while ((node = hashmap_next(&recovery->group_rows, &pos, node))) {
        struct group_row *row = CONTAINER_OF(node, struct group_row, by_text);
        if (!row->used) {
            txn_begin(&recovery->sweep, META_DELETE);
            txn_u8(&recovery->sweep, ROW_GROUP);
            txn_bytes(&recovery->sweep, row->text);
        }
        hashmap_remove(&recovery->group_rows, node);
        core_free(&row->text);
        mem_free(row);
    }
    hashmap_done(&recovery->group_rows);
}

/* QoS 2 entries that only the cursor's row knows were finished, because their own row is gone; or
 * it never came into being, and nothing was sent. */
static void recover_finish(struct session *session)
{
    list_each_safe (it, &session->inflight) {
        struct inflight *inflight = CONTAINER_OF(it, struct inflight, node);
        if (inflight->qos == 2 && !inflight->has_row && inflight->state != INFLIGHT_STORING)
            inflight_end(inflight);
    }
}

static int position_order(const struct inflight *a, const struct inflight *b)
{
    return (a->position > b->position) - (a->position < b->position);
}

/* What is sent again goes out in the order it was published. [MQTT3-4.6.0-1] [MQTT5-4.6.0-1] */
static void recover_sort(struct session *session)
{
    struct list sorted;
    list_init(&sorted);
    while (!list_empty(&session->inflight)) {
        struct inflight *inflight = LIST_FIRST(&session->inflight, struct inflight, node);
        list_remove(&inflight->node);
        struct list *place = &sorted;
        while (place->prev != &sorted &&
               position_order(CONTAINER_OF(place->prev, struct inflight, node), inflight) > 0)
            place = place->prev;
        list_insert_before(place, &inflight->node);
    }
    while (!list_empty(&sorted)) {
        struct list *node = sorted.next;
        list_remove(node);
        list_push_back(&session->inflight, node);
    }
}

/* The clock of a session that was connected starts now; of one that was not, when it left. */
static void recover_clock(struct session *session)
{
    struct broker *broker = session->broker;
    const uint64_t now_ms = core_wall_ms(broker);
    const bool was_online = session->disconnected_ms == 0;
    if (was_online) {
        session->disconnected_ms = now_ms;
        row_put_session(&broker->txn, session);
        if (txn_is_large(&broker->txn))
            core_write_lazy(broker);
    }
    const uint64_t away_ms =
        now_ms > session->disconnected_ms ? now_ms - session->disconnected_ms : 0;
    const uint64_t grace_ms = (uint64_t)broker->config.restart_grace_s * 1000;
    uint64_t will_ms = 0;
    if (session->will) {
        const uint64_t delay_ms = (uint64_t)session->will->delay_s * 1000;
        will_ms = MAX(delay_ms > away_ms ? delay_ms - away_ms : 0, grace_ms);
        timer_start(broker->deps.timers, &session->will_timer, will_ms);
    }
    if (session->expiry_s == SESSION_NO_EXPIRY)
        return;
    const uint64_t expiry_ms = (uint64_t)session->expiry_s * 1000;
    const uint64_t left_ms = expiry_ms > away_ms ? expiry_ms - away_ms : 0;
    /* A will still waiting keeps a session that would end now until it has been published. */
    timer_start(broker->deps.timers, &session->expiry_timer, MAX(left_ms, will_ms));
}

/* Likewise for what is to go to another member: a QoS 2 message that was sent to one whose session
 * has ended is not. [MQTT5-4.8.2-5] */
static void recover_groups(struct broker *broker)
{
    list_each (it, &broker->session_list) {
        struct session *session = CONTAINER_OF(it, struct session, node);
        list_each (at, &session->shared) {
            struct group *group = CONTAINER_OF(at, struct sub, lag_node)->group;
            list_each_safe (entry, &group->redeliver) {
                struct inflight *inflight = CONTAINER_OF(entry, struct inflight, node);
                if (inflight->qos == 2 && inflight->state != INFLIGHT_STORING &&
                    inflight->state != INFLIGHT_FREE)
                    recover_forget(inflight);
                else
                    inflight->state = INFLIGHT_FREE;
            }
        }
    }
}

/* Behind what recover_clock has put into broker->txn: that is durable as soon as can be, so that
 * another crash does not start the clocks anew. */
static void recover_sweep(struct recovery *recovery)
{
    struct broker *broker = recovery->broker;
    const struct meta_op *ops = txn_ops(&recovery->sweep);
    for (uint32_t i = 0; i < recovery->sweep.count; i++) {
        txn_begin(&broker->txn, META_DELETE);
        txn_bytes(&broker->txn, ops[i].key);
        if (txn_is_large(&broker->txn))
            core_write_lazy(broker);
    }
    if (broker->txn.count > 0 && core_write(broker, STORE_SYNC, NULL, NULL) < 0)
        log_write(broker->deps.log, LOG_WARN, "store", "the rows of the start were not written");
}

int recover_all(struct broker *broker, struct errmsg *reterr)
{
    struct recovery recovery = {.broker = broker};
    hashmap_init(&recovery.group_rows);
    recover_reserve(broker);
    int err = recover_tables(&recovery, reterr);
    if (err == 0)
        err = stored_rules_recover(broker, reterr);
    mem_free(recovery.sessions);
    recover_group_rows_free(&recovery);
    if (err == 0) {
        recover_groups(broker);
        list_each (it, &broker->session_list) {
            struct session *session = CONTAINER_OF(it, struct session, node);
            recover_finish(session);
            recover_sort(session);
            recover_clock(session);
        }
    }
    if (err == 0)
        recover_sweep(&recovery);
    txn_done(&recovery.sweep);
    return err;
}
