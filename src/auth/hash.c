/* Four families of hashes. libsodium has no PBKDF2, so that one comes from GnuTLS.
 *
 * mosquitto writes `$6$salt$hash` with both parts in base64 of the raw bytes, which looks like
 * SHA-crypt but is a single SHA-512 over password and salt; only its hash is 64 bytes in padded
 * base64.
 */
#include "auth/hash.h"

#include "base/mem.h"

#include <crypt.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>

enum {
    RAW_MAX = 128, /* bytes of a salt or hash */
    SHA512_SIZE = 64,
    ITERATIONS_MAX = 10000000,
    /* Enough against guessing from a stolen file, and a worker's burst stays small. */
    ARGON2_OPS = 2,
    ARGON2_MEMORY = 19 * 1024 * 1024,
};

/* The parts of mosquitto's two forms. */
struct mosquitto_hash {
    bool is_pbkdf2;
    uint32_t iterations;
    size_t salt_size, hash_size;
    uint8_t salt[RAW_MAX], hash[RAW_MAX];
};

static bool decode(const char *text, size_t text_size, uint8_t *bytes, size_t *ret_size)
{
    const char *end = NULL;
    return sodium_base642bin(bytes, RAW_MAX, text, text_size, NULL, ret_size, &end,
                             sodium_base64_VARIANT_ORIGINAL) == 0 &&
           end == text + text_size && *ret_size > 0;
}

static bool mosquitto_parse(const char *text, struct mosquitto_hash *ret)
{
    ret->is_pbkdf2 = strncmp(text, "$7$", 3) == 0;
    if (!ret->is_pbkdf2 && strncmp(text, "$6$", 3) != 0)
        return false;
    const char *salt = text + 3;
    if (ret->is_pbkdf2) {
        char *end = NULL;
        const unsigned long iterations = strtoul(salt, &end, 10);
        if (*salt < '1' || *salt > '9' || *end != '$' || iterations > ITERATIONS_MAX)
            return false;
        ret->iterations = (uint32_t)iterations;
        salt = end + 1;
    }
    const char *hash = strchr(salt, '$');
    return hash && decode(salt, (size_t)(hash - salt), ret->salt, &ret->salt_size) &&
           decode(hash + 1, strlen(hash + 1), ret->hash, &ret->hash_size) &&
           (ret->is_pbkdf2 || ret->hash_size == SHA512_SIZE);
}

static bool mosquitto_verify(const struct mosquitto_hash *known, struct slice password)
{
    uint8_t made[RAW_MAX];
    if (known->is_pbkdf2) {
        const gnutls_datum_t key = {.data = (unsigned char *)password.bytes, .size = password.size};
        const gnutls_datum_t salt = {.data = (unsigned char *)known->salt,
                                     .size = (unsigned)known->salt_size};
        if (gnutls_pbkdf2(GNUTLS_MAC_SHA512, &key, &salt, known->iterations, made,
                          known->hash_size) < 0)
            return false;
    } else {
        crypto_hash_sha512_state state;
        (void)crypto_hash_sha512_init(&state);
        (void)crypto_hash_sha512_update(&state, password.bytes, password.size);
        (void)crypto_hash_sha512_update(&state, known->salt, known->salt_size);
        (void)crypto_hash_sha512_final(&state, made);
    }
    const bool same = sodium_memcmp(made, known->hash, known->hash_size) == 0;
    sodium_memzero(made, sizeof made);
    return same;
}

static bool is_argon2(const char *text)
{
    return strncmp(text, "$argon2", 7) == 0;
}

/* libcrypt takes C strings; a password with a NUL inside was not made by it. */
static bool crypt_verify(const char *text, struct slice password)
{
    char *phrase = mem_try_copy(password.bytes, password.size);
    struct crypt_data *data = mem_try_alloc(sizeof *data);
    bool same = false;
    if (phrase && data && strlen(phrase) == password.size) {
        memset(data, 0, sizeof *data);
        const char *made = crypt_r(phrase, text, data);
        const size_t size = strlen(text);
        same = made && strlen(made) == size && sodium_memcmp(made, text, size) == 0;
    }
    if (data)
        sodium_memzero(data, sizeof *data);
    if (phrase)
        sodium_memzero(phrase, password.size);
    mem_free(data);
    mem_free(phrase);
    return same;
}

bool hash_is_known(const char *text)
{
    struct mosquitto_hash parts;
    if (text[0] != '$' || strlen(text) > HASH_TEXT_MAX)
        return false;
    if (is_argon2(text))
        return crypto_pwhash_str_needs_rehash(text, ARGON2_OPS, ARGON2_MEMORY) >= 0;
    if (mosquitto_parse(text, &parts))
        return true;
    if (strncmp(text, "$7$", 3) == 0)
        return false; /* libcrypt's scrypt, which would take a mangled one of mosquitto's */
    const int verdict = crypt_checksalt(text);
    return verdict == CRYPT_SALT_OK || verdict == CRYPT_SALT_METHOD_LEGACY ||
           verdict == CRYPT_SALT_TOO_CHEAP;
}

bool hash_verify(const char *text, struct slice password)
{
    struct mosquitto_hash parts;
    if (is_argon2(text))
        return crypto_pwhash_str_verify(text, (const char *)password.bytes, password.size) == 0;
    if (mosquitto_parse(text, &parts))
        return mosquitto_verify(&parts, password);
    return crypt_verify(text, password);
}

int hash_make(struct slice password, char ret_text[HASH_TEXT_MAX + 1])
{
    _Static_assert(crypto_pwhash_STRBYTES <= HASH_TEXT_MAX + 1, "an argon2id hash fits");
    char text[crypto_pwhash_STRBYTES];
    if (crypto_pwhash_str_alg(text, (const char *)password.bytes, password.size, ARGON2_OPS,
                              ARGON2_MEMORY, crypto_pwhash_ALG_ARGON2ID13) != 0)
        return ERR_NOMEM;
    memcpy(ret_text, text, sizeof text);
    return 0;
}
