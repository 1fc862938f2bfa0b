/* What the client can be asked for about a cluster: topics, groups, values kept by NameSrvs, and
 * what Brokers say of themselves. Results and errors as in rmq_requests.h.
 *
 * What concerns a whole cluster goes to every master, or every NameSrv, at once; it is done when
 * all have done it, else the result is that of the first that has not.
 *
 * Thread: the loop's.
 */
#pragma once

#include "rocketmq/rmq_client.h"

struct rmq_topic_wish {
    const char *name;
    uint32_t queue_count;   /* on each Broker */
    const char *attributes; /* such as "+message.type=LITE"; NULL: none */
};
/* Creates or changes a topic on every Broker. */
MUST_CHECK int rmq_create_topic(struct rmq_client *client, const struct rmq_topic_wish *wish,
                                rmq_result_fn *done, void *data);
/* Creates a consumer group on every Broker. */
MUST_CHECK int rmq_create_group(struct rmq_client *client, const char *name, rmq_result_fn *done,
                                void *data);

/* Values by namespace and key. NameSrvs do not copy them to each other: put and delete go to all,
 * get asks the one in use. */
MUST_CHECK int rmq_kv_put(struct rmq_client *client, const char *space, const char *key,
                          const char *value, rmq_result_fn *done, void *data);
MUST_CHECK int rmq_kv_delete(struct rmq_client *client, const char *space, const char *key,
                             rmq_result_fn *done, void *data);
MUST_CHECK int rmq_kv_get(struct rmq_client *client, const char *space, const char *key,
                          rmq_result_fn *done, void *data, struct rmq_call **ret_call);

/* The body is for rmq_route_parse_cluster. */
MUST_CHECK int rmq_cluster(struct rmq_client *client, rmq_result_fn *done, void *data,
                           struct rmq_call **ret_call);
/* The body of topic's route is for rmq_route_parse. */
MUST_CHECK int rmq_route(struct rmq_client *client, const char *topic, rmq_result_fn *done,
                         void *data, struct rmq_call **ret_call);
/* What a Broker says of itself: JSON, {"table":{"bootTimestamp":"…",…}}. */
MUST_CHECK int rmq_broker_state(struct rmq_client *client, const char *address, rmq_result_fn *done,
                                void *data, struct rmq_call **ret_call);
/* One of those, a number. Returns 0 or ERR_MALFORMED. Thread: any. */
MUST_CHECK int rmq_state_number(struct slice body, const char *name, int64_t *ret_value);

void rmq_admin_free(struct rmq_client *client); /* for rmq_client_free */
