/* From files to a running engine.
 *
 * The segments form a chain by number and position. What lies before the trimmed position is given
 * up: freeing it had begun, and a crash may have kept any of it. Index files must follow one
 * another without a gap; from the first that does not, or is damaged, they are removed, because the
 * log has all they said. Then the log is read from where the oldest view ends, and its end is made
 * durable once more. Rows that it has changed stay in the overlay for the next checkpoint.
 *
 * The end of the youngest segment may be in the page cache only, even marked clean after a failed
 * sync of the process before: it is written again before it counts as durable.
 */
#include "base/mem.h"
#include "io/file.h"
#include "store/local/engine_priv.h"
#include "store/local/scan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct recovery {
    struct local *local;
    struct segment **segments;
    uint32_t segment_count;
    struct sealed_file **files;
    uint32_t file_count, file_room;
    bool in_last;              /* the youngest segment is being read */
    uint64_t trimmed, applied; /* as LMDB has them */
    uint64_t durable;          /* up to here the log had been synced, as the last record says */
    bool lost; /* records that are not indexed yet are lost: numbers are a matter of care */
};

/* --- segments ------------------------------------------------------------------------------ */

static int open_segments(struct recovery *recovery, char **names, uint32_t count,
                         struct errmsg *reterr)
{
    struct local *local = recovery->local;
    recovery->segments = mem_new((count + 1) * sizeof(struct segment *));
    for (uint32_t i = 0; i < count; i++) {
        if (pool_adopt(local->pool, names[i]) || segment_number(names[i]) == 0)
            continue;
        struct segment *segment = NULL;
        int err = segment_open(local->log_fd, names[i], O_RDWR, &segment, reterr);
        if (err < 0)
            return err;
        recovery->segments[recovery->segment_count++] = segment;
        if (recovery->segment_count > 1 && segment->base > recovery->trimmed) {
            err = scan_chain(recovery->segments[recovery->segment_count - 2], segment, reterr);
            if (err < 0)
                return err;
        }
        local->epoch = MAX(local->epoch, segment->epoch + 1);
    }
    return 0;
}

static int recycle(struct local *local, const struct segment *segment)
{
    char name[SEGMENT_NAME_SIZE];
    segment_name(segment->number, name);
    return pool_recycle(local->pool, name);
}

/* Frees the oldest segments whose successor begins at or before the trimmed position. */
static int finish_trim(struct recovery *recovery, struct errmsg *reterr)
{
    uint32_t freed = 0;
    while (freed + 1 < recovery->segment_count &&
           recovery->segments[freed + 1]->base <= recovery->trimmed) {
        struct segment *segment = recovery->segments[freed++];
        const int err = recycle(recovery->local, segment);
        (void)segment_unref(segment);
        if (err < 0) {
            errmsg_wrap(reterr, "could not free a segment: %s", err_text(err));
            memmove(recovery->segments, recovery->segments + freed,
                    (recovery->segment_count - freed) * sizeof(struct segment *));
            recovery->segment_count -= freed;
            return err;
        }
    }
    recovery->segment_count -= freed;
    memmove(recovery->segments, recovery->segments + freed,
            recovery->segment_count * sizeof(struct segment *));
    return 0;
}

static int load_segments(struct recovery *recovery, struct errmsg *reterr)
{
    struct local *local = recovery->local;
    char **names = NULL;
    uint32_t count = 0;
    int err = scan_names(local->log_fd, &names, &count);
    if (err < 0) {
        errmsg_wrap(reterr, "could not list the log: %s", err_text(err));
        return err;
    }
    err = open_segments(recovery, names, count, reterr);
    scan_names_free(names, count);
    if (err == 0)
        err = finish_trim(recovery, reterr);
    if (err < 0)
        return err;
    const uint64_t start = MAX(recovery->trimmed, (uint64_t)LOG_START);
    local->first_position = start;
    if (recovery->segment_count ? recovery->segments[0]->base > start : recovery->applied > start) {
        errmsg_wrap(reterr, "the log does not begin at position %" PRIu64 ": segments are missing",
                    start);
        return ERR_CORRUPT;
    }
    return 0;
}

/* --- index files --------------------------------------------------------------------------- */

struct index_name {
    uint64_t start, end;
    const char *name;
};

/* By start; of those with the same start the longest first: it is the merger of the others. */
static int compare_index_names(const void *a, const void *b)
{
    const struct index_name *left = a, *right = b;
    if (left->start != right->start)
        return left->start < right->start ? -1 : 1;
    return (left->end < right->end) - (left->end > right->end);
}

/* Opens the files in order; what does not follow on, or is damaged, is removed. */
static int open_files(struct recovery *recovery, const struct index_name *names, uint32_t count)
{
    struct local *local = recovery->local;
    uint64_t end = local->first_position;
    bool broken = false;
    for (uint32_t i = 0; i < count; i++) {
        const bool first = recovery->file_count == 0;
        const bool follows =
            first ? names[i].start <= end && names[i].end > end : names[i].start == end;
        struct sealed_file *file = NULL;
        int err = ERR_CORRUPT;
        if (!broken && follows)
            err = sealed_open(local->index_fd, names[i].name, NULL, NULL, &file, NULL);
        if (err < 0 && err != ERR_CORRUPT)
            return err;
        if (err == 0) {
            recovery->files[recovery->file_count++] = file;
            end = names[i].end;
            continue;
        }
        if (names[i].end > end) {
            broken = true;
            log_write(local->log, LOG_WARN, "store",
                      "index file '%s' is unusable; the index is rebuilt from the log",
                      names[i].name);
        }
        err = file_unlinkat(local->index_fd, names[i].name);
        if (err < 0)
            return err;
    }
    local->sealed_end = end;
    return 0;
}

static int load_files(struct recovery *recovery, struct errmsg *reterr)
{
    struct local *local = recovery->local;
    char **all = NULL;
    uint32_t all_count = 0, count = 0;
    int err = scan_names(local->index_fd, &all, &all_count);
    if (err < 0) {
        errmsg_wrap(reterr, "could not list the index: %s", err_text(err));
        return err;
    }
    struct index_name *names = mem_new((all_count + 1) * sizeof *names);
    recovery->file_room = all_count + 1;
    recovery->files = mem_new(recovery->file_room * sizeof(struct sealed_file *));
    for (uint32_t i = 0; i < all_count; i++) {
        struct index_name *name = &names[count];
        name->name = all[i];
        if (sealed_name_parse(all[i], &name->start, &name->end))
            count++;
        else
            (void)!file_unlinkat(local->index_fd, all[i]);
    }
    qsort(names, count, sizeof *names, compare_index_names);
    err = open_files(recovery, names, count);
    if (err < 0)
        errmsg_wrap(reterr, "could not read the index: %s", err_text(err));
    mem_free(names);
    scan_names_free(all, all_count);
    return err;
}

/* --- queues -------------------------------------------------------------------------------- */

static void load_base(void *data, uint32_t queue_id, const struct overlay_queue *base)
{
    struct local *local = data;
    if (queue_id == 0 || base->dropped_at)
        return;
    struct queue *queue = qindex_get(&local->index, queue_id);
    queue->first_seq = queue->next_seq = base->first_seq;
}

static void load_queue(void *data, const struct sealed_queue *sealed)
{
    struct local *local = data;
    struct queue *queue = qindex_find(&local->index, sealed->queue_id);
    if (!queue) {
        queue = qindex_get(&local->index, sealed->queue_id);
        queue->first_seq = sealed->first_seq;
    }
    queue->next_seq = sealed->first_seq + sealed->count;
    queue->first_seq = MIN(queue->first_seq, queue->next_seq);
}

static void load_drop(void *data, uint32_t queue_id, const struct overlay_queue *base)
{
    struct local *local = data;
    if (base->dropped_at)
        qindex_drop(&local->index, queue_id);
}

/* Numbers that a repair fixed, once the index files reach as far. */
static void load_number(void *data, uint32_t queue_id, const struct overlay_queue *base)
{
    struct local *local = data;
    if (base->dropped_at || base->numbered_to == 0 || base->numbered_to > local->sealed_end)
        return;
    struct queue *queue = qindex_get(&local->index, queue_id);
    if (queue->first_seq == queue->next_seq)
        queue->first_seq = MAX(queue->first_seq, base->next_seq);
    queue->next_seq = MAX(queue->next_seq, base->next_seq);
}

/* Where queues begin was lost: numbers of those that only the log knows begin high enough. */
static void load_floor(struct recovery *recovery)
{
    struct local *local = recovery->local;
    uint32_t count = 0;
    const struct metadb_lost *lost = metadb_lost(local->db, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (lost[i].start == lost[i].end && lost[i].until > local->sealed_end) {
            local->index.floor = MAX(local->index.floor, lost[i].count);
            recovery->lost = true;
        }
    }
}

static int load_queues(struct recovery *recovery, struct errmsg *reterr)
{
    struct local *local = recovery->local;
    qindex_done(&local->index);
    qindex_init(&local->index, local->sealed_end);
    int err = metadb_queues(local->db, load_base, local);
    for (uint32_t i = 0; i < recovery->file_count && err == 0; i++)
        err = sealed_each(recovery->files[i], load_queue, local);
    if (err == 0)
        err = metadb_queues(local->db, load_number, local);
    if (err == 0)
        err = metadb_queues(local->db, load_drop, local);
    load_floor(recovery);
    if (err < 0)
        errmsg_wrap(reterr, "could not load the queues: %s", err_text(err));
    return err;
}

/* --- replay -------------------------------------------------------------------------------- */

/* Seals what has been indexed so far: a rebuilt index may be larger than memory. What lies in front
 * of the youngest segment is durable. */
static int seal_now(struct recovery *recovery, uint64_t end)
{
    struct local *local = recovery->local;
    if (recovery->file_count == recovery->file_room) {
        recovery->file_room *= 2;
        recovery->files =
            mem_grow(recovery->files, recovery->file_room * sizeof(struct sealed_file *));
    }
    qindex_freeze(&local->index, end);
    struct sealed_file *file = NULL;
    const int err = sealed_write(local->index_fd, &local->index.frozen, &file);
    qindex_thaw(&local->index);
    if (err < 0)
        return err;
    recovery->files[recovery->file_count++] = file;
    local->sealed_end = end;
    return 0;
}

/* Records are missing here, and which queues they belonged to is not known. Each queue leaves out
 * as many numbers as it may have lost: a cursor then finds each message at its own number or a
 * higher one, so that none is taken for read that was not. */
static int replay_lost(struct recovery *recovery, const struct record_header *header)
{
    struct local *local = recovery->local;
    if (header->position < local->sealed_end)
        return 0;
    if (header->position > local->index.active.base) {
        const int err = seal_now(recovery, header->position);
        if (err < 0)
            return err;
    }
    qindex_skip(&local->index, header->expiry_s);
    recovery->lost = true;
    return 0;
}

static int replay_one(void *data, const struct record *record)
{
    struct recovery *recovery = data;
    struct local *local = recovery->local;
    const struct record_header *header = record->header;
    const uint64_t position = header->position;
    if (!recovery->in_last && upkeep_seal_full(local, position)) {
        const int err = seal_now(recovery, position);
        if (err < 0)
            return err;
    }
    if (header->kind == RECORD_LOST) {
        const int err = replay_lost(recovery, header);
        if (err < 0)
            return err;
    }
    append_apply(local, record, position >= local->sealed_end, position >= recovery->applied);
    recovery->durable = position;
    if (header->unsynced != UINT32_MAX)
        recovery->durable = position - (uint64_t)header->unsynced * RECORD_ALIGN;
    return local->overlay_lost ? ERR_NOMEM : 0;
}

static int replay(struct recovery *recovery, struct errmsg *reterr)
{
    struct local *local = recovery->local;
    const uint64_t applied = MAX(recovery->applied, local->first_position);
    uint64_t at = MIN(local->sealed_end, applied);
    recovery->durable = at;
    for (uint32_t i = 0; i < recovery->segment_count; i++) {
        const struct segment *segment = recovery->segments[i];
        const bool last = i + 1 == recovery->segment_count;
        const uint64_t end = last ? UINT64_MAX : recovery->segments[i + 1]->base;
        if (end <= at)
            continue;
        recovery->in_last = last;
        const struct scan scan = {.segment = segment,
                                  .from = MAX(at, segment->base),
                                  .end = end,
                                  .each = replay_one,
                                  .data = recovery};
        const int err = scan_segment(&scan, &at, reterr);
        if (err < 0)
            return err;
    }
    if (at < MAX(applied, local->sealed_end)) {
        errmsg_wrap(reterr, "the log ends at position %" PRIu64 " but was durable up to %" PRIu64,
                    at, MAX(applied, local->sealed_end));
        return ERR_CORRUPT;
    }
    local->head = local->done_end = local->synced_end = at;
    local->applied_end = overlay_empty(&local->overlay) ? at : applied;
    return 0;
}

/* --- the end of the log -------------------------------------------------------------------- */

/* Writes [from, end) of the segment again, and syncs it. */
static int rewrite(const struct segment *segment, uint64_t from, uint64_t end)
{
    enum { STEP = 1024 * 1024 };
    uint8_t *bytes = mem_new(STEP);
    int err = 0;
    for (uint64_t at = from; at < end && err == 0; at += STEP) {
        const uint64_t size = MIN(end - at, (uint64_t)STEP);
        const uint64_t offset = segment_offset(segment, at);
        err = file_pread_all(segment->fd, bytes, size, offset);
        if (err == 0)
            err = file_pwrite_all(segment->fd, bytes, size, offset);
    }
    mem_free(bytes);
    return err < 0 ? err : file_fdatasync(segment->fd);
}

/* Gives back the room of a segment behind the end of its records. */
static int give_back(struct segment *segment, uint64_t end)
{
    const uint64_t size = segment_offset(segment, end);
    if (size < segment->size && ftruncate(segment->fd, (off_t)size) < 0)
        return -errno;
    segment->size = MIN(size, segment->size);
    return 0;
}

/* Once more for those that earlier starts have ended: a power cut may have undone it, and they
 * would count against retention.bytes with room that holds nothing. */
static int give_back_again(struct recovery *recovery)
{
    int err = 0;
    for (uint32_t i = 0; i + 1 < recovery->segment_count && err == 0; i++) {
        const struct segment *next = recovery->segments[i + 1];
        if (recovery->segments[i]->epoch != next->epoch)
            err = give_back(recovery->segments[i], next->base);
    }
    return err;
}

/* The youngest segment is done with: what follows goes into a new one. When nothing in it counts,
 * its file is free again; else the room behind its end is given back. */
static int close_last(struct recovery *recovery, struct errmsg *reterr)
{
    struct local *local = recovery->local;
    if (recovery->segment_count == 0)
        return 0;
    struct segment *last = recovery->segments[recovery->segment_count - 1];
    local->last_number = last->number;
    const uint64_t end = local->done_end;
    int err = give_back_again(recovery);
    if (err == 0 && end == last->base && recovery->segment_count > 1) {
        local->last_number = last->prev_number;
        err = recycle(local, last);
        (void)segment_unref(last);
        recovery->segment_count--;
    } else if (err == 0) {
        const uint64_t from = MAX(recovery->durable, last->base);
        if (from < end)
            err = rewrite(last, from, end);
        if (err == 0)
            err = give_back(last, end);
    }
    if (err < 0)
        errmsg_wrap(reterr, "could not end the youngest segment: %s", err_text(err));
    return err;
}

static struct metadb_base *gather_numbers(struct qindex *index, uint64_t *ret_count)
{
    struct metadb_base *numbers =
        mem_try_alloc((index->queues.count + 1) * sizeof(struct metadb_base));
    if (!numbers)
        return NULL;
    uint64_t pos = 0, count = 0;
    struct hashnode *node = NULL;
    while ((node = hashmap_next(&index->queues, &pos, node))) {
        const struct queue *queue = CONTAINER_OF(node, struct queue, node);
        numbers[count++] =
            (struct metadb_base){.queue_id = queue->id, .first_seq = queue->next_seq};
    }
    *ret_count = count;
    return numbers;
}

/* What was left out in the numbers stays left out, whatever the next start reads. */
static int keep_numbers(struct recovery *recovery, struct errmsg *reterr)
{
    struct local *local = recovery->local;
    local->index.floor = 0;
    uint64_t count = 0;
    struct metadb_base *numbers = gather_numbers(&local->index, &count);
    int err =
        numbers ? metadb_number(local->db, numbers, count, local->done_end, reterr) : ERR_NOMEM;
    mem_free(numbers);
    if (err == 0 && local->done_end > local->sealed_end)
        err = seal_now(recovery, local->done_end);
    return err;
}

static int run(struct recovery *recovery, struct errmsg *reterr)
{
    int err = load_segments(recovery, reterr);
    if (err == 0)
        err = load_files(recovery, reterr);
    if (err == 0)
        err = load_queues(recovery, reterr);
    if (err == 0)
        err = replay(recovery, reterr);
    if (err == 0)
        err = close_last(recovery, reterr);
    if (err == 0 && recovery->lost)
        err = keep_numbers(recovery, reterr);
    return err;
}

int recovery_run(struct local *local, const struct metadb_state *state, struct errmsg *reterr)
{
    struct recovery recovery = {
        .local = local, .trimmed = state->trimmed, .applied = state->applied};
    local->epoch = 1;
    const int err = run(&recovery, reterr);
    if (err == ERR_CORRUPT)
        errmsg_wrap(reterr, "the store is damaged, run \"tidemq store check %s\"",
                    local->config.dir);
    local->segments = segment_set_new(recovery.segments, recovery.segment_count);
    local->files = sealed_set_new(recovery.files, recovery.file_count);
    for (uint32_t i = 0; i < recovery.segment_count; i++)
        (void)segment_unref(recovery.segments[i]);
    for (uint32_t i = 0; i < recovery.file_count; i++)
        (void)sealed_unref(recovery.files[i]);
    mem_free(recovery.segments);
    mem_free(recovery.files);
    return err;
}
