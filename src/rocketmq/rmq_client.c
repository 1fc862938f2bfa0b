#include "rocketmq/rmq_client.h"

#include "base/mem.h"
#include "base/strbuf.h"
#include "rocketmq/rmq_admin.h"
#include "rocketmq/rmq_client_priv.h"

#include <string.h>

enum {
    CONNECT_TIMEOUT_MS = 3000,
    REQUEST_TIMEOUT_MS = 3000,
    HEARTBEAT_MS = 30000,
    RETRY_MIN_MS = 50,
    RETRY_MAX_MS = 2000,
    BODY_MAX = 4096,
};

static const uint64_t pending_size_usual = 64u << 20;

/* --- channels -----------------------------------------------------------------------------------
 */

static void on_lost(void *data, struct rmq_channel *channel, const char *why)
{
    struct rmq_line *line = data;
    struct rmq_client *client = line->client;
    client->counters.lost++;
    if (client->options.on_lost)
        client->options.on_lost(client->options.data, rmq_channel_address(channel), why);
    if (line->is_broker)
        rmq_topics_lost(client, rmq_channel_address(channel));
}

static struct rmq_line *new_line(struct rmq_client *client, const char *address)
{
    struct rmq_line *line = mem_new(sizeof *line);
    const struct rmq_channel_options options = {
        .address = address,
        .connect_timeout_ms = client->options.connect_timeout_ms,
        .retry_min_ms = RETRY_MIN_MS,
        .retry_max_ms = RETRY_MAX_MS,
        .pending_size_max = client->options.pending_size_max,
        .stage = client->options.stage,
        .stage_data = client->options.stage_data,
        .events = {.on_lost = on_lost, .data = line},
    };
    line->client = client;
    line->channel = rmq_channel_new(&client->net, &options);
    list_init(&line->node);
    list_push_back(&client->lines, &line->node);
    client->line_count++;
    return line;
}

static void line_free(struct rmq_line *line)
{
    line->channel = rmq_channel_free(line->channel);
    line->client->line_count--;
    list_remove(&line->node);
    mem_free(line);
}

int rmq_client_channel(struct rmq_client *client, const char *address, bool is_broker,
                       struct rmq_channel **ret_channel)
{
    struct rmq_line *found = NULL;
    list_each (it, &client->lines) {
        struct rmq_line *line = CONTAINER_OF(it, struct rmq_line, node);
        if (strcmp(rmq_channel_address(line->channel), address) == 0) {
            found = line;
            break;
        }
    }
    if (!found && client->line_count == RMQ_CHANNELS_MAX)
        return ERR_FULL;
    if (!found)
        found = new_line(client, address);
    found->is_broker |= is_broker;
    *ret_channel = found->channel;
    return 0;
}

/* --- heartbeats ---------------------------------------------------------------------------------
 */

/* Nothing to be done about one that fails: a silent connection is given up by its channel. */
static void on_heartbeat(void *data, const struct rmq_result *result)
{
    (void)data;
    (void)result;
}

static void send_heartbeat(struct rmq_client *client, const char *address, struct slice body)
{
    const struct rmq_call_spec spec = {
        .kind = RMQ_TO_ADDRESS, .address = address, .code = RMQ_HEART_BEAT, .body = body};
    if (rmq_call_start(client, &spec, on_heartbeat, NULL, NULL) == 0)
        client->counters.heartbeats++;
}

static void on_heartbeat_due(struct timer *timer)
{
    struct rmq_client *client = CONTAINER_OF(timer, struct rmq_client, heartbeat);
    char room[BODY_MAX];
    struct strbuf body;
    strbuf_init_array(&body, room, sizeof room);
    strbuf_add(&body, "{\"clientID\":");
    strbuf_add_json(&body, client->options.client_id, strlen(client->options.client_id));
    strbuf_add(&body, ",\"consumerDataSet\":[],\"producerDataSet\":[{\"groupName\":");
    strbuf_add_json(&body, client->options.producer_group, strlen(client->options.producer_group));
    strbuf_add(&body, "}]}");
    timer_start(loop_timers(client->net.loop), &client->heartbeat, client->options.heartbeat_ms);
    list_each (it, &client->lines) {
        const struct rmq_line *line = CONTAINER_OF(it, struct rmq_line, node);
        if (line->is_broker && rmq_channel_is_open(line->channel) && strbuf_err(&body) == 0)
            send_heartbeat(client, rmq_channel_address(line->channel),
                           slice_of(body.text, body.size));
    }
    rmq_topics_refresh(client);
}

/* --- life ---------------------------------------------------------------------------------------
 */

static int add_namesrv(struct rmq_client *client, const char *begin, size_t size,
                       struct errmsg *reterr)
{
    char host[RMQ_ADDRESS_SIZE_MAX] = "", port[6] = "";
    if (client->namesrv_count == RMQ_NAMESRVS_MAX) {
        errmsg_wrap(reterr, "there are more than %u NameSrvs; name fewer", RMQ_NAMESRVS_MAX);
        return ERR_INVALID;
    }
    char *address = mem_try_copy(begin, size);
    if (!address)
        return ERR_NOMEM;
    if (size >= RMQ_ADDRESS_SIZE_MAX || rmq_dial_parse(address, host, port) < 0) {
        errmsg_wrap(reterr, "the NameSrv '%s' is not an address; write host:port", address);
        mem_free(address);
        return ERR_INVALID;
    }
    client->namesrvs[client->namesrv_count++] = address;
    return 0;
}

static int add_namesrvs(struct rmq_client *client, const char *text, struct errmsg *reterr)
{
    int err = 0;
    while (*text && err == 0) {
        const size_t size = strcspn(text, ",; ");
        if (size > 0)
            err = add_namesrv(client, text, size, reterr);
        text += size;
        text += strspn(text, ",; ");
    }
    if (err == 0 && client->namesrv_count == 0) {
        errmsg_wrap(reterr, "no NameSrv is named; write host:port, several separated by commas");
        err = ERR_INVALID;
    }
    return err;
}

static char *copy_text(const char *text)
{
    return mem_strdup(text ? text : "");
}

static void take_options(struct rmq_client *client, const struct rmq_client_options *options)
{
    struct rmq_client_options *own = &client->options;
    *own = *options;
    own->namesrvs = NULL;
    own->access_key = copy_text(options->access_key);
    own->secret_key = copy_text(options->secret_key);
    own->client_id = copy_text(options->client_id);
    own->producer_group = copy_text(options->producer_group);
    if (own->connect_timeout_ms == 0)
        own->connect_timeout_ms = CONNECT_TIMEOUT_MS;
    if (own->request_timeout_ms == 0)
        own->request_timeout_ms = REQUEST_TIMEOUT_MS;
    if (own->heartbeat_ms == 0)
        own->heartbeat_ms = HEARTBEAT_MS;
    if (own->pending_size_max == 0)
        own->pending_size_max = pending_size_usual;
}

int rmq_client_new(const struct rmq_net *net, const struct rmq_client_options *options,
                   struct rmq_client **ret_client, struct errmsg *reterr)
{
    struct rmq_client *client = mem_new(sizeof *client);
    client->net = *net;
    take_options(client, options);
    list_init(&client->lines);
    list_init(&client->calls);
    list_init(&client->fanouts);
    hashmap_init(&client->topics);
    client->heartbeat.on_due = on_heartbeat_due;
    const int err = add_namesrvs(client, options->namesrvs, reterr);
    if (err < 0) {
        (void)rmq_client_free(client);
        return err;
    }
    timer_start(loop_timers(net->loop), &client->heartbeat, client->options.heartbeat_ms);
    *ret_client = client;
    return 0;
}

static void free_options(struct rmq_client_options *options)
{
    mem_free((char *)options->access_key);
    if (options->secret_key)
        explicit_bzero((char *)options->secret_key, strlen(options->secret_key));
    mem_free((char *)options->secret_key);
    mem_free((char *)options->client_id);
    mem_free((char *)options->producer_group);
}

struct rmq_client *rmq_client_free(struct rmq_client *client)
{
    if (!client)
        return NULL;
    timer_stop(loop_timers(client->net.loop), &client->heartbeat);
    rmq_admin_free(client);
    rmq_calls_free(client);
    rmq_topics_free(client);
    list_each_safe (it, &client->lines)
        line_free(CONTAINER_OF(it, struct rmq_line, node));
    for (uint32_t i = 0; i < client->namesrv_count; i++)
        mem_free(client->namesrvs[i]);
    free_options(&client->options);
    mem_free(client);
    return NULL;
}

const struct rmq_counters *rmq_client_counters(const struct rmq_client *client)
{
    return &client->counters;
}
