/* Any bytes as an index file: refused, or read without leaving its bounds.
 *
 * The first byte says whether the blocks are to be given sound trailers, so that what lies behind
 * the checksums is reached too.
 */
#include "store/local/sealed_priv.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { START = 4096, END = 1 << 20, SIZE_MAX_USED = 64 * 1024, FOUND_MAX = 64, PLACES_MAX = 100 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct walk {
    struct sealed_queue found[FOUND_MAX];
    uint32_t count;
};

static void on_queue(void *data, const struct sealed_queue *queue)
{
    struct walk *walk = data;
    if (walk->count < FOUND_MAX)
        walk->found[walk->count++] = *queue;
}

/* A directory of this process, removed at its end. */
static char dir[] = "/tmp/tidemq-fuzz-XXXXXX";
static int dir_fd = -1;
static char name[SEALED_NAME_SIZE];

static void remove_dir(void)
{
    (void)unlinkat(dir_fd, name, 0);
    (void)rmdir(dir);
}

static void make_dir(void)
{
    ASSERT(mkdtemp(dir) != NULL);
    dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT(dir_fd >= 0);
    sealed_name(START, END, name);
    (void)atexit(remove_dir);
}

static void write_file(const uint8_t *bytes, size_t size, bool mend)
{
    static uint8_t blocks[SIZE_MAX_USED];
    memcpy(blocks, bytes, size);
    for (size_t n = 0; mend && (n + 1) * SEALED_BLOCK_SIZE <= size; n++)
        sealed_block_finish(blocks + n * SEALED_BLOCK_SIZE, START, (uint32_t)n);
    const int fd = openat(dir_fd, name, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    ASSERT(fd >= 0);
    ASSERT(write(fd, blocks, size) == (ssize_t)size);
    (void)close(fd);
}

static void read_queue(const struct sealed_file *file, const struct sealed_queue *known)
{
    struct sealed_queue queue;
    if (sealed_find(file, known->queue_id, &queue) != 1)
        return;
    struct qplace places[PLACES_MAX];
    const uint32_t count = MIN(queue.count, (uint32_t)PLACES_MAX);
    if (sealed_read(file, &queue, queue.count - count, count, places) == 0) {
        for (uint32_t i = 0; i < count; i++)
            ASSERT(places[i].position >= START && places[i].position < END);
    }
    uint32_t n = 0;
    struct sealed_cursor cursor = {0};
    if (sealed_search(file, &queue, (START + END) / 2, &cursor, &n) == 0)
        ASSERT(n <= queue.count);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    if (size < 1 || size > SIZE_MAX_USED)
        return 0;
    if (dir_fd < 0)
        make_dir();
    write_file(bytes + 1, size - 1, bytes[0] & 1);
    struct walk walk = {0};
    struct sealed_file *file = NULL;
    struct errmsg why = {0};
    const int err = sealed_open(dir_fd, name, on_queue, &walk, &file, &why);
    ASSERT(err == 0 || why.text[0] != '\0');
    if (err < 0)
        return 0;
    for (uint32_t i = 0; i < walk.count; i++) {
        read_queue(file, &walk.found[i]);
        walk.found[i].queue_id++;
        read_queue(file, &walk.found[i]);
    }
    (void)!sealed_check(file, &why);
    (void)sealed_unref(file);
    return 0;
}
