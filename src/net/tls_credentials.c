/* Reading the files, and checking clients by what is in them. A private key is wiped from the
 * buffer it was read into; GnuTLS keeps its own copy. */
#include "net/tls_credentials.h"

#include "base/mem.h"
#include "base/strbuf.h"
#include "io/file.h"
#include "net/ocsp.h"
#include "net/revocations.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <gnutls/x509.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

enum {
    KEY_SIZE_MAX = 64 * 1024,
    PEM_SIZE_MAX = 16 * 1024 * 1024,
    CRL_SIZE_MAX = 256 * 1024 * 1024,
    CHAIN_MAX = 16, /* of a server's certificate */
    NAMES_MAX = 4096,
    KEY_ID_MAX = 64,
};

#define VERSIONS_1_2 "-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2"
#define VERSIONS_1_3 "-VERS-ALL:+VERS-TLS1.3"

/* What tls_file says, with texts of its own. */
struct listed {
    struct tls_file file;
    char *path, *subject, *names;
};

struct tls_credentials {
    _Atomic uint32_t count;
    gnutls_certificate_credentials_t gnutls;
    gnutls_priority_t priority;
    enum tls_client_certificate client_certificate; /* not AUTO */
    gnutls_x509_crt_t *authorities;
    unsigned authority_count;
    struct revocations *revocations; /* NULL: there are no lists */
    struct listed *listed;
    size_t listed_count;
};

/* When, and instead of what, files are read. */
struct moment {
    int64_t now_s;
    const struct tls_credentials *in_use; /* NULL at the start */
};

/* --- texts ---------------------------------------------------------------------------------- */

static void add_day(int64_t time_s, char *ret_text, size_t size)
{
    const time_t when = (time_t)time_s;
    struct tm tm = {0};
    (void)gmtime_r(&when, &tm);
    if (strftime(ret_text, size, "%Y-%m-%d %H:%M:%S UTC", &tm) == 0)
        ret_text[0] = '\0';
}

static void add_name(gnutls_x509_crt_t crt, unsigned index, struct strbuf *names)
{
    char name[NAMES_MAX], text[INET6_ADDRSTRLEN];
    size_t size = sizeof name;
    const int kind = gnutls_x509_crt_get_subject_alt_name(crt, index, name, &size, NULL);
    if (kind == GNUTLS_SAN_IPADDRESS && (size == 4 || size == 16))
        strbuf_addf(names, "%s%s", names->size > 0 ? " " : "",
                    inet_ntop(size == 4 ? AF_INET : AF_INET6, name, text, sizeof text));
    else if (kind == GNUTLS_SAN_DNSNAME)
        strbuf_addf(names, "%s%.*s", names->size > 0 ? " " : "", (int)size, name);
}

/* The names that clients may call it by. */
static char *names_of(gnutls_x509_crt_t crt)
{
    struct strbuf names;
    char one[1];
    strbuf_init(&names, NAMES_MAX);
    for (unsigned i = 0;; i++) {
        size_t size = sizeof one;
        if (gnutls_x509_crt_get_subject_alt_name(crt, i, one, &size, NULL) ==
            GNUTLS_E_REQUESTED_DATA_NOT_AVAILABLE)
            break;
        add_name(crt, i, &names);
        if (names.err < 0)
            break;
    }
    char *text = mem_strdup(names.text ? names.text : "");
    strbuf_done(&names);
    return text;
}

static char *text_of(gnutls_datum_t *name)
{
    char *text = mem_strdup(name->data ? (const char *)name->data : "");
    gnutls_free(name->data);
    return text;
}

static struct listed *list_one(struct tls_credentials *credentials, enum tls_file_kind kind,
                               const char *path)
{
    const size_t size = (credentials->listed_count + 1) * sizeof *credentials->listed;
    credentials->listed = mem_grow(credentials->listed, size);
    struct listed *added = &credentials->listed[credentials->listed_count++];
    *added = (struct listed){.file.kind = kind, .path = mem_strdup(path)};
    added->file.path = added->path;
    return added;
}

static void list_certificate(struct tls_credentials *credentials, enum tls_file_kind kind,
                             const char *path, gnutls_x509_crt_t crt)
{
    struct listed *added = list_one(credentials, kind, path);
    gnutls_datum_t name = {0};
    (void)gnutls_x509_crt_get_dn3(crt, &name, 0);
    added->subject = text_of(&name);
    added->names = names_of(crt);
    added->file.subject = added->subject;
    added->file.names = added->names;
    added->file.not_before_s = gnutls_x509_crt_get_activation_time(crt);
    added->file.not_after_s = gnutls_x509_crt_get_expiration_time(crt);
}

static void list_revocations(struct tls_credentials *credentials, const char *path,
                             gnutls_x509_crl_t crl)
{
    struct listed *added = list_one(credentials, TLS_FILE_CRL, path);
    gnutls_datum_t name = {0};
    (void)gnutls_x509_crl_get_issuer_dn3(crl, &name, 0);
    added->subject = text_of(&name);
    added->names = mem_strdup("");
    added->file.subject = added->subject;
    added->file.names = added->names;
    added->file.not_before_s = gnutls_x509_crl_get_this_update(crl);
    const time_t next = gnutls_x509_crl_get_next_update(crl);
    added->file.not_after_s = next == (time_t)-1 ? 0 : next;
}

/* --- files ---------------------------------------------------------------------------------- */

static int read_file(const char *path, size_t size_max, gnutls_datum_t *ret_bytes,
                     struct errmsg *reterr)
{
    char *bytes = NULL;
    size_t size = 0;
    const int err = file_read_whole(AT_FDCWD, path, size_max, &bytes, &size);
    if (err < 0) {
        errmsg_wrap(reterr, "could not read '%s': %s", path, err_text(err));
        return err;
    }
    *ret_bytes = (gnutls_datum_t){(unsigned char *)bytes, (unsigned)size};
    return 0;
}

static int complain(struct errmsg *reterr, const char *path, const char *what)
{
    errmsg_wrap(reterr, "'%s' %s", path, what);
    return ERR_INVALID;
}

static int complain_code(struct errmsg *reterr, const char *path, const char *what, int code)
{
    errmsg_wrap(reterr, "'%s' %s: %s", path, what, gnutls_strerror(code));
    return code == GNUTLS_E_MEMORY_ERROR ? ERR_NOMEM : ERR_INVALID;
}

/* Whether a certificate that ends then was read from the file before. */
static bool is_in_use(const struct tls_credentials *in_use, const char *path, int64_t end_s)
{
    for (size_t i = 0; in_use && i < in_use->listed_count; i++) {
        const struct tls_file *file = &in_use->listed[i].file;
        if (file->kind == TLS_FILE_CERTIFICATE && file->not_after_s == end_s &&
            strcmp(file->path, path) == 0)
            return true;
    }
    return false;
}

static int check_dates(gnutls_x509_crt_t crt, const char *path, const struct moment *moment,
                       struct errmsg *reterr)
{
    char day[64];
    const int64_t begin_s = gnutls_x509_crt_get_activation_time(crt);
    const int64_t end_s = gnutls_x509_crt_get_expiration_time(crt);
    if (moment->now_s < begin_s) {
        add_day(begin_s, day, sizeof day);
        errmsg_wrap(reterr, "the certificate in '%s' is not valid before %s", path, day);
        return ERR_INVALID;
    }
    if (moment->now_s > end_s && !is_in_use(moment->in_use, path, end_s)) {
        add_day(end_s, day, sizeof day);
        errmsg_wrap(reterr, "the certificate in '%s' has expired on %s", path, day);
        return ERR_INVALID;
    }
    return 0;
}

static int load_key(const char *path, gnutls_x509_privkey_t *ret_key, struct errmsg *reterr)
{
    gnutls_datum_t bytes;
    int err = read_file(path, KEY_SIZE_MAX, &bytes, reterr);
    if (err < 0)
        return err;
    int code = gnutls_x509_privkey_init(ret_key);
    if (code >= 0)
        code = gnutls_x509_privkey_import2(*ret_key, &bytes, GNUTLS_X509_FMT_PEM, NULL, 0);
    gnutls_memset(bytes.data, 0, bytes.size);
    mem_free(bytes.data);
    if (code >= 0)
        return 0;
    if (code == GNUTLS_E_DECRYPTION_FAILED)
        return complain(reterr, path,
                        "holds an encrypted private key; store it without a password");
    return complain_code(reterr, path, "holds no private key that can be used", code);
}

static int load_chain(const char *path, gnutls_x509_crt_t **ret_chain, unsigned *ret_count,
                      struct errmsg *reterr)
{
    gnutls_datum_t bytes;
    const int err = read_file(path, PEM_SIZE_MAX, &bytes, reterr);
    if (err < 0)
        return err;
    const int code = gnutls_x509_crt_list_import2(ret_chain, ret_count, &bytes, GNUTLS_X509_FMT_PEM,
                                                  GNUTLS_X509_CRT_LIST_SORT);
    gnutls_memset(bytes.data, 0, bytes.size); /* the key may be in the same file */
    mem_free(bytes.data);
    if (code < 0)
        return complain_code(reterr, path, "holds no certificate chain that can be used", code);
    return *ret_count > CHAIN_MAX ? complain(reterr, path, "holds too long a chain") : 0;
}

static bool is_key_of(gnutls_x509_crt_t crt, gnutls_x509_privkey_t key)
{
    unsigned char a[KEY_ID_MAX], b[KEY_ID_MAX];
    size_t a_size = sizeof a, b_size = sizeof b;
    return gnutls_x509_crt_get_key_id(crt, GNUTLS_KEYID_USE_SHA256, a, &a_size) >= 0 &&
           gnutls_x509_privkey_get_key_id(key, GNUTLS_KEYID_USE_SHA256, b, &b_size) >= 0 &&
           a_size == b_size && memcmp(a, b, a_size) == 0;
}

static void free_chain(gnutls_x509_crt_t *chain, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        gnutls_x509_crt_deinit(chain[i]);
    gnutls_free(chain);
}

static void list_response(struct tls_credentials *credentials, const char *path,
                          gnutls_x509_crt_t crt, const gnutls_datum_t *der)
{
    int64_t begin_s = 0, end_s = 0;
    if (ocsp_dates(der, crt, &begin_s, &end_s) < 0)
        return;
    list_certificate(credentials, TLS_FILE_OCSP, path, crt);
    struct tls_file *file = &credentials->listed[credentials->listed_count - 1].file;
    file->not_before_s = begin_s;
    file->not_after_s = end_s;
}

/* One that is out of date is left out: the certificate is as good without, and what else is read
 * with it, revocation lists above all, must not wait for it. */
static int staple(struct tls_credentials *credentials, const char *path, gnutls_x509_crt_t crt,
                  unsigned index, struct errmsg *reterr)
{
    gnutls_datum_t bytes;
    const int err = read_file(path, PEM_SIZE_MAX, &bytes, reterr);
    if (err < 0)
        return err;
    int code = gnutls_certificate_set_ocsp_status_request_mem(credentials->gnutls, &bytes, index,
                                                              GNUTLS_X509_FMT_DER);
    if (code == GNUTLS_E_EXPIRED)
        code = 0;
    if (code >= 0)
        list_response(credentials, path, crt, &bytes);
    mem_free(bytes.data);
    return code < 0
               ? complain_code(reterr, path, "holds no OCSP response for its certificate", code)
               : 0;
}

/* One certificate with its chain, its key and its OCSP response. */
static int add_pair(struct tls_credentials *credentials, const char *path, const char *key_path,
                    const char *ocsp_path, const struct moment *moment, struct errmsg *reterr)
{
    gnutls_x509_crt_t *chain = NULL;
    gnutls_x509_privkey_t key = NULL;
    unsigned count = 0;
    int index = 0;
    int err = load_chain(path, &chain, &count, reterr);
    if (err == 0)
        err = check_dates(chain[0], path, moment, reterr);
    if (err == 0)
        err = load_key(key_path, &key, reterr);
    if (err == 0 && !is_key_of(chain[0], key)) {
        errmsg_wrap(reterr, "the private key in '%s' is not that of the certificate in '%s'",
                    key_path, path);
        err = ERR_INVALID;
    }
    if (err == 0) {
        index = gnutls_certificate_set_x509_key(credentials->gnutls, chain, (int)count, key);
        err = index < 0 ? complain_code(reterr, path, "cannot be used", index) : 0;
    }
    if (err == 0)
        list_certificate(credentials, TLS_FILE_CERTIFICATE, path, chain[0]);
    if (err == 0 && ocsp_path && *ocsp_path)
        err = staple(credentials, ocsp_path, chain[0], (unsigned)index, reterr);
    free_chain(chain, count);
    gnutls_x509_privkey_deinit(key);
    return err;
}

static int load_pairs(struct tls_credentials *credentials, const struct tls_options *options,
                      const struct moment *moment, struct errmsg *reterr)
{
    const struct tls_names *certificates = &options->certificates;
    const struct tls_names *keys = &options->private_keys, *ocsp = &options->ocsp_responses;
    if (certificates->count == 0) {
        errmsg_wrap(reterr, "no certificate is given: set tls.certificate and tls.private_key");
        return ERR_INVALID;
    }
    if (keys->count != 0 && keys->count != certificates->count) {
        errmsg_wrap(reterr, "%zu certificates and %zu private keys are given", certificates->count,
                    keys->count);
        return ERR_INVALID;
    }
    if (ocsp->count > certificates->count) {
        errmsg_wrap(reterr, "%zu certificates and %zu OCSP responses are given",
                    certificates->count, ocsp->count);
        return ERR_INVALID;
    }
    gnutls_certificate_set_flags(credentials->gnutls, GNUTLS_CERTIFICATE_API_V2);
    for (size_t i = 0; i < certificates->count; i++) {
        const char *path = certificates->items[i];
        const int err = add_pair(credentials, path, keys->count > 0 ? keys->items[i] : path,
                                 i < ocsp->count ? ocsp->items[i] : NULL, moment, reterr);
        if (err < 0)
            return err;
    }
    return 0;
}

/* --- who may sign clients' certificates ------------------------------------------------------- */

static int load_authorities(struct tls_credentials *credentials, const char *path,
                            struct errmsg *reterr)
{
    gnutls_datum_t bytes;
    const int err = read_file(path, PEM_SIZE_MAX, &bytes, reterr);
    if (err < 0)
        return err;
    const int code = gnutls_x509_crt_list_import2(
        &credentials->authorities, &credentials->authority_count, &bytes, GNUTLS_X509_FMT_PEM, 0);
    mem_free(bytes.data);
    if (code < 0)
        return complain_code(reterr, path, "holds no CA certificate that can be used", code);
    for (unsigned i = 0; i < credentials->authority_count; i++)
        list_certificate(credentials, TLS_FILE_CLIENT_CA, path, credentials->authorities[i]);
    const int added = gnutls_certificate_set_x509_trust(
        credentials->gnutls, credentials->authorities, (int)credentials->authority_count);
    return added < 0 ? complain_code(reterr, path, "cannot be used", added) : 0;
}

/* Those of the registry, in addition. */
static int add_registered(struct tls_credentials *credentials,
                          const struct tls_authorities *registered, struct errmsg *reterr)
{
    static const char what[] = "the registry of CAs";
    const unsigned count = credentials->authority_count;
    gnutls_x509_crt_t *all =
        gnutls_realloc(credentials->authorities, (count + registered->count + 1) * sizeof *all);
    if (!all)
        return ERR_NOMEM;
    credentials->authorities = all;
    for (size_t i = 0; i < registered->count; i++) {
        const gnutls_datum_t der = {(unsigned char *)registered->ders[i].bytes,
                                    registered->ders[i].size};
        gnutls_x509_crt_t *crt = &all[credentials->authority_count];
        int code = gnutls_x509_crt_init(crt);
        if (code < 0)
            return complain_code(reterr, what, "cannot be used", code);
        credentials->authority_count++;
        code = gnutls_x509_crt_import(*crt, &der, GNUTLS_X509_FMT_DER);
        if (code < 0)
            return complain_code(reterr, what, "holds no CA certificate that can be used", code);
        list_certificate(credentials, TLS_FILE_CLIENT_CA, "(registered)", *crt);
    }
    if (registered->count == 0)
        return 0; /* nobody's certificate is good */
    const int added =
        gnutls_certificate_set_x509_trust(credentials->gnutls, all + count, (int)registered->count);
    return added < 0 ? complain_code(reterr, what, "cannot be used", added) : 0;
}

/* Dates are judged when it is used, not here. ERR_DENIED: none of the CAs has signed it. */
static int check_revocations(const struct tls_credentials *credentials, gnutls_x509_crl_t crl,
                             const char *path, struct errmsg *reterr)
{
    unsigned status = 0;
    const int code =
        gnutls_x509_crl_verify(crl, credentials->authorities, credentials->authority_count,
                               GNUTLS_VERIFY_DISABLE_TIME_CHECKS, &status);
    if (code < 0)
        return complain_code(reterr, path, "cannot be used", code);
    const unsigned dates =
        GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED | GNUTLS_CERT_REVOCATION_DATA_ISSUED_IN_FUTURE;
    return status & ~(dates | GNUTLS_CERT_INVALID) ? ERR_DENIED : 0;
}

/* Moves the lists that count to the front. Those of a registered CA that is not active now, or of
 * one that is not registered yet, are left out: that is no fault of the file. */
static int sift_revocations(struct tls_credentials *credentials, const struct tls_options *options,
                            gnutls_x509_crl_t *crls, unsigned *count, struct errmsg *reterr)
{
    unsigned kept = 0;
    for (unsigned i = 0; i < *count; i++) {
        gnutls_x509_crl_t crl = crls[i];
        const int err = check_revocations(credentials, crl, options->crl, reterr);
        if (err == ERR_DENIED && options->registered)
            continue;
        if (err == ERR_DENIED)
            return complain(reterr, options->crl,
                            "is not signed by one of the CAs in the client_ca");
        if (err < 0)
            return err;
        list_revocations(credentials, options->crl, crl);
        crls[i] = crls[kept];
        crls[kept++] = crl;
    }
    *count = kept;
    return 0;
}

static int load_revocations(struct tls_credentials *credentials, const struct tls_options *options,
                            struct errmsg *reterr)
{
    const char *path = options->crl;
    gnutls_datum_t bytes;
    int err = read_file(path, CRL_SIZE_MAX, &bytes, reterr);
    if (err < 0)
        return err;
    gnutls_x509_crl_t *crls = NULL;
    unsigned count = 0;
    const int code = gnutls_x509_crl_list_import2(&crls, &count, &bytes, GNUTLS_X509_FMT_PEM, 0);
    mem_free(bytes.data);
    if (code < 0)
        return complain_code(reterr, path, "holds no revocation list that can be used", code);
    unsigned kept = count;
    err = sift_revocations(credentials, options, crls, &kept, reterr);
    if (err == 0 && kept > 0) {
        err = revocations_new(crls, kept, &credentials->revocations);
        if (err < 0)
            errmsg_wrap(reterr, "could not take the revocation list in '%s': %s", path,
                        err_text(err));
    }
    for (unsigned i = 0; i < count; i++)
        gnutls_x509_crl_deinit(crls[i]);
    gnutls_free(crls);
    return err;
}

static bool is_given(const char *text)
{
    return text && *text;
}

static int load_clients(struct tls_credentials *credentials, const struct tls_options *options,
                        struct errmsg *reterr)
{
    const bool has_file = is_given(options->client_ca);
    const bool has_ca = has_file || options->registered;
    enum tls_client_certificate wanted = options->client_certificate;
    if (wanted == TLS_CLIENT_AUTO)
        wanted = has_ca ? TLS_CLIENT_REQUIRED : TLS_CLIENT_NONE;
    credentials->client_certificate = wanted;
    if (wanted == TLS_CLIENT_NONE)
        return 0;
    if (!has_ca) {
        errmsg_wrap(reterr, "client_certificate needs a client_ca to check certificates against");
        return ERR_INVALID;
    }
    int err = has_file ? load_authorities(credentials, options->client_ca, reterr) : 0;
    if (err == 0 && options->registered)
        err = add_registered(credentials, options->registered, reterr);
    return err == 0 && is_given(options->crl) ? load_revocations(credentials, options, reterr)
                                              : err;
}

/* --- the whole ------------------------------------------------------------------------------ */

static int set_priorities(struct tls_credentials *credentials, const struct tls_options *options,
                          struct errmsg *reterr)
{
    /* Forward secrecy always; what is left over of TLS 1.2 without it is for `priorities`. */
    const char *text = options->version_min == TLS_VERSION_1_3 ? "NORMAL:" VERSIONS_1_3
                                                               : "NORMAL:" VERSIONS_1_2
                                                                 ":-RSA:%SERVER_PRECEDENCE";
    const char *at = NULL;
    if (is_given(options->priorities))
        text = options->priorities;
    if (gnutls_priority_init(&credentials->priority, text, &at) < 0) {
        errmsg_wrap(reterr, "the priorities '%s' are not understood from '%s' on", text,
                    at ? at : text);
        return ERR_INVALID;
    }
    return 0;
}

int tls_credentials_load(const struct tls_options *options, int64_t now_s,
                         const struct tls_credentials *in_use,
                         struct tls_credentials **ret_credentials, struct errmsg *reterr)
{
    const struct moment moment = {.now_s = now_s, .in_use = in_use};
    struct tls_credentials *credentials = mem_new(sizeof *credentials);
    atomic_init(&credentials->count, 1);
    int err = gnutls_certificate_allocate_credentials(&credentials->gnutls) < 0 ? ERR_NOMEM : 0;
    if (err == 0)
        err = set_priorities(credentials, options, reterr);
    if (err == 0)
        err = load_pairs(credentials, options, &moment, reterr);
    if (err == 0)
        err = load_clients(credentials, options, reterr);
    if (err < 0) {
        (void)tls_credentials_unref(credentials);
        return err;
    }
    *ret_credentials = credentials;
    return 0;
}

struct tls_credentials *tls_credentials_ref(struct tls_credentials *credentials)
{
    (void)atomic_fetch_add_explicit(&credentials->count, 1, memory_order_relaxed);
    return credentials;
}

static void credentials_free(struct tls_credentials *credentials)
{
    if (credentials->gnutls)
        gnutls_certificate_free_credentials(credentials->gnutls);
    if (credentials->priority)
        gnutls_priority_deinit(credentials->priority);
    free_chain(credentials->authorities, credentials->authority_count);
    (void)revocations_free(credentials->revocations);
    for (size_t i = 0; i < credentials->listed_count; i++) {
        mem_free(credentials->listed[i].path);
        mem_free(credentials->listed[i].subject);
        mem_free(credentials->listed[i].names);
    }
    mem_free(credentials->listed);
    mem_free(credentials);
}

struct tls_credentials *tls_credentials_unref(struct tls_credentials *credentials)
{
    if (credentials && atomic_fetch_sub_explicit(&credentials->count, 1, memory_order_acq_rel) == 1)
        credentials_free(credentials);
    return NULL;
}

/* --- sessions ------------------------------------------------------------------------------- */

int tls_credentials_apply(const struct tls_credentials *credentials, gnutls_session_t session)
{
    if (credentials->client_certificate == TLS_CLIENT_OPTIONAL)
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUEST);
    else if (credentials->client_certificate == TLS_CLIENT_REQUIRED)
        gnutls_certificate_server_set_request(session, GNUTLS_CERT_REQUIRE);
    return gnutls_credentials_set(session, GNUTLS_CRD_CERTIFICATE, credentials->gnutls);
}

gnutls_priority_t tls_credentials_priority(const struct tls_credentials *credentials)
{
    return credentials->priority;
}

static enum revocation find_der(const struct tls_credentials *credentials,
                                const gnutls_datum_t *der, int64_t now_s)
{
    gnutls_x509_crt_t crt = NULL;
    enum revocation found = REVOCATION_REVOKED;
    if (gnutls_x509_crt_init(&crt) < 0)
        return found;
    if (gnutls_x509_crt_import(crt, der, GNUTLS_X509_FMT_DER) >= 0)
        found = revocations_find(credentials->revocations, crt, now_s);
    gnutls_x509_crt_deinit(crt);
    return found;
}

static unsigned check_chain(const struct tls_credentials *credentials, const gnutls_datum_t *chain,
                            unsigned count)
{
    const int64_t now_s = time(NULL);
    unsigned status = 0;
    if (!credentials->revocations)
        return 0;
    for (unsigned i = 0; i < count; i++) {
        const enum revocation found = find_der(credentials, &chain[i], now_s);
        if (found == REVOCATION_REVOKED)
            status |= GNUTLS_CERT_REVOKED | GNUTLS_CERT_INVALID;
        else if (found == REVOCATION_OUTDATED)
            status |= GNUTLS_CERT_REVOCATION_DATA_SUPERSEDED | GNUTLS_CERT_INVALID;
    }
    return status;
}

int tls_credentials_verify(const struct tls_credentials *credentials, gnutls_session_t session,
                           unsigned *ret_status)
{
    unsigned count = 0, status = 0;
    if (credentials->client_certificate == TLS_CLIENT_NONE)
        return 0;
    const gnutls_datum_t *chain = gnutls_certificate_get_peers(session, &count);
    if (!chain || count == 0)
        return credentials->client_certificate == TLS_CLIENT_REQUIRED
                   ? GNUTLS_E_CERTIFICATE_REQUIRED
                   : 0;
    gnutls_typed_vdata_st purpose = {.type = GNUTLS_DT_KEY_PURPOSE_OID,
                                     .data = (unsigned char *)GNUTLS_KP_TLS_WWW_CLIENT};
    const int code = gnutls_certificate_verify_peers(session, &purpose, 1, &status);
    if (code < 0)
        return code;
    status |= check_chain(credentials, chain, count);
    if (status == 0)
        return 0;
    *ret_status = status;
    return GNUTLS_E_CERTIFICATE_VERIFICATION_ERROR;
}

static bool is_revoked(const struct tls_credentials *credentials, struct buf *der)
{
    const gnutls_datum_t datum = {buf_bytes(der), buf_size(der)};
    return find_der(credentials, &datum, 0) == REVOCATION_REVOKED;
}

bool tls_credentials_revoke(const struct tls_credentials *credentials,
                            const struct certificate *certificate)
{
    if (!credentials->revocations)
        return false;
    bool revoked = is_revoked(credentials, certificate->der);
    for (uint32_t i = 0; i < certificate->chain_count && !revoked; i++)
        revoked = is_revoked(credentials, certificate->chain[i]);
    return revoked;
}

void tls_credentials_files(const struct tls_credentials *credentials, tls_file_fn *each, void *data)
{
    for (size_t i = 0; i < credentials->listed_count; i++)
        each(data, &credentials->listed[i].file);
}
