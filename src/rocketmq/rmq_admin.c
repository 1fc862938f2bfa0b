#include "rocketmq/rmq_admin.h"

#include "base/mem.h"
#include "base/strbuf.h"
#include "rocketmq/rmq_client_priv.h"
#include "rocketmq/rmq_json.h"

#include <string.h>

enum { PATIENCE_MS = 5000, GROUP_BODY_MAX = 4096, TEXTS_MAX = 4, ATTRIBUTES_MAX = 4096 };

/* One request to many. */
struct rmq_fanout {
    struct list node;
    struct rmq_client *client;
    int32_t code;
    struct rmq_fields fields;
    char *texts[TEXTS_MAX]; /* what the fields refer to */
    uint32_t text_count;
    struct strbuf body;
    uint32_t open; /* calls under way */
    bool has_failed;
    enum rmq_outcome outcome; /* the first that is not done */
    int32_t result_code;
    struct errmsg why;
    rmq_result_fn *done;
    void *data;
};

static void fanout_free(struct rmq_fanout *fanout)
{
    list_remove(&fanout->node);
    for (uint32_t i = 0; i < fanout->text_count; i++)
        mem_free(fanout->texts[i]);
    strbuf_done(&fanout->body);
    mem_free(fanout);
}

static void finish(struct rmq_fanout *fanout)
{
    const struct rmq_result result = {
        .outcome = fanout->has_failed ? fanout->outcome : RMQ_DONE,
        .code = fanout->has_failed ? fanout->result_code : 0,
        .why = fanout->has_failed ? fanout->why.text : NULL,
        .broker = "",
        .address = "",
    };
    list_remove(&fanout->node);
    fanout->done(fanout->data, &result);
    fanout_free(fanout);
}

static void note_failure(struct rmq_fanout *fanout, enum rmq_outcome outcome, int32_t code,
                         const char *why)
{
    if (fanout->has_failed)
        return;
    fanout->has_failed = true;
    fanout->outcome = outcome;
    fanout->result_code = code;
    errmsg_wrap(&fanout->why, "%s", why);
}

static void on_part(void *data, const struct rmq_result *result)
{
    struct rmq_fanout *fanout = data;
    if (result->outcome != RMQ_DONE)
        note_failure(fanout, result->outcome, result->code, result->why);
    if (--fanout->open == 0)
        finish(fanout);
}

/* Starts the request to one of them. */
static int start_part(struct rmq_fanout *fanout, const char *address)
{
    struct rmq_fields fields = fanout->fields; /* as each gets a signature */
    const struct rmq_call_spec spec = {
        .kind = RMQ_TO_ADDRESS,
        .address = address,
        .code = fanout->code,
        .fields = &fields,
        .body = slice_of(fanout->body.text, fanout->body.size),
        .patience_ms = PATIENCE_MS,
        .is_repeatable = true,
    };
    const int err = rmq_call_start(fanout->client, &spec, on_part, fanout, NULL);
    fanout->open += err == 0;
    return err;
}

/* --- to every master ----------------------------------------------------------------------------
 */

static void start_parts(struct rmq_fanout *fanout, const struct rmq_route *cluster)
{
    uint32_t masters = 0;
    for (uint32_t i = 0; i < cluster->count; i++) {
        const char *master = rmq_group_master(&cluster->groups[i]);
        if (!master)
            continue;
        masters++;
        const int err = start_part(fanout, master);
        if (err < 0)
            note_failure(fanout, RMQ_BUSY, -1, err_text(err));
    }
    if (masters == 0)
        note_failure(fanout, RMQ_UNAVAILABLE, -1,
                     "the NameSrv knows no Broker that is a master; start one, or wait for the "
                     "election of another");
}

static void on_cluster(void *data, const struct rmq_result *result)
{
    struct rmq_fanout *fanout = data;
    struct rmq_route *cluster = NULL;
    const char *why = NULL;
    if (result->outcome != RMQ_DONE)
        note_failure(fanout, result->outcome, result->code, result->why);
    else if (rmq_route_parse_cluster(result->body, &cluster, &why) < 0)
        note_failure(fanout, RMQ_UNKNOWN, -1, why);
    else
        start_parts(fanout, cluster);
    (void)rmq_route_free(cluster);
    if (--fanout->open == 0)
        finish(fanout);
}

static struct rmq_fanout *new_fanout(struct rmq_client *client, int32_t code, rmq_result_fn *done,
                                     void *data)
{
    struct rmq_fanout *fanout = mem_new(sizeof *fanout);
    fanout->client = client;
    fanout->code = code;
    fanout->done = done;
    fanout->data = data;
    strbuf_init(&fanout->body, GROUP_BODY_MAX);
    list_init(&fanout->node);
    list_push_back(&client->fanouts, &fanout->node);
    return fanout;
}

/* Adds a field with a copy of a text that the caller has only lent. */
static void add_text(struct rmq_fanout *fanout, const char *name, const char *text)
{
    ASSERT(fanout->text_count < TEXTS_MAX);
    char *copy = mem_strdup(text);
    fanout->texts[fanout->text_count++] = copy;
    rmq_fields_add_text(&fanout->fields, name, copy);
}

static int start_for_masters(struct rmq_fanout *fanout)
{
    const int err = rmq_cluster(fanout->client, on_cluster, fanout, NULL);
    fanout->open += err == 0;
    if (err < 0)
        fanout_free(fanout);
    return err;
}

static bool is_name(const char *name)
{
    return *name && strlen(name) < RMQ_NAME_SIZE_MAX;
}

int rmq_create_topic(struct rmq_client *client, const struct rmq_topic_wish *wish,
                     rmq_result_fn *done, void *data)
{
    if (!is_name(wish->name) || wish->queue_count == 0 ||
        (wish->attributes && strlen(wish->attributes) > ATTRIBUTES_MAX))
        return ERR_INVALID;
    struct rmq_fanout *fanout = new_fanout(client, RMQ_UPDATE_AND_CREATE_TOPIC, done, data);
    add_text(fanout, "topic", wish->name);
    rmq_fields_add_text(&fanout->fields, "defaultTopic", "TBW102");
    rmq_fields_add_int(&fanout->fields, "readQueueNums", wish->queue_count);
    rmq_fields_add_int(&fanout->fields, "writeQueueNums", wish->queue_count);
    rmq_fields_add_int(&fanout->fields, "perm", RMQ_PERM_READ | RMQ_PERM_WRITE);
    rmq_fields_add_text(&fanout->fields, "topicFilterType", "SINGLE_TAG");
    rmq_fields_add_text(&fanout->fields, "topicSysFlag", "0");
    rmq_fields_add_bool(&fanout->fields, "order", false);
    if (wish->attributes)
        add_text(fanout, "attributes", wish->attributes);
    return start_for_masters(fanout);
}

int rmq_create_group(struct rmq_client *client, const char *name, rmq_result_fn *done, void *data)
{
    if (!is_name(name))
        return ERR_INVALID;
    struct rmq_fanout *fanout =
        new_fanout(client, RMQ_UPDATE_AND_CREATE_SUBSCRIPTIONGROUP, done, data);
    strbuf_add(&fanout->body, "{\"groupName\":");
    strbuf_add_json(&fanout->body, name, strlen(name));
    strbuf_add(&fanout->body,
               ",\"consumeEnable\":true,\"consumeFromMinEnable\":true,"
               "\"consumeBroadcastEnable\":true,\"retryQueueNums\":1,\"retryMaxTimes\":16,"
               "\"brokerId\":0,\"whichBrokerWhenConsumeSlowly\":1,"
               "\"notifyConsumerIdsChangedEnable\":false}");
    const int err = strbuf_err(&fanout->body);
    if (err < 0) {
        fanout_free(fanout);
        return err;
    }
    return start_for_masters(fanout);
}

/* --- values kept by NameSrvs --------------------------------------------------------------------
 */

static int start_for_namesrvs(struct rmq_fanout *fanout)
{
    const struct rmq_client *client = fanout->client;
    int err = 0;
    for (uint32_t i = 0; i < client->namesrv_count; i++) {
        const int part_err = start_part(fanout, client->namesrvs[i]);
        if (part_err < 0) {
            note_failure(fanout, RMQ_BUSY, -1, err_text(part_err));
            err = part_err;
        }
    }
    if (fanout->open > 0)
        return 0;
    fanout_free(fanout);
    return err;
}

int rmq_kv_put(struct rmq_client *client, const char *space, const char *key, const char *value,
               rmq_result_fn *done, void *data)
{
    struct rmq_fanout *fanout = new_fanout(client, RMQ_PUT_KV_CONFIG, done, data);
    add_text(fanout, "namespace", space);
    add_text(fanout, "key", key);
    add_text(fanout, "value", value);
    return start_for_namesrvs(fanout);
}

int rmq_kv_delete(struct rmq_client *client, const char *space, const char *key,
                  rmq_result_fn *done, void *data)
{
    struct rmq_fanout *fanout = new_fanout(client, RMQ_DELETE_KV_CONFIG, done, data);
    add_text(fanout, "namespace", space);
    add_text(fanout, "key", key);
    return start_for_namesrvs(fanout);
}

static int ask_namesrv(struct rmq_client *client, int32_t code, struct rmq_fields *fields,
                       rmq_result_fn *done, void *data, struct rmq_call **ret_call)
{
    const struct rmq_call_spec spec = {
        .kind = RMQ_TO_NAMESRV,
        .code = code,
        .fields = fields,
        .patience_ms = PATIENCE_MS,
        .is_repeatable = true,
    };
    return rmq_call_start(client, &spec, done, data, ret_call);
}

int rmq_kv_get(struct rmq_client *client, const char *space, const char *key, rmq_result_fn *done,
               void *data, struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    rmq_fields_clear(&fields);
    rmq_fields_add_text(&fields, "namespace", space);
    rmq_fields_add_text(&fields, "key", key);
    return ask_namesrv(client, RMQ_GET_KV_CONFIG, &fields, done, data, ret_call);
}

/* --- what there is ------------------------------------------------------------------------------
 */

int rmq_cluster(struct rmq_client *client, rmq_result_fn *done, void *data,
                struct rmq_call **ret_call)
{
    return ask_namesrv(client, RMQ_GET_BROKER_CLUSTER_INFO, NULL, done, data, ret_call);
}

int rmq_route(struct rmq_client *client, const char *topic, rmq_result_fn *done, void *data,
              struct rmq_call **ret_call)
{
    struct rmq_fields fields;
    rmq_fields_clear(&fields);
    rmq_fields_add_text(&fields, "topic", topic);
    rmq_fields_add_bool(&fields, "acceptStandardJsonOnly", true);
    return ask_namesrv(client, RMQ_GET_ROUTEINFO_BY_TOPIC, &fields, done, data, ret_call);
}

int rmq_broker_state(struct rmq_client *client, const char *address, rmq_result_fn *done,
                     void *data, struct rmq_call **ret_call)
{
    const struct rmq_call_spec spec = {
        .kind = RMQ_TO_ADDRESS,
        .address = address,
        .code = RMQ_GET_BROKER_RUNTIME_INFO,
        .patience_ms = PATIENCE_MS,
        .is_repeatable = true,
    };
    return rmq_call_start(client, &spec, done, data, ret_call);
}

int rmq_state_number(struct slice body, const char *name, int64_t *ret_value)
{
    json_t *root = NULL;
    const char *why = NULL;
    if (rmq_json_parse(body, &root, &why) < 0)
        return ERR_MALFORMED;
    const char *text = json_string_value(json_object_get(json_object_get(root, "table"), name));
    const int err = text ? rmq_fields_parse_int(slice_str(text), ret_value) : ERR_MALFORMED;
    json_decref(root);
    return err;
}

void rmq_admin_free(struct rmq_client *client)
{
    list_each_safe (it, &client->fanouts)
        fanout_free(CONTAINER_OF(it, struct rmq_fanout, node));
}
