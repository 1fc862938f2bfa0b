/* The injected failure counts per thread, so that a test's own thread decides alone which call of
 * the code under test fails, whatever workers do meanwhile.
 *
 * What is in use is counted in blocks as the allocator made them, a thread's part by itself until
 * it is worth telling the others, because an atomic addition for each small block would show.
 */
#include "base/mem.h"

#include <malloc.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Smaller blocks, the log's and connections' among them, are reused without asking the kernel. */
#define LARGE_MIN (1 << 20)
#define SPARE_MAX (16 << 20)

enum { BLOCK_HEAD = sizeof(size_t), UNTOLD_MAX = 16 * 1024 };

static _Thread_local uint64_t mem_fail_countdown;
static _Thread_local int64_t mem_untold; /* change of mem_total by this thread, not added yet */
static _Atomic int64_t mem_total;

static int64_t block_size(void *ptr)
{
    return ptr ? (int64_t)malloc_usable_size(ptr) + BLOCK_HEAD : 0;
}

static void count(int64_t change)
{
    mem_untold += change;
    if (mem_untold > UNTOLD_MAX || mem_untold < -UNTOLD_MAX) {
        (void)atomic_fetch_add_explicit(&mem_total, mem_untold, memory_order_relaxed);
        mem_untold = 0;
    }
}

void mem_note(int64_t change)
{
    count(change);
}

static void *counted(void *ptr)
{
    count(block_size(ptr));
    return ptr;
}

/* As realloc, with the counting. */
static void *resized(void *ptr, size_t size)
{
    const int64_t before = block_size(ptr);
    void *moved = realloc(ptr, size);
    if (moved)
        count(block_size(moved) - before);
    return moved;
}

uint64_t mem_used(void)
{
    const int64_t used = atomic_load_explicit(&mem_total, memory_order_relaxed) + mem_untold;
    return used > 0 ? (uint64_t)used : 0;
}

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

void mem_give_back(void)
{
    (void)malloc_trim(0);
}

void mem_fail_at(uint64_t n)
{
    mem_fail_countdown = n;
}

void *mem_new(size_t size)
{
    void *ptr = calloc(1, never_zero(size));
    ASSERT(ptr != NULL);
    return counted(ptr);
}

void *mem_grow(void *ptr, size_t size)
{
    void *grown = resized(ptr, never_zero(size));
    ASSERT(grown != NULL);
    return grown;
}

void *mem_try_alloc(size_t size)
{
    return fails_now() ? NULL : counted(malloc(never_zero(size)));
}

void *mem_try_zeroed(size_t size)
{
    return fails_now() ? NULL : counted(calloc(1, never_zero(size)));
}

void *mem_try_realloc(void *ptr, size_t size)
{
    return fails_now() ? NULL : resized(ptr, never_zero(size));
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
    return counted(copy);
}

void mem_free(void *ptr)
{
    count(-block_size(ptr));
    free(ptr);
}
