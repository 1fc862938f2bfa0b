#include "net/certificate.h"

#include "base/mem.h"
#include "base/utf8.h"

#include <gnutls/x509.h>
#include <string.h>

enum { PART_MAX = 1024, SERIAL_MAX = 64, DIGEST_SIZE = CERTIFICATE_FINGERPRINT_SIZE / 2 };

static void write_hex(const uint8_t *bytes, size_t size, const char *digits, char *ret_text)
{
    for (size_t i = 0; i < size; i++) {
        *ret_text++ = digits[bytes[i] >> 4];
        *ret_text++ = digits[bytes[i] & 15];
    }
    *ret_text = '\0';
}

static int buf_of(struct slice bytes, struct buf **ret_buf)
{
    struct buf *buf = buf_try_new(bytes.size);
    if (!buf)
        return ERR_NOMEM;
    if (bytes.size > 0)
        memcpy(buf_bytes(buf), bytes.bytes, bytes.size);
    *ret_buf = buf;
    return 0;
}

/* A name with a NUL would be one thing to C and another to who signed it. */
static int take_text(const void *bytes, size_t size, char **ret_text)
{
    if (memchr(bytes, '\0', size))
        return ERR_MALFORMED;
    *ret_text = mem_try_copy(bytes, size);
    return *ret_text ? 0 : ERR_NOMEM;
}

/* ASN.1's kinds of strings. */
enum { UTF8_STRING = 12, NUMERIC_STRING = 18, PRINTABLE_STRING = 19, IA5_STRING = 22 };

static bool is_ascii(const uint8_t *bytes, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        if (bytes[i] >= 0x80)
            return false;
    }
    return true;
}

/* Takes the value as it is, not as it is written in RFC 4514. A kind of string that nobody uses
 * any more counts as no value, with which no rule can be fulfilled. */
static int take_value(const gnutls_x509_ava_st *ava, char **ret_text)
{
    const uint8_t *bytes = ava->value.data;
    const size_t size = ava->value.size;
    const bool is_other = ava->value_tag != UTF8_STRING && ava->value_tag != NUMERIC_STRING &&
                          ava->value_tag != PRINTABLE_STRING && ava->value_tag != IA5_STRING;
    if (*ret_text || is_other)
        return 0;
    if (size > PART_MAX || !utf8_check(bytes, size) ||
        (ava->value_tag != UTF8_STRING && !is_ascii(bytes, size)))
        return ERR_MALFORMED;
    return take_text(bytes, size, ret_text);
}

static int take_part(const gnutls_x509_ava_st *ava, struct certificate_subject *subject)
{
    const struct {
        const char *oid;
        char **text;
    } parts[] = {
        {GNUTLS_OID_X520_COMMON_NAME, &subject->common_name},
        {GNUTLS_OID_X520_ORGANIZATION_NAME, &subject->organization},
        {GNUTLS_OID_X520_ORGANIZATIONAL_UNIT_NAME, &subject->organizational_unit},
        {GNUTLS_OID_X520_COUNTRY_NAME, &subject->country},
        {GNUTLS_OID_X520_STATE_OR_PROVINCE_NAME, &subject->state},
        {"2.5.4.5", &subject->serial_number},
    };
    for (size_t i = 0; i < ARRAY_COUNT(parts); i++) {
        const size_t size = strlen(parts[i].oid);
        if (ava->oid.size >= size && memcmp(ava->oid.data, parts[i].oid, size) == 0 &&
            (ava->oid.size == size || ava->oid.data[size] == '\0'))
            return take_value(ava, parts[i].text);
    }
    return 0;
}

static int take_subject(gnutls_x509_crt_t crt, struct certificate_subject *subject)
{
    gnutls_x509_dn_t dn = NULL;
    gnutls_x509_ava_st ava;
    if (gnutls_x509_crt_get_subject(crt, &dn) < 0)
        return ERR_MALFORMED;
    for (int rdn = 0; gnutls_x509_dn_get_rdn_ava(dn, rdn, 0, &ava) >= 0; rdn++) {
        for (int i = 0; gnutls_x509_dn_get_rdn_ava(dn, rdn, i, &ava) >= 0; i++) {
            const int err = take_part(&ava, subject);
            if (err < 0)
                return err;
        }
    }
    return 0;
}

typedef int name_fn(gnutls_x509_crt_t crt, gnutls_datum_t *dn, unsigned flags);

/* A name may be empty. */
static int take_name(gnutls_x509_crt_t crt, name_fn *get, char **ret_text)
{
    gnutls_datum_t name = {0};
    const int got = get(crt, &name, 0);
    if (got < 0 && got != GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
        return ERR_MALFORMED;
    const int err = take_text(name.data ? (const char *)name.data : "", name.size, ret_text);
    gnutls_free(name.data);
    return err;
}

static int take_serial(gnutls_x509_crt_t crt, char **ret_text)
{
    uint8_t serial[SERIAL_MAX];
    size_t size = sizeof serial;
    if (gnutls_x509_crt_get_serial(crt, serial, &size) < 0)
        return ERR_MALFORMED;
    const size_t zeros = size > 1 && serial[0] == 0; /* the sign of a number with its top bit set */
    size -= zeros;
    char *text = mem_try_alloc(size * 2 + 1);
    if (!text)
        return ERR_NOMEM;
    write_hex(serial + zeros, size, "0123456789ABCDEF", text);
    *ret_text = text;
    return 0;
}

static int take_all(gnutls_x509_crt_t crt, struct certificate *certificate)
{
    uint8_t digest[DIGEST_SIZE];
    size_t size = sizeof digest;
    if (gnutls_x509_crt_get_fingerprint(crt, GNUTLS_DIG_SHA256, digest, &size) < 0)
        return ERR_MALFORMED;
    write_hex(digest, size, "0123456789abcdef", certificate->fingerprint);
    certificate->not_before_s = gnutls_x509_crt_get_activation_time(crt);
    certificate->not_after_s = gnutls_x509_crt_get_expiration_time(crt);
    int err = take_subject(crt, &certificate->subject);
    if (err == 0)
        err = take_name(crt, gnutls_x509_crt_get_dn3, &certificate->subject_text);
    if (err == 0)
        err = take_name(crt, gnutls_x509_crt_get_issuer_dn3, &certificate->issuer_text);
    return err < 0 ? err : take_serial(crt, &certificate->serial);
}

static int parse_first(struct slice der, struct certificate *certificate)
{
    gnutls_x509_crt_t crt = NULL;
    const gnutls_datum_t datum = {(unsigned char *)der.bytes, der.size};
    if (gnutls_x509_crt_init(&crt) < 0)
        return ERR_NOMEM;
    const int err = gnutls_x509_crt_import(crt, &datum, GNUTLS_X509_FMT_DER) < 0
                        ? ERR_MALFORMED
                        : take_all(crt, certificate);
    gnutls_x509_crt_deinit(crt);
    return err < 0 ? err : buf_of(der, &certificate->der);
}

int certificate_parse(const struct slice *ders, size_t count, struct certificate **ret_certificate)
{
    if (count == 0)
        return ERR_MALFORMED;
    if (count - 1 > CERTIFICATE_CHAIN_MAX)
        return ERR_FULL;
    struct certificate *certificate = mem_new(sizeof *certificate);
    int err = parse_first(ders[0], certificate);
    while (err == 0 && certificate->chain_count < count - 1) {
        err = buf_of(ders[certificate->chain_count + 1],
                     &certificate->chain[certificate->chain_count]);
        certificate->chain_count += err == 0;
    }
    if (err < 0) {
        (void)certificate_free(certificate);
        return err;
    }
    *ret_certificate = certificate;
    return 0;
}

struct certificate *certificate_free(struct certificate *certificate)
{
    if (!certificate)
        return NULL;
    struct certificate_subject *subject = &certificate->subject;
    mem_free(subject->common_name);
    mem_free(subject->organization);
    mem_free(subject->organizational_unit);
    mem_free(subject->country);
    mem_free(subject->state);
    mem_free(subject->serial_number);
    mem_free(certificate->subject_text);
    mem_free(certificate->issuer_text);
    mem_free(certificate->serial);
    (void)buf_unref(certificate->der);
    while (certificate->chain_count > 0)
        (void)buf_unref(certificate->chain[--certificate->chain_count]);
    mem_free(certificate);
    return NULL;
}
