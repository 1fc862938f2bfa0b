/* TLS on a front's thread, below a relay: what the handshake has found out is known at home with
 * the first bytes, and credentials may change at home while handshakes go on. */
#include "net/front_priv.h"

#include "net/stack.h"
#include "net/tls_fixture.h"
#include "net/tls_source.h"

#include <semaphore.h>
#include <sys/socket.h>

enum { OPEN_MAX = 2 };

/* A client, whose socket the test's loop watches. */
struct client {
    struct io_watch watch;
    struct stream *stream; /* the relay to it; NULL when closed */
    gnutls_session_t session;
    bool shaken;
};

struct bench {
    struct pki pki;
    struct pki_pair ca, server, client;
    struct loop *loop;
    struct budget budget;
    struct front *front;
    struct stack *stack;
    struct tls_options none;
    gnutls_certificate_credentials_t credentials;
    struct client clients[OPEN_MAX]; /* closed by tear_down when a test fails with them open */
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

static void close_client(struct bench *b, struct client *client)
{
    if (!client->stream)
        return;
    client->stream = stream_close(client->stream);
    io_watch_stop(b->loop, &client->watch);
    gnutls_deinit(client->session);
    (void)close(client->watch.fd);
}

static int tear_down(void **state)
{
    struct bench *b = *state;
    for (size_t i = 0; i < OPEN_MAX; i++)
        close_client(b, &b->clients[i]);
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

static void shake(struct client *client)
{
    const int code = gnutls_handshake(client->session);
    client->shaken = code == 0;
    assert_true(client->shaken || code == GNUTLS_E_AGAIN);
}

static void on_server(struct io_watch *watch, unsigned events)
{
    (void)events;
    struct client *client = CONTAINER_OF(watch, struct client, watch);
    if (!client->shaken)
        shake(client);
}

/* Connects and sends the first message of the handshake. */
static void connect_client(struct bench *b, struct client *client)
{
    int pair[2];
    const struct sockaddr from = {.sa_family = AF_UNIX};
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair), 0);
    *client = (struct client){.watch = {.fd = pair[0], .on_event = on_server}};
    pki_check(gnutls_init(&client->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK));
    client->stream = relay_new(b->front, b->stack, pair[1], peer_new(&from));
    client->stream->on_ready = on_ready;
    client->stream->owner = b;
    assert_int_equal(io_watch_start(b->loop, &client->watch, IO_READ), 0);
    assert_int_equal(stream_want(client->stream, IO_READ), 0);
    pki_check(gnutls_set_default_priority(client->session));
    pki_check(gnutls_credentials_set(client->session, GNUTLS_CRD_CERTIFICATE, b->credentials));
    pki_check(gnutls_server_name_set(client->session, GNUTLS_NAME_DNS, "a.example", 9));
    gnutls_transport_set_int(client->session, pair[0]);
    b->size = 0;
    shake(client);
}

/* However late the front's thread is: what ends the waiting is what it does. */
static void finish_client(struct bench *b, struct client *client)
{
    assert_string_equal(stream_peer(client->stream)->text, "unix");
    while (!client->shaken)
        assert_int_equal(loop_turn(b->loop, -1), 0);
    assert_int_equal(io_watch_change(b->loop, &client->watch, 0), 0);
    assert_int_equal(gnutls_record_send(client->session, "hello", 5), 5);
    while (b->size < 5)
        assert_int_equal(loop_turn(b->loop, -1), 0);
    assert_memory_equal(b->bytes, "hello", 5);
    const struct peer *peer = stream_peer(client->stream);
    assert_int_equal(peer->tls, PEER_TLS_1_3);
    assert_string_equal(peer->sni, "a.example");
    assert_string_equal(peer->certificate->subject.common_name, "device-1");
    close_client(b, client);
}

static void the_handshake_is_known_at_home(void **state)
{
    struct bench *b = *state;
    connect_client(b, &b->clients[0]);
    finish_client(b, &b->clients[0]);
}

/* The credentials change in the middle of many handshakes. */
static void credentials_change_meanwhile(void **state)
{
    struct bench *b = *state;
    for (int i = 0; i < 20; i++) {
        struct errmsg why = {0};
        connect_client(b, &b->clients[0]);
        assert_int_equal(loop_turn(b->loop, 0), 0);
        assert_int_equal(tls_source_stage(stack_tls(b->stack), &b->none, &why), 0);
        tls_source_commit(stack_tls(b->stack));
        connect_client(b, &b->clients[1]);
        finish_client(b, &b->clients[1]);
        close_client(b, &b->clients[0]);
    }
}

struct hold {
    struct mail mail;
    sem_t go;
};

static void on_hold(struct mail *mail)
{
    while (sem_wait(&CONTAINER_OF(mail, struct hold, mail)->go) < 0)
        continue;
}

/* A relay opened and closed while the front's thread does something else: it hears of both at once,
 * and what it answers is delivered when the front is freed. */
static void a_late_front_ends_whole(void **state)
{
    struct bench *b = *state;
    struct hold hold = {.mail.deliver = on_hold};
    assert_int_equal(sem_init(&hold.go, 0, 0), 0);
    mailbox_post(b->front->box, &hold.mail);
    connect_client(b, &b->clients[0]);
    for (int i = 0; i < 200; i++)
        assert_int_equal(loop_turn(b->loop, 0), 0);
    close_client(b, &b->clients[0]);
    assert_int_equal(front_relays(b->front), 1);
    assert_int_equal(sem_post(&hold.go), 0);
    b->front = front_free(b->front);
    assert_int_equal(sem_destroy(&hold.go), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_handshake_is_known_at_home, set_up, tear_down),
        cmocka_unit_test_setup_teardown(credentials_change_meanwhile, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_late_front_ends_whole, set_up, tear_down),
    };
    return cmocka_run_group_tests_name("net/relay_tls", tests, NULL, NULL);
}
