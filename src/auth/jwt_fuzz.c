/* Any bytes as a token, and as the claims of one that is signed: never good without a signature of
 * the key's, and what the claims come to is bounded. The first byte chooses. */
#include "auth/claims.h"
#include "auth/jws.h"
#include "auth/jws_fixture.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* Not signed by anybody, so the only good ones are those of the fixture. */
static void as_token(struct slice text)
{
    struct jws_keys *keys[2] = {0};
    const int secret = jws_keys_secret(slice_str(TEST_SECRET), JWS_ALL, &keys[0], NULL);
    const int pem = jws_keys_pem(slice_str(TEST_PEM_P256), JWS_ALL, &keys[1], NULL);
    ASSERT(secret == 0);
    ASSERT(pem == 0);
    for (size_t i = 0; i < 2; i++) {
        json_t *claims = NULL;
        const enum jws_verdict verdict = jws_verify(text, keys[i], &claims);
        ASSERT((claims != NULL) == (verdict == JWS_GOOD));
        ASSERT(verdict == JWS_NO_TOKEN || jws_looks_like_one(text));
        json_decref(claims);
        (void)jws_keys_unref(keys[i]);
    }
}

static void as_claims(struct slice text)
{
    char *rule = (char *)"c=${ClientId}";
    const struct claims_rules rules = {.leeway_ms = 1000, .expected = &rule, .expected_count = 1};
    const struct auth_credentials credentials = {.client_id = slice_str("c"),
                                                 .username = slice_str("u")};
    json_t *claims = json_loadb((const char *)text.bytes, text.size, JSON_REJECT_DUPLICATES, NULL);
    struct claims_result result = {0};
    if (json_is_object(claims) &&
        claims_check(claims, &rules, &credentials, 1000000, &result) == 0) {
        ASSERT(result.wrong || result.acl.size <= CLAIMS_ACL_MAX);
        ASSERT(result.wrong || result.username.size <= UINT16_MAX);
        ASSERT(result.wrong || result.expire_at_ms == 0 || result.expire_at_ms > 1000000);
        claims_done(&result);
    }
    json_decref(claims);
}

static void as_set(struct slice text)
{
    struct jws_keys *keys = NULL;
    struct errmsg why = {0};
    if (jws_keys_set(text, JWS_ALL, &keys, &why) == 0) {
        ASSERT(keys->count > 0 && keys->count <= JWS_KEYS_MAX);
        for (uint32_t i = 0; i < keys->count; i++)
            ASSERT(keys->items[i].algorithms >> JWS_RS256 != 0); /* never for an HMAC */
        (void)jws_keys_unref(keys);
    } else {
        ASSERT(why.text[0] != '\0');
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size == 0 || size > 65536)
        return 0;
    const struct slice text = slice_of(bytes + 1, size - 1);
    switch (bytes[0]) {
    case 'c':
        as_claims(text);
        break;
    case 'k':
        as_set(text);
        break;
    default:
        as_token(text);
        break;
    }
    return 0;
}
