#include "base/mem.h"
#include "io/file.h"
#include "store/local/repair_priv.h"
#include "store/local/scan.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { STEP = 1024 * 1024, HEADER = sizeof(struct record_header) };

/* --- what is there ------------------------------------------------------------------------- */

static struct part *add_part(struct repair *repair, uint32_t at)
{
    if (repair->part_count == repair->part_room) {
        repair->part_room = MAX(64u, repair->part_room * 2);
        repair->parts = mem_grow(repair->parts, repair->part_room * sizeof *repair->parts);
    }
    memmove(&repair->parts[at + 1], &repair->parts[at],
            (repair->part_count - at) * sizeof *repair->parts);
    repair->part_count++;
    repair->parts[at] = (struct part){0};
    return &repair->parts[at];
}

static void add_stray(struct repair *repair, const char *name)
{
    repair->strays = mem_grow(repair->strays, (repair->stray_count + 1) * sizeof *repair->strays);
    (void)snprintf(repair->strays[repair->stray_count++], SEGMENT_NAME_SIZE, "%s", name);
}

/* Retention goes by when a segment was begun. One whose time is not known counts as new: rather
 * too late than too early. */
static uint64_t now_ms(void)
{
    return (uint64_t)time(NULL) * 1000;
}

/* Base and epoch of a segment without a header, from the first record that fits behind the segment
 * before it. Returns 1; 0: no record says; or an error. */
static int learn_header(const struct repair *repair, struct segment *segment)
{
    const struct segment *before =
        repair->part_count ? repair->parts[repair->part_count - 1].segment : NULL;
    uint8_t *bytes = mem_try_alloc(segment->size);
    if (!bytes)
        return ERR_NOMEM;
    int result = file_pread_all(segment->fd, bytes, segment->size, 0);
    for (uint64_t at = SEGMENT_HEADER_SIZE; result == 0 && at + HEADER <= segment->size;
         at += RECORD_ALIGN) {
        struct record_header header;
        struct record record;
        memcpy(&header, bytes + at, sizeof header);
        const uint64_t offset = at - SEGMENT_HEADER_SIZE;
        if (header.size < HEADER || header.size > segment->size - at ||
            header.position < LOG_START + offset ||
            record_parse(bytes + at, segment->size - at, header.position, header.epoch, NULL,
                         &record) < 0)
            continue;
        const uint64_t base = header.position - offset;
        if (before && (base <= before->base || header.epoch < before->epoch))
            continue; /* left over from an earlier use of the file */
        segment->base = base;
        segment->epoch = header.epoch;
        segment->created_ms = header.time_ms ? header.time_ms : now_ms();
        segment->prev_number = before ? before->number : segment->number - 1;
        result = 1;
    }
    mem_free(bytes);
    return result;
}

/* Opens a file whose header is damaged. Returns 1; 0: nothing can be learnt of it; or an error. */
static int open_headless(const struct repair *repair, const char *name,
                         struct segment **ret_segment)
{
    const int fd = file_openat(repair->log_fd, name, O_RDONLY, 0);
    if (fd < 0)
        return fd;
    struct segment *segment = segment_new(segment_number(name), LOG_START, SEGMENT_SIZE_MIN, 0);
    segment->fd = fd;
    int result = file_size(fd, &segment->size);
    if (result == 0 && segment->size > SEGMENT_HEADER_SIZE)
        result = learn_header(repair, segment);
    if (result == 1)
        *ret_segment = segment;
    else
        (void)segment_unref(segment);
    return result;
}

/* Where a segment with this number belongs among the parts. Returns false when there is one. */
static bool find_place(const struct repair *repair, uint64_t number, uint32_t *ret_at)
{
    uint32_t at = 0;
    while (at < repair->part_count && repair->parts[at].segment->number < number)
        at++;
    *ret_at = at;
    return at == repair->part_count || repair->parts[at].segment->number != number;
}

static int open_part(struct repair *repair, const char *name)
{
    struct segment *segment = NULL;
    struct errmsg why = {0};
    int err = segment_open_any(repair->log_fd, name, O_RDONLY, &segment, &why);
    const bool header_lost = err == ERR_CORRUPT;
    if (header_lost) {
        err = open_headless(repair, name, &segment);
        if (err == 0)
            add_stray(repair, name);
        if (err <= 0)
            return err;
    }
    if (err < 0) {
        *repair->reterr = why;
        return err;
    }
    uint32_t at = 0;
    if (!find_place(repair, segment->number, &at)) { /* the log has this one already */
        add_stray(repair, name);
        (void)segment_unref(segment);
        return 0;
    }
    struct part *part = add_part(repair, at);
    segment_name(segment->number, part->name);
    (void)snprintf(part->source, sizeof part->source, "%s", name);
    part->segment = segment;
    part->header_lost = header_lost;
    return 0;
}

/* Positions grow with the numbers; what does not fit in is no part of this log. */
static void drop_misfits(struct repair *repair)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < repair->part_count; i++) {
        struct part *part = &repair->parts[i];
        if (kept > 0 && part->segment->base <= repair->parts[kept - 1].segment->base) {
            add_stray(repair, part->source);
            (void)segment_unref(part->segment);
        } else {
            repair->parts[kept++] = *part;
        }
    }
    repair->part_count = kept;
}

/* --- holes --------------------------------------------------------------------------------- */

struct times {
    uint64_t first_ms, last_ms;
};

static int note_time(void *data, const struct record *record)
{
    struct times *times = data;
    if (record->header->has_message && times->first_ms == 0)
        times->first_ms = record->header->time_ms;
    if (record->header->has_message)
        times->last_ms = record->header->time_ms;
    return 0;
}

/* What the damaged bytes say of themselves: they are told, never relied upon; only that there was
 * one record is taken from them, when its length leads to exactly the next sound one. */
static void read_hints(const struct segment *segment, struct hole *hole)
{
    uint8_t bytes[HEADER + sizeof hole->topic - 1];
    const uint64_t offset = segment_offset(segment, hole->start);
    if (segment->fd < 0 || file_pread_all(segment->fd, bytes, sizeof bytes, offset) < 0)
        return;
    struct record_header header;
    memcpy(&header, bytes, sizeof header);
    if (header.position != hole->start || header.epoch != segment->epoch)
        return;
    if (header.size == hole->end - hole->start)
        hole->count_max = 1;
    const size_t at = HEADER + header.queue_count * sizeof(uint32_t);
    if (!header.has_message || header.topic_size == 0 || at + header.topic_size > sizeof bytes)
        return;
    for (size_t i = 0; i < header.topic_size; i++) {
        if (!isprint(bytes[at + i]))
            return;
    }
    (void)snprintf(hole->topic, sizeof hole->topic, "%.*s", (int)header.topic_size, bytes + at);
}

static struct hole *add_hole(struct part *part, uint64_t start, uint64_t end)
{
    struct hole *hole = mem_new(sizeof *hole);
    hole->start = start;
    hole->end = end;
    hole->count_max = (uint32_t)MIN((end - start + HEADER - 1) / HEADER, UINT32_MAX);
    read_hints(part->segment, hole);
    struct hole **link = &part->holes;
    while (*link)
        link = &(*link)->next;
    *link = hole;
    return hole;
}

/* Finds what cannot be read in [base, end); end UINT64_MAX: of the youngest segment, whose end is
 * where sound records end. */
static int look_through(struct repair *repair, struct part *part, uint64_t end)
{
    const struct segment *segment = part->segment;
    uint64_t at = segment->base;
    struct hole *hole = NULL;
    uint64_t before_ms = 0;
    while (at < end) {
        struct times times = {0};
        struct errmsg ignored = {0};
        const struct scan scan = {
            .segment = segment, .from = at, .end = UINT64_MAX, .each = note_time, .data = &times};
        uint64_t stop = at, next = 0;
        int err = scan_segment(&scan, &stop, &ignored);
        if (err < 0 && err != ERR_CORRUPT) {
            *repair->reterr = ignored;
            return err;
        }
        if (hole)
            hole->behind_ms = times.first_ms;
        before_ms = times.last_ms ? times.last_ms : before_ms;
        if (stop >= end || (end == UINT64_MAX && err == 0)) {
            part->end = MIN(stop, end);
            return 0;
        }
        err = scan_seek(segment, stop + RECORD_ALIGN, end, &next);
        if (err < 0)
            return err;
        hole = add_hole(part, stop, next);
        hole->before_ms = before_ms;
        at = part->end = next;
    }
    return 0;
}

static struct part *invent_part(struct repair *repair, uint32_t at, uint64_t number, uint64_t base)
{
    const struct segment *before = at > 0 ? repair->parts[at - 1].segment : NULL;
    const uint64_t created_ms =
        at < repair->part_count ? repair->parts[at].segment->created_ms : now_ms();
    struct segment *segment =
        segment_new(number, base, SEGMENT_SIZE_MIN, before ? before->epoch : 1);
    segment->prev_number = before ? before->number : number - 1;
    segment->created_ms = created_ms;
    struct part *part = add_part(repair, at);
    part->segment = segment;
    segment_name(number, part->name);
    return part;
}

/* Where a part should go on into the next: a segment between them is missing when the next says so.
 */
static int look_between(struct repair *repair, uint32_t i)
{
    struct part *part = &repair->parts[i];
    const struct segment *next = repair->parts[i + 1].segment;
    if (next->prev_number == part->segment->number)
        return look_through(repair, part, next->base);
    const uint64_t missing = next->prev_number;
    const uint64_t base = next->base;
    int err = look_through(repair, part, UINT64_MAX);
    if (err < 0)
        return err;
    part->end = MIN(part->end, base);
    if (part->end == base || missing <= part->segment->number)
        return ERR_INVALID; /* nothing is missing, and still they do not belong together */
    struct part *invented = invent_part(repair, i + 1, missing, repair->parts[i].end);
    invented->end = base;
    (void)add_hole(invented, invented->segment->base, base);
    return 0;
}

int repair_log_look(struct repair *repair)
{
    char **names = NULL;
    uint32_t count = 0;
    int err = scan_names(repair->log_fd, &names, &count);
    for (uint32_t i = 0; i < count && err == 0; i++) {
        if (segment_number(names[i]) != 0)
            err = open_part(repair, names[i]);
    }
    scan_names_free(names, count);
    if (err == 0)
        drop_misfits(repair);
    for (uint32_t i = 0; i < repair->part_count && err == 0; i++) {
        if (repair->parts[i].segment->fd < 0)
            continue; /* one put in between just now */
        if (i + 1 < repair->part_count)
            err = look_between(repair, i);
        else
            err = look_through(repair, &repair->parts[i], UINT64_MAX);
    }
    if (repair->part_count > 0)
        repair->log_end = repair->parts[repair->part_count - 1].end;
    return err;
}

uint64_t repair_log_first(const struct repair *repair)
{
    return repair->part_count ? repair->parts[0].segment->base : 0;
}

int repair_log_bounds(struct repair *repair)
{
    const uint64_t begin = MAX(repair->state.trimmed, (uint64_t)LOG_START);
    const uint64_t end = MAX(repair->state.applied, repair->sealed_end);
    const uint64_t first = repair->part_count ? repair_log_first(repair) : MAX(begin, end);
    if (first > begin) {
        const uint64_t number =
            repair->part_count ? repair->parts[0].segment->prev_number : UINT64_C(1);
        struct part *part = invent_part(repair, 0, MAX(number, UINT64_C(1)), begin);
        if (repair->part_count > 1 && number == 0)
            return ERR_INVALID; /* the first segment of all begins too late */
        part->end = first;
        (void)add_hole(part, begin, first);
        repair->log_end = MAX(repair->log_end, first);
    }
    if (repair->part_count > 0 && repair->log_end < end) {
        struct part *last = &repair->parts[repair->part_count - 1];
        (void)add_hole(last, repair->log_end, end);
        last->end = repair->log_end = end;
    }
    return 0;
}

/* --- saying so ----------------------------------------------------------------------------- */

static void put_time(uint64_t ms, char ret_text[32])
{
    const time_t seconds = (time_t)(ms / 1000);
    struct tm parts;
    if (ms == 0 || !gmtime_r(&seconds, &parts) ||
        strftime(ret_text, 32, "%Y-%m-%dT%H:%M:%SZ", &parts) == 0)
        (void)snprintf(ret_text, 32, "an unknown time");
}

static void tell_hole(struct repair *repair, const struct part *part, const struct hole *hole)
{
    char before[32], behind[32];
    put_time(hole->before_ms, before);
    put_time(hole->behind_ms, behind);
    repair_plan(repair,
                "drop  log/%s, offsets %" PRIu64 " to %" PRIu64 ": at most %" PRIu32
                " records, written between %s and %s",
                part->name, segment_offset(part->segment, hole->start),
                segment_offset(part->segment, hole->end), hole->count_max, before, behind);
    if (hole->topic[0])
        repair_say(repair, "      the damaged bytes name the topic '%s'", hole->topic);
    if (hole->end > repair->sealed_end)
        repair_say(repair, "      which queues had messages there is not known: messages behind it "
                           "may be delivered again");
    if (hole->end > repair->state.applied || repair->rows_lost)
        repair_say(repair, "      changes of sessions, subscriptions and retained messages made "
                           "there are lost");
}

void repair_log_tell(struct repair *repair)
{
    for (uint32_t i = 0; i < repair->stray_count; i++)
        repair_plan(repair, "drop  log/%s: not one record of it can be read", repair->strays[i]);
    for (uint32_t i = 0; i < repair->part_count; i++) {
        const struct part *part = &repair->parts[i];
        if (part->header_lost)
            repair_plan(repair,
                        "write log/%s, the header at offset 0: its records tell what it said",
                        part->name);
        else if (part->segment->fd < 0)
            repair_plan(repair, "write log/%s: the file is missing, all in it is lost", part->name);
        else if (strcmp(part->name, part->source) != 0)
            repair_plan(repair, "name  log/%s as it says itself, log/%s", part->source, part->name);
        for (const struct hole *hole = part->holes; hole; hole = hole->next)
            tell_hole(repair, part, hole);
    }
}

/* --- doing it ------------------------------------------------------------------------------ */

static int copy_file(const struct segment *segment, int fd)
{
    uint8_t *bytes = mem_new(STEP);
    int err = 0;
    for (uint64_t at = 0; at < segment->size && err == 0; at += STEP) {
        const uint64_t size = MIN(segment->size - at, (uint64_t)STEP);
        err = file_pread_all(segment->fd, bytes, size, at);
        if (err == 0)
            err = file_pwrite_all(fd, bytes, size, at);
    }
    mem_free(bytes);
    return err;
}

/* Where the piece that begins at `at` ends: at the next place where the log may be read from, at
 * most STEP bytes on; no piece may be smaller than a header. */
static uint64_t piece_end(const struct repair *repair, const struct hole *hole, uint64_t at)
{
    uint64_t end = MIN(hole->end, at + STEP);
    if (end < hole->end && hole->end - end < HEADER)
        end -= HEADER;
    for (uint32_t i = 0; i < repair->border_count; i++) {
        const uint64_t border = repair->borders[i];
        if (border >= at + HEADER && border < end && hole->end - border >= HEADER)
            end = border;
    }
    return end;
}

/* Writes what stands for the lost records, in pieces. */
static int fill_hole(const struct repair *repair, const struct segment *segment, int fd,
                     const struct hole *hole)
{
    uint8_t *bytes = mem_new(STEP);
    int err = 0;
    for (uint64_t at = hole->start; at < hole->end && err == 0;) {
        const uint64_t size = piece_end(repair, hole, at) - at;
        const uint32_t count =
            size == hole->end - hole->start ? hole->count_max : (uint32_t)(size / HEADER + 1);
        record_write_lost(bytes, (uint32_t)size, count, at, segment->epoch);
        err = file_pwrite_all(fd, bytes, size, segment_offset(segment, at));
        at += size;
    }
    mem_free(bytes);
    return err;
}

static int write_part(const struct repair *repair, const struct part *part, int fd)
{
    struct segment out = *part->segment;
    int err = part->segment->fd >= 0 ? copy_file(part->segment, fd) : 0;
    out.fd = fd;
    if (err == 0 && (part->header_lost || part->segment->fd < 0))
        err = segment_write_header(&out);
    for (const struct hole *hole = part->holes; hole && err == 0; hole = hole->next)
        err = fill_hole(repair, part->segment, fd, hole);
    if (err == 0)
        err = file_fsync(fd);
    if (err == 0)
        err = file_renameat(repair->log_fd, REPAIR_TMP_NAME, part->name);
    return err;
}

static int mend_part(const struct repair *repair, const struct part *part)
{
    (void)!file_unlinkat(repair->log_fd, REPAIR_TMP_NAME); /* of an attempt before */
    const int fd = file_openat(repair->log_fd, REPAIR_TMP_NAME, O_RDWR | O_CREAT | O_EXCL, 0640);
    if (fd < 0)
        return fd;
    const int err = write_part(repair, part, fd);
    (void)close(fd);
    if (err < 0)
        (void)!file_unlinkat(repair->log_fd, REPAIR_TMP_NAME);
    return err;
}

static bool to_mend(const struct part *part)
{
    return part->holes || part->header_lost || part->segment->fd < 0 ||
           strcmp(part->name, part->source) != 0;
}

/* All originals that will be written over, before the first one is. */
static int keep_originals(struct repair *repair)
{
    int err = 0;
    for (uint32_t i = 0; i < repair->stray_count && err == 0; i++)
        err = repair_keep(repair, repair->log_fd, LOCAL_LOG_DIR, repair->strays[i]);
    for (uint32_t i = 0; i < repair->part_count && err == 0; i++) {
        const struct part *part = &repair->parts[i];
        if (to_mend(part) && part->segment->fd >= 0)
            err = repair_keep(repair, repair->log_fd, LOCAL_LOG_DIR, part->source);
    }
    return err;
}

/* Removes the name unless it is now that of a part. */
static int remove_name(const struct repair *repair, const char *name)
{
    for (uint32_t i = 0; i < repair->part_count; i++) {
        if (strcmp(repair->parts[i].name, name) == 0)
            return 0;
    }
    return file_unlinkat(repair->log_fd, name);
}

int repair_log_do(struct repair *repair)
{
    int err = keep_originals(repair);
    for (uint32_t i = 0; i < repair->part_count && err == 0; i++) {
        if (to_mend(&repair->parts[i]))
            err = mend_part(repair, &repair->parts[i]);
    }
    for (uint32_t i = 0; i < repair->stray_count && err == 0; i++)
        err = remove_name(repair, repair->strays[i]);
    for (uint32_t i = 0; i < repair->part_count && err == 0; i++) {
        const struct part *part = &repair->parts[i];
        if (part->segment->fd >= 0 && strcmp(part->name, part->source) != 0)
            err = remove_name(repair, part->source);
    }
    if (err == 0)
        err = file_fsync(repair->log_fd);
    if (err < 0)
        errmsg_wrap(repair->reterr, "could not write the log: %s", err_text(err));
    return err;
}

void repair_log_done(struct repair *repair)
{
    for (uint32_t i = 0; i < repair->part_count; i++) {
        struct hole *hole = repair->parts[i].holes;
        while (hole) {
            struct hole *next = hole->next;
            mem_free(hole);
            hole = next;
        }
        (void)segment_unref(repair->parts[i].segment);
    }
    mem_free(repair->parts);
    mem_free(repair->strays);
}
