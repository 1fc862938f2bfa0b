/* Fuzz target: the upgrade request. Whatever comes, the verdict on all of it is the one on the
 * shortest beginning that has a verdict, and the answer is one HTTP message that repeats nothing.
 */
#include "wire/http_upgrade.h"

#include "base/mem.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void check_answer(int err, const struct http_upgrade_answer *answer)
{
    ASSERT(answer->size == strlen(answer->text));
    ASSERT(memcmp(answer->text, "HTTP/1.1 ", 9) == 0);
    ASSERT((err == 0) == (answer->status == 101));
    ASSERT((err == 0) == (answer->fault == NULL));
    const char *end = strstr(answer->text, "\r\n\r\n");
    ASSERT(end != NULL);
    ASSERT((err == 0) == (end[4] == '\0'));
}

/* The verdict on the first `size` bytes, in memory that ends with them. */
static int verdict(const uint8_t *bytes, size_t size, uint32_t *ret_used,
                   struct http_upgrade_answer *ret_answer)
{
    static const char *const origins[] = {"https://a.example"};
    const struct http_upgrade_rules rules = {
        .path = "/mqtt", .origins = origins, .origin_count = size & 1};
    uint8_t *copy = mem_try_alloc(size + (size == 0));
    ASSERT(copy != NULL);
    memcpy(copy, bytes, size);
    const int err = http_upgrade_read(&rules, copy, (uint32_t)size, ret_used, ret_answer);
    mem_free(copy);
    return err;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    static const char magic[] = "\r\n\r\n";
    struct http_upgrade_answer answer, shorter_answer;
    uint32_t used = 0, shorter_used = 0;
    if (size > 1 << 14)
        return 0;
    const int err = verdict(bytes, size, &used, &answer);
    if (err == ERR_AGAIN) {
        ASSERT(size < HTTP_UPGRADE_REQUEST_MAX);
        ASSERT(!memmem(bytes, size, magic, 4));
        return 0;
    }
    check_answer(err, &answer);
    if (err < 0)
        return 0;
    ASSERT(used <= size);
    ASSERT(memcmp(bytes + used - 4, magic, 4) == 0);
    /* Neither earlier, nor otherwise with the same rules at the very end. */
    ASSERT(verdict(bytes, used - 1, &shorter_used, &shorter_answer) == ERR_AGAIN);
    if ((used & 1) == (size & 1)) {
        ASSERT(verdict(bytes, used, &shorter_used, &shorter_answer) == 0);
        ASSERT(shorter_used == used);
        ASSERT(strcmp(shorter_answer.text, answer.text) == 0);
    }
    return 0;
}
