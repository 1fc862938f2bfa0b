#include "base/mem.h"
#include "io/file.h"
#include "store/local/repair_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define META_FILE LOCAL_META_DIR "/" METADB_FILE_NAME

static void ignore(void *data, uint64_t offset, const char *what)
{
    (void)data;
    (void)offset;
    (void)what;
}

static void ignore_row(void *data, enum metarow_table table, struct slice key, struct slice value)
{
    (void)data;
    (void)table;
    (void)key;
    (void)value;
}

static int open_file(const struct repair *repair)
{
    return file_openat(repair->dir_fd, META_FILE, O_RDONLY, 0);
}

/* --- looking ------------------------------------------------------------------------------- */

/* Rows can be had of two snapshots. The older one, when it is whole and the log still has all that
 * came after it, is better than a newer one with rows missing. */
static int choose(struct repair *repair, int fd)
{
    const struct metawalk_events events = {.row = ignore_row, .found = ignore};
    struct metawalk_salvage older = {0};
    int err = metawalk_salvage(fd, 0, &events, &repair->salvage);
    if (err == 0 && !repair->salvage.sound)
        err = metawalk_salvage(fd, 1, &events, &older);
    if (err < 0)
        return err;
    const uint64_t first = repair_log_first(repair);
    if (older.sound && older.usable && first != 0 &&
        first <= MAX(older.state.trimmed, (uint64_t)LOG_START)) {
        repair->salvage = older;
        repair->snapshot = 1;
    }
    const struct metawalk_salvage *salvage = &repair->salvage;
    repair->rows_lost = !(salvage->usable && salvage->sound);
    if (salvage->usable)
        repair->state = (struct metadb_state){.applied = salvage->state.applied,
                                              .trimmed = salvage->state.trimmed};
    else /* so the log begins where it begins */
        repair->state.trimmed = first;
    return 0;
}

int repair_meta_look(struct repair *repair)
{
    const int fd = open_file(repair);
    if (fd == -ENOENT) {
        repair->meta_damaged = repair->meta_missing = repair->rows_lost = true;
        repair->state.trimmed = repair_log_first(repair);
        return 0;
    }
    if (fd < 0)
        return fd;
    const struct metawalk_events events = {.found = ignore};
    struct metawalk_summary summary = {0};
    int err = metawalk_verify(fd, &events, &summary, repair->reterr);
    repair->meta_damaged = err == ERR_CORRUPT;
    if (err == 0)
        repair->state =
            (struct metadb_state){.applied = summary.applied, .trimmed = summary.trimmed};
    else if (err == ERR_CORRUPT)
        err = choose(repair, fd);
    repair_add_border(repair, repair->state.applied);
    (void)close(fd);
    return err;
}

/* --- saying so ----------------------------------------------------------------------------- */

static bool log_is_whole(const struct repair *repair)
{
    return repair_log_first(repair) == LOG_START;
}

void repair_meta_tell(struct repair *repair)
{
    const struct metawalk_salvage *salvage = &repair->salvage;
    if (!repair->meta_damaged)
        return;
    if (repair->meta_missing)
        repair_plan(repair, "write %s: the file is missing", META_FILE);
    else if (!repair->rows_lost && repair->snapshot == 0)
        repair_plan(repair, "write %s: all %" PRIu64 " rows can be read", META_FILE,
                    salvage->row_count);
    else if (!repair->rows_lost)
        repair_plan(repair,
                    "write %s: of the checkpoint before, with %" PRIu64
                    " rows as of position %" PRIu64,
                    META_FILE, salvage->row_count, repair->state.applied);
    else
        repair_plan(repair, "write %s: %" PRIu64 " of %" PRIu64 " rows can be read", META_FILE,
                    MIN(salvage->row_count, salvage->rows_expected), salvage->rows_expected);
    if (!repair->rows_lost)
        repair_say(repair, "      nothing is lost: the log has what came later");
    else if (log_is_whole(repair))
        repair_say(repair, "      nothing is lost by this: the log goes back to the beginning and "
                           "has them all");
    else
        repair_say(
            repair,
            "      the log has what changed from position %" PRIu64
            " on; sessions, subscriptions, retained messages and topics last changed before, "
            "and not among the rows that can be read, are lost",
            repair_log_first(repair));
}

/* --- doing it ------------------------------------------------------------------------------ */

static void restore_row(void *data, enum metarow_table table, struct slice key, struct slice value)
{
    metadb_restore_put(data, table, key, value);
}

static int restore(struct repair *repair, struct metadb *db)
{
    struct metadb_state state = repair->state;
    if (repair->rows_lost) { /* all that the log has is read again */
        state.trimmed = MAX(state.trimmed, repair_log_first(repair));
        if (log_is_whole(repair))
            state.trimmed = 0;
        state.applied = MAX(state.trimmed, (uint64_t)LOG_START);
    }
    struct metadb_restore *rows = NULL;
    int err = metadb_restore_begin(db, &rows, repair->reterr);
    if (err < 0)
        return err;
    const int fd = repair->meta_missing ? -1 : open_file(repair);
    const struct metawalk_events events = {.row = restore_row, .found = ignore, .data = rows};
    struct metawalk_salvage salvage;
    if (fd >= 0)
        err = metawalk_salvage(fd, repair->snapshot, &events, &salvage);
    if (fd >= 0)
        (void)close(fd);
    const int ended = metadb_restore_end(rows, &state, repair->reterr);
    return err < 0 ? err : ended;
}

/* The ranges that readers must pass over. */
static int note_holes(struct repair *repair, struct metadb *db)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < repair->part_count; i++) {
        for (const struct hole *hole = repair->parts[i].holes; hole; hole = hole->next)
            count++;
    }
    struct metadb_lost *lost = mem_new((count + 1) * sizeof *lost);
    count = 0;
    for (uint32_t i = 0; i < repair->part_count; i++) {
        for (const struct hole *hole = repair->parts[i].holes; hole; hole = hole->next)
            lost[count++] = (struct metadb_lost){
                .start = hole->start, .end = hole->end, .until = repair->log_end};
    }
    const uint64_t first = repair_log_first(repair);
    if (repair->rows_lost && first > LOG_START) /* where queues begin is lost, too */
        lost[count++] = (struct metadb_lost){.start = first,
                                             .end = first,
                                             .count = first / sizeof(struct record_header) + 1,
                                             .until = repair->log_end};
    const int err = count ? metadb_lose(db, lost, count, repair->reterr) : 0;
    mem_free(lost);
    return err;
}

static int open_db(struct repair *repair, const char *name, struct metadb **ret_db)
{
    char path[4096];
    struct metadb_state state;
    const int size = snprintf(path, sizeof path, "%s/%s", repair->how->dir, name);
    if (size < 0 || (size_t)size >= sizeof path)
        return -ENAMETOOLONG;
    return metadb_open(path, ret_db, &state, repair->reterr);
}

/* Makes the new database beside the old one. */
static int make(struct repair *repair)
{
    int err = file_mkdirat(repair->dir_fd, LOCAL_META_NEW_DIR, 0750);
    const int fd =
        err < 0 ? err : file_openat(repair->dir_fd, LOCAL_META_NEW_DIR, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    (void)!file_unlinkat(fd, METADB_FILE_NAME); /* of an attempt before */
    (void)!file_unlinkat(fd, "lock.mdb");
    struct metadb *db = NULL;
    err = open_db(repair, LOCAL_META_NEW_DIR, &db);
    if (err == 0)
        err = restore(repair, db);
    if (err == 0)
        err = note_holes(repair, db);
    (void)metadb_close(db);
    if (err == 0)
        err = file_fsync(fd);
    (void)close(fd);
    return err;
}

/* Puts the new database's file in the place of the old one, in one step. */
static int replace(struct repair *repair)
{
    int err = file_mkdirat(repair->dir_fd, LOCAL_META_DIR, 0750);
    if (err == 0 && !repair->meta_missing)
        err = repair_keep(repair, repair->dir_fd, NULL, META_FILE);
    if (err == 0)
        err = file_renameat(repair->dir_fd, LOCAL_META_NEW_DIR "/" METADB_FILE_NAME, META_FILE);
    (void)!file_unlinkat(repair->dir_fd, LOCAL_META_NEW_DIR "/lock.mdb");
    if (err == 0 && unlinkat(repair->dir_fd, LOCAL_META_NEW_DIR, AT_REMOVEDIR) < 0)
        err = -errno;
    const int fd = file_openat(repair->dir_fd, LOCAL_META_DIR, O_RDONLY | O_DIRECTORY, 0);
    if (err == 0)
        err = fd < 0 ? fd : file_fsync(fd);
    if (fd >= 0)
        (void)close(fd);
    return err;
}

int repair_meta_do(struct repair *repair)
{
    bool holes = false;
    for (uint32_t i = 0; i < repair->part_count; i++)
        holes |= repair->parts[i].holes != NULL;
    if (!repair->meta_damaged && !holes)
        return 0;
    int err = 0;
    if (repair->meta_damaged) {
        err = make(repair);
        if (err == 0)
            err = replace(repair);
    } else {
        struct metadb *db = NULL;
        err = open_db(repair, LOCAL_META_DIR, &db);
        if (err == 0)
            err = note_holes(repair, db);
        (void)metadb_close(db);
    }
    if (err < 0)
        errmsg_wrap(repair->reterr, "could not write the metadata: %s", err_text(err));
    return err;
}
