#include "auth/jws.h"

#include "base/mem.h"

#include <gnutls/abstract.h>
#include <gnutls/crypto.h>
#include <sodium.h>
#include <string.h>

enum { MAC_MAX = 64, HEADER_TEXT_MAX = 4096 };

static const gnutls_mac_algorithm_t macs[] = {
    [JWS_HS256] = GNUTLS_MAC_SHA256,
    [JWS_HS384] = GNUTLS_MAC_SHA384,
    [JWS_HS512] = GNUTLS_MAC_SHA512,
};

static const struct {
    gnutls_sign_algorithm_t algorithm;
    uint32_t number_size; /* of each of the two numbers of an ECDSA signature */
} signatures[JWS_ALGORITHM_COUNT] = {
    [JWS_RS256] = {GNUTLS_SIGN_RSA_SHA256, 0},
    [JWS_RS384] = {GNUTLS_SIGN_RSA_SHA384, 0},
    [JWS_RS512] = {GNUTLS_SIGN_RSA_SHA512, 0},
    [JWS_PS256] = {GNUTLS_SIGN_RSA_PSS_RSAE_SHA256, 0},
    [JWS_PS384] = {GNUTLS_SIGN_RSA_PSS_RSAE_SHA384, 0},
    [JWS_PS512] = {GNUTLS_SIGN_RSA_PSS_RSAE_SHA512, 0},
    [JWS_ES256] = {GNUTLS_SIGN_ECDSA_SHA256, 32},
    [JWS_ES384] = {GNUTLS_SIGN_ECDSA_SHA384, 48},
    [JWS_ES512] = {GNUTLS_SIGN_ECDSA_SHA512, 66},
    [JWS_EDDSA] = {GNUTLS_SIGN_EDDSA_ED25519, 0},
};

struct token {
    struct slice head, body, signature; /* in base64 */
    struct slice signed_text;           /* head.body */
    enum jws_algorithm algorithm;
    const char *key_id; /* inside `header`, or NULL */
    json_t *header, *claims;
    uint8_t *signature_bytes;
    size_t signature_size;
};

/* Two dots, no more. */
static bool split(struct slice text, struct token *token)
{
    const uint8_t *first = text.size > 0 ? memchr(text.bytes, '.', text.size) : NULL;
    if (!first)
        return false;
    const uint8_t *end = text.bytes + text.size;
    const uint8_t *second = memchr(first + 1, '.', (size_t)(end - first - 1));
    if (!second || memchr(second + 1, '.', (size_t)(end - second - 1)))
        return false;
    token->head = slice_of(text.bytes, (size_t)(first - text.bytes));
    token->body = slice_of(first + 1, (size_t)(second - first - 1));
    token->signature = slice_of(second + 1, (size_t)(end - second - 1));
    token->signed_text = slice_of(text.bytes, (size_t)(second - text.bytes));
    return true;
}

/* base64url without padding, decoded into new memory; NULL when it is not that. */
static uint8_t *decode(struct slice text, size_t *ret_size)
{
    const char *end = NULL;
    uint8_t *bytes = mem_try_alloc(text.size + 1);
    if (bytes && text.size > 0 &&
        (sodium_base642bin(bytes, text.size, (const char *)text.bytes, text.size, NULL, ret_size,
                           &end, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 ||
         end != (const char *)text.bytes + text.size)) {
        mem_free(bytes);
        return NULL;
    }
    if (text.size == 0)
        *ret_size = 0;
    return bytes;
}

/* A JSON object in base64url; NULL when it is not that. */
static json_t *decode_object(struct slice text)
{
    size_t size = 0;
    uint8_t *bytes = decode(text, &size);
    json_t *object =
        bytes ? json_loadb((const char *)bytes, size, JSON_REJECT_DUPLICATES, NULL) : NULL;
    mem_free(bytes);
    if (object && !json_is_object(object)) {
        json_decref(object);
        object = NULL;
    }
    return object;
}

static void token_done(struct token *token)
{
    json_decref(token->header);
    json_decref(token->claims);
    mem_free(token->signature_bytes);
}

bool jws_looks_like_one(struct slice text)
{
    struct token token;
    json_t *header = NULL;
    if (split(text, &token) && token.head.size <= HEADER_TEXT_MAX)
        header = decode_object(token.head);
    const bool looks = json_is_string(json_object_get(header, "alg"));
    json_decref(header);
    return looks;
}

static enum jws_verdict parse(struct slice text, struct token *token)
{
    if (!split(text, token) || token->head.size > HEADER_TEXT_MAX)
        return JWS_NO_TOKEN;
    token->header = decode_object(token->head);
    const char *name = json_string_value(json_object_get(token->header, "alg"));
    if (!name)
        return JWS_NO_TOKEN;
    const uint32_t bit = jws_algorithm_bit(name);
    const json_t *id = json_object_get(token->header, "kid");
    if (json_object_get(token->header, "crit") || (id && !json_is_string(id)))
        return JWS_MALFORMED;
    token->key_id = json_string_value(id);
    token->signature_bytes = decode(token->signature, &token->signature_size);
    token->claims = decode_object(token->body);
    if (!token->signature_bytes || !token->claims)
        return JWS_MALFORMED;
    if (bit == 0)
        return JWS_ALGORITHM;
    token->algorithm = (enum jws_algorithm)__builtin_ctz(bit);
    return JWS_GOOD;
}

static bool mac_matches(const struct token *token, const struct jws_key *key)
{
    const gnutls_mac_algorithm_t mac = macs[token->algorithm];
    const size_t size = gnutls_hmac_get_len(mac);
    uint8_t made[MAC_MAX];
    if (token->signature_size != size ||
        gnutls_hmac_fast(mac, key->bytes, key->size, token->signed_text.bytes,
                         token->signed_text.size, made) < 0)
        return false;
    const bool same = sodium_memcmp(made, token->signature_bytes, size) == 0;
    sodium_memzero(made, sizeof made);
    return same;
}

/* The two numbers of an ECDSA signature as GnuTLS wants them; ret_signature->data is NULL when they
 * are not of the right size. */
static void encode_numbers(const struct token *token, gnutls_datum_t *ret_signature)
{
    const uint32_t size = signatures[token->algorithm].number_size;
    if (token->signature_size != 2u * size)
        return;
    const gnutls_datum_t r = {.data = token->signature_bytes, .size = size};
    const gnutls_datum_t s = {.data = token->signature_bytes + size, .size = size};
    if (gnutls_encode_rs_value(ret_signature, &r, &s) < 0)
        ret_signature->data = NULL;
}

static bool signature_matches(const struct token *token, const struct jws_key *key)
{
    const gnutls_datum_t der = {.data = key->bytes, .size = key->size};
    const gnutls_datum_t text = {.data = (unsigned char *)token->signed_text.bytes,
                                 .size = token->signed_text.size};
    const gnutls_datum_t plain = {.data = token->signature_bytes,
                                  .size = (unsigned)token->signature_size};
    const bool has_numbers = signatures[token->algorithm].number_size > 0;
    gnutls_datum_t encoded = {0};
    gnutls_pubkey_t pubkey = NULL;
    bool same = false;
    if (has_numbers)
        encode_numbers(token, &encoded);
    /* each time anew: GnuTLS promises nothing about one key on two threads */
    if ((!has_numbers || encoded.data) && gnutls_pubkey_init(&pubkey) == 0 &&
        gnutls_pubkey_import(pubkey, &der, GNUTLS_X509_FMT_DER) == 0)
        same = gnutls_pubkey_verify_data2(pubkey, signatures[token->algorithm].algorithm, 0, &text,
                                          has_numbers ? &encoded : &plain) >= 0;
    gnutls_pubkey_deinit(pubkey);
    gnutls_free(encoded.data);
    return same;
}

/* A key with an ID is for tokens that name it, or none. */
static bool is_named(const struct jws_key *key, const char *id)
{
    return !id || !key->id || strcmp(key->id, id) == 0;
}

static enum jws_verdict verify(const struct token *token, const struct jws_keys *keys)
{
    bool named = false, fits = false;
    for (uint32_t i = 0; i < keys->count; i++) {
        const struct jws_key *key = &keys->items[i];
        if (!is_named(key, token->key_id))
            continue;
        named = true;
        if ((key->algorithms & 1u << token->algorithm) == 0)
            continue;
        fits = true;
        if (token->algorithm <= JWS_HS512 ? mac_matches(token, key) : signature_matches(token, key))
            return JWS_GOOD;
    }
    return fits ? JWS_SIGNATURE : named ? JWS_ALGORITHM : JWS_UNKNOWN_KEY;
}

enum jws_verdict jws_verify(struct slice text, const struct jws_keys *keys, json_t **ret_claims)
{
    struct token token = {0};
    enum jws_verdict verdict = parse(text, &token);
    if (verdict == JWS_GOOD)
        verdict = verify(&token, keys);
    if (verdict == JWS_GOOD)
        *ret_claims = TAKE(token.claims);
    token_done(&token);
    return verdict;
}
