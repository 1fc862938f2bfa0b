/* `store repair`: what cannot be read is given up, all else is kept, and the user is told before.
 *
 * The order: look at the log, the index and the rows; tell what is damaged and what will be done;
 * ask; set the originals aside; write. Each file is replaced in one step, so that a repair that was
 * cut short is simply begun again. What the server does at its start by itself, such as reading the
 * log behind the rows, is left to it.
 */
#include "base/mem.h"
#include "io/file.h"
#include "store/local/repair_priv.h"
#include "store/local/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static void say(const struct repair *repair, const char *fmt, va_list args) PRINTF(2, 0);

static void say(const struct repair *repair, const char *fmt, va_list args)
{
    char line[512];
    (void)vsnprintf(line, sizeof line, fmt, args);
    repair->how->report(repair->how->data, line);
}

void repair_say(const struct repair *repair, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(repair, fmt, args);
    va_end(args);
}

void repair_plan(struct repair *repair, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    say(repair, fmt, args);
    va_end(args);
    repair->plan_lines++;
}

void repair_add_border(struct repair *repair, uint64_t position)
{
    repair->borders =
        mem_grow(repair->borders, (repair->border_count + 1) * sizeof *repair->borders);
    repair->borders[repair->border_count++] = position;
}

/* --- setting aside ------------------------------------------------------------------------- */

int repair_keep(struct repair *repair, int dir_fd, const char *sub, const char *name)
{
    char to[128];
    const char *last = strrchr(name, '/');
    const char *folder = sub ? sub : LOCAL_META_DIR;
    int err = file_mkdirat(repair->aside_fd, folder, 0750);
    (void)snprintf(to, sizeof to, "%s/%s", folder, last ? last + 1 : name);
    if (err == 0 && linkat(dir_fd, name, repair->aside_fd, to, 0) < 0 && errno != EEXIST)
        err = -errno;
    const int fd = err < 0 ? err : file_openat(repair->aside_fd, folder, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0)
        return fd;
    err = file_fsync(fd);
    (void)close(fd);
    return err;
}

static int make_aside(struct repair *repair)
{
    int err = file_mkdirat(repair->dir_fd, repair->aside, 0750);
    if (err == 0)
        err = file_openat(repair->dir_fd, repair->aside, O_RDONLY | O_DIRECTORY, 0);
    if (err < 0)
        return err;
    repair->aside_fd = err;
    return file_fsync(repair->dir_fd);
}

static void name_aside(struct repair *repair)
{
    const time_t now = time(NULL);
    struct tm parts;
    if (!gmtime_r(&now, &parts) ||
        strftime(repair->aside, sizeof repair->aside, "damaged-%Y%m%dT%H%M%SZ", &parts) == 0)
        (void)snprintf(repair->aside, sizeof repair->aside, "damaged");
}

/* --- the index ----------------------------------------------------------------------------- */

static int index_sound(const struct repair *repair, const char *name)
{
    struct sealed_file *file = NULL;
    struct errmsg ignored = {0};
    int err = sealed_open(repair->index_fd, name, NULL, NULL, &file, &ignored);
    if (err == 0)
        err = sealed_check(file, &ignored);
    (void)sealed_unref(file);
    return err;
}

static int index_look(struct repair *repair)
{
    char **names = NULL;
    uint32_t count = 0;
    uint64_t follows = MAX(repair->state.trimmed, (uint64_t)LOG_START);
    int err = scan_names(repair->index_fd, &names, &count);
    repair->indexes = mem_new((count + 1) * sizeof *repair->indexes);
    for (uint32_t i = 0; i < count && err == 0; i++) {
        uint64_t start = 0, end = 0;
        if (!sealed_name_parse(names[i], &start, &end))
            continue;
        /* The start removes what does not follow on; so it is enough to know of the first. */
        const bool usable = repair->index_count == 0 && start <= follows;
        const int sound = usable ? index_sound(repair, names[i]) : ERR_CORRUPT;
        repair_add_border(repair, start);
        repair_add_border(repair, end);
        follows = MAX(follows, end);
        if (sound == 0)
            repair->sealed_end = MAX(repair->sealed_end, end);
        else if (sound == ERR_CORRUPT)
            (void)snprintf(repair->indexes[repair->index_count++], SEALED_NAME_SIZE, "%s",
                           names[i]);
        else
            err = sound;
    }
    scan_names_free(names, count);
    return err;
}

static void index_tell(struct repair *repair)
{
    for (uint32_t i = 0; i < repair->index_count; i++)
        repair_plan(repair,
                    "build index/%s anew from the log: it, or one before it, is damaged or missing",
                    repair->indexes[i]);
}

static int index_do(struct repair *repair)
{
    int err = 0;
    for (uint32_t i = 0; i < repair->index_count && err == 0; i++) {
        err = repair_keep(repair, repair->index_fd, LOCAL_INDEX_DIR, repair->indexes[i]);
        if (err == 0)
            err = file_unlinkat(repair->index_fd, repair->indexes[i]);
    }
    if (err == 0)
        err = file_fsync(repair->index_fd);
    if (err < 0)
        errmsg_wrap(repair->reterr, "could not set index files aside: %s", err_text(err));
    return err;
}

/* --- the whole ----------------------------------------------------------------------------- */

static void drop_line(void *data, const char *line)
{
    (void)data;
    (void)line;
}

static int look(struct repair *repair)
{
    int err = repair_log_look(repair);
    if (err == 0)
        err = repair_meta_look(repair);
    if (err == 0)
        err = index_look(repair);
    if (err == 0)
        err = repair_log_bounds(repair);
    if (err == ERR_INVALID)
        errmsg_wrap(repair->reterr, "the files do not belong together: restore a backup");
    return err;
}

static int carry_out(struct repair *repair)
{
    int err = make_aside(repair);
    if (err < 0)
        errmsg_wrap(repair->reterr, "could not make the folder '%s': %s", repair->aside,
                    err_text(err));
    if (err == 0) /* before the records go, so that readers pass over them in any case */
        err = repair_meta_do(repair);
    if (err == 0)
        err = index_do(repair);
    if (err == 0)
        err = repair_log_do(repair);
    if (err == 0)
        err = file_fsync(repair->dir_fd);
    return err;
}

static int lock(struct repair *repair)
{
    const char *dir = repair->how->dir;
    repair->lock_fd = file_openat(repair->dir_fd, LOCAL_LOCK_NAME, O_RDWR, 0);
    if (repair->lock_fd == -ENOENT) {
        const int log_fd = file_openat(repair->dir_fd, LOCAL_LOG_DIR, O_RDONLY | O_DIRECTORY, 0);
        if (log_fd >= 0) {
            (void)close(log_fd);
            repair->lock_fd = file_openat(repair->dir_fd, LOCAL_LOCK_NAME, O_RDWR | O_CREAT, 0640);
        }
    }
    if (repair->lock_fd < 0) {
        errmsg_wrap(repair->reterr, "'%s' holds no store: %s", dir, err_text(repair->lock_fd));
        return repair->lock_fd;
    }
    if (flock(repair->lock_fd, LOCK_EX | LOCK_NB) == 0)
        return 0;
    const int err = -errno;
    errmsg_wrap(repair->reterr, "'%s' is in use: stop the server first", dir);
    return err;
}

static int open_folder(struct repair *repair, const char *name, int *ret_fd)
{
    int err = file_mkdirat(repair->dir_fd, name, 0750); /* one that is missing is damage, too */
    if (err == 0)
        err = file_openat(repair->dir_fd, name, O_RDONLY | O_DIRECTORY, 0);
    if (err >= 0)
        *ret_fd = err;
    else
        errmsg_wrap(repair->reterr, "could not open '%s/%s': %s", repair->how->dir, name,
                    err_text(err));
    return MIN(err, 0);
}

static int run(struct repair *repair)
{
    int err = lock(repair);
    if (err == 0)
        err = open_folder(repair, LOCAL_LOG_DIR, &repair->log_fd);
    if (err == 0)
        err = open_folder(repair, LOCAL_INDEX_DIR, &repair->index_fd);
    if (err == 0)
        err = look(repair);
    if (err < 0)
        return err;
    name_aside(repair);
    repair_log_tell(repair);
    index_tell(repair);
    repair_meta_tell(repair);
    if (repair->plan_lines == 0) {
        repair_say(repair, "all is sound: there is nothing to repair");
        return 0;
    }
    repair_say(repair, "the damaged files will be kept in '%s/%s'", repair->how->dir,
               repair->aside);
    if (!repair->how->go(repair->how->data))
        return ERR_CORRUPT;
    err = carry_out(repair);
    if (err == 0)
        repair_say(repair, "done");
    return err;
}

int local_repair(const struct local_repair *how, struct errmsg *reterr)
{
    struct repair repair = {
        .how = how, .reterr = reterr, .lock_fd = -1, .log_fd = -1, .index_fd = -1, .aside_fd = -1};
    repair.dir_fd = file_openat(AT_FDCWD, how->dir, O_RDONLY | O_DIRECTORY, 0);
    if (repair.dir_fd < 0) {
        errmsg_wrap(reterr, "could not open '%s': %s", how->dir, err_text(repair.dir_fd));
        return repair.dir_fd;
    }
    int err = run(&repair);
    repair_log_done(&repair);
    mem_free(repair.indexes);
    mem_free(repair.borders);
    const int fds[] = {repair.aside_fd, repair.index_fd, repair.log_fd, repair.lock_fd,
                       repair.dir_fd};
    for (uint32_t i = 0; i < ARRAY_COUNT(fds); i++) {
        if (fds[i] >= 0)
            (void)close(fds[i]);
    }
    if (err == 0 && repair.plan_lines > 0) {
        err = local_check(how->dir, drop_line, NULL, reterr);
        if (err == ERR_CORRUPT) {
            errmsg_wrap(reterr, "not all could be mended: run \"tidemq store check\"");
            err = ERR_INVALID;
        }
    }
    return err;
}
