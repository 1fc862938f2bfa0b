/* Testbed: a proxy on a real loop with a fake core, a fake clock and clients over socket pairs.
 *
 * The fake core implements link.h right here, so that a test links without the real one. It records
 * what it is told and answers as the test asks. For unit tests only: one test executable includes
 * it once.
 */
#pragma once

#include "base/mem.h"
#include "base/unit.h"
#include "net/tcp.h"
#include "proxy/proxy_priv.h"

#include <fcntl.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* --- the fake core -----------------------------------------------------------------------------
 */

enum { CORE_TEXT_MAX = 4096 };

static struct core {
    bool holds_connack; /* link_connect does not answer */
    uint8_t connack_reason;
    const char *assigned_id;
    bool session_present;
    bool acks; /* publishes are acknowledged inside the call */
    uint8_t ack_reason, close_reason, disconnect_answer;
    uint32_t pending;
    bool waits; /* PUBLISH at QoS 1 and 2 must wait */
    int waits_first;

    struct link *link; /* the last one that connected */
    int connects, publishes, acks_in, subscribes, unsubscribes, disconnects, losts, writables;
    uint8_t lost_reason, disconnect_reason, ack_type;
    uint16_t ack_id;
    bool has_expiry;
    uint32_t expiry_s, payload_size;
    uint16_t keep_alive_s;
    char topic[CORE_TEXT_MAX];
} core;

void link_connect(struct broker *broker, struct link *link, const struct link_connect *req)
{
    (void)broker;
    core.link = link;
    core.connects++;
    core.keep_alive_s = req->keep_alive_s;
    if (core.holds_connack)
        return;
    const struct connack connack = {
        .reason = core.connack_reason,
        .session_present = core.session_present,
        .reason_string = core.connack_reason ? "no" : NULL,
        .assigned_id = core.assigned_id ? slice_str(core.assigned_id) : slice_of(NULL, 0),
        .session_expiry_s = req->packet->props.session_expiry_s,
        .keep_alive_s = req->keep_alive_s,
        .receive_max = 1024,
    };
    link->ops->connack(link, &connack);
}

void link_publish(struct link *link, const struct packet_publish *packet, struct slice topic)
{
    core.publishes++;
    core.payload_size = packet->payload.size;
    const size_t size = MIN(topic.size, sizeof core.topic - 1);
    memcpy(core.topic, topic.bytes, size);
    core.topic[size] = '\0';
    if (core.close_reason)
        link->ops->close(link, core.close_reason, NULL);
    else if (core.acks && packet->qos > 0)
        link->ops->ack(link, packet->qos == 1 ? PACKET_PUBACK : PACKET_PUBREC, packet->packet_id,
                       core.ack_reason, core.ack_reason ? "refused" : NULL);
    else if (packet->qos > 0)
        core.pending++;
}

void link_ack(struct link *link, uint8_t packet_type, uint16_t packet_id, uint8_t reason)
{
    (void)link;
    (void)reason;
    core.acks_in++;
    core.ack_type = packet_type;
    core.ack_id = packet_id;
}

void link_subscribe(struct link *link, const struct packet_subscribe *packet)
{
    core.subscribes++;
    uint8_t codes[8] = {0};
    uint32_t pos = 0;
    struct subscribe_entry entry;
    for (uint32_t i = 0; i < 8 && subscribe_next(packet, &pos, &entry); i++)
        codes[i] = entry.qos;
    link->ops->suback(link, packet->packet_id, codes, packet->count, NULL);
}

void link_unsubscribe(struct link *link, const struct packet_unsubscribe *packet)
{
    core.unsubscribes++;
    link->ops->unsuback(link, packet->packet_id, (const uint8_t[8]){0}, packet->count);
}

uint8_t link_disconnect(struct link *link, uint8_t reason, bool has_expiry, uint32_t expiry_s)
{
    (void)link;
    core.disconnects++;
    core.disconnect_reason = reason;
    core.has_expiry = has_expiry;
    core.expiry_s = expiry_s;
    return core.disconnect_answer;
}

void link_lost(struct link *link, uint8_t reason)
{
    ASSERT(link == core.link);
    core.losts++;
    core.lost_reason = reason;
}

void link_writable(struct link *link)
{
    (void)link;
    core.writables++;
}

bool link_must_wait(struct link *link, uint8_t packet_type, uint8_t qos, bool first)
{
    (void)link;
    const bool waits = core.waits && packet_type == PACKET_PUBLISH && qos > 0;
    core.waits_first += waits && first;
    return waits;
}

uint32_t link_publish_pending(const struct link *link)
{
    (void)link;
    return core.pending;
}

/* --- the bench ----------------------------------------------------------------------------------
 */

struct bench {
    struct loop *loop;
    struct timer_set *clock;
    struct metrics *metrics;
    struct auth *auth;
    struct proxy *proxy;
    uint64_t now_ms;
    int fd; /* the client's end */
    struct conn *conn;
};

static inline void bench_open(struct bench *bench, const struct proxy_config *config)
{
    core = (struct core){0};
    *bench = (struct bench){.now_ms = 1000, .fd = -1};
    ASSERT(loop_new(&bench->loop, NULL) == 0);
    bench->clock = timer_set_new(bench->now_ms);
    bench->metrics = metrics_new();
    const struct auth_config auth = {.anonymous = true};
    const struct auth_deps auth_deps = {0};
    ASSERT(auth_new(&auth, &auth_deps, &bench->auth, NULL) == 0);
    const struct proxy_deps deps = {
        .loop = bench->loop, .auth = bench->auth, .metrics = bench->metrics};
    struct proxy_config usual;
    proxy_config_default(&usual);
    ASSERT(proxy_new(config ? config : &usual, &deps, &bench->proxy, NULL) == 0);
    bench->proxy->timers = bench->clock;
}

/* A new client; the bench follows the last one. */
static inline int bench_client(struct bench *bench)
{
    int pair[2];
    ASSERT(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    bench->fd = pair[0];
    bench->conn = proxy_adopt(bench->proxy, tcp_new(bench->loop, pair[1], NULL), "test");
    return pair[0];
}

static inline void bench_turn(struct bench *bench)
{
    for (int i = 0; i < 4; i++)
        ASSERT(loop_turn(bench->loop, 0) == 0);
}

static inline void bench_advance(struct bench *bench, uint64_t ms)
{
    bench->now_ms += ms;
    timer_set_advance(bench->clock, bench->now_ms);
    bench_turn(bench);
}

static inline void bench_send(struct bench *bench, const void *bytes, size_t size)
{
    ASSERT(send(bench->fd, bytes, size, MSG_NOSIGNAL) == (ssize_t)size);
    bench_turn(bench);
}

/* Sends all of it, however much the socket takes at a time. */
static inline void bench_send_all(struct bench *bench, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        const ssize_t n = send(bench->fd, bytes, size, MSG_NOSIGNAL);
        if (n > 0) {
            bytes += n;
            size -= (size_t)n;
        }
        bench_turn(bench);
    }
}

/* What has arrived at the client: bytes, 0 at the end of the stream, -1 when there is nothing. */
static inline ssize_t bench_receive(struct bench *bench, void *bytes, size_t size)
{
    bench_turn(bench);
    return read(bench->fd, bytes, size);
}

#define SEND(bench, ...)                                                                           \
    do {                                                                                           \
        const uint8_t bytes_[] = {__VA_ARGS__};                                                    \
        bench_send(bench, bytes_, sizeof bytes_);                                                  \
    } while (0)

/* The next bytes at the client are exactly these. */
#define EXPECT(bench, ...)                                                                         \
    do {                                                                                           \
        const uint8_t wanted_[] = {__VA_ARGS__};                                                   \
        uint8_t got_[sizeof wanted_] = {0};                                                        \
        assert_int_equal(bench_receive(bench, got_, sizeof got_), sizeof wanted_);                 \
        assert_memory_equal(got_, wanted_, sizeof wanted_);                                        \
    } while (0)

#define EXPECT_NOTHING(bench) assert_int_equal(bench_receive(bench, (uint8_t[1]){0}, 1), -1)
#define EXPECT_END(bench)     assert_int_equal(bench_receive(bench, (uint8_t[1]){0}, 1), 0)

#define CONNECT_311           0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 60, 0, 1, 'c'
#define CONNECT_5             0x10, 14, 0, 4, 'M', 'Q', 'T', 'T', 5, 2, 0, 60, 0, 0, 1, 'c'

/* A connected client whose CONNACK has been read. */
static inline void bench_connect(struct bench *bench, uint8_t version)
{
    uint8_t answer[64];
    (void)bench_client(bench);
    if (version == MQTT_V5)
        SEND(bench, CONNECT_5);
    else
        SEND(bench, CONNECT_311);
    const ssize_t n = bench_receive(bench, answer, sizeof answer);
    ASSERT(n >= 4);
    ASSERT(answer[0] == 0x20);
    ASSERT(answer[3] == 0);
    ASSERT(bench->conn->state == CONN_OPEN);
}

static inline void bench_close(struct bench *bench)
{
    bench->proxy = proxy_free(bench->proxy);
    /* All that was taken was given back. */
    ASSERT(metric_get(&bench->metrics->memory_used) == 0);
    ASSERT(metric_get(&bench->metrics->connections) == 0);
    (void)auth_free(bench->auth);
    (void)timer_set_free(bench->clock);
    (void)metrics_free(bench->metrics);
    (void)loop_free(bench->loop);
    if (bench->fd >= 0)
        (void)close(bench->fd);
}
