/* One read from the store, cancellable by whoever asked. */
#include "broker/core_priv.h"

#include "base/mem.h"

#include <string.h>

#define READ_SIZE_MAX (256u << 10)

struct reader {
    struct store_read read;
    struct broker *broker;
    struct reader **slot; /* the owner's pointer to us */
    reader_fn *fn;
    void *owner;
    struct store_place places[]; /* of reader_places */
};

static void reader_finish(struct reader *reader, int err)
{
    *reader->slot = NULL;
    reader->fn(reader->owner, err, &reader->read);
    store_release(reader->broker->deps.store, &reader->read);
    mem_free(reader);
}

static void reader_done(struct store_read *read, int err)
{
    reader_finish(CONTAINER_OF(read, struct reader, read), err);
}

static void reader_submit(struct reader *reader)
{
    *reader->slot = reader;
    reader->read.bytes_max = READ_SIZE_MAX;
    reader->read.done = reader_done;
    const int got = store_read(reader->broker->deps.store, &reader->read);
    if (got == 0)
        return;
    reader_finish(reader, MIN(got, 0));
}

static struct reader *reader_new(struct broker *broker, struct reader **slot, uint32_t place_count,
                                 reader_fn *fn, void *owner)
{
    ASSERT(!*slot);
    struct reader *reader = mem_new(sizeof *reader + place_count * sizeof reader->places[0]);
    reader->broker = broker;
    reader->slot = slot;
    reader->fn = fn;
    reader->owner = owner;
    return reader;
}

void reader_queue(struct broker *broker, struct reader **slot, struct reader_span span,
                  reader_fn *fn, void *owner)
{
    struct reader *reader = reader_new(broker, slot, 0, fn, owner);
    reader->read.queue_id = span.queue_id;
    reader->read.from_seq = span.from_seq;
    reader->read.entries_max = (uint16_t)MIN(span.entries_max, STORE_READ_MAX);
    reader_submit(reader);
}

void reader_message(struct broker *broker, struct reader **slot, uint64_t position, reader_fn *fn,
                    void *owner)
{
    struct reader *reader = reader_new(broker, slot, 0, fn, owner);
    reader->read.position = position;
    reader->read.entries_max = 1;
    reader_submit(reader);
}

void reader_places(struct broker *broker, struct reader **slot, struct reader_plan plan,
                   reader_fn *fn, void *owner)
{
    struct reader *reader = reader_new(broker, slot, plan.count, fn, owner);
    memcpy(reader->places, plan.places, plan.count * sizeof reader->places[0]);
    reader->read.places = reader->places;
    reader->read.place_count = (uint16_t)plan.count;
    reader->read.entries_max = (uint16_t)plan.count;
    reader_submit(reader);
}

void reader_cancel(struct reader **slot)
{
    struct reader *reader = *slot;
    if (!reader)
        return;
    *slot = NULL;
    store_release(reader->broker->deps.store, &reader->read);
    mem_free(reader);
}
