/* Names are compared in place, a directory's entries searched from the front: directories under
 * test hold tens of names. Invariant: no file's list of pending changes begins with a forced one.
 */
#include "model.h"

#include <search.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct by_ino {
    uint64_t ino;
    struct model_object *object;
};

static void *checked(void *memory)
{
    if (!memory) {
        (void)fputs("replay: out of memory\n", stderr);
        exit(2);
    }
    return memory;
}

void *model_grow(void *items, size_t count, size_t *capacity, size_t item_size)
{
    if (count < *capacity)
        return items;
    *capacity = *capacity ? *capacity * 2 : 8;
    return checked(reallocarray(items, *capacity, item_size));
}

/* --- objects --- */

static int compare_by_ino(const void *a, const void *b)
{
    const uint64_t ino_a = ((const struct by_ino *)a)->ino;
    const uint64_t ino_b = ((const struct by_ino *)b)->ino;
    return (ino_a > ino_b) - (ino_a < ino_b);
}

static struct model_object *object_find(const struct model *model, uint64_t ino)
{
    const struct by_ino key = {.ino = ino};
    struct by_ino *const *found = tfind(&key, &model->by_ino, compare_by_ino);
    return found ? (*found)->object : NULL;
}

/* Makes a new object and gives it the inode number, whoever had that before. */
static struct model_object *object_new(struct model *model, const struct pf_record *record,
                                       bool is_dir)
{
    struct model_object *object = checked(calloc(1, sizeof *object));
    model->objects = model_grow(model->objects, model->object_count, &model->object_capacity,
                                sizeof(struct model_object *));
    model->objects[model->object_count++] = object;
    object->id = model->object_count;
    object->is_dir = is_dir;
    object->mode = (uint32_t)record->arg2;

    struct by_ino *fresh = checked(calloc(1, sizeof *fresh));
    fresh->ino = record->ino;
    struct by_ino **slot = checked(tsearch(fresh, &model->by_ino, compare_by_ino));
    if (*slot != fresh)
        free(fresh);
    (*slot)->object = object;
    return object;
}

/* --- file content --- */

static void content_write(struct model_object *file, uint64_t offset, const uint8_t *data,
                          uint64_t size)
{
    const uint64_t end = offset + size;
    const size_t chunks = (size_t)((end + MODEL_CHUNK_SIZE - 1) / MODEL_CHUNK_SIZE);
    if (chunks > file->chunk_count) {
        file->chunks = checked(reallocarray(file->chunks, chunks, sizeof *file->chunks));
        memset(file->chunks + file->chunk_count, 0,
               (chunks - file->chunk_count) * sizeof *file->chunks);
        file->chunk_count = chunks;
    }
    while (offset < end) {
        uint8_t **chunk = &file->chunks[offset / MODEL_CHUNK_SIZE];
        const size_t at = (size_t)(offset % MODEL_CHUNK_SIZE);
        const uint64_t room = MODEL_CHUNK_SIZE - at;
        const size_t part = (size_t)(end - offset < room ? end - offset : room);
        if (!*chunk)
            *chunk = checked(calloc(1, MODEL_CHUNK_SIZE));
        memcpy(*chunk + at, data, part);
        data += part;
        offset += part;
    }
    if (end > file->size)
        file->size = end;
}

static void content_zero(struct model_object *file, uint64_t offset, uint64_t end)
{
    const uint64_t allocated = (uint64_t)file->chunk_count * MODEL_CHUNK_SIZE;
    while (offset < end && offset < allocated) {
        uint8_t **chunk = &file->chunks[offset / MODEL_CHUNK_SIZE];
        const size_t at = (size_t)(offset % MODEL_CHUNK_SIZE);
        const uint64_t room = MODEL_CHUNK_SIZE - at;
        const size_t part = (size_t)(end - offset < room ? end - offset : room);
        if (part == MODEL_CHUNK_SIZE) {
            free(*chunk);
            *chunk = NULL;
        } else if (*chunk) {
            memset(*chunk + at, 0, part);
        }
        offset += part;
    }
}

static void content_apply(struct model_object *file, const struct model_change *change)
{
    switch ((int)change->op) {
    case PF_WRITE:
        content_write(file, change->offset, change->data, change->size);
        break;
    case PF_ZERO:
        content_zero(file, change->offset, change->offset + change->size);
        break;
    case PF_TRUNCATE:
        content_zero(file, change->offset, UINT64_MAX);
        file->size = change->offset;
        break;
    case PF_EXTEND:
        if (change->offset > file->size)
            file->size = change->offset;
        break;
    }
}

/* Moves the forced changes at the head of the list into the durable content. */
static void changes_settle(struct model_object *file)
{
    while (file->head < file->count && file->changes[file->head].forced)
        content_apply(file, &file->changes[file->head++]);
    if (file->head == file->count)
        file->head = file->count = 0;
}

static void changes_sync(struct model_object *file, uint64_t serial_end, bool failed)
{
    for (size_t i = file->head; i < file->count && file->changes[i].serial < serial_end; i++) {
        if (failed)
            file->changes[i].poisoned = true;
        else if (!file->changes[i].poisoned)
            file->changes[i].forced = true;
    }
    changes_settle(file);
}

static void changes_add(struct model *model, const struct pf_record *record, const uint8_t *payload)
{
    struct model_object *file = object_find(model, record->ino);
    if (!file || file->is_dir)
        return; /* nameless since before the recording, or outside: in no image */
    const bool is_write = record->op == PF_WRITE;
    file->changes =
        model_grow(file->changes, file->count, &file->capacity, sizeof(struct model_change));
    file->changes[file->count++] = (struct model_change){
        .op = (enum pf_op)record->op,
        .serial = model->serial,
        .token = is_write ? record->arg2 : 0,
        .offset = record->arg1,
        .size = is_write ? record->data_size : record->arg2,
        .data = payload + record->name1_size + record->name2_size,
    };
}

static void changes_durable(struct model_object *file, uint64_t token)
{
    if (!file)
        return;
    for (size_t i = file->head; i < file->count; i++) {
        if (file->changes[i].token == token)
            file->changes[i].forced = true;
    }
    changes_settle(file);
}

/* --- names --- */

static struct model_entry *entry_find(struct model_entries *entries, struct model_name name)
{
    for (size_t i = 0; i < entries->count; i++) {
        const struct model_name *other = &entries->items[i].name;
        if (other->size == name.size && memcmp(other->text, name.text, name.size) == 0)
            return &entries->items[i];
    }
    return NULL;
}

static void entry_set(struct model_entries *entries, struct model_name name,
                      struct model_object *object)
{
    struct model_entry *entry = entry_find(entries, name);
    if (!entry) {
        entries->items =
            model_grow(entries->items, entries->count, &entries->capacity, sizeof *entries->items);
        entry = &entries->items[entries->count++];
    }
    *entry = (struct model_entry){name, object};
}

static struct model_object *entry_remove(struct model_entries *entries, struct model_name name)
{
    struct model_entry *entry = entry_find(entries, name);
    if (!entry)
        return NULL;
    struct model_object *object = entry->object;
    entries->count--;
    memmove(entry, entry + 1, (size_t)(entries->items + entries->count - entry) * sizeof *entry);
    return object;
}

void model_apply_dir_op(const struct model_dir_op *op, model_entries_fn *entries_of)
{
    struct model_entries *entries = entries_of(op->dir);
    if (op->op == PF_LINK) {
        entry_set(entries, op->name, op->object);
    } else if (op->op == PF_UNLINK) {
        (void)entry_remove(entries, op->name);
    } else {
        struct model_entries *from = entries_of(op->from_dir);
        struct model_object *moved = entry_remove(from, op->from_name);
        struct model_object *other = op->exchange ? entry_remove(entries, op->name) : NULL;
        if (moved)
            entry_set(entries, op->name, moved);
        if (other)
            entry_set(from, op->from_name, other);
    }
}

static struct model_entries *durable_entries(struct model_object *dir)
{
    return &dir->entries;
}

static void dir_op_add(struct model *model, const struct pf_record *record, const uint8_t *payload,
                       struct model_object *object)
{
    const char *names = (const char *)payload;
    const bool is_rename = record->op == PF_RENAME;
    const struct model_name first = {names, record->name1_size};
    const struct model_name second = {names + record->name1_size, record->name2_size};
    struct model_object *first_dir = object_find(model, record->arg1);
    struct model_object *dir = is_rename ? object_find(model, record->arg2) : first_dir;
    if (!first_dir || !dir)
        return;
    model->dir_ops = model_grow(model->dir_ops, model->dir_op_count, &model->dir_op_capacity,
                                sizeof *model->dir_ops);
    model->dir_ops[model->dir_op_count++] = (struct model_dir_op){
        .op = object ? PF_LINK : (enum pf_op)record->op,
        .exchange = record->flags & PF_EXCHANGE,
        .serial = model->serial,
        .from_dir = is_rename ? first_dir : NULL,
        .dir = dir,
        .from_name = first,
        .name = is_rename ? second : first,
        .object = object,
    };
}

/* Applies and drops all forced directory operations. They are closed under "came earlier in the
 * same directory", so applying them keeps each directory's order. */
static void dir_ops_settle(struct model *model)
{
    size_t kept = 0;
    for (size_t i = 0; i < model->dir_op_count; i++) {
        if (model->dir_ops[i].forced)
            model_apply_dir_op(&model->dir_ops[i], durable_entries);
        else
            model->dir_ops[kept++] = model->dir_ops[i];
    }
    model->dir_op_count = kept;
}

/* A directory's sync forces the names that appeared in it or left it. What came earlier in any
 * directory of a forced operation is forced with it: a rename is atomic, and directories keep
 * their order. A rename out of `dir` alone is not guaranteed. `dir` NULL: all directories. */
static void dir_ops_sync(struct model *model, const struct model_object *dir, uint64_t serial_end)
{
    const uint64_t closure = ++model->closure;
    for (size_t i = model->dir_op_count; i-- > 0;) {
        struct model_dir_op *op = &model->dir_ops[i];
        const bool hit = !dir || op->dir == dir || op->dir->closure == closure ||
                         (op->from_dir && op->from_dir->closure == closure);
        if (op->serial >= serial_end || !hit)
            continue;
        op->forced = true;
        op->dir->closure = closure;
        if (op->from_dir)
            op->from_dir->closure = closure;
    }
    dir_ops_settle(model);
}

/* --- syncs --- */

static void sync_begin(struct model *model, const struct pf_record *record)
{
    struct model_object *object = record->ino ? object_find(model, record->ino) : NULL;
    if (record->ino && !object)
        return;
    model->syncs =
        model_grow(model->syncs, model->sync_count, &model->sync_capacity, sizeof *model->syncs);
    model->syncs[model->sync_count++] = (struct model_sync){record->arg1, model->serial, object};
}

static void sync_apply(struct model *model, const struct model_sync *sync, bool failed)
{
    if (!sync->object) {
        for (size_t i = 0; i < model->object_count && !failed; i++)
            changes_sync(model->objects[i], sync->serial, false);
        if (!failed)
            dir_ops_sync(model, NULL, sync->serial);
    } else if (!sync->object->is_dir) {
        changes_sync(sync->object, sync->serial, failed);
    } else if (failed) {
        sync->object->poisoned = true;
    } else if (!sync->object->poisoned) {
        dir_ops_sync(model, sync->object, sync->serial);
    }
}

static void sync_end(struct model *model, const struct pf_record *record)
{
    for (size_t i = 0; i < model->sync_count; i++) {
        if (model->syncs[i].token != record->arg1)
            continue;
        const struct model_sync sync = model->syncs[i];
        model->syncs[i] = model->syncs[--model->sync_count];
        sync_apply(model, &sync, record->arg2 != 0);
        return;
    }
}

/* --- records --- */

static void start(struct model *model, const struct pf_record *record, const uint8_t *payload)
{
    if (model->root)
        return;
    model->root = object_new(model, record, true);
    model->root_path = (struct model_name){(const char *)payload, record->name1_size};
}

static void create(struct model *model, const struct pf_record *record, const uint8_t *payload)
{
    struct model_object *object = object_new(model, record, record->flags & PF_DIRECTORY);
    if (record->name1_size > 0)
        dir_op_add(model, record, payload, object);
}

void model_apply(struct model *model, const struct pf_record *record, const uint8_t *payload)
{
    switch ((enum pf_op)record->op) {
    case PF_START:
        start(model, record, payload);
        break;
    case PF_BASE_END:
        sync_apply(model, &(struct model_sync){.serial = UINT64_MAX}, false);
        break;
    case PF_CREATE:
        create(model, record, payload);
        break;
    case PF_LINK: {
        struct model_object *object = object_find(model, record->ino);
        if (object)
            dir_op_add(model, record, payload, object);
        break;
    }
    case PF_UNLINK:
    case PF_RENAME:
        dir_op_add(model, record, payload, NULL);
        break;
    case PF_WRITE:
    case PF_ZERO:
    case PF_TRUNCATE:
    case PF_EXTEND:
        changes_add(model, record, payload);
        break;
    case PF_DURABLE:
        changes_durable(object_find(model, record->ino), record->arg1);
        break;
    case PF_SYNC_BEGIN:
        sync_begin(model, record);
        break;
    case PF_SYNC_END:
        sync_end(model, record);
        break;
    case PF_MARK:
        model->marks = model_grow(model->marks, model->mark_count, &model->mark_capacity,
                                  sizeof *model->marks);
        model->marks[model->mark_count++] = record->arg1;
        break;
    case PF_UNSEEN:
        model->unseen_count++;
        break;
    case PF_HINT:
        break;
    }
    model->serial++;
}

struct model *model_new(void)
{
    return checked(calloc(1, sizeof(struct model)));
}

void model_free(struct model *model)
{
    for (size_t i = 0; i < model->object_count; i++) {
        struct model_object *object = model->objects[i];
        for (size_t c = 0; c < object->chunk_count; c++)
            free(object->chunks[c]);
        free(object->chunks);
        free(object->changes);
        free(object->entries.items);
        free(object->image_entries.items);
        free(object->image_path);
        free(object);
    }
    free(model->objects);
    tdestroy(model->by_ino, free);
    free(model->dir_ops);
    free(model->syncs);
    free(model->marks);
    free(model);
}
