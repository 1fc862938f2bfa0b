/* TLS credentials: the certificates, keys and lists of one listener, read from its files.
 *
 * Read as a whole, unchanged from then on, and counted: a connection keeps those that it began
 * with, whatever is read later. For TLS over TCP and for QUIC.
 *
 * Thread: any.
 */
#pragma once

#include "net/certificate.h"
#include "net/tls_options.h"

#include <gnutls/gnutls.h>

struct tls_credentials;

/* Reads the files. now_s: against which their dates are checked, since 1970. in_use: what they are
 * to replace, or NULL; a server's certificate among it that has expired since, and has no successor
 * in its file yet, is read again, so that it does not hold up the rest. An OCSP response that is
 * out of date is listed, and not sent. Returns 0, or ERR_INVALID (what is in a file), -errno (it
 * cannot be read), ERR_NOMEM, with the file's name and what is wrong in reterr. */
MUST_CHECK int tls_credentials_load(const struct tls_options *options, int64_t now_s,
                                    const struct tls_credentials *in_use,
                                    struct tls_credentials **ret_credentials,
                                    struct errmsg *reterr);
struct tls_credentials *tls_credentials_ref(struct tls_credentials *credentials);
struct tls_credentials *tls_credentials_unref(struct tls_credentials *credentials);

/* Gives them to a server's session, which must not outlive them, and has it ask for a client's
 * certificate where that is wanted. The session's priorities are the caller's to set: these, or its
 * own. Returns 0 or a code of GnuTLS. */
MUST_CHECK int tls_credentials_apply(const struct tls_credentials *credentials,
                                     gnutls_session_t session);
gnutls_priority_t tls_credentials_priority(const struct tls_credentials *credentials);

/* Checks the certificate that the client of a session has shown, against the CAs, the revocation
 * list, the clock and its purpose; also for a session that was resumed, where GnuTLS does not.
 * Returns 0; GNUTLS_E_CERTIFICATE_REQUIRED: it has shown none and should; GNUTLS_E_CERTIFICATE_
 * VERIFICATION_ERROR: ret_status says why (gnutls_certificate_status_t); another code of GnuTLS. */
MUST_CHECK int tls_credentials_verify(const struct tls_credentials *credentials,
                                      gnutls_session_t session, unsigned *ret_status);
/* Whether the revocation list names any of the certificates of a chain. */
bool tls_credentials_revoke(const struct tls_credentials *credentials,
                            const struct certificate *certificate);

/* What was read, for lists and reminders. Of a chain only the first. Texts as long as the
 * credentials. */
enum tls_file_kind { TLS_FILE_CERTIFICATE, TLS_FILE_CLIENT_CA, TLS_FILE_CRL, TLS_FILE_OCSP };
struct tls_file {
    enum tls_file_kind kind;
    const char *path;
    const char
        *subject; /* as in RFC 4514; of a list its issuer, of a response that of its certificate */
    const char *names; /* DNS names and addresses, separated by blanks; may be empty */
    int64_t not_before_s,
        not_after_s; /* since 1970; of a list or response when the next is due, 0 = never */
};
typedef void tls_file_fn(void *data, const struct tls_file *file);
void tls_credentials_files(const struct tls_credentials *credentials, tls_file_fn *each,
                           void *data);
