/* Certificate: an X.509 certificate that a client presented, taken apart. Unchanged once made.
 * Thread: any. */
#pragma once

#include "base/buf.h"

#define CERTIFICATE_FINGERPRINT_SIZE 64 /* SHA-256 in hexadecimal digits */
#define CERTIFICATE_CHAIN_MAX        8

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
    /* What the client showed behind it, in DER: who signed it, who signed that, … */
    struct buf *chain[CERTIFICATE_CHAIN_MAX];
    uint32_t chain_count;
};

/* Takes certificates in DER apart: the first, and its chain behind it.
 * Returns 0, or ERR_MALFORMED: it is no certificate, or a part of its name that is wanted is not
 * UTF-8, has a NUL in it, or is longer than 1 KiB; ERR_FULL: more than CERTIFICATE_CHAIN_MAX behind
 * it; ERR_NOMEM. */
MUST_CHECK int certificate_parse(const struct slice *ders, size_t count,
                                 struct certificate **ret_certificate);

struct certificate *certificate_free(struct certificate *certificate); /* NULL is fine */
