/* Any bytes as LMDB's file: refused, or read without leaving their bounds; rows are handed out only
 * with the checksums they carry.
 */
#include "store/local/metawalk.h"

#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static void on_found(void *data, uint64_t offset, const char *what)
{
    (void)offset;
    (void)what;
    ++*(uint64_t *)data;
}

/* Touches every byte of a row. */
static void on_row(void *data, enum metarow_table table, struct slice key, struct slice value)
{
    (void)data;
    volatile uint64_t check = metarow_check(table, key, value);
    (void)check;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    const int fd = memfd_create("metawalk", MFD_CLOEXEC);
    ASSERT(fd >= 0);
    ASSERT(write(fd, bytes, size) == (ssize_t)size);
    uint64_t count = 0;
    const struct metawalk_events events = {.row = on_row, .found = on_found, .data = &count};
    struct metawalk_summary summary = {0};
    struct errmsg why = {0};
    const int err = metawalk_verify(fd, &events, &summary, &why);
    ASSERT((err == ERR_CORRUPT) == (count > 0));
    for (int which = 0; which < 2; which++) {
        struct metawalk_salvage salvage;
        (void)!metawalk_salvage(fd, which, &events, &salvage);
    }
    (void)close(fd);
    return 0;
}
