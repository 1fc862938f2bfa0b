/* Route: where a topic is, as a NameSrv says: its Brokers, their addresses and queues. Unchanged
 * once made. Thread: any.
 *
 * Spec: [RMQ TopicRouteData.java] [RMQ ClusterInfo.java].
 */
#pragma once

#include "base/buf.h"
#include "rocketmq/rmq_dial.h"

#define RMQ_NAME_SIZE_MAX     256u /* of a Broker's name, with its NUL */
#define RMQ_ROUTE_BROKERS_MAX 512u
#define RMQ_ROUTE_COPIES_MAX  8u /* master and replicas of one */

#define RMQ_PERM_WRITE        2u
#define RMQ_PERM_READ         4u

struct rmq_copy {
    int64_t id; /* 0: the master */
    char address[RMQ_ADDRESS_SIZE_MAX];
};

/* A group of Brokers with one name: a master and its replicas. */
struct rmq_group {
    char name[RMQ_NAME_SIZE_MAX];
    struct rmq_copy copies[RMQ_ROUTE_COPIES_MAX];
    uint32_t copy_count;
    uint32_t perm; /* of the topic; 0 when the group has none of its queues */
    uint32_t read_queues, write_queues;
};

struct rmq_route {
    uint32_t count;
    struct rmq_group groups[];
};

/* Reads the body of an answer to GET_ROUTEINFO_BY_TOPIC, or to GET_BROKER_CLUSTER_INFO (which knows
 * nothing of queues). *ret_route: rmq_route_free it.
 * Returns 0; ERR_MALFORMED: *ret_why (constant text) says what is wrong; ERR_FULL: more Brokers
 * than RMQ_ROUTE_BROKERS_MAX; ERR_NOMEM. */
MUST_CHECK int rmq_route_parse(struct slice body, struct rmq_route **ret_route,
                               const char **ret_why);
MUST_CHECK int rmq_route_parse_cluster(struct slice body, struct rmq_route **ret_route,
                                       const char **ret_why);
struct rmq_route *rmq_route_free(struct rmq_route *route); /* NULL is fine; returns NULL */

/* The group of that name, or NULL. */
const struct rmq_group *rmq_route_group(const struct rmq_route *route, const char *name);
/* The address of its master, or NULL when it has none at present. */
const char *rmq_group_master(const struct rmq_group *group);
bool rmq_route_has_address(const struct rmq_route *route, const char *address);
