/* The TLS stage of a client against the one of a server, on one loop: what it carries, and whom it
 * does not trust. */
#include "base/metrics.h"
#include "net/tcp.h"
#include "net/tls.h"
#include "net/tls_client.h"
#include "net/tls_fixture.h"

#include <errno.h>
#include <sys/socket.h>

enum { TOTAL = 300 * 1000, READ_MAX = 70000 };

/* One end: what it has still to write, and what it has read. */
struct side {
    struct stream *stream;
    const uint8_t *out;
    size_t out_left, out_part; /* part: the size of a piece */
    uint8_t *in;
    size_t in_size, read_max;
    ssize_t end; /* 1: open */
};

struct bed {
    struct pki pki;
    struct loop *loop;
    struct tls_source *source;
    struct tls_client *client;
    struct side near, far; /* near: the client's */
};

static void read_all(struct side *side)
{
    ssize_t n = 1;
    while (side->end == 1 &&
           (n = stream_read(side->stream, side->in + side->in_size,
                            MIN(side->read_max, TOTAL + READ_MAX - side->in_size))) > 0)
        side->in_size += (size_t)n;
    if (side->end == 1 && n != (ssize_t)ERR_AGAIN)
        side->end = n;
}

static void write_all(struct side *side)
{
    while (side->out_left > 0) {
        const size_t first = MIN(side->out_left, side->out_part);
        const struct iovec iov[] = {{(void *)side->out, first},
                                    {(void *)(side->out + first), side->out_left - first}};
        const ssize_t n = stream_writev(side->stream, iov, 2);
        if (n < 0) {
            assert_true(n == (ssize_t)ERR_AGAIN || side->end != 1);
            break;
        }
        side->out += n;
        side->out_left -= (size_t)n;
    }
    (void)!stream_want(side->stream, IO_READ | (side->out_left > 0 ? IO_WRITE : 0u));
}

static void on_side_ready(struct stream *stream, unsigned events)
{
    struct side *side = stream->owner;
    if (events & (IO_READ | IO_HANGUP))
        read_all(side);
    if (events & IO_WRITE)
        write_all(side);
    if (side->end != 1)
        (void)!stream_want(stream, 0);
}

static void side_start(struct side *side, struct stream *stream)
{
    side->stream = stream;
    side->end = 1;
    side->in_size = 0;
    side->out_left = 0;
    side->read_max = READ_MAX;
    stream->on_ready = on_side_ready;
    stream->owner = side;
    assert_int_equal(stream_want(stream, IO_READ), 0);
}

static void open_bed(struct bed *bed, const char *client_ca)
{
    memset(bed, 0, sizeof *bed);
    pki_open(&bed->pki);
    assert_int_equal(loop_new(&bed->loop, NULL), 0);
    struct pki_pair ca =
        pki_issue(&bed->pki, NULL, &(struct pki_wish){.name = "CA", .is_ca = true});
    struct pki_pair own =
        pki_issue(&bed->pki, &ca, &(struct pki_wish){.name = "s", .dns = "a.example"});
    struct pki_pair other =
        pki_issue(&bed->pki, NULL, &(struct pki_wish){.name = "X", .is_ca = true});
    pki_write_crt(&bed->pki, "ca.pem", &ca, false);
    pki_write_crt(&bed->pki, "other.pem", &other, false);
    pki_write_crt(&bed->pki, "own.pem", &own, false);
    pki_write_key(&bed->pki, "own.key", &own, false);
    char *crt = pki_path(&bed->pki, "own.pem"), *key = pki_path(&bed->pki, "own.key");
    char *signer = client_ca ? pki_path(&bed->pki, client_ca) : NULL;
    const struct tls_options options = {
        .certificates = {(const char *const[]){crt}, 1},
        .private_keys = {(const char *const[]){key}, 1},
        .client_ca = signer,
    };
    assert_int_equal(tls_source_new("", &options, &bed->source, NULL), 0);
    mem_free(crt);
    mem_free(key);
    mem_free(signer);
    pki_pair_done(&ca);
    pki_pair_done(&own);
    pki_pair_done(&other);
    bed->near.in = mem_try_alloc(TOTAL + READ_MAX);
    bed->far.in = mem_try_alloc(TOTAL + READ_MAX);
    assert_true(bed->near.in && bed->far.in);
}

static void close_bed(struct bed *bed)
{
    bed->near.stream = stream_close(bed->near.stream);
    bed->far.stream = stream_close(bed->far.stream);
    mem_free(bed->near.in);
    mem_free(bed->far.in);
    bed->client = tls_client_free(bed->client);
    (void)tls_source_unref(bed->source);
    bed->loop = loop_free(bed->loop);
    pki_close(&bed->pki);
}

static void make_client(struct bed *bed, const char *ca, bool shows_certificate, const char *name)
{
    char *path = pki_path(&bed->pki, ca), *crt = pki_path(&bed->pki, "own.pem"),
         *key = pki_path(&bed->pki, "own.key");
    const struct tls_client_options options = {
        .ca_file = path,
        .certificate = shows_certificate ? crt : "",
        .private_key = shows_certificate ? key : "",
        .server_name = name,
    };
    assert_int_equal(tls_client_new(&options, &bed->client, NULL), 0);
    mem_free(path);
    mem_free(crt);
    mem_free(key);
}

static void connect_sides(struct bed *bed, const char *host)
{
    int fds[2];
    const struct tls_reports reports = {0};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds), 0);
    struct stream *far = tcp_new(bed->loop, fds[0], NULL);
    side_start(&bed->far, tls_new(bed->loop, far, bed->source, NULL, &reports));
    struct stream *near = tcp_new(bed->loop, fds[1], NULL);
    side_start(&bed->near, tls_client_stage(bed->client, bed->loop, near, host));
}

static void give(struct side *side, const uint8_t *bytes, size_t size, size_t part)
{
    side->out = bytes;
    side->out_left = size;
    side->out_part = part;
    write_all(side);
}

#define TURN_UNTIL(bed, condition)                                                                 \
    while (!(condition))                                                                           \
    assert_int_equal(loop_turn((bed)->loop, -1), 0)

static void bytes_go_in_both_directions(void **state)
{
    (void)state;
    static uint8_t bytes[TOTAL];
    static const size_t parts[] = {1, 13, 16384, 40000, TOTAL};
    struct bed bed;
    open_bed(&bed, NULL);
    make_client(&bed, "ca.pem", false, NULL);
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * 31 + i / 251);
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        connect_sides(&bed, "a.example");
        bed.near.read_max = i % 2 ? READ_MAX : 1000;
        give(&bed.near, bytes, TOTAL, parts[i]); /* before there is a connection */
        give(&bed.far, bytes, TOTAL, 999);
        TURN_UNTIL(&bed, (bed.near.in_size == TOTAL && bed.far.in_size == TOTAL) ||
                             bed.near.end != 1 || bed.far.end != 1);
        assert_int_equal(bed.near.in_size, TOTAL);
        assert_int_equal(bed.far.in_size, TOTAL);
        assert_memory_equal(bed.near.in, bytes, TOTAL);
        assert_memory_equal(bed.far.in, bytes, TOTAL);
        stream_shutdown(bed.far.stream);
        TURN_UNTIL(&bed, bed.near.end != 1);
        assert_int_equal(bed.near.end, 0);
        bed.near.stream = stream_close(bed.near.stream);
        bed.far.stream = stream_close(bed.far.stream);
    }
    close_bed(&bed);
}

static void wrong_servers_are_not_trusted(void **state)
{
    (void)state;
    static const struct {
        const char *ca, *host, *name, *fault; /* fault NULL: trusted */
    } rows[] = {
        {"ca.pem", "a.example", NULL, NULL},
        {"ca.pem", "127.0.0.1", "a.example", NULL},
        {"ca.pem", "b.example", NULL, "for another name"},
        {"ca.pem", "127.0.0.1", NULL, "for another name"},
        {"other.pem", "a.example", NULL, "from no CA that is trusted"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct bed bed;
        open_bed(&bed, NULL);
        make_client(&bed, rows[i].ca, false, rows[i].name);
        connect_sides(&bed, rows[i].host);
        give(&bed.near, (const uint8_t *)"hello", 5, 5);
        TURN_UNTIL(&bed, bed.near.end != 1 || bed.far.in_size == 5);
        if (rows[i].fault) {
            assert_int_equal(bed.near.end, ERR_PROTOCOL);
            assert_non_null(strstr(stream_fault(bed.near.stream), rows[i].fault));
            assert_int_equal(bed.far.in_size, 0);
        } else {
            assert_int_equal(bed.far.in_size, 5);
        }
        close_bed(&bed);
    }
}

static void certificates_are_shown(void **state)
{
    (void)state;
    struct bed bed;
    open_bed(&bed, "ca.pem");
    make_client(&bed, "ca.pem", true, NULL);
    connect_sides(&bed, "a.example");
    give(&bed.near, (const uint8_t *)"hello", 5, 5);
    TURN_UNTIL(&bed, bed.near.end != 1 || bed.far.in_size == 5);
    assert_int_equal(bed.far.in_size, 5);
    close_bed(&bed);
    open_bed(&bed, "ca.pem");
    make_client(&bed, "ca.pem", false, NULL);
    connect_sides(&bed, "a.example");
    TURN_UNTIL(&bed, bed.near.end != 1);
    assert_int_equal(bed.near.end, ERR_PROTOCOL);
    assert_non_null(stream_fault(bed.near.stream));
    close_bed(&bed);
}

/* The other end is no TLS server, or ends at once. */
static void others_are_told_apart(void **state)
{
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct bed bed;
        int fds[2];
        open_bed(&bed, NULL);
        make_client(&bed, "ca.pem", false, NULL);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
                         0);
        struct stream *near = tcp_new(bed.loop, fds[1], NULL);
        side_start(&bed.near, tls_client_stage(bed.client, bed.loop, near, "a.example"));
        if (i == 0)
            assert_int_equal(send(fds[0], "HTTP/1.1 400 Bad\r\n\r\n", 20, 0), 20);
        else
            assert_int_equal(shutdown(fds[0], SHUT_WR), 0);
        TURN_UNTIL(&bed, bed.near.end != 1);
        assert_int_equal(bed.near.end, ERR_PROTOCOL);
        assert_non_null(strstr(stream_fault(bed.near.stream), "TLS"));
        (void)close(fds[0]);
        close_bed(&bed);
    }
}

static void files_are_checked(void **state)
{
    (void)state;
    struct pki pki;
    struct tls_client *client = NULL;
    struct errmsg why = {0};
    pki_open(&pki);
    pki_write(&pki, "empty.pem", "", 0, false);
    char *path = pki_path(&pki, "empty.pem");
    const struct tls_client_options rows[] = {
        {.ca_file = "/nonexistent"},
        {.ca_file = path},
        {.certificate = path, .private_key = path},
        {.certificate = path},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        why = (struct errmsg){0};
        assert_int_equal(tls_client_new(&rows[i], &client, &why), ERR_INVALID);
        assert_non_null(strstr(why.text, "could not use '"));
    }
    assert_int_equal(tls_client_new(&(struct tls_client_options){0}, &client, &why), 0);
    client = tls_client_free(client);
    mem_free(path);
    pki_close(&pki);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_in_both_directions),
        cmocka_unit_test(wrong_servers_are_not_trusted),
        cmocka_unit_test(certificates_are_shown),
        cmocka_unit_test(others_are_told_apart),
        cmocka_unit_test(files_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
