/* X.509: an authenticator over the certificate that a client has shown in TLS and that the listener
 * has verified against its CAs and revocation list (net/tls_credentials.h). The user name is the
 * common name of its subject, and the link ends with the certificate.
 *
 * A client without a certificate is ignored.
 */
#pragma once

#include "auth/auth.h"

struct authenticator *x509_auth_new(const struct x509_config *config, const struct auth_deps *deps);
