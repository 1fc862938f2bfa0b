/* Taking clients' certificates apart. */
#include "net/certificate.h"

#include "net/tls_fixture.h"

static gnutls_x509_crt_t make(gnutls_x509_privkey_t key, const char *name, size_t name_size)
{
    gnutls_x509_crt_t crt = NULL;
    static const struct {
        const char *oid, *value;
    } parts[] = {
        {GNUTLS_OID_X520_ORGANIZATION_NAME, "Acme"},
        {GNUTLS_OID_X520_ORGANIZATIONAL_UNIT_NAME, "Robots"},
        {GNUTLS_OID_X520_COUNTRY_NAME, "NZ"},
        {GNUTLS_OID_X520_STATE_OR_PROVINCE_NAME, "Otago"},
        {"2.5.4.5", "SN-7"},
    };
    pki_check(gnutls_x509_crt_init(&crt));
    pki_check(gnutls_x509_crt_set_version(crt, 3));
    pki_check(gnutls_x509_crt_set_serial(crt, "\x0a\xbc\x01", 3));
    pki_check(gnutls_x509_crt_set_activation_time(crt, 1000000000));
    pki_check(gnutls_x509_crt_set_expiration_time(crt, 2000000000));
    if (name)
        pki_check(gnutls_x509_crt_set_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, name,
                                                (unsigned)name_size));
    for (size_t i = 0; i < ARRAY_COUNT(parts) && name; i++)
        pki_check(gnutls_x509_crt_set_dn_by_oid(crt, parts[i].oid, 0, parts[i].value,
                                                (unsigned)strlen(parts[i].value)));
    pki_check(gnutls_x509_crt_set_key(crt, key));
    pki_check(gnutls_x509_crt_sign2(crt, crt, key, GNUTLS_DIG_SHA256, 0));
    return crt;
}

struct fixture {
    gnutls_x509_privkey_t key;
    gnutls_datum_t der;
};

static void export(struct fixture *f, const char *name, size_t name_size)
{
    gnutls_x509_crt_t crt = make(f->key, name, name_size);
    gnutls_free(f->der.data);
    pki_check(gnutls_x509_crt_export2(crt, GNUTLS_X509_FMT_DER, &f->der));
    gnutls_x509_crt_deinit(crt);
}

static int set_up(void **state)
{
    struct fixture *f = mem_new(sizeof *f);
    pki_check(gnutls_x509_privkey_init(&f->key));
    pki_check(gnutls_x509_privkey_generate(f->key, GNUTLS_PK_ECDSA,
                                           GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
    export(f, "d\xc3\xa9vice,1", 9);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    gnutls_x509_privkey_deinit(f->key);
    gnutls_free(f->der.data);
    mem_free(f);
    return 0;
}

static int parse(const struct fixture *f, struct certificate **ret_certificate)
{
    const struct slice der = slice_of(f->der.data, f->der.size);
    return certificate_parse(&der, 1, ret_certificate);
}

static void all_parts_are_taken(void **state)
{
    struct fixture *f = *state;
    struct certificate *c = NULL;
    assert_int_equal(parse(f, &c), 0);
    assert_string_equal(c->subject.common_name, "d\xc3\xa9vice,1");
    assert_string_equal(c->subject.organization, "Acme");
    assert_string_equal(c->subject.organizational_unit, "Robots");
    assert_string_equal(c->subject.country, "NZ");
    assert_string_equal(c->subject.state, "Otago");
    assert_string_equal(c->subject.serial_number, "SN-7");
    assert_non_null(strstr(c->subject_text, "O=Acme"));
    assert_string_equal(c->issuer_text, c->subject_text);
    assert_string_equal(c->serial, "0ABC01");
    assert_int_equal(c->not_before_s, 1000000000);
    assert_int_equal(c->not_after_s, 2000000000);
    assert_int_equal(strlen(c->fingerprint), CERTIFICATE_FINGERPRINT_SIZE);
    assert_int_equal(buf_size(c->der), f->der.size);
    assert_memory_equal(buf_bytes(c->der), f->der.data, f->der.size);
    assert_int_equal(c->chain_count, 0);
    assert_null(certificate_free(c));
}

static void parts_may_be_missing(void **state)
{
    struct fixture *f = *state;
    struct certificate *c = NULL;
    export(f, NULL, 0);
    assert_int_equal(parse(f, &c), 0);
    assert_null(c->subject.common_name);
    assert_null(c->subject.organization);
    assert_string_equal(c->subject_text, "");
    assert_null(certificate_free(c));
}

/* What C takes for "admin" was signed as something else. */
static void a_name_with_a_nul_is_refused(void **state)
{
    struct fixture *f = *state;
    struct certificate *c = NULL;
    export(f, "admin\0.example", 14);
    assert_int_equal(parse(f, &c), ERR_MALFORMED);
}

static void a_name_that_is_too_long_is_refused(void **state)
{
    struct fixture *f = *state;
    struct certificate *c = NULL;
    char name[2000];
    memset(name, 'n', sizeof name);
    export(f, name, sizeof name);
    assert_int_equal(parse(f, &c), ERR_MALFORMED);
}

static void what_is_cut_off_is_refused(void **state)
{
    struct fixture *f = *state;
    struct certificate *c = NULL;
    for (unsigned size = 0; size < f->der.size; size++) {
        uint8_t *part = mem_new(size); /* so that reading beyond it is found out */
        memcpy(part, f->der.data, size);
        const struct slice der = slice_of(part, size);
        assert_int_equal(certificate_parse(&der, 1, &c), ERR_MALFORMED);
        mem_free(part);
    }
    assert_int_equal(certificate_parse(NULL, 0, &c), ERR_MALFORMED);
}

static void the_chain_is_kept_and_bounded(void **state)
{
    struct fixture *f = *state;
    struct certificate *c = NULL;
    struct slice ders[CERTIFICATE_CHAIN_MAX + 2];
    for (size_t i = 0; i < ARRAY_COUNT(ders); i++)
        ders[i] = slice_of(f->der.data, f->der.size - i);
    ders[0].size = f->der.size;
    assert_int_equal(certificate_parse(ders, ARRAY_COUNT(ders), &c), ERR_FULL);
    assert_int_equal(certificate_parse(ders, ARRAY_COUNT(ders) - 1, &c), 0);
    assert_int_equal(c->chain_count, CERTIFICATE_CHAIN_MAX);
    assert_int_equal(buf_size(c->chain[1]), f->der.size - 2);
    assert_null(certificate_free(c));
}

static void without_memory_nothing_is_left(void **state)
{
    struct fixture *f = *state;
    const uint64_t before = mem_used();
    for (uint64_t n = 1;; n++) {
        struct certificate *c = NULL;
        mem_fail_at(n);
        const int err = parse(f, &c);
        mem_fail_at(0);
        if (err == 0) {
            assert_null(certificate_free(c));
            break;
        }
        assert_int_equal(err, ERR_NOMEM);
        assert_int_equal(mem_used(), before);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(all_parts_are_taken, set_up, tear_down),
        cmocka_unit_test_setup_teardown(parts_may_be_missing, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_with_a_nul_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_name_that_is_too_long_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_is_cut_off_is_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_chain_is_kept_and_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_memory_nothing_is_left, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
