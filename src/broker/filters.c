/* Topic filters in use, and their queues. */
#include "broker/core_priv.h"

#include "base/mem.h"

static bool filter_has_queue(const struct hashnode *node, const void *key)
{
    return CONTAINER_OF(node, struct filter, by_queue)->queue_id == *(const uint32_t *)key;
}

struct filter *filter_by_queue(const struct broker *broker, uint32_t queue_id)
{
    struct hashnode *node =
        hashmap_find(&broker->filters_by_queue, hash_u64(queue_id), filter_has_queue, &queue_id);
    return node ? CONTAINER_OF(node, struct filter, by_queue) : NULL;
}

struct filter *filter_find(struct broker *broker, struct slice text)
{
    return trie_find(broker->trie, text);
}

static void filter_set_queue(struct broker *broker, struct filter *filter, uint32_t queue_id)
{
    filter->queue_id = queue_id;
    hashmap_insert(&broker->filters_by_queue, &filter->by_queue, hash_u64(queue_id));
    metric_add(&broker->deps.metrics->queues, 1);
}

/* Takes the text over, or for a private one refers to it. */
static struct filter *filter_new(struct broker *broker, struct slice text, uint32_t queue_id)
{
    struct filter *filter = mem_new(sizeof *filter);
    filter->text = text;
    list_init(&filter->live);
    list_init(&filter->groups);
    if (queue_id)
        filter_set_queue(broker, filter, queue_id);
    return filter;
}

static void filter_free(struct broker *broker, struct filter *filter)
{
    if (filter->queue_id) {
        hashmap_remove(&broker->filters_by_queue, &filter->by_queue);
        metric_add(&broker->deps.metrics->queues, -1);
    }
    if (!filter->is_private)
        core_free(&filter->text);
    mem_free(filter);
}

struct filter *filter_get(struct broker *broker, struct slice text, uint32_t queue_id)
{
    struct filter *filter = filter_find(broker, text);
    if (filter) {
        if (queue_id && !filter->queue_id)
            filter_set_queue(broker, filter, queue_id);
        return filter;
    }
    struct slice copy;
    if (core_copy(text, &copy) < 0)
        return NULL;
    filter = filter_new(broker, copy, queue_id);
    if (trie_insert(broker->trie, filter->text, filter) < 0) {
        filter_free(broker, filter);
        return NULL;
    }
    return filter;
}

struct filter *filter_new_private(struct broker *broker, struct slice client_id, uint32_t queue_id)
{
    ASSERT(queue_id);
    struct filter *filter = filter_new(broker, client_id, queue_id);
    filter->is_private = true;
    return filter;
}

int filter_need_queue(struct broker *broker, struct filter *filter)
{
    if (filter->queue_id)
        return 0;
    const uint32_t queue_id = core_new_queue_id(broker);
    if (queue_id == 0)
        return ERR_UNAVAILABLE;
    filter_set_queue(broker, filter, queue_id);
    return 0;
}

void filter_tidy(struct broker *broker, struct filter *filter)
{
    if (filter->queue_id && filter->queue_sub_count == 0) {
        hashmap_remove(&broker->filters_by_queue, &filter->by_queue);
        metric_add(&broker->deps.metrics->queues, -1);
        if (filter->queue_has_rows)
            progress_drop_queue(broker, filter->queue_id);
        else if (!broker->closing) /* then the store is closed already */
            store_queue_drop(broker->deps.store, filter->queue_id);
        filter->queue_id = 0;
        filter->queue_has_rows = false;
    }
    if (filter->sub_count > 0)
        return;
    if (!filter->is_private) {
        void *removed = trie_remove(broker->trie, filter->text);
        ASSERT(removed == filter);
    }
    filter_free(broker, filter);
}
