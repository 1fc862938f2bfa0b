/* Certificates, keys and revocation lists for unit tests, made with GnuTLS in a folder of the
 * test's own. For unit tests only: one test executable includes it once. */
#pragma once

#include "base/mem.h"
#include "base/unit.h"

#include <dirent.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { PKI_DAY_S = 86400 };

struct pki_pair {
    gnutls_x509_crt_t crt;
    gnutls_x509_privkey_t key;
};

/* What a certificate is to say; zeroes: valid from yesterday to ten days from now, for anything. */
struct pki_wish {
    const char *name; /* CN */
    const char *dns;
    const char *purpose; /* OID */
    int64_t begin_days, end_days;
    bool is_ca;
};

struct pki {
    char folder[64];
    unsigned serial;
};

static inline void pki_check(int code)
{
    if (code < 0)
        fail_msg("%s", gnutls_strerror(code));
}

static inline void pki_open(struct pki *pki)
{
    *pki = (struct pki){.folder = "/tmp/tls_test.XXXXXX"};
    assert_non_null(mkdtemp(pki->folder));
}

static inline void pki_close(struct pki *pki)
{
    DIR *folder = opendir(pki->folder);
    assert_non_null(folder);
    for (const struct dirent *entry; (entry = readdir(folder));) {
        if (entry->d_name[0] != '.')
            assert_int_equal(unlinkat(dirfd(folder), entry->d_name, 0), 0);
    }
    (void)closedir(folder);
    assert_int_equal(rmdir(pki->folder), 0);
}

/* Signed by `signer`, or by itself when that is NULL. */
static inline struct pki_pair pki_issue(struct pki *pki, const struct pki_pair *signer,
                                        const struct pki_wish *wish)
{
    struct pki_pair made = {0};
    const time_t now = time(NULL);
    const int64_t end_days = wish->end_days ? wish->end_days : 10;
    const int64_t begin_days = wish->begin_days ? wish->begin_days : -1;
    const unsigned char serial[2] = {1, (unsigned char)++pki->serial};
    pki_check(gnutls_x509_privkey_init(&made.key));
    pki_check(gnutls_x509_privkey_generate(made.key, GNUTLS_PK_ECDSA,
                                           GNUTLS_CURVE_TO_BITS(GNUTLS_ECC_CURVE_SECP256R1), 0));
    pki_check(gnutls_x509_crt_init(&made.crt));
    pki_check(gnutls_x509_crt_set_version(made.crt, 3));
    pki_check(gnutls_x509_crt_set_serial(made.crt, serial, sizeof serial));
    pki_check(gnutls_x509_crt_set_activation_time(made.crt, now + begin_days * PKI_DAY_S));
    pki_check(gnutls_x509_crt_set_expiration_time(made.crt, now + end_days * PKI_DAY_S));
    pki_check(gnutls_x509_crt_set_dn_by_oid(made.crt, GNUTLS_OID_X520_COMMON_NAME, 0, wish->name,
                                            (unsigned)strlen(wish->name)));
    pki_check(gnutls_x509_crt_set_basic_constraints(made.crt, wish->is_ca, -1));
    if (wish->dns)
        pki_check(gnutls_x509_crt_set_subject_alt_name(
            made.crt, GNUTLS_SAN_DNSNAME, wish->dns, (unsigned)strlen(wish->dns), GNUTLS_FSAN_SET));
    if (wish->purpose)
        pki_check(gnutls_x509_crt_set_key_purpose_oid(made.crt, wish->purpose, 0));
    pki_check(gnutls_x509_crt_set_key(made.crt, made.key));
    pki_check(gnutls_x509_crt_sign2(made.crt, signer ? signer->crt : made.crt,
                                    signer ? signer->key : made.key, GNUTLS_DIG_SHA256, 0));
    return made;
}

static inline void pki_pair_done(struct pki_pair *pair)
{
    gnutls_x509_crt_deinit(pair->crt);
    gnutls_x509_privkey_deinit(pair->key);
}

/* The path of a file in the folder; mem_free it. */
static inline char *pki_path(const struct pki *pki, const char *name)
{
    char path[160];
    (void)snprintf(path, sizeof path, "%s/%s", pki->folder, name);
    return mem_strdup(path);
}

static inline void pki_write(const struct pki *pki, const char *name, const void *bytes,
                             size_t size, bool append)
{
    char *path = pki_path(pki, name);
    const int flags = O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC);
    const int fd = open(path, flags, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), size);
    (void)close(fd);
    mem_free(path);
}

static inline void pki_write_crt(const struct pki *pki, const char *name,
                                 const struct pki_pair *pair, bool append)
{
    gnutls_datum_t pem = {0};
    pki_check(gnutls_x509_crt_export2(pair->crt, GNUTLS_X509_FMT_PEM, &pem));
    pki_write(pki, name, pem.data, pem.size, append);
    gnutls_free(pem.data);
}

static inline void pki_write_key(const struct pki *pki, const char *name,
                                 const struct pki_pair *pair, bool append)
{
    gnutls_datum_t pem = {0};
    pki_check(gnutls_x509_privkey_export2(pair->key, GNUTLS_X509_FMT_PEM, &pem));
    pki_write(pki, name, pem.data, pem.size, append);
    gnutls_free(pem.data);
}

/* A revocation list of `signer` that names `revoked`, which may be NULL; the next one is due in so
 * many days. */
static inline void pki_write_crl(const struct pki *pki, const char *name,
                                 const struct pki_pair *signer, const struct pki_pair *revoked,
                                 int64_t next_days)
{
    gnutls_x509_crl_t crl = NULL;
    gnutls_datum_t pem = {0};
    const time_t now = time(NULL);
    pki_check(gnutls_x509_crl_init(&crl));
    pki_check(gnutls_x509_crl_set_version(crl, 2));
    pki_check(gnutls_x509_crl_set_this_update(crl, now - 2 * PKI_DAY_S));
    pki_check(gnutls_x509_crl_set_next_update(crl, now + next_days * PKI_DAY_S));
    pki_check(gnutls_x509_crl_set_number(crl, "\x01", 1));
    if (revoked)
        pki_check(gnutls_x509_crl_set_crt(crl, revoked->crt, now - PKI_DAY_S));
    pki_check(gnutls_x509_crl_sign2(crl, signer->crt, signer->key, GNUTLS_DIG_SHA256, 0));
    pki_check(gnutls_x509_crl_export2(crl, GNUTLS_X509_FMT_PEM, &pem));
    pki_write(pki, name, pem.data, pem.size, false);
    gnutls_free(pem.data);
    gnutls_x509_crl_deinit(crl);
}
