/* Memory for objects of one size of which there can be a million: sessions, subscriptions.
 *
 * They lie side by side in blocks of 2 MiB, without the allocator's own words between them. From
 * the third block on the kernel is asked for huge pages: a million objects then cost hundreds of
 * page faults instead of hundreds of thousands, and reading them at random misses the
 * processor's table of pages less often. A block goes back to the system when its last object does;
 * one empty block is kept. With AddressSanitizer each object is an allocation of its own, so that a
 * use after the free is found.
 * Thread: owner.
 */
#pragma once

#include "base/base.h"
#include "base/list.h"

struct slab {
    uint32_t object_size; /* bytes, a multiple of 8 */
    uint32_t block_count;
    struct list room; /* blocks in which an object is free, the one to take from first */
    uint64_t in_use;  /* objects */
    uint32_t empty;   /* blocks without an object in use: 0 or 1 */
};

/* object_size: at most SLAB_OBJECT_MAX. */
#define SLAB_OBJECT_MAX 4096u
void slab_init(struct slab *slab, size_t object_size);
/* All objects have been given back. */
void slab_done(struct slab *slab);

/* A zeroed object, aligned to 8; aborts when out of memory. */
void *slab_new(struct slab *slab);
/* Gives back what slab_new of the same slab returned; NULL is fine. */
void slab_free(struct slab *slab, void *object);
