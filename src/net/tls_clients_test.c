/* Clients' certificates at the TLS stage, and sessions that are resumed. */
#include "net/tls_bench_fixture.h"

/* --- clients' certificates -------------------------------------------------------------------- */

static void show(struct bench *b, const struct pki_pair *pair)
{
    gnutls_x509_crt_t crt = pair->crt;
    pki_check(gnutls_certificate_set_x509_key(b->credentials, &crt, 1, pair->key));
}

/* A step of a client that speaks at once: with TLS 1.3 it is done before it is refused. */
static ssize_t speak(struct bench *b)
{
    uint8_t byte = 0;
    if (b->shaken)
        return gnutls_record_recv(b->session, &byte, 1);
    const int code = shake(b);
    return code == 0 ? gnutls_record_send(b->session, "x", 1) : code;
}

/* A client that is refused hears why: what the alert says. */
static gnutls_alert_description_t refusal(struct bench *b, const char *versions)
{
    const int64_t before = failed(b);
    ssize_t code = GNUTLS_E_AGAIN;
    connect_raw(b);
    open_session(b, versions);
    TURN_UNTIL(b, code = speak(b), code < 0 && gnutls_error_is_fatal((int)code));
    const gnutls_alert_description_t alert = gnutls_alert_get(b->session);
    assert_int_equal(code, GNUTLS_E_FATAL_ALERT_RECEIVED);
    close_client(b);
    TURN_UNTIL(b, (void)0, b->end != 1);
    assert_int_equal(b->size, 0);
    assert_int_equal(failed(b), before + 1);
    disconnect(b);
    return alert;
}

static void a_certificate_is_verified_and_told(void **state)
{
    struct bench *b = *state;
    b->options.client_ca = b->ca_pem;
    assert_int_equal(refusal(b, V1_3), GNUTLS_A_CERTIFICATE_REQUIRED);
    assert_true(refusal(b, V1_2) != 0);
    show(b, &b->client);
    for (int version = 0; version < 2; version++) {
        connect_with(b, version ? V1_3 : V1_2);
        send_all(b, (const uint8_t *)"x", 1);
        TURN_UNTIL(b, (void)0, b->size == 1);
        const struct certificate *certificate = stream_peer(b->stream)->certificate;
        assert_string_equal(certificate->subject.common_name, "device-1");
        assert_string_equal(certificate->issuer_text, "CN=Test CA");
        disconnect(b);
    }
}

static void wrong_certificates_are_refused(void **state)
{
    struct bench *b = *state;
    struct pki_pair false_ca =
        pki_issue(&b->pki, NULL, &(struct pki_wish){.name = "Test CA", .is_ca = true});
    struct pki_pair other_ca =
        pki_issue(&b->pki, NULL, &(struct pki_wish){.name = "Other CA", .is_ca = true});
    const struct {
        const struct pki_pair *signer;
        struct pki_wish wish;
        gnutls_alert_description_t alert;
    } rows[] = {
        {&false_ca, {.name = "x"}, GNUTLS_A_BAD_CERTIFICATE},
        {&other_ca, {.name = "x"}, GNUTLS_A_UNKNOWN_CA},
        {&b->client, {.name = "x"}, GNUTLS_A_UNKNOWN_CA},
        {&b->ca, {.name = "x", .begin_days = -9, .end_days = -2}, GNUTLS_A_CERTIFICATE_EXPIRED},
        {&b->ca, {.name = "x", .begin_days = 2, .end_days = 9}, GNUTLS_A_BAD_CERTIFICATE},
        {&b->ca, {.name = "x", .purpose = GNUTLS_KP_TLS_WWW_SERVER}, GNUTLS_A_BAD_CERTIFICATE},
    };
    b->options.client_ca = b->ca_pem;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct pki_pair made = pki_issue(&b->pki, rows[i].signer, &rows[i].wish);
        gnutls_certificate_free_keys(b->credentials);
        show(b, &made);
        for (int version = 0; version < 2; version++) {
            const gnutls_alert_description_t alert = refusal(b, version ? V1_3 : V1_2);
            if (alert != rows[i].alert)
                fail_msg("row %zu: %s", i, gnutls_alert_get_name(alert));
        }
        pki_pair_done(&made);
    }
    pki_pair_done(&false_ca);
    pki_pair_done(&other_ca);
}

static void an_optional_certificate_must_be_right(void **state)
{
    struct bench *b = *state;
    b->options.client_ca = b->ca_pem;
    b->options.client_certificate = TLS_CLIENT_OPTIONAL;
    connect_with(b, V1_3);
    send_all(b, (const uint8_t *)"x", 1);
    TURN_UNTIL(b, (void)0, b->size == 1);
    assert_null(stream_peer(b->stream)->certificate);
    disconnect(b);
    struct pki_pair self = pki_issue(&b->pki, NULL, &(struct pki_wish){.name = "x"});
    show(b, &self);
    assert_int_equal(refusal(b, V1_3), GNUTLS_A_UNKNOWN_CA);
    pki_pair_done(&self);
}

static void revoked_certificates_are_refused(void **state)
{
    struct bench *b = *state;
    b->options.client_ca = b->ca_pem;
    b->options.crl = b->crl_pem;
    show(b, &b->client);
    connect_with(b, V1_3);
    send_all(b, (const uint8_t *)"x", 1);
    TURN_UNTIL(b, (void)0, b->size == 1);
    disconnect(b);
    pki_write_crl(&b->pki, "crl.pem", &b->ca, &b->client, 10);
    assert_int_equal(tls_source_stage(b->source, &b->options, NULL), 0);
    /* What is only staged does not count yet. */
    connect_with(b, V1_3);
    disconnect(b);
    tls_source_commit(b->source);
    assert_int_equal(refusal(b, V1_3), GNUTLS_A_CERTIFICATE_REVOKED);
    assert_int_equal(refusal(b, V1_2), GNUTLS_A_CERTIFICATE_REVOKED);
    /* A list that is out of date says nothing, so nobody is let in. */
    pki_write_crl(&b->pki, "crl.pem", &b->ca, NULL, -1);
    assert_int_equal(tls_source_stage(b->source, &b->options, NULL), 0);
    tls_source_commit(b->source);
    assert_int_equal(refusal(b, V1_3), GNUTLS_A_CERTIFICATE_UNKNOWN);
}

/* --- resumption ----------------------------------------------------------------------------- */

/* Connects, takes a ticket, and gives it to the next session. */
static gnutls_datum_t take_ticket(struct bench *b, const char *versions)
{
    gnutls_datum_t ticket = {0};
    uint8_t byte = 0;
    connect_with(b, versions);
    send_all(b, (const uint8_t *)"x", 1);
    const struct iovec iov = {"y", 1};
    TURN_UNTIL(b, (void)0, b->size == 1);
    assert_int_equal(stream_writev(b->stream, &iov, 1), 1);
    TURN_UNTIL(b, (void)0, receive(b, &byte, 1) == 1); /* the ticket comes before it */
    pki_check(gnutls_session_get_data2(b->session, &ticket));
    disconnect(b);
    return ticket;
}

static void connect_again(struct bench *b, const char *versions, gnutls_datum_t *ticket)
{
    connect_raw(b);
    open_session(b, versions);
    pki_check(gnutls_session_set_data(b->session, ticket->data, ticket->size));
    gnutls_free(ticket->data);
}

static void sessions_are_resumed(void **state)
{
    struct bench *b = *state;
    b->options.client_ca = b->ca_pem;
    show(b, &b->client);
    for (int version = 0; version < 2; version++) {
        const char *const versions = version ? V1_3 : V1_2;
        gnutls_datum_t ticket = take_ticket(b, versions);
        /* Reading the files anew does not make tickets void. */
        assert_int_equal(tls_source_stage(b->source, &b->options, NULL), 0);
        tls_source_commit(b->source);
        connect_again(b, versions, &ticket);
        finish(b);
        assert_int_not_equal(gnutls_session_is_resumed(b->session), 0);
        send_all(b, (const uint8_t *)"x", 1);
        TURN_UNTIL(b, (void)0, b->size == 1);
        /* The certificate of the first handshake is known in the second. */
        assert_string_equal(stream_peer(b->stream)->certificate->subject.common_name, "device-1");
        disconnect(b);
    }
    assert_int_equal(metric_get(&b->metrics->tls_handshakes_resumed), 2);
}

/* A ticket does not let in who would not be let in without one. */
static void a_ticket_does_not_outlive_its_certificate(void **state)
{
    struct bench *b = *state;
    b->options.client_ca = b->ca_pem;
    b->options.crl = b->crl_pem;
    show(b, &b->client);
    for (int version = 0; version < 2; version++) {
        const char *const versions = version ? V1_3 : V1_2;
        pki_write_crl(&b->pki, "crl.pem", &b->ca, NULL, 10);
        if (b->source) {
            assert_int_equal(tls_source_stage(b->source, &b->options, NULL), 0);
            tls_source_commit(b->source);
        }
        gnutls_datum_t ticket = take_ticket(b, versions);
        pki_write_crl(&b->pki, "crl.pem", &b->ca, &b->client, 10);
        assert_int_equal(tls_source_stage(b->source, &b->options, NULL), 0);
        tls_source_commit(b->source);
        const int64_t before = failed(b);
        connect_again(b, versions, &ticket);
        TURN_UNTIL(b, (void)shake(b), failed(b) > before);
        close_client(b);
        TURN_UNTIL(b, (void)0, b->end != 1);
        assert_int_equal(b->size, 0);
        disconnect(b);
    }
}

/* Tickets of one listener are worth nothing at another, which may ask for certificates. */
static void tickets_of_others_are_not_taken(void **state)
{
    struct bench *b = *state;
    gnutls_datum_t ticket = take_ticket(b, V1_3);
    b->source = tls_source_unref(b->source);
    open_source(b);
    connect_again(b, V1_3, &ticket);
    finish(b);
    assert_int_equal(gnutls_session_is_resumed(b->session), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        TEST(a_certificate_is_verified_and_told),
        TEST(wrong_certificates_are_refused),
        TEST(an_optional_certificate_must_be_right),
        TEST(revoked_certificates_are_refused),
        TEST(sessions_are_resumed),
        TEST(a_ticket_does_not_outlive_its_certificate),
        TEST(tickets_of_others_are_not_taken),
    };
#undef TEST
    return cmocka_run_group_tests(tests, NULL, NULL);
}
