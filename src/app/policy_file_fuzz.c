/* A policy file of any bytes: it is read, or refused with a sentence and nothing is left behind. */
#include "app/policy_file.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct policies policies;
    struct blocks blocks;
    struct errmsg why = {0};
    if (policy_file_parse("p", (const char *)bytes, size, &policies, &blocks, &why) < 0) {
        ASSERT(why.text[0] != '\0');
        ASSERT(policies.count == 0);
        ASSERT(blocks.count == 0);
    }
    for (size_t i = 1; i < policies.count; i++)
        ASSERT(policies.items[i - 1]->priority < policies.items[i]->priority);
    policies_done(&policies);
    blocks_done(&blocks);
    return 0;
}
