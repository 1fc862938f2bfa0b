#include "auth/sas.h"

#include <sodium.h>
#include <string.h>

static const char prefix[] = "SharedAccessSignature ";

enum { SIGNATURE_TEXT_MAX = 64, EXPIRY_DIGITS_MAX = 15, KEY_SIZE = 32 };

bool sas_looks_like_one(struct slice text)
{
    const size_t size = sizeof prefix - 1;
    return text.size >= size && memcmp(text.bytes, prefix, size) == 0;
}

static int hex_digit(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Percent-decodes into `bytes`. Returns 0 or ERR_MALFORMED. */
static int decode(struct slice text, uint8_t *bytes, uint32_t room, uint32_t *ret_size)
{
    uint32_t size = 0;
    for (uint32_t i = 0; i < text.size; i++) {
        int byte = text.bytes[i];
        if (byte == '%') {
            const int high = i + 2 < text.size ? hex_digit(text.bytes[i + 1]) : -1;
            const int low = high < 0 ? -1 : hex_digit(text.bytes[i + 2]);
            if (low < 0)
                return ERR_MALFORMED;
            byte = high * 16 + low;
            i += 2;
        }
        if (size == room)
            return ERR_MALFORMED;
        bytes[size++] = (uint8_t)byte;
    }
    *ret_size = size;
    return 0;
}

static int take_signature(struct slice value, struct sas_token *token)
{
    uint8_t text[SIGNATURE_TEXT_MAX];
    uint32_t text_size = 0;
    size_t size = 0;
    const char *end = NULL;
    if (decode(value, text, sizeof text, &text_size) < 0)
        return ERR_MALFORMED;
    if (sodium_base642bin(token->signature, sizeof token->signature, (const char *)text, text_size,
                          NULL, &size, &end, sodium_base64_VARIANT_ORIGINAL) != 0)
        return ERR_MALFORMED;
    return end == (const char *)text + text_size && size == SAS_SIGNATURE_SIZE ? 0 : ERR_MALFORMED;
}

static int take_expiry(struct slice value, struct sas_token *token)
{
    if (value.size == 0 || value.size > EXPIRY_DIGITS_MAX)
        return ERR_MALFORMED;
    for (uint32_t i = 0; i < value.size; i++) {
        if (value.bytes[i] < '0' || value.bytes[i] > '9')
            return ERR_MALFORMED;
        token->expiry_s = token->expiry_s * 10 + (uint64_t)(value.bytes[i] - '0');
    }
    token->expiry_text = value;
    return 0;
}

static int take_resource(struct slice value, struct sas_token *token)
{
    token->resource_text = value;
    return decode(value, token->resource, sizeof token->resource, &token->resource_size);
}

static int take_nothing(struct slice value, struct sas_token *token)
{
    (void)value;
    (void)token;
    return 0;
}

/* Takes name=value; `seen`: bits of the fields that were there already. */
static int take_field(struct slice text, struct sas_token *token, unsigned *seen)
{
    static const struct {
        const char *name;
        int (*take)(struct slice value, struct sas_token *token);
    } fields[] = {
        {"sr=", take_resource},
        {"sig=", take_signature},
        {"se=", take_expiry},
        {"skn=", take_nothing},
    };
    for (unsigned i = 0; i < ARRAY_COUNT(fields); i++) {
        const size_t size = strlen(fields[i].name);
        if (text.size < size || memcmp(text.bytes, fields[i].name, size) != 0)
            continue;
        if (*seen & 1u << i)
            return ERR_MALFORMED;
        *seen |= 1u << i;
        return fields[i].take(slice_of(text.bytes + size, text.size - size), token);
    }
    return ERR_MALFORMED;
}

int sas_parse(struct slice text, struct sas_token *ret_token)
{
    const unsigned needed = 1 | 2 | 4;
    unsigned seen = 0;
    *ret_token = (struct sas_token){0};
    if (!sas_looks_like_one(text))
        return ERR_MALFORMED;
    const uint8_t *at = text.bytes + sizeof prefix - 1;
    const uint8_t *end = text.bytes + text.size;
    for (;;) {
        const uint8_t *next = memchr(at, '&', (size_t)(end - at));
        const uint8_t *stop = next ? next : end;
        if (take_field(slice_of(at, (size_t)(stop - at)), ret_token, &seen) < 0)
            return ERR_MALFORMED;
        if (!next)
            break;
        at = next + 1;
    }
    return (seen & needed) == needed ? 0 : ERR_MALFORMED;
}

bool sas_is_for(const struct sas_token *token, struct slice device_id)
{
    static const char folder[] = "devices/";
    const size_t size = sizeof folder - 1;
    if (device_id.size == 0 || token->resource_size < size + device_id.size)
        return false;
    const size_t before = token->resource_size - size - device_id.size; /* HOST/ */
    return (before == 0 || token->resource[before - 1] == '/') &&
           memcmp(token->resource + before, folder, size) == 0 &&
           memcmp(token->resource + before + size, device_id.bytes, device_id.size) == 0;
}

bool sas_is_signed(const struct sas_token *token, const struct sas_key *key)
{
    uint8_t made[SAS_SIGNATURE_SIZE];
    crypto_auth_hmacsha256_state state;
    (void)crypto_auth_hmacsha256_init(&state, key->bytes, key->size);
    (void)crypto_auth_hmacsha256_update(&state, token->resource_text.bytes,
                                        token->resource_text.size);
    (void)crypto_auth_hmacsha256_update(&state, (const uint8_t *)"\n", 1);
    (void)crypto_auth_hmacsha256_update(&state, token->expiry_text.bytes, token->expiry_text.size);
    (void)crypto_auth_hmacsha256_final(&state, made);
    const bool same = sodium_memcmp(made, token->signature, sizeof made) == 0;
    sodium_memzero(&state, sizeof state);
    sodium_memzero(made, sizeof made);
    return same;
}

int sas_key_parse(struct slice base64, struct sas_key *ret_key)
{
    struct sas_key key = {0};
    size_t size = 0;
    const char *end = NULL;
    const char *text = (const char *)base64.bytes;
    if (base64.size == 0 ||
        sodium_base642bin(key.bytes, sizeof key.bytes, text, base64.size, NULL, &size, &end,
                          sodium_base64_VARIANT_ORIGINAL) != 0 ||
        end != text + base64.size || size < SAS_KEY_MIN)
        return ERR_INVALID;
    key.size = (uint8_t)size;
    *ret_key = key;
    return 0;
}

void sas_key_make(struct sas_key *ret_key)
{
    *ret_key = (struct sas_key){.size = KEY_SIZE};
    randombytes_buf(ret_key->bytes, KEY_SIZE);
}

void sas_key_text(const struct sas_key *key, char ret_text[SAS_KEY_TEXT_SIZE])
{
    _Static_assert(sodium_base64_ENCODED_LEN(SAS_KEY_MAX, sodium_base64_VARIANT_ORIGINAL) <=
                       SAS_KEY_TEXT_SIZE,
                   "a key fits");
    (void)sodium_bin2base64(ret_text, SAS_KEY_TEXT_SIZE, key->bytes, key->size,
                            sodium_base64_VARIANT_ORIGINAL);
}
