/* Recorded calls on names: open, rename, unlink, link, mkdir and their variants.
 *
 * Each runs under the tree lock together with its record, so that the log holds directory
 * operations in their real order. A path matters when its directory is watched, whatever way the
 * path is written. What appears in a watched directory without a record of its making (by stdio,
 * or moved in from outside) is adopted: recorded as made here and now.
 */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Declared by glibc only when fortified. */
int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir_fd, const char *path, int flags);
int __openat64_2(int dir_fd, const char *path, int flags);

/* --- open --- */

static bool creates(int flags)
{
    return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE;
}

/* Records what an open through `place` did; `existed`: its name was there before. */
static void record_opened(int fd, int dir_fd, const char *path, int flags,
                          const struct recorder_place *place, bool existed)
{
    const int err = errno;
    struct stat st;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
        const struct pf_record created = {
            .op = PF_CREATE, .ino = st.st_ino, .arg2 = st.st_mode & ALLPERMS};
        if ((flags & O_TMPFILE) == O_TMPFILE) {
            recorder_watch(st.st_ino);
            recorder_emit(created, NULL, 0, NULL, 0);
        } else if (!existed) {
            recorder_watch(st.st_ino);
            recorder_emit_place(created, place);
        } else if (!recorder_watches(&st)) {
            recorder_adopt(dir_fd, path, place);
        } else if (flags & O_TRUNC) {
            recorder_emit((struct pf_record){.op = PF_TRUNCATE, .ino = st.st_ino}, NULL, 0, NULL,
                          0);
        }
    }
    errno = err;
}

static bool exists(int dir_fd, const char *path)
{
    const int err = errno;
    struct stat st;
    const bool found = fstatat(dir_fd, path, &st, 0) == 0;
    errno = err;
    return found;
}

static int record_open(const char *name, int dir_fd, const char *path, int flags, mode_t mode)
{
    struct recorder_place place = recorder_place(dir_fd, path);
    if ((flags & O_TMPFILE) == O_TMPFILE) {
        struct stat st;
        place.watched = fstatat(dir_fd, path, &st, 0) == 0 && recorder_watches(&st);
    }
    if (!place.watched)
        return REAL(openat)(dir_fd, path, flags, mode);
    if (recorder_fails(name, RECORDER_OTHER))
        return -1;
    recorder_lock_tree();
    const bool existed = exists(dir_fd, path);
    const int fd = REAL(openat)(dir_fd, path, flags, mode);
    if (fd >= 0)
        record_opened(fd, dir_fd, path, flags, &place, existed);
    recorder_unlock_tree();
    return fd;
}

#define OPEN_MODE(flags)                                                                           \
    ({                                                                                             \
        mode_t mode_ = 0;                                                                          \
        if (creates(flags)) {                                                                      \
            va_list args_;                                                                         \
            va_start(args_, flags);                                                                \
            mode_ = va_arg(args_, mode_t);                                                         \
            va_end(args_);                                                                         \
        }                                                                                          \
        mode_;                                                                                     \
    })

RECORDER_EXPORT int open(const char *path, int flags, ...)
{
    return record_open("open", AT_FDCWD, path, flags, OPEN_MODE(flags));
}

RECORDER_EXPORT int openat(int dir_fd, const char *path, int flags, ...)
{
    return record_open("openat", dir_fd, path, flags, OPEN_MODE(flags));
}

RECORDER_EXPORT int creat(const char *path, mode_t mode)
{
    return record_open("creat", AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

RECORDER_EXPORT int __open_2(const char *path, int flags)
{
    return record_open("open", AT_FDCWD, path, flags, 0);
}

RECORDER_EXPORT int __openat_2(int dir_fd, const char *path, int flags)
{
    return record_open("openat", dir_fd, path, flags, 0);
}

RECORDER_ALIAS("open") int open64(const char *path, int flags, ...);
RECORDER_ALIAS("openat") int openat64(int dir_fd, const char *path, int flags, ...);
RECORDER_ALIAS("creat") int creat64(const char *path, mode_t mode);
RECORDER_ALIAS("__open_2") int __open64_2(const char *path, int flags);
RECORDER_ALIAS("__openat_2") int __openat64_2(int dir_fd, const char *path, int flags);

/* libc chooses the name and opens the file by itself; it is recorded right after. */
static int record_made(int fd, const char *path)
{
    if (fd < 0)
        return fd;
    recorder_lock_tree();
    const struct recorder_place place = recorder_place(AT_FDCWD, path);
    if (place.watched)
        record_opened(fd, AT_FDCWD, path, O_CREAT, &place, false);
    recorder_unlock_tree();
    return fd;
}

RECORDER_EXPORT int mkstemp(char *path)
{
    return record_made(REAL(mkstemp)(path), path);
}

RECORDER_EXPORT int mkostemp(char *path, int flags)
{
    return record_made(REAL(mkostemp)(path, flags), path);
}

RECORDER_EXPORT int mkstemps(char *path, int suffix_size)
{
    return record_made(REAL(mkstemps)(path, suffix_size), path);
}

RECORDER_EXPORT int mkostemps(char *path, int suffix_size, int flags)
{
    return record_made(REAL(mkostemps)(path, suffix_size, flags), path);
}

RECORDER_ALIAS("mkstemp") int mkstemp64(char *path);
RECORDER_ALIAS("mkostemp") int mkostemp64(char *path, int flags);
RECORDER_ALIAS("mkstemps") int mkstemps64(char *path, int suffix_size);
RECORDER_ALIAS("mkostemps") int mkostemps64(char *path, int suffix_size, int flags);

/* stdio writes from inside libc, past us. */
RECORDER_EXPORT FILE *fopen(const char *path, const char *mode)
{
    const struct recorder_place place = recorder_place(AT_FDCWD, path);
    if (place.watched && strpbrk(mode, "wa+"))
        recorder_emit((struct pf_record){.op = PF_UNSEEN}, "fopen", 5, NULL, 0);
    return REAL(fopen)(path, mode);
}

RECORDER_ALIAS("fopen") FILE *fopen64(const char *path, const char *mode);

/* --- rename --- */

/* One end of a rename or the victim of an unlink, as it was before the call. */
struct end {
    int dir_fd;
    const char *path;
    struct recorder_place place;
    bool found;
    struct stat st;
};

static struct end end_at(int dir_fd, const char *path)
{
    const int err = errno;
    struct end end = {.dir_fd = dir_fd, .path = path, .place = recorder_place(dir_fd, path)};
    end.found = fstatat(dir_fd, path, &end.st, AT_SYMLINK_NOFOLLOW) == 0;
    errno = err;
    return end;
}

/* The name of `end` is gone; with its last name a file is not ours any more. */
static void forget_name(const struct end *end)
{
    if (end->found && (S_ISDIR(end->st.st_mode) || end->st.st_nlink == 1))
        recorder_forget(end->st.st_ino);
}

static void record_renamed(const struct end *from, const struct end *to, unsigned flags)
{
    const bool exchange = flags & RENAME_EXCHANGE;
    if (from->found && to->found && from->st.st_ino == to->st.st_ino &&
        from->st.st_dev == to->st.st_dev)
        return; /* two names of one file: POSIX leaves both */
    if (from->place.watched && to->place.watched) {
        if (!exchange)
            forget_name(to);
        recorder_emit((struct pf_record){.op = PF_RENAME,
                                         .flags = exchange ? PF_EXCHANGE : 0,
                                         .arg1 = from->place.dir_ino,
                                         .arg2 = to->place.dir_ino},
                      from->place.name, from->place.name_size, to->place.name, to->place.name_size);
        return;
    }
    if (from->place.watched)
        recorder_emit_place((struct pf_record){.op = PF_UNLINK}, &from->place);
    if (from->place.watched && exchange)
        recorder_adopt(from->dir_fd, from->path, &from->place);
    if (to->place.watched) {
        forget_name(to);
        recorder_adopt(to->dir_fd, to->path, &to->place);
    }
}

static int record_rename(const char *name, int from_fd, const char *from, int to_fd, const char *to,
                         unsigned flags)
{
    if (!recorder_place(from_fd, from).watched && !recorder_place(to_fd, to).watched)
        return REAL(renameat2)(from_fd, from, to_fd, to, flags);
    if (recorder_fails(name, RECORDER_OTHER))
        return -1;
    recorder_lock_tree();
    const struct end from_end = end_at(from_fd, from);
    const struct end to_end = end_at(to_fd, to);
    const int result = REAL(renameat2)(from_fd, from, to_fd, to, flags);
    if (result == 0)
        record_renamed(&from_end, &to_end, flags);
    recorder_unlock_tree();
    return result;
}

RECORDER_EXPORT int rename(const char *from, const char *to)
{
    return record_rename("rename", AT_FDCWD, from, AT_FDCWD, to, 0);
}

RECORDER_EXPORT int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    return record_rename("renameat", from_fd, from, to_fd, to, 0);
}

RECORDER_EXPORT int renameat2(int from_fd, const char *from, int to_fd, const char *to,
                              unsigned flags)
{
    return record_rename("renameat2", from_fd, from, to_fd, to, flags);
}

/* --- unlink --- */

static int record_unlink(const char *name, int dir_fd, const char *path, int flags)
{
    if (!recorder_place(dir_fd, path).watched)
        return REAL(unlinkat)(dir_fd, path, flags);
    if (recorder_fails(name, RECORDER_OTHER))
        return -1;
    recorder_lock_tree();
    const struct end end = end_at(dir_fd, path);
    const int result = REAL(unlinkat)(dir_fd, path, flags);
    if (result == 0) {
        recorder_emit_place((struct pf_record){.op = PF_UNLINK}, &end.place);
        forget_name(&end);
    }
    recorder_unlock_tree();
    return result;
}

RECORDER_EXPORT int unlink(const char *path)
{
    return record_unlink("unlink", AT_FDCWD, path, 0);
}

RECORDER_EXPORT int unlinkat(int dir_fd, const char *path, int flags)
{
    return record_unlink("unlinkat", dir_fd, path, flags);
}

RECORDER_EXPORT int rmdir(const char *path)
{
    return record_unlink("rmdir", AT_FDCWD, path, AT_REMOVEDIR);
}

RECORDER_EXPORT int remove(const char *path)
{
    const struct end end = end_at(AT_FDCWD, path);
    const bool is_dir = end.found && S_ISDIR(end.st.st_mode);
    return record_unlink("remove", AT_FDCWD, path, is_dir ? AT_REMOVEDIR : 0);
}

/* --- link, mkdir, symlink --- */

static int record_link(const char *name, int from_fd, const char *from, int to_fd, const char *to,
                       int flags)
{
    const struct recorder_place place = recorder_place(to_fd, to);
    if (!place.watched)
        return REAL(linkat)(from_fd, from, to_fd, to, flags);
    if (recorder_fails(name, RECORDER_OTHER))
        return -1;
    recorder_lock_tree();
    const int result = REAL(linkat)(from_fd, from, to_fd, to, flags);
    if (result == 0)
        recorder_adopt(to_fd, to, &place);
    recorder_unlock_tree();
    return result;
}

RECORDER_EXPORT int link(const char *from, const char *to)
{
    return record_link("link", AT_FDCWD, from, AT_FDCWD, to, 0);
}

RECORDER_EXPORT int linkat(int from_fd, const char *from, int to_fd, const char *to, int flags)
{
    return record_link("linkat", from_fd, from, to_fd, to, flags);
}

static int record_mkdir(const char *name, int dir_fd, const char *path, mode_t mode)
{
    const struct recorder_place place = recorder_place(dir_fd, path);
    if (!place.watched)
        return REAL(mkdirat)(dir_fd, path, mode);
    if (recorder_fails(name, RECORDER_OTHER))
        return -1;
    recorder_lock_tree();
    const int result = REAL(mkdirat)(dir_fd, path, mode);
    if (result == 0)
        recorder_adopt(dir_fd, path, &place);
    recorder_unlock_tree();
    return result;
}

RECORDER_EXPORT int mkdir(const char *path, mode_t mode)
{
    return record_mkdir("mkdir", AT_FDCWD, path, mode);
}

RECORDER_EXPORT int mkdirat(int dir_fd, const char *path, mode_t mode)
{
    return record_mkdir("mkdirat", dir_fd, path, mode);
}

RECORDER_EXPORT char *mkdtemp(char *path)
{
    char *made = REAL(mkdtemp)(path);
    if (made) {
        recorder_lock_tree();
        const struct recorder_place place = recorder_place(AT_FDCWD, path);
        if (place.watched)
            recorder_adopt(AT_FDCWD, path, &place);
        recorder_unlock_tree();
    }
    return made;
}

RECORDER_EXPORT int symlinkat(const char *target, int dir_fd, const char *path)
{
    if (recorder_place(dir_fd, path).watched)
        recorder_emit((struct pf_record){.op = PF_UNSEEN}, "symlink", 7, NULL, 0);
    return REAL(symlinkat)(target, dir_fd, path);
}

RECORDER_EXPORT int symlink(const char *target, const char *path)
{
    return symlinkat(target, AT_FDCWD, path);
}
