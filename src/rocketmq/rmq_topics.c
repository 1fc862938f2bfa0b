/* Topics: the routes that are known. A route that cannot be asked for stays as it is; one that was
 * not used for a while is forgotten. */
#include "base/mem.h"
#include "rocketmq/rmq_client_priv.h"

#include <string.h>

enum { MOMENT_MS = 200, FORGOTTEN_MS = 600 * 1000 };

static bool has_name(const struct hashnode *node, const void *key)
{
    return strcmp(CONTAINER_OF(node, struct rmq_topic, node)->name, key) == 0;
}

int rmq_topics_get(struct rmq_client *client, const char *name, struct rmq_topic **ret_topic)
{
    const size_t size = strlen(name);
    if (size == 0 || size >= RMQ_NAME_SIZE_MAX)
        return ERR_INVALID;
    const uint64_t hash = hash_bytes(name, size);
    struct hashnode *node = hashmap_find(&client->topics, hash, has_name, name);
    struct rmq_topic *topic = node ? CONTAINER_OF(node, struct rmq_topic, node) : NULL;
    if (!topic) {
        if (client->topics.count >= RMQ_TOPICS_MAX)
            return ERR_FULL;
        topic = mem_new(sizeof *topic + size + 1);
        topic->client = client;
        list_init(&topic->waiters);
        memcpy(topic->name, name, size + 1);
        hashmap_insert(&client->topics, &topic->node, hash);
    }
    topic->used_ms = loop_now_ms(client->net.loop);
    *ret_topic = topic;
    return 0;
}

static void topic_free(struct rmq_topic *topic)
{
    ASSERT(list_empty(&topic->waiters) && !topic->fetch);
    (void)rmq_route_free(topic->route);
    mem_free(topic);
}

/* Who comes to wait meanwhile waits for the next answer. */
static void wake_waiters(struct rmq_topic *topic, const struct rmq_result *failure)
{
    struct list waiters;
    list_init(&waiters);
    list_take(&topic->waiters, &waiters);
    while (!list_empty(&waiters))
        rmq_call_routed(rmq_call_of_waiter(waiters.next), failure);
}

static void on_route(void *data, const struct rmq_result *result)
{
    struct rmq_topic *topic = data;
    struct rmq_result failure = *result;
    struct rmq_route *route = NULL;
    topic->fetch = NULL;
    topic->fetched_ms = loop_now_ms(topic->client->net.loop);
    if (result->outcome == RMQ_DONE && rmq_route_parse(result->body, &route, &failure.why) < 0)
        failure.outcome = RMQ_UNKNOWN;
    if (route || result->outcome == RMQ_NO_ROUTE) { /* without one: the topic is gone */
        (void)rmq_route_free(topic->route);
        topic->route = route;
    }
    wake_waiters(topic, topic->route ? NULL : &failure);
}

int rmq_topic_refresh(struct rmq_topic *topic)
{
    struct rmq_client *client = topic->client;
    const uint64_t now_ms = loop_now_ms(client->net.loop);
    if (topic->fetch || (topic->route && now_ms < topic->fetched_ms + MOMENT_MS))
        return 0;
    struct rmq_fields fields;
    rmq_fields_clear(&fields);
    rmq_fields_add_text(&fields, "topic", topic->name);
    rmq_fields_add_bool(&fields, "acceptStandardJsonOnly", true);
    const struct rmq_call_spec spec = {
        .kind = RMQ_TO_NAMESRV,
        .code = RMQ_GET_ROUTEINFO_BY_TOPIC,
        .fields = &fields,
        .is_repeatable = true,
    };
    client->counters.route_fetches++;
    return rmq_call_start(client, &spec, on_route, topic, &topic->fetch);
}

void rmq_topics_refresh(struct rmq_client *client)
{
    const uint64_t now_ms = loop_now_ms(client->net.loop);
    struct hashnode *node = NULL;
    for (uint64_t pos = 0; (node = hashmap_next(&client->topics, &pos, node));) {
        struct rmq_topic *topic = CONTAINER_OF(node, struct rmq_topic, node);
        const bool is_idle = !topic->fetch && list_empty(&topic->waiters);
        if (is_idle && now_ms >= topic->used_ms + FORGOTTEN_MS) {
            hashmap_remove(&client->topics, &topic->node);
            topic_free(topic);
        } else if (topic->route) {
            (void)!rmq_topic_refresh(topic);
        }
    }
}

void rmq_topics_lost(struct rmq_client *client, const char *address)
{
    struct hashnode *node = NULL;
    for (uint64_t pos = 0; (node = hashmap_next(&client->topics, &pos, node));) {
        struct rmq_topic *topic = CONTAINER_OF(node, struct rmq_topic, node);
        if (topic->route && rmq_route_has_address(topic->route, address))
            (void)!rmq_topic_refresh(topic);
    }
}

void rmq_topics_free(struct rmq_client *client)
{
    struct hashnode *node = NULL;
    for (uint64_t pos = 0; (node = hashmap_next(&client->topics, &pos, node));) {
        struct rmq_topic *topic = CONTAINER_OF(node, struct rmq_topic, node);
        topic->fetch = NULL; /* ended with the other calls */
        hashmap_remove(&client->topics, &topic->node);
        topic_free(topic);
    }
    hashmap_done(&client->topics);
}
