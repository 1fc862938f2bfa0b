/* Frames and headers in both formats: what goes in comes out, whatever the pieces; what is cut or
 * wrong is refused with a reason. */
#include "base/mem.h"
#include "base/unit.h"
#include "rocketmq/rmq_codes.h"
#include "rocketmq/rmq_command.h"
#include "rocketmq/rmq_json.h"

#include <stdio.h>
#include <string.h>

enum { FRAME_MAX = 4096 };

/* As a Broker of 5.5 answers a SEND. */
static const char answer_json[] =
    "{\"code\":0,\"extFields\":{\"queueId\":\"3\",\"TRACE_ON\":\"true\",\"MSG_REGION\":"
    "\"DefaultRegion\",\"msgId\":\"7F00000100002A9F0000000000000000\",\"queueOffset\":\"12\"},"
    "\"flag\":1,\"language\":\"JAVA\",\"opaque\":7,\"serializeTypeCurrentRPC\":\"JSON\","
    "\"version\":491}";

static struct slice frame_json(const char *header, const char *body, uint8_t *room)
{
    const size_t header_size = strlen(header), body_size = strlen(body);
    assert_true(8 + header_size + body_size <= FRAME_MAX);
    const size_t rest = 4 + header_size + body_size;
    const uint8_t head[8] = {(uint8_t)(rest >> 24),
                             (uint8_t)(rest >> 16),
                             (uint8_t)(rest >> 8),
                             (uint8_t)rest,
                             0,
                             (uint8_t)(header_size >> 16),
                             (uint8_t)(header_size >> 8),
                             (uint8_t)header_size};
    memcpy(room, head, sizeof head);
    memcpy(room + 8, header, header_size);
    memcpy(room + 8 + header_size, body, body_size);
    return slice_of(room, 8 + header_size + body_size);
}

static void decode(struct slice bytes, struct rmq_frame *frame, struct rmq_command *command)
{
    const char *why = NULL;
    assert_int_equal(rmq_frame_parse(bytes, RMQ_FRAME_SIZE_MAX, frame, &why), 0);
    assert_int_equal(rmq_command_decode(frame, command, &why), 0);
}

/* Encodes and returns the bytes; *ret_frame holds them. */
static struct slice encode(const struct rmq_command *command, int format, struct slice body,
                           struct buf **ret_frame)
{
    assert_int_equal(rmq_command_encode(command, (enum rmq_format)format, body, ret_frame), 0);
    return slice_of(buf_bytes(*ret_frame), buf_size(*ret_frame));
}

static void assert_text(struct slice slice, const char *text)
{
    assert_non_null(slice.bytes);
    assert_int_equal(slice.size, strlen(text));
    assert_memory_equal(slice.bytes, text, slice.size);
}

static void answers_in_json_are_read(void **state)
{
    (void)state;
    uint8_t room[FRAME_MAX];
    struct rmq_frame frame;
    struct rmq_command command;
    int64_t offset = 0;
    decode(frame_json(answer_json, "body", room), &frame, &command);
    assert_int_equal(command.code, 0);
    assert_int_equal(command.flag, RMQ_FLAG_ANSWER);
    assert_int_equal(command.opaque, 7);
    assert_int_equal(command.version, 491);
    assert_int_equal(command.fields.count, 5);
    assert_text(rmq_fields_find(&command.fields, "msgId"), "7F00000100002A9F0000000000000000");
    assert_int_equal(rmq_fields_int(&command.fields, "queueOffset", &offset), 0);
    assert_int_equal(offset, 12);
    assert_int_equal(rmq_fields_int(&command.fields, "msgId", &offset), ERR_MALFORMED);
    assert_int_equal(rmq_fields_int(&command.fields, "nothing", &offset), ERR_NOTFOUND);
    assert_text(frame.body, "body");
    assert_null(command.unescaped);
    rmq_command_done(&command);
}

static void texts_in_json_are_unescaped(void **state)
{
    (void)state;
    static const char header[] = " { \"remark\" : \"a\\n\\\"\\u00e4\\u20ac\\ud83d\\ude00\\/\" , "
                                 "\"extFields\" : { \"k\\t\" : "
                                 "\"v\\\\\", \"n\" : 12 , \"none\" : null, \"b\":true } , "
                                 "\"other\":[{\"a\":[1,\"]\"]},-1.5e3],"
                                 "\"code\" : -1, \"code\" : 22 } ";
    uint8_t room[FRAME_MAX];
    struct rmq_frame frame;
    struct rmq_command command;
    decode(frame_json(header, "", room), &frame, &command);
    assert_int_equal(command.code, 22);
    assert_text(command.remark, "a\n\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80/");
    assert_int_equal(command.fields.count, 3);
    assert_text(rmq_fields_find(&command.fields, "k\t"), "v\\");
    assert_text(rmq_fields_find(&command.fields, "n"), "12");
    assert_text(rmq_fields_find(&command.fields, "b"), "true");
    rmq_command_done(&command);
}

static void wrong_json_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *header, *why;
    } rows[] = {
        {"", "not a JSON object"},
        {"[]", "not a JSON object"},
        {"{", "lacks a text"},
        {"{}", "no code"},
        {"{\"code\":0", "not a JSON object"},
        {"{\"code\" 0}", "not a JSON object"},
        {"{\"code\":0,}", "lacks a text"},
        {"{\"code\":0}x", "behind its JSON"},
        {"{\"code\":\"0\"}", "not one of 32 bits"},
        {"{\"code\":1.5}", "not one of 32 bits"},
        {"{\"code\":2147483648}", "not one of 32 bits"},
        {"{\"code\":}", "not one of 32 bits"},
        {"{\"code\":0,\"x\":}", "lacks a value"},
        {"{\"code\":0,\"x\":[}", "not a JSON object"},
        {"{\"code\":0,\"x\":[[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]]}", "too deeply"},
        {"{\"code\":0,\"remark\":5}", "lacks a text"},
        {"{\"code\":0,\"remark\":\"a", "ends in a text"},
        {"{\"code\":0,\"remark\":\"a\\", "wrong escape"},
        {"{\"code\":0,\"remark\":\"\\x\"}", "wrong escape"},
        {"{\"code\":0,\"remark\":\"\\u12g4\"}", "wrong escape"},
        {"{\"code\":0,\"remark\":\"\\ud800\"}", "wrong escape"},
        {"{\"code\":0,\"remark\":\"\\ud800\\u0041\"}", "wrong escape"},
        {"{\"code\":0,\"remark\":\"\\udc00\"}", "wrong escape"},
        {"{\"code\":0,\"remark\":\"a\nb\"}", "control character"},
        {"{\"code\":0,\"remark\":\"\\na\nb\"}", "control character"},
        {"{\"code\":0,\"extFields\":[]}", "not a JSON object"},
        {"{\"code\":0,\"extFields\":{\"a\":{}}}", "neither text nor number"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        uint8_t room[FRAME_MAX];
        struct rmq_frame frame;
        struct rmq_command command;
        const char *why = NULL;
        const struct slice bytes = frame_json(rows[i].header, "", room);
        assert_int_equal(rmq_frame_parse(bytes, RMQ_FRAME_SIZE_MAX, &frame, &why), 0);
        assert_int_equal(rmq_command_decode(&frame, &command, &why), ERR_MALFORMED);
        if (!why || !strstr(why, rows[i].why))
            fail_msg("%s: %s", rows[i].header, why ? why : "no reason");
    }
}

static void fill_request(struct rmq_command *command)
{
    *command = (struct rmq_command){.code = RMQ_PULL_MESSAGE, .version = RMQ_VERSION, .opaque = -5};
    command->remark = slice_str("why");
    rmq_fields_add_text(&command->fields, "topic", "%LMQ%a");
    rmq_fields_add_int(&command->fields, "queueOffset", INT64_MIN);
    rmq_fields_add_bool(&command->fields, "order", false);
    rmq_fields_add_text(&command->fields, "empty", "");
}

static void assert_request(const struct rmq_command *command)
{
    int64_t offset = 0;
    assert_int_equal(command->code, RMQ_PULL_MESSAGE);
    assert_int_equal(command->version, RMQ_VERSION);
    assert_int_equal(command->opaque, -5);
    assert_text(command->remark, "why");
    assert_int_equal(command->fields.count, 4);
    assert_text(rmq_fields_find(&command->fields, "topic"), "%LMQ%a");
    assert_int_equal(rmq_fields_int(&command->fields, "queueOffset", &offset), 0);
    assert_true(offset == INT64_MIN);
    assert_text(rmq_fields_find(&command->fields, "order"), "false");
    assert_int_equal(rmq_fields_find(&command->fields, "empty").size, 0);
}

static void both_formats_give_back_what_went_in(void **state)
{
    (void)state;
    for (int format = RMQ_JSON; format <= RMQ_BINARY; format++) {
        struct rmq_command command, again;
        struct rmq_frame frame;
        struct buf *made = NULL;
        fill_request(&command);
        decode(encode(&command, format, slice_of("\0\1", 2), &made), &frame, &again);
        assert_int_equal(frame.format, format);
        assert_request(&again);
        assert_int_equal(frame.body.size, 2);
        assert_memory_equal(frame.body.bytes, "\0\1", 2);
        rmq_command_done(&again);
        (void)buf_unref(made);
    }
}

static void binary_headers_are_as_documented(void **state)
{
    (void)state;
    static const uint8_t expected[] = {0, 0, 0, 36,  1, 0, 0, 30, 0,   11,  1,   1,  244, 0,
                                       0, 0, 9, 0,   0, 0, 2, 0,  0,   0,   0,   0,  0,   0,
                                       9, 0, 1, 'k', 0, 0, 0, 2,  'v', 'w', 'B', 'B'};
    struct rmq_command command = {
        .code = RMQ_PULL_MESSAGE, .version = RMQ_VERSION, .opaque = 9, .flag = RMQ_FLAG_ONE_WAY};
    struct buf *made = NULL;
    rmq_fields_add_text(&command.fields, "k", "vw");
    const struct slice bytes = encode(&command, RMQ_BINARY, slice_of("BB", 2), &made);
    assert_int_equal(bytes.size, sizeof expected);
    assert_memory_equal(bytes.bytes, expected, sizeof expected);
    (void)buf_unref(made);
    command.code = RMQ_POP_MESSAGE;
    assert_int_equal(rmq_command_format(RMQ_POP_MESSAGE), RMQ_JSON);
    assert_int_equal(rmq_command_format(RMQ_PULL_MESSAGE), RMQ_BINARY);
    assert_int_equal(rmq_command_encode(&command, RMQ_BINARY, slice_of(NULL, 0), &made),
                     ERR_INVALID);
}

static void encoding_needs_memory_and_has_a_limit(void **state)
{
    (void)state;
    for (int format = RMQ_JSON; format <= RMQ_BINARY; format++) {
        struct rmq_command command;
        struct buf *made = NULL;
        fill_request(&command);
        mem_fail_at(1);
        assert_int_equal(
            rmq_command_encode(&command, (enum rmq_format)format, slice_of(NULL, 0), &made),
            ERR_NOMEM);
        mem_fail_at(0);
        uint8_t *large = mem_try_zeroed(RMQ_FRAME_SIZE_MAX);
        assert_non_null(large);
        assert_int_equal(rmq_command_encode(&command, (enum rmq_format)format,
                                            slice_of(large, RMQ_FRAME_SIZE_MAX), &made),
                         ERR_FULL);
        mem_free(large);
    }
}

/* A header that is cut anywhere, in a frame of its own, is malformed. */
static void cut_headers_are_refused(void **state)
{
    (void)state;
    for (int format = RMQ_JSON; format <= RMQ_BINARY; format++) {
        struct rmq_command command, again;
        struct rmq_frame frame;
        const char *why = NULL;
        struct buf *made = NULL;
        fill_request(&command);
        const struct slice bytes = encode(&command, format, slice_of(NULL, 0), &made);
        for (uint32_t cut = 0; cut < bytes.size - RMQ_FRAME_HEAD_SIZE; cut++) {
            frame = (struct rmq_frame){.format = (enum rmq_format)format,
                                       .header = slice_of(bytes.bytes + RMQ_FRAME_HEAD_SIZE, cut)};
            why = NULL;
            assert_int_equal(rmq_command_decode(&frame, &again, &why), ERR_MALFORMED);
            assert_non_null(why);
        }
        (void)buf_unref(made);
    }
}

/* Any one bit turned: refused with a reason, or another command, never harm. */
static void turned_bits_do_no_harm(void **state)
{
    (void)state;
    for (int format = RMQ_JSON; format <= RMQ_BINARY; format++) {
        struct rmq_command command, again;
        struct rmq_frame frame;
        struct buf *made = NULL;
        uint32_t refused = 0;
        fill_request(&command);
        const uint32_t size = encode(&command, format, slice_of("b", 1), &made).size;
        uint8_t *bytes = buf_bytes(made);
        for (uint32_t bit = 0; bit < size * 8; bit++) {
            const char *why = NULL;
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
            int err = rmq_frame_parse(slice_of(bytes, size), RMQ_FRAME_SIZE_MAX, &frame, &why);
            if (err == 0) {
                err = rmq_command_decode(&frame, &again, &why);
                if (err == 0)
                    rmq_command_done(&again);
            }
            assert_true(err == 0 || err == ERR_AGAIN || why);
            refused += err < 0;
            bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        }
        assert_true(refused > 40);
        (void)buf_unref(made);
    }
}

static void wrong_frames_are_refused_early(void **state)
{
    (void)state;
    static const struct {
        uint8_t bytes[8];
        uint32_t size;
        int err;
        const char *why;
    } rows[] = {
        {{0, 0, 0}, 3, ERR_AGAIN, NULL},
        {{0, 0, 0, 3}, 4, ERR_MALFORMED, "too short"},
        {{0, 0, 0, 4}, 4, ERR_AGAIN, NULL},
        {{0, 0, 0, 4, 2, 0, 0, 0}, 8, ERR_MALFORMED, "neither JSON nor"},
        {{0, 0, 0, 5, 0, 0, 0, 2}, 8, ERR_MALFORMED, "larger than its frame"},
        {{0, 0, 3, 253}, 4, ERR_FULL, "larger than allowed"},
        {{0, 0, 3, 252}, 4, ERR_AGAIN, NULL},
        {{'H', 'T', 'T', 'P'}, 4, ERR_FULL, "not RocketMQ"},
        {{0, 0, 0, 4, 1, 0, 0, 0}, 8, 0, NULL},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct rmq_frame frame;
        const char *why = NULL;
        assert_int_equal(rmq_frame_parse(slice_of(rows[i].bytes, rows[i].size), 1024, &frame, &why),
                         rows[i].err);
        assert_true(rows[i].why ? why && strstr(why, rows[i].why) : !why);
    }
}

static void too_many_fields_are_refused(void **state)
{
    (void)state;
    char text[FRAME_MAX] = "{\"code\":0,\"extFields\":{\"a\":\"b\"";
    uint8_t room[FRAME_MAX];
    struct rmq_frame frame;
    struct rmq_command command;
    const char *why = NULL;
    size_t size = strlen(text);
    for (uint32_t i = 0; i < RMQ_FIELDS_MAX; i++)
        size += (size_t)snprintf(text + size, sizeof text - size, ",\"%u\":\"\"", i);
    (void)snprintf(text + size, sizeof text - size, "}}");
    assert_int_equal(rmq_frame_parse(frame_json(text, "", room), RMQ_FRAME_SIZE_MAX, &frame, &why),
                     0);
    assert_int_equal(rmq_command_decode(&frame, &command, &why), ERR_FULL);
    assert_non_null(strstr(why, "more fields"));
    uint8_t binary[21 + 6 * (RMQ_FIELDS_MAX + 1)] = {0};
    binary[19] = (uint8_t)(6 * (RMQ_FIELDS_MAX + 1) >> 8);
    binary[20] = (uint8_t)(6 * (RMQ_FIELDS_MAX + 1));
    frame = (struct rmq_frame){.format = RMQ_BINARY, .header = slice_of(binary, sizeof binary)};
    assert_int_equal(rmq_command_decode(&frame, &command, &why), ERR_FULL);
}

/* Frames of many sizes in pieces of all sizes: each comes out once, in order, as it went in. */
static void inbox_takes_any_pieces(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {0, 1, 100, 65000, 65536, 5, 200000, 3, 70000};
    static const uint32_t pieces[] = {1, 2, 3, 7, 4096, 65536, 1000000};
    for (size_t p = 0; p < ARRAY_COUNT(pieces); p++) {
        struct rmq_inbox inbox;
        struct rmq_frame frame;
        const char *why = NULL;
        uint32_t taken = 0;
        struct slice kept = {0};
        rmq_inbox_init(&inbox, RMQ_FRAME_SIZE_MAX);
        for (size_t i = 0; i < ARRAY_COUNT(sizes); i++) {
            struct rmq_command command = {.opaque = (int32_t)i};
            uint8_t *payload = mem_try_zeroed(sizes[i] + 1);
            struct buf *made = NULL;
            assert_non_null(payload);
            memset(payload, 'a' + (int)i, sizes[i]);
            const struct slice bytes =
                encode(&command, RMQ_BINARY, slice_of(payload, sizes[i]), &made);
            for (uint32_t sent = 0; sent < bytes.size;) {
                uint8_t *place = NULL;
                uint32_t room = 0;
                assert_int_equal(rmq_inbox_room(&inbox, &place, &room), 0);
                const uint32_t part = MIN(MIN(room, pieces[p]), bytes.size - sent);
                assert_true(part > 0);
                memcpy(place, bytes.bytes + sent, part);
                rmq_inbox_filled(&inbox, part);
                sent += part;
                const int err = rmq_inbox_take(&inbox, &frame, &why);
                assert_int_equal(err, sent < bytes.size ? ERR_AGAIN : 0);
            }
            assert_int_equal(frame.body.size, sizes[i]);
            assert_memory_equal(frame.body.bytes, payload, sizes[i]);
            assert_int_equal(rmq_inbox_take(&inbox, &frame, &why), ERR_AGAIN);
            if (sizes[i] == 65536) /* outlives the inbox */
                assert_int_equal(slice_keep(frame.body, &kept), 0);
            taken++;
            mem_free(payload);
            (void)buf_unref(made);
        }
        assert_int_equal(taken, ARRAY_COUNT(sizes));
        rmq_inbox_done(&inbox);
        slice_done(&kept);
    }
}

static void inbox_gives_several_frames_of_one_piece(void **state)
{
    (void)state;
    struct rmq_inbox inbox;
    struct rmq_frame frame;
    uint8_t room_bytes[FRAME_MAX], *place = NULL;
    uint32_t room = 0;
    const char *why = NULL;
    const struct slice one = frame_json(answer_json, "x", room_bytes);
    rmq_inbox_init(&inbox, RMQ_FRAME_SIZE_MAX);
    assert_int_equal(rmq_inbox_take(&inbox, &frame, &why), ERR_AGAIN);
    assert_int_equal(rmq_inbox_room(&inbox, &place, &room), 0);
    for (int i = 0; i < 3; i++)
        memcpy(place + (size_t)i * one.size, one.bytes, one.size);
    rmq_inbox_filled(&inbox, 3 * one.size);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rmq_inbox_take(&inbox, &frame, &why), 0);
        assert_text(frame.body, "x");
    }
    assert_int_equal(rmq_inbox_take(&inbox, &frame, &why), ERR_AGAIN);
    rmq_inbox_done(&inbox);
    rmq_inbox_init(&inbox, RMQ_FRAME_SIZE_MAX);
    mem_fail_at(1);
    assert_int_equal(rmq_inbox_room(&inbox, &place, &room), ERR_NOMEM);
    mem_fail_at(0);
    rmq_inbox_done(&inbox);
}

static void numbers_are_read(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int err;
        int64_t value;
    } rows[] = {
        {"0", 0, 0},
        {"-1", 0, -1},
        {"9223372036854775807", 0, INT64_MAX},
        {"-9223372036854775808", 0, INT64_MIN},
        {"9223372036854775808", ERR_MALFORMED, 0},
        {"-9223372036854775809", ERR_MALFORMED, 0},
        {"", ERR_MALFORMED, 0},
        {"-", ERR_MALFORMED, 0},
        {"1a", ERR_MALFORMED, 0},
        {" 1", ERR_MALFORMED, 0},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        int64_t value = 0;
        assert_int_equal(rmq_fields_parse_int(slice_str(rows[i].text), &value), rows[i].err);
        assert_true(value == rows[i].value);
    }
}

/* Names of members that are bare numbers, as older NameSrvs write them. */
static void bodies_with_bare_numbers_are_read(void **state)
{
    (void)state;
    static const char text[] = "{ 0 :\"a\", -2:{1:2,\"x\\\"{3:\":[4,5]},\"s\":\"{6:7}\"}";
    const char *why = NULL;
    json_t *value = NULL;
    assert_int_equal(rmq_json_parse(slice_str(text), &value, &why), 0);
    assert_string_equal(json_string_value(json_object_get(value, "0")), "a");
    const json_t *inner = json_object_get(value, "-2");
    assert_int_equal(json_integer_value(json_object_get(inner, "1")), 2);
    assert_int_equal(json_integer_value(json_array_get(json_object_get(inner, "x\"{3:"), 1)), 5);
    assert_string_equal(json_string_value(json_object_get(value, "s")), "{6:7}");
    json_decref(value);
    static const char *const wrong[] = {"", "{", "{0:}", "{a:1}", "{\"a", "{0", "{1 2:3}", "\"\\"};
    for (size_t i = 0; i < ARRAY_COUNT(wrong); i++) {
        why = NULL;
        assert_int_equal(rmq_json_parse(slice_str(wrong[i]), &value, &why), ERR_MALFORMED);
        assert_non_null(why);
    }
    mem_fail_at(1);
    assert_int_equal(rmq_json_parse(slice_str("{}"), &value, &why), ERR_NOMEM);
    mem_fail_at(0);
}

static void codes_have_meanings(void **state)
{
    (void)state;
    assert_int_equal(rmq_codes_result(0)->outcome, RMQ_DONE);
    assert_int_equal(rmq_codes_result(10)->outcome, RMQ_STORED);
    assert_int_equal(rmq_codes_result(11)->outcome, RMQ_STORED);
    assert_int_equal(rmq_codes_result(12)->outcome, RMQ_STORED);
    assert_int_equal(rmq_codes_result(2)->outcome, RMQ_BUSY);
    assert_int_equal(rmq_codes_result(77777)->outcome, RMQ_REFUSED);
    assert_string_equal(rmq_codes_result(14)->name, "SERVICE_NOT_AVAILABLE");
    assert_string_equal(rmq_codes_request(310), "SEND_MESSAGE_V2");
    assert_string_equal(rmq_codes_request(-1), "unknown");
    assert_string_equal(rmq_codes_outcome(RMQ_UNKNOWN), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_in_json_are_read),
        cmocka_unit_test(texts_in_json_are_unescaped),
        cmocka_unit_test(wrong_json_is_refused),
        cmocka_unit_test(both_formats_give_back_what_went_in),
        cmocka_unit_test(binary_headers_are_as_documented),
        cmocka_unit_test(encoding_needs_memory_and_has_a_limit),
        cmocka_unit_test(cut_headers_are_refused),
        cmocka_unit_test(turned_bits_do_no_harm),
        cmocka_unit_test(wrong_frames_are_refused_early),
        cmocka_unit_test(too_many_fields_are_refused),
        cmocka_unit_test(inbox_takes_any_pieces),
        cmocka_unit_test(inbox_gives_several_frames_of_one_piece),
        cmocka_unit_test(numbers_are_read),
        cmocka_unit_test(bodies_with_bare_numbers_are_read),
        cmocka_unit_test(codes_have_meanings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
