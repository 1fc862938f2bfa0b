/* Stored messages and their properties, whole, cut at every byte, with any bit turned. */
#include "rocketmq/message_fixture.h"

#include <stdio.h>

enum { ROOM = 64 * 1024 };

static const struct rmq_host host4 = {.address = {127, 0, 0, 1}, .address_size = 4, .port = 10911};
static const struct rmq_host host6 = {
    .address = {0xfe, 0x80, [15] = 9}, .address_size = 16, .port = 7};

static struct rmq_message sample(void)
{
    return (struct rmq_message){
        .queue_id = 3,
        .flag = -9,
        .queue_offset = 1234567890123,
        .position = 0x0102030405060708,
        .born_ms = 1700000000000,
        .store_ms = 1700000000123,
        .born_host = host4,
        .store_host = host4,
        .reconsume_times = 2,
        .prepared_offset = -1,
        .body = slice_str("the body"),
        .topic = slice_str("sensors"),
        .properties = slice_str("INNER_MULTI_DISPATCH\1%LMQ%a,%LMQ%b,%LMQ%ab\2KEYS\1k1 k2\2"
                                "INNER_MULTI_QUEUE_OFFSET\0017,0,12\2"),
    };
}

static void assert_same(const struct rmq_message *a, const struct rmq_message *b)
{
    assert_int_equal(a->queue_id, b->queue_id);
    assert_int_equal(a->flag, b->flag);
    assert_true(a->queue_offset == b->queue_offset);
    assert_true(a->position == b->position);
    assert_true(a->born_ms == b->born_ms && a->store_ms == b->store_ms);
    assert_memory_equal(&a->born_host, &b->born_host, sizeof a->born_host);
    assert_memory_equal(&a->store_host, &b->store_host, sizeof a->store_host);
    assert_int_equal(a->reconsume_times, b->reconsume_times);
    assert_true(a->prepared_offset == b->prepared_offset);
    assert_true(slice_equal(a->body, b->body));
    assert_true(slice_equal(a->topic, b->topic));
    assert_true(slice_equal(a->properties, b->properties));
}

static void messages_are_decoded(void **state)
{
    (void)state;
    char long_topic[200];
    memset(long_topic, 't', sizeof long_topic);
    for (int i = 0; i < 8; i++) {
        uint8_t room[ROOM];
        const char *why = NULL;
        struct rmq_message message = sample(), again;
        message.is_v2 = i & 1;
        message.born_host = i & 2 ? host6 : host4;
        message.store_host = i & 4 ? host6 : host4;
        if (message.is_v2)
            message.topic = slice_of(long_topic, sizeof long_topic);
        const uint32_t size = message_put(room, sizeof room, &message);
        assert_int_equal(rmq_message_decode(slice_of(room, size), &again, &why), 0);
        assert_int_equal(again.size, size);
        assert_int_equal(again.is_v2, message.is_v2);
        assert_same(&message, &again);
        assert_true(rmq_message_is_sound(&again));
        if (i == 0) /* as documented */
            assert_ptr_equal(again.body.bytes, room + 88);
    }
}

static void empty_parts_are_fine(void **state)
{
    (void)state;
    uint8_t room[ROOM];
    const char *why = NULL;
    struct rmq_message again;
    const struct rmq_message message = {.born_host = host4, .store_host = host4};
    const uint32_t size = message_put(room, sizeof room, &message);
    assert_int_equal(rmq_message_decode(slice_of(room, size), &again, &why), 0);
    assert_int_equal(again.body.size + again.topic.size + again.properties.size, 0);
    assert_true(rmq_message_is_sound(&again));
}

static void several_are_taken_one_by_one(void **state)
{
    (void)state;
    uint8_t room[ROOM];
    const char *why = NULL;
    struct rmq_message message = sample(), again;
    uint32_t size = 0;
    for (uint32_t i = 0; i < 3; i++) {
        message.queue_offset = i;
        size += message_put(room + size, sizeof room - size, &message);
    }
    struct slice rest = slice_of(room, size);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(rmq_message_next(&rest, &again, &why), 0);
        assert_true(again.queue_offset == i);
    }
    assert_int_equal(rmq_message_next(&rest, &again, &why), ERR_NOTFOUND);
    rest = slice_of(room, size - 1);
    assert_int_equal(rmq_message_next(&rest, &again, &why), 0);
    assert_int_equal(rmq_message_next(&rest, &again, &why), 0);
    assert_int_equal(rmq_message_next(&rest, &again, &why), ERR_MALFORMED);
}

static void cut_messages_are_refused(void **state)
{
    (void)state;
    uint8_t room[ROOM];
    const struct rmq_message message = sample();
    struct rmq_message again;
    const uint32_t size = message_put(room, sizeof room, &message);
    for (uint32_t cut = 0; cut < size; cut++) {
        const char *why = NULL;
        uint8_t *exact = mem_try_alloc(cut + 1); /* so that a sanitizer sees a read beyond */
        assert_non_null(exact);
        memcpy(exact, room, cut);
        assert_int_equal(rmq_message_decode(slice_of(exact, cut), &again, &why), ERR_MALFORMED);
        assert_non_null(why);
        if (cut >= 4) { /* a size that is what is left does not help */
            (void)rmq_put_number(exact, cut, 4);
            why = NULL;
            assert_int_equal(rmq_message_decode(slice_of(exact, cut), &again, &why), ERR_MALFORMED);
            assert_non_null(why);
        }
        mem_free(exact);
    }
    const char *why = NULL;
    (void)rmq_put_number(room, size + 1, 4);
    assert_int_equal(rmq_message_decode(slice_of(room, size + 1), &again, &why), ERR_MALFORMED);
    assert_non_null(strstr(why, "larger than its parts"));
}

/* A bit that is turned in the body is found by its sum; elsewhere it does no harm. */
static void turned_bits_do_no_harm(void **state)
{
    (void)state;
    uint8_t room[ROOM];
    const struct rmq_message message = sample();
    struct rmq_message again;
    const uint32_t size = message_put(room, sizeof room, &message);
    for (uint32_t bit = 0; bit < size * 8; bit++) {
        const char *why = NULL;
        uint64_t offset = 0;
        room[bit / 8] ^= (uint8_t)(1 << bit % 8);
        const int err = rmq_message_decode(slice_of(room, size), &again, &why);
        const bool in_body = bit / 8 >= 88 && bit / 8 < 88 + message.body.size;
        assert_true(err == 0 ? true : why != NULL);
        assert_true(!in_body || (err == 0 && !rmq_message_is_sound(&again)));
        if (err == 0)
            (void)!rmq_message_lmq_offset(&again, slice_str("%LMQ%b"), &offset);
        room[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
}

static void bodies_are_decompressed(void **state)
{
    (void)state;
    static char text[20000];
    uint8_t packed[ROOM], room[ROOM];
    uLongf packed_size = sizeof packed;
    struct rmq_message message = sample();
    struct slice body = {0};
    memset(text, 'x', sizeof text);
    assert_int_equal(compress(packed, &packed_size, (const Bytef *)text, sizeof text), Z_OK);
    assert_int_equal(rmq_message_body(&message, 1000, &body), 0);
    assert_true(slice_equal(body, message.body));
    slice_done(&body);
    assert_int_equal(rmq_message_body(&message, 7, &body), ERR_FULL);
    message.body = slice_of(packed, packed_size);
    static const uint32_t flags[] = {0x1, 0x301};
    for (size_t i = 0; i < ARRAY_COUNT(flags); i++) {
        message.sys_flag = flags[i];
        assert_int_equal(rmq_message_compression(&message), RMQ_ZLIB);
        assert_int_equal(rmq_message_body(&message, sizeof text, &body), 0);
        assert_int_equal(body.size, sizeof text);
        assert_memory_equal(body.bytes, text, sizeof text);
        slice_done(&body);
        assert_int_equal(rmq_message_body(&message, sizeof text - 1, &body), ERR_FULL);
        assert_int_equal(rmq_message_body(&message, 0, &body), ERR_FULL);
    }
    for (uint64_t n = 1; n <= 3; n++) {
        mem_fail_at(n);
        assert_int_equal(rmq_message_body(&message, sizeof text, &body), ERR_NOMEM);
        mem_fail_at(0);
    }
    for (uint32_t cut = 0; cut < packed_size; cut++) {
        memcpy(room, packed, cut);
        message.body = slice_of(room, cut);
        assert_int_equal(rmq_message_body(&message, sizeof text + 1, &body), ERR_MALFORMED);
    }
    static const struct {
        uint32_t flag;
        enum rmq_compression compression;
    } others[] = {{0x101, RMQ_LZ4}, {0x201, RMQ_ZSTD}, {0x401, RMQ_COMPRESSION_UNKNOWN}};
    for (size_t i = 0; i < ARRAY_COUNT(others); i++) {
        message.sys_flag = others[i].flag;
        assert_int_equal(rmq_message_compression(&message), others[i].compression);
        assert_int_equal(rmq_message_body(&message, sizeof text, &body), ERR_INVALID);
    }
}

static void lmqs_have_offsets_of_their_own(void **state)
{
    (void)state;
    static const struct {
        const char *properties, *lmq;
        int err;
        uint64_t offset;
    } rows[] = {
        {NULL, "%LMQ%a", 0, 7},
        {NULL, "%LMQ%b", 0, 0},
        {NULL, "%LMQ%ab", 0, 12},
        {NULL, "%LMQ%", ERR_NOTFOUND, 0},
        {"", "%LMQ%a", ERR_NOTFOUND, 0},
        {"INNER_MULTI_DISPATCH\1a\2", "a", ERR_MALFORMED, 0},
        {"INNER_MULTI_DISPATCH\1a,b\2INNER_MULTI_QUEUE_OFFSET\0015\2", "b", ERR_MALFORMED, 0},
        {"INNER_MULTI_DISPATCH\1a,b\2INNER_MULTI_QUEUE_OFFSET\0015,\2", "b", ERR_MALFORMED, 0},
        {"INNER_MULTI_DISPATCH\1a,b\2INNER_MULTI_QUEUE_OFFSET\0015,-1\2", "b", ERR_MALFORMED, 0},
        {"INNER_MULTI_DISPATCH\1a,b\2INNER_MULTI_QUEUE_OFFSET\0015,x\2", "a", 0, 5},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct rmq_message message = sample();
        uint64_t offset = 0;
        if (rows[i].properties)
            message.properties = slice_str(rows[i].properties);
        assert_int_equal(rmq_message_lmq_offset(&message, slice_str(rows[i].lmq), &offset),
                         rows[i].err);
        assert_true(offset == rows[i].offset);
    }
}

static void properties_are_found(void **state)
{
    (void)state;
    static const char text[] = "a\0011\2\2x\2\1y\2b\1\2a\0013\2c\1d\1e";
    struct slice rest = slice_str(text);
    struct rmq_property property;
    static const char *const expected[] = {"a", "1", "b", "", "a", "3", "c", "d\1e"};
    for (size_t i = 0; i < ARRAY_COUNT(expected); i += 2) {
        assert_true(rmq_properties_next(&rest, &property));
        assert_true(slice_equal(property.name, slice_str(expected[i])));
        assert_true(slice_equal(property.value, slice_str(expected[i + 1])));
    }
    assert_false(rmq_properties_next(&rest, &property));
    assert_true(slice_equal(rmq_properties_find(slice_str(text), "a"), slice_str("1")));
    assert_null(rmq_properties_find(slice_str(text), "x").bytes);
}

static void properties_are_written_within_the_limit(void **state)
{
    (void)state;
    struct strbuf strbuf;
    rmq_properties_init(&strbuf, 3);
    assert_int_equal(rmq_properties_add(&strbuf, slice_str("a"), slice_str("1")), 0);
    assert_int_equal(rmq_properties_add(&strbuf, slice_str("b"), slice_str("")), 0);
    assert_int_equal(strbuf_err(&strbuf), 0);
    assert_string_equal(strbuf.text, "a\0011\2b\1\2");
    assert_int_equal(rmq_properties_add(&strbuf, slice_str(""), slice_str("1")), ERR_INVALID);
    assert_int_equal(rmq_properties_add(&strbuf, slice_str("a\1"), slice_str("1")), ERR_INVALID);
    assert_int_equal(rmq_properties_add(&strbuf, slice_str("a"), slice_str("\2")), ERR_INVALID);
    strbuf_done(&strbuf);
    static const struct {
        uint32_t lmq_count, size_max;
    } rows[] = {{0, 32255}, {1, 32235}, {1600, 255}, {2000, 0}, {UINT32_MAX, 0}};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        static char value[RMQ_PROPERTIES_SIZE_MAX];
        memset(value, 'v', sizeof value);
        rmq_properties_init(&strbuf, rows[i].lmq_count);
        if (rows[i].size_max > 0) {
            assert_int_equal(
                rmq_properties_add(&strbuf, slice_str("n"), slice_of(value, rows[i].size_max - 3)),
                0);
            assert_int_equal(strbuf_err(&strbuf), 0);
        }
        assert_int_equal(rmq_properties_add(&strbuf, slice_str("x"), slice_str("")), 0);
        assert_int_equal(strbuf_err(&strbuf), ERR_FULL);
        strbuf_done(&strbuf);
    }
}

static void ids_are_written_and_read(void **state)
{
    (void)state;
    struct rmq_message message = sample();
    char id[RMQ_MESSAGE_ID6_SIZE + 1];
    struct rmq_host host;
    uint64_t position = 0;
    rmq_message_id(&message, id);
    assert_string_equal(id, "7F00000100002A9F0102030405060708");
    assert_int_equal(rmq_message_parse_id(id, &host, &position), 0);
    assert_memory_equal(&host, &host4, sizeof host);
    assert_true(position == message.position);
    message.store_host = host6;
    rmq_message_id(&message, id);
    assert_int_equal(strlen(id), RMQ_MESSAGE_ID6_SIZE);
    assert_int_equal(rmq_message_parse_id(id, &host, &position), 0);
    assert_memory_equal(&host, &host6, sizeof host);
    id[55] = 'g';
    assert_int_equal(rmq_message_parse_id(id, &host, &position), ERR_INVALID);
    assert_int_equal(rmq_message_parse_id("", &host, &position), ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_are_decoded),
        cmocka_unit_test(empty_parts_are_fine),
        cmocka_unit_test(several_are_taken_one_by_one),
        cmocka_unit_test(cut_messages_are_refused),
        cmocka_unit_test(turned_bits_do_no_harm),
        cmocka_unit_test(bodies_are_decompressed),
        cmocka_unit_test(lmqs_have_offsets_of_their_own),
        cmocka_unit_test(properties_are_found),
        cmocka_unit_test(properties_are_written_within_the_limit),
        cmocka_unit_test(ids_are_written_and_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
