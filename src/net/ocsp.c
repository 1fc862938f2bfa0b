#include "net/ocsp.h"

#include <gnutls/ocsp.h>
#include <time.h>

enum { UNTOLD_S = 15 * 24 * 3600 };

static int find_dates(gnutls_ocsp_resp_const_t response, gnutls_x509_crt_t crt,
                      int64_t *ret_begin_s, int64_t *ret_end_s)
{
    time_t begin = -1, end = -1;
    for (unsigned i = 0;; i++) {
        if (gnutls_ocsp_resp_get_single(response, i, NULL, NULL, NULL, NULL, NULL, &begin, &end,
                                        NULL, NULL) < 0)
            return ERR_MALFORMED;
        if (gnutls_ocsp_resp_check_crt(response, i, crt) >= 0)
            break;
    }
    if (begin == -1)
        return ERR_MALFORMED;
    *ret_begin_s = begin;
    *ret_end_s = end == -1 ? begin + UNTOLD_S : end;
    return 0;
}

int ocsp_dates(const gnutls_datum_t *der, gnutls_x509_crt_t crt, int64_t *ret_begin_s,
               int64_t *ret_end_s)
{
    gnutls_ocsp_resp_t response = NULL;
    if (gnutls_ocsp_resp_init(&response) < 0)
        return ERR_MALFORMED;
    const int err = gnutls_ocsp_resp_import(response, der) < 0
                        ? ERR_MALFORMED
                        : find_dates(response, crt, ret_begin_s, ret_end_s);
    gnutls_ocsp_resp_deinit(response);
    return err;
}
