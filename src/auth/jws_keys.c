#include "auth/jws.h"

#include "base/mem.h"

#include <gnutls/abstract.h>
#include <gnutls/x509.h>
#include <rhonabwy.h>
#include <string.h>

#define RSA_BITS_MIN 2048u

static const char *const names[JWS_ALGORITHM_COUNT] = {
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256",
    "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA",
};

uint32_t jws_algorithm_bit(const char *name)
{
    for (uint32_t i = 0; i < JWS_ALGORITHM_COUNT; i++) {
        if (strcmp(name, names[i]) == 0)
            return 1u << i;
    }
    return 0;
}

/* --- sets of keys -------------------------------------------------------------------------------
 */

static struct jws_keys *keys_new(void)
{
    struct jws_keys *keys = mem_new(sizeof *keys);
    keys->refs = 1;
    return keys;
}

struct jws_keys *jws_keys_ref(struct jws_keys *keys)
{
    keys->refs++;
    return keys;
}

struct jws_keys *jws_keys_unref(struct jws_keys *keys)
{
    if (keys && --keys->refs == 0) {
        for (uint32_t i = 0; i < keys->count; i++) {
            struct jws_key *key = &keys->items[i];
            explicit_bzero(key->bytes, key->size);
            mem_free(key->bytes);
            mem_free(key->id);
        }
        mem_free(keys);
    }
    return NULL;
}

static int add(struct jws_keys *keys, const void *bytes, size_t size, const char *id,
               uint32_t algorithms)
{
    struct jws_key key = {.algorithms = algorithms, .size = (uint32_t)size};
    key.bytes = (uint8_t *)mem_try_copy(bytes, size);
    key.id = id ? mem_try_copy(id, strlen(id)) : NULL;
    if (!key.bytes || (id && !key.id)) {
        mem_free(key.bytes);
        mem_free(key.id);
        return ERR_NOMEM;
    }
    keys->items[keys->count++] = key;
    return 0;
}

/* --- what fits a public key ---------------------------------------------------------------------
 */

static uint32_t bits_of_curve(gnutls_ecc_curve_t curve)
{
    switch ((int)curve) {
    case GNUTLS_ECC_CURVE_SECP256R1:
        return 1u << JWS_ES256;
    case GNUTLS_ECC_CURVE_SECP384R1:
        return 1u << JWS_ES384;
    case GNUTLS_ECC_CURVE_SECP521R1:
        return 1u << JWS_ES512;
    default:
        return 0;
    }
}

static uint32_t bits_of_key(gnutls_pubkey_t key)
{
    unsigned bits = 0;
    gnutls_ecc_curve_t curve = GNUTLS_ECC_CURVE_INVALID;
    const int algorithm = gnutls_pubkey_get_pk_algorithm(key, &bits);
    switch (algorithm) {
    case GNUTLS_PK_RSA:
        return bits < RSA_BITS_MIN ? 0
                                   : 1u << JWS_RS256 | 1u << JWS_RS384 | 1u << JWS_RS512 |
                                         1u << JWS_PS256 | 1u << JWS_PS384 | 1u << JWS_PS512;
    case GNUTLS_PK_ECDSA:
        if (gnutls_pubkey_export_ecc_raw(key, &curve, NULL, NULL) < 0)
            return 0;
        return bits_of_curve(curve);
    case GNUTLS_PK_EDDSA_ED25519:
        return 1u << JWS_EDDSA;
    default:
        return 0;
    }
}

/* Adds the key if any of `allowed` fits it. Returns 0, ERR_INVALID when none does, ERR_NOMEM. */
static int add_public(struct jws_keys *keys, gnutls_pubkey_t key, const char *id, uint32_t allowed)
{
    const uint32_t algorithms = bits_of_key(key) & allowed;
    gnutls_datum_t der = {0};
    if (algorithms == 0)
        return ERR_INVALID;
    /* Numbers that are too large for their curve are found out only here. */
    const int code = gnutls_pubkey_export2(key, GNUTLS_X509_FMT_DER, &der);
    if (code < 0)
        return code == GNUTLS_E_MEMORY_ERROR ? ERR_NOMEM : ERR_INVALID;
    const int err = add(keys, der.data, der.size, id, algorithms);
    gnutls_free(der.data);
    return err;
}

/* --- the three sources --------------------------------------------------------------------------
 */

int jws_keys_secret(struct slice secret, uint32_t allowed, struct jws_keys **ret_keys,
                    struct errmsg *reterr)
{
    static const char dashes[] = "-----BEGIN";
    const size_t size = sizeof dashes - 1;
    allowed &= 1u << JWS_HS256 | 1u << JWS_HS384 | 1u << JWS_HS512;
    if (secret.size >= size && memcmp(secret.bytes, dashes, size) == 0)
        errmsg_wrap(reterr, "this is a key in PEM form; a public key is no secret, name it in "
                            "auth.jwt.public_key_file");
    else if (secret.size < JWS_SECRET_MIN)
        errmsg_wrap(reterr, "the secret has %u bytes; it must have at least %u", secret.size,
                    JWS_SECRET_MIN);
    else if (allowed == 0)
        errmsg_wrap(reterr, "auth.jwt.algorithms has none that fits a secret: HS256, HS384, HS512");
    else {
        struct jws_keys *keys = keys_new();
        const int err = add(keys, secret.bytes, secret.size, NULL, allowed);
        *ret_keys = err == 0 ? keys : jws_keys_unref(keys);
        return err;
    }
    return ERR_INVALID;
}

int jws_keys_pem(struct slice pem, uint32_t allowed, struct jws_keys **ret_keys,
                 struct errmsg *reterr)
{
    gnutls_pubkey_t key = NULL;
    const gnutls_datum_t text = {.data = (unsigned char *)pem.bytes, .size = pem.size};
    struct jws_keys *keys = keys_new();
    int err = ERR_INVALID;
    if (gnutls_pubkey_init(&key) < 0) {
        err = ERR_NOMEM;
    } else if (gnutls_pubkey_import(key, &text, GNUTLS_X509_FMT_PEM) < 0) {
        errmsg_wrap(reterr, "this is not a public key in PEM form (BEGIN PUBLIC KEY)");
    } else {
        err = add_public(keys, key, NULL, allowed);
        if (err == ERR_INVALID)
            errmsg_wrap(reterr,
                        "the key is of no use: there are RSA of at least %u bits, P-256, "
                        "P-384, P-521 and Ed25519, each with the algorithms of its own "
                        "that auth.jwt.algorithms allows",
                        RSA_BITS_MIN);
    }
    gnutls_pubkey_deinit(key);
    if (err < 0)
        (void)jws_keys_unref(keys);
    else
        *ret_keys = keys;
    return err;
}

/* The members that describe the public key itself: no certificates, no addresses, nothing private.
 */
static json_t *public_part(const json_t *given)
{
    static const char *const members[] = {"kty", "n", "e", "crv", "x", "y"};
    json_t *part = json_object();
    for (size_t i = 0; i < ARRAY_COUNT(members); i++) {
        json_t *value = json_object_get(given, members[i]);
        if (value)
            (void)json_object_set(part, members[i], value);
    }
    return part;
}

static bool is_for_signatures(const json_t *given)
{
    const char *kind = json_string_value(json_object_get(given, "kty"));
    const json_t *use = json_object_get(given, "use");
    return kind && strcmp(kind, "oct") != 0 &&
           (!use || (json_is_string(use) && strcmp(json_string_value(use), "sig") == 0));
}

/* Adds a key of a set; one that is of no use is passed over. Returns 0 or ERR_NOMEM. */
static int add_from_set(struct jws_keys *keys, const json_t *given, uint32_t allowed)
{
    const json_t *pinned = json_object_get(given, "alg");
    jwk_t *jwk = NULL;
    int err = 0;
    if (!is_for_signatures(given))
        return 0;
    if (pinned)
        allowed &= json_is_string(pinned) ? jws_algorithm_bit(json_string_value(pinned)) : 0;
    json_t *part = public_part(given);
    if (r_jwk_init(&jwk) != RHN_OK) {
        json_decref(part);
        return ERR_NOMEM;
    }
    if (r_jwk_import_from_json_t(jwk, part) == RHN_OK) {
        gnutls_pubkey_t key = r_jwk_export_to_gnutls_pubkey(jwk, R_FLAG_IGNORE_REMOTE);
        if (key) {
            err = add_public(keys, key, json_string_value(json_object_get(given, "kid")), allowed);
            gnutls_pubkey_deinit(key);
        }
    }
    r_jwk_free(jwk);
    json_decref(part);
    return err == ERR_INVALID ? 0 : err;
}

int jws_keys_set(struct slice json, uint32_t allowed, struct jws_keys **ret_keys,
                 struct errmsg *reterr)
{
    json_t *set = json_loadb((const char *)json.bytes, json.size, JSON_REJECT_DUPLICATES, NULL);
    const json_t *list = json_object_get(set, "keys");
    struct jws_keys *keys = keys_new();
    int err = 0;
    for (size_t i = 0; i < json_array_size(list) && keys->count < JWS_KEYS_MAX && err == 0; i++)
        err = add_from_set(keys, json_array_get(list, i), allowed);
    if (err == 0 && keys->count == 0) {
        errmsg_wrap(reterr, !json_is_array(list)
                                ? "this is not a set of keys: {\"keys\": [...]}"
                                : "no key of the set is of use: there are RSA of at least 2048 "
                                  "bits, P-256, P-384, P-521 and Ed25519, each with the algorithms "
                                  "of its own that auth.jwt.algorithms allows");
        err = ERR_INVALID;
    }
    json_decref(set);
    if (err < 0)
        (void)jws_keys_unref(keys);
    else
        *ret_keys = keys;
    return err;
}
