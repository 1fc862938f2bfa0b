/* The recorder: a library to preload that writes the operation log of one directory.
 *
 * Environment: PF_DIR (absolute, must exist) is watched and PF_LOG (absolute, outside PF_DIR)
 * gets the records; without both the library does nothing. The first process to find an empty
 * log also records what PF_DIR holds already, as durable. PF_FAIL, PF_SHORT and PF_NOSYNC inject
 * faults, see README.md. A mistake in these variables ends the process: a fault that is silently
 * not injected would make a test that cannot fail.
 *
 * This file holds the state, the log and the set of watched inodes; recorder_data.c wraps the
 * calls on descriptors, recorder_tree.c those on names, recorder_fault.c decides which fail. Our
 * own system calls go through syscall(), past every wrapper.
 */
#include "recorder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <search.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/syscall.h>
#include <unistd.h>

#define STRIPE_COUNT 64
#define CHUNK_SIZE   (1u << 20)
#define LOG_FD_MIN   1000 /* out of the way of programs that close or count low descriptors */

static struct {
    int log_fd; /* -1: not recording */
    dev_t dev;
    void *watched; /* tree of tsearch(); the keys are the inode numbers themselves */
    pthread_mutex_t watched_lock;
    pthread_mutex_t tree_lock;
    pthread_mutex_t file_locks[STRIPE_COUNT];
    atomic_uint_fast32_t tokens;
} recorder = {
    .log_fd = -1,
    .watched_lock = PTHREAD_MUTEX_INITIALIZER,
    .tree_lock = PTHREAD_MUTEX_INITIALIZER,
};

static void die(const char *what, const char *detail)
{
    char text[PATH_MAX + 128];
    const int size = snprintf(text, sizeof text, "powerfail recorder: %s '%s'\n", what, detail);
    (void)syscall(SYS_write, 2, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1);
    _exit(99);
}

/* --- locks --- */

void recorder_lock_tree(void)
{
    pthread_mutex_lock(&recorder.tree_lock);
}

void recorder_unlock_tree(void)
{
    pthread_mutex_unlock(&recorder.tree_lock);
}

void recorder_lock_file(uint64_t ino)
{
    pthread_mutex_lock(&recorder.file_locks[ino % STRIPE_COUNT]);
}

void recorder_unlock_file(uint64_t ino)
{
    pthread_mutex_unlock(&recorder.file_locks[ino % STRIPE_COUNT]);
}

static void lock_all(void)
{
    recorder_lock_tree();
    for (uint64_t i = 0; i < STRIPE_COUNT; i++)
        recorder_lock_file(i);
    pthread_mutex_lock(&recorder.watched_lock);
}

static void unlock_all(void)
{
    pthread_mutex_unlock(&recorder.watched_lock);
    for (uint64_t i = 0; i < STRIPE_COUNT; i++)
        recorder_unlock_file(i);
    recorder_unlock_tree();
}

/* --- watched inodes --- */

static int compare_inos(const void *a, const void *b)
{
    return ((uintptr_t)a > (uintptr_t)b) - ((uintptr_t)a < (uintptr_t)b);
}

void recorder_watch(uint64_t ino)
{
    pthread_mutex_lock(&recorder.watched_lock);
    if (!tsearch((const void *)(uintptr_t)ino, &recorder.watched, compare_inos))
        die("no memory for", "the set of watched files");
    pthread_mutex_unlock(&recorder.watched_lock);
}

void recorder_forget(uint64_t ino)
{
    pthread_mutex_lock(&recorder.watched_lock);
    (void)tdelete((const void *)(uintptr_t)ino, &recorder.watched, compare_inos);
    pthread_mutex_unlock(&recorder.watched_lock);
}

bool recorder_watches(const struct stat *st)
{
    if (recorder.log_fd < 0 || st->st_dev != recorder.dev)
        return false;
    pthread_mutex_lock(&recorder.watched_lock);
    const bool found = tfind((const void *)(uintptr_t)st->st_ino, &recorder.watched, compare_inos);
    pthread_mutex_unlock(&recorder.watched_lock);
    return found;
}

bool recorder_file(int fd, struct recorder_file *ret_file)
{
    const int err = errno;
    struct stat st;
    const bool found = recorder.log_fd >= 0 && fstat(fd, &st) == 0 &&
                       (S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) && recorder_watches(&st);
    if (found)
        *ret_file = (struct recorder_file){.ino = st.st_ino,
                                           .size = (uint64_t)st.st_size,
                                           .open_flags = (int)syscall(SYS_fcntl, fd, F_GETFL),
                                           .is_dir = S_ISDIR(st.st_mode)};
    errno = err;
    return found;
}

struct recorder_place recorder_place(int dir_fd, const char *path)
{
    struct recorder_place place = {.watched = false};
    if (recorder.log_fd < 0)
        return place;
    const int err = errno;
    size_t end = strlen(path);
    while (end > 1 && path[end - 1] == '/')
        end--;
    size_t start = end;
    while (start > 0 && path[start - 1] != '/')
        start--;

    char dir[PATH_MAX] = ".";
    struct stat st;
    if (start < sizeof dir && end - start <= NAME_MAX) {
        if (start > 0) {
            memcpy(dir, path, start);
            dir[start] = '\0';
        }
        place.name = path + start;
        place.name_size = (uint16_t)(end - start);
        place.watched = end > start && fstatat(dir_fd, dir, &st, 0) == 0 && recorder_watches(&st);
        if (place.watched)
            place.dir_ino = st.st_ino;
    }
    errno = err;
    return place;
}

int recorder_log_fd(void)
{
    return recorder.log_fd;
}

/* --- the log --- */

static void append(struct iovec *iov, int count)
{
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += iov[i].iov_len;
    const long written = syscall(SYS_writev, recorder.log_fd, iov, count);
    if (written < 0 || (size_t)written != size)
        die("could not append to the log:", written < 0 ? strerror(errno) : "short write");
}

void recorder_emit(struct pf_record head, const char *name1, size_t name1_size, const char *name2,
                   size_t name2_size)
{
    const int err = errno;
    head.magic = PF_MAGIC;
    head.name1_size = (uint16_t)name1_size;
    head.name2_size = (uint16_t)name2_size;
    struct iovec iov[] = {
        {&head, sizeof head}, {(char *)name1, name1_size}, {(char *)name2, name2_size}};
    append(iov, 3);
    errno = err;
}

void recorder_emit_place(struct pf_record head, const struct recorder_place *place)
{
    head.arg1 = place->dir_ino;
    recorder_emit(head, place->name, place->name_size, NULL, 0);
}

void recorder_emit_write(uint64_t ino, uint64_t offset, uint64_t token, const struct iovec *iov,
                         size_t size)
{
    const int err = errno;
    while (size > 0) {
        struct pf_record head = {
            .magic = PF_MAGIC, .op = PF_WRITE, .ino = ino, .arg1 = offset, .arg2 = token};
        struct iovec parts[IOV_MAX] = {{&head, sizeof head}};
        int count = 1;
        for (; count < IOV_MAX && size > 0; iov++, count++) {
            const size_t part = iov->iov_len < size ? iov->iov_len : size;
            parts[count] = (struct iovec){iov->iov_base, part};
            head.data_size += part;
            size -= part;
        }
        append(parts, count);
        offset += head.data_size;
    }
    errno = err;
}

void recorder_emit_range(int fd, uint64_t ino, uint64_t offset, uint64_t size)
{
    char *chunk = malloc(CHUNK_SIZE);
    if (!chunk)
        die("no memory for", "copying a file into the log");
    const uint64_t end = offset + size;
    while (offset < end) {
        const off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
        if (data < 0 || (uint64_t)data >= end)
            break;
        offset = (uint64_t)data;
        const uint64_t left = end - offset;
        const ssize_t got =
            pread(fd, chunk, left < CHUNK_SIZE ? (size_t)left : CHUNK_SIZE, (off_t)offset);
        if (got <= 0)
            break;
        const struct iovec iov = {chunk, (size_t)got};
        recorder_emit_write(ino, offset, 0, &iov, (size_t)got);
        offset += (uint64_t)got;
    }
    free(chunk);
}

uint64_t recorder_token(void)
{
    const uint64_t pid = (uint64_t)getpid();
    return pid << 32 | (atomic_fetch_add(&recorder.tokens, 1) + 1);
}

/* --- files that were there before us --- */

static void adopt_content(int dir_fd, const char *name, const struct stat *st)
{
    const int fd = (int)syscall(SYS_openat, dir_fd, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
    if (fd < 0)
        die("could not read", name);
    recorder_emit_range(fd, st->st_ino, 0, (uint64_t)st->st_size);
    recorder_emit(
        (struct pf_record){.op = PF_TRUNCATE, .ino = st->st_ino, .arg1 = (uint64_t)st->st_size},
        NULL, 0, NULL, 0);
    (void)syscall(SYS_close, fd);
}

static void walk(int parent_fd, const char *path, uint64_t dir_ino, bool emit);

/* Watches what `name` in `dir_fd` is, with records when `emit`; links, devices and sockets are
 * no files of ours. */
static void adopt(int dir_fd, const char *name, const struct recorder_place *place, bool emit)
{
    struct stat st;
    if (fstatat(dir_fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || st.st_dev != recorder.dev ||
        !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)))
        return;
    const bool known = S_ISREG(st.st_mode) && recorder_watches(&st);
    recorder_watch(st.st_ino);
    if (emit && known) {
        recorder_emit_place((struct pf_record){.op = PF_LINK, .ino = st.st_ino}, place);
        return;
    }
    if (emit)
        recorder_emit_place((struct pf_record){.op = PF_CREATE,
                                               .ino = st.st_ino,
                                               .arg2 = st.st_mode & ALLPERMS,
                                               .flags = S_ISDIR(st.st_mode) ? PF_DIRECTORY : 0},
                            place);
    if (S_ISDIR(st.st_mode))
        walk(dir_fd, name, st.st_ino, emit);
    else if (emit)
        adopt_content(dir_fd, name, &st);
}

static void walk(int parent_fd, const char *path, uint64_t dir_ino, bool emit)
{
    const int fd = (int)syscall(SYS_openat, parent_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (!dir)
        die("could not read the directory", path);
    for (const struct dirent *entry; (entry = readdir(dir));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
            continue;
        const struct recorder_place place = {.dir_ino = dir_ino,
                                             .name = entry->d_name,
                                             .name_size = (uint16_t)strlen(entry->d_name),
                                             .watched = true};
        adopt(fd, entry->d_name, &place, emit);
    }
    closedir(dir);
}

void recorder_adopt(int dir_fd, const char *path, const struct recorder_place *place)
{
    const int err = errno;
    adopt(dir_fd, path, place, true);
    errno = err;
}

/* --- start --- */

static int open_log(const char *path)
{
    const int fd =
        (int)syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0)
        die("could not open the log", path);
    const int high = (int)syscall(SYS_fcntl, fd, F_DUPFD_CLOEXEC, LOG_FD_MIN);
    if (high < 0)
        return fd;
    (void)syscall(SYS_close, fd);
    return high;
}

__attribute__((constructor)) static void start(void)
{
    const char *dir = getenv("PF_DIR");
    const char *log = getenv("PF_LOG");
    if (!dir && !log)
        return;
    if (!dir || !log || dir[0] != '/' || log[0] != '/')
        die("PF_DIR and PF_LOG must both be absolute, PF_DIR is", dir ? dir : "");
    char root[PATH_MAX];
    char log_root[PATH_MAX];
    struct stat st;
    if (!realpath(dir, root) || stat(root, &st) != 0 || !S_ISDIR(st.st_mode))
        die("PF_DIR must be a directory:", dir);
    const int log_fd = open_log(log);
    const size_t root_size = strlen(root);
    if (realpath(log, log_root) && strncmp(log_root, root, root_size) == 0 &&
        log_root[root_size] == '/')
        die("PF_LOG must not lie inside PF_DIR:", log);

    for (int i = 0; i < STRIPE_COUNT; i++)
        pthread_mutex_init(&recorder.file_locks[i], NULL);
    pthread_atfork(lock_all, unlock_all, unlock_all);
    /* Of several processes that start at once, one records what is there. */
    (void)flock(log_fd, LOCK_EX);
    struct stat log_st;
    const bool first = fstat(log_fd, &log_st) == 0 && log_st.st_size == 0;
    recorder.dev = st.st_dev;
    recorder.log_fd = log_fd;
    recorder_watch(st.st_ino);
    recorder_emit((struct pf_record){.op = PF_START,
                                     .ino = st.st_ino,
                                     .arg1 = (uint64_t)getpid(),
                                     .arg2 = st.st_mode & ALLPERMS},
                  root, root_size, NULL, 0);
    walk(AT_FDCWD, root, st.st_ino, first);
    if (first)
        recorder_emit((struct pf_record){.op = PF_BASE_END}, NULL, 0, NULL, 0);
    (void)flock(log_fd, LOCK_UN);
}

RECORDER_EXPORT void pf_mark(uint64_t value);

/* For the program under test, which finds it by dlsym(RTLD_DEFAULT, "pf_mark"): from here on it
 * promises what `value` means to its checker. Thread: any. */
void pf_mark(uint64_t value)
{
    if (recorder.log_fd >= 0)
        recorder_emit((struct pf_record){.op = PF_MARK, .arg1 = value}, NULL, 0, NULL, 0);
}
