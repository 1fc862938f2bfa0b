/* RFC 6455, section by section: what a server must take, and what it must refuse and how. */
#include "wire/websocket.h"

#include "base/mem.h"
#include "base/unit.h"

#include <string.h>

enum { FRAME_MAX = 1 << 20, ROOM = 300000 };

static const uint8_t mask[4] = {0x37, 0xfa, 0x21, 0x3d};

/* Frames as a client sends them, and what came out of decoding them. */
struct bench {
    struct websocket_decoder decoder;
    uint8_t sent[ROOM];
    uint32_t sent_size;
    uint8_t got[ROOM];
    uint32_t got_size;
    uint8_t controls[16];
    uint8_t control_sizes[16];
    uint32_t control_count;
    uint8_t control[WEBSOCKET_CONTROL_MAX]; /* the last one */
    int err;
};

static struct bench *bench_of(void **state)
{
    struct bench *bench = *state;
    memset(bench, 0, sizeof *bench);
    websocket_init(&bench->decoder, FRAME_MAX);
    return bench;
}

static void add_bytes(struct bench *bench, const void *bytes, size_t size)
{
    assert_true(bench->sent_size + size <= ROOM);
    memcpy(bench->sent + bench->sent_size, bytes, size);
    bench->sent_size += (uint32_t)size;
}

/* size_form: 0 the shortest, or the code 126 or 127 on purpose. */
static void add_frame(struct bench *bench, uint8_t first, const void *payload, uint32_t size,
                      uint8_t size_form)
{
    const uint8_t form = size_form ? size_form : size < 126 ? 0 : size <= 65535 ? 126 : 127;
    uint8_t head[WEBSOCKET_HEAD_MAX] = {first, (uint8_t)(0x80 | (form ? form : size))};
    const uint32_t size_bytes = form == 0 ? 0 : form == 126 ? 2 : 8;
    for (uint32_t i = 0; i < size_bytes; i++)
        head[2 + i] = (uint8_t)((uint64_t)size >> 8 * (size_bytes - 1 - i));
    memcpy(head + 2 + size_bytes, mask, 4);
    add_bytes(bench, head, 2 + size_bytes + 4);
    for (uint32_t i = 0; i < size; i++)
        bench->sent[bench->sent_size++] = ((const uint8_t *)payload)[i] ^ mask[i % 4];
}

/* Decodes one piece in place, as a stage does. */
static void feed(struct bench *bench, const uint8_t *piece, uint32_t size)
{
    uint8_t *bytes = mem_try_alloc(size + 1); /* of its own, so that a sanitizer sees its end */
    assert_non_null(bytes);
    memcpy(bytes, piece, size);
    uint32_t used = 0, made = 0;
    do {
        struct websocket_step step;
        bench->err =
            websocket_decode(&bench->decoder, bytes + made, bytes + used, size - used, &step);
        used += step.used;
        made += step.made;
        assert_true(made <= used);
        if (step.control) {
            assert_true(bench->control_count < ARRAY_COUNT(bench->controls));
            bench->controls[bench->control_count] = step.control;
            bench->control_sizes[bench->control_count++] = (uint8_t)step.payload.size;
            memcpy(bench->control, step.payload.bytes, step.payload.size);
        }
    } while (bench->err == 0 && used < size);
    memcpy(bench->got + bench->got_size, bytes, made);
    bench->got_size += made;
    mem_free(bytes);
}

static void decode_all(struct bench *bench, uint32_t piece)
{
    for (uint32_t at = 0; at < bench->sent_size && bench->err == 0; at += piece)
        feed(bench, bench->sent + at, MIN(piece, bench->sent_size - at));
}

static void expect_fault(struct bench *bench, uint16_t code)
{
    decode_all(bench, bench->sent_size);
    assert_int_equal(bench->err, ERR_PROTOCOL);
    assert_int_equal(bench->decoder.code, code);
    assert_non_null(bench->decoder.fault);
    /* The same when it comes byte by byte. */
    struct websocket_decoder *again = &bench->decoder;
    websocket_init(again, FRAME_MAX);
    bench->err = 0;
    decode_all(bench, 1);
    assert_int_equal(bench->err, ERR_PROTOCOL);
    assert_int_equal(again->code, code);
}

/* [MQTT3-6.0.0-2] [MQTT5-6.0.0-2] */
static void any_cut_gives_the_same_bytes(void **state)
{
    static const uint32_t sizes[] = {0, 1, 125, 126, 127, 255, 65535, 65536, 70000};
    static const uint32_t pieces[] = {1, 2, 3, 5, 7, 13, 64, 1000, 4096, ROOM};
    static uint8_t plain[ROOM];
    for (size_t p = 0; p < ARRAY_COUNT(pieces); p++) {
        struct bench *bench = bench_of(state);
        uint32_t plain_size = 0;
        for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
            for (uint32_t k = 0; k < sizes[i]; k++)
                plain[plain_size + k] = (uint8_t)(k * 7 + i);
            add_frame(bench, 0x82, plain + plain_size, sizes[i], 0);
            plain_size += sizes[i];
        }
        decode_all(bench, pieces[p]);
        assert_int_equal(bench->err, 0);
        assert_int_equal(bench->got_size, plain_size);
        assert_memory_equal(bench->got, plain, plain_size);
        assert_int_equal(bench->control_count, 0);
    }
}

/* Section 5.4: fragments, and control frames between them. */
static void fragments_are_put_together(void **state)
{
    for (uint32_t piece = 1; piece < 40; piece++) {
        struct bench *bench = bench_of(state);
        add_frame(bench, 0x02, "one ", 4, 0);
        add_frame(bench, 0x89, "ping", 4, 0);
        add_frame(bench, 0x00, "", 0, 0);
        add_frame(bench, 0x00, "two ", 4, 0);
        add_frame(bench, 0x8a, "", 0, 0);
        add_frame(bench, 0x80, "three", 5, 0);
        add_frame(bench, 0x82, "!", 1, 0);
        add_frame(bench, 0x88, "\x03\xe8", 2, 0);
        decode_all(bench, piece);
        assert_int_equal(bench->err, 0);
        assert_int_equal(bench->got_size, 14);
        assert_memory_equal(bench->got, "one two three!", 14);
        assert_int_equal(bench->control_count, 3);
        assert_memory_equal(bench->controls, "\x09\x0a\x08", 3);
        assert_memory_equal(bench->control_sizes, "\x04\x00\x02", 3);
        assert_memory_equal(bench->control, "\x03\xe8ng", 4);
    }
}

static void a_control_frame_has_up_to_125_bytes(void **state)
{
    struct bench *bench = bench_of(state);
    uint8_t payload[126];
    memset(payload, 'x', sizeof payload);
    add_frame(bench, 0x89, payload, 125, 0);
    decode_all(bench, 50);
    assert_int_equal(bench->err, 0);
    assert_int_equal(bench->control_sizes[0], 125);
    assert_memory_equal(bench->control, payload, 125);
    bench = bench_of(state);
    add_frame(bench, 0x89, payload, 126, 0);
    expect_fault(bench, WEBSOCKET_PROTOCOL_ERROR);
}

/* Section 5.2 and 5.3: each single frame that is refused. */
static void bad_first_bytes_are_refused(void **state)
{
    static const struct {
        uint8_t head[2];
        uint16_t code;
    } rows[] = {
        {{0x82, 0x01}, WEBSOCKET_PROTOCOL_ERROR}, /* not masked */
        {{0x82, 0x00}, WEBSOCKET_PROTOCOL_ERROR},
        {{0x88, 0x00}, WEBSOCKET_PROTOCOL_ERROR},
        {{0xc2, 0x81}, WEBSOCKET_PROTOCOL_ERROR}, /* reserved bits: no extension was agreed on */
        {{0xa2, 0x81}, WEBSOCKET_PROTOCOL_ERROR},
        {{0x92, 0x81}, WEBSOCKET_PROTOCOL_ERROR},
        {{0xc9, 0x80}, WEBSOCKET_PROTOCOL_ERROR},
        {{0x83, 0x81}, WEBSOCKET_PROTOCOL_ERROR}, /* reserved opcodes */
        {{0x87, 0x81}, WEBSOCKET_PROTOCOL_ERROR},
        {{0x8b, 0x80}, WEBSOCKET_PROTOCOL_ERROR},
        {{0x8f, 0x80}, WEBSOCKET_PROTOCOL_ERROR},
        {{0x08, 0x80}, WEBSOCKET_PROTOCOL_ERROR}, /* control frames: fragmented, too long */
        {{0x09, 0x80}, WEBSOCKET_PROTOCOL_ERROR},
        {{0x0a, 0x80}, WEBSOCKET_PROTOCOL_ERROR},
        {{0x88, 0xfe}, WEBSOCKET_PROTOCOL_ERROR},
        {{0x89, 0xff}, WEBSOCKET_PROTOCOL_ERROR},
        {{0x80, 0x80}, WEBSOCKET_PROTOCOL_ERROR}, /* continuations of nothing */
        {{0x00, 0x80}, WEBSOCKET_PROTOCOL_ERROR},
        {{0x81, 0x80}, WEBSOCKET_UNSUPPORTED}, /* text: [MQTT3-6.0.0-1] [MQTT5-6.0.0-1] */
        {{0x01, 0x80}, WEBSOCKET_UNSUPPORTED},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct bench *bench = bench_of(state);
        add_frame(bench, 0x82, "fine", 4, 0);
        add_bytes(bench, rows[i].head, 2); /* enough to know */
        expect_fault(bench, rows[i].code);
        assert_int_equal(bench->got_size, 8); /* what came before was decoded, twice */
    }
}

static void messages_are_not_interleaved(void **state)
{
    struct bench *bench = bench_of(state);
    add_frame(bench, 0x02, "begun", 5, 0);
    add_frame(bench, 0x82, "another", 7, 0);
    expect_fault(bench, WEBSOCKET_PROTOCOL_ERROR);
    bench = bench_of(state);
    add_frame(bench, 0x02, "begun", 5, 0);
    add_frame(bench, 0x80, "ended", 5, 0);
    add_frame(bench, 0x80, "", 0, 0);
    expect_fault(bench, WEBSOCKET_PROTOCOL_ERROR);
}

static void lengths_are_written_in_the_shortest_way(void **state)
{
    static const struct {
        uint32_t size;
        uint8_t form;
    } rows[] = {{0, 126}, {125, 126}, {0, 127}, {125, 127}, {126, 127}, {65535, 127}};
    static uint8_t payload[65535];
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct bench *bench = bench_of(state);
        add_frame(bench, 0x82, payload, rows[i].size, rows[i].form);
        expect_fault(bench, WEBSOCKET_PROTOCOL_ERROR);
    }
    struct bench *bench = bench_of(state);
    add_bytes(bench, "\x82\xff\x80\0\0\0\0\0\0\0mask", 14); /* the highest bit */
    expect_fault(bench, WEBSOCKET_PROTOCOL_ERROR);
}

static void a_frame_has_a_largest_size(void **state)
{
    struct bench *bench = bench_of(state);
    add_bytes(bench, "\x82\xff\x00\0\0\0\0\x10\0\0mask", 14); /* FRAME_MAX exactly */
    decode_all(bench, 14);
    assert_int_equal(bench->err, 0);
    bench = bench_of(state);
    add_bytes(bench, "\x82\xff\x00\0\0\0\0\x10\0\x01mask", 14);
    expect_fault(bench, WEBSOCKET_TOO_BIG);
    bench = bench_of(state);
    add_bytes(bench, "\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xffmask", 14);
    expect_fault(bench, WEBSOCKET_TOO_BIG);
}

static void unmasking_moves_too(void **state)
{
    (void)state;
    static uint8_t plain[300], bytes[400];
    for (uint32_t size = 0; size < 300; size++) {
        for (uint32_t gap = 0; gap < 40; gap++) {
            for (uint32_t i = 0; i < size; i++) {
                plain[i] = (uint8_t)(i * 13 + gap);
                bytes[gap + i] = plain[i] ^ mask[i % 4];
            }
            bytes[gap + size] = 0xee;
            websocket_unmask(bytes, bytes + gap, size, mask);
            assert_memory_equal(bytes, plain, size);
            assert_int_equal(bytes[gap + size], 0xee);
        }
    }
}

/* Section 7.4. */
static void codes_of_close_frames_are_checked(void **state)
{
    (void)state;
    static const struct {
        uint16_t first, last;
        bool good;
    } rows[] = {
        {0, 999, false},     {1000, 1003, true}, {1004, 1006, false},  {1007, 1014, true},
        {1015, 2999, false}, {3000, 4999, true}, {5000, 65535, false},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        for (uint32_t code = rows[i].first; code <= rows[i].last; code++) {
            const uint8_t payload[] = {(uint8_t)(code >> 8), (uint8_t)code, 'o', 'k'};
            uint16_t got = 0;
            const int err = websocket_close_parse(slice_of(payload, 4), &got);
            assert_int_equal(err, rows[i].good ? 0 : ERR_PROTOCOL);
            assert_int_equal(got, rows[i].good ? code : 0);
        }
    }
}

static void reasons_of_close_frames_are_utf8(void **state)
{
    (void)state;
    uint16_t code = 0;
    assert_int_equal(websocket_close_parse(slice_of("", 0), &code), 0);
    assert_int_equal(code, WEBSOCKET_NO_CODE);
    assert_int_equal(websocket_close_parse(slice_of("\x03", 1), &code), ERR_PROTOCOL);
    assert_int_equal(websocket_close_parse(slice_of("\x03\xe8", 2), &code), 0);
    assert_int_equal(code, WEBSOCKET_NORMAL);
    static const char good[] = "\x03\xe8gr\xc3\xbc\xc3\x9f"
                               "e\0";
    assert_int_equal(websocket_close_parse(slice_of(good, sizeof good - 1), &code), 0);
    static const char *const bad[] = {"\x03\xe8\xff", "\x03\xe8\xc3", "\x03\xe8\xed\xa0\x80",
                                      "\x03\xe8\xc0\xaf", "\x03\xe8ok\xf4\x90\x80\x80"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_int_equal(websocket_close_parse(slice_str(bad[i]), &code), ERR_MALFORMED);
}

static void heads_are_written_in_the_shortest_way(void **state)
{
    (void)state;
    static const struct {
        uint64_t size;
        const char *head;
        uint32_t head_size;
    } rows[] = {
        {0, "\x82\x00", 2},
        {125, "\x82\x7d", 2},
        {126, "\x82\x7e\x00\x7e", 4},
        {65535, "\x82\x7e\xff\xff", 4},
        {65536, "\x82\x7f\0\0\0\0\0\x01\0\0", 10},
        {UINT64_C(1) << 40, "\x82\x7f\0\0\x01\0\0\0\0\0", 10},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        uint8_t head[WEBSOCKET_SENT_HEAD_MAX];
        assert_int_equal(websocket_head_write(head, WEBSOCKET_BINARY, rows[i].size),
                         rows[i].head_size);
        assert_memory_equal(head, rows[i].head, rows[i].head_size);
    }
}

static void close_frames_are_written(void **state)
{
    (void)state;
    uint8_t frame[WEBSOCKET_CLOSE_MAX];
    assert_int_equal(websocket_close_write(frame, WEBSOCKET_NO_CODE, "unused"), 2);
    assert_memory_equal(frame, "\x88\x00", 2);
    assert_int_equal(websocket_close_write(frame, WEBSOCKET_NORMAL, ""), 4);
    assert_memory_equal(frame, "\x88\x02\x03\xe8", 4);
    assert_int_equal(websocket_close_write(frame, WEBSOCKET_TOO_BIG, "big"), 7);
    assert_memory_equal(frame,
                        "\x88\x05\x03\xf1"
                        "big",
                        7);
    char reason[200];
    memset(reason, 'r', sizeof reason - 1);
    reason[sizeof reason - 1] = '\0';
    assert_int_equal(websocket_close_write(frame, WEBSOCKET_NORMAL, reason), WEBSOCKET_CLOSE_MAX);
    assert_int_equal(frame[1], 125);
}

static int set_up(void **state)
{
    *state = mem_new(sizeof(struct bench));
    return 0;
}

static int tear_down(void **state)
{
    mem_free(*state);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(any_cut_gives_the_same_bytes),
        cmocka_unit_test(fragments_are_put_together),
        cmocka_unit_test(a_control_frame_has_up_to_125_bytes),
        cmocka_unit_test(bad_first_bytes_are_refused),
        cmocka_unit_test(messages_are_not_interleaved),
        cmocka_unit_test(lengths_are_written_in_the_shortest_way),
        cmocka_unit_test(a_frame_has_a_largest_size),
        cmocka_unit_test(unmasking_moves_too),
        cmocka_unit_test(codes_of_close_frames_are_checked),
        cmocka_unit_test(reasons_of_close_frames_are_utf8),
        cmocka_unit_test(heads_are_written_in_the_shortest_way),
        cmocka_unit_test(close_frames_are_written),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
