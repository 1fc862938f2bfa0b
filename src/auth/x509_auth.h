/* X.509: an authenticator over the certificate that a client has shown in TLS and that the listener
 * has verified against its CAs and revocation list (net/tls_credentials.h). The user name is the
 * common name of its subject, and the link ends with the certificate.
 *
 * A client without a certificate is ignored.
 */
#pragma once

#include "auth/auth.h"

#define X509_AUTH_NAME "x509" /* of registry_auth.h too: one of the two is in the chain */

struct authenticator *x509_auth_new(const struct x509_config *config, const struct auth_deps *deps);

/* For an authenticator over certificates. What speaks against the names in it, or NULL. */
struct certificate;
const char *x509_complaint(const struct certificate *certificate, bool binds_client_id,
                           const struct auth_credentials *credentials);
/* Logs why. Returns AUTH_BAD_CREDENTIALS. */
enum auth_result x509_refuse(const struct auth_deps *deps,
                             const struct auth_credentials *credentials, const char *why);
/* Fills in the answer, but for the subject. Returns AUTH_ALLOWED. */
enum auth_result x509_allow(const struct certificate *certificate, struct auth_answer *ret_answer);
