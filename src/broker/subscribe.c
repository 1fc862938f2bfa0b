/* SUBSCRIBE and UNSUBSCRIBE.
 *
 * A subscription takes part in matching at once and, when its session is durable, is in the log
 * before SUBACK leaves; with it goes the number of its filter's queue, so that after a restart the
 * same queue serves the same filter.
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"
#include "mqtt/topic.h"

#include <stdio.h>
#include <string.h>

#define STORE_TEXT "storage takes no writes at present"

/* A subscription's row, its cursor's, its group's and the group's cursor's. */
enum { SUB_ROWS = 4 };

/* A SUBSCRIBE or UNSUBSCRIBE whose answer waits for the log. */
struct answer {
    uint64_t number;
    uint32_t connection, count;
    uint32_t writes; /* records under way: a packet may need more than one */
    int err;         /* of the first that failed */
    uint16_t packet_id;
    bool unsubscribe;
    char text[TOPIC_TEXT_SIZE]; /* of the first refusal that has one, or empty */
    uint8_t codes[];
};

/* Returns NULL when there is no memory for it: the link is closed then. */
static struct answer *answer_new(const struct link *link, uint32_t count, uint16_t packet_id)
{
    struct answer *answer = mem_try_alloc(sizeof *answer + count);
    if (!answer) {
        session_kick(link->session, REASON_QUOTA_EXCEEDED, "memory.limit is reached");
        return NULL;
    }
    *answer = (struct answer){.number = link->session->number,
                              .connection = link->session->connection,
                              .count = count,
                              .packet_id = packet_id};
    return answer;
}

static void answer_send(struct session *session, const struct answer *answer)
{
    const struct link_ops *ops = session->link->ops;
    if (answer->unsubscribe) {
        ops->unsuback(session->link, answer->packet_id, answer->codes, answer->count);
        return;
    }
    ops->suback(session->link, answer->packet_id, answer->codes, answer->count,
                answer->text[0] ? answer->text : NULL);
    retained_jobs_release(session, answer->packet_id);
}

static void answer_done(struct broker *broker, void *data, int err)
{
    struct answer *answer = data;
    answer->err = answer->err ? answer->err : err;
    if (--answer->writes > 0)
        return;
    struct session *session = session_by_number(broker, answer->number);
    if (session && session->link && session->connection == answer->connection) {
        if (answer->err == 0)
            answer_send(session, answer);
        else
            session_kick(session, REASON_QUOTA_EXCEEDED, STORE_TEXT);
    }
    mem_free(answer);
}

/* Submits what broker->txn holds. */
static void answer_write(struct session *session, struct answer *answer)
{
    const int err = lost_write(session, STORE_SYNC, answer_done, answer);
    if (err == 0)
        answer->writes++;
    else if (answer->err == 0)
        answer->err = err;
}

/* Answers when broker->txn is durable, or at once when there was nothing to write. Takes `answer`.
 */
static void answer_when_durable(struct session *session, struct answer *answer)
{
#ifdef MUTATION_KILL_NO_SUB_ROW
    txn_clear(&session->broker->txn);
#endif
    if (session->broker->txn.count > 0)
        answer_write(session, answer);
    if (answer->writes > 0)
        return;
    if (answer->err == 0)
        answer_send(session, answer);
    else
        session_kick(session, REASON_QUOTA_EXCEEDED, STORE_TEXT);
    mem_free(answer);
}

/* --- SUBSCRIBE
 * ------------------------------------------------------------------------------------ */

/* Such as # and +/#, which cover every other filter. */
static bool all_wildcards(struct slice filter)
{
    struct slice level;
    uint32_t pos = 0;
    while (topic_next_level(filter, &pos, &level)) {
        if (!topic_has_wildcard(level))
            return false;
    }
    return true;
}

/* An entry denies itself and the filters it covers; one of wildcards only denies just itself, or
 * nobody could subscribe to anything. Wider filters than the entry are not denied. */
static bool filter_denied(const struct broker *broker, struct slice filter)
{
    for (size_t i = 0; i < broker->config.deny_subscribe_count; i++) {
        const struct slice denied = slice_str(broker->config.deny_subscribe[i]);
        if (slice_equal(denied, filter) || (!all_wildcards(denied) && topic_covers(denied, filter)))
            return true;
    }
    return false;
}

/* Says why in `text`, unless it says something already. */
static void set_text(char *text, const char *why)
{
    if (text[0] == '\0')
        (void)snprintf(text, TOPIC_TEXT_SIZE, "%s", why);
}

/* The reason why the filter's first level stands in the way, or 0. Fills text when it is missing.
 */
static uint8_t filter_refusal(struct broker *broker, struct slice filter, char *text)
{
    const struct slice first = topic_first(filter);
    struct topic *topic;
    if (topic_has_wildcard(first) || topic_is_system(first))
        return 0;
    const int err = topic_admit(broker, first, &topic);
    if (err == ERR_NOTFOUND && text[0] == '\0')
        (void)topic_missing_text(first, text);
    if (err == ERR_UNAVAILABLE)
        set_text(text, STORE_TEXT);
    if (err == ERR_FULL || err == ERR_UNAVAILABLE)
        return REASON_QUOTA_EXCEEDED;
    return err < 0 ? REASON_FILTER_INVALID : 0;
}

struct wanted {
    struct subscribe_entry entry;
    struct slice filter, group; /* without $share/; group empty when not shared */
    uint32_t id;
    uint16_t packet_id;
};

static struct group *wanted_group(struct broker *broker, struct filter *filter,
                                  const struct wanted *wanted)
{
    struct group *group = group_find(filter, wanted->group);
    if (group)
        return group;
    const uint64_t number = core_new_number(broker);
    return number ? group_new(broker, filter, wanted->group, number) : NULL;
}

/* A new position: from now on. */
static void sub_begin(struct sub *sub)
{
    sub->begin_position =
        sub->group ? 0 : core_head(sub->session->broker); /* a group has its own */
    sub->end_position = UINT64_MAX;
    sub->drained = false;
}

/* It was unsubscribed and is not drained yet: what waits from before still comes, what came in
 * between does not. */
static void sub_return(struct sub *sub)
{
    if (sub->hole_end == 0)
        sub->hole_begin = sub->end_position;
    sub->hole_end = core_head(sub->session->broker);
    sub->end_position = UINT64_MAX;
    sub->drained = false;
}

static void sub_set_options(struct sub *sub, const struct wanted *wanted)
{
    const struct subscribe_entry *entry = &wanted->entry;
    sub_set_qos(sub, entry->qos);
    session_pump(sub->session);
    sub->id = wanted->id;
    sub->flags = (uint8_t)((entry->no_local ? SUB_NO_LOCAL : 0) |
                           (entry->retain_as_published ? SUB_RETAIN_AS_PUBLISHED : 0) |
                           (sub->flags & SUB_RETAIN_PENDING));
}

/* Makes or changes one subscription. Returns it, or NULL when no number could be had. */
static struct sub *subscribe_make(struct session *session, const struct wanted *wanted,
                                  bool *ret_new)
{
    struct broker *broker = session->broker;
    struct filter *filter = filter_get(broker, wanted->filter, 0);
    if (!filter)
        return NULL;
    struct group *group = NULL;
    const bool needs_queue = wanted->group.size > 0 || wanted->entry.qos > 0;
    if (needs_queue && filter_need_queue(broker, filter) < 0)
        goto failed;
    if (wanted->group.size > 0 && !(group = wanted_group(broker, filter, wanted)))
        goto failed;
    struct sub *sub = sub_find(session, filter, group);
    *ret_new = sub == NULL;
    const bool returns = sub && sub->end_position != UINT64_MAX;
    if (returns)
        sub_return(sub);
    if (!sub) {
        sub = sub_new(session, filter, group);
        if (!group)
            sub_attach(sub);
    }
    /* One that begins to read the queue takes no part in what was published before. */
    if (*ret_new || (!group && wanted->entry.qos > 0 && !sub_reads_queue(sub)))
        sub_begin(sub);
    *ret_new |= returns;
    sub->denied = false;
    sub_set_options(sub, wanted);
    if (group)
        group_member_online(group, session);
    filter_tidy(broker, filter);
    return sub;
failed:
    filter_tidy(broker, filter);
    return NULL;
}

static uint8_t subscribe_check(struct session *session, const struct wanted *wanted, char *text)
{
    struct broker *broker = session->broker;
    if (filter_denied(broker, wanted->filter))
        return REASON_NOT_AUTHORIZED;
    if (topic_filter_check(wanted->filter, broker->config.topic_levels_max) < 0)
        return REASON_FILTER_INVALID;
    if (!rights_subscribe(session, wanted->filter, wanted->entry.qos))
        return REASON_NOT_AUTHORIZED;
    const uint8_t refusal = filter_refusal(broker, wanted->filter, text);
    if (refusal)
        return refusal;
    if (session->durable && !broker->writable) {
        set_text(text, STORE_TEXT);
        return REASON_QUOTA_EXCEEDED;
    }
    const struct filter *filter = filter_find(broker, wanted->filter);
    const struct group *group = filter ? group_find(filter, wanted->group) : NULL;
    const bool known =
        filter && (wanted->group.size == 0 || group) && sub_find(session, filter, group);
    const uint32_t own = session->sub_count - (session->p2p ? 1 : 0);
    if (!known && own >= broker->config.filters_per_client_max) {
        metric_add(&broker->deps.metrics->limit_filters_per_client, 1);
        set_text(text, "limits.filters_per_client is reached");
        return REASON_QUOTA_EXCEEDED;
    }
    if (!known && broker->sub_count >= broker->config.subscriptions_max) {
        metric_add(&broker->deps.metrics->limit_subscriptions, 1);
        set_text(text, "limits.subscriptions is reached");
        return REASON_QUOTA_EXCEEDED;
    }
    if ((!known && core_is_full(broker)) ||
        txn_reserve(&broker->txn, SUB_ROWS * (TXN_ROW_ROOM + wanted->entry.filter.size)) < 0) {
        set_text(text, "memory.limit is reached");
        return REASON_QUOTA_EXCEEDED;
    }
    return 0;
}

/* One entry. Returns its SUBACK code, and in text, when that is empty, what there is to say. */
static uint8_t subscribe_one(struct session *session, struct wanted *wanted, char *text)
{
    struct broker *broker = session->broker;
    struct topic_share share = {.group = slice_of("", 0)};
    wanted->filter = wanted->entry.filter;
    wanted->group = share.group;
    const int shared = topic_share_parse(wanted->entry.filter, &share);
    if (shared == ERR_INVALID)
        return REASON_FILTER_INVALID;
    if (shared == 0) {
        wanted->filter = share.filter;
        wanted->group = share.group;
    }
    const uint8_t refusal = subscribe_check(session, wanted, text);
    if (refusal)
        return refusal;
    bool is_new = false;
    struct sub *sub = subscribe_make(session, wanted, &is_new);
    if (!sub) {
        set_text(text, broker->writable ? "memory.limit is reached" : STORE_TEXT);
        return REASON_QUOTA_EXCEEDED;
    }
    /* [MQTT5-3.3.1-9] [MQTT5-3.3.1-10] [MQTT5-3.3.1-11] none for shared ones */
    const uint8_t handling = wanted->entry.retain_handling;
    const bool wants_retained = !sub->group && (handling == 0 || (handling == 1 && is_new));
    if (wants_retained)
        retained_job_start(sub, core_head(broker), wanted->packet_id);
    if (session->durable) {
        row_put_sub(&broker->txn, sub);
        if (sub->group) {
            row_put_group(&broker->txn, sub->group);
            row_put_cursor(&broker->txn, &sub->group->cursor);
        }
        if (sub_reads_queue(sub))
            row_put_cursor(&broker->txn, &sub->cursor);
    }
    if (wants_retained && topic_is_system(topic_first(wanted->filter)))
        sys_subscribed(broker->sys, sub);
    return wanted->entry.qos;
}

/* Spec: [MQTT3-3.8.4-1] to [MQTT3-3.8.4-6], [MQTT5-3.8.4-1] to [MQTT5-3.8.4-8] */
void link_subscribe(struct link *link, const struct packet_subscribe *packet)
{
    struct session *session = link->session;
    if (!session || session->opening)
        return;
    ASSERT(session->broker->txn.count == 0);
    struct answer *answer = answer_new(link, packet->count, packet->packet_id);
    if (!answer)
        return;
    struct wanted wanted = {.id = packet->props.sub_id, .packet_id = packet->packet_id};
    uint32_t pos = 0, count = 0;
    const bool over = !throttle_subscribe(session->broker);
    if (over)
        set_text(answer->text, "limits.subscribe_rate is reached");
    while (subscribe_next(packet, &pos, &wanted.entry)) {
        answer->codes[count++] =
            over ? REASON_QUOTA_EXCEEDED : subscribe_one(session, &wanted, answer->text);
        if (txn_is_large(&session->broker->txn))
            answer_write(session, answer);
    }
    ASSERT(count == packet->count);
    answer_when_durable(session, answer);
}

/* --- UNSUBSCRIBE ---------------------------------------------------------------------------------
 */

/* A message that overlapping subscriptions left to this one must still come, and what it delivered
 * they must not: it is drained first, and goes when they have caught up. */
static bool sub_must_drain(const struct sub *sub)
{
    return sub_reads_queue(sub) && sub->session->sub_count > 1 &&
           (sub_lag(sub) > 0 || !list_empty(&sub->session->lagging));
}

static void sub_end(struct sub *sub)
{
    struct broker *broker = sub->session->broker;
    if (!sub_must_drain(sub)) {
        session_put_cursors(sub->session);
        sub_remove(sub);
        return;
    }
    sub->end_position = core_head(broker);
    sub_mark_lagging(sub);
    retained_jobs_cancel(sub->session, sub);
    if (sub->session->durable)
        row_put_sub(&broker->txn, sub);
    session_pump(sub->session);
}

static uint8_t unsubscribe_one(struct session *session, struct slice text)
{
    struct topic_share share;
    const bool shared = topic_share_parse(text, &share) == 0;
    struct filter *filter = filter_find(session->broker, shared ? share.filter : text);
    if (!filter)
        return REASON_NO_SUBSCRIPTION;
    if (session->durable && !session->broker->writable && session->version >= 5)
        return REASON_IMPLEMENTATION; /* UNSUBACK has no better code; nothing is changed */
    struct group *group = shared ? group_find(filter, share.group) : NULL;
    struct sub *sub = shared && !group ? NULL : sub_find(session, filter, group);
    if (!sub || sub->end_position != UINT64_MAX)
        return REASON_NO_SUBSCRIPTION;
    sub_end(sub);
    return REASON_SUCCESS;
}

/* Spec: [MQTT3-3.10.4-1] to [MQTT3-3.10.4-6], [MQTT5-3.10.4-1] to [MQTT5-3.10.4-6] */
void link_unsubscribe(struct link *link, const struct packet_unsubscribe *packet)
{
    struct session *session = link->session;
    if (!session || session->opening)
        return;
    ASSERT(session->broker->txn.count == 0);
    struct answer *answer = answer_new(link, packet->count, packet->packet_id);
    if (!answer)
        return;
    answer->unsubscribe = true;
    uint32_t pos = 0, count = 0;
    struct slice filter;
    /* UNSUBACK knows no exceeded quota; nothing is changed. */
    const bool over = !throttle_unsubscribe(link);
    while (unsubscribe_next(packet, &pos, &filter)) {
        answer->codes[count++] = over ? REASON_IMPLEMENTATION : unsubscribe_one(session, filter);
        if (txn_is_large(&session->broker->txn))
            answer_write(session, answer);
    }
    ASSERT(count == packet->count);
    answer_when_durable(session, answer);
}
