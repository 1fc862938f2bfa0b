/* Testbed: the core on the model engine, with clients that are structs and a clock of its own.
 *
 * A fake client records every packet it is sent. bed_run lets everything happen that is due; the
 * engine completes nothing before that. bed_crash kills the server as kill -9 would: clients lose
 * their connections, the core is gone, and a new one recovers from what was durable. For unit tests
 * only: one test executable includes it once, after store/mem/mem.h.
 */
#pragma once

#include "base/mem.h"
#include "base/unit.h"
#include "broker/core_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EVENTS_MAX = 4096, TEXT_MAX = 64 };

/* One packet that the core sent to a client. */
struct event {
    uint8_t type; /* enum packet_type */
    uint8_t reason, qos;
    bool dup, retain;
    uint16_t packet_id;
    uint32_t expiry_s, id_count;
    uint32_t ids[4];
    char topic[TEXT_MAX], payload[TEXT_MAX];
};

struct client {
    struct link link; /* first */
    char id[TEXT_MAX];
    bool open;       /* CONNACK 0 came and the connection is there */
    bool full;       /* takes no PUBLISH: ERR_AGAIN */
    bool picky;      /* every PUBLISH is too large for it */
    bool dead;       /* of a server that crashed: records nothing */
    bool answered;   /* CONNACK came */
    bool present;    /* session present */
    uint8_t connack; /* its reason */
    uint8_t closed;  /* the reason the core closed it with */
    uint32_t expiry_s;
    uint32_t count, read; /* events so far; those that a test has looked at */
    struct event events[EVENTS_MAX];
};

struct bed {
    struct loop *loop;
    struct timer_set *timers;
    struct store *store;
    struct meta *meta;
    struct metrics *metrics;
    struct rulebook *rulebook; /* of a test that has rules, or NULL; the test's */
    struct broker *broker;
    struct broker_config config;
    uint64_t now_ms;
    uint16_t packet_id; /* of the last SUBSCRIBE or UNSUBSCRIBE */
};

/* --- the client's side -------------------------------------------------------------------------
 */

static inline struct client *client_of(struct link *link)
{
    return CONTAINER_OF(link, struct client, link);
}

static inline struct event *client_event(struct client *client, uint8_t type)
{
    assert_true(client->count < EVENTS_MAX);
    struct event *event = &client->events[client->count++];
    *event = (struct event){.type = type};
    return event;
}

static inline void copy_text(char *to, struct slice from)
{
    assert_true(from.size < TEXT_MAX);
    if (from.size)
        memcpy(to, from.bytes, from.size);
    to[from.size] = '\0';
}

static inline void client_on_connack(struct link *link, const struct connack *connack)
{
    struct client *client = client_of(link);
    assert_false(client->answered);
    client->answered = true;
    client->connack = connack->reason;
    client->present = connack->session_present;
    client->expiry_s = connack->session_expiry_s;
    client->open = connack->reason == 0;
    if (connack->assigned_id.size)
        copy_text(client->id, connack->assigned_id);
}

static inline int client_on_publish(struct link *link, const struct delivery *delivery)
{
    struct client *client = client_of(link);
    assert_true(client->open); /* [MQTT3-3.2.0-1] [MQTT5-3.2.0-1] nothing comes before CONNACK */
    assert_true((delivery->qos > 0) == (delivery->packet_id > 0));
    if (client->full)
        return ERR_AGAIN;
    if (client->picky)
        return ERR_FULL;
    struct event *event = client_event(client, PACKET_PUBLISH);
    event->qos = delivery->qos;
    event->dup = delivery->dup;
    event->retain = delivery->retain;
    event->packet_id = delivery->packet_id;
    event->expiry_s = delivery->expiry_s;
    event->id_count = delivery->subscription_id_count;
    for (uint32_t i = 0; i < delivery->subscription_id_count && i < ARRAY_COUNT(event->ids); i++)
        event->ids[i] = delivery->subscription_ids[i];
    copy_text(event->topic, delivery->message->topic);
    copy_text(event->payload, delivery->message->payload);
    return 0;
}

static inline void client_on_ack(struct link *link, uint8_t packet_type, uint16_t packet_id,
                                 uint8_t reason, const char *reason_string)
{
    struct client *client = client_of(link);
    (void)reason_string;
    if (client->dead)
        return;
    assert_true(client->open);
    struct event *event = client_event(client, packet_type);
    event->packet_id = packet_id;
    event->reason = reason;
}

static inline void client_on_suback(struct link *link, uint16_t packet_id, const uint8_t *codes,
                                    size_t count, const char *reason_string)
{
    struct client *client = client_of(link);
    (void)reason_string;
    assert_true(client->open);
    struct event *event = client_event(client, PACKET_SUBACK);
    event->packet_id = packet_id;
    event->reason = codes[0];
    event->id_count = (uint32_t)count;
    for (uint32_t i = 0; i < count && i < ARRAY_COUNT(event->ids); i++)
        event->ids[i] = codes[i];
}

static inline void client_on_unsuback(struct link *link, uint16_t packet_id, const uint8_t *codes,
                                      size_t count)
{
    client_on_suback(link, packet_id, codes, count, NULL);
    struct client *client = client_of(link);
    client->events[client->count - 1].type = PACKET_UNSUBACK;
}

static inline void client_on_close(struct link *link, uint8_t reason, const char *reason_string)
{
    struct client *client = client_of(link);
    (void)reason_string;
    client->open = false;
    client->closed = reason;
}

static const struct link_ops client_ops = {
    .connack = client_on_connack,
    .publish = client_on_publish,
    .ack = client_on_ack,
    .suback = client_on_suback,
    .unsuback = client_on_unsuback,
    .close = client_on_close,
};

/* --- the server --------------------------------------------------------------------------------
 */

static inline uint64_t bed_wall_ms(void *data)
{
    return 1600000000000u + ((struct bed *)data)->now_ms;
}

static inline void bed_start(struct bed *bed)
{
    struct errmsg err = {.text = ""};
    assert_int_equal(loop_new(&bed->loop, &err), 0);
    bed->timers = timer_set_new(bed->now_ms);
    const struct broker_deps deps = {
        .store = bed->store,
        .meta = bed->meta,
        .loop = bed->loop,
        .timers = bed->timers,
        .metrics = bed->metrics,
        .rulebook = bed->rulebook,
        .wall_ms = bed_wall_ms,
        .clock_data = bed,
    };
    assert_int_equal(broker_new(&bed->config, &deps, &bed->broker, &err), 0);
}

static inline void bed_stop(struct bed *bed)
{
    bed->broker = broker_free(bed->broker);
    bed->timers = timer_set_free(bed->timers);
    bed->loop = loop_free(bed->loop);
}

/* rulebook: borrowed, may be NULL. */
static inline struct bed *bed_open_with(struct rulebook *rulebook)
{
    struct bed *bed = mem_new(sizeof *bed);
    bed->rulebook = rulebook;
    bed->now_ms = 1000;
    broker_config_default(&bed->config);
    bed->config.topics_auto_create = true;
    bed->config.sys_interval_s = 0;
    bed->metrics = metrics_new();
    assert_int_equal(mem_store_open(&bed->store, &bed->meta), 0);
    bed_start(bed);
    return bed;
}

static inline struct bed *bed_open(void)
{
    return bed_open_with(NULL);
}

/* Lets everything happen that is due now; the clock moves by what that takes, a few ms. */
static inline void bed_run(struct bed *bed)
{
    for (int quiet = 0, turns = 0; quiet < 3; turns++) {
        assert_true(turns < 100000); /* or it goes round in circles */
        assert_int_equal(loop_turn(bed->loop, 0), 0);
        const uint32_t steps = mem_store_step(bed->store, UINT32_MAX);
        const int64_t wait_ms = timer_set_wait_ms(bed->timers);
        const bool due = wait_ms >= 0 && wait_ms <= 1;
        if (due)
            timer_set_advance(bed->timers, ++bed->now_ms);
        quiet = steps || due ? 0 : quiet + 1;
    }
}

static inline void bed_pass(struct bed *bed, uint64_t ms)
{
    const uint64_t until_ms = bed->now_ms + ms;
    while (bed->now_ms < until_ms) {
        bed->now_ms += MIN(until_ms - bed->now_ms, 50u);
        timer_set_advance(bed->timers, bed->now_ms);
        bed_run(bed);
    }
}

static inline void bed_idle(void *data)
{
    *(bool *)data = true;
}

static inline void bed_close(struct bed *bed)
{
    bool idle = false;
    broker_drain(bed->broker, bed_idle, &idle);
    bed_run(bed);
    assert_true(idle);
    bed->store = store_close(bed->store);
    bed_stop(bed);
    bed->metrics = metrics_free(bed->metrics);
    mem_free(bed);
}

/* An orderly restart. */
static inline void bed_restart(struct bed *bed)
{
    bool idle = false;
    broker_drain(bed->broker, bed_idle, &idle);
    bed_run(bed);
    assert_true(idle);
    bed_stop(bed);
    mem_store_crash(&bed->store, &bed->meta, true); /* the same content in a new store */
    bed_start(bed);
}

/* What a core whose store is gone may still call while its memory is freed. */
static inline void gone_watch(struct store *store, const struct store_watcher *watcher)
{
    (void)store;
    (void)watcher;
}

static inline int gone_append(struct store *store, struct store_append *req)
{
    (void)store;
    (void)req;
    return ERR_UNAVAILABLE;
}

static inline int gone_read(struct store *store, struct store_read *req)
{
    (void)store;
    (void)req;
    return ERR_NOMEM;
}

static inline void gone_release(struct store *store, struct store_read *req)
{
    (void)store;
    (void)req;
}

static inline void gone_bounds(struct store *store, uint32_t queue_id, uint64_t *ret_first,
                               uint64_t *ret_next)
{
    (void)store;
    (void)queue_id;
    *ret_first = *ret_next = 0;
}

static const struct store_ops gone_ops = {
    .abi = STORE_ABI,
    .name = "gone",
    .watch = gone_watch,
    .append = gone_append,
    .read = gone_read,
    .release = gone_release,
    .queue_bounds = gone_bounds,
};

/* kill -9 and a new start, for connections that know already. lazy_survives: what was written but
 * never synced is still there. The requests that were under way are lost with the process, so their
 * memory stays behind. */
static inline void bed_kill(struct bed *bed, bool lazy_survives)
{
    static struct store gone = {.ops = &gone_ops};
    list_each (it, &bed->broker->session_list) {
        struct session *session = CONTAINER_OF(it, struct session, node);
        if (session->link)
            session->link->session = NULL;
    }
    mem_store_crash(&bed->store, &bed->meta, lazy_survives);
    bed->broker->deps.store = &gone;
    bed_stop(bed);
    bed_start(bed);
}

/* The same with struct client at the other ends. */
static inline void bed_crash(struct bed *bed, bool lazy_survives)
{
    list_each (it, &bed->broker->session_list) {
        struct session *session = CONTAINER_OF(it, struct session, node);
        if (session->link) {
            client_of(session->link)->dead = true;
            client_of(session->link)->open = false;
        }
    }
    bed_kill(bed, lazy_survives);
}

/* --- what clients do ---------------------------------------------------------------------------
 */

struct how {
    const char *username; /* for its rights, or NULL */
    uint8_t version;      /* 0 = 5 */
    bool clean;           /* clean start */
    uint32_t expiry_s;
    uint16_t receive_max; /* 0 = 65535 */
    const char *will;     /* topic, or NULL */
    const char *will_payload;
    uint8_t will_qos;
    bool will_retain;
    uint32_t will_delay_s;
};

static inline void client_connect_begin(struct bed *bed, struct client *client, const char *id,
                                        struct how how)
{
    (void)access_unref(client->link.access);
    memset(client, 0, sizeof *client);
    (void)snprintf(client->id, sizeof client->id, "%s", id);
    client->link.ops = &client_ops;
    if (bed->rulebook) {
        struct facts facts = {.address = address_parse(slice_str("192.0.2.7:1"))};
        facts.values[FACT_CLIENT_ID] = slice_str(client->id);
        facts.values[FACT_USERNAME] = slice_str(how.username ? how.username : "");
        client->link.access = access_new(bed->rulebook, &facts);
    }
    client->link.version = how.version ? how.version : MQTT_V5;
    client->link.receive_max = how.receive_max ? how.receive_max : 65535;
    struct packet_connect packet = {
        .version = client->link.version,
        .clean_start = how.clean,
        .client_id = slice_str(client->id),
        .has_will = how.will != NULL,
        .will_qos = how.will_qos,
        .will_retain = how.will_retain,
    };
    packet.props.session_expiry_s = how.expiry_s;
    packet.will_props.will_delay_s = how.will_delay_s;
    if (how.will) {
        packet.will_topic = slice_str(how.will);
        packet.will_payload = slice_str(how.will_payload ? how.will_payload : "will");
    }
    const struct link_connect req = {.packet = &packet, .keep_alive_s = 60};
    link_connect(bed->broker, &client->link, &req);
}

static inline void client_connect(struct bed *bed, struct client *client, const char *id,
                                  struct how how)
{
    client_connect_begin(bed, client, id, how);
    bed_run(bed);
    assert_true(client->answered);
    assert_int_equal(client->connack, 0);
}

static const struct how durable = {.expiry_s = 3600};
static const struct how transient = {.clean = true};

static inline void client_lose(struct client *client)
{
    link_lost(&client->link, 0);
    client->open = false;
}

static inline void client_disconnect(struct client *client)
{
    assert_int_equal(link_disconnect(&client->link, 0, false, 0), 0);
    client->open = false;
}

struct options {
    uint8_t qos;
    bool retain;
    uint16_t packet_id; /* 0: 1 */
    uint32_t expiry_s;  /* 0: none */
    bool dup;
};

static inline void client_publish(struct client *client, const char *topic, const char *payload,
                                  struct options options)
{
    struct packet_publish packet = {
        .dup = options.dup,
        .retain = options.retain,
        .qos = options.qos,
        .topic = slice_str(topic),
        .payload = slice_str(payload),
    };
    if (options.qos)
        packet.packet_id = options.packet_id ? options.packet_id : 1;
    if (options.expiry_s) {
        packet.props.has |= PROPS_BIT(PROP_MESSAGE_EXPIRY);
        packet.props.message_expiry_s = options.expiry_s;
    }
    link_publish(&client->link, &packet, packet.topic);
}

static inline void put_text(uint8_t *bytes, size_t *size, const char *text)
{
    const size_t length = strlen(text);
    bytes[(*size)++] = (uint8_t)(length >> 8);
    bytes[(*size)++] = (uint8_t)length;
    memcpy(bytes + *size, text, length);
    *size += length;
}

struct wants {
    uint8_t qos, handling;
    bool no_local, as_published;
    uint8_t id; /* subscription identifier, below 128 */
};

/* Sends SUBSCRIBE with one filter, through the real decoder. */
static inline void client_subscribe_begin(struct bed *bed, struct client *client,
                                          const char *filter, struct wants wants)
{
    uint8_t bytes[TEXT_MAX + 16];
    size_t size = 0;
    bed->packet_id = (uint16_t)(bed->packet_id % 60000 + 1);
    bytes[size++] = (uint8_t)(bed->packet_id >> 8);
    bytes[size++] = (uint8_t)bed->packet_id;
    if (client->link.version == MQTT_V5) {
        bytes[size++] = wants.id ? 2 : 0;
        if (wants.id) {
            bytes[size++] = 0x0B;
            bytes[size++] = wants.id;
        }
    }
    put_text(bytes, &size, filter);
    const bool is_v5 = client->link.version == MQTT_V5;
    bytes[size++] =
        (uint8_t)(wants.qos | (is_v5 && wants.no_local ? 4 : 0) |
                  (is_v5 && wants.as_published ? 8 : 0) | (is_v5 ? wants.handling << 4 : 0));
    struct packet_subscribe packet;
    uint8_t reason;
    assert_int_equal(dec_subscribe(slice_of(bytes, size), client->link.version, &packet, &reason),
                     0);
    link_subscribe(&client->link, &packet);
}

static inline void client_unsubscribe_begin(struct bed *bed, struct client *client,
                                            const char *filter)
{
    uint8_t bytes[TEXT_MAX + 16];
    size_t size = 0;
    bed->packet_id = (uint16_t)(bed->packet_id % 60000 + 1);
    bytes[size++] = (uint8_t)(bed->packet_id >> 8);
    bytes[size++] = (uint8_t)bed->packet_id;
    if (client->link.version == MQTT_V5)
        bytes[size++] = 0;
    put_text(bytes, &size, filter);
    struct packet_unsubscribe packet;
    uint8_t reason;
    assert_int_equal(dec_unsubscribe(slice_of(bytes, size), client->link.version, &packet, &reason),
                     0);
    link_unsubscribe(&client->link, &packet);
}

/* --- what tests look at ------------------------------------------------------------------------
 */

/* The number that a payload begins with. */
static inline int payload_number(const struct event *event)
{
    return (int)strtol(event->payload, NULL, 10);
}

/* The next event, or NULL when all have been looked at. */
static inline struct event *client_next(struct client *client)
{
    return client->read < client->count ? &client->events[client->read++] : NULL;
}

static inline struct event *client_expect(struct client *client, uint8_t type)
{
    struct event *event = client_next(client);
    if (!event)
        fail_msg("client %s was sent nothing; packet type %u was expected", client->id, type);
    if (event->type != type)
        fail_msg("client %s was sent packet type %u ('%s'), %u was expected", client->id,
                 event->type, event->payload, type);
    return event;
}

static inline void client_expect_nothing(struct client *client)
{
    const struct event *event = client_next(client);
    if (event)
        fail_msg("client %s was sent packet type %u ('%s'), nothing was expected", client->id,
                 event->type, event->payload);
}

static inline struct event *client_expect_message(struct client *client, const char *payload,
                                                  uint8_t qos)
{
    struct event *event = client_expect(client, PACKET_PUBLISH);
    assert_string_equal(event->payload, payload);
    assert_int_equal(event->qos, qos);
    return event;
}

/* Subscribes and looks at the SUBACK, wherever retained messages left it. */
static inline uint8_t client_subscribe(struct bed *bed, struct client *client, const char *filter,
                                       struct wants wants)
{
    client_subscribe_begin(bed, client, filter, wants);
    bed_run(bed);
    const struct event *event = client_expect(client, PACKET_SUBACK);
    assert_int_equal(event->packet_id, bed->packet_id);
    return event->reason;
}

static inline uint8_t client_unsubscribe(struct bed *bed, struct client *client, const char *filter)
{
    client_unsubscribe_begin(bed, client, filter);
    bed_run(bed);
    const struct event *event = client_expect(client, PACKET_UNSUBACK);
    assert_int_equal(event->packet_id, bed->packet_id);
    return event->reason;
}

static inline void client_ack(struct bed *bed, struct client *client, uint8_t type,
                              uint16_t packet_id)
{
    link_ack(&client->link, type, packet_id, 0);
    bed_run(bed);
}
