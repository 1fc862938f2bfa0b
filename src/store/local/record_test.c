#include "base/unit.h"

#include "base/mem.h"
#include "store/local/record.h"

#include <string.h>

enum { ROOM = 4096, POSITION = 8192, EPOCH = 3 };

struct sample {
    uint32_t queue_ids[3];
    struct meta_op ops[3];
    struct message message;
    struct store_append req;
    uint8_t bytes[ROOM] __attribute__((aligned(8)));
    uint64_t size;
};

static void make_sample(struct sample *sample)
{
    *sample = (struct sample){
        .queue_ids = {3, 5, 70000},
        .ops = {{.kind = META_PUT, .key = slice_str("key"), .value = slice_str("value")},
                {.kind = META_DELETE, .key = slice_str("gone"), .value = slice_str("")},
                {.kind = META_PUT_AT, .key = slice_str("at"), .value = slice_str("x")}},
        .message = {.topic = slice_str("a/b/c"),
                    .payload = slice_str("payload"),
                    .props = slice_str("props"),
                    .client_id = slice_str("client"),
                    .publisher = 99,
                    .time_ms = 1234,
                    .origin = 555,
                    .expiry_s = 60,
                    .topic_id = 8,
                    .qos = 2,
                    .flags = MESSAGE_RETAIN | MESSAGE_COPY},
    };
    sample->req = (struct store_append){.message = &sample->message,
                                        .queue_ids = sample->queue_ids,
                                        .queue_count = 3,
                                        .ops = sample->ops,
                                        .op_count = 3};
    sample->size = record_size(&sample->req);
    assert_true(sample->size <= ROOM && sample->size % RECORD_ALIGN == 0);
    record_write(sample->bytes, &sample->req, POSITION, EPOCH);
    record_seal(sample->bytes, POSITION - 80);
}

static void what_is_written_is_read(void **state)
{
    (void)state;
    struct sample sample;
    make_sample(&sample);
    struct record record;
    assert_int_equal(record_parse(sample.bytes, sample.size, POSITION, EPOCH, NULL, &record), 0);
    const struct message *message = &record.message, *sent = &sample.message;
    assert_true(slice_equal(message->topic, sent->topic));
    assert_true(slice_equal(message->payload, sent->payload));
    assert_true(slice_equal(message->props, sent->props));
    assert_true(slice_equal(message->client_id, sent->client_id));
    assert_int_equal(message->publisher, 99);
    assert_int_equal(message->time_ms, 1234);
    assert_int_equal(message->origin, 555);
    assert_int_equal(message->expiry_s, 60);
    assert_int_equal(message->topic_id, 8);
    assert_int_equal(message->qos, 2);
    assert_int_equal(message->flags, MESSAGE_RETAIN | MESSAGE_COPY);
    assert_int_equal(message->position, POSITION);
    assert_memory_equal(record.queue_ids, sample.queue_ids, sizeof sample.queue_ids);
    assert_int_equal(record.header->unsynced, 10);
    struct slice rest = record.ops;
    for (size_t i = 0; i < 3; i++) {
        struct meta_op op;
        assert_int_equal(record_op_next(&rest, &op), 1);
        assert_int_equal(op.kind, sample.ops[i].kind);
        assert_true(slice_equal(op.key, sample.ops[i].key));
        assert_true(slice_equal(op.value, sample.ops[i].value));
    }
    struct meta_op op;
    assert_int_equal(record_op_next(&rest, &op), 0);
    assert_true(record_in_queue(&record, 8));
    assert_true(record_in_queue(&record, 70000));
    assert_false(record_in_queue(&record, 4));
}

/* In memory of exactly its size, so that a sanitizer sees any read beyond. */
static void cut_at_every_byte_asks_for_more(void **state)
{
    (void)state;
    struct sample sample;
    make_sample(&sample);
    for (uint64_t size = 0; size < sample.size; size++) {
        uint8_t *cut = mem_try_alloc(size);
        memcpy(cut, sample.bytes, size);
        struct record record = {.header = (void *)1};
        assert_int_equal(record_parse(cut, size, POSITION, EPOCH, NULL, &record), ERR_AGAIN);
        assert_ptr_equal(record.header, (void *)1);
        mem_free(cut);
    }
}

static void every_flipped_bit_is_noticed(void **state)
{
    (void)state;
    struct sample sample;
    make_sample(&sample);
    for (uint64_t bit = 0; bit < sample.size * 8; bit++) {
        sample.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        struct record record;
        const int err = record_parse(sample.bytes, sample.size, POSITION, EPOCH, NULL, &record);
        assert_true(err == ERR_CORRUPT || (err == ERR_AGAIN && bit < 32));
        sample.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void another_place_or_epoch_is_refused(void **state)
{
    (void)state;
    struct sample sample;
    make_sample(&sample);
    struct record record;
    assert_int_equal(record_parse(sample.bytes, sample.size, POSITION + 8, EPOCH, NULL, &record),
                     ERR_CORRUPT);
    assert_int_equal(record_parse(sample.bytes, sample.size, POSITION, EPOCH + 1, NULL, &record),
                     ERR_CORRUPT);
}

/* Lengths inside that do not add up are refused even when the checksum is right. */
static void wrong_lengths_are_refused(void **state)
{
    (void)state;
    static const size_t fields[] = {
        offsetof(struct record_header, payload_size),   offsetof(struct record_header, props_size),
        offsetof(struct record_header, ops_size),       offsetof(struct record_header, topic_size),
        offsetof(struct record_header, client_id_size), offsetof(struct record_header, queue_count),
    };
    for (size_t i = 0; i < ARRAY_COUNT(fields); i++) {
        struct sample sample;
        make_sample(&sample);
        sample.bytes[fields[i]] ^= 0x20;
        record_seal(sample.bytes, POSITION);
        struct record record;
        assert_int_equal(record_parse(sample.bytes, sample.size, POSITION, EPOCH, NULL, &record),
                         ERR_CORRUPT);
    }
}

static void broken_operations_are_refused(void **state)
{
    (void)state;
    static const uint8_t cut[] = {1, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0};
    static const uint8_t unknown[] = {9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 'k'};
    static const uint8_t beyond[] = {1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 'k'};
    const struct slice broken[] = {slice_of(cut, sizeof cut), slice_of(unknown, sizeof unknown),
                                   slice_of(beyond, sizeof beyond)};
    for (size_t i = 0; i < ARRAY_COUNT(broken); i++) {
        struct slice rest = broken[i];
        struct meta_op op;
        assert_int_equal(record_op_next(&rest, &op), ERR_CORRUPT);
    }
}

static void lengths_that_do_not_fit_have_no_size(void **state)
{
    (void)state;
    struct message message = {.topic = slice_of("", UINT16_MAX + 1)};
    const struct store_append req = {.message = &message};
    assert_int_equal(record_size(&req), UINT64_MAX);
    message = (struct message){.payload = slice_of("", UINT32_MAX - 8)};
    assert_int_equal(record_size(&req), UINT64_MAX);
    message = (struct message){.client_id = slice_of("", UINT16_MAX + 1)};
    assert_int_equal(record_size(&req), UINT64_MAX);
}

static void a_drop_names_its_queue(void **state)
{
    (void)state;
    uint8_t bytes[RECORD_DROP_SIZE] __attribute__((aligned(8)));
    record_write_drop(bytes, 42, POSITION, EPOCH);
    record_seal(bytes, POSITION);
    struct record record;
    assert_int_equal(record_parse(bytes, sizeof bytes, POSITION, EPOCH, NULL, &record), 0);
    assert_int_equal(record.header->kind, RECORD_DROP);
    assert_int_equal(record.queue_ids[0], 42);
    assert_false(record_in_queue(&record, 42)); /* nothing can be read there */
}

/* Whatever its checksum says: what is not there must not be read. */
static void a_drop_has_nothing_else(void **state)
{
    (void)state;
    for (int row = 0; row < 3; row++) {
        uint8_t bytes[RECORD_DROP_SIZE] __attribute__((aligned(8)));
        record_write_drop(bytes, 42, POSITION, EPOCH);
        struct record_header *header = (struct record_header *)(void *)bytes;
        if (row == 0)
            header->ops_size = 4096;
        else if (row == 1)
            header->has_message = 1;
        else
            header->queue_count = 0;
        record_seal(bytes, POSITION);
        struct record record;
        assert_int_equal(record_parse(bytes, sizeof bytes, POSITION, EPOCH, NULL, &record),
                         ERR_CORRUPT);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(cut_at_every_byte_asks_for_more),
        cmocka_unit_test(every_flipped_bit_is_noticed),
        cmocka_unit_test(another_place_or_epoch_is_refused),
        cmocka_unit_test(wrong_lengths_are_refused),
        cmocka_unit_test(broken_operations_are_refused),
        cmocka_unit_test(lengths_that_do_not_fit_have_no_size),
        cmocka_unit_test(a_drop_names_its_queue),
        cmocka_unit_test(a_drop_has_nothing_else),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
