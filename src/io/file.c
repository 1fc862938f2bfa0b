/* Injected faults cost production one branch: `faults_on` stays false until a test first calls
 * file_fail_at, and only from then on are operations counted.
 */
#include "io/file.h"

#include "base/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct fault {
    uint64_t seen;      /* operations since counting began */
    uint64_t countdown; /* 0: none */
    int err;
    bool sticky;
};

static _Atomic bool faults_on;
static pthread_mutex_t faults_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fault faults[FILE_OP_COUNT];

static int fault_count(struct fault *fault)
{
    fault->seen++;
    if (fault->countdown == 0)
        return 0;
    if (fault->countdown > 1) {
        fault->countdown--;
        return 0;
    }
    if (!fault->sticky)
        fault->countdown = 0;
    return -fault->err;
}

static int fault_slow(enum file_op op)
{
    (void)pthread_mutex_lock(&faults_lock);
    const int err_any = fault_count(&faults[FILE_OP_ANY]);
    const int err = fault_count(&faults[op]);
    (void)pthread_mutex_unlock(&faults_lock);
    return err < 0 ? err : err_any;
}

/* 0, or what a test wants this operation to fail with. */
static inline int fault_check(enum file_op op)
{
    if (__builtin_expect(atomic_load_explicit(&faults_on, memory_order_relaxed), 0))
        return fault_slow(op);
    return 0;
}

void file_fail_at(enum file_op op, uint64_t n, int err, bool sticky)
{
    ASSERT((unsigned)op < FILE_OP_COUNT);
    (void)pthread_mutex_lock(&faults_lock);
    struct fault *fault = &faults[op];
    if (n == 0)
        fault->seen = 0;
    fault->countdown = n;
    fault->err = err;
    fault->sticky = sticky;
    (void)pthread_mutex_unlock(&faults_lock);
    atomic_store(&faults_on, true);
}

uint64_t file_op_count(enum file_op op)
{
    ASSERT((unsigned)op < FILE_OP_COUNT);
    (void)pthread_mutex_lock(&faults_lock);
    const uint64_t seen = faults[op].seen;
    (void)pthread_mutex_unlock(&faults_lock);
    return seen;
}

int file_openat(int dir_fd, const char *name, int flags, mode_t mode)
{
    const int err = fault_check(FILE_OP_OPEN);
    if (err < 0)
        return err;
    int fd = -1;
    do {
        fd = openat(dir_fd, name, flags | O_CLOEXEC, mode);
    } while (fd < 0 && errno == EINTR);
    return fd < 0 ? -errno : fd;
}

int file_pread_all(int fd, void *bytes, size_t size, uint64_t offset)
{
    const int err = fault_check(FILE_OP_READ);
    if (err < 0)
        return err;
    uint8_t *at = bytes;
    while (size > 0) {
        const ssize_t got = pread(fd, at, size, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return got < 0 ? -errno : -ENODATA;
        at += got;
        size -= (size_t)got;
        offset += (size_t)got;
    }
    return 0;
}

void file_advise_needed(int fd, uint64_t offset, uint64_t size)
{
    (void)posix_fadvise(fd, (off_t)offset, (off_t)size, POSIX_FADV_WILLNEED);
}

int file_pwritev_all(int fd, struct iovec *iov, int iov_count, uint64_t offset)
{
    const int err = fault_check(FILE_OP_WRITE);
    if (err < 0)
        return err;
    while (iov_count > 0) {
        if (iov->iov_len == 0) {
            iov++;
            iov_count--;
            continue;
        }
        ssize_t put = pwritev(fd, iov, MIN(iov_count, IOV_MAX), (off_t)offset);
        if (put < 0 && errno == EINTR)
            continue;
        if (put <= 0)
            return put < 0 ? -errno : -EIO;
        offset += (size_t)put;
        while (iov_count > 0 && (size_t)put >= iov->iov_len) {
            put -= (ssize_t)iov->iov_len;
            iov++;
            iov_count--;
        }
        if (put > 0) {
            ASSERT(iov_count > 0);
            iov->iov_base = (uint8_t *)iov->iov_base + put;
            iov->iov_len -= (size_t)put;
        }
    }
    return 0;
}

int file_pwrite_all(int fd, const void *bytes, size_t size, uint64_t offset)
{
    struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    return file_pwritev_all(fd, &iov, 1, offset);
}

int file_fdatasync(int fd)
{
    const int err = fault_check(FILE_OP_SYNC);
    if (err < 0)
        return err;
    return fdatasync(fd) < 0 ? -errno : 0;
}

int file_fsync(int fd)
{
    const int err = fault_check(FILE_OP_SYNC);
    if (err < 0)
        return err;
    return fsync(fd) < 0 ? -errno : 0;
}

int file_renameat(int dir_fd, const char *from, const char *to)
{
    const int err = fault_check(FILE_OP_RENAME);
    if (err < 0)
        return err;
    return renameat(dir_fd, from, dir_fd, to) < 0 ? -errno : 0;
}

int file_unlinkat(int dir_fd, const char *name)
{
    const int err = fault_check(FILE_OP_UNLINK);
    if (err < 0)
        return err;
    return unlinkat(dir_fd, name, 0) < 0 ? -errno : 0;
}

int file_size(int fd, uint64_t *ret_size)
{
    struct stat stat;
    if (fstat(fd, &stat) < 0)
        return -errno;
    *ret_size = (uint64_t)stat.st_size;
    return 0;
}

int file_mkdirat(int dir_fd, const char *name, mode_t mode)
{
    const int err = fault_check(FILE_OP_OPEN);
    if (err < 0)
        return err;
    return mkdirat(dir_fd, name, mode) < 0 && errno != EEXIST ? -errno : 0;
}

static int read_whole(int fd, size_t size_max, char **ret_bytes, size_t *ret_size)
{
    uint64_t size = 0;
    int err = file_size(fd, &size);
    if (err < 0)
        return err;
    if (size > size_max)
        return ERR_FULL;
    char *bytes = mem_try_alloc(size + 1);
    if (!bytes)
        return ERR_NOMEM;
    err = file_pread_all(fd, bytes, size, 0);
    if (err < 0) {
        mem_free(bytes);
        return err;
    }
    bytes[size] = '\0';
    *ret_bytes = bytes;
    *ret_size = size;
    return 0;
}

int file_read_whole(int dir_fd, const char *name, size_t size_max, char **ret_bytes,
                    size_t *ret_size)
{
    ASSERT(size_max < SIZE_MAX);
    const int fd = file_openat(dir_fd, name, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    const int err = read_whole(fd, size_max, ret_bytes, ret_size);
    (void)close(fd);
    return err;
}

/* Makes the entry `name` of its directory durable. */
static int sync_parent(int dir_fd, const char *name)
{
    char parent[PATH_MAX] = ".";
    const char *slash = strrchr(name, '/');
    if (slash)
        (void)snprintf(parent, sizeof parent, "%.*s", (int)(slash - name + 1), name);
    const int fd = file_openat(dir_fd, parent, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    const int err = file_fsync(fd);
    (void)close(fd);
    return err;
}

/* Gives fd the owner and mode of the file that it will replace, when there is one. */
static int copy_owner(int fd, int dir_fd, const char *name)
{
    struct stat old, own;
    if (fstatat(dir_fd, name, &old, 0) < 0)
        return errno == ENOENT ? 0 : -errno;
    if (fstat(fd, &own) < 0)
        return -errno;
    if ((old.st_uid != own.st_uid || old.st_gid != own.st_gid) &&
        fchown(fd, old.st_uid, old.st_gid) < 0)
        return -errno;
    return fchmod(fd, old.st_mode & 07777) < 0 ? -errno : 0;
}

static int write_synced(int dir_fd, const char *name, const char *replaced, const void *bytes,
                        size_t size, mode_t mode)
{
    const int fd = file_openat(dir_fd, name, O_WRONLY | O_CREAT | O_TRUNC, mode);
    if (fd < 0)
        return fd;
    int err = copy_owner(fd, dir_fd, replaced);
    if (err == 0)
        err = file_pwrite_all(fd, bytes, size, 0);
    if (err == 0)
        err = file_fdatasync(fd);
    if (close(fd) < 0 && err == 0)
        err = -errno;
    return err;
}

int file_write_whole(int dir_fd, const char *name, const void *bytes, size_t size, mode_t mode)
{
    char temporary[PATH_MAX];
    const int name_size = snprintf(temporary, sizeof temporary, "%s.tmp", name);
    if (name_size < 0 || (size_t)name_size >= sizeof temporary)
        return -ENAMETOOLONG;
    int err = write_synced(dir_fd, temporary, name, bytes, size, mode);
    if (err == 0)
        err = file_renameat(dir_fd, temporary, name);
    if (err < 0) {
        (void)unlinkat(dir_fd, temporary, 0);
        return err;
    }
    return sync_parent(dir_fd, name);
}
