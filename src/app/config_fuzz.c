/* Any bytes as a configuration file: refused with a message, or a table of well-formed settings, of
 * which each known one is taken or refused with what is allowed; what was taken passes or fails the
 * rules over several keys. */
#include "app/config_key.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void apply(const struct settings *settings, struct config *config)
{
    char text[256];
    struct strbuf allowed;
    for (size_t i = 0; i < settings->count; i++) {
        const struct setting *row = &settings->rows[i];
        const struct config_key *key = config_key_find(row->key);
        strbuf_init_array(&allowed, text, sizeof(text));
        ASSERT(strlen(row->key) < SETTING_KEY_MAX);
        ASSERT(row->line > 0);
        ASSERT(row->is_list || row->item_count == 1);
        if (!key) {
            (void)config_key_nearest(row->key);
            break; /* as config_load does */
        }
        if (config_key_apply(key, row, config, &allowed) == ERR_INVALID) {
            ASSERT(allowed.size > 0);
        }
    }
    struct config_blame blame = {0};
    config->auth_anonymous = ANONYMOUS_TRUE; /* auto would resolve the names of listeners */
    strbuf_init_array(&allowed, text, sizeof(text));
    if (config_check(config, &blame, &allowed) < 0) {
        ASSERT(config_key_find(blame.key));
        ASSERT(allowed.size > 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct settings settings = {0};
    struct errmsg why = {0};
    struct config config;
    const struct config_source defaults = {0};
    const int loaded = config_load(&defaults, NULL, NULL, &config, &why);
    ASSERT(loaded == 0);
    const int err = settings_add_yaml(&settings, "fuzz.yaml", (const char *)bytes, size, &why);
    ASSERT(err == 0 || err == ERR_NOMEM || why.text[0] != '\0');
    ASSERT(settings.count <= SETTING_COUNT_MAX);
    if (err == 0) {
        apply(&settings, &config);
    }
    settings_done(&settings);
    config_done(&config);
    return 0;
}
