#include "store/local/scan.h"

#include "base/mem.h"
#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { WINDOW_SIZE = 1024 * 1024 };

/* --- names --------------------------------------------------------------------------------- */

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

void scan_names_free(char **names, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        mem_free(names[i]);
    mem_free(names);
}

static int read_names(DIR *dir, char ***names, uint32_t *count)
{
    uint32_t room = 0;
    const struct dirent *entry = NULL;
    while ((errno = 0, entry = readdir(dir))) {
        if (entry->d_name[0] == '.')
            continue;
        if (*count == room) {
            room = MAX(64u, room * 2);
            void *grown = mem_try_realloc(*names, room * sizeof **names);
            if (!grown)
                return ERR_NOMEM;
            *names = grown;
        }
        (*names)[(*count)++] = mem_strdup(entry->d_name);
    }
    return -errno;
}

int scan_names(int dir_fd, char ***ret_names, uint32_t *ret_count)
{
    const int fd = file_openat(dir_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    DIR *dir = fdopendir(fd);
    if (!dir) {
        const int err = -errno;
        (void)close(fd);
        return err;
    }
    char **names = NULL;
    uint32_t count = 0;
    const int err = read_names(dir, &names, &count);
    (void)closedir(dir);
    if (err < 0) {
        scan_names_free(names, count);
        return err;
    }
    if (count)
        qsort(names, count, sizeof *names, compare_names);
    *ret_names = names;
    *ret_count = count;
    return 0;
}

/* --- records ------------------------------------------------------------------------------- */

/* A part of the segment's file in memory. */
struct window {
    const struct segment *segment;
    uint8_t *bytes;
    uint64_t room;
    uint64_t offset, size; /* of what is in it */
};

/* Makes at least `size` bytes at `offset` present, or as many as the file has. */
static int window_load(struct window *window, uint64_t offset, uint64_t size)
{
    if (offset >= window->offset && offset + size <= window->offset + window->size)
        return 0;
    const uint64_t file_size = window->segment->size;
    const uint64_t left = file_size > offset ? file_size - offset : 0;
    const uint64_t wanted = MIN(MAX(size, (uint64_t)WINDOW_SIZE), left);
    if (wanted > window->room) {
        mem_free(window->bytes);
        window->room = window->size = 0;
        window->bytes = mem_try_alloc(wanted);
        if (!window->bytes)
            return ERR_NOMEM;
        window->room = wanted;
    }
    const int err = file_pread_all(window->segment->fd, window->bytes, wanted, offset);
    window->offset = offset;
    window->size = err < 0 ? 0 : wanted;
    return err;
}

static uint64_t window_left(const struct window *window, uint64_t offset)
{
    return window->offset + window->size - offset;
}

/* Reads the record at `position`. Returns 0; ERR_CORRUPT: no sound record there; or an error. */
static int read_record(struct window *window, uint64_t position, struct record *ret_record)
{
    const struct segment *segment = window->segment;
    const uint64_t offset = segment_offset(segment, position);
    int err = window_load(window, offset, sizeof(struct record_header));
    if (err < 0)
        return err;
    const uint8_t *bytes = window->bytes + (offset - window->offset);
    err = record_parse(bytes, window_left(window, offset), position, segment->epoch, NULL,
                       ret_record);
    if (err != ERR_AGAIN)
        return err;
    uint32_t size = 0;
    if (window_left(window, offset) < sizeof(struct record_header))
        return ERR_CORRUPT;
    ASSERT(bytes != NULL);
    memcpy(&size, bytes, sizeof size);
    err = window_load(window, offset, size);
    if (err < 0)
        return err;
    bytes = window->bytes + (offset - window->offset);
    err = record_parse(bytes, window_left(window, offset), position, segment->epoch, NULL,
                       ret_record);
    return err == ERR_AGAIN ? ERR_CORRUPT : err;
}

static int damage(const struct segment *segment, uint64_t position, const char *what,
                  struct errmsg *reterr)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(segment->number, name);
    errmsg_wrap(reterr, "segment '%s' at offset %" PRIu64 ": %s", name,
                segment_offset(segment, position), what);
    return ERR_CORRUPT;
}

/* Bytes from `bytes`, which lie at log position `at`, to the first place of `size` bytes where a
 * record says that it lies; to where the next header does not fit when there is none. Behind the
 * end of a log there are hundreds of MiB to look through: all zeros, mostly. */
static uint64_t next_candidate(const uint8_t *bytes, uint64_t size, uint64_t at)
{
    ASSERT(bytes != NULL);
    const uint8_t *field = bytes + offsetof(struct record_header, position);
    uint64_t skip = 0;
    for (; skip + sizeof(struct record_header) <= size; skip += RECORD_ALIGN) {
        uint64_t position = 0;
        memcpy(&position, field + skip, sizeof position);
        if (position == at + skip)
            break;
    }
    return skip;
}

/* Finds the first sound record at or behind `from`, before `end`. Returns 1; 0: there is none; or
 * an error. */
static int seek(struct window *window, uint64_t from, uint64_t end, struct record *ret_record)
{
    const struct segment *segment = window->segment;
    const uint64_t file_end = segment->base + segment_capacity(segment->size);
    const uint64_t limit = MIN(file_end, end);
    uint64_t at = from;
    while (at + sizeof(struct record_header) <= limit) {
        const uint64_t offset = segment_offset(segment, at);
        int err = window_load(window, offset, sizeof(struct record_header));
        if (err < 0)
            return err;
        const uint8_t *bytes = window->bytes + (offset - window->offset);
        const uint64_t size = MIN(window_left(window, offset), limit - at);
        const uint64_t skip = next_candidate(bytes, size, at);
        at += skip;
        if (skip + sizeof(struct record_header) > size)
            continue; /* on with what lies behind the window */
        if (record_plausible(bytes + skip, at, segment->epoch, file_end - at)) {
            err = read_record(window, at, ret_record);
            if (err == 0)
                return 1;
            if (err != ERR_CORRUPT)
                return err;
        }
        at += RECORD_ALIGN;
    }
    return 0;
}

int scan_seek(const struct segment *segment, uint64_t from, uint64_t end, uint64_t *ret_position)
{
    struct window window = {.segment = segment};
    struct record record;
    const int found = seek(&window, from, end, &record);
    if (found >= 0)
        *ret_position = found ? record.header->position : end;
    mem_free(window.bytes);
    return MIN(found, 0);
}

/* Looks behind a bad record for sound ones that prove it had been durable. */
static int look_behind(struct window *window, uint64_t bad, struct errmsg *reterr)
{
    struct record record;
    uint64_t at = bad;
    int found = 0;
    while ((found = seek(window, at + RECORD_ALIGN, UINT64_MAX, &record)) == 1) {
        const struct record_header *header = record.header;
        at = header->position;
        if (header->unsynced != UINT32_MAX && at - (uint64_t)header->unsynced * RECORD_ALIGN > bad)
            return damage(window->segment, bad, "damage inside what had been made durable", reterr);
    }
    return found;
}

static int scan_all(const struct scan *scan, struct window *window, uint64_t *ret_end,
                    struct errmsg *reterr)
{
    const struct segment *segment = scan->segment;
    const uint64_t from = scan->from, end = scan->end;
    const uint64_t file_end = segment->base + segment_capacity(segment->size);
    if (from > file_end)
        return damage(segment, file_end, "cut off before what had been made durable", reterr);
    uint64_t at = from;
    while (at < end && at < file_end) {
        struct record record;
        int err = read_record(window, at, &record);
        if (err == ERR_CORRUPT)
            break;
        if (err == 0 && at + record.header->size > end)
            return damage(segment, at, "a record reaches into the next segment", reterr);
        if (err == 0)
            err = scan->each(scan->data, &record);
        if (err < 0)
            return err;
        at += record.header->size;
    }
    *ret_end = at;
    if (end == UINT64_MAX)
        return look_behind(window, at, reterr);
    if (at != end)
        return damage(segment, at, "a record is damaged or missing", reterr);
    return 0;
}

int scan_segment(const struct scan *scan, uint64_t *ret_end, struct errmsg *reterr)
{
    const struct segment *segment = scan->segment;
    ASSERT(scan->from >= segment->base);
    struct window window = {.segment = segment};
    const int err = scan_all(scan, &window, ret_end, reterr);
    if (err < 0 && err != ERR_CORRUPT) {
        char name[SEGMENT_NAME_SIZE];
        segment_name(segment->number, name);
        errmsg_wrap(reterr, "could not read segment '%s': %s", name, err_text(err));
    }
    mem_free(window.bytes);
    return err;
}

int scan_chain(const struct segment *segment, const struct segment *next, struct errmsg *reterr)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(next->number, name);
    if (next->prev_number != segment->number) {
        errmsg_wrap(reterr, "segment '%s' at offset 0: segment %" PRIu64 " before it is missing",
                    name, next->prev_number);
        return ERR_CORRUPT;
    }
    if (next->base < segment->base ||
        next->base - segment->base > segment_capacity(segment->size)) {
        char before[SEGMENT_NAME_SIZE];
        segment_name(segment->number, before);
        errmsg_wrap(reterr, "segment '%s' at offset 0: does not begin where '%s' before it ends",
                    name, before);
        return ERR_CORRUPT;
    }
    return 0;
}
