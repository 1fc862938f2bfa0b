/* A call: one request, from finding out whom to ask to its result.
 *
 * Its frame is made once, with a number that no other request of this client has, and is what every
 * attempt sends; so an answer that was late for one attempt serves the next. Between attempts a
 * call waits for its timer, or for the route of its topic; its callback never runs inside
 * rmq_call_start, as whatever fails there waits for the timer, too.
 */
#include "base/mem.h"
#include "rocketmq/rmq_acl.h"
#include "rocketmq/rmq_client_priv.h"

#include <errno.h>
#include <string.h>

enum { PAUSE_MIN_MS = 20, PAUSE_MAX_MS = 500 };

/* Why the last attempt came to nothing. */
struct trouble {
    enum rmq_outcome outcome;
    int32_t code;
    bool is_final;
    struct errmsg why;
};

struct rmq_call {
    struct list node;   /* in the client's calls */
    struct list waiter; /* in a topic's waiters */
    struct rmq_client *client;
    enum rmq_call_kind kind;
    int32_t code;
    bool is_repeatable;
    uint32_t attempts;
    uint64_t deadline_ms; /* no attempt begins later */
    struct rmq_pending pending;
    struct timer timer;
    struct trouble *trouble; /* owned; NULL: none so far */
    rmq_result_fn *done;
    void *data;
    const char *topic, *wanted_broker, *wanted_address;            /* in `names`; NULL: none */
    char broker[RMQ_NAME_SIZE_MAX], address[RMQ_ADDRESS_SIZE_MAX]; /* of the last attempt */
    char names[];
};

static int attempt(struct rmq_call *call);

/* Addresses are shorter than their rooms, which was checked when they were taken. */
static void copy_address(char room[RMQ_ADDRESS_SIZE_MAX], const char *address)
{
    const size_t size = strlen(address) + 1;
    ASSERT(size <= RMQ_ADDRESS_SIZE_MAX);
    memcpy(room, address, size);
}

/* --- the end ------------------------------------------------------------------------------------
 */

static void call_free(struct rmq_call *call)
{
    rmq_pending_cancel(&call->pending);
    timer_stop(loop_timers(call->client->net.loop), &call->timer);
    list_remove(&call->node);
    list_remove(&call->waiter);
    (void)buf_unref(call->pending.frame);
    mem_free(call->trouble);
    mem_free(call);
}

void rmq_call_cancel(struct rmq_call *call)
{
    call_free(call);
}

void rmq_calls_free(struct rmq_client *client)
{
    list_each_safe (it, &client->calls)
        call_free(CONTAINER_OF(it, struct rmq_call, node));
}

static void finish(struct rmq_call *call, struct rmq_result *result)
{
    result->broker = call->broker;
    result->address = call->address;
    list_remove(&call->node); /* a callback that ends the client's other calls does not meet it */
    call->done(call->data, result);
    call_free(call);
}

static void finish_with_trouble(struct rmq_call *call)
{
    const struct trouble *trouble = call->trouble;
    ASSERT(trouble);
    struct rmq_result result = {
        .outcome = trouble->outcome, .code = trouble->code, .why = trouble->why.text};
    finish(call, &result);
}

/* --- trouble ------------------------------------------------------------------------------------
 */

static struct trouble *new_trouble(struct rmq_call *call, enum rmq_outcome outcome, int32_t code)
{
    if (!call->trouble)
        call->trouble = mem_new(sizeof *call->trouble);
    *call->trouble = (struct trouble){.outcome = outcome, .code = code};
    return call->trouble;
}

/* Half of a pause is by chance, so that calls that met the same trouble do not come back together.
 */
static uint64_t pause_ms(const struct rmq_call *call)
{
    const uint64_t most = MIN((uint64_t)PAUSE_MIN_MS << MIN(call->attempts, 10u), PAUSE_MAX_MS);
    const uint64_t chance =
        hash_u64((uint64_t)(uint32_t)call->pending.opaque << 8 | call->attempts);
    return most / 2 + chance % (most / 2 + 1);
}

/* Tries again after a pause, or ends after none. */
static void go_on_later(struct rmq_call *call)
{
    const uint64_t now_ms = loop_now_ms(call->client->net.loop);
    const uint64_t pause = pause_ms(call);
    struct trouble *trouble = call->trouble;
    if (!trouble->is_final && now_ms + pause > call->deadline_ms)
        trouble->is_final = true;
    timer_start(loop_timers(call->client->net.loop), &call->timer, trouble->is_final ? 0 : pause);
}

/* For callbacks, which may end a call at once. */
static void go_on(struct rmq_call *call)
{
    const uint64_t now_ms = loop_now_ms(call->client->net.loop);
    if (call->trouble->is_final || now_ms + pause_ms(call) > call->deadline_ms) {
        finish_with_trouble(call);
        return;
    }
    call->client->counters.retries++;
    go_on_later(call);
}

static void on_due(struct timer *timer)
{
    struct rmq_call *call = CONTAINER_OF(timer, struct rmq_call, timer);
    if (call->trouble->is_final) {
        finish_with_trouble(call);
        return;
    }
    const int err = attempt(call);
    if (err < 0) {
        errmsg_wrap(&new_trouble(call, RMQ_BUSY, -1)->why, "%s is not sent: %s",
                    rmq_codes_request(call->code), err_text(err));
        go_on_later(call);
    }
}

static void refresh_route(struct rmq_call *call)
{
    struct rmq_topic *topic = NULL;
    if (call->kind == RMQ_TO_TOPIC && rmq_topics_get(call->client, call->topic, &topic) == 0)
        (void)!rmq_topic_refresh(topic);
}

/* --- answers ------------------------------------------------------------------------------------
 */

/* Another NameSrv is asked from now on; each is tried before the call gives up. */
static bool leave_namesrv(struct rmq_call *call)
{
    struct rmq_client *client = call->client;
    if (call->kind != RMQ_TO_NAMESRV)
        return false;
    if (strcmp(call->address, client->namesrvs[client->namesrv]) == 0)
        client->namesrv = (client->namesrv + 1) % client->namesrv_count;
    return call->attempts < client->namesrv_count;
}

static void on_failure(struct rmq_call *call, const struct rmq_answer *answer)
{
    const bool is_lost = answer->was_sent && !call->is_repeatable;
    struct trouble *trouble = new_trouble(call, is_lost ? RMQ_UNKNOWN : RMQ_UNAVAILABLE, -1);
    trouble->is_final = is_lost;
    errmsg_wrap(&trouble->why, "%s: %s%s", rmq_codes_request(call->code), answer->why,
                is_lost ? "; whether it was done is not known" : "");
    if (!is_lost && leave_namesrv(call)) {
        call->client->counters.retries++;
        timer_start(loop_timers(call->client->net.loop), &call->timer, 0);
        return;
    }
    refresh_route(call);
    go_on(call);
}

static void tell(const struct rmq_call *call, const struct rmq_result_row *row,
                 const struct rmq_answer *answer, struct errmsg *why)
{
    const struct slice remark = answer->command->remark;
    errmsg_wrap(why, "%s at %s%s%s: %d %s: %.*s; %s", rmq_codes_request(call->code), call->broker,
                call->broker[0] ? " " : "", call->address, answer->command->code, row->name,
                (int)MIN(remark.size, 200u), remark.size > 0 ? (const char *)remark.bytes : "",
                row->advice);
}

/* What was not done, and may be elsewhere or later. */
static bool is_passing(const struct rmq_call *call, enum rmq_outcome outcome)
{
    if (outcome == RMQ_NO_ROUTE)
        return call->kind == RMQ_TO_TOPIC;
    return outcome == RMQ_BUSY || outcome == RMQ_GO_AWAY || outcome == RMQ_UNAVAILABLE;
}

static void on_answer(struct rmq_pending *pending, const struct rmq_answer *answer)
{
    struct rmq_call *call = CONTAINER_OF(pending, struct rmq_call, pending);
    if (answer->err < 0) {
        on_failure(call, answer);
        return;
    }
    const struct rmq_result_row *row = rmq_codes_result(answer->command->code);
    if (is_passing(call, row->outcome)) {
        tell(call, row, answer, &new_trouble(call, row->outcome, answer->command->code)->why);
        call->client->counters.busy += row->outcome == RMQ_BUSY;
        if (row->outcome != RMQ_BUSY)
            refresh_route(call);
        go_on(call);
        return;
    }
    struct errmsg why = {0};
    struct rmq_result result = {.outcome = row->outcome,
                                .code = answer->command->code,
                                .command = answer->command,
                                .body = answer->body};
    if (row->outcome == RMQ_NOTHING || row->outcome == RMQ_MOVED) { /* too common to tell more */
        result.why = row->advice;
    } else if (row->outcome != RMQ_DONE) {
        tell(call, row, answer, &why);
        result.why = why.text;
    }
    finish(call, &result);
}

/* --- attempts -----------------------------------------------------------------------------------
 */

static bool is_failing(struct rmq_client *client, const char *address)
{
    list_each (it, &client->lines) {
        const struct rmq_channel *channel = CONTAINER_OF(it, struct rmq_line, node)->channel;
        if (strcmp(rmq_channel_address(channel), address) == 0)
            return rmq_channel_is_failing(channel);
    }
    return false;
}

/* In turn, and one whose Broker cannot be reached at present only when there is no other. */
static const struct rmq_group *any_group(struct rmq_client *client, const struct rmq_route *route)
{
    const struct rmq_group *second = NULL;
    const uint32_t first = client->turn++;
    for (uint32_t i = 0; i < route->count; i++) {
        const struct rmq_group *group = &route->groups[(first + i) % route->count];
        const char *master = rmq_group_master(group);
        if (!(group->perm & RMQ_PERM_WRITE) || !master)
            continue;
        if (!is_failing(client, master))
            return group;
        second = group;
    }
    return second;
}

/* Fills in broker and address of the call. false: nobody is there to be asked. */
static bool choose_broker(struct rmq_call *call, const struct rmq_route *route)
{
    const struct rmq_group *group = call->wanted_broker
                                        ? rmq_route_group(route, call->wanted_broker)
                                        : any_group(call->client, route);
    const char *master = group ? rmq_group_master(group) : NULL;
    if (!master) {
        errmsg_wrap(&new_trouble(call, RMQ_NO_ROUTE, -1)->why,
                    "%s: %s has no master for topic %s at present; start the Broker, or wait for "
                    "the election of another",
                    rmq_codes_request(call->code),
                    call->wanted_broker ? call->wanted_broker : "no Broker", call->topic);
        return false;
    }
    memcpy(call->broker, group->name, sizeof call->broker);
    copy_address(call->address, master);
    return true;
}

static int submit(struct rmq_call *call)
{
    struct rmq_channel *channel = NULL;
    const int err =
        rmq_client_channel(call->client, call->address, call->kind != RMQ_TO_NAMESRV, &channel);
    return err < 0 ? err : rmq_channel_submit(channel, &call->pending);
}

static int attempt_by_route(struct rmq_call *call)
{
    struct rmq_topic *topic = NULL;
    int err = rmq_topics_get(call->client, call->topic, &topic);
    if (err < 0)
        return err;
    if (!topic->route) {
        err = rmq_topic_refresh(topic);
        if (err == 0)
            list_push_back(&topic->waiters, &call->waiter);
        return err;
    }
    if (choose_broker(call, topic->route))
        return submit(call);
    (void)!rmq_topic_refresh(topic);
    go_on_later(call);
    return 0;
}

static int attempt(struct rmq_call *call)
{
    call->attempts++;
    if (call->kind == RMQ_TO_TOPIC)
        return attempt_by_route(call);
    copy_address(call->address, call->kind == RMQ_TO_NAMESRV
                                    ? call->client->namesrvs[call->client->namesrv]
                                    : call->wanted_address);
    return submit(call);
}

struct rmq_call *rmq_call_of_waiter(struct list *node)
{
    return CONTAINER_OF(node, struct rmq_call, waiter);
}

void rmq_call_routed(struct rmq_call *call, const struct rmq_result *failure)
{
    list_remove(&call->waiter);
    if (failure) {
        struct trouble *trouble = new_trouble(call, failure->outcome, failure->code);
        trouble->is_final = failure->outcome != RMQ_UNAVAILABLE && failure->outcome != RMQ_BUSY;
        errmsg_wrap(&trouble->why, "%s: the route of topic %s: %s", rmq_codes_request(call->code),
                    call->topic, failure->why);
        go_on(call);
        return;
    }
    const int err = attempt(call);
    if (err < 0) {
        errmsg_wrap(&new_trouble(call, RMQ_BUSY, -1)->why, "%s is not sent: %s",
                    rmq_codes_request(call->code), err_text(err));
        go_on(call);
    }
}

/* --- the start ----------------------------------------------------------------------------------
 */

static int encode(struct rmq_client *client, const struct rmq_call_spec *spec, int32_t opaque,
                  struct buf **ret_frame)
{
    char signature[RMQ_SIGNATURE_SIZE_MAX];
    struct rmq_command command;
    command = (struct rmq_command){.code = spec->code, .version = RMQ_VERSION, .opaque = opaque};
    if (spec->fields)
        command.fields = *spec->fields;
    if (client->options.access_key && *client->options.access_key) {
        const int err = rmq_acl_sign(&command.fields, spec->body, client->options.access_key,
                                     client->options.secret_key, signature);
        if (err < 0)
            return err;
    }
    return rmq_command_encode(&command, rmq_command_format(spec->code), spec->body, ret_frame);
}

static const char *put_name(char **next, const char *name)
{
    if (!name)
        return NULL;
    const size_t size = strlen(name) + 1;
    char *place = *next;
    memcpy(place, name, size);
    *next += size;
    return place;
}

static size_t name_size(const char *name)
{
    return name ? strlen(name) + 1 : 0;
}

static struct rmq_call *new_call(struct rmq_client *client, const struct rmq_call_spec *spec)
{
    struct rmq_call *call = mem_new(sizeof *call + name_size(spec->topic) +
                                    name_size(spec->broker) + name_size(spec->address));
    char *next = call->names;
    call->client = client;
    call->kind = spec->kind;
    call->code = spec->code;
    call->is_repeatable = spec->is_repeatable;
    call->topic = put_name(&next, spec->topic);
    call->wanted_broker = put_name(&next, spec->broker);
    call->wanted_address = put_name(&next, spec->address);
    call->deadline_ms = loop_now_ms(client->net.loop) + spec->patience_ms;
    call->timer.on_due = on_due;
    call->pending.opaque = (int32_t)++client->opaque;
    call->pending.timeout_ms =
        spec->timeout_ms > 0 ? spec->timeout_ms : client->options.request_timeout_ms;
    call->pending.done = on_answer;
    list_init(&call->node);
    list_init(&call->waiter);
    return call;
}

/* Names of our own or from routes are short; what others give is checked here. */
static bool has_sound_names(const struct rmq_call_spec *spec)
{
    return (!spec->topic || (*spec->topic && strlen(spec->topic) < RMQ_NAME_SIZE_MAX)) &&
           (!spec->broker || (*spec->broker && strlen(spec->broker) < RMQ_NAME_SIZE_MAX)) &&
           (!spec->address || strlen(spec->address) < RMQ_ADDRESS_SIZE_MAX);
}

int rmq_call_start(struct rmq_client *client, const struct rmq_call_spec *spec, rmq_result_fn *done,
                   void *data, struct rmq_call **ret_call)
{
    if (!has_sound_names(spec))
        return ERR_INVALID;
    struct rmq_call *call = new_call(client, spec);
    call->done = done;
    call->data = data;
    int err = encode(client, spec, call->pending.opaque, &call->pending.frame);
    if (err == 0)
        err = attempt(call);
    if (err < 0) {
        call_free(call);
        return err;
    }
    client->counters.calls++;
    list_push_back(&client->calls, &call->node);
    if (ret_call)
        *ret_call = call;
    return 0;
}
