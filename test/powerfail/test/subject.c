/* Small programs to record, one per libc call and a few that run longer.
 *
 *   subject NAME              runs a scenario in $PF_DIR
 *   subject NAME OUTDIR MARK  checks one crash image of a longer scenario
 *
 * A scenario of one call prepares its files, marks 1 and makes the call. A scenario of a sync
 * prepares, marks 1, changes something, marks 2 and syncs.
 */
#include "subject.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int dir_fd, const char *path, int flags);
int __openat64_2(int dir_fd, const char *path, int flags);
void during_sync(void);

/* --- helpers --- */

static int make(const char *path)
{
    const int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    CHECK(fd >= 0);
    return fd;
}

static void put(const char *path, const char *text)
{
    const int fd = make(path);
    CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    CHECK(close(fd) == 0);
}

static void sync_dir(const char *path)
{
    const int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0 && fsync(fd) == 0 && close(fd) == 0);
}

/* A file whose name and content are durable, open; marks 1. */
static int make_durable(const char *path, int flags)
{
    put(path, "before..");
    int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0 && fsync(fd) == 0 && close(fd) == 0);
    sync_dir(".");
    fd = open(path, O_RDWR | O_CLOEXEC | flags);
    CHECK(fd >= 0);
    mark(1);
    return fd;
}

/* A plain file, open; marks 1. */
static int make_plain(const char *path)
{
    put(path, "0123456789");
    const int fd = open(path, O_RDWR | O_CLOEXEC);
    CHECK(fd >= 0);
    mark(1);
    return fd;
}

static int source(void)
{
    put("source", "from another file");
    const int fd = open("source", O_RDONLY | O_CLOEXEC);
    CHECK(fd >= 0);
    return fd;
}

#define IOV ((struct iovec[]){{"two ", 4}, {"parts", 5}})

/* --- opening --- */

#define OPENING(name, call)                                                                        \
    static void do_##name(void)                                                                    \
    {                                                                                              \
        put("old", "content that goes");                                                           \
        CHECK(mkdir("dir", 0755) == 0);                                                            \
        const int dir_fd = open("dir", O_RDONLY | O_DIRECTORY | O_CLOEXEC);                        \
        CHECK(dir_fd >= 0);                                                                        \
        char path[] = "dir/XXXXXX.tmp";                                                            \
        (void)path;                                                                                \
        mark(1);                                                                                   \
        const int fd = call;                                                                       \
        CHECK(fd >= 0 && write(fd, "new", 3) == 3);                                                \
    }
#define NEW (O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC)
OPENING(open, open("new", NEW, 0644))
OPENING(open_trunc, open("old", O_WRONLY | O_TRUNC | O_CLOEXEC))
OPENING(open64, open64("new", NEW, 0644))
OPENING(openat, openat(dir_fd, "new", NEW, 0644))
OPENING(openat64, openat64(dir_fd, "new", NEW, 0644))
OPENING(openat_cwd, openat(AT_FDCWD, "dir/../dir//new", NEW, 0644))
OPENING(creat, creat("old", 0644))
OPENING(creat64, creat64("new", 0644))
OPENING(open_2, __open_2("old", O_WRONLY | O_TRUNC))
OPENING(open64_2, __open64_2("old", O_WRONLY | O_TRUNC))
OPENING(openat_2, __openat_2(AT_FDCWD, "old", O_WRONLY | O_TRUNC))
OPENING(openat64_2, __openat64_2(AT_FDCWD, "old", O_WRONLY | O_TRUNC))
OPENING(mkstemp, mkstemp((path[10] = '\0', path)))
OPENING(mkstemp64, mkstemp64((path[10] = '\0', path)))
OPENING(mkostemp, mkostemp((path[10] = '\0', path), O_CLOEXEC))
OPENING(mkostemp64, mkostemp64((path[10] = '\0', path), O_CLOEXEC))
OPENING(mkstemps, mkstemps(path, 4))
OPENING(mkstemps64, mkstemps64(path, 4))
OPENING(mkostemps, mkostemps(path, 4, O_CLOEXEC))
OPENING(mkostemps64, mkostemps64(path, 4, O_CLOEXEC))

static void do_tmpfile(void)
{
    mark(1);
    const int fd = open(".", O_WRONLY | O_TMPFILE | O_CLOEXEC, 0644);
    CHECK(fd >= 0 && write(fd, "nameless", 8) == 8);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    CHECK(linkat(AT_FDCWD, path, AT_FDCWD, "named", AT_SYMLINK_FOLLOW) == 0);
}

static void do_fopen(void)
{
    FILE *file = fopen("stdio", "w");
    CHECK(file && fputs("adopted", file) >= 0 && fclose(file) == 0);
    mark(1);
    CHECK(open("stdio", O_RDONLY | O_CLOEXEC) >= 0);
}

/* --- writing --- */

#define WRITING(name, call)                                                                        \
    static void do_##name(void)                                                                    \
    {                                                                                              \
        const int in_fd = source();                                                                \
        int pipes[2];                                                                              \
        CHECK(pipe(pipes) == 0 && write(pipes[1], "through a pipe", 14) == 14);                    \
        off64_t at = 5;                                                                            \
        const int fd = make_plain("file");                                                         \
        (void)at;                                                                                  \
        (void)in_fd;                                                                               \
        CHECK(fd >= 0 && (call) > 0);                                                              \
    }
WRITING(write, write(fd, "abc", 3))
WRITING(write_twice, write(fd, "abc", 3) + write(fd, "def", 3))
WRITING(writev, writev(fd, IOV, 2))
WRITING(pwrite, pwrite(fd, "abc", 3, 8))
WRITING(pwrite64, pwrite64(fd, "abc", 3, 5000))
WRITING(pwritev, pwritev(fd, IOV, 2, 3))
WRITING(pwritev64, pwritev64(fd, IOV, 2, 3))
WRITING(pwritev2, pwritev2(fd, IOV, 2, 3, 0))
WRITING(pwritev2_here, pwritev2(fd, IOV, 2, -1, 0))
WRITING(pwritev2_append, pwritev2(fd, IOV, 2, 0, RWF_APPEND))
WRITING(pwritev64v2, pwritev64v2(fd, IOV, 2, 3, 0))
WRITING(sendfile, sendfile(fd, in_fd, NULL, 9))
WRITING(sendfile64, sendfile64(fd, in_fd, NULL, 9))
WRITING(copy_file_range, copy_file_range(in_fd, NULL, fd, &at, 9, 0))
WRITING(copy_file_range_here, copy_file_range(in_fd, NULL, fd, NULL, 9, 0))
WRITING(splice, splice(pipes[0], NULL, fd, &at, 14, 0))
WRITING(dup, write(dup(fd), "abc", 3))
WRITING(dup2, write(dup2(fd, 100), "abc", 3))
WRITING(dup3, write(dup3(fd, 100, O_CLOEXEC), "abc", 3))
WRITING(fcntl_dup, write(fcntl(fd, F_DUPFD_CLOEXEC, 50), "abc", 3))
WRITING(reopened, write(open("/proc/self/cwd/file", O_WRONLY | O_APPEND), "abc", 3))
WRITING(pwrite_append, pwrite(open("file", O_WRONLY | O_APPEND), "abc", 3, 0))

static void do_writev_many(void)
{
    struct iovec iov[1024];
    for (size_t i = 0; i < 1024; i++)
        iov[i] = (struct iovec){&"0123456789abcdef"[i % 16], 1};
    const int fd = make_plain("file");
    CHECK(writev(fd, iov, 1024) == 1024);
}

/* --- sizes --- */

#define SIZING(name, call)                                                                         \
    static void do_##name(void)                                                                    \
    {                                                                                              \
        const int fd = make_plain("file");                                                         \
        CHECK(fd >= 0 && (call) == 0);                                                             \
    }
SIZING(ftruncate, ftruncate(fd, 4))
SIZING(ftruncate64, ftruncate64(fd, 4000))
SIZING(truncate, truncate("file", 4))
SIZING(truncate64, truncate64("file", 0))
SIZING(fallocate, fallocate(fd, 0, 0, 70000))
SIZING(fallocate64, fallocate64(fd, 0, 5, 1000))
SIZING(fallocate_punch, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 4))
SIZING(fallocate_zero, fallocate(fd, FALLOC_FL_ZERO_RANGE, 5, 10))
SIZING(posix_fallocate, posix_fallocate(fd, 0, 9000))
SIZING(posix_fallocate64, posix_fallocate64(fd, 0, 9000))

/* --- names --- */

static int a_fd, b_fd; /* two directories, for the calls on names */

#define NAMING(name, call)                                                                         \
    static void do_##name(void)                                                                    \
    {                                                                                              \
        CHECK(mkdir("a", 0755) == 0 && mkdir("b", 0755) == 0 && mkdir("empty", 0755) == 0);        \
        put("a/one", "first");                                                                     \
        put("a/two", "second");                                                                    \
        a_fd = open("a", O_RDONLY | O_DIRECTORY | O_CLOEXEC);                                      \
        b_fd = open("b", O_RDONLY | O_DIRECTORY | O_CLOEXEC);                                      \
        char path[] = "a/XXXXXX";                                                                  \
        mark(1);                                                                                   \
        CHECK((call) && *path);                                                                    \
    }
NAMING(rename, rename("a/one", "b/three") == 0)
NAMING(rename_over, rename("a/one", "a/two") == 0)
NAMING(rename_dir, rename("a", "b/c") == 0)
NAMING(renameat, renameat(a_fd, "one", b_fd, "three") == 0)
NAMING(renameat2, renameat2(a_fd, "one", b_fd, "three", RENAME_NOREPLACE) == 0)
NAMING(renameat2_exchange, renameat2(a_fd, "one", a_fd, "two", RENAME_EXCHANGE) == 0)
NAMING(unlink, unlink("a/one") == 0)
NAMING(unlinkat, unlinkat(a_fd, "one", 0) == 0)
NAMING(unlinkat_dir, unlinkat(AT_FDCWD, "empty", AT_REMOVEDIR) == 0)
NAMING(rmdir, rmdir("empty") == 0)
NAMING(remove, remove("a/one") == 0)
NAMING(remove_dir, remove("empty") == 0)
NAMING(link, link("a/one", "b/three") == 0)
NAMING(linkat, linkat(a_fd, "one", b_fd, "three", 0) == 0)
NAMING(mkdir, mkdir("a/new/", 0755) == 0)
NAMING(mkdirat, mkdirat(a_fd, "new", 0755) == 0)
NAMING(mkdtemp, mkdtemp(path) != NULL)

/* A file moves into the watched directory, and one out of it. */
static void do_rename_across(void)
{
    put("leaves", "leaves");
    put("../outside", "comes in");
    mark(1);
    CHECK(rename("../outside", "inside") == 0 && rename("leaves", "../outside") == 0);
}

/* --- syncs --- */

#define SYNCING(name, flags, call)                                                                 \
    static void do_##name(void)                                                                    \
    {                                                                                              \
        const int fd = make_durable("file", flags);                                                \
        CHECK(pwrite(fd, "after", 5, 0) == 5 && ftruncate(fd, 7) == 0);                            \
        mark(2);                                                                                   \
        call;                                                                                      \
    }
SYNCING(fsync, 0, CHECK(fsync(fd) == 0))
SYNCING(fdatasync, 0, CHECK(fdatasync(fd) == 0))
SYNCING(fsync_dup, 0, CHECK(fsync(dup(fd)) == 0))
SYNCING(syncfs, 0, CHECK(syncfs(fd) == 0))
SYNCING(sync, 0, sync())
SYNCING(sync_file_range, 0,
        CHECK(sync_file_range(fd, 0, 0,
                              SYNC_FILE_RANGE_WAIT_BEFORE | SYNC_FILE_RANGE_WRITE |
                                  SYNC_FILE_RANGE_WAIT_AFTER) == 0))
SYNCING(fdatasync_twice, 0, CHECK((fdatasync(fd), fdatasync(fd)) == 0))

#define DURABLE_WRITE(name, flags, call)                                                           \
    static void do_##name(void)                                                                    \
    {                                                                                              \
        const int fd = make_durable("file", flags);                                                \
        int plain_fd = open("file", O_RDWR | O_CLOEXEC);                                           \
        CHECK(plain_fd >= 0 && pwrite(plain_fd, "lost", 4, 4000) == 4);                            \
        mark(2);                                                                                   \
        CHECK((call) == 9);                                                                        \
    }
DURABLE_WRITE(write_dsync, O_DSYNC, write(fd, "two parts", 9))
DURABLE_WRITE(pwrite_dsync, O_DSYNC, pwrite(fd, "two parts", 9, 0))
DURABLE_WRITE(pwrite_sync, O_SYNC, pwrite(fd, "two parts", 9, 0))
DURABLE_WRITE(writev_dsync, O_DSYNC, writev(fd, IOV, 2))
DURABLE_WRITE(pwritev_dsync_dup, O_DSYNC, pwritev(dup(fd), IOV, 2, 0))
DURABLE_WRITE(pwritev2_rwf_dsync, 0, pwritev2(fd, IOV, 2, 0, RWF_DSYNC))
DURABLE_WRITE(pwritev2_rwf_sync, 0, pwritev2(fd, IOV, 2, 0, RWF_SYNC))

/* Directory operations of which each directory keeps a prefix; all are durable at the end. */
static void do_fsync_dir(void)
{
    CHECK(mkdir("dir", 0755) == 0);
    put("moved", "moved");
    put("removed", "removed");
    sync();
    mark(1);
    put("dir/made", "");
    CHECK(rename("moved", "dir/moved") == 0 && unlink("removed") == 0);
    CHECK(link("dir/moved", "linked") == 0 && mkdir("sub", 0755) == 0);
    mark(2);
    sync_dir("dir");
    sync_dir(".");
}

/* --- a write while a sync runs; slow_sync.so calls during_sync() --- */

static int concurrent_fd = -1;

void during_sync(void)
{
    if (concurrent_fd >= 0)
        CHECK(pwrite(concurrent_fd, "during", 6, 512) == 6);
}

static void do_concurrent(void)
{
    const int fd = make_durable("file", 0);
    CHECK(pwrite(fd, "before", 6, 0) == 6);
    concurrent_fd = fd;
    CHECK(fdatasync(fd) == 0);
}

/* --- faults: the result of each call is printed --- */

static void report(const char *call, ssize_t result)
{
    (void)printf("%s %zd %s\n", call, result, result < 0 ? strerrorname_np(errno) : "");
}

static void do_faults(void)
{
    const int fd = make("file");
    for (int i = 0; i < 3; i++) {
        report("pwrite", pwrite(fd, "0123456789", 10, 0));
        report("fdatasync", fdatasync(fd));
    }
    report("pwritev", pwritev(fd, IOV, 2, 0));
    report("rename", rename("file", "other"));
}

static void do_unseen(void)
{
    const int fd = make_plain("file");
    const int protection = PROT_READ | PROT_WRITE;
    CHECK(mmap(NULL, 10, protection, MAP_SHARED, fd, 0) != MAP_FAILED);
    CHECK(mmap64(NULL, 10, protection, MAP_SHARED, fd, 0) != MAP_FAILED);
    CHECK(mmap(NULL, 10, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
    CHECK(mmap(NULL, 10, protection, MAP_PRIVATE, fd, 0) != MAP_FAILED);
    CHECK(fopen("stdio", "w") && fopen64("stdio", "a") && fopen("stdio", "r"));
    CHECK(fdopen(fd, "w") && symlink("file", "link") == 0);
    CHECK(symlinkat("file", AT_FDCWD, "link2") == 0);
}

/* The log's descriptor survives programs that close everything. */
static void do_close_all(void)
{
    for (int fd = 3; fd < 2000; fd++)
        (void)close(fd);
    closefrom(3);
    CHECK(close_range(3, ~0U, 0) == 0);
    mark(1);
    put("file", "still recorded");
}

/* --- longer scenarios --- */

#define THREAD_COUNT 4
#define ROUND_COUNT  300

static void *thread_main(void *arg)
{
    const size_t number = (size_t)arg;
    char path[32];
    char text[64];
    (void)snprintf(path, sizeof path, "own-%zu", number);
    const int own_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    const int shared_fd = open("shared", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    const int durable_fd = open("shared", O_WRONLY | O_APPEND | O_DSYNC | O_CLOEXEC);
    CHECK(own_fd >= 0 && shared_fd >= 0 && durable_fd >= 0);
    for (int i = 0; i < ROUND_COUNT; i++) {
        const int size = snprintf(text, sizeof text, "%s %d\n", path, i);
        CHECK(write(own_fd, text, (size_t)size) == size);
        CHECK(write(i % 50 ? shared_fd : durable_fd, text, (size_t)size) == size);
        if (i % 100 == 0)
            CHECK(fdatasync(own_fd) == 0);
        (void)snprintf(text, sizeof text, "%s.%d", path, i % 7);
        put(text, path);
        CHECK(i % 3 ? unlink(text) == 0 : rename(text, path + 4) == 0);
    }
    return NULL;
}

static void do_threads(void)
{
    pthread_t threads[THREAD_COUNT];
    for (size_t i = 0; i < THREAD_COUNT; i++)
        CHECK(pthread_create(&threads[i], NULL, thread_main, (void *)i) == 0);
    for (size_t i = 0; i < THREAD_COUNT; i++)
        CHECK(pthread_join(threads[i], NULL) == 0);
}

static unsigned draw(uint64_t *state, unsigned limit)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(*state >> 33) % limit;
}

static void random_data(int fd, uint64_t *state)
{
    static char bytes[200000];
    const off_t offset = draw(state, 300000);
    const size_t size = draw(state, draw(state, 10) ? 2000 : sizeof bytes) + 1;
    const int hole = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    memset(bytes, (int)draw(state, 256), sizeof bytes);
    switch (draw(state, 8)) {
    case 0:
        CHECK(ftruncate(fd, offset) == 0);
        break;
    case 1:
        CHECK(fallocate(fd, draw(state, 2) ? hole : 0, offset, (off_t)size) == 0);
        break;
    case 2:
        CHECK(fdatasync(fd) == 0);
        break;
    case 3:
        CHECK(lseek(fd, 0, SEEK_END) >= 0 && write(fd, bytes, size) == (ssize_t)size);
        break;
    default:
        CHECK(pwrite(fd, bytes, size, offset) == (ssize_t)size);
    }
}

/* Random operations on a few files in a few directories; all is synced at the end. */
static void do_random(void)
{
    uint64_t state = strtoull(getenv("SUBJECT_SEED"), NULL, 10);
    char from[32];
    char to[32];
    for (unsigned i = 0; i < 3; i++) {
        (void)snprintf(from, sizeof from, "d%u", i);
        CHECK(mkdir(from, 0755) == 0);
    }
    for (unsigned i = 0; i < 600; i++) {
        (void)snprintf(from, sizeof from, "d%u/f%u", draw(&state, 3), draw(&state, 4));
        (void)snprintf(to, sizeof to, "d%u/f%u", draw(&state, 3), draw(&state, 4));
        const unsigned kind = draw(&state, 20);
        if (kind == 0)
            (void)unlink(from);
        else if (kind == 1)
            (void)link(from, to);
        else if (kind < 5)
            (void)renameat2(AT_FDCWD, from, AT_FDCWD, to, kind == 2 ? RENAME_EXCHANGE : 0);
        else if (kind == 5)
            sync_dir((from[2] = '\0', from));
        else {
            const int fd = open(from, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
            CHECK(fd >= 0);
            random_data(fd, &state);
            CHECK(close(fd) == 0);
        }
        mark(i);
    }
    sync();
}

#define LEDGER_SIZE  300u /* a record crosses sectors */
#define LEDGER_COUNT 2000u

static void ledger_fill(char *record, uint64_t number)
{
    const int size = snprintf(record, LEDGER_SIZE, "record %08llu ", (unsigned long long)number);
    memset(record + size, 'a' + (int)(number % 26), LEDGER_SIZE - (size_t)size);
}

/* Appends records; each tenth time all so far are synced and promised. */
static void do_ledger(void)
{
    char record[LEDGER_SIZE];
    const int fd = make("ledger");
    sync_dir(".");
    for (uint64_t i = 1; i <= LEDGER_COUNT; i++) {
        ledger_fill(record, i);
        CHECK(write(fd, record, sizeof record) == sizeof record);
        if (i % 10 == 0) {
            CHECK(fdatasync(fd) == 0);
            mark(i);
        }
    }
}

static int check_ledger(uint64_t promised)
{
    char expected[LEDGER_SIZE];
    char found[LEDGER_SIZE];
    const int fd = open("ledger", O_RDONLY | O_CLOEXEC);
    for (uint64_t i = 1; i <= promised; i++) {
        ledger_fill(expected, i);
        if (read(fd, found, sizeof found) != sizeof found ||
            memcmp(expected, found, sizeof found) != 0)
            return 1;
    }
    return 0;
}

#define STATE_SIZE  6000u
#define STATE_COUNT 200u

/* Replaces a file by a new version again and again; each version is one repeated byte. */
static void replace_state(bool with_dir_sync)
{
    char state[STATE_SIZE];
    for (uint64_t i = 1; i <= STATE_COUNT; i++) {
        const int fd = make("state.tmp");
        memset(state, (int)i, sizeof state);
        CHECK(write(fd, state, sizeof state) == sizeof state && fdatasync(fd) == 0);
        CHECK(close(fd) == 0 && rename("state.tmp", "state") == 0);
        if (with_dir_sync)
            sync_dir(".");
        mark(i);
    }
}

static void do_state(void)
{
    replace_state(true);
}

static void do_state_unsynced(void)
{
    replace_state(false);
}

static int check_state(uint64_t promised)
{
    uint8_t state[STATE_SIZE];
    const int fd = open("state", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return promised > 0;
    if (read(fd, state, sizeof state) != sizeof state || state[0] < promised)
        return 1;
    return memcmp(state, state + 1, sizeof state - 1) != 0;
}

/* About 24 MiB of log: 1 MiB segments, synced after every 16 KiB. */
static void do_bulk(void)
{
    static char block[4096];
    uint64_t promised = 0;
    for (int segment = 0; segment < 24; segment++) {
        char path[32];
        (void)snprintf(path, sizeof path, "segment-%d", segment);
        const int fd = make(path);
        CHECK(fallocate(fd, 0, 0, 1 << 20) == 0 && fsync(fd) == 0);
        sync_dir(".");
        for (int i = 0; i < 256; i++) {
            memset(block, i + 1, sizeof block);
            CHECK(pwrite(fd, block, sizeof block, (off_t)i * 4096) == sizeof block);
            if (i % 4 == 3) {
                CHECK(fdatasync(fd) == 0);
                mark(++promised);
            }
        }
        CHECK(close(fd) == 0);
    }
}

static int check_bulk(uint64_t promised)
{
    char path[32];
    uint8_t block[4096];
    if (promised == 0)
        return 0;
    (void)snprintf(path, sizeof path, "segment-%d", (int)((promised - 1) / 64));
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const uint64_t last = (promised - 1) % 64 * 4 + 3;
    return pread(fd, block, sizeof block, (off_t)last * 4096) != sizeof block ||
           block[4095] != (uint8_t)(last + 1);
}

/* --- the table --- */

struct scenario {
    const char *name;
    void (*run)(void);
    int (*check)(uint64_t promised);
};

#define SCENARIO(name)                                                                             \
    {                                                                                              \
#name, do_##name, NULL                                                                     \
    }
#define LONGER(name)                                                                               \
    {                                                                                              \
#name, do_##name, check_##name                                                             \
    }

static const struct scenario scenarios[] = {
    SCENARIO(open),
    SCENARIO(open_trunc),
    SCENARIO(open64),
    SCENARIO(openat),
    SCENARIO(openat64),
    SCENARIO(openat_cwd),
    SCENARIO(creat),
    SCENARIO(creat64),
    SCENARIO(open_2),
    SCENARIO(open64_2),
    SCENARIO(openat_2),
    SCENARIO(openat64_2),
    SCENARIO(mkstemp),
    SCENARIO(mkstemp64),
    SCENARIO(mkostemp),
    SCENARIO(mkostemp64),
    SCENARIO(mkstemps),
    SCENARIO(mkstemps64),
    SCENARIO(mkostemps),
    SCENARIO(mkostemps64),
    SCENARIO(tmpfile),
    SCENARIO(fopen),
    SCENARIO(write),
    SCENARIO(write_twice),
    SCENARIO(writev),
    SCENARIO(writev_many),
    SCENARIO(pwrite),
    SCENARIO(pwrite64),
    SCENARIO(pwritev),
    SCENARIO(pwritev64),
    SCENARIO(pwritev2),
    SCENARIO(pwritev2_here),
    SCENARIO(pwritev2_append),
    SCENARIO(pwritev64v2),
    SCENARIO(sendfile),
    SCENARIO(sendfile64),
    SCENARIO(copy_file_range),
    SCENARIO(copy_file_range_here),
    SCENARIO(splice),
    SCENARIO(dup),
    SCENARIO(dup2),
    SCENARIO(dup3),
    SCENARIO(fcntl_dup),
    SCENARIO(reopened),
    SCENARIO(pwrite_append),
    SCENARIO(ftruncate),
    SCENARIO(ftruncate64),
    SCENARIO(truncate),
    SCENARIO(truncate64),
    SCENARIO(fallocate),
    SCENARIO(fallocate64),
    SCENARIO(fallocate_punch),
    SCENARIO(fallocate_zero),
    SCENARIO(posix_fallocate),
    SCENARIO(posix_fallocate64),
    SCENARIO(rename),
    SCENARIO(rename_over),
    SCENARIO(rename_dir),
    SCENARIO(rename_across),
    SCENARIO(renameat),
    SCENARIO(renameat2),
    SCENARIO(renameat2_exchange),
    SCENARIO(unlink),
    SCENARIO(unlinkat),
    SCENARIO(unlinkat_dir),
    SCENARIO(rmdir),
    SCENARIO(remove),
    SCENARIO(remove_dir),
    SCENARIO(link),
    SCENARIO(linkat),
    SCENARIO(mkdir),
    SCENARIO(mkdirat),
    SCENARIO(mkdtemp),
    SCENARIO(close_all),
    SCENARIO(fsync),
    SCENARIO(fdatasync),
    SCENARIO(fsync_dup),
    SCENARIO(syncfs),
    SCENARIO(sync),
    SCENARIO(sync_file_range),
    SCENARIO(fdatasync_twice),
    SCENARIO(write_dsync),
    SCENARIO(pwrite_dsync),
    SCENARIO(pwrite_sync),
    SCENARIO(writev_dsync),
    SCENARIO(pwritev_dsync_dup),
    SCENARIO(pwritev2_rwf_dsync),
    SCENARIO(pwritev2_rwf_sync),
    SCENARIO(fsync_dir),
    SCENARIO(concurrent),
    SCENARIO(faults),
    SCENARIO(unseen),
    SCENARIO(threads),
    SCENARIO(random),
    LONGER(ledger),
    LONGER(state),
    {"state_unsynced", do_state_unsynced, check_state},
    LONGER(bulk),
};

int main(int argc, char **argv)
{
    CHECK(argc == 2 || argc == 4);
    const char *dir = argc == 4 ? argv[2] : getenv("PF_DIR");
    CHECK(dir && chdir(dir) == 0);
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++) {
        if (strcmp(scenarios[i].name, argv[1]) != 0)
            continue;
        if (argc == 4)
            return scenarios[i].check(strtoull(argv[3], NULL, 10));
        scenarios[i].run();
        return 0;
    }
    (void)fprintf(stderr, "no scenario '%s'\n", argv[1]);
    return 2;
}
