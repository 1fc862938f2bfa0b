#include "store/local/sealed.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "io/file.h"
#include "store/local/sealed_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { READ_BLOCKS = 16, UNIT = 8 };

static _Atomic uint32_t next_id = 1;

/* --- blocks -------------------------------------------------------------------------------- */

void sealed_block_finish(uint8_t *block, uint64_t start, uint32_t number)
{
    struct sealed_trailer trailer = {.start = start, .number = number};
    memcpy(block + SEALED_PAYLOAD_SIZE, &trailer, sizeof trailer);
    trailer.crc = crc32c(0, block, SEALED_BLOCK_SIZE - sizeof trailer.crc);
    memcpy(block + SEALED_PAYLOAD_SIZE, &trailer, sizeof trailer);
}

static bool block_sound(const uint8_t *block, uint64_t start, uint32_t number)
{
    struct sealed_trailer trailer;
    memcpy(&trailer, block + SEALED_PAYLOAD_SIZE, sizeof trailer);
#ifdef MUTATION_NO_CRC_CHECK
    return trailer.start == start && trailer.number == number;
#endif
    return trailer.start == start && trailer.number == number &&
           trailer.crc == crc32c(0, block, SEALED_BLOCK_SIZE - sizeof trailer.crc);
}

static int read_blocks(const struct sealed_file *file, uint32_t number, uint32_t count,
                       uint8_t *ret_blocks)
{
    const int err = file_pread_all(file->fd, ret_blocks, (size_t)count * SEALED_BLOCK_SIZE,
                                   (uint64_t)number * SEALED_BLOCK_SIZE);
    if (err < 0)
        return err == -ENODATA ? ERR_CORRUPT : err;
    for (uint32_t i = 0; i < count; i++) {
        if (!block_sound(ret_blocks + (size_t)i * SEALED_BLOCK_SIZE, file->start, number + i))
            return ERR_CORRUPT;
    }
    return 0;
}

/* --- files --------------------------------------------------------------------------------- */

struct sealed_file *sealed_ref(struct sealed_file *file)
{
    (void)atomic_fetch_add_explicit(&file->ref_count, 1, memory_order_relaxed);
    return file;
}

struct sealed_file *sealed_unref(struct sealed_file *file)
{
    if (file && atomic_fetch_sub_explicit(&file->ref_count, 1, memory_order_acq_rel) == 1) {
        if (file->fd >= 0)
            (void)close(file->fd);
        mem_free(file->fences);
        mem_free(file);
    }
    return NULL;
}

void sealed_name(uint64_t start, uint64_t end, char ret_name[SEALED_NAME_SIZE])
{
    (void)snprintf(ret_name, SEALED_NAME_SIZE, "%020" PRIu64 "-%020" PRIu64 ".idx", start, end);
}

bool sealed_name_parse(const char *name, uint64_t *ret_start, uint64_t *ret_end)
{
    char *rest = NULL;
    const uint64_t start = strtoull(name, &rest, 10);
    if (*rest != '-')
        return false;
    const uint64_t end = strtoull(rest + 1, &rest, 10);
    char again[SEALED_NAME_SIZE];
    sealed_name(start, end, again);
    if (strcmp(name, again) != 0)
        return false;
    *ret_start = start;
    *ret_end = end;
    return true;
}

static int read_header(struct sealed_file *file, uint64_t start, uint64_t end)
{
    uint8_t block[SEALED_BLOCK_SIZE];
    file->start = start;
    int err = file_size(file->fd, &file->size);
    if (err == 0)
        err = read_blocks(file, 0, 1, block);
    if (err < 0)
        return err;
    struct sealed_header header;
    memcpy(&header, block, sizeof header);
    const uint64_t blocks = 1 + sealed_blocks(header.queue_count, SEALED_DIRECTORY_PER_BLOCK) +
                            sealed_blocks(header.entry_count, SEALED_ENTRIES_PER_BLOCK);
    if (header.magic != SEALED_MAGIC || header.version != SEALED_VERSION || header.start != start ||
        header.end != end || end <= start || header.entry_count > UINT32_MAX ||
        blocks * SEALED_BLOCK_SIZE != file->size)
        return ERR_CORRUPT;
    file->end = end;
    file->entry_count = header.entry_count;
    file->queue_count = header.queue_count;
    file->directory_blocks =
        (uint32_t)sealed_blocks(header.queue_count, SEALED_DIRECTORY_PER_BLOCK);
    return 0;
}

struct walk {
    uint32_t block; /* number of the one being looked at, for messages */
    uint32_t previous_id;
    uint64_t entries;
    sealed_queue_fn *each;
    void *data;
};

/* One directory block; ids must ascend and entries follow one another. */
static int walk_block(const struct sealed_file *file, uint32_t n, const uint8_t *block,
                      struct walk *walk)
{
    const uint32_t before = n * SEALED_DIRECTORY_PER_BLOCK;
    const uint32_t count = MIN(file->queue_count - before, SEALED_DIRECTORY_PER_BLOCK);
    for (uint32_t i = 0; i < count; i++) {
        struct sealed_queue queue;
        memcpy(&queue, block + i * sizeof queue, sizeof queue);
        if (queue.queue_id <= walk->previous_id || queue.first_entry != walk->entries ||
            queue.count == 0)
            return ERR_CORRUPT;
        walk->previous_id = queue.queue_id;
        walk->entries += queue.count;
        if (walk->each)
            walk->each(walk->data, &queue);
    }
    return walk->entries <= file->entry_count ? 0 : ERR_CORRUPT;
}

static int walk_directory(const struct sealed_file *file, struct walk *walk, uint32_t *fences)
{
    uint8_t *blocks = mem_new(READ_BLOCKS * SEALED_BLOCK_SIZE);
    int err = 0;
    for (uint32_t n = 0; n < file->directory_blocks && err == 0; n += READ_BLOCKS) {
        const uint32_t count = MIN(file->directory_blocks - n, (uint32_t)READ_BLOCKS);
        walk->block = 1 + n;
        err = read_blocks(file, 1 + n, count, blocks);
        for (uint32_t i = 0; i < count && err == 0; i++) {
            const uint8_t *block = blocks + (size_t)i * SEALED_BLOCK_SIZE;
            walk->block = 1 + n + i;
            if (fences)
                memcpy(&fences[n + i], block, sizeof *fences);
            err = walk_block(file, n + i, block, walk);
        }
    }
    mem_free(blocks);
    return err == 0 && walk->entries != file->entry_count ? ERR_CORRUPT : err;
}

int sealed_each(const struct sealed_file *file, sealed_queue_fn *each, void *data)
{
    struct walk walk = {.each = each, .data = data};
    return walk_directory(file, &walk, NULL);
}

/* walk: what to call, and where it ended. */
static int load(struct sealed_file *file, uint64_t start, uint64_t end, struct walk *walk)
{
    const int err = read_header(file, start, end);
    if (err < 0)
        return err;
    file->fences = mem_try_alloc(file->directory_blocks * sizeof *file->fences);
    if (!file->fences)
        return ERR_NOMEM;
    const int walked = walk_directory(file, walk, file->fences);
    file->last_queue_id = walk->previous_id;
    return walked;
}

int sealed_open(int dir_fd, const char *name, sealed_queue_fn *each, void *data,
                struct sealed_file **ret_file, struct errmsg *reterr)
{
    uint64_t start = 0, end = 0;
    if (!sealed_name_parse(name, &start, &end)) {
        errmsg_wrap(reterr, "index file '%s': not an index file's name", name);
        return ERR_CORRUPT;
    }
    const int fd = file_openat(dir_fd, name, O_RDONLY, 0);
    if (fd < 0) {
        errmsg_wrap(reterr, "could not open index file '%s': %s", name, err_text(fd));
        return fd;
    }
    struct sealed_file *file = mem_new(sizeof *file);
    atomic_init(&file->ref_count, 1);
    file->fd = fd;
    file->id = atomic_fetch_add_explicit(&next_id, 1, memory_order_relaxed);
    struct walk walk = {.each = each, .data = data};
    const int err = load(file, start, end, &walk);
    if (err < 0) {
        errmsg_wrap(reterr, "index file '%s' at offset %llu: %s", name,
                    (unsigned long long)walk.block * SEALED_BLOCK_SIZE, err_text(err));
        (void)sealed_unref(file);
        return err;
    }
    *ret_file = file;
    return 0;
}

/* --- looking up ---------------------------------------------------------------------------- */

/* The directory block that could have the queue. */
static uint32_t block_for(const struct sealed_file *file, uint32_t queue_id)
{
    uint32_t low = 0, high = file->directory_blocks; /* the last fence <= queue_id */
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (file->fences[middle] <= queue_id)
            low = middle + 1;
        else
            high = middle;
    }
    return low - 1;
}

int sealed_find(const struct sealed_file *file, uint32_t queue_id, struct sealed_queue *ret_queue)
{
    if (file->directory_blocks == 0 || queue_id < file->fences[0] || queue_id > file->last_queue_id)
        return 0;
    const uint32_t n = block_for(file, queue_id);
    uint8_t block[SEALED_BLOCK_SIZE];
    const int err = read_blocks(file, 1 + n, 1, block);
    if (err < 0)
        return err;
    uint32_t low = 0;
    uint32_t high =
        MIN(file->queue_count - n * SEALED_DIRECTORY_PER_BLOCK, SEALED_DIRECTORY_PER_BLOCK);
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        struct sealed_queue queue;
        memcpy(&queue, block + middle * sizeof queue, sizeof queue);
        if (queue.queue_id == queue_id) {
            if (queue.first_entry + queue.count > file->entry_count)
                return ERR_CORRUPT;
            *ret_queue = queue;
            return 1;
        }
        if (queue.queue_id < queue_id)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

/* Makes the block with the nth entry of the file the cursor's. */
static int seek(const struct sealed_file *file, uint64_t n, struct sealed_cursor *cursor)
{
    const uint32_t number = 1 + file->directory_blocks + (uint32_t)(n / SEALED_ENTRIES_PER_BLOCK);
    if (cursor->number == number)
        return 0;
    const int err = read_blocks(file, number, 1, cursor->block);
    cursor->number = err < 0 ? 0 : number;
    return err;
}

/* An entry of the block at hand. */
static int take_place(const struct sealed_file *file, const struct sealed_cursor *cursor,
                      uint32_t index, struct qplace *ret_place)
{
    struct qentry entry;
    memcpy(&entry, cursor->block + (size_t)index * sizeof entry, sizeof entry);
    const uint64_t position = file->start + (uint64_t)entry.place * UNIT;
    if (position >= file->end || entry.size8 > UINT32_MAX / UNIT)
        return ERR_CORRUPT;
    *ret_place = (struct qplace){.position = position, .size = entry.size8 * UNIT};
    return 0;
}

int sealed_read(const struct sealed_file *file, const struct sealed_queue *queue, uint32_t n,
                uint32_t count, struct qplace *ret_places)
{
    ASSERT((uint64_t)n + count <= queue->count);
    struct sealed_cursor cursor = {.number = 0};
    for (uint32_t i = 0; i < count; i++) {
        const uint64_t at = queue->first_entry + n + i;
        int err = seek(file, at, &cursor);
        if (err == 0)
            err = take_place(file, &cursor, (uint32_t)(at % SEALED_ENTRIES_PER_BLOCK),
                             &ret_places[i]);
        if (err < 0)
            return err;
    }
    return 0;
}

int sealed_search(const struct sealed_file *file, const struct sealed_queue *queue,
                  uint64_t position, struct sealed_cursor *cursor, uint32_t *ret_n)
{
    uint32_t low = 0, high = queue->count;
    while (low < high) {
        const uint32_t middle = low + (high - low) / 2;
        const uint64_t at = queue->first_entry + middle;
        struct qplace place = {0};
        int err = seek(file, at, cursor);
        if (err == 0)
            err = take_place(file, cursor, (uint32_t)(at % SEALED_ENTRIES_PER_BLOCK), &place);
        if (err < 0)
            return err;
        if (place.position < position)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_n = low;
    return 0;
}

int sealed_check(const struct sealed_file *file, struct errmsg *reterr)
{
    const uint64_t blocks = file->size / SEALED_BLOCK_SIZE;
    uint8_t block[SEALED_BLOCK_SIZE];
    for (uint32_t n = 0; n < blocks; n++) {
        const int err = read_blocks(file, n, 1, block);
        if (err < 0) {
            errmsg_wrap(reterr, "block at offset %llu: %s",
                        (unsigned long long)n * SEALED_BLOCK_SIZE, err_text(err));
            return err;
        }
    }
    return sealed_each(file, NULL, NULL);
}

/* --- sets ---------------------------------------------------------------------------------- */

struct sealed_set *sealed_set_new(struct sealed_file *const *items, uint32_t count)
{
    struct sealed_set *set = mem_new(sizeof *set + count * sizeof(struct sealed_file *));
    atomic_init(&set->ref_count, 1);
    set->count = count;
    for (uint32_t i = 0; i < count; i++)
        set->items[i] = sealed_ref(items[i]);
    return set;
}

struct sealed_set *sealed_set_ref(struct sealed_set *set)
{
    (void)atomic_fetch_add_explicit(&set->ref_count, 1, memory_order_relaxed);
    return set;
}

struct sealed_set *sealed_set_unref(struct sealed_set *set)
{
    if (set && atomic_fetch_sub_explicit(&set->ref_count, 1, memory_order_acq_rel) == 1) {
        for (uint32_t i = 0; i < set->count; i++)
            (void)sealed_unref(set->items[i]);
        mem_free(set);
    }
    return NULL;
}

int sealed_set_read(const struct sealed_set *set, uint32_t queue_id, uint64_t seq, uint32_t *hint,
                    struct qplace *ret_places, uint32_t count_max)
{
    uint32_t first = 0;
    while (first < set->count && set->items[first]->id != *hint)
        first++;
    for (uint32_t k = 0; k < set->count; k++) {
        const struct sealed_file *file = set->items[(first + k) % set->count];
        struct sealed_queue queue;
        const int found = sealed_find(file, queue_id, &queue);
        if (found < 0)
            return found;
        if (found == 0 || seq < queue.first_seq || seq - queue.first_seq >= queue.count)
            continue;
        const uint32_t n = (uint32_t)(seq - queue.first_seq);
        const uint32_t count = MIN(count_max, queue.count - n);
        const int err = sealed_read(file, &queue, n, count, ret_places);
        *hint = file->id;
        return err < 0 ? err : (int)count;
    }
    return 0;
}

int sealed_set_next(const struct sealed_set *set, uint32_t queue_id, uint64_t seq,
                    uint64_t *ret_seq)
{
    for (uint32_t i = 0; i < set->count; i++) { /* in order of position, so of numbers too */
        struct sealed_queue queue;
        const int found = sealed_find(set->items[i], queue_id, &queue);
        if (found < 0)
            return found;
        if (found == 1 && seq < queue.first_seq + queue.count) {
            *ret_seq = MAX(seq, queue.first_seq);
            return 1;
        }
    }
    return 0;
}
