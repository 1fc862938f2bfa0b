/* Certificate: an X.509 certificate that a client presented, taken apart. Unchanged once made.
 * Thread: any. */
#pragma once

#include "base/buf.h"

#define CERTIFICATE_FINGERPRINT_SIZE 64 /* SHA-256 in hexadecimal digits */

/* Parts of the subject's name; those that it has not are NULL. Of several the first. */
struct certificate_subject {
    char *common_name;
    char *organization;
    char *organizational_unit;
    char *country;
    char *state;
    char *serial_number; /* the attribute of the name, not the certificate's number */
};

struct certificate {
    struct certificate_subject subject;
    char *subject_text; /* the whole name as in RFC 4514 */
    char *issuer_text;
    char *serial; /* the certificate's number in hexadecimal, upper case, without separators */
    char fingerprint[CERTIFICATE_FINGERPRINT_SIZE + 1]; /* SHA-256 of the DER form, lower case */
    int64_t not_before_s, not_after_s;                  /* since 1970 */
    struct buf *der;
};

struct certificate *certificate_free(struct certificate *certificate); /* NULL is fine */
