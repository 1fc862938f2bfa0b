/* Any bytes as a configuration file: refused with a message, or a table of well-formed settings. */
#include "app/setting.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct settings settings = {0};
    struct errmsg why = {0};
    const int err = settings_add_yaml(&settings, "fuzz.yaml", (const char *)bytes, size, &why);
    ASSERT(err == 0 || err == ERR_NOMEM || why.text[0] != '\0');
    ASSERT(settings.count <= SETTING_COUNT_MAX);
    for (size_t i = 0; err == 0 && i < settings.count; i++) {
        const struct setting *row = &settings.rows[i];
        ASSERT(strlen(row->key) < SETTING_KEY_MAX);
        ASSERT(row->line > 0);
        ASSERT(row->is_list || row->item_count == 1);
    }
    settings_done(&settings);
    return 0;
}
