/* Channels against a server on the same loop: what is sent and answered, in which order, and what
 * becomes of it when the server is slow, silent, wrong or gone. */
#include "rocketmq/rmq_channel.h"
#include "rocketmq/rmq_dial.h"
#include "rocketmq/server_fixture.h"

enum { ASKS_MAX = 300, LONG_MS = 60000 };

/* A request of the test's, and what became of it. */
struct ask {
    struct rmq_pending pending;
    struct bed *bed;
    int ends, turn; /* turn: the how many-th to end */
    int err, code;
    bool was_sent;
    char body[64], why[300];
};

struct bed {
    struct loop *loop;
    struct worker_pool *workers;
    struct mailbox *mailbox;
    struct rmq_channel *channel;
    struct server server;
    struct ask asks[ASKS_MAX];
    int ends, opens, losses;
};

static void on_open(void *data, struct rmq_channel *channel)
{
    struct bed *bed = data;
    (void)channel;
    bed->opens++;
}

static void on_lost(void *data, struct rmq_channel *channel, const char *why)
{
    struct bed *bed = data;
    (void)channel;
    assert_true(why[0] != '\0');
    bed->losses++;
}

static struct rmq_net net_of(const struct bed *bed)
{
    return (struct rmq_net){bed->loop, bed->workers, bed->mailbox};
}

static void open_channel(struct bed *bed, const char *address)
{
    const struct rmq_net net = net_of(bed);
    const struct rmq_channel_options options = {
        .address = address,
        .connect_timeout_ms = LONG_MS,
        .retry_min_ms = 1,
        .retry_max_ms = 8,
        .pending_size_max = 1 << 20,
        .events = {on_open, on_lost, bed},
    };
    bed->channel = rmq_channel_new(&net, &options);
}

static void open_bed(struct bed *bed)
{
    memset(bed, 0, sizeof *bed);
    assert_int_equal(loop_new(&bed->loop, NULL), 0);
    assert_int_equal(mailbox_new(bed->loop, &bed->mailbox, NULL), 0);
    assert_int_equal(worker_pool_new(1, &bed->workers, NULL), 0);
    server_open(&bed->server, bed->loop, 0);
    open_channel(bed, bed->server.address);
}

static void close_bed(struct bed *bed)
{
    bed->channel = rmq_channel_free(bed->channel);
    server_close(&bed->server);
    bed->workers = worker_pool_free(bed->workers);
    bed->mailbox = mailbox_free(bed->mailbox);
    bed->loop = loop_free(bed->loop);
    for (int i = 0; i < ASKS_MAX; i++)
        (void)buf_unref(bed->asks[i].pending.frame);
}

static void on_answer(struct rmq_pending *pending, const struct rmq_answer *answer)
{
    struct ask *ask = CONTAINER_OF(pending, struct ask, pending);
    assert_null(pending->channel);
    ask->ends++;
    ask->turn = ++ask->bed->ends;
    ask->err = answer->err;
    ask->was_sent = answer->was_sent;
    if (answer->err == 0) {
        ask->code = answer->command->code;
        memcpy(ask->body, answer->body.bytes, MIN(answer->body.size, sizeof ask->body - 1));
    } else {
        assert_true(answer->why[0] != '\0');
        (void)snprintf(ask->why, sizeof ask->why, "%s", answer->why);
    }
}

static int submit(struct bed *bed, int i, uint32_t timeout_ms, struct slice body)
{
    struct ask *ask = &bed->asks[i];
    const struct rmq_command command = {
        .code = RMQ_HEART_BEAT, .version = RMQ_VERSION, .opaque = 1000 + i};
    ask->bed = bed;
    (void)buf_unref(ask->pending.frame);
    assert_int_equal(rmq_command_encode(&command, RMQ_BINARY, body, &ask->pending.frame), 0);
    ask->pending.opaque = command.opaque;
    ask->pending.timeout_ms = timeout_ms;
    ask->pending.done = on_answer;
    return rmq_channel_submit(bed->channel, &ask->pending);
}

static struct ask *start(struct bed *bed, int i, uint32_t timeout_ms)
{
    const int before = bed->asks[i].ends;
    assert_int_equal(submit(bed, i, timeout_ms, slice_of(NULL, 0)), 0);
    assert_int_equal(bed->asks[i].ends, before); /* never inside the call */
    return &bed->asks[i];
}

static void wait_for_requests(struct bed *bed, int count)
{
    while (bed->server.requests < count)
        assert_int_equal(loop_turn(bed->loop, -1), 0);
}

static void wait_for_ends(struct bed *bed, int count)
{
    while (bed->ends < count)
        assert_int_equal(loop_turn(bed->loop, -1), 0);
}

static const struct server_note *note_of(const struct bed *bed, int opaque)
{
    const struct server_note *found = NULL;
    for (int i = 0; i < bed->server.requests; i++) {
        if (bed->server.notes[i].opaque == opaque)
            found = &bed->server.notes[i];
    }
    assert_non_null(found);
    return found;
}

/* --- tests --------------------------------------------------------------------------------------
 */

static void answers_come_in_any_order(void **state)
{
    (void)state;
    struct bed bed;
    open_bed(&bed);
    for (int i = 0; i < ASKS_MAX; i++)
        (void)start(&bed, i, LONG_MS);
    wait_for_requests(&bed, ASKS_MAX); /* none was answered so far: they are pipelined */
    assert_int_equal(bed.server.accepts, 1);
    for (int i = 0; i < ASKS_MAX; i++)
        assert_int_equal(bed.server.notes[i].opaque, 1000 + i);
    for (int i = ASKS_MAX; i-- > 0;) {
        char body[32];
        bed.server.format = i % 2 ? RMQ_JSON : RMQ_BINARY;
        (void)snprintf(body, sizeof body, "answer %d", i);
        server_answer(&bed.server.links[0], 1000 + i, i % 3, NULL, body);
    }
    wait_for_ends(&bed, ASKS_MAX);
    for (int i = 0; i < ASKS_MAX; i++) {
        char body[32];
        (void)snprintf(body, sizeof body, "answer %d", i);
        assert_int_equal(bed.asks[i].ends, 1);
        assert_int_equal(bed.asks[i].turn, ASKS_MAX - i);
        assert_int_equal(bed.asks[i].code, i % 3);
        assert_string_equal(bed.asks[i].body, body);
    }
    close_bed(&bed);
}

/* One that is late fails by itself, as others are answered; its answer harms nobody. */
static void late_answers_are_not_awaited(void **state)
{
    (void)state;
    struct bed bed;
    open_bed(&bed);
    (void)start(&bed, 1, LONG_MS);
    struct ask *late = start(&bed, 0, 2000);
    wait_for_requests(&bed, 2);
    while (loop_now_ms(bed.loop) <= late->pending.since_ms + 5)
        assert_int_equal(loop_turn(bed.loop, 10), 0);
    server_answer(&bed.server.links[0], 1001, 0, NULL, "");
    wait_for_ends(&bed, 2);
    assert_int_equal(late->err, -ETIMEDOUT);
    assert_true(late->was_sent);
    assert_non_null(strstr(late->why, "has not answered within 2000 ms"));
    server_answer(&bed.server.links[0], 1000, 0, NULL, "late");
    (void)start(&bed, 2, LONG_MS);
    wait_for_requests(&bed, 3);
    server_answer(&bed.server.links[0], 1002, 0, NULL, "");
    wait_for_ends(&bed, 3);
    assert_int_equal(late->ends, 1);
    assert_int_equal(bed.asks[2].err, 0);
    assert_int_equal(bed.server.accepts, 1);
    close_bed(&bed);
}

/* A server that says nothing at all is dead: the next request goes over another connection. */
static void silent_connections_are_given_up(void **state)
{
    (void)state;
    struct bed bed;
    open_bed(&bed);
    (void)start(&bed, 1, LONG_MS);
    wait_for_requests(&bed, 1);
    (void)start(&bed, 0, 50);
    wait_for_ends(&bed, 2);
    assert_int_equal(bed.asks[0].err, -ETIMEDOUT);
    assert_int_equal(bed.asks[1].err, ERR_CLOSED);
    assert_true(bed.asks[1].was_sent);
    assert_int_equal(bed.losses, 1);
    (void)start(&bed, 2, LONG_MS);
    wait_for_requests(&bed, 3);
    assert_int_equal(bed.server.accepts, 2);
    close_bed(&bed);
}

static void lost_connections_fail_what_was_sent(void **state)
{
    (void)state;
    struct bed bed;
    open_bed(&bed);
    (void)start(&bed, 0, LONG_MS);
    wait_for_requests(&bed, 1);
    server_hang_up(&bed.server.links[0]);
    wait_for_ends(&bed, 1);
    assert_int_equal(bed.asks[0].err, ERR_CLOSED);
    assert_true(bed.asks[0].was_sent);
    assert_non_null(strstr(bed.asks[0].why, "the server has closed it"));
    assert_true(rmq_channel_is_failing(bed.channel));
    (void)start(&bed, 0, LONG_MS); /* the same once more, over the next connection */
    wait_for_requests(&bed, 2);
    server_answer(note_of(&bed, 1000)->link, 1000, 0, NULL, "");
    wait_for_ends(&bed, 2);
    assert_int_equal(bed.asks[0].err, 0);
    assert_int_equal(bed.opens, 2);
    assert_false(rmq_channel_is_failing(bed.channel));
    close_bed(&bed);
}

/* What no connection has seen outlives the one that is lost. */
static void unsent_requests_go_over_the_next_connection(void **state)
{
    (void)state;
    struct bed bed;
    open_bed(&bed);
    (void)start(&bed, 0, LONG_MS);
    wait_for_requests(&bed, 1);
    server_answer(&bed.server.links[0], 1000, RMQ_R_GO_AWAY, NULL, "");
    wait_for_ends(&bed, 1);
    assert_int_equal(bed.asks[0].code, RMQ_R_GO_AWAY);
    (void)start(&bed, 1, LONG_MS);
    wait_for_requests(&bed, 2);
    assert_ptr_equal(note_of(&bed, 1001)->link, &bed.server.links[1]);
    server_answer(&bed.server.links[1], 1001, 0, NULL, "");
    wait_for_ends(&bed, 2);
    assert_int_equal(bed.asks[1].err, 0);
    close_bed(&bed);
}

/* Told to go away, it waits for what is under way, and sends the rest elsewhere. */
static void going_away_waits_for_answers(void **state)
{
    (void)state;
    struct bed bed;
    open_bed(&bed);
    (void)start(&bed, 0, LONG_MS);
    (void)start(&bed, 1, LONG_MS);
    wait_for_requests(&bed, 2);
    struct server_link *link = &bed.server.links[0];
    server_answer(link, 1000, RMQ_R_GO_AWAY, NULL, "");
    wait_for_ends(&bed, 1);
    (void)start(&bed, 2, LONG_MS);
    assert_int_equal(loop_turn(bed.loop, 0), 0);
    assert_false(rmq_channel_is_open(bed.channel));
    server_answer(link, 1001, 0, NULL, "in time");
    wait_for_requests(&bed, 3);
    assert_string_equal(bed.asks[1].body, "in time");
    assert_ptr_equal(note_of(&bed, 1002)->link, &bed.server.links[1]);
    assert_int_equal(bed.asks[2].ends, 0);
    close_bed(&bed);
}

static void requests_of_the_server_are_answered(void **state)
{
    (void)state;
    static const struct {
        int32_t code;
        uint32_t flag;
        int answer; /* -1: none */
    } rows[] = {
        {RMQ_NOTIFY_CONSUMER_IDS_CHANGED, RMQ_FLAG_ONE_WAY, -1},
        {RMQ_NOTIFY_CONSUMER_IDS_CHANGED, 0, -1},
        {12345, RMQ_FLAG_ONE_WAY, -1},
        {RMQ_GET_CONSUMER_RUNNING_INFO, 0, RMQ_R_REQUEST_CODE_NOT_SUPPORTED},
        {RMQ_NOTIFY_UNSUBSCRIBE_LITE, 0, RMQ_R_SUCCESS},
        {RMQ_R_GO_AWAY, RMQ_FLAG_ONE_WAY, -1},
    };
    struct bed bed;
    open_bed(&bed);
    int requests = 1;
    (void)start(&bed, 0, LONG_MS);
    wait_for_requests(&bed, 1);
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        const struct rmq_command command = {
            .code = rows[i].code, .opaque = 77 + (int32_t)i, .flag = rows[i].flag};
        server_send_command(&bed.server.links[0], &command, slice_of("x", 1));
        if (rows[i].answer >= 0) {
            wait_for_requests(&bed, ++requests);
            const struct server_note *note = note_of(&bed, 77 + (int)i);
            assert_int_equal(note->code, rows[i].answer);
            assert_int_equal(note->flag, RMQ_FLAG_ANSWER);
        }
    }
    server_answer(&bed.server.links[0], 1000, 0, NULL, "");
    wait_for_ends(&bed, 1);
    assert_int_equal(bed.server.requests, requests);
    while (bed.losses == 0) /* the last one was to go away */
        assert_int_equal(loop_turn(bed.loop, -1), 0);
    close_bed(&bed);
}

static void wrong_answers_end_the_connection(void **state)
{
    (void)state;
    static const struct {
        const char *bytes;
        size_t size;
        const char *why;
    } rows[] = {
        {"HTTP/1.1 400 Bad Request\r\n", 26, "not RocketMQ's protocol"},
        {"\0\0\0\6\0\0\0\2{}", 10, "no code"},
        {"\0\0\0\4\7\0\0\0", 8, "neither JSON nor ROCKETMQ"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct bed bed;
        open_bed(&bed);
        (void)start(&bed, 0, LONG_MS);
        wait_for_requests(&bed, 1);
        server_send(&bed.server.links[0], rows[i].bytes, rows[i].size);
        wait_for_ends(&bed, 1);
        assert_int_equal(bed.asks[0].err, ERR_CLOSED);
        assert_non_null(strstr(bed.asks[0].why, rows[i].why));
        close_bed(&bed);
    }
}

/* With nobody there all fails, again and again, with a pause in between; then somebody is there. */
static void servers_may_come_back(void **state)
{
    (void)state;
    struct bed bed;
    open_bed(&bed);
    const uint16_t port = server_port(&bed.server);
    server_close(&bed.server);
    for (int i = 0; i < 5; i++) {
        (void)start(&bed, 0, LONG_MS);
        (void)start(&bed, 1, LONG_MS);
        wait_for_ends(&bed, 2 * i + 2);
        assert_int_equal(bed.asks[0].err, ERR_UNAVAILABLE);
        assert_false(bed.asks[0].was_sent);
        assert_non_null(strstr(bed.asks[0].why, "Connection refused"));
        assert_int_equal(bed.losses, i + 1);
    }
    assert_true(rmq_channel_is_failing(bed.channel));
    server_open(&bed.server, bed.loop, port);
    (void)start(&bed, 0, LONG_MS);
    wait_for_requests(&bed, 1);
    server_answer(&bed.server.links[0], 1000, 0, NULL, "");
    wait_for_ends(&bed, 11);
    assert_int_equal(bed.asks[0].err, 0);
    close_bed(&bed);
}

static void bytes_under_way_are_bounded(void **state)
{
    (void)state;
    static char body[300 * 1024];
    struct bed bed;
    open_bed(&bed);
    for (int i = 0; i < 3; i++)
        assert_int_equal(submit(&bed, i, LONG_MS, slice_of(body, sizeof body)), 0);
    assert_int_equal(submit(&bed, 3, LONG_MS, slice_of(body, sizeof body)), ERR_FULL);
    wait_for_requests(&bed, 3); /* large ones go in pieces */
    server_answer(&bed.server.links[0], 1000, 0, NULL, "");
    wait_for_ends(&bed, 1);
    assert_int_equal(submit(&bed, 3, LONG_MS, slice_of(body, sizeof body)), 0);
    assert_int_equal(bed.asks[3].ends, 0);
    close_bed(&bed);
}

static void requests_are_cancelled(void **state)
{
    (void)state;
    struct bed bed;
    open_bed(&bed);
    rmq_pending_cancel(&start(&bed, 0, LONG_MS)->pending); /* before it is sent */
    struct ask *sent = start(&bed, 1, LONG_MS);
    wait_for_requests(&bed, 1);
    assert_int_equal(bed.server.notes[0].opaque, 1001);
    rmq_pending_cancel(&sent->pending);
    rmq_pending_cancel(&sent->pending);
    server_answer(&bed.server.links[0], 1001, 0, NULL, "");
    (void)start(&bed, 2, LONG_MS);
    wait_for_requests(&bed, 2);
    server_answer(&bed.server.links[0], 1002, 0, NULL, "");
    wait_for_ends(&bed, 1);
    (void)start(&bed, 3, LONG_MS); /* cancelled with the channel */
    close_bed(&bed);
    assert_int_equal(bed.asks[0].ends + bed.asks[1].ends + bed.asks[3].ends, 0);
}

/* A name is resolved by a worker; a channel may end while that is under way. */
static void names_are_resolved(void **state)
{
    (void)state;
    struct bed bed;
    char address[64];
    open_bed(&bed);
    (void)rmq_channel_free(bed.channel);
    (void)snprintf(address, sizeof address, "localhost:%u", server_port(&bed.server));
    open_channel(&bed, address);
    (void)start(&bed, 0, LONG_MS);
    wait_for_requests(&bed, 1);
    server_answer(&bed.server.links[0], 1000, 0, NULL, "");
    wait_for_ends(&bed, 1);
    assert_int_equal(bed.asks[0].err, 0);
    (void)rmq_channel_free(bed.channel);
    open_channel(&bed, address);
    (void)start(&bed, 1, LONG_MS);
    close_bed(&bed);
    assert_int_equal(bed.asks[1].ends, 0);
}

static void addresses_are_checked(void **state)
{
    (void)state;
    static const struct {
        const char *address;
        int err;
        const char *host, *port;
    } rows[] = {
        {"a:1", 0, "a", "1"},          {"10.0.0.1:9876", 0, "10.0.0.1", "9876"},
        {"[::1]:5", 0, "::1", "5"},    {"", ERR_INVALID, "", ""},
        {"a", ERR_INVALID, "", ""},    {":1", ERR_INVALID, "", ""},
        {"a:", ERR_INVALID, "", ""},   {"::1:5", ERR_INVALID, "", ""},
        {"[]:5", ERR_INVALID, "", ""}, {"[::1:5", ERR_INVALID, "", ""},
        {"a:1x", ERR_INVALID, "", ""}, {"a:123456", ERR_INVALID, "", ""},
        {"a:-1", ERR_INVALID, "", ""},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        char host[RMQ_ADDRESS_SIZE_MAX] = "", port[6] = "";
        assert_int_equal(rmq_dial_parse(rows[i].address, host, port), rows[i].err);
        assert_string_equal(host, rows[i].host);
        assert_string_equal(port, rows[i].port);
    }
    struct bed bed;
    open_bed(&bed);
    (void)rmq_channel_free(bed.channel);
    open_channel(&bed, "no port");
    (void)start(&bed, 0, LONG_MS);
    wait_for_ends(&bed, 1);
    assert_int_equal(bed.asks[0].err, ERR_UNAVAILABLE);
    assert_non_null(strstr(bed.asks[0].why, "write host:port"));
    close_bed(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_come_in_any_order),
        cmocka_unit_test(late_answers_are_not_awaited),
        cmocka_unit_test(silent_connections_are_given_up),
        cmocka_unit_test(lost_connections_fail_what_was_sent),
        cmocka_unit_test(unsent_requests_go_over_the_next_connection),
        cmocka_unit_test(going_away_waits_for_answers),
        cmocka_unit_test(requests_of_the_server_are_answered),
        cmocka_unit_test(wrong_answers_end_the_connection),
        cmocka_unit_test(servers_may_come_back),
        cmocka_unit_test(bytes_under_way_are_bounded),
        cmocka_unit_test(requests_are_cancelled),
        cmocka_unit_test(names_are_resolved),
        cmocka_unit_test(addresses_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
