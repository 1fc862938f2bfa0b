/* The embedded engine in a folder of its own, with the smallest segments. A crash is a copy of the
 * folder as the kernel has it, made while the engine is open but its worker stands still: a copy
 * takes time, a crash does not. */
#include "engine.h"

#include "base/mem.h"
#include "io/file.h"
#include "store/local/local.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct own {
    char dir[64], copy[64];
    struct local_config config;
    struct worker_pool *workers;
    struct metrics *metrics;
};

enum { COPY_SIZE = 64 * 1024 };

static void copy_file(int from_dir, int to_dir, const char *name)
{
    static uint8_t bytes[COPY_SIZE];
    const int from = openat(from_dir, name, O_RDONLY | O_CLOEXEC);
    const int to = openat(to_dir, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    ASSERT(from >= 0);
    ASSERT(to >= 0);
    ssize_t size = 0;
    while ((size = read(from, bytes, sizeof bytes)) > 0)
        ASSERT(write(to, bytes, (size_t)size) == size);
    ASSERT(size == 0);
    (void)close(from);
    (void)close(to);
}

/* Calls `each` for every name in the folder; takes fd. */
static void each_name(int fd, void (*each)(int fd, const char *name, void *data), void *data)
{
    DIR *folder = fdopendir(fd);
    ASSERT(folder != NULL);
    const struct dirent *entry = NULL;
    while ((entry = readdir(folder))) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            each(fd, entry->d_name, data);
    }
    (void)closedir(folder);
}

static bool is_folder(int fd, const char *name)
{
    struct stat stat;
    ASSERT(fstatat(fd, name, &stat, AT_SYMLINK_NOFOLLOW) == 0);
    return S_ISDIR(stat.st_mode);
}

static int open_folder(int fd, const char *name)
{
    const int folder = openat(fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    ASSERT(folder >= 0);
    return folder;
}

static void copy_one(int fd, const char *name, void *data)
{
    const int to = *(const int *)data;
    if (!is_folder(fd, name)) {
        if (strcmp(name, "lock.mdb") != 0) /* LMDB's readers, in shared memory */
            copy_file(fd, to, name);
        return;
    }
    ASSERT(mkdirat(to, name, 0750) == 0);
    int beneath = open_folder(to, name);
    each_name(open_folder(fd, name), copy_one, &beneath);
    (void)close(beneath);
}

static void remove_one(int fd, const char *name, void *data)
{
    const bool folder = is_folder(fd, name);
    if (folder)
        each_name(open_folder(fd, name), remove_one, data);
    ASSERT(unlinkat(fd, name, folder ? AT_REMOVEDIR : 0) == 0);
}

static void open_store(struct engine *engine)
{
    struct own *own = engine->own;
    struct errmsg why = {0};
    ASSERT(loop_new(&engine->loop, NULL) == 0);
    ASSERT(worker_pool_new(1, &own->workers, NULL) == 0);
    own->config.dir = own->dir;
    const int err = local_open(&own->config, engine->loop, own->workers, NULL, own->metrics,
                               &engine->store, &engine->meta, &why);
    if (err < 0)
        fprintf(stderr, "%s: %s\n", err_text(err), why.text);
    ASSERT(err == 0);
}

static void close_store(struct engine *engine)
{
    struct own *own = engine->own;
    engine->store = store_close(engine->store);
    own->workers = worker_pool_free(own->workers);
    engine->loop = loop_free(engine->loop);
}

static void engine_open(struct engine *engine)
{
    struct own *own = mem_new(sizeof *own);
    engine->own = own;
    (void)snprintf(own->dir, sizeof own->dir, "conformance-XXXXXX");
    ASSERT(mkdtemp(own->dir) != NULL);
    (void)snprintf(own->copy, sizeof own->copy, "%.50s.copy", own->dir);
    own->metrics = metrics_new();
    local_config_default(&own->config);
    own->config.segment_size = 1 << 20;
    own->config.pool_segments = 0;
    own->config.seal_entries = 1000;
    own->config.checkpoint_ms = 20;
    if (engine->options.small_retention)
        own->config.retention_bytes = 4 << 20;
    if (engine->options.pressure_bytes)
        own->config.pressure_bytes = engine->options.pressure_bytes;
    open_store(engine);
}

/* Keeps the only worker busy. */
struct pause {
    struct work work;
    sem_t reached, over;
};

static void run_pause(struct work *work)
{
    struct pause *pause = CONTAINER_OF(work, struct pause, work);
    ASSERT(sem_post(&pause->reached) == 0);
    ASSERT(sem_wait(&pause->over) == 0);
}

static void pause_done(struct work *work)
{
    (void)work;
}

static void copy_store(const struct own *own)
{
    ASSERT(mkdir(own->copy, 0750) == 0);
    int to = open_folder(AT_FDCWD, own->copy);
    each_name(open_folder(AT_FDCWD, own->dir), copy_one, &to);
    (void)close(to);
}

static void copy_standing_still(struct engine *engine)
{
    const struct own *own = engine->own;
    struct mailbox *mailbox = NULL;
    struct pause pause = {.work.run = run_pause, .work.done = pause_done};
    ASSERT(mailbox_new(engine->loop, &mailbox, NULL) == 0);
    ASSERT(sem_init(&pause.reached, 0, 0) == 0);
    ASSERT(sem_init(&pause.over, 0, 0) == 0);
    worker_submit(own->workers, mailbox, &pause.work);
    ASSERT(sem_wait(&pause.reached) == 0);
    copy_store(own);
    ASSERT(sem_post(&pause.over) == 0);
    mailbox_wait(mailbox);
    (void)mailbox_free(mailbox);
    (void)sem_destroy(&pause.reached);
    (void)sem_destroy(&pause.over);
}

static void engine_reopen(struct engine *engine, bool crash)
{
    const struct own *own = engine->own;
    if (crash)
        copy_standing_still(engine);
    engine->gone = crash;
    close_store(engine);
    engine->gone = false;
    if (crash) {
        remove_one(AT_FDCWD, own->dir, NULL);
        ASSERT(rename(own->copy, own->dir) == 0);
    }
    open_store(engine);
}

static void engine_close(struct engine *engine)
{
    struct own *own = engine->own;
    close_store(engine);
    remove_one(AT_FDCWD, own->dir, NULL);
    (void)metrics_free(own->metrics);
    mem_free(own);
}

/* Nothing is in memory then. */
static void engine_make_reads_slow(struct engine *engine)
{
    engine_reopen(engine, false);
}

static void engine_make_trim(struct engine *engine)
{
    (void)engine;
}

/* Nothing else is written by way of these calls while there is so little. */
static void engine_fail_append(struct engine *engine)
{
    (void)engine;
    file_fail_at(FILE_OP_WRITE, 1, EIO, false);
}

const struct engine_kind engine_kind = {
    .name = "local",
    .record_max = 1000 * 1000,
    .open = engine_open,
    .reopen = engine_reopen,
    .close = engine_close,
    .make_reads_slow = engine_make_reads_slow,
    .make_trim = engine_make_trim,
    .fail_append = engine_fail_append,
};
