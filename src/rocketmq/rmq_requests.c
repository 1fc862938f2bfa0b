#include "rocketmq/rmq_requests.h"

#include "rocketmq/rmq_client_priv.h"
#include "rocketmq/rmq_message.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum {
    LATE_MS = 10000,    /* after the time it may wait, as a Broker looks every 5 s only */
    PATIENCE_MS = 3000, /* for what is short, and the same when done twice */
    PULL_SUSPEND = 2,   /* flags of a pull */
    PULL_SUBSCRIPTION = 4,
};

/* The name under which a Broker knows the place. */
static const char *name_at(const struct rmq_place *place)
{
    return place->lmq ? place->lmq : place->topic;
}

static struct rmq_call_spec spec_for(const struct rmq_place *place, int32_t code,
                                     struct rmq_fields *fields)
{
    rmq_fields_clear(fields);
    return (struct rmq_call_spec){
        .kind = RMQ_TO_TOPIC,
        .topic = place->topic,
        .broker = place->broker,
        .code = code,
        .fields = fields,
        .patience_ms = PATIENCE_MS,
        .is_repeatable = true,
    };
}

static void add_place(struct rmq_fields *fields, const struct rmq_place *place)
{
    rmq_fields_add_text(fields, "topic", name_at(place));
    rmq_fields_add_int(fields, "queueId", place->queue_id);
}

int rmq_send(struct rmq_client *client, const struct rmq_send *send, rmq_result_fn *done,
             void *data, struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    if (send->body.size == 0 || send->body.size > RMQ_MESSAGE_BODY_MAX ||
        send->properties.size > RMQ_PROPERTIES_SIZE_MAX)
        return ERR_INVALID;
    struct rmq_call_spec spec = spec_for(&send->place, RMQ_SEND_MESSAGE_V2, &fields);
    rmq_fields_add_text(&fields, "a", client->options.producer_group);
    rmq_fields_add_text(&fields, "b", send->place.topic);
    rmq_fields_add_text(&fields, "c", "TBW102");
    rmq_fields_add_text(&fields, "d", "4");
    rmq_fields_add_int(&fields, "e", send->place.queue_id);
    rmq_fields_add_text(&fields, "f", "0");
    rmq_fields_add_int(&fields, "g", (int64_t)loop_wall_ms(client->net.loop));
    rmq_fields_add_int(&fields, "h", send->flag);
    rmq_fields_add(&fields, "i", send->properties.size > 0 ? send->properties : slice_str(""));
    rmq_fields_add_text(&fields, "j", "0");
    rmq_fields_add_text(&fields, "k", "false");
    rmq_fields_add_text(&fields, "m", "false");
    spec.body = send->body;
    spec.patience_ms = send->patience_ms;
    spec.is_repeatable = false;
    return rmq_call_start(client, &spec, done, data, ret_call);
}

int rmq_pull(struct rmq_client *client, const struct rmq_pull *pull, rmq_result_fn *done,
             void *data, struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    struct rmq_call_spec spec = spec_for(&pull->place, RMQ_PULL_MESSAGE, &fields);
    rmq_fields_add_text(&fields, "consumerGroup", pull->group);
    add_place(&fields, &pull->place);
    rmq_fields_add_int(&fields, "queueOffset", (int64_t)pull->offset);
    rmq_fields_add_int(&fields, "maxMsgNums", pull->count_max);
    rmq_fields_add_int(&fields, "sysFlag",
                       PULL_SUBSCRIPTION | (pull->suspend_ms > 0 ? PULL_SUSPEND : 0));
    rmq_fields_add_text(&fields, "commitOffset", "0");
    rmq_fields_add_int(&fields, "suspendTimeoutMillis", pull->suspend_ms);
    rmq_fields_add_text(&fields, "subscription", "*");
    rmq_fields_add_text(&fields, "subVersion", "0");
    rmq_fields_add_text(&fields, "expressionType", "TAG");
    spec.timeout_ms = pull->suspend_ms > 0 ? pull->suspend_ms + LATE_MS : 0;
    return rmq_call_start(client, &spec, done, data, ret_call);
}

int rmq_edge(struct rmq_client *client, const struct rmq_place *place, enum rmq_edge edge,
             rmq_result_fn *done, void *data, struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    const int32_t code = edge == RMQ_FIRST_OFFSET ? RMQ_GET_MIN_OFFSET : RMQ_GET_MAX_OFFSET;
    const struct rmq_call_spec spec = spec_for(place, code, &fields);
    add_place(&fields, place);
    return rmq_call_start(client, &spec, done, data, ret_call);
}

int rmq_search(struct rmq_client *client, const struct rmq_place *place, int64_t time_ms,
               rmq_result_fn *done, void *data, struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    const struct rmq_call_spec spec = spec_for(place, RMQ_SEARCH_OFFSET_BY_TIMESTAMP, &fields);
    add_place(&fields, place);
    rmq_fields_add_int(&fields, "timestamp", time_ms);
    return rmq_call_start(client, &spec, done, data, ret_call);
}

int rmq_progress(struct rmq_client *client, const struct rmq_place *place, const char *group,
                 rmq_result_fn *done, void *data, struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    const struct rmq_call_spec spec = spec_for(place, RMQ_QUERY_CONSUMER_OFFSET, &fields);
    rmq_fields_add_text(&fields, "consumerGroup", group);
    add_place(&fields, place);
    rmq_fields_add_bool(&fields, "setZeroIfNotFound", false);
    return rmq_call_start(client, &spec, done, data, ret_call);
}

int rmq_commit(struct rmq_client *client, const struct rmq_commit *commit, rmq_result_fn *done,
               void *data, struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    const struct rmq_call_spec spec = spec_for(commit->place, RMQ_UPDATE_CONSUMER_OFFSET, &fields);
    rmq_fields_add_text(&fields, "consumerGroup", commit->group);
    add_place(&fields, commit->place);
    rmq_fields_add_int(&fields, "commitOffset", (int64_t)commit->offset);
    return rmq_call_start(client, &spec, done, data, ret_call);
}

int rmq_query(struct rmq_client *client, const struct rmq_query *query, rmq_result_fn *done,
              void *data, struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    const struct rmq_place place = {.topic = query->topic, .broker = query->broker};
    const struct rmq_call_spec spec = spec_for(&place, RMQ_QUERY_MESSAGE, &fields);
    rmq_fields_add_text(&fields, "topic", query->topic);
    rmq_fields_add_text(&fields, "key", query->key);
    rmq_fields_add_int(&fields, "maxNum", query->count_max);
    rmq_fields_add_int(&fields, "beginTimestamp", query->begin_ms);
    rmq_fields_add_int(&fields, "endTimestamp", query->end_ms);
    if (query->is_unique_key)
        rmq_fields_add_bool(&fields, "_UNIQUE_KEY_QUERY", true);
    return rmq_call_start(client, &spec, done, data, ret_call);
}

int rmq_view(struct rmq_client *client, const char *id, rmq_result_fn *done, void *data,
             struct rmq_call **ret_call)
{
    struct rmq_host host;
    uint64_t position = 0;
    char numbers[INET6_ADDRSTRLEN], address[INET6_ADDRSTRLEN + 16];
    if (rmq_message_parse_id(id, &host, &position) < 0)
        return ERR_INVALID;
    const int family = host.address_size == 16 ? AF_INET6 : AF_INET;
    if (!inet_ntop(family, host.address, numbers, sizeof numbers))
        return ERR_INVALID;
    (void)snprintf(address, sizeof address, family == AF_INET6 ? "[%s]:%u" : "%s:%u", numbers,
                   host.port);
    struct rmq_fields fields;
    rmq_fields_clear(&fields);
    rmq_fields_add_int(&fields, "offset", (int64_t)position);
    const struct rmq_call_spec spec = {
        .kind = RMQ_TO_ADDRESS,
        .address = address,
        .code = RMQ_VIEW_MESSAGE_BY_ID,
        .fields = &fields,
        .patience_ms = PATIENCE_MS,
        .is_repeatable = true,
    };
    return rmq_call_start(client, &spec, done, data, ret_call);
}

/* --- POP ----------------------------------------------------------------------------------------
 */

int rmq_pop(struct rmq_client *client, const struct rmq_pop *pop, rmq_result_fn *done, void *data,
            struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    struct rmq_call_spec spec = spec_for(&pop->place, RMQ_POP_MESSAGE, &fields);
    rmq_fields_add_text(&fields, "consumerGroup", pop->group);
    add_place(&fields, &pop->place);
    rmq_fields_add_int(&fields, "maxMsgNums", pop->count_max);
    rmq_fields_add_int(&fields, "invisibleTime", pop->invisible_ms);
    rmq_fields_add_int(&fields, "pollTime", pop->poll_ms);
    rmq_fields_add_int(&fields, "bornTime", (int64_t)loop_wall_ms(client->net.loop));
    rmq_fields_add_int(&fields, "initMode", pop->from_end);
    rmq_fields_add_text(&fields, "expType", "TAG");
    rmq_fields_add_text(&fields, "exp", "*");
    rmq_fields_add_bool(&fields, "order", false);
    spec.timeout_ms = pop->poll_ms + LATE_MS;
    spec.is_repeatable = true; /* what an answer that got lost had, comes again */
    return rmq_call_start(client, &spec, done, data, ret_call);
}

static void add_receipt(struct rmq_fields *fields, const struct rmq_receipt *receipt)
{
    rmq_fields_add_text(fields, "consumerGroup", receipt->group);
    add_place(fields, &receipt->place);
    rmq_fields_add(fields, "extraInfo", receipt->handle);
    rmq_fields_add_int(fields, "offset", (int64_t)receipt->offset);
}

int rmq_ack(struct rmq_client *client, const struct rmq_receipt *receipt, rmq_result_fn *done,
            void *data, struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    const struct rmq_call_spec spec = spec_for(&receipt->place, RMQ_ACK_MESSAGE, &fields);
    add_receipt(&fields, receipt);
    return rmq_call_start(client, &spec, done, data, ret_call);
}

int rmq_hide(struct rmq_client *client, const struct rmq_receipt *receipt, uint32_t invisible_ms,
             rmq_result_fn *done, void *data, struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    struct rmq_call_spec spec =
        spec_for(&receipt->place, RMQ_CHANGE_MESSAGE_INVISIBLETIME, &fields);
    add_receipt(&fields, receipt);
    rmq_fields_add_int(&fields, "invisibleTime", invisible_ms);
    spec.is_repeatable = false; /* the first makes the handle invalid */
    return rmq_call_start(client, &spec, done, data, ret_call);
}
