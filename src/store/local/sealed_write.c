/* Writing index files. Directory and entries grow side by side, each in its own buffer of blocks;
 * the header comes last.
 */
#include "base/mem.h"
#include "io/file.h"
#include "store/local/sealed_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { STREAM_BLOCKS = 64, UNIT = 8, MERGE_READ = 512 };

static const char temporary_name[] = "new.tmp";

/* Records of one size, laid into consecutive blocks. */
struct stream {
    uint8_t *blocks; /* STREAM_BLOCKS of them */
    uint32_t number; /* of the first block in the buffer */
    uint32_t used;   /* bytes of payload in the current block */
    uint32_t index;  /* of the current block in the buffer */
};

struct writer {
    int fd;
    uint64_t start;
    int err;
    struct stream directory, entries;
    struct sealed_header header;
};

static void stream_flush(struct writer *writer, struct stream *stream, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        sealed_block_finish(stream->blocks + (size_t)i * SEALED_BLOCK_SIZE, writer->start,
                            stream->number + i);
    }
    if (writer->err == 0 && count) {
        writer->err = file_pwrite_all(writer->fd, stream->blocks, (size_t)count * SEALED_BLOCK_SIZE,
                                      (uint64_t)stream->number * SEALED_BLOCK_SIZE);
    }
    memset(stream->blocks, 0, STREAM_BLOCKS * SEALED_BLOCK_SIZE);
    stream->number += count;
    stream->index = stream->used = 0;
}

static void stream_put(struct writer *writer, struct stream *stream, const void *bytes,
                       uint32_t size)
{
    if (stream->used + size > SEALED_PAYLOAD_SIZE) {
        stream->index++;
        stream->used = 0;
        if (stream->index == STREAM_BLOCKS)
            stream_flush(writer, stream, STREAM_BLOCKS);
    }
    memcpy(stream->blocks + (size_t)stream->index * SEALED_BLOCK_SIZE + stream->used, bytes, size);
    stream->used += size;
}

static void stream_end(struct writer *writer, struct stream *stream)
{
    stream_flush(writer, stream, stream->index + (stream->used ? 1 : 0));
}

static int begin(struct writer *writer, int dir_fd, uint64_t start, uint64_t end,
                 uint32_t queue_count)
{
    ASSERT(end > start && end - start <= SEALED_SPAN_MAX);
    *writer = (struct writer){.start = start};
    writer->fd = file_openat(dir_fd, temporary_name, O_RDWR | O_CREAT | O_TRUNC, 0640);
    if (writer->fd < 0)
        return writer->fd;
    writer->header = (struct sealed_header){.magic = SEALED_MAGIC,
                                            .version = SEALED_VERSION,
                                            .queue_count = queue_count,
                                            .start = start,
                                            .end = end};
    writer->directory.blocks = mem_new(STREAM_BLOCKS * SEALED_BLOCK_SIZE);
    writer->entries.blocks = mem_new(STREAM_BLOCKS * SEALED_BLOCK_SIZE);
    writer->directory.number = 1;
    writer->entries.number = 1 + (uint32_t)sealed_blocks(queue_count, SEALED_DIRECTORY_PER_BLOCK);
    return 0;
}

static void put_queue(struct writer *writer, uint32_t queue_id, uint64_t first_seq, uint32_t count)
{
    const struct sealed_queue queue = {.queue_id = queue_id,
                                       .count = count,
                                       .first_seq = first_seq,
                                       .first_entry = writer->header.entry_count};
    stream_put(writer, &writer->directory, &queue, sizeof queue);
    writer->header.entry_count += count;
}

static void put_entry(struct writer *writer, struct qentry entry)
{
    stream_put(writer, &writer->entries, &entry, sizeof entry);
}

static void put_header(struct writer *writer)
{
    uint8_t block[SEALED_BLOCK_SIZE] = {0};
    memcpy(block, &writer->header, sizeof writer->header);
    sealed_block_finish(block, writer->start, 0);
    if (writer->err == 0)
        writer->err = file_pwrite_all(writer->fd, block, sizeof block, 0);
}

/* Makes the file durable under its own name and opens it. */
static int finish(struct writer *writer, int dir_fd, struct sealed_file **ret_file)
{
    stream_end(writer, &writer->directory);
    stream_end(writer, &writer->entries);
    put_header(writer);
    mem_free(writer->directory.blocks);
    mem_free(writer->entries.blocks);
    int err = writer->err;
    if (err == 0)
        err = file_fdatasync(writer->fd);
    (void)close(writer->fd);
    char name[SEALED_NAME_SIZE];
    sealed_name(writer->header.start, writer->header.end, name);
    if (err == 0)
        err = file_renameat(dir_fd, temporary_name, name);
    if (err < 0) {
        (void)!file_unlinkat(dir_fd, temporary_name);
        return err;
    }
#ifndef MUTATION_NO_DIR_FSYNC
    err = file_fsync(dir_fd);
#endif
    if (err == 0)
        err = sealed_open(dir_fd, name, NULL, NULL, ret_file, NULL);
    if (err < 0)
        (void)!file_unlinkat(dir_fd, name);
    return err;
}

static int compare_chains(const void *a, const void *b)
{
    const struct qchain *left = *(const struct qchain *const *)a;
    const struct qchain *right = *(const struct qchain *const *)b;
    return (left->queue_id > right->queue_id) - (left->queue_id < right->queue_id);
}

/* The living chains, by queue id. */
static const struct qchain **sort_chains(const struct qgen *gen, uint32_t *ret_count)
{
    const struct qchain **chains = mem_try_alloc(gen->chain_count * sizeof *chains);
    if (!chains)
        return NULL;
    uint32_t count = 0;
    for (const struct qchain *chain = gen->chains; chain; chain = chain->next) {
        if (chain->count)
            chains[count++] = chain;
    }
    qsort(chains, count, sizeof *chains, compare_chains);
#ifdef MUTATION_KILL_SEAL_SHORT
    count -= count > 1;
#endif
    *ret_count = count;
    return chains;
}

int sealed_write(int dir_fd, const struct qgen *gen, struct sealed_file **ret_file)
{
    uint32_t count = 0;
    const struct qchain **chains = sort_chains(gen, &count);
    if (!chains)
        return ERR_NOMEM;
    struct writer writer;
    int err = begin(&writer, dir_fd, gen->base, gen->end, count);
    for (uint32_t i = 0; i < count && err == 0; i++) {
        const struct qchain *chain = chains[i];
        put_queue(&writer, chain->queue_id, chain->first_seq, chain->count);
        for (const struct qblock *block = chain->head; block; block = block->next) {
            for (uint32_t n = 0; n < block->count; n++)
                put_entry(&writer, block->entries[n]);
        }
    }
    mem_free(chains);
    return err < 0 ? err : finish(&writer, dir_fd, ret_file);
}

/* --- merging ------------------------------------------------------------------------------- */

/* A file's directory in memory, and how far the merge has come in it. */
struct source {
    const struct sealed_file *file;
    struct sealed_queue *queues;
    uint32_t count, at;
};

static void collect(void *data, const struct sealed_queue *queue)
{
    struct source *source = data;
    source->queues[source->count++] = *queue;
}

static int open_source(struct source *source, const struct sealed_file *file)
{
    source->file = file;
    source->queues = mem_try_alloc(file->queue_count * sizeof *source->queues);
    return source->queues ? sealed_each(file, collect, source) : ERR_NOMEM;
}

/* The lowest queue id not yet merged, 0 at the end. */
static uint32_t lowest_id(const struct source *sources, uint32_t count)
{
    uint32_t lowest = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (sources[i].at == sources[i].count)
            continue;
        const uint32_t id = sources[i].queues[sources[i].at].queue_id;
        if (lowest == 0 || id < lowest)
            lowest = id;
    }
    return lowest;
}

static bool has_queue(const struct source *source, uint32_t id)
{
    return source->at < source->count && source->queues[source->at].queue_id == id;
}

static int copy_entries(struct writer *writer, const struct source *source)
{
    const struct sealed_queue *queue = &source->queues[source->at];
    struct qplace places[MERGE_READ];
    for (uint32_t n = 0; n < queue->count;) {
        const uint32_t here = MIN(queue->count - n, (uint32_t)MERGE_READ);
        const int err = sealed_read(source->file, queue, n, here, places);
        if (err < 0)
            return err;
        for (uint32_t i = 0; i < here; i++) {
            put_entry(writer, (struct qentry){
                                  .place = (uint32_t)((places[i].position - writer->start) / UNIT),
                                  .size8 = places[i].size / UNIT});
        }
        n += here;
    }
    return 0;
}

/* Numbers of one queue must go on from file to file; a gap means that the queue was dropped. */
static int merge_queue(struct writer *writer, struct source *sources, uint32_t count, uint32_t id)
{
    uint64_t first_seq = UINT64_MAX, total = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (!has_queue(&sources[i], id))
            continue;
        const struct sealed_queue *queue = &sources[i].queues[sources[i].at];
        if (first_seq == UINT64_MAX)
            first_seq = queue->first_seq;
        if (queue->first_seq != first_seq + total)
            return ERR_CORRUPT;
        total += queue->count;
    }
    if (total > UINT32_MAX)
        return ERR_CORRUPT;
    put_queue(writer, id, first_seq, (uint32_t)total);
    for (uint32_t i = 0; i < count; i++) {
        if (!has_queue(&sources[i], id))
            continue;
        const int err = copy_entries(writer, &sources[i]);
        if (err < 0)
            return err;
        sources[i].at++;
    }
    return 0;
}

static uint32_t count_ids(struct source *sources, uint32_t count)
{
    uint32_t total = 0, id = 0;
    while ((id = lowest_id(sources, count))) {
        total++;
        for (uint32_t i = 0; i < count; i++)
            sources[i].at += has_queue(&sources[i], id);
    }
    for (uint32_t i = 0; i < count; i++)
        sources[i].at = 0;
    return total;
}

static int merge(int dir_fd, struct source *sources, uint32_t count, struct sealed_file **ret_file)
{
    struct writer writer;
    const uint64_t start = sources[0].file->start;
    const uint64_t end = sources[count - 1].file->end;
    int err = begin(&writer, dir_fd, start, end, count_ids(sources, count));
    if (err < 0)
        return err;
    uint32_t id = 0;
    while (writer.err == 0 && (id = lowest_id(sources, count)))
        writer.err = merge_queue(&writer, sources, count, id);
    return finish(&writer, dir_fd, ret_file);
}

int sealed_merge(int dir_fd, struct sealed_file *const *files, uint32_t count,
                 struct sealed_file **ret_file)
{
    ASSERT(count > 1);
    struct source *sources = mem_new(count * sizeof *sources);
    int err = 0;
    for (uint32_t i = 0; i < count && err == 0; i++)
        err = open_source(&sources[i], files[i]);
    if (err == 0)
        err = merge(dir_fd, sources, count, ret_file);
    for (uint32_t i = 0; i < count; i++)
        mem_free(sources[i].queues);
    mem_free(sources);
    return err;
}
