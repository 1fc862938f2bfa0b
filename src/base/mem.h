/* Memory: the only caller of malloc and free. */
#pragma once

#include "base/base.h"

/* Zeroed memory for one small fixed-size object; aborts when out of memory. Caller owns it. */
void *mem_new(size_t size);

/* As realloc, for tables whose size follows the number of objects a limit already admitted; aborts
 * when out of memory. */
MUST_CHECK void *mem_grow(void *ptr, size_t size);

/* Memory of a size that a peer, a file or a configuration chose; not zeroed.
 * Returns NULL when out of memory, or when a test asked for it (mem_fail_at). */
MUST_CHECK void *mem_try_alloc(size_t size);

/* As mem_try_alloc, but zeroed; large blocks cost no time until they are touched. */
MUST_CHECK void *mem_try_zeroed(size_t size);

/* As realloc, for the same sizes: NULL leaves `ptr` as it was. */
MUST_CHECK void *mem_try_realloc(void *ptr, size_t size);

/* Copies `size` bytes into new memory with a NUL behind them; NULL as mem_try_alloc. */
MUST_CHECK char *mem_try_copy(const void *bytes, size_t size);

/* As mem_try_copy for a NUL-terminated string of our own; aborts when out of memory. */
char *mem_strdup(const char *text);

/* Frees what any of the above returned; NULL is fine. */
void mem_free(void *ptr);

/* Has large blocks come from the kernel one by one, so that a table of many MiB need not be zeroed
 * in one go, and have them go back at once. To be called once, before threads are started. */
void mem_tune(void);

/* Gives the system back the pages in which nothing is in use any more. Walks over all that is free,
 * which took 0.1 s in a heap with a million holes: for after many frees, not for each. Thread: any.
 */
void mem_give_back(void);

/* Bytes in use in the whole process, of all the above, with what the allocator adds to each block.
 * Other threads' changes may be missing, up to 16 KiB for each. */
uint64_t mem_used(void);

/* Has mem_used count `change` more bytes, or fewer: what a library has taken on behalf of something
 * that a peer can have many of. */
void mem_note(int64_t change);

/* Makes the nth mem_try_* call from now fail, once (n from 1; 0 = never). Tests only; this thread.
 */
void mem_fail_at(uint64_t n);
