/* First-level topics: managed objects that messages and subscriptions need. */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "broker/rows.h"

#include <stdio.h>
#include <string.h>

#define TOPIC_SHOWN_MAX 80u /* bytes of a name that an answer repeats */

static bool topic_has_name(const struct hashnode *node, const void *key)
{
    return slice_equal(CONTAINER_OF(node, struct topic, by_name)->name, *(const struct slice *)key);
}

static bool topic_has_id(const struct hashnode *node, const void *key)
{
    return CONTAINER_OF(node, struct topic, by_id)->id == *(const uint32_t *)key;
}

struct topic *topic_find(const struct broker *broker, struct slice name)
{
    struct hashnode *node = hashmap_find(&broker->topics_by_name, hash_bytes(name.bytes, name.size),
                                         topic_has_name, &name);
    return node ? CONTAINER_OF(node, struct topic, by_name) : NULL;
}

struct topic *topic_by_id(struct broker *broker, uint32_t id)
{
    if (broker->topic_latest && broker->topic_latest->id == id)
        return broker->topic_latest;
    struct hashnode *node = hashmap_find(&broker->topics_by_id, hash_u64(id), topic_has_id, &id);
    if (!node)
        return NULL;
    broker->topic_latest = CONTAINER_OF(node, struct topic, by_id);
    return broker->topic_latest;
}

static int topic_order(const struct treenode *node, const void *key)
{
    return slice_order(CONTAINER_OF(node, const struct topic, by_order)->name,
                       *(const struct slice *)key);
}

void topics_init(struct broker *broker)
{
    tree_init(&broker->topics_sorted, topic_order);
}

static struct topic *topic_of(struct treenode *node)
{
    return node ? CONTAINER_OF(node, struct topic, by_order) : NULL;
}

struct topic *topic_first_of(const struct broker *broker)
{
    return topic_of(tree_first(&broker->topics_sorted));
}

struct topic *topic_above(const struct broker *broker, struct slice name)
{
    return topic_of(tree_above(&broker->topics_sorted, &name));
}

struct topic *topic_next(const struct topic *topic)
{
    return topic_of(tree_next(&topic->by_order));
}

struct topic *topic_add(struct broker *broker, struct slice name, uint32_t id, uint64_t created_ms,
                        struct slice remark)
{
    ASSERT(id != 0);
    struct topic *topic = mem_new(sizeof *topic);
    if (core_copy(name, &topic->name) < 0 || core_copy(remark, &topic->remark) < 0) {
        core_free(&topic->name);
        mem_free(topic);
        return NULL;
    }
    topic->created_ms = created_ms;
    topic->id = id;
    hashmap_insert(&broker->topics_by_name, &topic->by_name, hash_bytes(name.bytes, name.size));
    hashmap_insert(&broker->topics_by_id, &topic->by_id, hash_u64(id));
    tree_insert(&broker->topics_sorted, &topic->by_order, &topic->name);
    broker->topic_count++;
    metric_add(&broker->deps.metrics->topics, 1);
    return topic;
}

void topic_remove(struct broker *broker, struct topic *topic)
{
    hashmap_remove(&broker->topics_by_name, &topic->by_name);
    hashmap_remove(&broker->topics_by_id, &topic->by_id);
    if (broker->topic_latest == topic)
        broker->topic_latest = NULL;
    tree_remove(&broker->topics_sorted, &topic->by_order);
    broker->topic_count--;
    metric_add(&broker->deps.metrics->topics, -1);
    core_free(&topic->name);
    core_free(&topic->remark);
    mem_free(topic);
}

bool topic_is_system(struct slice first)
{
    return slice_equal(first, slice_str("$SYS")) || slice_equal(first, slice_str("$events"));
}

static bool name_is_strict(struct slice name)
{
    if (name.size < 3 || name.size > 100)
        return false;
    for (uint32_t i = 0; i < name.size; i++) {
        const uint8_t c = name.bytes[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        if (!letter && !(c >= '0' && c <= '9') && c != '-' && c != '_')
            return false;
    }
    return true;
}

const char *topic_refusal(const struct broker *broker, struct slice first)
{
    if (topic_is_system(first) || slice_equal(first, slice_str("$share")))
        return "the names $SYS, $events and $share belong to the server";
    if (broker->config.topics_strict_names && !name_is_strict(first))
        return "a first-level topic has 3 to 100 characters of letters, digits, '-' and '_'";
    if (memchr(first.bytes, '/', first.size) || memchr(first.bytes, '#', first.size) ||
        memchr(first.bytes, '+', first.size))
        return "a first-level topic has no '/', '#' or '+'";
    return NULL;
}

const char *topic_missing_text(struct slice first, char *text)
{
    if (first.size == 0 || first.size > TOPIC_SHOWN_MAX)
        (void)snprintf(text, TOPIC_TEXT_SIZE,
                       "the first-level topic does not exist; create it with: tidemq topic create");
    else
        (void)snprintf(text, TOPIC_TEXT_SIZE,
                       "the first-level topic '%.*s' does not exist; create it with: "
                       "tidemq topic create %.*s",
                       (int)first.size, (const char *)first.bytes, (int)first.size,
                       (const char *)first.bytes);
    return text;
}

/* The row of an automatically created topic goes out in front of the record that needs it, which
 * fails when it does. */
static void topic_written(struct broker *broker, void *data, int err)
{
    const uint32_t id = (uint32_t)(uintptr_t)data;
    struct topic *topic = topic_by_id(broker, id);
    if (topic && err < 0)
        topic->row_missing = true;
}

static int topic_write(struct broker *broker, struct topic *topic)
{
    struct txn kept = broker->txn;
    broker->txn = (struct txn){.parts = NULL};
    row_put_topic(&broker->txn, topic);
    const int err = core_write(broker, STORE_LAZY, topic_written, (void *)(uintptr_t)topic->id);
    txn_done(&broker->txn);
    broker->txn = kept;
    topic->row_missing = err < 0;
    return err;
}

int topic_admit(struct broker *broker, struct slice name, struct topic **ret_topic)
{
    struct topic *topic = topic_find(broker, name);
    if (topic) {
        if (topic->row_missing && topic_write(broker, topic) < 0)
            return ERR_UNAVAILABLE;
        *ret_topic = topic;
        return 0;
    }
    if (!broker->config.topics_auto_create)
        return ERR_NOTFOUND;
    if (topic_refusal(broker, name))
        return ERR_INVALID;
    if (broker->topic_count >= broker->config.topics_max)
        metric_add(&broker->deps.metrics->limit_topics, 1);
    if (broker->topic_count >= broker->config.topics_max || core_is_full(broker))
        return ERR_FULL;
    const uint32_t id = core_new_queue_id(broker);
    if (id == 0)
        return ERR_UNAVAILABLE;
    topic = topic_add(broker, name, id, core_wall_ms(broker), slice_of("", 0));
    if (!topic)
        return ERR_FULL;
    if (topic_write(broker, topic) < 0) {
        topic_remove(broker, topic);
        return ERR_UNAVAILABLE;
    }
    *ret_topic = topic;
    return 0;
}
