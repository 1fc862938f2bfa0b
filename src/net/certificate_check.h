/* Certificates as people hand them in: in PEM, and checked against the CA that is to have signed
 * them. Thread: any. */
#pragma once

#include "net/certificate.h"

#define CERTIFICATE_PEM_MAX (64u * 1024)

/* Reads the one certificate in a PEM text. Returns 0; ERR_MALFORMED: there is none, more than one,
 * or as certificate_parse; ERR_NOMEM. */
MUST_CHECK int certificate_read_pem(struct slice pem, struct certificate **ret_certificate);
/* der: of a certificate. Returns the PEM text, to be mem_freed, or NULL when out of memory. */
MUST_CHECK char *certificate_write_pem(struct slice der);
/* The common name of who has issued it, to be mem_freed; NULL: there is none. */
MUST_CHECK char *certificate_issuer_name(const struct certificate *certificate);
/* Whether its basic constraints say that it may sign others. */
bool certificate_is_ca(const struct certificate *certificate);
/* What speaks against the certificate when `ca` alone is trusted, through the chain that came with
 * it, today: a text that lives for ever, or NULL: nothing. */
const char *certificate_complaint(const struct certificate *certificate,
                                  const struct certificate *ca);
