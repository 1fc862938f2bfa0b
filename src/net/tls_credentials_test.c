/* What is read from certificate files, and what is said of wrong ones. */
#include "net/tls_credentials.h"

#include "net/tls_fixture.h"

#include <errno.h>

struct fixture {
    struct pki pki;
    struct pki_pair ca, server, other;
    char *server_pem, *server_key, *ca_pem, *crl;
    const char *certificate, *key; /* the lists that options point to */
    struct tls_options options;
};

static int set_up(void **state)
{
    struct fixture *f = mem_new(sizeof *f);
    pki_open(&f->pki);
    f->ca = pki_issue(&f->pki, NULL, &(struct pki_wish){.name = "Test CA", .is_ca = true});
    f->server = pki_issue(&f->pki, &f->ca, &(struct pki_wish){.name = "s", .dns = "a.example"});
    f->other = pki_issue(&f->pki, &f->ca, &(struct pki_wish){.name = "o", .dns = "b.example"});
    pki_write_crt(&f->pki, "server.pem", &f->server, false);
    pki_write_crt(&f->pki, "server.pem", &f->ca, true);
    pki_write_key(&f->pki, "server.key", &f->server, false);
    pki_write_crt(&f->pki, "ca.pem", &f->ca, false);
    pki_write_crl(&f->pki, "crl.pem", &f->ca, &f->other, 10);
    f->server_pem = pki_path(&f->pki, "server.pem");
    f->server_key = pki_path(&f->pki, "server.key");
    f->ca_pem = pki_path(&f->pki, "ca.pem");
    f->crl = pki_path(&f->pki, "crl.pem");
    f->certificate = f->server_pem;
    f->key = f->server_key;
    f->options = (struct tls_options){
        .certificates = {&f->certificate, 1},
        .private_keys = {&f->key, 1},
    };
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    pki_pair_done(&f->ca);
    pki_pair_done(&f->server);
    pki_pair_done(&f->other);
    mem_free(f->server_pem);
    mem_free(f->server_key);
    mem_free(f->ca_pem);
    mem_free(f->crl);
    pki_close(&f->pki);
    mem_free(f);
    return 0;
}

static struct tls_credentials *load(const struct fixture *f)
{
    struct tls_credentials *credentials = NULL;
    struct errmsg why = {0};
    if (tls_credentials_load(&f->options, time(NULL), NULL, &credentials, &why) < 0)
        fail_msg("%s", why.text);
    return credentials;
}

static void refuse(const struct fixture *f, int err, const char *told)
{
    struct tls_credentials *credentials = NULL;
    struct errmsg why = {0};
    assert_int_equal(tls_credentials_load(&f->options, time(NULL), NULL, &credentials, &why), err);
    if (!strstr(why.text, told))
        fail_msg("'%s' does not say '%s'", why.text, told);
    assert_null(strstr(why.text, "PRIVATE KEY"));
}

static void count_file(void *data, const struct tls_file *file)
{
    unsigned *kinds = data;
    kinds[file->kind]++;
    if (file->kind == TLS_FILE_CERTIFICATE) {
        assert_string_equal(file->subject, "CN=s");
        assert_string_equal(file->names, "a.example");
        assert_true(file->not_before_s < time(NULL));
        assert_true(file->not_after_s > time(NULL) + 9 * PKI_DAY_S);
    } else {
        assert_string_equal(file->subject, "CN=Test CA");
    }
}

static void all_files_are_read_and_listed(void **state)
{
    struct fixture *f = *state;
    unsigned kinds[4] = {0};
    f->options.client_ca = f->ca_pem;
    f->options.crl = f->crl;
    struct tls_credentials *credentials = load(f);
    tls_credentials_files(credentials, count_file, kinds);
    assert_int_equal(kinds[TLS_FILE_CERTIFICATE], 1);
    assert_int_equal(kinds[TLS_FILE_CLIENT_CA], 1);
    assert_int_equal(kinds[TLS_FILE_CRL], 1);
    assert_null(tls_credentials_unref(credentials));
}

/* One file may hold the key, too. */
static void a_key_may_follow_its_certificate(void **state)
{
    struct fixture *f = *state;
    pki_write_key(&f->pki, "server.pem", &f->server, true);
    f->options.private_keys.count = 0;
    assert_null(tls_credentials_unref(load(f)));
}

static void a_key_of_another_is_told(void **state)
{
    struct fixture *f = *state;
    pki_write_key(&f->pki, "server.key", &f->other, false);
    refuse(f, ERR_INVALID, "/server.key' is not that of the certificate in '");
}

static void files_that_cannot_be_read_are_told(void **state)
{
    struct fixture *f = *state;
    f->key = "/nowhere/x.key";
    refuse(f, -ENOENT, "could not read '/nowhere/x.key': No such file or directory");
    f->certificate = "/nowhere/x.pem";
    refuse(f, -ENOENT, "could not read '/nowhere/x.pem'");
    f->certificate = f->server_pem;
    f->key = f->server_key;
    f->options.client_ca = "/nowhere/ca.pem";
    refuse(f, -ENOENT, "could not read '/nowhere/ca.pem'");
    f->options.client_ca = f->ca_pem;
    f->options.crl = "/nowhere/crl.pem";
    refuse(f, -ENOENT, "could not read '/nowhere/crl.pem'");
}

static void files_with_something_else_are_told(void **state)
{
    struct fixture *f = *state;
    pki_write(&f->pki, "junk", "hello", 5, false);
    char *junk = pki_path(&f->pki, "junk");
    f->certificate = junk;
    refuse(f, ERR_INVALID, "/junk' holds no certificate chain that can be used");
    f->certificate = f->server_pem;
    f->key = junk;
    refuse(f, ERR_INVALID, "/junk' holds no private key that can be used");
    f->key = f->server_pem; /* PEM, but of certificates */
    refuse(f, ERR_INVALID, "/server.pem' holds no private key that can be used");
    f->key = f->server_key;
    f->options.client_ca = junk;
    refuse(f, ERR_INVALID, "/junk' holds no CA certificate that can be used");
    f->options.client_ca = f->ca_pem;
    f->options.crl = junk;
    refuse(f, ERR_INVALID, "/junk' holds no revocation list that can be used");
    f->options.crl = NULL;
    f->options.ocsp_responses = (struct tls_names){(const char *const[]){junk}, 1};
    refuse(f, ERR_INVALID, "/junk' holds no OCSP response for its certificate");
    mem_free(junk);
}

static void an_encrypted_key_is_told(void **state)
{
    struct fixture *f = *state;
    char pem[4096];
    size_t size = sizeof pem;
    pki_check(gnutls_x509_privkey_export_pkcs8(f->server.key, GNUTLS_X509_FMT_PEM, "secret",
                                               GNUTLS_PKCS_PBES2_AES_256, pem, &size));
    pki_write(&f->pki, "server.key", pem, size, false);
    refuse(f, ERR_INVALID, "/server.key' holds an encrypted private key; store it without");
}

static void dates_are_checked(void **state)
{
    struct fixture *f = *state;
    struct pki_pair old = pki_issue(
        &f->pki, &f->ca, &(struct pki_wish){.name = "s", .begin_days = -9, .end_days = -2});
    struct pki_pair early =
        pki_issue(&f->pki, &f->ca, &(struct pki_wish){.name = "s", .begin_days = 2, .end_days = 9});
    pki_write_crt(&f->pki, "server.pem", &old, false);
    pki_write_key(&f->pki, "server.key", &old, false);
    refuse(f, ERR_INVALID, "/server.pem' has expired on 2");
    pki_write_crt(&f->pki, "server.pem", &early, false);
    pki_write_key(&f->pki, "server.key", &early, false);
    refuse(f, ERR_INVALID, "/server.pem' is not valid before 2");
    pki_pair_done(&old);
    pki_pair_done(&early);
}

static struct tls_credentials *load_later(const struct fixture *f, int64_t days,
                                          const struct tls_credentials *in_use, int want)
{
    struct tls_credentials *credentials = NULL;
    struct errmsg why = {0};
    const int64_t now_s = time(NULL) + days * PKI_DAY_S;
    assert_int_equal(tls_credentials_load(&f->options, now_s, in_use, &credentials, &why), want);
    return credentials;
}

/* A certificate that ends while it is in use must not keep revocation lists from being read; but it
 * is not what a good one may be replaced by. */
static void one_in_use_may_expire(void **state)
{
    struct fixture *f = *state;
    struct tls_credentials *before = load(f);
    assert_null(load_later(f, 11, NULL, ERR_INVALID));
    struct tls_credentials *after = load_later(f, 11, before, 0);
    assert_null(tls_credentials_unref(before));
    assert_null(tls_credentials_unref(load_later(f, 12, after, 0)));
    struct pki_pair other =
        pki_issue(&f->pki, &f->ca, &(struct pki_wish){.name = "s", .end_days = 9});
    pki_write_crt(&f->pki, "server.pem", &other, false);
    pki_write_key(&f->pki, "server.key", &other, false);
    assert_null(load_later(f, 11, after, ERR_INVALID));
    assert_null(tls_credentials_unref(load_later(f, 8, after, 0)));
    assert_null(tls_credentials_unref(after));
    pki_pair_done(&other);
}

static void what_does_not_fit_together_is_told(void **state)
{
    struct fixture *f = *state;
    const char *const two[] = {f->server_key, f->server_key};
    f->options.private_keys = (struct tls_names){two, 2};
    refuse(f, ERR_INVALID, "1 certificates and 2 private keys are given");
    f->options.private_keys.count = 1;
    f->options.ocsp_responses = (struct tls_names){two, 2};
    refuse(f, ERR_INVALID, "1 certificates and 2 OCSP responses are given");
    f->options.ocsp_responses.count = 0;
    f->options.client_certificate = TLS_CLIENT_OPTIONAL;
    refuse(f, ERR_INVALID, "client_certificate needs a client_ca");
    f->options.client_certificate = TLS_CLIENT_AUTO;
    f->options.certificates.count = 0;
    refuse(f, ERR_INVALID, "no certificate is given: set tls.certificate");
    f->options.certificates.count = 1;
    f->options.priorities = "NORMAL:+COLOUR";
    refuse(f, ERR_INVALID, "the priorities 'NORMAL:+COLOUR' are not understood from '+COLOUR' on");
}

/* Else anybody's list would lock clients out. */
static void a_list_of_another_ca_is_refused(void **state)
{
    struct fixture *f = *state;
    struct pki_pair false_ca =
        pki_issue(&f->pki, NULL, &(struct pki_wish){.name = "Test CA", .is_ca = true});
    pki_write_crl(&f->pki, "crl.pem", &false_ca, NULL, 10);
    f->options.client_ca = f->ca_pem;
    f->options.crl = f->crl;
    refuse(f, ERR_INVALID, "/crl.pem' is not signed by one of the CAs in the client_ca");
    pki_pair_done(&false_ca);
}

/* A registry's CAs come and go while the file stays. */
static void lists_of_cas_that_are_not_registered_wait(void **state)
{
    struct fixture *f = *state;
    unsigned kinds[4] = {0};
    struct tls_authorities registered = {0};
    f->options.registered = &registered;
    f->options.crl = f->crl;
    struct tls_credentials *credentials = load(f);
    tls_credentials_files(credentials, count_file, kinds);
    assert_int_equal(kinds[TLS_FILE_CLIENT_CA] + kinds[TLS_FILE_CRL], 0);
    assert_null(tls_credentials_unref(credentials));
    gnutls_datum_t der = {0};
    pki_check(gnutls_x509_crt_export2(f->ca.crt, GNUTLS_X509_FMT_DER, &der));
    const struct slice ders[] = {slice_of(der.data, der.size), slice_of("x", 1)};
    registered = (struct tls_authorities){ders, 1};
    credentials = load(f);
    tls_credentials_files(credentials, count_file, kinds);
    assert_int_equal(kinds[TLS_FILE_CLIENT_CA], 1);
    assert_int_equal(kinds[TLS_FILE_CRL], 1);
    assert_null(tls_credentials_unref(credentials));
    registered.count = 2;
    refuse(f, ERR_INVALID, "the registry of CAs");
    gnutls_free(der.data);
}

static struct certificate *parse(const struct pki_pair *pair, const struct pki_pair *behind)
{
    struct certificate *certificate = NULL;
    struct slice ders[2];
    gnutls_datum_t first = {0}, second = {0};
    pki_check(gnutls_x509_crt_export2(pair->crt, GNUTLS_X509_FMT_DER, &first));
    if (behind)
        pki_check(gnutls_x509_crt_export2(behind->crt, GNUTLS_X509_FMT_DER, &second));
    ders[0] = slice_of(first.data, first.size);
    ders[1] = slice_of(second.data, second.size);
    assert_int_equal(certificate_parse(ders, behind ? 2 : 1, &certificate), 0);
    gnutls_free(first.data);
    gnutls_free(second.data);
    return certificate;
}

static void revocation_is_found_anywhere_in_the_chain(void **state)
{
    struct fixture *f = *state;
    f->options.client_ca = f->ca_pem;
    f->options.crl = f->crl;
    struct tls_credentials *credentials = load(f);
    struct certificate *good = parse(&f->server, &f->ca), *bad = parse(&f->other, NULL),
                       *behind = parse(&f->server, &f->other);
    assert_false(tls_credentials_revoke(credentials, good));
    assert_true(tls_credentials_revoke(credentials, bad));
    assert_true(tls_credentials_revoke(credentials, behind));
    assert_null(tls_credentials_unref(credentials));
    f->options.crl = NULL;
    credentials = load(f);
    assert_false(tls_credentials_revoke(credentials, bad));
    assert_null(tls_credentials_unref(credentials));
    assert_null(certificate_free(good));
    assert_null(certificate_free(bad));
    assert_null(certificate_free(behind));
}

/* A list of many is searched, not walked along; and the same number from another CA is another. */
static void many_revocations_are_told_apart(void **state)
{
    struct fixture *f = *state;
    gnutls_x509_crl_t crl = NULL;
    struct pki_pair many[50];
    struct pki_pair other_ca =
        pki_issue(&f->pki, NULL, &(struct pki_wish){.name = "Other CA", .is_ca = true});
    struct pki_pair twin;
    gnutls_datum_t pem = {0};
    pki_check(gnutls_x509_crl_init(&crl));
    pki_check(gnutls_x509_crl_set_version(crl, 2));
    pki_check(gnutls_x509_crl_set_this_update(crl, time(NULL) - 1));
    pki_check(gnutls_x509_crl_set_next_update(crl, time(NULL) + PKI_DAY_S));
    for (size_t i = 0; i < ARRAY_COUNT(many); i++) {
        many[i] = pki_issue(&f->pki, &f->ca, &(struct pki_wish){.name = "m"});
        if (i % 2 == 0)
            pki_check(gnutls_x509_crl_set_crt(crl, many[i].crt, time(NULL) - 1));
    }
    pki_check(gnutls_x509_crl_sign2(crl, f->ca.crt, f->ca.key, GNUTLS_DIG_SHA256, 0));
    pki_check(gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &pem));
    pki_write(&f->pki, "crl.pem", pem.data, pem.size, false);
    gnutls_free(pem.data);
    gnutls_x509_crl_deinit(crl);
    f->pki.serial -= 2; /* that of the last but one, which is revoked */
    twin = pki_issue(&f->pki, &other_ca, &(struct pki_wish){.name = "m"});
    f->options.client_ca = f->ca_pem;
    f->options.crl = f->crl;
    struct tls_credentials *credentials = load(f);
    for (size_t i = 0; i < ARRAY_COUNT(many); i++) {
        struct certificate *certificate = parse(&many[i], NULL);
        assert_int_equal(tls_credentials_revoke(credentials, certificate), i % 2 == 0);
        assert_null(certificate_free(certificate));
        pki_pair_done(&many[i]);
    }
    struct certificate *certificate = parse(&twin, NULL);
    assert_false(tls_credentials_revoke(credentials, certificate));
    assert_null(certificate_free(certificate));
    pki_pair_done(&twin);
    pki_pair_done(&other_ca);
    assert_null(tls_credentials_unref(credentials));
}

/* Whatever cannot be had when it is wanted, nothing is left behind. */
static void without_memory_nothing_is_left(void **state)
{
    struct fixture *f = *state;
    f->options.client_ca = f->ca_pem;
    f->options.crl = f->crl;
    (void)tls_credentials_unref(load(f));
    const uint64_t before = mem_used();
    for (uint64_t n = 1;; n++) {
        struct tls_credentials *credentials = NULL;
        struct errmsg why = {0};
        mem_fail_at(n);
        const int err = tls_credentials_load(&f->options, time(NULL), NULL, &credentials, &why);
        mem_fail_at(0);
        assert_null(tls_credentials_unref(credentials));
        assert_int_equal(mem_used(), before);
        if (err == 0)
            break;
        assert_int_equal(err, ERR_NOMEM);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_files_are_read_and_listed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_may_follow_its_certificate, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_key_of_another_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_that_cannot_be_read_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(files_with_something_else_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_encrypted_key_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(dates_are_checked, set_up, tear_down),
        cmocka_unit_test_setup_teardown(one_in_use_may_expire, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_does_not_fit_together_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_list_of_another_ca_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(lists_of_cas_that_are_not_registered_wait, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(revocation_is_found_anywhere_in_the_chain, set_up,
                                        tear_down),
        cmocka_unit_test_setup_teardown(many_revocations_are_told_apart, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_memory_nothing_is_left, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
