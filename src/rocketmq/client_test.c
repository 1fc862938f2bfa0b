/* The client against NameSrvs and Brokers on the same loop that answer as the test says: whom it
 * asks, when it asks again, and what it makes of the answers. */
#include "rocketmq/message_fixture.h"
#include "rocketmq/rmq_admin.h"
#include "rocketmq/rmq_client_priv.h"
#include "rocketmq/rmq_requests.h"
#include "rocketmq/rmq_results.h"
#include "rocketmq/server_fixture.h"

enum { ROUTE_MAX = 1024, LONG_MS = 60000, ENDS_MAX = 64 };

/* What a call came to. */
struct end {
    struct bed *bed;
    int count;
    enum rmq_outcome outcome;
    int32_t code;
    char why[512], broker[64], address[64];
    struct rmq_sent sent;
    uint64_t offset;
};

struct bed {
    struct loop *loop;
    struct mailbox *mailbox;
    struct rmq_client *client;
    struct server names[2], brokers[2]; /* NameSrvs; Brokers a and b */
    char route[ROUTE_MAX];              /* what NameSrvs answer; "": 17 */
    int route_requests;
    int32_t codes[8]; /* what Brokers answer, the last again and again */
    int code_count, answers;
    struct rmq_fields fields; /* of that */
    char body[ROUTE_MAX];
    int losses;
};

static void set_route(struct bed *bed, const char *master_a, const char *master_b)
{
    (void)snprintf(
        bed->route, sizeof bed->route,
        "{\"brokerDatas\":[{\"brokerName\":\"a\",\"cluster\":\"c\",\"brokerAddrs\":{%s%s%s"
        "1:\"127.0.0.1:1\"}},{\"brokerName\":\"b\",\"cluster\":\"c\",\"brokerAddrs\":"
        "{\"0\":\"%s\"}}],\"queueDatas\":[{\"brokerName\":\"a\",\"perm\":6,"
        "\"readQueueNums\":4,\"writeQueueNums\":4},{\"brokerName\":\"b\",\"perm\":4,"
        "\"readQueueNums\":4,\"writeQueueNums\":4}]}",
        master_a ? "0:\"" : "", master_a ? master_a : "", master_a ? "\"," : "", master_b);
}

static void on_name_request(struct server_link *link, const struct rmq_command *command,
                            struct slice body)
{
    struct bed *bed = link->server->data;
    (void)body;
    if (command->code == RMQ_GET_ROUTEINFO_BY_TOPIC) {
        bed->route_requests++;
        server_answer(link, command->opaque, bed->route[0] ? 0 : RMQ_R_TOPIC_NOT_EXIST, NULL,
                      bed->route);
    } else if (command->code == RMQ_GET_BROKER_CLUSTER_INFO) {
        char text[ROUTE_MAX];
        (void)snprintf(
            text, sizeof text,
            "{\"brokerAddrTable\":{\"a\":{\"brokerName\":\"a\",\"brokerAddrs\":{0:\"%s\"}},"
            "\"b\":{\"brokerName\":\"b\",\"brokerAddrs\":{0:\"%s\",2:\"127.0.0.1:1\"}}}}",
            bed->brokers[0].address, bed->brokers[1].address);
        server_answer(link, command->opaque, 0, NULL, text);
    } else {
        server_answer(link, command->opaque, 0, &bed->fields, "");
    }
}

static void on_broker_request(struct server_link *link, const struct rmq_command *command,
                              struct slice body)
{
    struct bed *bed = link->server->data;
    (void)body;
    if (bed->code_count == 0) /* no answer */
        return;
    const int32_t code = bed->codes[MIN(bed->answers, bed->code_count - 1)];
    bed->answers++;
    server_answer(link, command->opaque, code, &bed->fields, bed->body);
}

static void on_lost(void *data, const char *address, const char *why)
{
    struct bed *bed = data;
    assert_true(address[0] != '\0' && why[0] != '\0');
    bed->losses++;
}

static void open_client(struct bed *bed, const struct rmq_client_options *more)
{
    char namesrvs[128];
    struct rmq_client_options options = *more;
    const struct rmq_net net = {.loop = bed->loop, .mailbox = bed->mailbox};
    (void)snprintf(namesrvs, sizeof namesrvs, "%s; %s", bed->names[0].address,
                   bed->names[1].address);
    options.namesrvs = namesrvs;
    options.client_id = "client";
    options.producer_group = "producers";
    options.on_lost = on_lost;
    options.data = bed;
    if (options.request_timeout_ms == 0)
        options.request_timeout_ms = LONG_MS;
    assert_int_equal(rmq_client_new(&net, &options, &bed->client, NULL), 0);
}

static void open_bed(struct bed *bed)
{
    memset(bed, 0, sizeof *bed);
    assert_int_equal(loop_new(&bed->loop, NULL), 0);
    assert_int_equal(mailbox_new(bed->loop, &bed->mailbox, NULL), 0);
    for (int i = 0; i < 2; i++) {
        server_open(&bed->names[i], bed->loop, 0);
        server_open(&bed->brokers[i], bed->loop, 0);
        bed->names[i].data = bed->brokers[i].data = bed;
        bed->names[i].on_request = on_name_request;
        bed->brokers[i].on_request = on_broker_request;
    }
    set_route(bed, bed->brokers[0].address, bed->brokers[1].address);
    rmq_fields_add_text(&bed->fields, "msgId", "7F00000100002A9F0000000000000010");
    rmq_fields_add_text(&bed->fields, "queueId", "3");
    rmq_fields_add_text(&bed->fields, "queueOffset", "17");
    rmq_fields_add_text(&bed->fields, "offset", "42");
    rmq_fields_add_text(&bed->fields, "value", "the value");
    bed->code_count = 1;
    open_client(bed, &(struct rmq_client_options){0});
}

static void close_bed(struct bed *bed)
{
    bed->client = rmq_client_free(bed->client);
    for (int i = 0; i < 2; i++) {
        server_close(&bed->names[i]);
        server_close(&bed->brokers[i]);
    }
    bed->mailbox = mailbox_free(bed->mailbox);
    bed->loop = loop_free(bed->loop);
}

static void on_end(void *data, const struct rmq_result *result)
{
    struct end *end = data;
    end->count++;
    end->outcome = result->outcome;
    end->code = result->code;
    assert_true((result->outcome == RMQ_DONE) == (result->why == NULL));
    (void)snprintf(end->why, sizeof end->why, "%s", result->why ? result->why : "");
    (void)snprintf(end->broker, sizeof end->broker, "%s", result->broker);
    (void)snprintf(end->address, sizeof end->address, "%s", result->address);
    if (result->command && result->outcome <= RMQ_STORED) {
        (void)!rmq_result_sent(result, &end->sent);
        (void)!rmq_result_offset(result, &end->offset);
    }
}

static void wait_for(struct bed *bed, const struct end *end, int count)
{
    while (end->count < count)
        assert_int_equal(loop_turn(bed->loop, -1), 0);
}

static int start_send(struct bed *bed, const char *broker, uint32_t patience_ms, struct end *end)
{
    const struct rmq_send send = {
        .place = {.topic = "t", .broker = broker, .queue_id = -1},
        .body = slice_str("payload"),
        .patience_ms = patience_ms,
    };
    const int before = end->count;
    const int err = rmq_send(bed->client, &send, on_end, end, NULL);
    assert_int_equal(end->count, before); /* never inside the call */
    return err;
}

static void send_and_wait(struct bed *bed, const char *broker, uint32_t patience_ms,
                          struct end *end)
{
    *end = (struct end){.bed = bed};
    assert_int_equal(start_send(bed, broker, patience_ms, end), 0);
    wait_for(bed, end, 1);
}

/* --- sending ------------------------------------------------------------------------------------
 */

static void messages_are_sent_by_the_route(void **state)
{
    (void)state;
    struct bed bed;
    struct end end;
    open_bed(&bed);
    for (int i = 0; i < 4; i++) { /* b takes none */
        send_and_wait(&bed, NULL, 0, &end);
        assert_int_equal(end.outcome, RMQ_DONE);
        assert_string_equal(end.broker, "a");
        assert_string_equal(end.address, bed.brokers[0].address);
        assert_int_equal(end.sent.queue_id, 3);
        assert_true(end.sent.queue_offset == 17);
    }
    assert_int_equal(bed.route_requests, 1);
    assert_int_equal(bed.brokers[0].accepts, 1);
    assert_int_equal(bed.brokers[0].notes[0].code, RMQ_SEND_MESSAGE_V2);
    assert_string_equal(bed.brokers[0].notes[0].body, "payload");
    send_and_wait(&bed, "b", 0, &end); /* unless it is named */
    assert_string_equal(end.broker, "b");
    assert_int_equal(rmq_client_counters(bed.client)->calls, 6);
    close_bed(&bed);
}

static void results_of_sending_are_told_apart(void **state)
{
    (void)state;
    static const struct {
        int32_t code;
        enum rmq_outcome outcome;
        const char *why;
    } rows[] = {
        {RMQ_R_FLUSH_DISK_TIMEOUT, RMQ_STORED, "not on disk yet"},
        {RMQ_R_SLAVE_NOT_AVAILABLE, RMQ_STORED, "start the Broker's replica"},
        {RMQ_R_FLUSH_SLAVE_TIMEOUT, RMQ_STORED, "look at the Broker's replica"},
        {RMQ_R_MESSAGE_ILLEGAL, RMQ_REFUSED, "because"},
        {RMQ_R_NO_PERMISSION, RMQ_DENIED, "access key"},
        {RMQ_R_SYSTEM_BUSY, RMQ_BUSY, "holds back load"},
        {RMQ_R_SERVICE_NOT_AVAILABLE, RMQ_UNAVAILABLE, "disk is full"},
        {RMQ_R_LMQ_QUOTA_EXCEEDED, RMQ_REFUSED, "maxLmqConsumeQueueNum"},
        {RMQ_R_SYSTEM_ERROR, RMQ_REFUSED, "log of the server"},
        {4711, RMQ_REFUSED, "4711 unknown"},
    };
    struct bed bed;
    struct end end;
    open_bed(&bed);
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        bed.codes[0] = rows[i].code;
        send_and_wait(&bed, NULL, 0, &end);
        assert_int_equal(end.outcome, rows[i].outcome);
        assert_int_equal(end.code, rows[i].code);
        if (!strstr(end.why, rows[i].why) || !strstr(end.why, "SEND_MESSAGE_V2"))
            fail_msg("%s", end.why);
    }
    close_bed(&bed);
}

/* What was not done is tried again, as long as there is patience. */
static void busy_brokers_are_asked_again(void **state)
{
    (void)state;
    static const int32_t codes[] = {RMQ_R_SYSTEM_BUSY, RMQ_R_FLOW_CONTROL,
                                    RMQ_R_SERVICE_NOT_AVAILABLE, RMQ_R_TOPIC_NOT_EXIST, 0};
    struct bed bed;
    struct end end;
    open_bed(&bed);
    memcpy(bed.codes, codes, sizeof codes);
    bed.code_count = ARRAY_COUNT(codes);
    send_and_wait(&bed, NULL, LONG_MS, &end);
    assert_int_equal(end.outcome, RMQ_DONE);
    assert_int_equal(bed.answers, 5);
    assert_int_equal(rmq_client_counters(bed.client)->retries, 4);
    assert_int_equal(rmq_client_counters(bed.client)->busy, 2);
    bed.codes[0] = RMQ_R_SYSTEM_BUSY;
    bed.code_count = 1;
    bed.answers = 0;
    send_and_wait(&bed, NULL, 100, &end);
    assert_int_equal(end.outcome, RMQ_BUSY);
    assert_true(bed.answers > 1);
    close_bed(&bed);
}

static void going_away_is_followed_by_another_connection(void **state)
{
    (void)state;
    struct bed bed;
    struct end end;
    open_bed(&bed);
    bed.codes[0] = RMQ_R_GO_AWAY;
    bed.code_count = 2;
    send_and_wait(&bed, NULL, LONG_MS, &end);
    assert_int_equal(end.outcome, RMQ_DONE);
    assert_int_equal(bed.brokers[0].accepts, 2);
    close_bed(&bed);
}

static void hang_up_all(struct server *server)
{
    for (int i = 0; i < server->accepts; i++)
        server_hang_up(&server->links[i]);
}

static void wait_for_request(struct bed *bed, const struct server *server, int count)
{
    while (server->requests < count)
        assert_int_equal(loop_turn(bed->loop, -1), 0);
}

/* A message whose answer got lost may be stored: it is not sent again. */
static void unknown_fates_are_told(void **state)
{
    (void)state;
    struct bed bed;
    struct end end = {.bed = &bed};
    open_bed(&bed);
    bed.code_count = 0;
    assert_int_equal(start_send(&bed, NULL, LONG_MS, &end), 0);
    wait_for_request(&bed, &bed.brokers[0], 1);
    hang_up_all(&bed.brokers[0]);
    wait_for(&bed, &end, 1);
    assert_int_equal(end.outcome, RMQ_UNKNOWN);
    assert_non_null(strstr(end.why, "not known"));
    assert_int_equal(bed.brokers[0].requests, 1);
    assert_int_equal(bed.losses, 1);
    close_bed(&bed);
}

/* The master moved: the lost connection has the route asked for again, and an unsent message
 * follows it. */
static void masters_may_move(void **state)
{
    (void)state;
    struct bed bed;
    struct end end;
    open_bed(&bed);
    send_and_wait(&bed, "a", 0, &end);
    server_close(&bed.brokers[0]);
    set_route(&bed, bed.brokers[1].address, bed.brokers[1].address);
    while (bed.losses == 0)
        assert_int_equal(loop_turn(bed.loop, -1), 0);
    send_and_wait(&bed, "a", LONG_MS, &end);
    assert_int_equal(end.outcome, RMQ_DONE);
    assert_string_equal(end.broker, "a");
    assert_string_equal(end.address, bed.brokers[1].address);
    close_bed(&bed);
}

static void groups_without_a_master_are_waited_for(void **state)
{
    (void)state;
    struct bed bed;
    struct end end = {.bed = &bed};
    open_bed(&bed);
    set_route(&bed, NULL, bed.brokers[1].address);
    send_and_wait(&bed, "a", 0, &end);
    assert_int_equal(end.outcome, RMQ_NO_ROUTE);
    assert_non_null(strstr(end.why, "a has no master for topic t at present"));
    send_and_wait(&bed, NULL, 0, &end);
    assert_int_equal(end.outcome, RMQ_NO_ROUTE);
    send_and_wait(&bed, "unknown", 0, &end);
    assert_int_equal(end.outcome, RMQ_NO_ROUTE);
    end = (struct end){.bed = &bed};
    assert_int_equal(start_send(&bed, "a", LONG_MS, &end), 0);
    set_route(&bed, bed.brokers[0].address, bed.brokers[1].address);
    wait_for(&bed, &end, 1);
    assert_int_equal(end.outcome, RMQ_DONE);
    close_bed(&bed);
}

static void unknown_topics_are_refused(void **state)
{
    (void)state;
    struct bed bed;
    struct end end;
    open_bed(&bed);
    bed.route[0] = '\0';
    send_and_wait(&bed, NULL, LONG_MS, &end);
    assert_int_equal(end.outcome, RMQ_NO_ROUTE);
    assert_int_equal(end.code, RMQ_R_TOPIC_NOT_EXIST);
    assert_non_null(strstr(end.why, "create the topic"));
    (void)snprintf(bed.route, sizeof bed.route, "{\"brokerDatas\":1}");
    send_and_wait(&bed, NULL, LONG_MS, &end);
    assert_int_equal(end.outcome, RMQ_UNKNOWN);
    assert_non_null(strstr(end.why, "lacks its lists"));
    close_bed(&bed);
}

/* The first NameSrv is gone, then both. */
static void namesrvs_stand_in_for_each_other(void **state)
{
    (void)state;
    struct bed bed;
    struct end end;
    open_bed(&bed);
    server_close(&bed.names[0]);
    send_and_wait(&bed, NULL, 0, &end);
    assert_int_equal(end.outcome, RMQ_DONE);
    assert_int_equal(bed.names[1].requests, 1);
    bed.client = rmq_client_free(bed.client);
    open_client(&bed, &(struct rmq_client_options){0});
    server_close(&bed.names[1]);
    send_and_wait(&bed, NULL, 0, &end);
    assert_int_equal(end.outcome, RMQ_UNAVAILABLE);
    assert_non_null(strstr(end.why, "Connection refused"));
    close_bed(&bed);
}

/* Many that wait for one route ask for it once. */
static void routes_are_shared(void **state)
{
    (void)state;
    struct bed bed;
    struct end end = {0};
    open_bed(&bed);
    end.bed = &bed;
    for (int i = 0; i < 50; i++)
        assert_int_equal(start_send(&bed, NULL, 0, &end), 0);
    wait_for(&bed, &end, 50);
    assert_int_equal(bed.route_requests, 1);
    assert_int_equal(bed.brokers[0].requests, 50);
    for (int i = 1; i < 50; i++)
        assert_true(bed.brokers[0].notes[i].opaque > bed.brokers[0].notes[i - 1].opaque);
    close_bed(&bed);
}

static void wrong_messages_are_not_sent(void **state)
{
    (void)state;
    static char large[RMQ_MESSAGE_BODY_MAX + 1];
    struct bed bed;
    struct end end = {0};
    open_bed(&bed);
    struct rmq_send send = {.place = {.topic = "t"}, .body = slice_of(NULL, 0)};
    assert_int_equal(rmq_send(bed.client, &send, on_end, &end, NULL), ERR_INVALID);
    send.body = slice_of(large, sizeof large);
    assert_int_equal(rmq_send(bed.client, &send, on_end, &end, NULL), ERR_INVALID);
    send.body = slice_str("x");
    send.properties = slice_of(large, RMQ_PROPERTIES_SIZE_MAX + 1);
    assert_int_equal(rmq_send(bed.client, &send, on_end, &end, NULL), ERR_INVALID);
    send.properties = slice_of(NULL, 0);
    send.place.topic = "";
    assert_int_equal(rmq_send(bed.client, &send, on_end, &end, NULL), ERR_INVALID);
    send.place.topic = "t";
    mem_fail_at(1);
    assert_int_equal(rmq_send(bed.client, &send, on_end, &end, NULL), ERR_NOMEM);
    mem_fail_at(0);
    close_bed(&bed);
    assert_int_equal(end.count, 0);
}

static void pressure_is_told_at_once(void **state)
{
    (void)state;
    struct bed bed;
    struct end end = {0};
    open_bed(&bed);
    bed.client = rmq_client_free(bed.client);
    open_client(&bed, &(struct rmq_client_options){.pending_size_max = 1000});
    send_and_wait(&bed, NULL, 0, &end);
    bed.code_count = 0;
    int started = 0;
    end = (struct end){.bed = &bed};
    while (start_send(&bed, NULL, 0, &end) == 0)
        started++;
    assert_true(started > 1 && started < 20);
    assert_int_equal(start_send(&bed, NULL, 0, &end), ERR_FULL);
    close_bed(&bed);
    assert_int_equal(end.count, 0); /* ended with the client */
}

/* --- other requests -----------------------------------------------------------------------------
 */

static void offsets_are_asked_for(void **state)
{
    (void)state;
    struct bed bed;
    struct end end = {0};
    open_bed(&bed);
    const struct rmq_place place = {.topic = "t", .lmq = "%LMQ%x", .broker = "a"};
    assert_int_equal(rmq_edge(bed.client, &place, RMQ_FIRST_OFFSET, on_end, &end, NULL), 0);
    assert_int_equal(rmq_edge(bed.client, &place, RMQ_NEXT_OFFSET, on_end, &end, NULL), 0);
    assert_int_equal(rmq_search(bed.client, &place, 1, on_end, &end, NULL), 0);
    assert_int_equal(rmq_progress(bed.client, &place, "g", on_end, &end, NULL), 0);
    const struct rmq_commit commit = {.place = &place, .group = "g", .offset = 9};
    assert_int_equal(rmq_commit(bed.client, &commit, on_end, &end, NULL), 0);
    wait_for(&bed, &end, 5);
    static const int32_t codes[] = {RMQ_GET_MIN_OFFSET, RMQ_GET_MAX_OFFSET,
                                    RMQ_SEARCH_OFFSET_BY_TIMESTAMP, RMQ_QUERY_CONSUMER_OFFSET,
                                    RMQ_UPDATE_CONSUMER_OFFSET};
    for (int i = 0; i < 5; i++)
        assert_int_equal(bed.brokers[0].notes[i].code, codes[i]);
    assert_true(end.offset == 42);
    close_bed(&bed);
}

/* What may be done twice is asked again when its answer got lost. */
static void lost_questions_are_asked_again(void **state)
{
    (void)state;
    struct bed bed;
    struct end end = {0};
    open_bed(&bed);
    const struct rmq_place place = {.topic = "t", .broker = "a"};
    bed.code_count = 0;
    assert_int_equal(rmq_edge(bed.client, &place, RMQ_NEXT_OFFSET, on_end, &end, NULL), 0);
    wait_for_request(&bed, &bed.brokers[0], 1);
    bed.code_count = 1;
    hang_up_all(&bed.brokers[0]);
    wait_for(&bed, &end, 1);
    assert_int_equal(end.outcome, RMQ_DONE);
    assert_int_equal(bed.brokers[0].requests, 2);
    close_bed(&bed);
}

struct pull_end {
    int count;
    enum rmq_outcome outcome;
    struct rmq_pulled pulled;
    uint64_t lmq_offset;
    int messages;
};

static void on_pulled(void *data, const struct rmq_result *result)
{
    struct pull_end *end = data;
    struct slice rest = result->body;
    struct rmq_message message;
    const char *why = NULL;
    end->count++;
    end->outcome = result->outcome;
    assert_int_equal(rmq_result_pulled(result, &end->pulled), 0);
    while (result->outcome == RMQ_DONE && rmq_message_next(&rest, &message, &why) == 0) {
        end->messages++;
        assert_int_equal(rmq_message_lmq_offset(&message, slice_str("%LMQ%x"), &end->lmq_offset),
                         0);
    }
}

static void on_pull_request(struct server_link *link, const struct rmq_command *command,
                            struct slice body)
{
    struct bed *bed = link->server->data;
    uint8_t room[1024];
    const struct rmq_message message = {
        .body = slice_str("b"),
        .topic = slice_str("t"),
        .properties = slice_str("INNER_MULTI_DISPATCH\1%LMQ%x\2INNER_MULTI_QUEUE_OFFSET\0015\2"),
    };
    struct rmq_command answer = {
        .code = bed->codes[0], .opaque = command->opaque, .flag = RMQ_FLAG_ANSWER};
    (void)body;
    assert_true(slice_equal(rmq_fields_find(&command->fields, "topic"), slice_str("%LMQ%x")));
    assert_true(slice_equal(rmq_fields_find(&command->fields, "sysFlag"), slice_str("6")));
    assert_true(
        slice_equal(rmq_fields_find(&command->fields, "suspendTimeoutMillis"), slice_str("15000")));
    rmq_fields_add_int(&answer.fields, "nextBeginOffset", 7);
    rmq_fields_add_int(&answer.fields, "minOffset", 1);
    rmq_fields_add_int(&answer.fields, "maxOffset", 8);
    uint32_t size = message_put(room, sizeof room, &message);
    size += message_put(room + size, sizeof room - size, &message);
    server_send_command(link, &answer, slice_of(room, size));
}

static void messages_are_pulled(void **state)
{
    (void)state;
    static const struct {
        int32_t code;
        enum rmq_outcome outcome;
        int messages;
    } rows[] = {{0, RMQ_DONE, 2},
                {RMQ_R_PULL_NOT_FOUND, RMQ_NOTHING, 0},
                {RMQ_R_PULL_RETRY_IMMEDIATELY, RMQ_MOVED, 0},
                {RMQ_R_PULL_OFFSET_MOVED, RMQ_MOVED, 0}};
    struct bed bed;
    open_bed(&bed);
    bed.brokers[0].on_request = on_pull_request;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct pull_end end = {0};
        const struct rmq_pull pull = {
            .place = {.topic = "t", .lmq = "%LMQ%x", .broker = "a"},
            .group = "g",
            .offset = 5,
            .count_max = 32,
            .suspend_ms = 15000,
        };
        bed.codes[0] = rows[i].code;
        assert_int_equal(rmq_pull(bed.client, &pull, on_pulled, &end, NULL), 0);
        while (end.count == 0)
            assert_int_equal(loop_turn(bed.loop, -1), 0);
        assert_int_equal(end.outcome, rows[i].outcome);
        assert_int_equal(end.messages, rows[i].messages);
        assert_true(end.pulled.next_offset == 7 && end.pulled.first_offset == 1 &&
                    end.pulled.end_offset == 8);
        assert_true(end.messages == 0 || end.lmq_offset == 5);
    }
    close_bed(&bed);
}

static void topics_and_groups_are_created_on_every_master(void **state)
{
    (void)state;
    struct bed bed;
    struct end end = {0};
    open_bed(&bed);
    const struct rmq_topic_wish wish = {.name = "new", .queue_count = 4};
    assert_int_equal(rmq_create_topic(bed.client, &wish, on_end, &end), 0);
    wait_for(&bed, &end, 1);
    assert_int_equal(end.outcome, RMQ_DONE);
    for (int i = 0; i < 2; i++)
        assert_int_equal(bed.brokers[i].notes[0].code, RMQ_UPDATE_AND_CREATE_TOPIC);
    assert_int_equal(rmq_create_group(bed.client, "g", on_end, &end), 0);
    wait_for(&bed, &end, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(bed.brokers[i].notes[1].code, RMQ_UPDATE_AND_CREATE_SUBSCRIPTIONGROUP);
        assert_non_null(strstr(bed.brokers[i].notes[1].body, "{\"groupName\":\"g\","));
    }
    bed.codes[0] = 0;
    bed.codes[1] = RMQ_R_NO_PERMISSION; /* one does, one does not */
    bed.code_count = 2;
    bed.answers = 0;
    assert_int_equal(rmq_create_topic(bed.client, &wish, on_end, &end), 0);
    wait_for(&bed, &end, 3);
    assert_int_equal(end.outcome, RMQ_DENIED);
    assert_int_equal(
        rmq_create_topic(bed.client, &(struct rmq_topic_wish){.name = "x"}, on_end, &end),
        ERR_INVALID);
    assert_int_equal(rmq_create_group(bed.client, "", on_end, &end), ERR_INVALID);
    close_bed(&bed);
}

static void values_go_to_every_namesrv(void **state)
{
    (void)state;
    struct bed bed;
    struct end end = {0};
    open_bed(&bed);
    assert_int_equal(rmq_kv_put(bed.client, "s", "k", "v", on_end, &end), 0);
    wait_for(&bed, &end, 1);
    assert_int_equal(end.outcome, RMQ_DONE);
    assert_int_equal(bed.names[0].notes[0].code, RMQ_PUT_KV_CONFIG);
    assert_int_equal(bed.names[1].notes[0].code, RMQ_PUT_KV_CONFIG);
    server_close(&bed.names[1]);
    assert_int_equal(rmq_kv_get(bed.client, "s", "k", on_end, &end, NULL), 0);
    wait_for(&bed, &end, 2);
    assert_int_equal(end.outcome, RMQ_DONE);
    close_bed(&bed);
}

static void heartbeats_keep_connections(void **state)
{
    (void)state;
    struct bed bed;
    struct end end = {0};
    open_bed(&bed);
    bed.client = rmq_client_free(bed.client);
    open_client(&bed, &(struct rmq_client_options){.heartbeat_ms = 10});
    send_and_wait(&bed, "a", 0, &end);
    wait_for_request(&bed, &bed.brokers[0], 4);
    const struct server_note *note = &bed.brokers[0].notes[3];
    assert_int_equal(note->code, RMQ_HEART_BEAT);
    assert_non_null(strstr(note->body, "{\"clientID\":\"client\""));
    assert_true(rmq_client_counters(bed.client)->heartbeats >= 3);
    while (bed.route_requests < 2) /* routes, too */
        assert_int_equal(loop_turn(bed.loop, -1), 0);
    for (int i = 0; i < bed.names[0].requests; i++)
        assert_int_equal(bed.names[0].notes[i].code, RMQ_GET_ROUTEINFO_BY_TOPIC);
    close_bed(&bed);
}

static void calls_are_cancelled(void **state)
{
    (void)state;
    struct bed bed;
    struct end end = {0};
    struct rmq_call *call = NULL;
    const struct rmq_place place = {.topic = "t", .broker = "a"};
    open_bed(&bed);
    assert_int_equal(rmq_edge(bed.client, &place, RMQ_NEXT_OFFSET, on_end, &end, &call), 0);
    rmq_call_cancel(call); /* while it waits for the route */
    bed.code_count = 0;
    assert_int_equal(rmq_edge(bed.client, &place, RMQ_NEXT_OFFSET, on_end, &end, &call), 0);
    wait_for_request(&bed, &bed.brokers[0], 1);
    rmq_call_cancel(call); /* while it waits for the answer */
    bed.codes[0] = RMQ_R_SYSTEM_BUSY;
    bed.code_count = 1;
    assert_int_equal(rmq_edge(bed.client, &place, RMQ_NEXT_OFFSET, on_end, &end, &call), 0);
    while (rmq_client_counters(bed.client)->busy == 0)
        assert_int_equal(loop_turn(bed.loop, -1), 0);
    rmq_call_cancel(call); /* while it waits for its turn */
    close_bed(&bed);
    assert_int_equal(end.count, 0);
}

/* --- keys and addresses -------------------------------------------------------------------------
 */

static void on_signed_request(struct server_link *link, const struct rmq_command *command,
                              struct slice body)
{
    (void)body;
    assert_true(slice_equal(rmq_fields_find(&command->fields, "AccessKey"), slice_str("adm")));
    assert_int_equal(rmq_fields_find(&command->fields, "Signature").size, 28);
    server_answer(link, command->opaque, RMQ_R_NO_PERMISSION, NULL, "");
}

/* Neither key nor signature gets into a text. */
static void keys_are_kept_secret(void **state)
{
    (void)state;
    struct bed bed;
    struct end end = {0};
    open_bed(&bed);
    bed.client = rmq_client_free(bed.client);
    open_client(&bed, &(struct rmq_client_options){.access_key = "adm", .secret_key = "s3cret"});
    bed.brokers[0].on_request = on_signed_request;
    send_and_wait(&bed, "a", 0, &end);
    assert_int_equal(end.outcome, RMQ_DENIED);
    assert_null(strstr(end.why, "s3cret"));
    assert_null(strstr(end.why, "="));
    close_bed(&bed);
}

static void namesrvs_are_checked(void **state)
{
    (void)state;
    struct bed bed;
    open_bed(&bed);
    static const char *const wrong[] = {"", " ,;", "host", "a:1,b", "a:1,:2"};
    const struct rmq_net net = {.loop = bed.loop, .mailbox = bed.mailbox};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        struct errmsg why = {0};
        struct rmq_client *client = NULL;
        const struct rmq_client_options options = {
            .namesrvs = wrong[i], .client_id = "c", .producer_group = "p"};
        assert_int_equal(rmq_client_new(&net, &options, &client, &why), ERR_INVALID);
        assert_non_null(strstr(why.text, "host:port"));
    }
    close_bed(&bed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_sent_by_the_route),
        cmocka_unit_test(results_of_sending_are_told_apart),
        cmocka_unit_test(busy_brokers_are_asked_again),
        cmocka_unit_test(going_away_is_followed_by_another_connection),
        cmocka_unit_test(unknown_fates_are_told),
        cmocka_unit_test(masters_may_move),
        cmocka_unit_test(groups_without_a_master_are_waited_for),
        cmocka_unit_test(unknown_topics_are_refused),
        cmocka_unit_test(namesrvs_stand_in_for_each_other),
        cmocka_unit_test(routes_are_shared),
        cmocka_unit_test(wrong_messages_are_not_sent),
        cmocka_unit_test(pressure_is_told_at_once),
        cmocka_unit_test(offsets_are_asked_for),
        cmocka_unit_test(lost_questions_are_asked_again),
        cmocka_unit_test(messages_are_pulled),
        cmocka_unit_test(topics_and_groups_are_created_on_every_master),
        cmocka_unit_test(values_go_to_every_namesrv),
        cmocka_unit_test(heartbeats_keep_connections),
        cmocka_unit_test(calls_are_cancelled),
        cmocka_unit_test(keys_are_kept_secret),
        cmocka_unit_test(namesrvs_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
