/* JWS: a signed token in its compact form (RFC 7515), and the keys that verify it.
 *
 * What may verify a token is decided by the keys, never by the token: each key has the set of
 * algorithms that fit it, so that `none` fits nothing, and a public key cannot be taken for the
 * secret of an HMAC. Keys that a token brings along (jwk, jku, x5c, x5u) are not looked at; one
 * with `crit` in its header is refused.
 *
 * Signatures are verified by GnuTLS; rhonabwy reads the keys of a set (RFC 7517).
 * Private to auth/. Thread: keys are the loop's to make, keep and drop; the rest is any thread's.
 */
#pragma once

#include "base/buf.h"

#include <jansson.h>

#define JWS_KEYS_MAX   64u
#define JWS_SECRET_MIN 32u /* bytes: RFC 7518, section 3.2 */

enum jws_algorithm {
    JWS_HS256,
    JWS_HS384,
    JWS_HS512,
    JWS_RS256,
    JWS_RS384,
    JWS_RS512,
    JWS_PS256,
    JWS_PS384,
    JWS_PS512,
    JWS_ES256,
    JWS_ES384,
    JWS_ES512,
    JWS_EDDSA,
    JWS_ALGORITHM_COUNT,
};

#define JWS_ALL ((1u << JWS_ALGORITHM_COUNT) - 1)

/* The bit of an algorithm by its name, 0 when there is none. */
uint32_t jws_algorithm_bit(const char *name);

/* --- keys ---------------------------------------------------------------------------------------
 */

struct jws_key {
    uint32_t algorithms; /* bits that fit */
    char *id;            /* `kid`, or NULL */
    uint8_t *bytes;      /* a secret, or a public key in DER */
    uint32_t size;
};

/* Unchanged once made. */
struct jws_keys {
    uint32_t refs;
    uint32_t count;
    struct jws_key items[JWS_KEYS_MAX];
};

/* allowed: bits of the algorithms that may be used. All return 0; ERR_INVALID: not such a key, or
 * none that fits, with the reason, and nothing of the key, in reterr; ERR_NOMEM. */
MUST_CHECK int jws_keys_secret(struct slice secret, uint32_t allowed, struct jws_keys **ret_keys,
                               struct errmsg *reterr);
MUST_CHECK int jws_keys_pem(struct slice pem, uint32_t allowed, struct jws_keys **ret_keys,
                            struct errmsg *reterr);
/* Keys of a set that are of no use here (encryption keys, secrets, unknown kinds) are left out. */
MUST_CHECK int jws_keys_set(struct slice json, uint32_t allowed, struct jws_keys **ret_keys,
                            struct errmsg *reterr);
struct jws_keys *jws_keys_ref(struct jws_keys *keys);
struct jws_keys *jws_keys_unref(struct jws_keys *keys); /* NULL is fine; returns NULL */

/* --- tokens -------------------------------------------------------------------------------------
 */

enum jws_verdict {
    JWS_GOOD,
    JWS_NO_TOKEN,    /* not a token at all */
    JWS_MALFORMED,   /* it begins like one */
    JWS_ALGORITHM,   /* unknown, or no key is for it */
    JWS_UNKNOWN_KEY, /* it names a key that is not there */
    JWS_SIGNATURE,   /* no key has made this signature */
};

/* true when the text has the form of a token: cheap, for who decides whether to look further. */
bool jws_looks_like_one(struct slice token);

/* Verifies the token. With JWS_GOOD, *ret_claims is its payload, a JSON object to json_decref. */
enum jws_verdict jws_verify(struct slice token, const struct jws_keys *keys, json_t **ret_claims);
