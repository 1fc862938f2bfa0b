#include "rocketmq/rmq_route.h"

#include "base/mem.h"
#include "rocketmq/rmq_fields.h"
#include "rocketmq/rmq_json.h"

#include <string.h>

enum { QUEUES_MAX = 1 << 20 };

/* Copies a JSON text; false: it is none, or empty, or too long. */
static bool take_text(const json_t *value, char *room, size_t room_size)
{
    const size_t size = json_string_length(value);
    if (!json_is_string(value) || size == 0 || size >= room_size)
        return false;
    memcpy(room, json_string_value(value), size + 1);
    return strlen(room) == size;
}

static const char *take_copies(json_t *addresses, struct rmq_group *group)
{
    const char *id = NULL;
    json_t *address = NULL;
    if (!json_is_object(addresses))
        return "a Broker has no addresses";
    json_object_foreach(addresses, id, address)
    {
        struct rmq_copy *copy = &group->copies[group->copy_count];
        if (group->copy_count == RMQ_ROUTE_COPIES_MAX)
            return "a Broker has more replicas than expected";
        if (rmq_fields_parse_int(slice_str(id), &copy->id) < 0)
            return "the ID of a Broker is not a number";
        if (!take_text(address, copy->address, sizeof copy->address))
            return "the address of a Broker is not a text of fitting size";
        group->copy_count++;
    }
    return NULL;
}

static const char *take_group(json_t *broker, struct rmq_group *group)
{
    if (!take_text(json_object_get(broker, "brokerName"), group->name, sizeof group->name))
        return "the name of a Broker is not a text of fitting size";
    return take_copies(json_object_get(broker, "brokerAddrs"), group);
}

static bool take_count(const json_t *value, uint32_t *ret_count)
{
    const json_int_t count = json_integer_value(value);
    if (!json_is_integer(value) || count < 0 || count > QUEUES_MAX)
        return false;
    *ret_count = (uint32_t)count;
    return true;
}

/* What a topic has on one group. */
static const char *take_queues(const json_t *queues, struct rmq_route *route)
{
    char name[RMQ_NAME_SIZE_MAX];
    if (!take_text(json_object_get(queues, "brokerName"), name, sizeof name))
        return "the name of a Broker is not a text of fitting size";
    struct rmq_group *group = NULL;
    for (uint32_t i = 0; i < route->count && !group; i++) {
        if (strcmp(route->groups[i].name, name) == 0)
            group = &route->groups[i];
    }
    if (!group) /* all of it is down */
        return NULL;
    if (!take_count(json_object_get(queues, "perm"), &group->perm) ||
        !take_count(json_object_get(queues, "readQueueNums"), &group->read_queues) ||
        !take_count(json_object_get(queues, "writeQueueNums"), &group->write_queues))
        return "the queues of a Broker are not numbers within bounds";
    return NULL;
}

static int new_route(size_t count, struct rmq_route **ret_route, const char **ret_why)
{
    if (count > RMQ_ROUTE_BROKERS_MAX) {
        *ret_why = "there are more Brokers than expected";
        return ERR_FULL;
    }
    *ret_route = mem_try_zeroed(sizeof **ret_route + count * sizeof(struct rmq_group));
    if (!*ret_route) {
        *ret_why = "there is no memory for the route";
        return ERR_NOMEM;
    }
    return 0;
}

static int end_route(struct rmq_route *route, const char *why, struct rmq_route **ret_route,
                     const char **ret_why)
{
    if (why) {
        *ret_why = why;
        (void)rmq_route_free(route);
        return ERR_MALFORMED;
    }
    *ret_route = route;
    return 0;
}

static int parse_topic(json_t *root, struct rmq_route **ret_route, const char **ret_why)
{
    const json_t *brokers = json_object_get(root, "brokerDatas");
    const json_t *queues = json_object_get(root, "queueDatas");
    struct rmq_route *route = NULL;
    const char *why = NULL;
    if (!json_is_array(brokers) || !json_is_array(queues)) {
        *ret_why = "the route lacks its lists of Brokers and queues";
        return ERR_MALFORMED;
    }
    const int err = new_route(json_array_size(brokers), &route, ret_why);
    if (err < 0)
        return err;
    for (size_t i = 0; i < json_array_size(brokers) && !why; i++)
        why = take_group(json_array_get(brokers, i), &route->groups[route->count++]);
    for (size_t i = 0; i < json_array_size(queues) && !why; i++)
        why = take_queues(json_array_get(queues, i), route);
    return end_route(route, why, ret_route, ret_why);
}

static int parse_cluster(json_t *root, struct rmq_route **ret_route, const char **ret_why)
{
    json_t *brokers = json_object_get(root, "brokerAddrTable"), *broker = NULL;
    struct rmq_route *route = NULL;
    const char *why = NULL, *name = NULL;
    if (!json_is_object(brokers)) {
        *ret_why = "the cluster lacks its table of Brokers";
        return ERR_MALFORMED;
    }
    const int err = new_route(json_object_size(brokers), &route, ret_why);
    if (err < 0)
        return err;
    json_object_foreach(brokers, name, broker)
    {
        if (!why)
            why = take_group(broker, &route->groups[route->count++]);
    }
    return end_route(route, why, ret_route, ret_why);
}

typedef int parse_fn(json_t *root, struct rmq_route **ret_route, const char **ret_why);

static int parse(struct slice body, parse_fn *parse_root, struct rmq_route **ret_route,
                 const char **ret_why)
{
    json_t *root = NULL;
    int err = rmq_json_parse(body, &root, ret_why);
    if (err == 0) {
        err = parse_root(root, ret_route, ret_why);
        json_decref(root);
    }
    return err;
}

int rmq_route_parse(struct slice body, struct rmq_route **ret_route, const char **ret_why)
{
    return parse(body, parse_topic, ret_route, ret_why);
}

int rmq_route_parse_cluster(struct slice body, struct rmq_route **ret_route, const char **ret_why)
{
    return parse(body, parse_cluster, ret_route, ret_why);
}

struct rmq_route *rmq_route_free(struct rmq_route *route)
{
    mem_free(route);
    return NULL;
}

const struct rmq_group *rmq_route_group(const struct rmq_route *route, const char *name)
{
    for (uint32_t i = 0; i < route->count; i++) {
        if (strcmp(route->groups[i].name, name) == 0)
            return &route->groups[i];
    }
    return NULL;
}

const char *rmq_group_master(const struct rmq_group *group)
{
    for (uint32_t i = 0; i < group->copy_count; i++) {
        if (group->copies[i].id == 0)
            return group->copies[i].address;
    }
    return NULL;
}

bool rmq_route_has_address(const struct rmq_route *route, const char *address)
{
    for (uint32_t i = 0; i < route->count; i++) {
        for (uint32_t j = 0; j < route->groups[i].copy_count; j++) {
            if (strcmp(route->groups[i].copies[j].address, address) == 0)
                return true;
        }
    }
    return false;
}
