/* Files: thin wrappers that retry EINTR and short transfers, with hooks for injected faults.
 *
 * Every function returns >= 0 or -errno. Faults: file_fail_at for the current process, tests only.
 * Thread: any.
 */
#pragma once

#include "base/base.h"

#include <sys/types.h>
#include <sys/uio.h>

MUST_CHECK int file_openat(int dir_fd, const char *name, int flags,
                           mode_t mode); /* adds O_CLOEXEC */
MUST_CHECK int file_pread_all(int fd, void *bytes, size_t size,
                              uint64_t offset); /* -ENODATA: end of file met first */
/* Says that these bytes will be read soon. */
void file_advise_needed(int fd, uint64_t offset, uint64_t size);
/* Writes all or fails; a short write is continued; iov is consumed. */
MUST_CHECK int file_pwritev_all(int fd, struct iovec *iov, int iov_count, uint64_t offset);
MUST_CHECK int file_pwrite_all(int fd, const void *bytes, size_t size, uint64_t offset);
MUST_CHECK int file_fdatasync(int fd);
MUST_CHECK int file_fsync(int fd);
MUST_CHECK int file_renameat(int dir_fd, const char *from, const char *to);
MUST_CHECK int file_unlinkat(int dir_fd, const char *name);
MUST_CHECK int file_size(int fd, uint64_t *ret_size);
MUST_CHECK int file_mkdirat(int dir_fd, const char *name, mode_t mode); /* 0 also when it exists */
/* Reads a whole small file into new memory (mem_free) with a NUL behind it. ERR_FULL beyond
 * size_max. */
MUST_CHECK int file_read_whole(int dir_fd, const char *name, size_t size_max, char **ret_bytes,
                               size_t *ret_size);
/* Writes name atomically: temporary file, fdatasync, rename, fsync of the directory. A file that is
 * there keeps its mode and owner, or nothing is written; `mode` is for a new one. */
MUST_CHECK int file_write_whole(int dir_fd, const char *name, const void *bytes, size_t size,
                                mode_t mode);

enum file_op {
    FILE_OP_OPEN,
    FILE_OP_READ,
    FILE_OP_WRITE,
    FILE_OP_SYNC,
    FILE_OP_RENAME,
    FILE_OP_UNLINK,
    FILE_OP_ANY,
    FILE_OP_COUNT
};
/* Makes the nth operation of that kind from now fail with -err, once, or for good when `sticky`.
 * n = 0 switches it off. */
void file_fail_at(enum file_op op, uint64_t n, int err, bool sticky);
/* Operations of that kind seen since the last file_fail_at(…, 0, …). */
uint64_t file_op_count(enum file_op op);
