/* A registry over the model engine, and certificates for it. For unit tests only: one test
 * executable includes it once. */
#pragma once

#include "auth/registry.h"
#include "base/mem.h"
#include "base/unit.h"
#include "net/tls_fixture.h"
#include "store/mem/mem.h"

struct registry_fixture {
    struct store *store;
    struct meta *meta;
    struct registry *registry;
    struct pki pki;
    struct pki_pair ca;
    uint64_t now_ms; /* added to the time at which it was opened */
    time_t opened;
    int told;
    enum registry_outcome outcome; /* of what was told last, as these */
    char detail[128], sn[RECORD_NAME_MAX + 1];
    int gone, authorities; /* what watchers heard */
    char gone_sn[RECORD_NAME_MAX + 1];
};

static inline uint64_t registry_fixture_now(void *data)
{
    const struct registry_fixture *fixture = data;
    return (uint64_t)fixture->opened * 1000 + fixture->now_ms;
}

static inline void registry_fixture_gone(void *data, struct slice sn)
{
    struct registry_fixture *fixture = data;
    fixture->gone++;
    (void)snprintf(fixture->gone_sn, sizeof fixture->gone_sn, "%.*s", (int)sn.size, sn.bytes);
}

static inline void registry_fixture_authorities(void *data)
{
    ((struct registry_fixture *)data)->authorities++;
}

static inline void registry_fixture_read(struct registry_fixture *fixture)
{
    assert_int_equal(registry_open(fixture->store, fixture->meta, registry_fixture_now, fixture,
                                   &fixture->registry, NULL),
                     0);
    registry_watch(fixture->registry, registry_fixture_gone, fixture);
    registry_watch_authorities(fixture->registry, registry_fixture_authorities, fixture);
}

static inline void registry_fixture_open(struct registry_fixture *fixture)
{
    *fixture = (struct registry_fixture){.opened = time(NULL)};
    assert_int_equal(mem_store_open(&fixture->store, &fixture->meta), 0);
    pki_open(&fixture->pki);
    fixture->ca =
        pki_issue(&fixture->pki, NULL, &(struct pki_wish){.name = "Devices CA", .is_ca = true});
    registry_fixture_read(fixture);
}

static inline void registry_fixture_close(struct registry_fixture *fixture)
{
    (void)store_close(fixture->store);
    (void)registry_close(fixture->registry);
    pki_pair_done(&fixture->ca);
    pki_close(&fixture->pki);
}

static inline void registry_fixture_done(void *data, const struct registry_result *result)
{
    struct registry_fixture *fixture = data;
    fixture->told++;
    fixture->outcome = result->outcome;
    (void)snprintf(fixture->detail, sizeof fixture->detail, "%s", result->detail);
    (void)snprintf(fixture->sn, sizeof fixture->sn, "%.*s", (int)result->sn.size, result->sn.bytes);
}

/* What came of the last call. */
static inline enum registry_outcome registry_fixture_step(struct registry_fixture *fixture)
{
    const int told = fixture->told;
    (void)mem_store_step(fixture->store, 1);
    assert_true(fixture->told == told || fixture->told == told + 1);
    return fixture->outcome;
}

/* To be gnutls_freed. */
static inline gnutls_datum_t registry_fixture_pem(const struct pki_pair *pair)
{
    gnutls_datum_t pem = {0};
    pki_check(gnutls_x509_crt_export2(pair->crt, GNUTLS_X509_FMT_PEM, &pem));
    return pem;
}

static inline struct certificate *registry_fixture_parse(const struct pki_pair *pair)
{
    struct certificate *certificate = NULL;
    gnutls_datum_t der = {0};
    pki_check(gnutls_x509_crt_export2(pair->crt, GNUTLS_X509_FMT_DER, &der));
    const struct slice one = slice_of(der.data, der.size);
    assert_int_equal(certificate_parse(&one, 1, &certificate), 0);
    gnutls_free(der.data);
    return certificate;
}

/* With a code and a verification certificate of its own. */
static inline enum registry_outcome registry_fixture_add_ca(struct registry_fixture *fixture,
                                                            const struct pki_pair *ca,
                                                            enum registry_state state)
{
    char code[REGISTRY_CODE_SIZE + 1];
    registry_make_code(fixture->registry, registry_fixture_done, fixture);
    assert_int_equal(registry_fixture_step(fixture), REGISTRY_DONE);
    const struct slice text = registry_code(fixture->registry);
    (void)snprintf(code, sizeof code, "%.*s", (int)text.size, text.bytes);
    struct pki_pair proof = pki_issue(&fixture->pki, ca, &(struct pki_wish){.name = code});
    const gnutls_datum_t pem = registry_fixture_pem(ca), proof_pem = registry_fixture_pem(&proof);
    registry_add_ca(fixture->registry, slice_of(pem.data, pem.size),
                    slice_of(proof_pem.data, proof_pem.size), state, registry_fixture_done,
                    fixture);
    gnutls_free(pem.data);
    gnutls_free(proof_pem.data);
    pki_pair_done(&proof);
    return registry_fixture_step(fixture);
}

/* ca_sn: of the registered one. Not stepped. */
static inline void registry_fixture_submit(struct registry_fixture *fixture,
                                           const struct pki_pair *pair, const char *ca_sn,
                                           const char *client_id, enum registry_state state)
{
    const gnutls_datum_t pem = registry_fixture_pem(pair);
    const struct registry_wish wish = {
        .pem = slice_of(pem.data, pem.size),
        .ca_sn = slice_str(ca_sn),
        .client_id = slice_str(client_id),
        .state = state,
    };
    registry_add(fixture->registry, &wish, registry_fixture_done, fixture);
    gnutls_free(pem.data);
}
