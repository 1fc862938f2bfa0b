/* OCSP responses: what a CA says about a certificate of its own, for some days. A server sends it
 * along.
 *
 * Thread: any.
 */
#pragma once

#include "base/base.h"

#include <gnutls/x509.h>

/* When a response in DER was made, and when it ends: where it does not say so, GnuTLS holds it good
 * for 15 days. Returns 0; ERR_MALFORMED: it is none, or none about `crt`. */
MUST_CHECK int ocsp_dates(const gnutls_datum_t *der, gnutls_x509_crt_t crt, int64_t *ret_begin_s,
                          int64_t *ret_end_s);
