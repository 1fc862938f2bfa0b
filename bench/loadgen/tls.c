#include "tls.h"
#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#define RECORD_SIZE ((size_t)16384)

/* One group, so that the generator does not make a second pair of keys that nobody uses. */
#define PRIORITIES "NORMAL:-GROUP-ALL:+GROUP-X25519:+GROUP-SECP256R1"

struct tls_setup {
    gnutls_certificate_credentials_t credentials;
    gnutls_priority_t priorities;
};

struct tls {
    gnutls_session_t session;
    bool ready;
    struct bytes sealed;
    const uint8_t *input; /* what tls_receive was given and GnuTLS has not taken yet */
    size_t input_size;
};

struct tls_setup *tls_setup_new(void)
{
    struct tls_setup *setup = bytes_new_array(1, sizeof *setup);
    if (gnutls_certificate_allocate_credentials(&setup->credentials) < 0 ||
        gnutls_priority_init(&setup->priorities, PRIORITIES, NULL) < 0) {
        tls_setup_free(setup);
        return NULL;
    }
    return setup;
}

void tls_setup_free(struct tls_setup *setup)
{
    if (setup == NULL)
        return;
    if (setup->credentials != NULL)
        gnutls_certificate_free_credentials(setup->credentials);
    if (setup->priorities != NULL)
        gnutls_priority_deinit(setup->priorities);
    free(setup);
}

static ssize_t push(gnutls_transport_ptr_t ptr, const void *data, size_t size)
{
    struct tls *tls = ptr;
    bytes_append(&tls->sealed, data, size);
    return (ssize_t)size;
}

static ssize_t pull(gnutls_transport_ptr_t ptr, void *to, size_t size)
{
    struct tls *tls = ptr;
    if (tls->input_size == 0) {
        gnutls_transport_set_errno(tls->session, EAGAIN);
        return -1;
    }
    if (size > tls->input_size)
        size = tls->input_size;
    memcpy(to, tls->input, size);
    tls->input += size;
    tls->input_size -= size;
    return (ssize_t)size;
}

/* Goes on with the handshake. Returns NULL, or why it failed. */
static const char *shake_hands(struct tls *tls)
{
    int err;
    do
        err = gnutls_handshake(tls->session);
    while (err == GNUTLS_E_INTERRUPTED || err == GNUTLS_E_WARNING_ALERT_RECEIVED);
    tls->ready = err == GNUTLS_E_SUCCESS;
    return tls->ready || err == GNUTLS_E_AGAIN ? NULL : gnutls_strerror(err);
}

struct tls *tls_open(const struct tls_setup *setup, const struct bytes *ticket)
{
    static const char server_name[] = "localhost";
    struct tls *tls = bytes_new_array(1, sizeof *tls);
    if (gnutls_init(&tls->session, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL |
                                       GNUTLS_KEY_SHARE_TOP) < 0) {
        free(tls);
        return NULL;
    }
    gnutls_transport_set_ptr(tls->session, tls);
    gnutls_transport_set_push_function(tls->session, push);
    gnutls_transport_set_pull_function(tls->session, pull);
    if (gnutls_priority_set(tls->session, setup->priorities) < 0 ||
        gnutls_credentials_set(tls->session, GNUTLS_CRD_CERTIFICATE, setup->credentials) < 0 ||
        gnutls_server_name_set(tls->session, GNUTLS_NAME_DNS, server_name, sizeof server_name - 1) <
            0 ||
        (bytes_size(ticket) > 0 &&
         gnutls_session_set_data(tls->session, ticket->data + ticket->start, bytes_size(ticket)) <
             0) ||
        shake_hands(tls) != NULL) {
        tls_close(tls);
        return NULL;
    }
    return tls;
}

void tls_close(struct tls *tls)
{
    if (tls == NULL)
        return;
    gnutls_deinit(tls->session);
    bytes_done(&tls->sealed);
    free(tls);
}

const char *tls_receive(struct tls *tls, const uint8_t *data, size_t size, struct bytes *plain)
{
    tls->input = data;
    tls->input_size = size;
    if (!tls->ready) {
        const char *why = shake_hands(tls);
        if (why != NULL || !tls->ready)
            return why;
    }
    for (;;) {
        uint8_t *to = bytes_reserve(plain, RECORD_SIZE);
        const ssize_t n = gnutls_record_recv(tls->session, to, RECORD_SIZE);
        if (n > 0)
            plain->end += (size_t)n;
        else if (n == 0)
            return "closed by the server";
        else if (n == GNUTLS_E_AGAIN && tls->input_size == 0) /* it also says so behind a ticket */
            return NULL;
        else if (gnutls_error_is_fatal((int)n))
            return gnutls_strerror((int)n);
    }
}

bool tls_is_ready(const struct tls *tls)
{
    return tls->ready;
}

bool tls_is_resumed(const struct tls *tls)
{
    return gnutls_session_is_resumed(tls->session) != 0;
}

const char *tls_seal(struct tls *tls, struct bytes *plain)
{
    while (bytes_size(plain) > 0) {
        const ssize_t n =
            gnutls_record_send(tls->session, plain->data + plain->start, bytes_size(plain));
        if (n < 0)
            return gnutls_strerror((int)n);
        bytes_consume(plain, (size_t)n);
    }
    return NULL;
}

void tls_say_bye(struct tls *tls)
{
    (void)gnutls_bye(tls->session, GNUTLS_SHUT_WR);
}

struct bytes *tls_sealed(struct tls *tls)
{
    return &tls->sealed;
}

void tls_take_ticket(struct tls *tls, struct bytes *ticket)
{
    gnutls_datum_t data;
    /* Without a ticket in TLS 1.3 the call below would wait for one. */
    if (!tls->ready ||
        (gnutls_session_get_flags(tls->session) & GNUTLS_SFLAGS_SESSION_TICKET) == 0 ||
        gnutls_session_get_data2(tls->session, &data) < 0)
        return;
    ticket->start = ticket->end = 0;
    bytes_append(ticket, data.data, data.size);
    gnutls_free(data.data);
}
