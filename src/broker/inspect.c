/* What administrators see and do: a view of the core's tables. */
#include "broker/inspect.h"
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"
#include "mqtt/topic.h"

#include <stdio.h>
#include <string.h>

#define DELETE_OPS_MAX 4096u

/* --- topics
 * ------------------------------------------------------------------------------------------ */

static void topic_describe(const struct broker *broker, const struct topic *topic,
                           struct topic_info *ret_info)
{
    uint64_t first, next;
    store_queue_bounds(broker->deps.store, topic->id, &first, &next);
    *ret_info = (struct topic_info){
        .name = topic->name,
        .remark = topic->remark,
        .created_ms = topic->created_ms,
        .id = topic->id,
        .messages = next - first,
        .retained = topic->retained_count,
        .subscriptions = topic->sub_count,
    };
}

size_t inspect_topics(struct broker *broker, struct slice after, size_t limit, topic_each_fn *each,
                      void *data)
{
    size_t count = 0;
    const struct topic *topic = after.size ? topic_above(broker, after) : topic_first_of(broker);
    for (; topic && count < limit; topic = topic_next(topic), count++) {
        struct topic_info info;
        topic_describe(broker, topic, &info);
        each(data, &info);
    }
    return count;
}

uint64_t inspect_topic_count(const struct broker *broker)
{
    return broker->topic_count;
}

int inspect_topic(struct broker *broker, struct slice name, struct topic_info *ret_info)
{
    const struct topic *topic = topic_find(broker, name);
    if (!topic)
        return ERR_NOTFOUND;
    topic_describe(broker, topic, ret_info);
    return 0;
}

/* An administrator's request that waits for the log. */
struct request {
    inspect_done_fn *done;
    void *data;
    uint32_t topic_id; /* created, to be taken back when it fails */
};

static void request_done(struct broker *broker, void *data, int err)
{
    const struct request request = *(struct request *)data;
    mem_free(data);
    struct topic *topic = request.topic_id ? topic_by_id(broker, request.topic_id) : NULL;
    if (err < 0 && topic)
        topic->row_missing = true;
    request.done(request.data, err, err < 0 ? err_text(err) : NULL);
}

/* Submits broker->txn; done runs when it is durable. Returns 0 or the error, done not called. */
static int request_submit(struct broker *broker, inspect_done_fn *done, void *data,
                          uint32_t topic_id)
{
    struct request *request = mem_new(sizeof *request);
    *request = (struct request){.done = done, .data = data, .topic_id = topic_id};
    const int err = core_write(broker, STORE_SYNC, request_done, request);
    if (err < 0)
        mem_free(request);
    return err;
}

static int topic_create_check(struct broker *broker, struct slice name, const char **ret_detail)
{
    *ret_detail = topic_refusal(broker, name);
    if (*ret_detail)
        return ERR_INVALID;
    if (name.size > 0 && topic_name_check(name, TOPIC_NO_LIMIT) < 0) {
        *ret_detail = "a first-level topic is UTF-8 without U+0000, at most 65535 bytes";
        return ERR_INVALID;
    }
    if (topic_find(broker, name)) {
        *ret_detail = "the topic exists already";
        return ERR_EXISTS;
    }
    if (broker->topic_count >= broker->config.topics_max) {
        *ret_detail = "there are as many topics as limits.topics allows";
        return ERR_FULL;
    }
    return 0;
}

void inspect_topic_create(struct broker *broker, struct slice name, struct slice remark,
                          inspect_done_fn *done, void *data)
{
    const char *detail = NULL;
    int err = topic_create_check(broker, name, &detail);
    const uint32_t id = err < 0 ? 0 : core_new_queue_id(broker);
    if (err == 0 && id == 0)
        err = ERR_UNAVAILABLE;
    if (err < 0) {
        done(data, err, detail ? detail : err_text(err));
        return;
    }
    struct topic *topic = topic_add(broker, name, id, core_wall_ms(broker), remark);
    if (!topic) {
        done(data, ERR_NOMEM, err_text(ERR_NOMEM));
        return;
    }
    row_put_topic(&broker->txn, topic);
    err = request_submit(broker, done, data, id);
    if (err < 0) {
        topic_remove(broker, topic);
        done(data, err, err_text(err));
    }
}

void inspect_topic_modify(struct broker *broker, struct slice name, struct slice remark,
                          inspect_done_fn *done, void *data)
{
    struct topic *topic = topic_find(broker, name);
    struct slice copy;
    int err = topic ? core_copy(remark, &copy) : ERR_NOTFOUND;
    if (err == 0) {
        core_free(&topic->remark);
        topic->remark = copy;
        row_put_topic(&broker->txn, topic);
        err = request_submit(broker, done, data, 0);
    }
    if (err < 0)
        done(data, err, err_text(err));
}

/* Names that the deletion of a topic needs: what they are copied from goes meanwhile. */
struct names {
    struct slice name, filter; /* in `text`: the topic's name, and "name/#" */
    uint8_t text[TOPIC_SIZE_MAX + 2], after[TOPIC_SIZE_MAX];
};

static struct slice copy_into(uint8_t *room, struct slice bytes)
{
    ASSERT(bytes.size <= TOPIC_SIZE_MAX);
    if (bytes.size)
        memcpy(room, bytes.bytes, bytes.size);
    return slice_of(room, bytes.size);
}

static struct names *names_new(struct slice name)
{
    struct names *names = mem_try_alloc(sizeof *names);
    if (!names)
        return NULL;
    names->name = copy_into(names->text, name);
    memcpy(names->text + name.size, "/#", 2);
    names->filter = slice_of(names->text, name.size + 2);
    return names;
}

/* Retained messages of a topic that is gone; rows go in records of bounded size, and those that a
 * crash leaves are swept at the next start. */
static void topic_drop_retained(struct broker *broker, struct names *names)
{
    struct slice after = slice_of("", 0), found = slice_of("", 0);
    while (retained_next(broker->retained, names->filter, after, UINT32_MAX, &found)) {
        after = copy_into(names->after, found);
        retained_drop(broker, after);
        if (broker->txn.count >= DELETE_OPS_MAX)
            core_write_lazy(broker);
    }
}

/* Clients that stay subscribed have nothing of the old topic waiting any more. */
static void topic_skip_backlog(struct broker *broker, struct slice name)
{
    list_each (it, &broker->session_list) {
        struct session *session = CONTAINER_OF(it, struct session, node);
        list_each (at, &session->subs) {
            struct sub *sub = CONTAINER_OF(at, struct sub, session_node);
            struct cursor *cursor = sub->group ? &sub->group->cursor : &sub->cursor;
            if (cursor->queue_id == 0 || !slice_equal(topic_first(sub->filter->text), name))
                continue;
            uint64_t first, next;
            store_queue_bounds(broker->deps.store, cursor->queue_id, &first, &next);
            cursor_advance(broker, cursor, MAX(cursor->next_seq, next));
        }
    }
}

void inspect_topic_delete(struct broker *broker, struct slice name, bool force,
                          inspect_done_fn *done, void *data)
{
    struct topic *topic = topic_find(broker, name);
    if (!topic) {
        done(data, ERR_NOTFOUND, "there is no such topic");
        return;
    }
    if (topic->sub_count > 0 && !force) {
        char detail[96];
        (void)snprintf(detail, sizeof detail,
                       "%llu subscriptions use it; delete it all the same with --force",
                       (unsigned long long)topic->sub_count);
        done(data, ERR_DENIED, detail);
        return;
    }
    struct names *names = names_new(topic->name);
    int err = names ? 0 : ERR_NOMEM;
    if (names) {
        /* The row first: whatever is left after a crash belongs to no topic. */
        row_delete_topic(&broker->txn, topic->name);
        err = request_submit(broker, done, data, 0);
    }
    if (err < 0) {
        mem_free(names);
        done(data, err, err_text(err));
        return;
    }
    topic_drop_retained(broker, names);
    core_write_lazy(broker);
    topic_skip_backlog(broker, names->name);
    store_queue_drop(broker->deps.store, topic->id);
    topic_remove(broker, topic);
    mem_free(names);
}

/* --- clients
 * ----------------------------------------------------------------------------------------- */

static void client_describe(const struct session *session, struct client_info *ret_info)
{
    *ret_info = (struct client_info){
        .client_id = session->client_id,
        .username = session->username,
        .address = session->link ? session->link->address : "",
        .version = session->version,
        .online = session->link != NULL,
        .clean_start = session->clean_start,
        .keep_alive_s = session->keep_alive_s,
        .expiry_s = session->expiry_s,
        .created_ms = session->created_ms,
        .connected_ms = session->connected_ms,
        .disconnected_ms = session->disconnected_ms,
        .inflight = session->outbound.count,
        .trimmed = session->trimmed,
        .subscription_count = session->sub_count - (session->p2p ? 1 : 0),
        .has_will = session->will != NULL,
    };
}

static bool client_wanted(const struct session *session, enum client_filter filter)
{
    if (filter == CLIENT_ANY)
        return true;
    return (filter == CLIENT_ONLINE) == (session->link != NULL);
}

size_t inspect_clients(struct broker *broker, struct slice after, size_t limit,
                       enum client_filter filter, client_each_fn *each, void *data)
{
    size_t count = 0;
    const struct session *session = session_above(broker, after);
    for (; session && count < limit; session = session_next(session)) {
        if (!client_wanted(session, filter))
            continue;
        struct client_info info;
        client_describe(session, &info);
        each(data, &info);
        count++;
    }
    return count;
}

static void subscription_describe(struct broker *broker, const struct sub *sub,
                                  subscription_each_fn *each, void *data)
{
    uint32_t inflight = 0;
    const struct cursor *cursor = sub->group ? &sub->group->cursor : &sub->cursor;
    list_each (it, &cursor->open) {
        const struct inflight *open = CONTAINER_OF(it, struct inflight, cursor_node);
        inflight += open->session == sub->session;
    }
    txn_clear(&broker->txn);
    txn_begin(&broker->txn, META_DELETE);
    row_filter_text(&broker->txn, sub->filter, sub->group);
    const struct subscription_info info = {
        .filter = txn_ops(&broker->txn)[0].key,
        .qos = sub->qos,
        .lag = sub_lag(sub),
        .inflight = inflight,
    };
    each(data, &info);
    txn_clear(&broker->txn);
}

int inspect_client(struct broker *broker, struct slice client_id, struct client_info *ret_info,
                   subscription_each_fn *each, void *data)
{
    const struct session *session = session_find(broker, client_id);
    if (!session)
        return ERR_NOTFOUND;
    client_describe(session, ret_info);
    ret_info->subscription_count = 0;
    list_each (it, &session->subs) {
        const struct sub *sub = CONTAINER_OF(it, struct sub, session_node);
        /* One that was unsubscribed and is being drained is none any more. */
        if (sub->filter->is_private || sub->end_position != UINT64_MAX)
            continue;
        ret_info->subscription_count++;
        if (each)
            subscription_describe(broker, sub, each, data);
    }
    return 0;
}

void inspect_client_kick(struct broker *broker, struct slice client_id, bool delete_session,
                         inspect_done_fn *done, void *data)
{
    struct session *session = session_find(broker, client_id);
    if (!session) {
        done(data, ERR_NOTFOUND, "there is no such client");
        return;
    }
    const uint64_t number = session->number;
    session_kick(session, REASON_ADMINISTRATIVE, NULL); /* 0x98 */
    session = session_by_number(broker, number);
    int err = 0;
    if (delete_session && session) {
        session_discard(session);
        if (broker->txn.count > 0) {
            err = request_submit(broker, done, data, 0);
            if (err == 0)
                return;
        }
    }
    done(data, err, err < 0 ? err_text(err) : NULL);
}

void inspect_store(struct broker *broker, struct store_stats *ret_stats)
{
    broker->deps.store->ops->stats(broker->deps.store, ret_stats);
}

uint64_t inspect_uptime_ms(const struct broker *broker)
{
    return core_now_ms(broker) - broker->started_ms;
}
