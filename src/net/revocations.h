/* Revocations: which certificates the revocation lists of a file name, so arranged that asking
 * costs the same however long they are. Thread: any; unchanged once made. */
#pragma once

#include "base/base.h"

#include <gnutls/x509.h>

struct revocations;

enum revocation {
    REVOCATION_NONE,
    REVOCATION_REVOKED,
    REVOCATION_OUTDATED, /* not named, but the issuer's next list is overdue */
};

/* crls: borrowed for the call. Returns 0, ERR_MALFORMED or ERR_NOMEM. */
MUST_CHECK int revocations_new(const gnutls_x509_crl_t *crls, unsigned count,
                               struct revocations **ret_revocations);
struct revocations *revocations_free(struct revocations *revocations); /* NULL is fine */
/* revocations: may be NULL. now_s: since 1970. */
enum revocation revocations_find(const struct revocations *revocations, gnutls_x509_crt_t crt,
                                 int64_t now_s);
