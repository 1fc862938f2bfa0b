/* Registered certificates: an authenticator over the certificate that a client has shown in TLS, if
 * the registry (auth/registry.h) has it, ACTIVE, and bound to the client's ID. One without a client
 * ID is bound to that of its first connection. Those that the registry has not may register
 * themselves, when the configuration lets them and a registered CA has signed them.
 *
 * The user name is the common name; links end with the certificate's dates, and at once when it is
 * deactivated, revoked or deleted, or its CA deactivated. A client without a certificate is
 * ignored.
 */
#pragma once

#include "auth/auth.h"

/* deps->registry: not NULL. */
struct authenticator *registry_auth_new(const struct x509_config *config,
                                        const struct auth_deps *deps);
