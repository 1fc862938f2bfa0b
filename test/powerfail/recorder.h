/* What the recorder's call wrappers share: which files are watched, the log, the faults.
 *
 * A descriptor is recognised by fstat() at each call, not by a table of descriptors: duplicates,
 * descriptors from another process and numbers used again need no bookkeeping.
 *
 * Locks: the tree lock covers a directory operation together with its records, so that the log
 * holds them in their real order. A file lock (one of a few stripes) does the same for the data
 * of one file. Neither is held while fsync and its kin run, nor across fork(); a write through an
 * O_DSYNC descriptor, however, keeps other writes of the same file waiting.
 */
#pragma once

#include <dlfcn.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <sys/uio.h>

#include "pflog.h"

#define RECORDER_EXPORT      __attribute__((visibility("default")))
#define RECORDER_ALIAS(name) __attribute__((visibility("default"), alias(name)))

/* The next definition of a libc function after ours, looked up once per place of use. */
#define REAL(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(name) *real_;                                                            \
        if (!real_)                                                                                \
            real_ = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);                                   \
        real_;                                                                                     \
    })

/* A watched file or directory behind a descriptor. */
struct recorder_file {
    uint64_t ino;
    uint64_t size;
    int open_flags; /* as F_GETFL gives them */
    bool is_dir;
};

/* Where a path points: a name in a directory. */
struct recorder_place {
    uint64_t dir_ino;
    const char *name; /* inside the caller's path, not terminated */
    uint16_t name_size;
    bool watched; /* the directory is one of ours */
};

/* A sync of one file, of a directory, of everything, or of one write by O_DSYNC. */
enum recorder_sync {
    RECORDER_SYNC_FILE,
    RECORDER_SYNC_DIR,
    RECORDER_SYNC_ALL,
    RECORDER_SYNC_WRITE,
    RECORDER_SYNC_KINDS
};

enum recorder_group { RECORDER_OTHER, RECORDER_WRITE, RECORDER_SYNC };

/* Tells whether `fd` is a watched file or directory. Keeps errno. Thread: any. */
bool recorder_file(int fd, struct recorder_file *ret_file);

/* Finds the directory and the last name of a path. Keeps errno. Thread: any. */
struct recorder_place recorder_place(int dir_fd, const char *path);

/* Adds to, asks and removes from the set of watched inodes. Thread: under the tree lock. */
void recorder_watch(uint64_t ino);
bool recorder_watches(const struct stat *st);
void recorder_forget(uint64_t ino);

/* Records a file or directory, and all in it, that came to `place` without our knowledge.
 * Thread: under the tree lock. */
void recorder_adopt(int dir_fd, const char *path, const struct recorder_place *place);

void recorder_lock_tree(void);
void recorder_unlock_tree(void);
void recorder_lock_file(uint64_t ino);
void recorder_unlock_file(uint64_t ino);

/* Appends one record; `head` needs no magic and no sizes. Keeps errno; ends the process when the
 * log cannot be written. Thread: any. */
void recorder_emit(struct pf_record head, const char *name1, size_t name1_size, const char *name2,
                   size_t name2_size);
void recorder_emit_place(struct pf_record head, const struct recorder_place *place);

/* Appends PF_WRITE for `size` bytes of `iov`, which may hold more. */
void recorder_emit_write(uint64_t ino, uint64_t offset, uint64_t token, const struct iovec *iov,
                         size_t size);

/* Appends PF_WRITE for bytes that the file behind `fd` (readable) now holds; skips holes. */
void recorder_emit_range(int fd, uint64_t ino, uint64_t offset, uint64_t size);

/* A number that no other call gives, in any process of this machine's lifetime. Thread: any. */
uint64_t recorder_token(void);

/* Counts one call against PF_FAIL. Returns true with errno set when this call must fail. */
bool recorder_fails(const char *call, enum recorder_group group);

/* Counts one write against PF_SHORT. Returns how many of the `size` bytes to write. */
size_t recorder_shorten(const struct recorder_file *file, size_t size);

/* True when PF_NOSYNC asks that syncs of this kind make nothing durable. */
bool recorder_ignores_sync(enum recorder_sync kind);

/* The descriptor of the log itself, which the program must not close; -1: not recording. */
int recorder_log_fd(void);
