/* The certificates of a proxy's listeners: reading them anew, and what was read.
 *
 * Thread: the loop's.
 */
#pragma once

#include "net/tls_options.h"

struct proxy;

/* Reads the files of every listener with TLS, as `tls` and their URLs name them, beside those in
 * use. Returns 0, or an error with the reason in reterr; then nothing is staged. */
MUST_CHECK int proxy_tls_stage(struct proxy *proxy, const struct tls_options *tls,
                               struct errmsg *reterr);
/* Takes what was staged into use for connections to come. Open ones stay, but for those whose
 * client's certificate has been revoked: they are closed within the next moments. */
void proxy_tls_commit(struct proxy *proxy);
/* Forgets what was staged. */
void proxy_tls_discard(struct proxy *proxy);

/* Names of all files that proxy_tls_stage would read. */
typedef void proxy_path_fn(void *data, const char *path);
void proxy_tls_paths(const struct proxy *proxy, proxy_path_fn *each, void *data);

/* One certificate, revocation list or OCSP response in use. Texts for the call. */
struct proxy_certificate {
    const char *listener; /* its URL as bound */
    const char *use;      /* "server", "client_ca", "crl" or "ocsp" */
    const char *file;
    const char *subject;  /* of a list its issuer */
    const char *names;    /* for which a server's certificate is, separated by blanks */
    int64_t not_before_s; /* since 1970 */
    int64_t not_after_s;  /* of a list or response when the next is due, 0 = never */
};
typedef void proxy_certificate_fn(void *data, const struct proxy_certificate *certificate);
void proxy_tls_certificates(const struct proxy *proxy, proxy_certificate_fn *each, void *data);
