/* TLS options: which files and rules a listener with TLS uses.
 *
 * They come from two places: the keys tls.… of the configuration, which hold for all listeners, and
 * the options in a listener's own URL, which win.
 *
 * Thread: any.
 */
#pragma once

#include "base/buf.h"

#define TLS_FILES_MAX 64 /* certificates of one listener */

enum tls_client_certificate {
    TLS_CLIENT_AUTO, /* required with a client_ca or a registry, else none */
    TLS_CLIENT_NONE,
    TLS_CLIENT_OPTIONAL,
    TLS_CLIENT_REQUIRED,
};

enum tls_version { TLS_VERSION_USUAL, TLS_VERSION_1_2, TLS_VERSION_1_3 };

struct tls_names {
    const char *const *items;
    size_t count;
};

/* CA certificates in DER. */
struct tls_authorities {
    const struct slice *ders;
    size_t count;
};

/* Texts are borrowed; NULL and empty ones mean that there is none. */
struct tls_options {
    struct tls_names certificates;   /* PEM files: a certificate, and behind it its chain */
    struct tls_names private_keys;   /* PEM, one for each certificate; none: in the same files */
    struct tls_names ocsp_responses; /* DER, one for each certificate; may be fewer */
    const char *client_ca;           /* PEM: who may sign clients' certificates */
    const struct tls_authorities *registered; /* may sign them too; NULL: no registry is asked */
    const char *crl;                          /* PEM: which of them are revoked */
    enum tls_client_certificate client_certificate;
    enum tls_version version_min;
    const char *priorities; /* of GnuTLS; with them version_min does not count */
};

/* Names of files that one listener's URL gives, and what they leave to the defaults. */
struct tls_override;
/* query: of a listener_url, checked there. Returns 0, or ERR_INVALID: too many files, an option
 * that may be given once is there twice, or a key without a certificate. */
MUST_CHECK int tls_override_new(const char *query, struct tls_override **ret_override,
                                struct errmsg *reterr);
struct tls_override *tls_override_free(struct tls_override *override);
/* `defaults` with what the override has instead; borrows from both. */
struct tls_options tls_override_apply(const struct tls_override *override,
                                      const struct tls_options *defaults);
