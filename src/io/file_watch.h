/* File watch: tells when one of some files has changed, however that is done: written, replaced by
 * another of the same name, or reached through a symbolic link that leads elsewhere now.
 *
 * The folders are watched, not the files, because a file that is replaced is another one. What
 * changes on other machines of a network file system is not seen.
 *
 * Thread: the loop's.
 */
#pragma once

#include "io/loop.h"

struct file_watch;
typedef void file_watch_fn(void *data);

/* Returns 0, or -errno with the reason in reterr. */
MUST_CHECK int file_watch_new(struct loop *loop, file_watch_fn *on_change, void *data,
                              struct file_watch **ret_watch, struct errmsg *reterr);
struct file_watch *file_watch_free(struct file_watch *watch); /* NULL is fine; returns NULL */
/* Watches one more file, which need not be there. Returns 0, or -errno: its folder cannot be
 * watched. */
MUST_CHECK int file_watch_add(struct file_watch *watch, const char *path);
/* Watches none any more, until some are added again. */
void file_watch_clear(struct file_watch *watch);
