/* A library that ends the server it is preloaded into, with SIGKILL, at one named point.
 *
 * TORTURE_POINT=NAME:MOMENT:N:PART:FILE arms it: at the N-th call that NAME stands for
 * (points.def), MOMENT b (before the call), m (in the middle: PART 256ths of the bytes are written)
 * or a (after it), it appends "NAME MOMENT" to FILE and kills the process. Without the variable,
 * and at all other calls, it passes everything through.
 *
 * torture_point() lists the names for the harness, which loads the library, too.
 *
 * Thread: any. What a thread does for a seal, a merge or a trim it does alone, so what the
 * conditions remember is either of one thread or atomic.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define EXPORT      __attribute__((visibility("default")))
#define ALIAS(name) __attribute__((visibility("default"), alias(name)))

/* The next definition of a libc function after ours, looked up once per place of use. */
#define REAL(name)                                                                                 \
    ({                                                                                             \
        static __typeof__(name) *real_;                                                            \
        if (!real_)                                                                                \
            real_ = (__typeof__(name) *)dlsym(RTLD_NEXT, #name);                                   \
        real_;                                                                                     \
    })

enum { PATH_SIZE = 4096, PAGE = 4096, IOV_MAX_HERE = 128, MERGED_FILES = 8, UNIT = 8 };

/* METAROW_VERSION of src/store/local/metarow.h. */
enum { STATE_VERSION = 2 };

/* struct record_header of src/store/local/record.h, as far as it is needed. */
enum { RECORD_SIZE_AT = 0, RECORD_FLAGS_AT = 69, RECORD_HEADER = 72, RECORD_COPY = 2 };

enum call { OPEN, READ, WRITE, SYNC, RENAME, UNLINK, TRUNCATE };
enum phase { START, SERVE, ANY };

/* One call about to be made. */
struct op {
    enum call call;
    const char *path, *target; /* as points.def has them */
    const struct iovec *iov;   /* of a WRITE */
    int iov_count;
    uint64_t offset;
};

struct point {
    const char *name;
    enum call call;
    const char *path, *target;
    enum phase phase;
    bool (*also)(const struct op *op);
    const char *moments;
};

static struct {
    const struct point *point; /* NULL: none armed */
    char moment;
    unsigned long number, part;
    char file[PATH_SIZE]; /* to note the hit in */
    atomic_ulong seen;
    atomic_bool ready;            /* the server has said so */
    atomic_bool trims;            /* the LMDB transaction being written gives up part of the log */
    atomic_uint_fast64_t trimmed; /* the last seen; UINT64_MAX: none yet */
    atomic_ulong headers;         /* of segments, written by this process */
} killer = {.trimmed = UINT64_MAX};

static _Thread_local bool reads_for_merge;
static _Thread_local int unlinks_of_merge;

/* --- conditions ---------------------------------------------------------------------------- */

static uint64_t op_size(const struct op *op)
{
    uint64_t size = 0;
    for (int i = 0; i < op->iov_count; i++)
        size += op->iov[i].iov_len;
    return size;
}

static bool thread_is(const char *name)
{
    char comm[16] = "";
    (void)prctl(PR_GET_NAME, comm);
    return strcmp(comm, name) == 0;
}

static bool always(const struct op *op)
{
    (void)op;
    return true;
}

static bool by_log_thread(const struct op *op)
{
    (void)op;
    return thread_is("log");
}

static bool by_worker(const struct op *op)
{
    (void)op;
    return thread_is("worker");
}

static bool is_header(const struct op *op)
{
    return thread_is("log") && op->offset == 0 && op_size(op) == PAGE;
}

static bool is_first(const struct op *op)
{
    (void)op;
    return atomic_load(&killer.headers) <= 1;
}

static bool is_first_header(const struct op *op)
{
    return is_header(op) && is_first(op);
}

static bool is_large(const struct op *op)
{
    return op_size(op) > PAGE;
}

static bool is_past_header(const struct op *op)
{
    return op->offset >= PAGE;
}

static bool merging(const struct op *op)
{
    return op->call == UNLINK ? unlinks_of_merge > 0 : reads_for_merge;
}

static bool not_merging(const struct op *op)
{
    return !merging(op);
}

static bool trimming(const struct op *op)
{
    (void)op;
    return atomic_load(&killer.trims);
}

static bool not_trimming(const struct op *op)
{
    return !trimming(op);
}

/* LMDB writes its two meta pages in part, everything else as whole pages. */
static bool is_meta(const struct op *op)
{
    return op->offset < (uint64_t)2 * PAGE && op_size(op) < PAGE;
}

static bool is_meta_of_trim(const struct op *op)
{
    return is_meta(op) && trimming(op);
}

static bool is_meta_of_checkpoint(const struct op *op)
{
    return is_meta(op) && !trimming(op);
}

static bool is_page(const struct op *op)
{
    return !is_meta(op);
}

/* Finds the trimmed position in pages written: the last of the four numbers in the row "state". */
static bool find_trimmed(const struct op *op, uint64_t *ret_trimmed)
{
    struct {
        uint64_t version, secret, applied, trimmed;
    } state;
    for (int i = 0; i < op->iov_count; i++) {
        const uint8_t *bytes = op->iov[i].iov_base;
        const uint8_t *end = bytes + op->iov[i].iov_len;
        const uint8_t *at = bytes;
        while ((at = memmem(at, (size_t)(end - at), "state", 5))) {
            at += 5;
            if ((size_t)(end - at) < sizeof state)
                break;
            memcpy(&state, at, sizeof state);
            if (state.version == STATE_VERSION) {
                *ret_trimmed = state.trimmed;
                return true;
            }
        }
    }
    return false;
}

static bool is_page_of_trim(const struct op *op)
{
    uint64_t trimmed;
    return is_page(op) && trimming(op) && find_trimmed(op, &trimmed);
}

/* Whether one of the records written is a copy of a retained message. */
static bool has_copy(const struct op *op)
{
    for (int i = 0; i < op->iov_count; i++) {
        const uint8_t *bytes = op->iov[i].iov_base;
        size_t at = 0;
        while (at + RECORD_HEADER <= op->iov[i].iov_len) {
            uint32_t size;
            memcpy(&size, bytes + at + RECORD_SIZE_AT, sizeof size);
            if (size < RECORD_HEADER || size % UNIT != 0 || size > op->iov[i].iov_len - at)
                break; /* the zeros behind the last record */
            if (bytes[at + RECORD_FLAGS_AT] & RECORD_COPY)
                return true;
            at += size;
        }
    }
    return false;
}

static const struct point points[] = {
#define X(name, call, path, target, phase, also, moments)                                          \
    {name, call, path, target, phase, also, moments},
#include "points.def"
#undef X
};

enum { POINT_COUNT = sizeof points / sizeof points[0] };

/* "NAME MOMENTS", NULL behind the last. */
EXPORT const char *torture_point(unsigned index);

const char *torture_point(unsigned index)
{
    static char text[128];
    if (index >= POINT_COUNT)
        return NULL;
    (void)snprintf(text, sizeof text, "%s %s", points[index].name, points[index].moments);
    return text;
}

/* --- arming and killing -------------------------------------------------------------------- */

static void reject(void)
{
    static const char text[] = "torture killer: TORTURE_POINT is not understood\n";
    (void)!write(2, text, sizeof text - 1);
    _exit(99);
}

__attribute__((constructor)) static void arm(void)
{
    const char *value = getenv("TORTURE_POINT");
    if (!value)
        return;
    char text[PATH_SIZE];
    if (strlen(value) >= sizeof text)
        reject();
    memcpy(text, value, strlen(value) + 1);
    char *rest = text;
    const char *name = strsep(&rest, ":");
    const char *moment = strsep(&rest, ":");
    const char *number = strsep(&rest, ":");
    const char *part = strsep(&rest, ":");
    if (!rest || strlen(moment) != 1)
        reject();
    killer.number = strtoul(number, NULL, 10);
    killer.part = strtoul(part, NULL, 10);
    for (size_t i = 0; i < POINT_COUNT; i++) {
        if (strcmp(points[i].name, name) == 0 && strchr(points[i].moments, *moment))
            killer.point = &points[i];
    }
    if (!killer.point)
        reject();
    killer.moment = *moment;
    memcpy(killer.file, rest, strlen(rest) + 1);
}

static _Noreturn void die(void)
{
    char line[80];
    const int size = snprintf(line, sizeof line, "%s %c\n", killer.point->name, killer.moment);
    const int fd = REAL(open)(killer.file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    (void)!REAL(write)(fd, line, (size_t)size);
    (void)kill(getpid(), SIGKILL);
    for (;;)
        (void)pause();
}

/* What conditions need to remember of the calls that go by. */
static void note(const struct op *op)
{
    uint64_t trimmed;
    if (op->call == WRITE && strcmp(op->path, "meta/data.mdb") == 0 && is_page(op) &&
        find_trimmed(op, &trimmed)) {
        const uint64_t before = atomic_exchange(&killer.trimmed, trimmed);
        atomic_store(&killer.trims, before != UINT64_MAX && before != trimmed);
    } else if (op->call == OPEN && strcmp(op->path, "index/new.tmp") == 0) {
        reads_for_merge = false;
    } else if (op->call == READ && fnmatch("index/*.idx", op->path, 0) == 0) {
        reads_for_merge = true;
    } else if (op->call == RENAME && strcmp(op->path, "new.tmp") == 0) {
        unlinks_of_merge = reads_for_merge ? MERGED_FILES : 0;
    } else if (op->call == WRITE && fnmatch("log/free-*.seg", op->path, 0) == 0 && is_header(op)) {
        (void)atomic_fetch_add(&killer.headers, 1);
    }
}

/* Forgets what ended with the call. */
static void note_after(const struct op *op)
{
    if (op->call == UNLINK && unlinks_of_merge > 0)
        unlinks_of_merge--;
}

static bool phase_is(enum phase phase)
{
    return phase == ANY || (phase == SERVE) == atomic_load(&killer.ready);
}

/* Whether this is the call to die at. */
static bool meant(const struct op *op)
{
    const struct point *point = killer.point;
    return point->call == op->call && phase_is(point->phase) &&
           fnmatch(point->path, op->path, 0) == 0 &&
           (op->call != RENAME || fnmatch(point->target, op->target, 0) == 0) && point->also(op) &&
           atomic_fetch_add(&killer.seen, 1) + 1 == killer.number;
}

/* Before the call. Returns whether the process dies after it, or in the middle. */
static bool enter(const struct op *op)
{
    note(op);
    const bool dies = meant(op);
    if (dies && killer.moment == 'b')
        die();
    return dies;
}

static void leave(const struct op *op, bool dies)
{
    if (dies)
        die();
    note_after(op);
}

/* The last two parts of the path behind a descriptor, "" when it is no file. */
static const char *path_of(int fd, char room[PATH_SIZE])
{
    char link[64];
    (void)snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    const ssize_t size = readlink(link, room, PATH_SIZE - 1);
    if (size <= 0 || room[0] != '/')
        return "";
    room[size] = '\0';
    char *last = strrchr(room, '/');
    for (char *at = last; at > room;) {
        if (*--at == '/')
            return at + 1;
    }
    return last + 1;
}

static const char *last_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* --- the calls ----------------------------------------------------------------------------- */

typedef ssize_t write_fn(int fd, const struct iovec *iov, int iov_count, off_t offset);

static ssize_t put_at(int fd, const struct iovec *iov, int iov_count, off_t offset)
{
    return REAL(pwritev)(fd, iov, iov_count, offset);
}

static ssize_t put(int fd, const struct iovec *iov, int iov_count, off_t offset)
{
    (void)offset;
    return REAL(writev)(fd, iov, iov_count);
}

/* The first PART 256ths of the bytes, at least one and not all. */
static _Noreturn void write_part(int fd, const struct op *op, write_fn *write_now)
{
    uint64_t left = op_size(op) * killer.part / 256;
    left = left == 0 ? 1 : left;
    struct iovec iov[IOV_MAX_HERE];
    int count = 0;
    for (; count < op->iov_count && count < IOV_MAX_HERE && left > 0; count++) {
        iov[count] = op->iov[count];
        if (iov[count].iov_len > left)
            iov[count].iov_len = left;
        left -= iov[count].iov_len;
    }
    (void)!write_now(fd, iov, count, (off_t)op->offset);
    die();
}

static ssize_t do_write(int fd, const struct iovec *iov, int iov_count, off_t offset,
                        write_fn *write_now)
{
    if (!killer.point)
        return write_now(fd, iov, iov_count, offset);
    char room[PATH_SIZE];
    const struct op op = {.call = WRITE,
                          .path = path_of(fd, room),
                          .iov = iov,
                          .iov_count = iov_count,
                          .offset = (uint64_t)(offset >= 0 ? offset : lseek(fd, 0, SEEK_CUR))};
    const bool dies = enter(&op);
    if (dies && killer.moment == 'm')
        write_part(fd, &op, write_now);
    const ssize_t result = write_now(fd, iov, iov_count, offset);
    leave(&op, dies);
    return result;
}

EXPORT ssize_t pwritev(int fd, const struct iovec *iov, int iov_count, off_t offset)
{
    return do_write(fd, iov, iov_count, offset, put_at);
}

EXPORT ssize_t pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    const struct iovec iov = {.iov_base = (void *)(uintptr_t)bytes, .iov_len = size};
    return do_write(fd, &iov, 1, offset, put_at);
}

EXPORT ssize_t writev(int fd, const struct iovec *iov, int iov_count)
{
    return do_write(fd, iov, iov_count, -1, put);
}

EXPORT ssize_t pread(int fd, void *bytes, size_t size, off_t offset)
{
    if (!killer.point)
        return REAL(pread)(fd, bytes, size, offset);
    char room[PATH_SIZE];
    const struct op op = {.call = READ, .path = path_of(fd, room), .offset = (uint64_t)offset};
    const bool dies = enter(&op);
    const ssize_t result = REAL(pread)(fd, bytes, size, offset);
    leave(&op, dies);
    return result;
}

static int do_sync(int fd, int (*sync_now)(int))
{
    if (!killer.point)
        return sync_now(fd);
    char room[PATH_SIZE];
    const struct op op = {.call = SYNC, .path = path_of(fd, room)};
    const bool dies = enter(&op);
    const int result = sync_now(fd);
    leave(&op, dies);
    return result;
}

EXPORT int fdatasync(int fd)
{
    return do_sync(fd, REAL(fdatasync));
}

EXPORT int fsync(int fd)
{
    return do_sync(fd, REAL(fsync));
}

EXPORT int ftruncate(int fd, off_t size)
{
    if (!killer.point)
        return REAL(ftruncate)(fd, size);
    char room[PATH_SIZE];
    const struct op op = {.call = TRUNCATE, .path = path_of(fd, room)};
    const bool dies = enter(&op);
    const int result = REAL(ftruncate)(fd, size);
    leave(&op, dies);
    return result;
}

EXPORT int renameat(int from_fd, const char *from, int to_fd, const char *to)
{
    if (!killer.point)
        return REAL(renameat)(from_fd, from, to_fd, to);
    const struct op op = {.call = RENAME, .path = last_name(from), .target = last_name(to)};
    const bool dies = enter(&op);
    const int result = REAL(renameat)(from_fd, from, to_fd, to);
    leave(&op, dies);
    return result;
}

EXPORT int unlinkat(int dir_fd, const char *name, int flags)
{
    if (!killer.point)
        return REAL(unlinkat)(dir_fd, name, flags);
    const struct op op = {.call = UNLINK, .path = last_name(name)};
    const bool dies = enter(&op);
    const int result = REAL(unlinkat)(dir_fd, name, flags);
    leave(&op, dies);
    return result;
}

/* "FOLDER/NAME" of a file that is opened by its name in a directory. */
static const char *opened_path(int dir_fd, const char *name, char room[PATH_SIZE])
{
    char dir_room[PATH_SIZE];
    if (dir_fd == AT_FDCWD || strchr(name, '/'))
        return "";
    (void)snprintf(room, PATH_SIZE, "%s/%s", last_name(path_of(dir_fd, dir_room)), name);
    return room;
}

EXPORT int openat(int dir_fd, const char *name, int flags, ...)
{
    va_list list;
    va_start(list, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(list, mode_t) : 0;
    va_end(list);
    if (!killer.point)
        return REAL(openat)(dir_fd, name, flags, mode);
    char room[PATH_SIZE];
    const struct op op = {.call = OPEN, .path = opened_path(dir_fd, name, room)};
    const bool dies = enter(&op);
    const int result = REAL(openat)(dir_fd, name, flags, mode);
    leave(&op, dies);
    return result;
}

/* The server's notification to its service manager. */
EXPORT ssize_t sendto(int fd, const void *bytes, size_t size, int flags,
                      const struct sockaddr *address, socklen_t address_size)
{
    const ssize_t result = REAL(sendto)(fd, bytes, size, flags, address, address_size);
    if (killer.point && address && memmem(bytes, size, "READY=1", 7))
        atomic_store(&killer.ready, true);
    return result;
}

ALIAS("pwrite") ssize_t pwrite64(int fd, const void *bytes, size_t size, off64_t offset);
ALIAS("pread") ssize_t pread64(int fd, void *bytes, size_t size, off64_t offset);
ALIAS("pwritev") ssize_t pwritev64(int fd, const struct iovec *iov, int count, off64_t offset);
ALIAS("openat") int openat64(int dir_fd, const char *name, int flags, ...);
ALIAS("ftruncate") int ftruncate64(int fd, off64_t size);
