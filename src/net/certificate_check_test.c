/* Certificates that people hand in: what is read, and what is said of wrong ones. */
#include "net/certificate_check.h"

#include "net/tls_fixture.h"

struct fixture {
    struct pki pki;
    struct pki_pair ca, other, device;
};

static int set_up(void **state)
{
    struct fixture *f = mem_new(sizeof *f);
    pki_open(&f->pki);
    f->ca = pki_issue(&f->pki, NULL, &(struct pki_wish){.name = "CA", .is_ca = true});
    f->other = pki_issue(&f->pki, NULL, &(struct pki_wish){.name = "CA", .is_ca = true});
    f->device = pki_issue(&f->pki, &f->ca, &(struct pki_wish){.name = "one"});
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    pki_pair_done(&f->ca);
    pki_pair_done(&f->other);
    pki_pair_done(&f->device);
    pki_close(&f->pki);
    mem_free(f);
    return 0;
}

static gnutls_datum_t pem_of(const struct pki_pair *pair)
{
    gnutls_datum_t pem = {0};
    pki_check(gnutls_x509_crt_export2(pair->crt, GNUTLS_X509_FMT_PEM, &pem));
    return pem;
}

static struct certificate *read_one(const struct pki_pair *pair)
{
    struct certificate *certificate = NULL;
    const gnutls_datum_t pem = pem_of(pair);
    assert_int_equal(certificate_read_pem(slice_of(pem.data, pem.size), &certificate), 0);
    gnutls_free(pem.data);
    return certificate;
}

static void pem_there_and_back(void **state)
{
    struct fixture *f = *state;
    struct certificate *read = read_one(&f->device), *again = NULL;
    assert_string_equal(read->subject.common_name, "one");
    char *pem = certificate_write_pem(slice_of(buf_bytes(read->der), buf_size(read->der)));
    assert_int_equal(certificate_read_pem(slice_str(pem), &again), 0);
    assert_string_equal(again->fingerprint, read->fingerprint);
    char *issuer = certificate_issuer_name(read);
    assert_string_equal(issuer, "CA");
    assert_false(certificate_is_ca(read));
    mem_free(issuer);
    mem_free(pem);
    (void)certificate_free(again);
    again = read_one(&f->ca);
    assert_true(certificate_is_ca(again));
    (void)certificate_free(again);
    (void)certificate_free(read);
}

/* Cut at every byte before its last line, which GnuTLS does not read to the end; and twice. */
static void only_whole_ones_are_read(void **state)
{
    struct fixture *f = *state;
    struct certificate *certificate = NULL;
    const gnutls_datum_t pem = pem_of(&f->device);
    const char *text = (const char *)pem.data;
    const size_t last = (size_t)(strstr(text, "-----END") - text);
    for (size_t size = 0; size <= last; size++)
        assert_int_equal(certificate_read_pem(slice_of(pem.data, size), &certificate),
                         ERR_MALFORMED);
    char *twice = mem_try_zeroed(2 * (size_t)pem.size + 1);
    memcpy(twice, pem.data, pem.size);
    memcpy(twice + pem.size, pem.data, pem.size);
    assert_int_equal(certificate_read_pem(slice_str(twice), &certificate), ERR_MALFORMED);
    mem_free(twice);
    char *large = mem_try_alloc(CERTIFICATE_PEM_MAX + 1);
    memset(large, '\n', CERTIFICATE_PEM_MAX + 1);
    memcpy(large, pem.data, pem.size);
    assert_int_equal(certificate_read_pem(slice_of(large, CERTIFICATE_PEM_MAX + 1), &certificate),
                     ERR_MALFORMED);
    mem_free(large);
    gnutls_free(pem.data);
    assert_null(certificate);
}

static void expect_complaint(const struct certificate *certificate, const struct certificate *ca,
                             const char *wanted)
{
    const char *complaint = certificate_complaint(certificate, ca);
    if (!wanted)
        assert_null(complaint);
    else
        assert_string_equal(complaint, wanted);
}

static void who_signed_it_and_when(void **state)
{
    static const struct {
        struct pki_wish wish;
        const char *complaint;
    } rows[] = {
        {{.name = "one"}, NULL},
        {{.name = "one", .begin_days = -9, .end_days = -2}, "it has expired"},
        {{.name = "one", .begin_days = 2, .end_days = 9}, "it is not valid yet"},
    };
    struct fixture *f = *state;
    struct certificate *ca = read_one(&f->ca), *other = read_one(&f->other);
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct pki_pair pair = pki_issue(&f->pki, &f->ca, &rows[i].wish);
        struct certificate *one = read_one(&pair);
        expect_complaint(one, ca, rows[i].complaint);
        assert_non_null(certificate_complaint(one, other)); /* of the same name */
        (void)certificate_free(one);
        pki_pair_done(&pair);
    }
    struct pki_pair self = pki_issue(&f->pki, NULL, &(struct pki_wish){.name = "one"});
    struct certificate *own = read_one(&self);
    expect_complaint(own, ca, "it is not signed by the CA");
    (void)certificate_free(own);
    pki_pair_done(&self);
    /* signed by one that may not sign */
    struct pki_pair child = pki_issue(&f->pki, &f->device, &(struct pki_wish){.name = "child"});
    struct certificate *one = read_one(&child), *device = read_one(&f->device);
    assert_non_null(certificate_complaint(one, device));
    (void)certificate_free(one);
    (void)certificate_free(device);
    pki_pair_done(&child);
    (void)certificate_free(ca);
    (void)certificate_free(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(pem_there_and_back, set_up, tear_down),
        cmocka_unit_test_setup_teardown(only_whole_ones_are_read, set_up, tear_down),
        cmocka_unit_test_setup_teardown(who_signed_it_and_when, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
