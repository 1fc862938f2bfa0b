#include "store/local/segment.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SEGMENT_MAGIC   UINT64_C(0x31474f4c514d4454) /* "TDMQLOG1" */
#define SEGMENT_VERSION 1u

struct header {
    uint64_t magic;
    uint32_t version;
    uint32_t epoch;
    uint64_t number;
    uint64_t prev_number;
    uint64_t base;
    uint64_t created_ms;
    uint32_t zero;
    uint32_t crc; /* of everything before it */
};
_Static_assert(sizeof(struct header) == 56, "written as it lies in memory");

struct segment *segment_new(uint64_t number, uint64_t base, uint64_t size, uint32_t epoch)
{
    ASSERT(size > SEGMENT_HEADER_SIZE);
    struct segment *segment = mem_new(sizeof *segment);
    atomic_init(&segment->ref_count, 1);
    segment->fd = -1;
    segment->number = number;
    segment->base = base;
    segment->size = size;
    segment->epoch = epoch;
    return segment;
}

struct segment *segment_ref(struct segment *segment)
{
    (void)atomic_fetch_add_explicit(&segment->ref_count, 1, memory_order_relaxed);
    return segment;
}

struct segment *segment_unref(struct segment *segment)
{
    if (!segment)
        return NULL;
    if (atomic_fetch_sub_explicit(&segment->ref_count, 1, memory_order_acq_rel) == 1) {
        if (segment->fd >= 0)
            (void)close(segment->fd);
        mem_free(segment);
    }
    return NULL;
}

void segment_name(uint64_t number, char ret_name[SEGMENT_NAME_SIZE])
{
    (void)snprintf(ret_name, SEGMENT_NAME_SIZE, "%020" PRIu64 ".log", number);
}

uint64_t segment_number(const char *name)
{
    uint64_t number = 0;
    if (strlen(name) != 24 || strcmp(name + 20, ".log") != 0)
        return 0;
    for (int i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9' || number > UINT64_MAX / 10 - 1)
            return 0;
        number = number * 10 + (uint64_t)(name[i] - '0');
    }
    return number;
}

int segment_write_header(const struct segment *segment)
{
    uint8_t page[SEGMENT_HEADER_SIZE] = {0};
    struct header header = {
        .magic = SEGMENT_MAGIC,
        .version = SEGMENT_VERSION,
        .epoch = segment->epoch,
        .number = segment->number,
        .prev_number = segment->prev_number,
        .base = segment->base,
        .created_ms = segment->created_ms,
    };
    ASSERT(header.base % 8 == 0);
    header.crc = crc32c(0, &header, offsetof(struct header, crc));
    memcpy(page, &header, sizeof header);
    return file_pwrite_all(segment->fd, page, sizeof page, 0);
}

static int parse_header(struct segment *segment, const struct header *header, const char *name,
                        struct errmsg *reterr)
{
    const char *what = NULL;
    if (header->magic != SEGMENT_MAGIC)
        what = "not a segment of the log";
    else if (header->crc != crc32c(0, header, offsetof(struct header, crc)))
        what = "the header's checksum is wrong";
    else if (header->version != SEGMENT_VERSION)
        what = "written by another version";
    else if (header->number == 0 || header->base % 8 != 0)
        what = "the header makes no sense";
    if (what) {
        errmsg_wrap(reterr, "segment '%s' at offset 0: %s", name, what);
        return ERR_CORRUPT;
    }
    segment->number = header->number;
    segment->prev_number = header->prev_number;
    segment->base = header->base;
    segment->created_ms = header->created_ms;
    segment->epoch = header->epoch;
    return 0;
}

int segment_open_any(int dir_fd, const char *name, int flags, struct segment **ret_segment,
                     struct errmsg *reterr)
{
    const int fd = file_openat(dir_fd, name, flags, 0);
    if (fd < 0) {
        errmsg_wrap(reterr, "could not open segment '%s': %s", name, err_text(fd));
        return fd;
    }
    struct segment *segment = segment_new(0, 0, SEGMENT_SIZE_MIN, 0);
    segment->fd = fd;
    struct header header = {0};
    int err = file_size(fd, &segment->size);
    if (err == 0)
        err = file_pread_all(fd, &header, sizeof header, 0);
    if (err < 0 && err != -ENODATA) {
        errmsg_wrap(reterr, "could not read segment '%s': %s", name, err_text(err));
    } else if (err == -ENODATA || segment->size < SEGMENT_HEADER_SIZE) {
        errmsg_wrap(reterr, "segment '%s': cut off inside its header", name);
        err = ERR_CORRUPT;
    } else {
        err = parse_header(segment, &header, name, reterr);
    }
    if (err < 0) {
        (void)segment_unref(segment);
        return err;
    }
    *ret_segment = segment;
    return 0;
}

int segment_open(int dir_fd, const char *name, int flags, struct segment **ret_segment,
                 struct errmsg *reterr)
{
    struct segment *segment = NULL;
    const int err = segment_open_any(dir_fd, name, flags, &segment, reterr);
    if (err < 0)
        return err;
    if (segment->number != segment_number(name)) {
        errmsg_wrap(reterr, "segment '%s' at offset 0: the header belongs to another file", name);
        (void)segment_unref(segment);
        return ERR_CORRUPT;
    }
    *ret_segment = segment;
    return 0;
}

struct segment_set *segment_set_new(struct segment *const *items, uint32_t count)
{
    struct segment_set *set = mem_new(sizeof *set + count * sizeof(struct segment *));
    atomic_init(&set->ref_count, 1);
    set->count = count;
    for (uint32_t i = 0; i < count; i++)
        set->items[i] = segment_ref(items[i]);
    return set;
}

struct segment_set *segment_set_ref(struct segment_set *set)
{
    (void)atomic_fetch_add_explicit(&set->ref_count, 1, memory_order_relaxed);
    return set;
}

struct segment_set *segment_set_unref(struct segment_set *set)
{
    if (!set)
        return NULL;
    if (atomic_fetch_sub_explicit(&set->ref_count, 1, memory_order_acq_rel) == 1) {
        for (uint32_t i = 0; i < set->count; i++)
            (void)segment_unref(set->items[i]);
        mem_free(set);
    }
    return NULL;
}

struct segment *segment_set_find(const struct segment_set *set, uint64_t position)
{
    uint32_t low = 0, high = set->count; /* the last one with base <= position */
    while (low < high) {
        const uint32_t middle = (low + high) / 2;
        if (set->items[middle]->base <= position)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? set->items[low - 1] : NULL;
}
