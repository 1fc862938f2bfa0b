/* The TLS stage: what it carries, how it ends, and what it refuses. */
#include "net/tls_bench_fixture.h"

/* --- what goes well ------------------------------------------------------------------------- */

static void both_versions_carry_bytes(void **state)
{
    struct bench *b = *state;
    static const struct {
        const char *text;
        enum peer_tls version;
    } rows[] = {{V1_2, PEER_TLS_1_2}, {V1_3, PEER_TLS_1_3}};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        uint8_t got[8];
        size_t size = 0;
        connect_with(b, rows[i].text);
        send_all(b, (const uint8_t *)"hello", 5);
        TURN_UNTIL(b, (void)0, b->size == 5);
        assert_memory_equal(b->bytes, "hello", 5);
        const struct peer *peer = stream_peer(b->stream);
        assert_int_equal(peer->tls, rows[i].version);
        assert_string_equal(peer->sni, "a.example");
        assert_string_equal(peer->text, "unix");
        assert_null(peer->certificate);
        const struct iovec iov[] = {{"wo", 2}, {"", 0}, {"rld", 3}};
        assert_int_equal(stream_writev(b->stream, iov, 3), 5);
        TURN_UNTIL(b, size += receive(b, got + size, sizeof got - size), size == 5);
        assert_memory_equal(got, "world", 5);
        disconnect(b);
    }
    assert_int_equal(metric_get(&b->metrics->tls_handshakes), 2);
    assert_int_equal(metric_get(&b->metrics->tls_handshakes_resumed), 0);
    assert_int_equal(failed(b), 0);
}

/* However little the user reads at a time, nothing is lost or left lying. */
static void any_size_of_reads_will_do(void **state)
{
    struct bench *b = *state;
    static const size_t sizes[] = {1, 7, 100, 2048, 16384, 65536};
    static uint8_t sent[300000];
    fill(sent, sizeof sent);
    for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
        const size_t size = MIN(sizeof sent, sizes[i] * 3000);
        connect_with(b, V1_3);
        b->read_max = sizes[i];
        send_all(b, sent, size);
        TURN_UNTIL(b, (void)0, b->size == size);
        assert_memory_equal(b->bytes, sent, size);
        disconnect(b);
    }
}

/* Held bytes are reported as soon as the user wants them again, though the socket is silent. */
static void held_bytes_are_reported(void **state)
{
    struct bench *b = *state;
    static uint8_t sent[20000];
    fill(sent, sizeof sent);
    connect_with(b, V1_3);
    b->read_max = 10;
    b->reads = false;
    assert_int_equal(stream_want(b->stream, 0), 0);
    send_all(b, sent, sizeof sent);
    ssize_t n = ERR_AGAIN;
    TURN_UNTIL(b, n = stream_read(b->stream, b->bytes, 10), n == 10);
    b->size = 10;
    b->reads = true;
    assert_int_equal(stream_want(b->stream, IO_READ), 0);
    TURN_UNTIL(b, (void)0, b->size == sizeof sent);
    assert_memory_equal(b->bytes, sent, sizeof sent);
}

/* Many small pieces make few records: one, when they fit into one. */
static void small_pieces_go_together(void **state)
{
    struct bench *b = *state;
    enum { PIECES = 1000, PIECE = 13 };
    static uint8_t sent[PIECES * PIECE], got[PIECES * PIECE];
    struct iovec iov[PIECES];
    fill(sent, sizeof sent);
    for (size_t i = 0; i < PIECES; i++)
        iov[i] = (struct iovec){sent + i * PIECE, PIECE};
    connect_with(b, V1_3);
    assert_int_equal(stream_writev(b->stream, iov, PIECES), sizeof sent);
    size_t size = 0;
    TURN_UNTIL(b, size = receive(b, got, sizeof got), size > 0);
    assert_int_equal(size, sizeof sent);
    assert_memory_equal(got, sent, sizeof sent);
}

/* A peer that does not read stops the user; what was not taken is offered again and not lost. */
static void a_slow_peer_stops_the_user(void **state)
{
    struct bench *b = *state;
    static uint8_t sent[1000000], got[1000000];
    size_t given = 0, received = 0;
    fill(sent, sizeof sent);
    connect_with(b, V1_3);
    bool refused = false;
    while (received < sizeof sent) {
        /* Two pieces of odd sizes, so that records lie across them. */
        const size_t left = sizeof sent - given, first = MIN(left, (size_t)3001);
        const struct iovec iov[] = {{sent + given, first}, {sent + given + first, left - first}};
        const ssize_t n = given < sizeof sent ? stream_writev(b->stream, iov, 2) : 0;
        assert_true(n >= 0 || n == (ssize_t)ERR_AGAIN);
        given += n > 0 ? (size_t)n : 0;
        refused |= n == (ssize_t)ERR_AGAIN;
        if (n <= 0)
            received += receive(b, got + received, sizeof got - received);
    }
    assert_true(refused);
    assert_int_equal(given, sizeof sent);
    assert_memory_equal(got, sent, sizeof sent);
}

/* --- the end -------------------------------------------------------------------------------- */

static void closing_is_told_in_both_directions(void **state)
{
    struct bench *b = *state;
    connect_with(b, V1_3);
    send_all(b, (const uint8_t *)"a", 1);
    TURN_UNTIL(b, (void)0, b->size == 1);
    stream_shutdown(b->stream);
    ssize_t n = GNUTLS_E_AGAIN;
    uint8_t byte = 0;
    TURN_UNTIL(b, n = gnutls_record_recv(b->session, &byte, 1), n != GNUTLS_E_AGAIN);
    assert_int_equal(n, 0); /* close_notify, not a mere end */
    /* The other direction is still open. */
    send_all(b, (const uint8_t *)"b", 1);
    TURN_UNTIL(b, (void)0, b->size == 2);
    pki_check(gnutls_bye(b->session, GNUTLS_SHUT_WR));
    TURN_UNTIL(b, (void)0, b->end != 1);
    assert_int_equal(b->end, 0);
    assert_int_equal(stream_read(b->stream, &byte, 1), 0);
}

/* What came before the end is read before it. */
static void an_end_without_words_is_one(void **state)
{
    struct bench *b = *state;
    connect_with(b, V1_3);
    send_all(b, (const uint8_t *)"last", 4);
    assert_int_equal(shutdown(b->fd, SHUT_WR), 0);
    TURN_UNTIL(b, (void)0, b->end != 1);
    assert_int_equal(b->end, 0);
    assert_int_equal(b->size, 4);
    const struct iovec iov = {"x", 1};
    assert_true(stream_writev(b->stream, &iov, 1) < 0);
}

static void garbage_ends_the_stream(void **state)
{
    struct bench *b = *state;
    static const char *const junk[] = {
        "\x10\x0d\x00\x04MQTT",                 /* plain MQTT */
        "\x17\x03\x03\x00\x05hello",            /* a record that does not decrypt */
        "\x17\x03\x03\xff\xffhello",            /* longer than a record may be */
        "\x17\x03\x03\x00\x00",                 /* shorter */
        "\x15\x03\x03\x00\x02\x02\x28",         /* an alert without encryption */
        "\x16\x03\x03\x00\x04\x00\x00\x00\x00", /* a renegotiation without encryption */
    };
    static const size_t sizes[] = {8, 10, 10, 5, 7, 9};
    for (size_t i = 0; i < ARRAY_COUNT(junk); i++) {
        for (int version = 0; version < 2; version++) {
            connect_with(b, version ? V1_3 : V1_2);
            assert_int_equal(send(b->fd, junk[i], sizes[i], 0), sizes[i]);
            if (sizes[i] == 10 && i == 2) /* it waits for the rest, or it does not */
                assert_int_equal(shutdown(b->fd, SHUT_WR), 0);
            TURN_UNTIL(b, (void)0, b->end != 1);
            assert_int_equal(b->size, 0);
            disconnect(b);
        }
    }
}

static void renegotiation_is_refused(void **state)
{
    struct bench *b = *state;
    connect_with(b, V1_2);
    b->shaken = false;
    TURN_UNTIL(b, (void)shake(b), b->end != 1);
    assert_int_equal(b->end, ERR_PROTOCOL);
}

/* --- handshakes that fail --------------------------------------------------------------------- */

/* Plain MQTT, HTTP, nothing, an old version. */
static void what_is_not_tls_is_refused(void **state)
{
    struct bench *b = *state;
    static const char *const junk[] = {"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x",
                                       "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff\x01\x00\x00",
                                       ""};
    static const size_t sizes[] = {15, 18, 8, 0};
    for (size_t i = 0; i < ARRAY_COUNT(junk); i++) {
        connect_raw(b);
        if (sizes[i] > 0)
            assert_int_equal(send(b->fd, junk[i], sizes[i], 0), sizes[i]);
        assert_int_equal(shutdown(b->fd, SHUT_WR), 0);
        TURN_UNTIL(b, (void)0, b->end != 1);
        assert_int_equal(b->size, 0);
        assert_int_equal(failed(b), i + 1);
        disconnect(b);
    }
    connect_raw(b);
    open_session(b, "+VERS-TLS1.1");
    int code = GNUTLS_E_AGAIN;
    TURN_UNTIL(b, code = shake(b), gnutls_error_is_fatal(code));
    assert_int_equal(code, GNUTLS_E_FATAL_ALERT_RECEIVED);
    assert_int_equal(gnutls_alert_get(b->session), GNUTLS_A_PROTOCOL_VERSION);
}

static void min_version_is_obeyed(void **state)
{
    struct bench *b = *state;
    b->options.version_min = TLS_VERSION_1_3;
    connect_raw(b);
    open_session(b, V1_2);
    int code = GNUTLS_E_AGAIN;
    TURN_UNTIL(b, code = shake(b), gnutls_error_is_fatal(code));
    assert_int_equal(failed(b), 1);
    disconnect(b);
    connect_with(b, V1_3);
}

/* Takes the client's first flight from a socket that nobody answers on. */
static size_t client_hello(struct bench *b, uint8_t *bytes, size_t size)
{
    int pair[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    b->fd = pair[0];
    open_session(b, V1_2 ":" V1_3);
    assert_int_equal(gnutls_handshake(b->session), GNUTLS_E_AGAIN);
    const ssize_t n = recv(pair[1], bytes, size, 0);
    assert_true(n > 0);
    (void)close(pair[1]);
    close_client(b);
    return (size_t)n;
}

static void a_hello_may_be_cut_off_anywhere(void **state)
{
    struct bench *b = *state;
    uint8_t hello[2048];
    const size_t size = client_hello(b, hello, sizeof hello);
    for (size_t cut = 0; cut <= size; cut++) {
        connect_raw(b);
        if (cut > 0)
            assert_int_equal(send(b->fd, hello, cut, 0), cut);
        assert_int_equal(shutdown(b->fd, SHUT_WR), 0);
        TURN_UNTIL(b, (void)0, b->end != 1);
        assert_int_equal(failed(b), cut + 1);
        disconnect(b);
    }
}

static void a_hello_may_be_wrong_anywhere(void **state)
{
    struct bench *b = *state;
    uint8_t hello[2048];
    const size_t size = client_hello(b, hello, sizeof hello);
    for (size_t at = 0; at < size; at++) {
        connect_raw(b);
        hello[at] ^= 0xff;
        assert_int_equal(send(b->fd, hello, size, 0), size);
        hello[at] ^= 0xff;
        assert_int_equal(shutdown(b->fd, SHUT_WR), 0);
        TURN_UNTIL(b, (void)0, b->end != 1);
        assert_int_equal(b->size, 0);
        disconnect(b);
    }
}

/* Closing in the middle leaves nothing behind. */
static void a_handshake_may_be_abandoned(void **state)
{
    struct bench *b = *state;
    connect_raw(b);
    open_session(b, V1_3);
    assert_int_equal(shake(b), GNUTLS_E_AGAIN);
    assert_int_equal(loop_turn(b->loop, 0), 0);
    uint8_t byte = 0;
    assert_int_equal(stream_read(b->stream, &byte, 1), ERR_AGAIN);
    const struct iovec iov = {"x", 1};
    assert_int_equal(stream_writev(b->stream, &iov, 1), ERR_AGAIN);
    assert_string_equal(stream_peer(b->stream)->text, "unix");
    disconnect(b);
}

/* --- the rest ------------------------------------------------------------------------------- */

static void the_name_asked_for_chooses_the_certificate(void **state)
{
    struct bench *b = *state;
    struct pki_pair second =
        pki_issue(&b->pki, &b->ca, &(struct pki_wish){.name = "t", .dns = "b.example"});
    pki_write_crt(&b->pki, "second.pem", &second, false);
    pki_write_key(&b->pki, "second.pem", &second, true);
    char *second_pem = pki_path(&b->pki, "second.pem");
    const char *const both[] = {second_pem, b->server_pem};
    b->options.certificates = (struct tls_names){both, 2};
    static const char *const names[] = {"a.example", "b.example", "c.example"};
    static const char *const shown[] = {"a.example", "b.example", "b.example"};
    pki_check(
        gnutls_certificate_set_x509_trust_file(b->credentials, b->ca_pem, GNUTLS_X509_FMT_PEM));
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        connect_raw(b);
        open_session(b, V1_3);
        pki_check(gnutls_server_name_set(b->session, GNUTLS_NAME_DNS, names[i], strlen(names[i])));
        gnutls_session_set_verify_cert(b->session, shown[i], 0);
        finish(b);
        disconnect(b);
    }
    mem_free(second_pem);
    pki_pair_done(&second);
}

/* Something else in the loop that takes long, in every turn. */
struct hog {
    struct io_watch watch;
    int fds[2];
};

static int64_t clock_us(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

static void on_hog(struct io_watch *watch, unsigned events)
{
    (void)watch;
    (void)events;
    for (const int64_t begin = clock_us(); clock_us() - begin < 8000;)
        continue;
}

/* In a turn that is long already a handshake waits for the next, but not for ever. */
static void handshakes_leave_others_their_turn(void **state)
{
    struct bench *b = *state;
    struct hog hog = {.watch.on_event = on_hog};
    assert_int_equal(pipe(hog.fds), 0);
    assert_int_equal(write(hog.fds[1], "x", 1), 1); /* ready before the client is */
    hog.watch.fd = hog.fds[0];
    assert_int_equal(io_watch_start(b->loop, &hog.watch, IO_READ), 0);
    connect_raw(b);
    open_session(b, V1_3);
    assert_int_equal(shake(b), GNUTLS_E_AGAIN);
    int turns = 0;
    while (shake(b) == GNUTLS_E_AGAIN && turns < 1000) {
        assert_int_equal(loop_turn(b->loop, 0), 0);
        turns++;
    }
    assert_true(b->shaken);
    assert_true(turns > 50);
    assert_true(turns < 300);
    io_watch_stop(b->loop, &hog.watch);
    (void)close(hog.fds[0]);
    (void)close(hog.fds[1]);
    disconnect(b);
    connect_with(b, V1_3);
}

static void no_memory_ends_one_stream(void **state)
{
    struct bench *b = *state;
    static uint8_t sent[20000];
    connect_with(b, V1_3);
    b->reads = false;
    assert_int_equal(stream_want(b->stream, 0), 0);
    send_all(b, sent, sizeof sent);
    mem_fail_at(1);
    uint8_t bytes[8000];
    ssize_t n = 1;
    TURN_UNTIL(b, n = stream_read(b->stream, bytes, sizeof bytes),
               n <= 0 && n != (ssize_t)ERR_AGAIN);
    mem_fail_at(0);
    assert_int_equal(n, ERR_NOMEM);
}

/* What GnuTLS takes is counted as memory in use, and given back. */
static void the_session_counts_as_memory(void **state)
{
    struct bench *b = *state;
    open_source(b);
    const uint64_t before = mem_used();
    connect_with(b, V1_3);
    assert_true(mem_used() >= before + 8 * 1024);
    disconnect(b);
    assert_int_equal(mem_used(), before);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(both_versions_carry_bytes),
        TEST(any_size_of_reads_will_do),
        TEST(held_bytes_are_reported),
        TEST(small_pieces_go_together),
        TEST(a_slow_peer_stops_the_user),
        TEST(closing_is_told_in_both_directions),
        TEST(an_end_without_words_is_one),
        TEST(garbage_ends_the_stream),
        TEST(renegotiation_is_refused),
        TEST(what_is_not_tls_is_refused),
        TEST(min_version_is_obeyed),
        TEST(a_hello_may_be_cut_off_anywhere),
        TEST(a_hello_may_be_wrong_anywhere),
        TEST(a_handshake_may_be_abandoned),
        TEST(the_name_asked_for_chooses_the_certificate),
        TEST(handshakes_leave_others_their_turn),
        TEST(no_memory_ends_one_stream),
        TEST(the_session_counts_as_memory),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
