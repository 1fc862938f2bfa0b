/* `store check`: every file is read whole, nothing is written, and the search goes on behind what
 * it finds, so that one run shows all damage.
 */
#include "base/mem.h"
#include "io/file.h"
#include "store/local/engine_priv.h"
#include "store/local/metawalk.h"
#include "store/local/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

struct check {
    const char *dir;
    int dir_fd;
    local_report_fn *report;
    void *data;
    bool damaged;
    uint64_t log_start, log_end, record_count;
    uint64_t index_start, index_end; /* 0: there are no files */
    uint32_t meta_findings;
    bool rows_read; /* what stands in `rows` may be relied on */
    struct metawalk_summary rows;
};

static void say(struct check *check, const char *fmt, ...) PRINTF(2, 3);

static void say(struct check *check, const char *fmt, ...)
{
    char line[512];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    check->report(check->data, line);
}

static void found(struct check *check, const struct errmsg *what)
{
    check->damaged = true;
    say(check, "%s", what->text);
}

static int open_sub(const struct check *check, const char *name, struct errmsg *reterr)
{
    const int fd = file_openat(check->dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        errmsg_wrap(reterr, "could not open '%s/%s': %s", check->dir, name, err_text(fd));
    return fd;
}

/* --- the log ------------------------------------------------------------------------------- */

static int check_record(void *data, const struct record *record)
{
    struct check *check = data;
    struct slice rest = record->ops;
    struct meta_op op;
    uint32_t count = 0;
    int more = 0;
    while ((more = record_op_next(&rest, &op)) > 0)
        count++;
    check->record_count++;
    return more < 0 || count != record->header->op_count ? ERR_CORRUPT : 0;
}

/* Reads a segment up to its successor, which may be NULL. One that has been given up is passed
 * over: a crash may have kept any of those, and the next start frees them. */
static int check_segment(struct check *check, const struct segment *segment,
                         const struct segment *next)
{
    if (next && next->base <= check->rows.trimmed) {
        check->log_start = next->base;
        return 0;
    }
    struct errmsg what = {0};
    uint64_t end = segment->base;
    int err = next ? scan_chain(segment, next, &what) : 0;
    if (err < 0)
        found(check, &what);
    what = (struct errmsg){0};
    const struct scan scan = {.segment = segment,
                              .from = segment->base,
                              .end = next ? next->base : UINT64_MAX,
                              .each = check_record,
                              .data = check};
    err = scan_segment(&scan, &end, &what);
    if (err == ERR_CORRUPT && !what.text[0]) {
        char name[SEGMENT_NAME_SIZE];
        segment_name(segment->number, name);
        errmsg_wrap(&what, "segment '%s': a record's operations cannot be decoded", name);
    }
    check->log_end = end;
    if (err == ERR_CORRUPT)
        found(check, &what);
    return err == ERR_CORRUPT ? 0 : err;
}

static int check_segments(struct check *check, int log_fd, char **names, uint32_t count,
                          struct errmsg *reterr)
{
    struct segment *before = NULL;
    uint32_t segments = 0;
    int err = 0;
    for (uint32_t i = 0; i < count && err == 0; i++) {
        if (segment_number(names[i]) == 0)
            continue;
        struct errmsg what = {0};
        struct segment *segment = NULL;
        err = segment_open(log_fd, names[i], O_RDONLY, &segment, &what);
        if (err == ERR_CORRUPT) {
            found(check, &what);
            err = 0;
            continue;
        }
        if (err < 0) {
            *reterr = what;
            break;
        }
        if (segments++ == 0)
            check->log_start = segment->base;
        if (before)
            err = check_segment(check, before, segment);
        (void)segment_unref(before);
        before = segment;
    }
    if (before && err == 0)
        err = check_segment(check, before, NULL);
    (void)segment_unref(before);
    say(check, "log: %" PRIu32 " segments, %" PRIu64 " records, positions %" PRIu64 " to %" PRIu64,
        segments, check->record_count, check->log_start, check->log_end);
    return err;
}

/* Calls `each` with the names in a directory of the store. */
typedef int check_fn(struct check *check, int fd, char **names, uint32_t count,
                     struct errmsg *reterr);

static int check_dir(struct check *check, const char *name, check_fn *each, struct errmsg *reterr)
{
    const int fd = open_sub(check, name, reterr);
    if (fd < 0)
        return fd;
    char **names = NULL;
    uint32_t count = 0;
    int err = scan_names(fd, &names, &count);
    if (err == 0)
        err = each(check, fd, names, count, reterr);
    scan_names_free(names, count);
    (void)close(fd);
    return err;
}

/* --- the index ----------------------------------------------------------------------------- */

static int check_file(struct check *check, int index_fd, const char *name)
{
    struct errmsg what = {0};
    struct sealed_file *file = NULL;
    int err = sealed_open(index_fd, name, NULL, NULL, &file, &what);
    if (err == 0) {
        err = sealed_check(file, &what);
        if (err < 0)
            errmsg_wrap(&what, "index file '%s'", name);
    }
    if (err == ERR_CORRUPT)
        found(check, &what);
    else if (err == 0 && file->end > check->log_end)
        say(check,
            "log: ends at position %" PRIu64
            " but index file '%s' was built up to position %" PRIu64,
            check->log_end, name, file->end);
    check->damaged |= err == 0 && file->end > check->log_end;
    (void)sealed_unref(file);
    return err == ERR_CORRUPT ? 0 : err;
}

/* Each must begin where one before it ends. Names are in the order of their begin; a file that was
 * merged into another may be left over beside it. */
static void check_span(struct check *check, const char *name, uint64_t start, uint64_t end)
{
    if (check->index_end && start > check->index_end) {
        check->damaged = true;
        say(check, "index: a file is missing between position %" PRIu64 " and '%s'",
            check->index_end, name);
    }
    if (!check->index_end)
        check->index_start = start;
    check->index_end = MAX(check->index_end, end);
}

static int check_files(struct check *check, int index_fd, char **names, uint32_t count,
                       struct errmsg *reterr)
{
    (void)reterr;
    uint32_t files = 0;
    int err = 0;
    for (uint32_t i = 0; i < count && err == 0; i++) {
        uint64_t start = 0, end = 0;
        if (!sealed_name_parse(names[i], &start, &end))
            continue;
        files++;
        check_span(check, names[i], start, end);
        err = check_file(check, index_fd, names[i]);
    }
    say(check, "index: %" PRIu32 " files", files);
    return err;
}

/* --- the metadata -------------------------------------------------------------------------- */

enum { META_FINDINGS_MAX = 20 };

static void found_in_meta(void *data, uint64_t offset, const char *what)
{
    struct check *check = data;
    check->damaged = true;
    if (check->meta_findings++ < META_FINDINGS_MAX)
        say(check, "metadata '%s/%s' at offset %" PRIu64 ": %s", LOCAL_META_DIR, METADB_FILE_NAME,
            offset, what);
}

/* The log must reach from where rows and retention have left off. */
static void check_bounds(struct check *check)
{
    const struct metawalk_summary *rows = &check->rows;
    if (!check->rows_read)
        return;
    if (rows->applied > MAX(check->log_end, (uint64_t)LOG_START)) {
        check->damaged = true;
        say(check, "log: ends at position %" PRIu64 " but was durable up to %" PRIu64,
            check->log_end, rows->applied);
    }
    if (check->index_end && check->index_start > MAX(rows->trimmed, (uint64_t)LOG_START)) {
        check->damaged = true;
        say(check, "index: the file is missing that begins at or before position %" PRIu64,
            MAX(rows->trimmed, (uint64_t)LOG_START));
    }
    if (check->log_start > MAX(rows->trimmed, (uint64_t)LOG_START)) {
        check->damaged = true;
        say(check, "log: begins at position %" PRIu64 " but must begin at %" PRIu64,
            check->log_start, rows->trimmed);
    }
}

static int check_meta(struct check *check, int fd, struct errmsg *reterr)
{
    const struct metawalk_events events = {.found = found_in_meta, .data = check};
    const int err = metawalk_verify(fd, &events, &check->rows, reterr);
    if (check->meta_findings > META_FINDINGS_MAX)
        say(check, "metadata: %" PRIu32 " more places", check->meta_findings - META_FINDINGS_MAX);
    if (err == ERR_CORRUPT)
        return 0;
    if (err < 0)
        return err;
    check->rows_read = true;
    say(check, "metadata: %" PRIu64 " rows as of position %" PRIu64, check->rows.row_count,
        check->rows.applied);
    return 0;
}

static int check_rows(struct check *check, struct errmsg *reterr)
{
    const char *path = LOCAL_META_DIR "/" METADB_FILE_NAME;
    const int fd = file_openat(check->dir_fd, path, O_RDONLY, 0);
    if (fd == -ENOENT) {
        check->damaged = true;
        say(check, "metadata '%s' is missing", path);
        return 0;
    }
    if (fd < 0) {
        errmsg_wrap(reterr, "could not open '%s/%s': %s", check->dir, path, err_text(fd));
        return fd;
    }
    const int err = check_meta(check, fd, reterr);
    (void)close(fd);
    return err;
}

static int check_all(struct check *check, struct errmsg *reterr)
{
    int err = check_rows(check, reterr); /* first: it tells where the log begins */
    if (err == 0)
        err = check_dir(check, LOCAL_LOG_DIR, check_segments, reterr);
    if (err == 0)
        err = check_dir(check, LOCAL_INDEX_DIR, check_files, reterr);
    if (err < 0)
        return err;
    check_bounds(check);
    say(check, "%s", check->damaged ? "damage was found" : "all is sound");
    return check->damaged ? ERR_CORRUPT : 0;
}

int local_check(const char *dir, local_report_fn *report, void *data, struct errmsg *reterr)
{
    struct check check = {.dir = dir, .report = report, .data = data};
    check.dir_fd = file_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
    if (check.dir_fd < 0) {
        errmsg_wrap(reterr, "could not open '%s': %s", dir, err_text(check.dir_fd));
        return check.dir_fd;
    }
    int err = 0;
    const int lock_fd = file_openat(check.dir_fd, LOCAL_LOCK_NAME, O_RDONLY, 0);
    if (lock_fd < 0) {
        err = lock_fd;
        errmsg_wrap(reterr, "'%s' holds no store: %s", dir, err_text(err));
    } else if (flock(lock_fd, LOCK_SH | LOCK_NB) < 0) {
        err = -errno;
        errmsg_wrap(reterr, "'%s' is in use: stop the server first", dir);
    } else {
        err = check_all(&check, reterr);
    }
    if (lock_fd >= 0)
        (void)close(lock_fd);
    (void)close(check.dir_fd);
    return err;
}
