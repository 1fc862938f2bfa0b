/* The injected failure counts per thread, so that a test's own thread decides alone which call of
 * the code under test fails, whatever workers do meanwhile.
 */
#include "base/mem.h"

#include <malloc.h>
#include <stdlib.h>
#include <string.h>

/* Smaller blocks, the log's and connections' among them, are reused without asking the kernel. */
#define LARGE_MIN (1 << 20)
#define SPARE_MAX (16 << 20)

static _Thread_local uint64_t mem_fail_countdown;

static bool fails_now(void)
{
    return __builtin_expect(mem_fail_countdown > 0, 0) && --mem_fail_countdown == 0;
}

/* malloc(0) may return NULL, which would look like exhaustion. */
static size_t never_zero(size_t size)
{
    return size ? size : 1;
}

void mem_tune(void)
{
    (void)mallopt(M_MMAP_THRESHOLD, LARGE_MIN);
    (void)mallopt(M_TRIM_THRESHOLD, SPARE_MAX);
}

void mem_fail_at(uint64_t n)
{
    mem_fail_countdown = n;
}

void *mem_new(size_t size)
{
    void *ptr = calloc(1, never_zero(size));
    ASSERT(ptr != NULL);
    return ptr;
}

void *mem_grow(void *ptr, size_t size)
{
    void *grown = realloc(ptr, never_zero(size));
    ASSERT(grown != NULL);
    return grown;
}

void *mem_try_alloc(size_t size)
{
    return fails_now() ? NULL : malloc(never_zero(size));
}

void *mem_try_zeroed(size_t size)
{
    return fails_now() ? NULL : calloc(1, never_zero(size));
}

void *mem_try_realloc(void *ptr, size_t size)
{
    return fails_now() ? NULL : realloc(ptr, never_zero(size));
}

char *mem_try_copy(const void *bytes, size_t size)
{
    if (size == SIZE_MAX)
        return NULL;
    char *copy = mem_try_alloc(size + 1);
    if (!copy)
        return NULL;
    if (size)
        memcpy(copy, bytes, size);
    copy[size] = '\0';
    return copy;
}

char *mem_strdup(const char *text)
{
    char *copy = strdup(text);
    ASSERT(copy != NULL);
    return copy;
}

void mem_free(void *ptr)
{
    free(ptr);
}
