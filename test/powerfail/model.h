/* What a disk would hold: the durable state, and what is written but not yet guaranteed.
 *
 * The model eats the log record by record. A file is its durable bytes and a list of pending
 * changes in their order; the tree is the durable names and one list of pending directory
 * operations. A sync marks pending changes as forced (every crash image must apply them); forced
 * changes at the head of a list move into the durable state. A failed sync poisons what it
 * covered: later syncs do not guarantee it either, because the kernel has dropped the pages.
 *
 * Data is not copied: pending changes point into the log, which must stay mapped.
 * Thread: one.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pflog.h"

#define MODEL_CHUNK_SIZE (64u << 10)

/* A pending change of one file: op is PF_WRITE, PF_ZERO, PF_TRUNCATE or PF_EXTEND. */
struct model_change {
    enum pf_op op;
    bool forced;
    bool poisoned;
    uint64_t serial; /* index of its record */
    uint64_t token;  /* of the PF_DURABLE to come, or 0 */
    uint64_t offset; /* PF_TRUNCATE, PF_EXTEND: the size */
    uint64_t size;
    const uint8_t *data; /* PF_WRITE */
};

struct model_name {
    const char *text; /* in the log, not terminated */
    size_t size;
};

struct model_entry {
    struct model_name name;
    struct model_object *object;
};

struct model_entries {
    struct model_entry *items;
    size_t count;
    size_t capacity;
};

/* A file or directory; image_* belong to the image being built. */
struct model_object {
    uint64_t id; /* in order of creation, from 1 */
    bool is_dir;
    uint32_t mode;
    bool poisoned; /* a directory whose sync failed guarantees nothing any more */

    uint8_t **chunks; /* durable content; NULL: all zero */
    size_t chunk_count;
    uint64_t size;
    struct model_change *changes; /* pending ones are [head, count) */
    size_t head;
    size_t count;
    size_t capacity;

    struct model_entries entries; /* durable names of a directory */
    uint64_t closure;             /* the last sync that forced operations on this directory */

    uint64_t image; /* the image that the fields below belong to */
    struct model_entries image_entries;
    size_t image_budget; /* pending operations on this directory that the image may apply */
    bool image_subset;   /* it may apply any of them instead, each by a coin */
    uint64_t image_random;
    char *image_path; /* where the image has this file; owned */
};

/* A pending directory operation: op is PF_LINK, PF_UNLINK or PF_RENAME. */
struct model_dir_op {
    enum pf_op op;
    bool exchange;
    bool forced;
    bool chosen; /* for the image being built */
    uint64_t serial;
    struct model_object *from_dir; /* PF_RENAME */
    struct model_object *dir;      /* where the new name appears or the old one leaves */
    struct model_name from_name;
    struct model_name name;
    struct model_object *object; /* PF_LINK */
};

struct model_sync {
    uint64_t token;
    uint64_t serial;
    struct model_object *object; /* NULL: everything */
};

struct model {
    struct model_object **objects; /* by id - 1; owned */
    size_t object_count;
    size_t object_capacity;
    void *by_ino; /* tree of tsearch(): the file that has an inode number now */

    struct model_dir_op *dir_ops; /* pending ones, in order */
    size_t dir_op_count;
    size_t dir_op_capacity;

    struct model_sync *syncs; /* begun and not ended */
    size_t sync_count;
    size_t sync_capacity;

    struct model_object *root;
    struct model_name root_path;
    uint64_t serial; /* records applied */
    uint64_t *marks;
    size_t mark_count;
    size_t mark_capacity;
    size_t unseen_count;
    uint64_t closure; /* syncs of directories so far */
    uint64_t image;   /* images built so far */
};

struct model *model_new(void);
void model_free(struct model *model);

/* Applies one record; `payload` is what follows its header in the log, names and data. */
void model_apply(struct model *model, const struct pf_record *record, const uint8_t *payload);

/* Applies a directory operation to `entries` of the directories that `entries_of` gives. */
typedef struct model_entries *model_entries_fn(struct model_object *dir);
void model_apply_dir_op(const struct model_dir_op *op, model_entries_fn *entries_of);

/* Grows an array by at least one element; ends the process when memory is out. */
void *model_grow(void *items, size_t count, size_t *capacity, size_t item_size);
