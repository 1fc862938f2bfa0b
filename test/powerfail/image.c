#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SECTOR_SIZE 512u

/* A name that an operation the image lacks would have changed. */
struct lost_name {
    const struct model_object *dir;
    struct model_name name;
};

struct builder {
    struct model *model;
    enum image_mode mode;
    uint64_t seed;
    struct image_stats stats;
    struct lost_name *lost;
    size_t lost_count;
    size_t lost_capacity;
};

/* Sectors of what is pending, counted from the first. */
struct sectors {
    uint64_t begin;
    uint64_t end;
};

/* A file being written into the image. */
struct output {
    int fd;
    const char *path;
    uint64_t size;
    uint64_t random;
    struct image_stats *stats;
};

static void die(const char *path)
{
    (void)fprintf(stderr, "replay: could not write image '%s': %s\n", path, strerror(errno));
    exit(2);
}

uint64_t image_random(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

uint64_t image_random_below(uint64_t *state, uint64_t limit)
{
    return limit ? image_random(state) % limit : 0;
}

const char *image_mode_name(enum image_mode mode)
{
    static const char *const names[] = {"none", "prefix", "sectors", "hole", "all", "random"};
    return names[mode];
}

/* Each file and directory draws from its own sequence, so that one does not shift the others. */
static uint64_t random_for(const struct builder *builder, uint64_t id)
{
    uint64_t state = builder->seed ^ id * UINT64_C(0xd6e8feb86659fd93);
    (void)image_random(&state);
    return state;
}

/* --- names --- */

static void image_reset(const struct builder *builder, struct model_object *object)
{
    if (object->image == builder->model->image)
        return;
    object->image = builder->model->image;
    object->image_budget = 0;
    object->image_entries.count = 0;
    free(object->image_path);
    object->image_path = NULL;
    for (size_t i = 0; i < object->entries.count; i++) {
        struct model_entries *entries = &object->image_entries;
        entries->items =
            model_grow(entries->items, entries->count, &entries->capacity, sizeof *entries->items);
        entries->items[entries->count++] = object->entries.items[i];
    }
}

static struct model_entries *image_entries(struct model_object *dir)
{
    return &dir->image_entries;
}

static void budget_draw(const struct builder *builder, struct model_object *dir)
{
    dir->image_random = random_for(builder, dir->id);
    const bool chosen = builder->mode != IMAGE_NONE && builder->mode != IMAGE_ALL;
    dir->image_subset =
        chosen && builder->mode != IMAGE_PREFIX && (image_random(&dir->image_random) & 1);
    if (builder->mode == IMAGE_NONE)
        dir->image_budget = 0;
    else if (chosen && !dir->image_subset)
        dir->image_budget = (size_t)image_random_below(&dir->image_random, dir->image_budget + 1);
}

/* Takes one operation from a directory's budget, or tosses a coin for it. */
static bool budget_take(struct model_object *dir)
{
    if (!dir)
        return true;
    if (dir->image_subset)
        return image_random(&dir->image_random) & 1;
    if (dir->image_budget == 0)
        return false;
    dir->image_budget--;
    return true;
}

static bool name_is(const struct lost_name *lost, const struct model_object *dir,
                    struct model_name name)
{
    return lost->dir == dir && lost->name.size == name.size &&
           memcmp(lost->name.text, name.text, name.size) == 0;
}

/* Tells whether an operation builds on one that is lost: on a name of it. */
static bool builds_on_lost(const struct builder *builder, const struct model_dir_op *op)
{
    for (size_t i = 0; i < builder->lost_count; i++) {
        const struct lost_name *lost = &builder->lost[i];
        if (name_is(lost, op->dir, op->name) ||
            (op->from_dir && name_is(lost, op->from_dir, op->from_name)))
            return true;
    }
    return false;
}

static void lose_name(struct builder *builder, struct model_object *dir, struct model_name name)
{
    if (!dir)
        return;
    if (!dir->image_subset)
        dir->image_budget = 0;
    builder->lost = model_grow(builder->lost, builder->lost_count, &builder->lost_capacity,
                               sizeof *builder->lost);
    builder->lost[builder->lost_count++] = (struct lost_name){dir, name};
}

/* Applies to the image's names some of each directory's pending operations: up to some point, or
 * any. An operation that is lost in one of its directories is lost in the other one, too. */
static void names_apply(struct builder *builder)
{
    const struct model *model = builder->model;
    for (size_t i = 0; i < model->object_count; i++)
        image_reset(builder, model->objects[i]);
    for (size_t i = 0; i < model->dir_op_count; i++) {
        const struct model_dir_op *op = &model->dir_ops[i];
        op->dir->image_budget++;
        if (op->from_dir && op->from_dir != op->dir)
            op->from_dir->image_budget++;
    }
    for (size_t i = 0; i < model->object_count; i++) {
        if (model->objects[i]->is_dir)
            budget_draw(builder, model->objects[i]);
    }
    for (size_t i = 0; i < model->dir_op_count; i++) {
        const struct model_dir_op *op = &model->dir_ops[i];
        struct model_object *other = op->from_dir == op->dir ? NULL : op->from_dir;
        if (budget_take(op->dir) && budget_take(other) && !builds_on_lost(builder, op)) {
            model_apply_dir_op(op, image_entries);
            builder->stats.dir_op_applied_count++;
        } else {
            lose_name(builder, op->dir, op->name);
            lose_name(builder, op->from_dir, op->from_name);
        }
    }
    free(builder->lost);
    builder->stats.dir_op_count = model->dir_op_count;
}

/* --- content --- */

static void output_write(struct output *output, uint64_t offset, const uint8_t *data, uint64_t size)
{
    while (size > 0) {
        const ssize_t written = pwrite(output->fd, data, (size_t)size, (off_t)offset);
        if (written <= 0)
            die(output->path);
        data += written;
        offset += (uint64_t)written;
        size -= (uint64_t)written;
    }
    if (offset > output->size)
        output->size = offset;
}

static void output_resize(struct output *output, uint64_t size)
{
    if (ftruncate(output->fd, (off_t)size) != 0)
        die(output->path);
    output->size = size;
}

static void output_zero(struct output *output, uint64_t offset, uint64_t end)
{
    static const uint8_t zeros[64 << 10];
    if (end > output->size)
        end = output->size;
    while (offset < end) {
        const uint64_t part = end - offset < sizeof zeros ? end - offset : sizeof zeros;
        output_write(output, offset, zeros, part);
        offset += part;
    }
}

static void output_apply(struct output *output, const struct model_change *change)
{
    output->stats->applied_count++;
    switch ((int)change->op) {
    case PF_WRITE:
        output_write(output, change->offset, change->data, change->size);
        break;
    case PF_ZERO:
        output_zero(output, change->offset, change->offset + change->size);
        break;
    case PF_TRUNCATE:
        output_resize(output, change->offset);
        break;
    case PF_EXTEND:
        if (change->offset > output->size)
            output_resize(output, change->offset);
        break;
    }
}

static uint64_t sector_end(uint64_t offset, uint64_t end)
{
    const uint64_t next = (offset / SECTOR_SIZE + 1) * SECTOR_SIZE;
    return next < end ? next : end;
}

/* How many sectors a change touches. */
static uint64_t sector_count(const struct model_change *change)
{
    return (change->offset + change->size - 1) / SECTOR_SIZE - change->offset / SECTOR_SIZE + 1;
}

/* Writes some sectors of a change: each with probability 1/2, or all but those that are `lost`. */
static void output_tear(struct output *output, const struct model_change *change,
                        const struct sectors *lost)
{
    const uint64_t end = change->offset + change->size;
    uint64_t run = change->offset; /* sectors [run, offset) are kept and not yet written */
    uint64_t index = 0;
    for (uint64_t offset = change->offset, next; offset < end; offset = next, index++) {
        next = sector_end(offset, end);
        const bool kept =
            lost ? index < lost->begin || index >= lost->end : image_random(&output->random) & 1;
        if (kept && next < end)
            continue;
        const uint64_t run_end = kept ? next : offset;
        if (run_end > run)
            output_write(output, run, change->data + (run - change->offset), run_end - run);
        run = next;
    }
    output->stats->torn_count++;
}

static void file_prefix(struct output *output, const struct model_object *file)
{
    size_t unforced = 0;
    for (size_t i = file->head; i < file->count; i++)
        unforced += !file->changes[i].forced;
    const size_t kept = (size_t)image_random_below(&output->random, unforced + 1);
    size_t index = 0;
    for (size_t i = file->head; i < file->count; i++) {
        const struct model_change *change = &file->changes[i];
        if (change->forced || index < kept) {
            output_apply(output, change);
        } else if (index == kept && change->op == PF_WRITE) {
            const uint64_t sectors = change->size / SECTOR_SIZE + 1;
            const struct sectors lost = {image_random_below(&output->random, sectors), UINT64_MAX};
            output_tear(output, change, &lost);
        }
        index += !change->forced;
    }
}

static uint64_t size_after(uint64_t size, const struct model_change *change)
{
    if (change->op == PF_TRUNCATE)
        return change->offset;
    if (change->op == PF_ZERO)
        return size;
    const uint64_t end = change->offset + (change->op == PF_WRITE ? change->size : 0);
    return end > size ? end : size;
}

static void file_sectors(struct output *output, const struct model_object *file)
{
    size_t cut = file->head; /* size changes before this are there */
    for (size_t i = file->head; i < file->count; i++) {
        if (file->changes[i].forced)
            cut = i + 1;
    }
    cut += (size_t)image_random_below(&output->random, file->count - cut + 1);
    uint64_t size = file->size;
    for (size_t i = file->head; i < file->count; i++) {
        const struct model_change *change = &file->changes[i];
        if (change->op == PF_WRITE && !change->forced)
            output_tear(output, change, NULL);
        else if (i < cut)
            output_apply(output, change);
        else if (change->op == PF_TRUNCATE && change->offset < output->size)
            break;
        if (i < cut)
            size = size_after(size, change);
    }
    output_resize(output, size);
}

static void file_hole(struct output *output, const struct model_object *file)
{
    uint64_t total = 0;
    for (size_t i = file->head; i < file->count; i++) {
        const struct model_change *change = &file->changes[i];
        if (change->op == PF_WRITE && !change->forced)
            total += sector_count(change);
    }
    struct sectors lost = {0};
    if (!(image_random(&output->random) & 1))
        lost.begin = image_random_below(&output->random, total);
    lost.end = lost.begin + 1 + image_random_below(&output->random, total - lost.begin);
    uint64_t first = 0; /* sector of the change, among all that are pending */
    uint64_t size = file->size;
    for (size_t i = file->head; i < file->count; i++) {
        const struct model_change *change = &file->changes[i];
        size = size_after(size, change);
        if (change->op != PF_WRITE || change->forced) {
            output_apply(output, change);
            continue;
        }
        const struct sectors here = {lost.begin > first ? lost.begin - first : 0,
                                     lost.end > first ? lost.end - first : 0};
        output_tear(output, change, &here);
        first += sector_count(change);
    }
    if (output->size != size)
        output_resize(output, size);
}

static enum image_mode file_mode(const struct builder *builder, struct output *output)
{
    if (builder->mode != IMAGE_RANDOM)
        return builder->mode;
    return (enum image_mode)image_random_below(&output->random, IMAGE_RANDOM);
}

static void file_build(struct builder *builder, const struct model_object *file, const char *path)
{
    struct output output = {
        .fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600),
        .path = path,
        .random = random_for(builder, file->id),
        .stats = &builder->stats,
    };
    if (output.fd < 0)
        die(path);
    for (size_t i = 0; i < file->chunk_count; i++) {
        const uint64_t offset = (uint64_t)i * MODEL_CHUNK_SIZE;
        if (!file->chunks[i] || offset >= file->size)
            continue;
        const uint64_t left = file->size - offset;
        output_write(&output, offset, file->chunks[i],
                     left < MODEL_CHUNK_SIZE ? left : MODEL_CHUNK_SIZE);
    }
    if (output.size != file->size)
        output_resize(&output, file->size);

    const enum image_mode mode = file_mode(builder, &output);
    if (mode == IMAGE_PREFIX)
        file_prefix(&output, file);
    else if (mode == IMAGE_SECTORS && file->head < file->count)
        file_sectors(&output, file);
    else if (mode == IMAGE_HOLE && file->head < file->count)
        file_hole(&output, file);
    else
        for (size_t i = file->head; i < file->count; i++) {
            if (mode == IMAGE_ALL || file->changes[i].forced)
                output_apply(&output, &file->changes[i]);
        }
    if (fchmod(output.fd, file->mode) != 0 || close(output.fd) != 0)
        die(path);
    builder->stats.file_count++;
    builder->stats.change_count += file->count - file->head;
}

static void dir_build(struct builder *builder, const struct model_object *dir, const char *path)
{
    if (mkdir(path, 0700) != 0)
        die(path);
    for (size_t i = 0; i < dir->image_entries.count; i++) {
        const struct model_entry *entry = &dir->image_entries.items[i];
        struct model_object *object = entry->object;
        char child[PATH_MAX];
        const int size =
            snprintf(child, sizeof child, "%s/%.*s", path, (int)entry->name.size, entry->name.text);
        if ((size_t)size >= sizeof child) {
            errno = ENAMETOOLONG;
            die(path);
        }
        if (object->is_dir) {
            dir_build(builder, object, child);
        } else if (!object->image_path) {
            object->image_path = strdup(child);
            file_build(builder, object, child);
        } else if (link(object->image_path, child) != 0) {
            die(child);
        }
    }
    if (chmod(path, dir->mode) != 0)
        die(path);
}

/* --- images --- */

static const struct model_object *dir_below(const struct model_object *dir, const char *path)
{
    while (dir && *path) {
        const size_t size = strcspn(path, "/");
        const struct model_object *next = size == 0 ? dir : NULL;
        for (size_t i = 0; i < dir->image_entries.count && !next; i++) {
            const struct model_entry *entry = &dir->image_entries.items[i];
            if (entry->name.size == size && memcmp(entry->name.text, path, size) == 0)
                next = entry->object->is_dir ? entry->object : NULL;
        }
        dir = next;
        path += size + (path[size] == '/');
    }
    return dir;
}

struct image_stats image_build(struct model *model, const char *sub_path, const char *out_path,
                               enum image_mode mode, uint64_t seed)
{
    struct builder builder = {.model = model, .mode = mode, .seed = seed};
    uint64_t random = seed;
    if (mode == IMAGE_RANDOM)
        builder.mode = (enum image_mode)image_random_below(&random, IMAGE_RANDOM + 2);
    if (builder.mode > IMAGE_RANDOM)
        builder.mode = IMAGE_RANDOM;
    builder.stats.mode = builder.mode;
    model->image++;
    names_apply(&builder);
    const struct model_object *dir = dir_below(model->root, sub_path);
    if (dir)
        dir_build(&builder, dir, out_path);
    else if (mkdir(out_path, 0755) != 0)
        die(out_path);
    return builder.stats;
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st;
    (void)type;
    (void)ftw;
    return remove(path);
}

void image_remove(const char *path)
{
    if (nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS) != 0)
        die(path);
}
