/* Recorded calls on descriptors: writes, sizes, syncs, and those that escape recording.
 *
 * A write is recorded after the kernel took it, so that a record means at least that much. A
 * sync gets two records: it covers what was recorded before its PF_SYNC_BEGIN, and only once its
 * PF_SYNC_END is there; writes in between are not covered. A write through an O_DSYNC descriptor
 * (or with RWF_DSYNC) gets a PF_DURABLE after it: a crash between the two may tear it.
 */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/uio.h>
#include <unistd.h>

_Static_assert(sizeof(off_t) == sizeof(off64_t), "the 64-bit twins are aliases of the plain calls");

struct write_call {
    const char *name;
    int fd;
    const struct iovec *iov;
    int iov_count;
    bool positional;
    off_t offset; /* meaningful when positional */
    int flags;    /* RWF_* */
};

/* --- writes --- */

/* Where the last `size` bytes that the kernel took through `fd` have gone. */
static uint64_t written_offset(int fd, bool appended, size_t size)
{
    struct stat st;
    const off_t end = appended && fstat(fd, &st) == 0 ? st.st_size : lseek(fd, 0, SEEK_CUR);
    return (uint64_t)end - size;
}

static ssize_t record_write(const struct recorder_file *file, const struct write_call *call)
{
    if (call->iov_count < 1 || call->iov_count > IOV_MAX)
        return REAL(pwritev2)(call->fd, call->iov, call->iov_count, call->offset, call->flags);
    if (recorder_fails(call->name, RECORDER_WRITE))
        return -1;
    size_t size = 0;
    for (int i = 0; i < call->iov_count; i++)
        size += call->iov[i].iov_len;
    size = recorder_shorten(file, size);
    struct iovec iov[IOV_MAX];
    int count = 0;
    for (size_t left = size; left > 0; count++) {
        iov[count] = call->iov[count];
        if (iov[count].iov_len > left)
            iov[count].iov_len = left;
        left -= iov[count].iov_len;
    }

    const bool durable = (file->open_flags & O_DSYNC || call->flags & (RWF_DSYNC | RWF_SYNC)) &&
                         !recorder_ignores_sync(RECORDER_SYNC_WRITE);
    const uint64_t token = durable ? recorder_token() : 0;
    const bool append = file->open_flags & O_APPEND || call->flags & RWF_APPEND;
    recorder_lock_file(file->ino);
    const ssize_t written =
        REAL(pwritev2)(call->fd, iov, count, call->positional ? call->offset : -1, call->flags);
    if (written > 0) {
        const uint64_t offset = call->positional && !append
                                    ? (uint64_t)call->offset
                                    : written_offset(call->fd, append, (size_t)written);
        recorder_emit_write(file->ino, offset, token, iov, (size_t)written);
    }
    recorder_unlock_file(file->ino);
    if (written > 0 && durable)
        recorder_emit((struct pf_record){.op = PF_DURABLE, .ino = file->ino, .arg1 = token}, NULL,
                      0, NULL, 0);
    return written;
}

RECORDER_EXPORT ssize_t write(int fd, const void *data, size_t size)
{
    struct recorder_file file;
    if (!recorder_file(fd, &file))
        return REAL(write)(fd, data, size);
    const struct iovec iov = {(void *)data, size};
    return record_write(
        &file, &(struct write_call){.name = "write", .fd = fd, .iov = &iov, .iov_count = 1});
}

RECORDER_EXPORT ssize_t writev(int fd, const struct iovec *iov, int iov_count)
{
    struct recorder_file file;
    if (!recorder_file(fd, &file))
        return REAL(writev)(fd, iov, iov_count);
    return record_write(&file, &(struct write_call){
                                   .name = "writev", .fd = fd, .iov = iov, .iov_count = iov_count});
}

RECORDER_EXPORT ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    struct recorder_file file;
    if (offset < 0 || !recorder_file(fd, &file))
        return REAL(pwrite)(fd, data, size, offset);
    const struct iovec iov = {(void *)data, size};
    return record_write(&file, &(struct write_call){.name = "pwrite",
                                                    .fd = fd,
                                                    .iov = &iov,
                                                    .iov_count = 1,
                                                    .positional = true,
                                                    .offset = offset});
}

RECORDER_EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int iov_count, off_t offset)
{
    struct recorder_file file;
    if (offset < 0 || !recorder_file(fd, &file))
        return REAL(pwritev)(fd, iov, iov_count, offset);
    return record_write(&file, &(struct write_call){.name = "pwritev",
                                                    .fd = fd,
                                                    .iov = iov,
                                                    .iov_count = iov_count,
                                                    .positional = true,
                                                    .offset = offset});
}

RECORDER_EXPORT ssize_t pwritev2(int fd, const struct iovec *iov, int iov_count, off_t offset,
                                 int flags)
{
    struct recorder_file file;
    if (offset < -1 || !recorder_file(fd, &file))
        return REAL(pwritev2)(fd, iov, iov_count, offset, flags);
    return record_write(&file, &(struct write_call){.name = "pwritev2",
                                                    .fd = fd,
                                                    .iov = iov,
                                                    .iov_count = iov_count,
                                                    .positional = offset >= 0,
                                                    .offset = offset,
                                                    .flags = flags});
}

RECORDER_ALIAS("pwrite") ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset);
RECORDER_ALIAS("pwritev")
ssize_t pwritev64(int fd, const struct iovec *iov, int iov_count, off64_t offset);
RECORDER_ALIAS("pwritev2")
ssize_t pwritev64v2(int fd, const struct iovec *iov, int iov_count, off64_t offset, int flags);

/* --- copies inside the kernel: the bytes are read back --- */

static void record_copy(const struct recorder_file *file, int fd, const off_t *offset_end,
                        size_t size)
{
    const int err = errno;
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    const int copy = REAL(open)(path, O_RDONLY | O_CLOEXEC);
    const uint64_t offset = offset_end ? (uint64_t)*offset_end - size
                                       : written_offset(fd, file->open_flags & O_APPEND, size);
    recorder_emit_range(copy, file->ino, offset, size);
    (void)REAL(close)(copy);
    errno = err;
}

RECORDER_EXPORT ssize_t sendfile(int out_fd, int in_fd, off_t *offset, size_t size)
{
    struct recorder_file file;
    if (!recorder_file(out_fd, &file))
        return REAL(sendfile)(out_fd, in_fd, offset, size);
    if (recorder_fails("sendfile", RECORDER_WRITE))
        return -1;
    recorder_lock_file(file.ino);
    const ssize_t copied = REAL(sendfile)(out_fd, in_fd, offset, size);
    if (copied > 0)
        record_copy(&file, out_fd, NULL, (size_t)copied);
    recorder_unlock_file(file.ino);
    return copied;
}

RECORDER_ALIAS("sendfile")
ssize_t sendfile64(int out_fd, int in_fd, off64_t *offset, size_t size);

RECORDER_EXPORT ssize_t copy_file_range(int in_fd, off64_t *in_offset, int out_fd,
                                        off64_t *out_offset, size_t size, unsigned flags)
{
    struct recorder_file file;
    if (!recorder_file(out_fd, &file))
        return REAL(copy_file_range)(in_fd, in_offset, out_fd, out_offset, size, flags);
    if (recorder_fails("copy_file_range", RECORDER_WRITE))
        return -1;
    recorder_lock_file(file.ino);
    const ssize_t copied = REAL(copy_file_range)(in_fd, in_offset, out_fd, out_offset, size, flags);
    if (copied > 0)
        record_copy(&file, out_fd, out_offset, (size_t)copied);
    recorder_unlock_file(file.ino);
    return copied;
}

RECORDER_EXPORT ssize_t splice(int in_fd, off64_t *in_offset, int out_fd, off64_t *out_offset,
                               size_t size, unsigned flags)
{
    struct recorder_file file;
    if (!recorder_file(out_fd, &file))
        return REAL(splice)(in_fd, in_offset, out_fd, out_offset, size, flags);
    if (recorder_fails("splice", RECORDER_WRITE))
        return -1;
    recorder_lock_file(file.ino);
    const ssize_t copied = REAL(splice)(in_fd, in_offset, out_fd, out_offset, size, flags);
    if (copied > 0)
        record_copy(&file, out_fd, out_offset, (size_t)copied);
    recorder_unlock_file(file.ino);
    return copied;
}

/* --- sizes --- */

static void emit_number(enum pf_op op, uint64_t ino, uint64_t arg1, uint64_t arg2)
{
    recorder_emit((struct pf_record){.op = (uint16_t)op, .ino = ino, .arg1 = arg1, .arg2 = arg2},
                  NULL, 0, NULL, 0);
}

static void emit_named(enum pf_op op, uint64_t ino, const char *name, size_t name_size)
{
    recorder_emit((struct pf_record){.op = (uint16_t)op, .ino = ino}, name, name_size, NULL, 0);
}

#define EMIT_NAMED(op, ino, name) emit_named(op, ino, name, sizeof(name) - 1)

RECORDER_EXPORT int ftruncate(int fd, off_t size)
{
    struct recorder_file file;
    if (!recorder_file(fd, &file))
        return REAL(ftruncate)(fd, size);
    if (recorder_fails("ftruncate", RECORDER_OTHER))
        return -1;
    recorder_lock_file(file.ino);
    const int result = REAL(ftruncate)(fd, size);
    if (result == 0)
        emit_number(PF_TRUNCATE, file.ino, (uint64_t)size, 0);
    recorder_unlock_file(file.ino);
    return result;
}

RECORDER_EXPORT int truncate(const char *path, off_t size)
{
    struct stat st;
    if (stat(path, &st) != 0 || !recorder_watches(&st))
        return REAL(truncate)(path, size);
    if (recorder_fails("truncate", RECORDER_OTHER))
        return -1;
    recorder_lock_file(st.st_ino);
    const int result = REAL(truncate)(path, size);
    if (result == 0)
        emit_number(PF_TRUNCATE, st.st_ino, (uint64_t)size, 0);
    recorder_unlock_file(st.st_ino);
    return result;
}

static void emit_fallocate(uint64_t ino, int mode, off_t offset, off_t size)
{
    const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE;
    if (mode & ~known) {
        EMIT_NAMED(PF_UNSEEN, ino, "fallocate");
        return;
    }
    if (!(mode & FALLOC_FL_KEEP_SIZE))
        emit_number(PF_EXTEND, ino, (uint64_t)(offset + size), 0);
    if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
        emit_number(PF_ZERO, ino, (uint64_t)offset, (uint64_t)size);
}

RECORDER_EXPORT int fallocate(int fd, int mode, off_t offset, off_t size)
{
    struct recorder_file file;
    if (!recorder_file(fd, &file))
        return REAL(fallocate)(fd, mode, offset, size);
    if (recorder_fails("fallocate", RECORDER_OTHER))
        return -1;
    recorder_lock_file(file.ino);
    const int result = REAL(fallocate)(fd, mode, offset, size);
    if (result == 0)
        emit_fallocate(file.ino, mode, offset, size);
    recorder_unlock_file(file.ino);
    return result;
}

/* Returns the error instead of setting errno, as POSIX has it. */
RECORDER_EXPORT int posix_fallocate(int fd, off_t offset, off_t size)
{
    struct recorder_file file;
    if (!recorder_file(fd, &file))
        return REAL(posix_fallocate)(fd, offset, size);
    if (recorder_fails("posix_fallocate", RECORDER_OTHER))
        return errno;
    recorder_lock_file(file.ino);
    const int result = REAL(posix_fallocate)(fd, offset, size);
    if (result == 0)
        emit_number(PF_EXTEND, file.ino, (uint64_t)(offset + size), 0);
    recorder_unlock_file(file.ino);
    return result;
}

RECORDER_ALIAS("ftruncate") int ftruncate64(int fd, off64_t size);
RECORDER_ALIAS("truncate") int truncate64(const char *path, off64_t size);
RECORDER_ALIAS("fallocate") int fallocate64(int fd, int mode, off64_t offset, off64_t size);
RECORDER_ALIAS("posix_fallocate") int posix_fallocate64(int fd, off64_t offset, off64_t size);

/* --- syncs --- */

/* `file` NULL: everything is synced. */
static int record_sync(const struct recorder_file *file, const char *name, int (*sync_fn)(int),
                       int fd)
{
    const uint64_t ino = file ? file->ino : 0;
    const bool fails = recorder_fails(name, RECORDER_SYNC);
    if (recorder_ignores_sync(!file          ? RECORDER_SYNC_ALL
                              : file->is_dir ? RECORDER_SYNC_DIR
                                             : RECORDER_SYNC_FILE))
        return fails ? -1 : 0;
    const uint64_t token = recorder_token();
    emit_number(PF_SYNC_BEGIN, ino, token, 0);
    const int result = fails ? -1 : sync_fn(fd);
    emit_number(PF_SYNC_END, ino, token, result == 0 ? 0 : (uint64_t)errno);
    return result;
}

RECORDER_EXPORT int fsync(int fd)
{
    struct recorder_file file;
    if (!recorder_file(fd, &file))
        return REAL(fsync)(fd);
    return record_sync(&file, "fsync", REAL(fsync), fd);
}

RECORDER_EXPORT int fdatasync(int fd)
{
    struct recorder_file file;
    if (!recorder_file(fd, &file))
        return REAL(fdatasync)(fd);
    return record_sync(&file, "fdatasync", REAL(fdatasync), fd);
}

RECORDER_EXPORT int syncfs(int fd)
{
    struct recorder_file file;
    if (!recorder_file(fd, &file))
        return REAL(syncfs)(fd);
    return record_sync(NULL, "syncfs", REAL(syncfs), fd);
}

static int sync_all(int fd)
{
    (void)fd;
    REAL(sync)();
    return 0;
}

RECORDER_EXPORT void sync(void)
{
    if (recorder_log_fd() >= 0)
        (void)record_sync(NULL, "sync", sync_all, -1);
    else
        (void)sync_all(-1);
}

/* Starts write-back but promises nothing: neither the device's cache nor the size is flushed. */
RECORDER_EXPORT int sync_file_range(int fd, off64_t offset, off64_t size, unsigned flags)
{
    struct recorder_file file;
    if (recorder_file(fd, &file))
        EMIT_NAMED(PF_HINT, file.ino, "sync_file_range");
    return REAL(sync_file_range)(fd, offset, size, flags);
}

/* --- ways around us --- */

RECORDER_EXPORT void *mmap(void *address, size_t size, int protection, int flags, int fd,
                           off_t offset)
{
    struct recorder_file file;
    const bool shared = (flags & MAP_TYPE) != MAP_PRIVATE && !(flags & MAP_ANONYMOUS);
    if (shared && protection & PROT_WRITE && recorder_file(fd, &file))
        EMIT_NAMED(PF_UNSEEN, file.ino, "mmap");
    return REAL(mmap)(address, size, protection, flags, fd, offset);
}

RECORDER_ALIAS("mmap")
void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset);

RECORDER_EXPORT FILE *fdopen(int fd, const char *mode)
{
    struct recorder_file file;
    if (recorder_file(fd, &file) && (file.open_flags & O_ACCMODE) != O_RDONLY)
        EMIT_NAMED(PF_UNSEEN, file.ino, "fdopen");
    return REAL(fdopen)(fd, mode);
}

/* --- the log's own descriptor stays open --- */

RECORDER_EXPORT int close(int fd)
{
    if (fd >= 0 && fd == recorder_log_fd()) {
        errno = EBADF;
        return -1;
    }
    return REAL(close)(fd);
}

RECORDER_EXPORT int close_range(unsigned first, unsigned last, int flags)
{
    const unsigned log_fd = (unsigned)recorder_log_fd();
    if (log_fd > INT_MAX || log_fd < first || log_fd > last)
        return REAL(close_range)(first, last, flags);
    const int below = log_fd > first ? REAL(close_range)(first, log_fd - 1, flags) : 0;
    const int above = log_fd < last ? REAL(close_range)(log_fd + 1, last, flags) : 0;
    return below != 0 ? below : above;
}

RECORDER_EXPORT void closefrom(int first)
{
    (void)close_range(first > 0 ? (unsigned)first : 0, ~0U, 0);
}
