/* A block is aligned to its size, so that an object's address tells its block. Objects that were
 * never used lie behind `fresh` and are zero as the kernel gave them; those given back are chained.
 */
#include "base/slab.h"

#include "base/mem.h"

#include <string.h>
#include <sys/mman.h>

#if defined(__SANITIZE_ADDRESS__)
#define ONE_BY_ONE 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ONE_BY_ONE 1
#endif
#endif

#define BLOCK_SIZE ((size_t)2 << 20)

enum { SMALL_BLOCKS = 2, OBJECT_ALIGN = 8 };

struct free_object {
    struct free_object *next;
};

struct block {
    struct list node; /* slab->room, or alone */
    struct free_object *free;
    uint32_t in_use;
    uint32_t fresh, end; /* bytes from the block's start: objects from here on were never used */
};

void slab_init(struct slab *slab, size_t object_size)
{
    ASSERT(object_size > 0 && object_size <= SLAB_OBJECT_MAX);
    const size_t aligned = (object_size + OBJECT_ALIGN - 1) & ~(size_t)(OBJECT_ALIGN - 1);
    *slab = (struct slab){.object_size = (uint32_t)aligned};
    list_init(&slab->room);
}

#ifdef ONE_BY_ONE

void slab_done(struct slab *slab)
{
    ASSERT(slab->in_use == 0);
}

void *slab_new(struct slab *slab)
{
    slab->in_use++;
    return mem_new(slab->object_size);
}

void slab_free(struct slab *slab, void *object)
{
    if (!object)
        return;
    ASSERT(slab->in_use > 0);
    slab->in_use--;
    mem_free(object);
}

#else

/* BLOCK_SIZE bytes, aligned to as many. */
static struct block *map_block(bool huge)
{
    uint8_t *bytes = mmap(NULL, 2 * BLOCK_SIZE, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT(bytes != MAP_FAILED);
    const size_t before = (size_t)(-(uintptr_t)bytes & (BLOCK_SIZE - 1));
    if (before > 0)
        (void)munmap(bytes, before);
    (void)munmap(bytes + before + BLOCK_SIZE, BLOCK_SIZE - before);
    void *block = bytes + before;
    if (huge)
        (void)madvise(block, BLOCK_SIZE, MADV_HUGEPAGE);
    return block;
}

static struct block *add_block(struct slab *slab)
{
    struct block *block = map_block(slab->block_count >= SMALL_BLOCKS);
    const uint32_t size = slab->object_size;
    block->fresh = sizeof *block;
    block->end = block->fresh + (uint32_t)(BLOCK_SIZE - sizeof *block) / size * size;
    list_init(&block->node);
    list_push_front(&slab->room, &block->node);
    slab->block_count++;
    slab->empty++;
    return block;
}

static void remove_block(struct slab *slab, struct block *block)
{
    list_remove(&block->node);
    slab->block_count--;
    slab->empty--;
    (void)munmap(block, BLOCK_SIZE);
}

void slab_done(struct slab *slab)
{
    ASSERT(slab->in_use == 0);
    while (!list_empty(&slab->room))
        remove_block(slab, LIST_FIRST(&slab->room, struct block, node));
    ASSERT(slab->block_count == 0);
}

void *slab_new(struct slab *slab)
{
    struct block *block = LIST_FIRST(&slab->room, struct block, node);
    if (!block)
        block = add_block(slab);
    slab->empty -= block->in_use == 0;
    void *object = block->free;
    if (object) {
        block->free = block->free->next;
        memset(object, 0, slab->object_size);
    } else {
        object = (uint8_t *)block + block->fresh;
        block->fresh += slab->object_size;
    }
    block->in_use++;
    slab->in_use++;
    if (!block->free && block->fresh == block->end)
        list_remove(&block->node);
    mem_note(slab->object_size);
    return object;
}

void slab_free(struct slab *slab, void *object)
{
    if (!object)
        return;
    struct block *block =
        (struct block *)(void *)((uint8_t *)object - ((uintptr_t)object & (BLOCK_SIZE - 1)));
    ASSERT(slab->in_use > 0 && block->in_use > 0);
    struct free_object *freed = object;
    if (!block->free && block->fresh == block->end)
        list_push_back(&slab->room, &block->node);
    freed->next = block->free;
    block->free = freed;
    block->in_use--;
    slab->in_use--;
    mem_note(-(int64_t)slab->object_size);
    if (block->in_use > 0)
        return;
    slab->empty++;
    if (slab->empty > 1)
        remove_block(slab, block);
}

#endif
