/* Tokens and keys of devices. */
#include "auth/sas.h"
#include "auth/sas_fixture.h"
#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

static struct sas_key test_key(void)
{
    struct sas_key key = {.size = 32};
    for (uint8_t i = 0; i < 32; i++)
        key.bytes[i] = i;
    return key;
}

static void good_tokens(void **state)
{
    (void)state;
    static const struct {
        const char *token, *id;
    } rows[] = {
        {TEST_SAS_DEVICE, "sensor-1"},
        {TEST_SAS_DEVICE "&skn=primary", "sensor-1"},
        {TEST_SAS_HOST, "a/b %"},
    };
    const struct sas_key key = test_key();
    struct sas_key other = key;
    other.bytes[31]++;
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct sas_token token;
        assert_true(sas_looks_like_one(slice_str(rows[i].token)));
        assert_int_equal(sas_parse(slice_str(rows[i].token), &token), 0);
        assert_int_equal(token.expiry_s, 2000000000);
        assert_true(sas_is_for(&token, slice_str(rows[i].id)));
        assert_true(sas_is_signed(&token, &key));
        assert_false(sas_is_signed(&token, &other));
        static const char *const others[] = {"",    "sensor-2",         "ensor-1",  "sensor-11",
                                             "b %", "devices/sensor-1", "/sensor-1"};
        for (size_t k = 0; k < ARRAY_COUNT(others); k++)
            assert_false(sas_is_for(&token, slice_str(others[k])));
    }
}

/* Whatever is changed, the signature is not right any more, or the form is not. */
static void changed_tokens_do_not_count(void **state)
{
    (void)state;
    const struct sas_key key = test_key();
    char text[512];
    const size_t size = strlen(TEST_SAS_DEVICE);
    int parsed = 0;
    for (size_t i = strlen("SharedAccessSignature "); i < size; i++) {
        struct sas_token token;
        memcpy(text, TEST_SAS_DEVICE, size);
        text[i] = text[i] == '1' ? '2' : '1';
        if (sas_parse(slice_of(text, size), &token) == 0) {
            parsed++;
            assert_false(sas_is_signed(&token, &key) && token.expiry_s == 2000000000 &&
                         sas_is_for(&token, slice_str("sensor-1")));
        }
    }
    assert_true(parsed > 50);
}

static void tokens_are_cut_off_everywhere(void **state)
{
    (void)state;
    const struct sas_key key = test_key();
    for (size_t size = 0; size < strlen(TEST_SAS_HOST); size++) {
        struct sas_token token;
        char *copy = mem_try_copy(TEST_SAS_HOST, size);
        if (sas_parse(slice_of(copy, size), &token) == 0)
            assert_false(sas_is_signed(&token, &key));
        mem_free(copy);
    }
}

#define PREFIX "SharedAccessSignature "
#define SIG    "sig=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="
static void malformed_tokens(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "",
        "password",
        PREFIX,
        PREFIX "sr=devices%2Fa",
        PREFIX SIG "&se=1",
        PREFIX "sr=a&se=1",
        PREFIX "sr=a&" SIG,
        PREFIX "sr=a&" SIG "&se=",
        PREFIX "sr=a&" SIG "&se=-1",
        PREFIX "sr=a&" SIG "&se=1x",
        PREFIX "sr=a&" SIG "&se=1000000000000000",
        PREFIX "sr=a&" SIG "&se=1&se=2",
        PREFIX "sr=a&sr=b&" SIG "&se=1",
        PREFIX "sr=a&" SIG "&se=1&",
        PREFIX "sr=a&" SIG "&se=1&more=1",
        PREFIX "sr=a&sig=AAAA&se=1",
        PREFIX "sr=a&sig=!&se=1",
        PREFIX "sr=a&sig=&se=1",
        PREFIX "sr=%&" SIG "&se=1",
        PREFIX "sr=%4&" SIG "&se=1",
        PREFIX "sr=%zz&" SIG "&se=1",
        "sharedaccesssignature sr=a&" SIG "&se=1",
    };
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++) {
        struct sas_token token;
        assert_int_equal(sas_parse(slice_str(bad[i]), &token), ERR_MALFORMED);
    }
    struct sas_token token;
    assert_int_equal(sas_parse(slice_str(PREFIX "se=1&" SIG "&sr=a"), &token), 0);
}

static void keys_are_base64(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "short", "AAAAAAAAAAAAAAAAAAAA", "!!!!",
                                      "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"};
    struct sas_key key, again;
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_int_equal(sas_key_parse(slice_str(bad[i]), &key), ERR_INVALID);
    char long_text[129];
    memset(long_text, 'A', 128);
    assert_int_equal(sas_key_parse(slice_of(long_text, 128), &key), ERR_INVALID);
    char text[SAS_KEY_TEXT_SIZE];
    sas_key_make(&key);
    sas_key_text(&key, text);
    assert_int_equal(sas_key_parse(slice_str(text), &again), 0);
    assert_int_equal(again.size, 32);
    assert_memory_equal(again.bytes, key.bytes, 32);
    sas_key_make(&again);
    assert_memory_not_equal(again.bytes, key.bytes, 32);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(good_tokens),
        cmocka_unit_test(changed_tokens_do_not_count),
        cmocka_unit_test(tokens_are_cut_off_everywhere),
        cmocka_unit_test(malformed_tokens),
        cmocka_unit_test(keys_are_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
