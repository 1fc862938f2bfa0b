/* $SYS topics, with mosquitto's names: numbers of this server as messages from memory.
 *
 * What mosquitto calls its store are here the retained messages: what waits for subscribers lies in
 * one log that they share, and no client's part of it is counted.
 *
 * They are not stored. A value is sent to live subscribers when it has changed, and to a new
 * subscription as it stands, like a retained message.
 */
#include "broker/core_priv.h"

#include "base/mem.h"
#include "mqtt/topic.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define SYS_LOADS 3u

typedef int64_t sys_value_fn(const struct broker *broker);

struct sys_topic {
    const char *name; /* of the value itself, or NULL */
    const char *load; /* of load/…/1min, 5min, 15min: change per minute; or NULL */
    sys_value_fn *value;
};

struct sys_state {
    char text[32];
    double load[SYS_LOADS];
    int64_t last;
};

struct sys {
    struct broker *broker;
    struct timer timer;
    struct sys_state *states;
    char *alarms; /* owned; NULL before the first */
    uint64_t last_ms;
};

static const char alarms_topic[] = "$SYS/broker/alarms";

#define METRIC_VALUE(field)                                                                        \
    static int64_t sys_##field(const struct broker *broker)                                        \
    {                                                                                              \
        return metric_get(&broker->deps.metrics->field);                                           \
    }
METRIC_VALUE(bytes_received)
METRIC_VALUE(bytes_sent)
METRIC_VALUE(sessions)
METRIC_VALUE(sessions_online)
METRIC_VALUE(sessions_expired)
METRIC_VALUE(packets_received)
METRIC_VALUE(packets_sent)
METRIC_VALUE(publish_received)
METRIC_VALUE(publish_sent)
METRIC_VALUE(publish_bytes_received)
METRIC_VALUE(publish_bytes_sent)
METRIC_VALUE(publish_qos0_dropped)
METRIC_VALUE(retained)
METRIC_VALUE(subscriptions)
METRIC_VALUE(shared_groups)
METRIC_VALUE(inflight)
METRIC_VALUE(connections_opened)
METRIC_VALUE(connections_peak)
METRIC_VALUE(connects_accepted)
METRIC_VALUE(connects_refused)
METRIC_VALUE(memory_used)
METRIC_VALUE(memory_peak)

static int64_t sys_offline(const struct broker *broker)
{
    return sys_sessions(broker) - sys_sessions_online(broker);
}

/* Clients that sent CONNECT; a socket that sent none does not count. */
static int64_t sys_connects(const struct broker *broker)
{
    return sys_connects_accepted(broker) + sys_connects_refused(broker);
}

static int64_t sys_retained_bytes(const struct broker *broker)
{
    return (int64_t)broker->retained_bytes;
}

static const struct sys_topic sys_topics[] = {
    {"bytes/received", "bytes/received", sys_bytes_received},
    {"bytes/sent", "bytes/sent", sys_bytes_sent},
    {"clients/total", NULL, sys_sessions},
    {"clients/connected", NULL, sys_sessions_online},
    {"clients/active", NULL, sys_sessions_online},
    {"clients/disconnected", NULL, sys_offline},
    {"clients/inactive", NULL, sys_offline},
    {"clients/maximum", NULL, sys_connections_peak},
    {"clients/expired", NULL, sys_sessions_expired},
    {NULL, "sockets", sys_connections_opened},
    {NULL, "connections", sys_connects},
    {"heap/current", NULL, sys_memory_used},
    {"heap/maximum", NULL, sys_memory_peak},
    {"messages/received", "messages/received", sys_packets_received},
    {"messages/sent", "messages/sent", sys_packets_sent},
    {"messages/inflight", NULL, sys_inflight},
    {"messages/stored", NULL, sys_retained},
    {"publish/messages/received", "publish/received", sys_publish_received},
    {"publish/messages/sent", "publish/sent", sys_publish_sent},
    {"publish/messages/dropped", "publish/dropped", sys_publish_qos0_dropped},
    {"publish/bytes/received", NULL, sys_publish_bytes_received},
    {"publish/bytes/sent", NULL, sys_publish_bytes_sent},
    {"retained messages/count", NULL, sys_retained},
    {"store/messages/count", NULL, sys_retained},
    {"store/messages/bytes", NULL, sys_retained_bytes},
    {"subscriptions/count", NULL, sys_subscriptions},
    {"shared_subscriptions/count", NULL, sys_shared_groups},
};

static const char *const load_names[SYS_LOADS] = {"1min", "5min", "15min"};
static const double load_minutes[SYS_LOADS] = {1, 5, 15};

typedef void sys_each_fn(void *data, const char *topic, const char *text);

static struct message sys_message(const struct broker *broker, const char *topic, const char *text)
{
    return (struct message){
        .topic = slice_str(topic),
        .payload = slice_str(text),
        .time_ms = core_wall_ms(broker),
        .expiry_s = MESSAGE_NO_EXPIRY,
    };
}

static void sys_live(void *data, const char *topic, const char *text)
{
    struct broker *broker = data;
    const struct message message = sys_message(broker, topic, text);
    (void)deliver_qos0(broker, &message);
}

static void sys_loads(struct sys *sys, size_t index, sys_each_fn *each, void *data)
{
    char topic[96], text[32];
    for (size_t k = 0; k < SYS_LOADS; k++) {
        (void)snprintf(topic, sizeof topic, "$SYS/broker/load/%s/%s", sys_topics[index].load,
                       load_names[k]);
        (void)snprintf(text, sizeof text, "%.2f", sys->states[index].load[k]);
        each(data, topic, text);
    }
}

/* Walks the values as they stand; refresh leaves out those that were sent last time. */
static void sys_each(struct sys *sys, bool refresh, sys_each_fn *each, void *data)
{
    char topic[96], text[32];
    for (size_t i = 0; i < ARRAY_COUNT(sys_topics); i++) {
        const struct sys_topic *row = &sys_topics[i];
        struct sys_state *state = &sys->states[i];
        (void)snprintf(text, sizeof text, "%lld", (long long)row->value(sys->broker));
        const bool changed = strcmp(text, state->text) != 0;
        if (row->name && (!refresh || changed)) {
            (void)snprintf(topic, sizeof topic, "$SYS/broker/%s", row->name);
            each(data, topic, text);
        }
        if (refresh)
            memcpy(state->text, text, sizeof text);
        if (row->load)
            sys_loads(sys, i, each, data);
    }
    (void)snprintf(text, sizeof text, "%llu seconds",
                   (unsigned long long)inspect_uptime_ms(sys->broker) / 1000);
    each(data, "$SYS/broker/uptime", text);
    if (!refresh)
        each(data, "$SYS/broker/version", "TideMQ version " TIDEMQ_VERSION);
}

/* Exponentially damped change per minute, as an operating system's load average. */
static void sys_damp(struct sys *sys)
{
    const uint64_t now_ms = core_now_ms(sys->broker);
    const double minutes = (double)(now_ms - sys->last_ms) / 60000.0;
    sys->last_ms = now_ms;
    if (minutes <= 0)
        return;
    for (size_t i = 0; i < ARRAY_COUNT(sys_topics); i++) {
        struct sys_state *state = &sys->states[i];
        const int64_t value = sys_topics[i].value(sys->broker);
        const double rate = (double)(value - state->last) / minutes;
        state->last = value;
        for (size_t k = 0; k < SYS_LOADS; k++) {
            const double keep = exp(-minutes / load_minutes[k]);
            state->load[k] = state->load[k] * keep + rate * (1 - keep);
        }
    }
}

static void sys_due(struct timer *timer)
{
    struct sys *sys = CONTAINER_OF(timer, struct sys, timer);
    sys_damp(sys);
    sys_each(sys, true, sys_live, sys->broker);
    sys_configure(sys);
}

struct sys *sys_new(struct broker *broker)
{
    struct sys *sys = mem_new(sizeof *sys);
    sys->broker = broker;
    sys->states = mem_new(ARRAY_COUNT(sys_topics) * sizeof *sys->states);
    sys->timer.on_due = sys_due;
    sys->last_ms = core_now_ms(broker);
    sys_configure(sys);
    return sys;
}

struct sys *sys_free(struct sys *sys)
{
    if (!sys)
        return NULL;
    timer_stop(sys->broker->deps.timers, &sys->timer);
    mem_free(sys->states);
    mem_free(sys->alarms);
    mem_free(sys);
    return NULL;
}

void sys_configure(struct sys *sys)
{
    const uint64_t interval_ms = (uint64_t)sys->broker->config.sys_interval_s * 1000;
    if (interval_ms)
        timer_start(sys->broker->deps.timers, &sys->timer, interval_ms);
    else
        timer_stop(sys->broker->deps.timers, &sys->timer);
}

static void sys_send(void *data, const char *topic, const char *text)
{
    struct sub *sub = data;
    if (!topic_match(sub->filter->text, slice_str(topic)))
        return;
    const struct store_entry entry = {.message = sys_message(sub->session->broker, topic, text)};
    (void)deliver_retained(sub, &entry);
}

void sys_subscribed(struct sys *sys, struct sub *sub)
{
    if (!sub->session->link)
        return;
    if (sys->alarms)
        sys_send(sub, alarms_topic, sys->alarms);
    if (sys->broker->config.sys_interval_s > 0)
        sys_each(sys, false, sys_send, sub);
}

void broker_alarms(struct broker *broker, const char *text)
{
    struct sys *sys = broker->sys;
    mem_free(sys->alarms);
    sys->alarms = mem_strdup(text);
    sys_live(broker, alarms_topic, text);
}
