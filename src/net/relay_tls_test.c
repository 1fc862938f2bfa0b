/* TLS on a front's thread, below a relay: what the handshake has found out is known at home with
 * the first bytes, and credentials may change at home while handshakes go on. */
#include "net/front.h"

#include "net/stack.h"
#include "net/tls_fixture.h"
#include "net/tls_source.h"

#include <sys/socket.h>

enum { ROUNDS_MAX = 100000 };

struct bench {
    struct pki pki;
    struct pki_pair ca, server, client;
    struct loop *loop;
    struct budget budget;
    struct front *front;
    struct stack *stack;
    struct tls_options none;
    gnutls_certificate_credentials_t credentials;
    uint8_t bytes[64];
    size_t size;
};

static void on_ready(struct stream *stream, unsigned events)
{
    struct bench *b = stream->owner;
    if (!(events & IO_READ))
        return;
    const ssize_t n = stream_read(stream, b->bytes + b->size, sizeof b->bytes - b->size);
    b->size += n > 0 ? (size_t)n : 0;
    assert_int_equal(stream_want(stream, n == 0 ? 0 : IO_READ), 0);
}

static int set_up(void **state)
{
    struct bench *b = mem_new(sizeof *b);
    struct listener_url url;
    struct errmsg why = {0};
    char text[256];
    pki_open(&b->pki);
    b->ca = pki_issue(&b->pki, NULL, &(struct pki_wish){.name = "Test CA", .is_ca = true});
    b->server = pki_issue(&b->pki, &b->ca, &(struct pki_wish){.name = "s", .dns = "a.example"});
    b->client = pki_issue(&b->pki, &b->ca, &(struct pki_wish){.name = "device-1"});
    pki_write_crt(&b->pki, "server.pem", &b->server, false);
    pki_write_key(&b->pki, "server.pem", &b->server, true);
    pki_write_crt(&b->pki, "ca.pem", &b->ca, false);
    (void)snprintf(text, sizeof text, "mqtts://x?certificate=%s/server.pem&client_ca=%s/ca.pem",
                   b->pki.folder, b->pki.folder);
    assert_int_equal(listener_url_parse(text, &url, &why), 0);
    const struct stack_config config = {.tls = &b->none};
    if (stack_new(&url, &config, &b->stack, &why) < 0)
        fail_msg("%s", why.text);
    b->budget.max = 64u * 1024 * 1024;
    assert_int_equal(loop_new(&b->loop, NULL), 0);
    assert_int_equal(front_new(b->loop, &b->budget, "front", &b->front, &why), 0);
    pki_check(gnutls_certificate_allocate_credentials(&b->credentials));
    pki_check(gnutls_certificate_set_x509_key(b->credentials, &b->client.crt, 1, b->client.key));
    *state = b;
    return 0;
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    (void)front_free(b->front);
    (void)loop_free(b->loop);
    (void)stack_unref(b->stack);
    gnutls_certificate_free_credentials(b->credentials);
    pki_pair_done(&b->ca);
    pki_pair_done(&b->server);
    pki_pair_done(&b->client);
    pki_close(&b->pki);
    mem_free(b);
    return 0;
}

static struct stream *connect_client(struct bench *b, gnutls_session_t *ret_session, int *ret_fd)
{
    int pair[2];
    const struct sockaddr from = {.sa_family = AF_UNIX};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    b->size = 0;
    struct stream *stream = relay_new(b->front, b->stack, pair[1], peer_new(&from));
    stream->on_ready = on_ready;
    stream->owner = b;
    assert_int_equal(stream_want(stream, IO_READ), 0);
    pki_check(gnutls_init(ret_session, GNUTLS_CLIENT | GNUTLS_NONBLOCK));
    pki_check(gnutls_set_default_priority(*ret_session));
    pki_check(gnutls_credentials_set(*ret_session, GNUTLS_CRD_CERTIFICATE, b->credentials));
    pki_check(gnutls_server_name_set(*ret_session, GNUTLS_NAME_DNS, "a.example", 9));
    gnutls_transport_set_int(*ret_session, pair[0]);
    *ret_fd = pair[0];
    return stream;
}

static void one_client(struct bench *b)
{
    gnutls_session_t session = NULL;
    int fd = -1, rounds = 0;
    bool shaken = false, sent = false;
    struct stream *stream = connect_client(b, &session, &fd);
    assert_string_equal(stream_peer(stream)->text, "unix");
    while (b->size < 5) {
        assert_true(rounds++ < ROUNDS_MAX);
        assert_int_equal(loop_turn(b->loop, 0), 0);
        if (!shaken) {
            const int code = gnutls_handshake(session);
            shaken = code == 0;
            assert_true(shaken || code == GNUTLS_E_AGAIN);
        } else if (!sent) {
            sent = gnutls_record_send(session, "hello", 5) == 5;
        }
    }
    assert_memory_equal(b->bytes, "hello", 5);
    const struct peer *peer = stream_peer(stream);
    assert_int_equal(peer->tls, PEER_TLS_1_3);
    assert_string_equal(peer->sni, "a.example");
    assert_string_equal(peer->certificate->subject.common_name, "device-1");
    (void)stream_close(stream);
    gnutls_deinit(session);
    (void)close(fd);
}

static void the_handshake_is_known_at_home(void **state)
{
    one_client(*state);
}

/* The credentials change in the middle of many handshakes. */
static void credentials_change_meanwhile(void **state)
{
    struct bench *b = *state;
    for (int i = 0; i < 20; i++) {
        struct errmsg why = {0};
        gnutls_session_t session = NULL;
        int fd = -1;
        struct stream *begun = connect_client(b, &session, &fd);
        (void)gnutls_handshake(session);
        assert_int_equal(loop_turn(b->loop, 0), 0);
        assert_int_equal(tls_source_stage(stack_tls(b->stack), &b->none, &why), 0);
        tls_source_commit(stack_tls(b->stack));
        one_client(b);
        (void)stream_close(begun);
        gnutls_deinit(session);
        (void)close(fd);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_handshake_is_known_at_home, set_up, tear_down),
        cmocka_unit_test_setup_teardown(credentials_change_meanwhile, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("net/relay_tls", tests, NULL, NULL);
}
