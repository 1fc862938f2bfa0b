#include "io/file_watch.h"

#include "base/mem.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

/* Where a folder holds symbolic links to a folder of the whole that is replaced at once, as
 * Kubernetes does, it is this link that changes. */
#define WHOLE_LINK "..data"

#define CHANGES    (IN_CLOSE_WRITE | IN_MOVED_TO | IN_MOVED_FROM | IN_CREATE | IN_DELETE | IN_ONLYDIR)

struct watched {
    struct list node;
    int folder; /* inotify's number of it */
    char name[NAME_MAX + 1];
};

struct file_watch {
    struct io_watch io;
    struct loop *loop;
    file_watch_fn *on_change;
    void *data;
    struct list files; /* struct watched */
};

static bool concerns(const struct file_watch *watch, const struct inotify_event *event)
{
    if (event->mask & IN_Q_OVERFLOW)
        return true;
    list_each (it, &watch->files) {
        const struct watched *file = CONTAINER_OF(it, struct watched, node);
        if (file->folder == event->wd && event->len > 0 &&
            (strcmp(file->name, event->name) == 0 || strcmp(event->name, WHOLE_LINK) == 0))
            return true;
    }
    return false;
}

static void on_event(struct io_watch *io, unsigned events)
{
    (void)events;
    struct file_watch *watch = CONTAINER_OF(io, struct file_watch, io);
    _Alignas(struct inotify_event) char bytes[4096];
    bool changed = false;
    ssize_t size;
    while ((size = read(io->fd, bytes, sizeof bytes)) > 0) {
        for (const char *at = bytes; at < bytes + size;) {
            const struct inotify_event *event = (const struct inotify_event *)(const void *)at;
            changed |= concerns(watch, event);
            at += sizeof *event + event->len;
        }
    }
    if (changed)
        watch->on_change(watch->data);
}

int file_watch_new(struct loop *loop, file_watch_fn *on_change, void *data,
                   struct file_watch **ret_watch, struct errmsg *reterr)
{
    struct file_watch *watch = mem_new(sizeof *watch);
    list_init(&watch->files);
    watch->loop = loop;
    watch->on_change = on_change;
    watch->data = data;
    watch->io.on_event = on_event;
    watch->io.fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    int err = watch->io.fd < 0 ? -errno : io_watch_start(loop, &watch->io, IO_READ);
    if (err < 0) {
        errmsg_wrap(reterr, "could not watch files: %s", err_text(err));
        if (watch->io.fd >= 0)
            (void)close(watch->io.fd);
        mem_free(watch);
        return err;
    }
    *ret_watch = watch;
    return 0;
}

/* One path, without regard to where it leads. */
static int add_name(struct file_watch *watch, const char *path)
{
    char folder[PATH_MAX];
    const char *slash = strrchr(path, '/');
    const char *name = slash ? slash + 1 : path;
    const size_t size = slash ? (size_t)(slash - path) + 1 : 0;
    if (size >= sizeof folder || strlen(name) > NAME_MAX)
        return -ENAMETOOLONG;
    memcpy(folder, path, size);
    folder[size] = '\0';
    const int number = inotify_add_watch(watch->io.fd, size > 0 ? folder : ".", CHANGES);
    if (number < 0)
        return -errno;
    struct watched *file = mem_new(sizeof *file);
    file->folder = number;
    memcpy(file->name, name, strlen(name) + 1);
    list_push_back(&watch->files, &file->node);
    return 0;
}

int file_watch_add(struct file_watch *watch, const char *path)
{
    char resolved[PATH_MAX];
    int err = add_name(watch, path);
    if (err == 0 && realpath(path, resolved) && strcmp(resolved, path) != 0)
        err = add_name(watch, resolved);
    return err;
}

/* The folders stay watched: they are few, most will be asked for again, and no event is lost in
 * between. */
void file_watch_clear(struct file_watch *watch)
{
    list_each_safe (it, &watch->files) {
        struct watched *file = CONTAINER_OF(it, struct watched, node);
        list_remove(&file->node);
        mem_free(file);
    }
}

struct file_watch *file_watch_free(struct file_watch *watch)
{
    if (!watch)
        return NULL;
    file_watch_clear(watch);
    io_watch_stop(watch->loop, &watch->io);
    (void)close(watch->io.fd);
    mem_free(watch);
    return NULL;
}
