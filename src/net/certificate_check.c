#include "net/certificate_check.h"

#include "base/mem.h"

#include <gnutls/x509.h>
#include <string.h>

enum { NAME_MAX_SIZE = 1024 };

static gnutls_datum_t datum_of(struct slice bytes)
{
    return (gnutls_datum_t){(unsigned char *)bytes.bytes, bytes.size};
}

static struct slice der_of(struct buf *buf)
{
    return slice_of(buf_bytes(buf), buf_size(buf));
}

/* NULL: out of memory, or it is no certificate. */
static gnutls_x509_crt_t import(struct slice der)
{
    const gnutls_datum_t datum = datum_of(der);
    gnutls_x509_crt_t crt = NULL;
    if (gnutls_x509_crt_init(&crt) < 0)
        return NULL;
    if (gnutls_x509_crt_import(crt, &datum, GNUTLS_X509_FMT_DER) >= 0)
        return crt;
    gnutls_x509_crt_deinit(crt);
    return NULL;
}

int certificate_read_pem(struct slice pem, struct certificate **ret_certificate)
{
    const gnutls_datum_t text = datum_of(pem);
    gnutls_x509_crt_t *crts = NULL;
    gnutls_datum_t der = {0};
    unsigned count = 0;
    if (pem.size > CERTIFICATE_PEM_MAX ||
        gnutls_x509_crt_list_import2(&crts, &count, &text, GNUTLS_X509_FMT_PEM, 0) < 0)
        return ERR_MALFORMED;
    int err = count == 1 && gnutls_x509_crt_export2(crts[0], GNUTLS_X509_FMT_DER, &der) >= 0
                  ? 0
                  : ERR_MALFORMED;
    if (err == 0) {
        const struct slice one = slice_of(der.data, der.size);
        err = certificate_parse(&one, 1, ret_certificate);
    }
    for (unsigned i = 0; i < count; i++)
        gnutls_x509_crt_deinit(crts[i]);
    gnutls_free(crts);
    gnutls_free(der.data);
    return err;
}

char *certificate_write_pem(struct slice der)
{
    const gnutls_datum_t datum = datum_of(der);
    gnutls_datum_t pem = {0};
    if (gnutls_pem_base64_encode2("CERTIFICATE", &datum, &pem) < 0)
        return NULL;
    char *text = mem_try_copy(pem.data, pem.size);
    gnutls_free(pem.data);
    return text;
}

char *certificate_issuer_name(const struct certificate *certificate)
{
    char name[NAME_MAX_SIZE];
    size_t size = sizeof name;
    gnutls_x509_crt_t crt = import(der_of(certificate->der));
    if (!crt)
        return NULL;
    const int err =
        gnutls_x509_crt_get_issuer_dn_by_oid(crt, GNUTLS_OID_X520_COMMON_NAME, 0, 0, name, &size);
    gnutls_x509_crt_deinit(crt);
    return err < 0 ? NULL : mem_try_copy(name, size);
}

bool certificate_is_ca(const struct certificate *certificate)
{
    gnutls_x509_crt_t crt = import(der_of(certificate->der));
    unsigned critical = 0;
    if (!crt)
        return false;
    const bool is_ca = gnutls_x509_crt_get_ca_status(crt, &critical) > 0;
    gnutls_x509_crt_deinit(crt);
    return is_ca;
}

static const char *complaint_of(unsigned status)
{
    if (status & GNUTLS_CERT_SIGNER_NOT_FOUND)
        return "it is not signed by the CA";
    if (status & GNUTLS_CERT_EXPIRED)
        return "it has expired";
    if (status & GNUTLS_CERT_NOT_ACTIVATED)
        return "it is not valid yet";
    return status ? "its signature, or that of its CA, does not hold" : NULL;
}

const char *certificate_complaint(const struct certificate *certificate,
                                  const struct certificate *ca)
{
    gnutls_x509_crt_t chain[CERTIFICATE_CHAIN_MAX + 1];
    const char *complaint = "it cannot be read";
    unsigned count = 0, status = 0;
    gnutls_x509_crt_t root = import(der_of(ca->der));
    gnutls_x509_crt_t crt = root ? import(der_of(certificate->der)) : NULL;
    while (crt) {
        chain[count++] = crt;
        crt = count <= certificate->chain_count ? import(der_of(certificate->chain[count - 1]))
                                                : NULL;
    }
    if (count == certificate->chain_count + 1 &&
        gnutls_x509_crt_list_verify(chain, count, &root, 1, NULL, 0, 0, &status) >= 0)
        complaint = complaint_of(status);
    for (unsigned i = 0; i < count; i++)
        gnutls_x509_crt_deinit(chain[i]);
    if (root)
        gnutls_x509_crt_deinit(root);
    return complaint;
}
