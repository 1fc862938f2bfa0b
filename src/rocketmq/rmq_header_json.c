#include "rocketmq/rmq_header_json.h"

#include "base/mem.h"

#include <string.h>

enum { DEPTH_MAX = 16 }; /* of values that are skipped */

struct reader {
    const char *next, *end;
    struct rmq_command *command;
    uint32_t unescaped_size, unescaped_room;
    const char *why; /* NULL while all is well; constant */
    int err;
};

/* Returns false, so that it can be the result of whoever found the fault. */
static bool fail(struct reader *reader, int err, const char *why)
{
    if (!reader->why) {
        reader->why = why;
        reader->err = err;
    }
    return false;
}

static void skip_blanks(struct reader *reader)
{
    while (reader->next < reader->end && (*reader->next == ' ' || *reader->next == '\t' ||
                                          *reader->next == '\n' || *reader->next == '\r'))
        reader->next++;
}

/* Takes the character when it is the next one that is not blank. */
static bool take(struct reader *reader, char c)
{
    skip_blanks(reader);
    if (reader->next == reader->end || *reader->next != c)
        return false;
    reader->next++;
    return true;
}

static bool expect(struct reader *reader, char c)
{
    return take(reader, c) || fail(reader, ERR_MALFORMED, "the header is not a JSON object");
}

static bool take_word(struct reader *reader, const char *word)
{
    const size_t size = strlen(word);
    skip_blanks(reader);
    if ((size_t)(reader->end - reader->next) < size || memcmp(reader->next, word, size) != 0)
        return false;
    reader->next += size;
    return true;
}

/* --- texts --------------------------------------------------------------------------------------
 */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

/* Four hexadecimal digits, or -1. */
static int32_t take_unit(struct reader *reader)
{
    int32_t unit = 0;
    if (reader->end - reader->next < 4)
        return -1;
    for (int i = 0; i < 4; i++) {
        const int digit = hex_digit(*reader->next++);
        if (digit < 0)
            return -1;
        unit = unit * 16 + digit;
    }
    return unit;
}

static uint32_t put_utf8(uint8_t *bytes, uint32_t code)
{
    if (code < 0x80) {
        bytes[0] = (uint8_t)code;
        return 1;
    }
    const uint32_t size = code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    static const uint8_t lead[] = {0, 0, 0xc0, 0xe0, 0xf0};
    for (uint32_t i = size; i-- > 1; code >>= 6)
        bytes[i] = (uint8_t)(0x80 | (code & 0x3f));
    bytes[0] = (uint8_t)(lead[size] | code);
    return size;
}

/* What follows "\u"; a pair of surrogates is one character. Returns 0 when it is not right. */
static uint32_t unescape_unit(struct reader *reader, uint8_t *bytes)
{
    const int32_t unit = take_unit(reader);
    if (unit < 0 || (unit >= 0xdc00 && unit <= 0xdfff))
        return 0;
    if (unit < 0xd800 || unit > 0xdbff)
        return put_utf8(bytes, (uint32_t)unit);
    if (reader->end - reader->next < 2 || reader->next[0] != '\\' || reader->next[1] != 'u')
        return 0;
    reader->next += 2;
    const int32_t low = take_unit(reader);
    if (low < 0xdc00 || low > 0xdfff)
        return 0;
    return put_utf8(bytes, 0x10000 + ((uint32_t)(unit - 0xd800) << 10) + (uint32_t)(low - 0xdc00));
}

/* What follows a backslash, as it is meant; it is never longer than what stands for it. */
static uint32_t unescape(struct reader *reader, uint8_t *bytes)
{
    static const char escapes[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
    if (reader->next == reader->end)
        return 0;
    const char c = *reader->next++;
    if (c == 'u')
        return unescape_unit(reader, bytes);
    const char *found = memchr(escapes, c, sizeof escapes - 1);
    if (!found)
        return 0;
    bytes[0] = (uint8_t)meant[found - escapes];
    return 1;
}

/* Goes on with a text that has an escape; the reader is before the first. */
static bool take_escaped(struct reader *reader, const char *begin, struct slice *ret_text)
{
    struct rmq_command *command = reader->command;
    if (!command->unescaped) {
        reader->unescaped_room = (uint32_t)(reader->end - begin);
        command->unescaped = mem_try_alloc(reader->unescaped_room);
        if (!command->unescaped)
            return fail(reader, ERR_NOMEM, "there is no memory for the header");
    }
    uint8_t *text = (uint8_t *)command->unescaped + reader->unescaped_size;
    uint32_t size = (uint32_t)(reader->next - begin);
    memcpy(text, begin, size);
    for (; reader->next < reader->end && *reader->next != '"'; size++) {
        const uint8_t c = (uint8_t)*reader->next++;
        if (c < 0x20)
            return fail(reader, ERR_MALFORMED, "a text of the header has a control character");
        text[size] = c;
        if (c != '\\')
            continue;
        const uint32_t added = unescape(reader, text + size);
        if (added == 0)
            return fail(reader, ERR_MALFORMED, "a text of the header has a wrong escape");
        size += added - 1;
    }
    ASSERT(reader->unescaped_size + size <= reader->unescaped_room);
    reader->unescaped_size += size;
    *ret_text = slice_of(text, size);
    return true;
}

/* A text in quotes. */
static bool take_text(struct reader *reader, struct slice *ret_text)
{
    if (!take(reader, '"'))
        return fail(reader, ERR_MALFORMED, "the header lacks a text where one is expected");
    const char *begin = reader->next;
    while (reader->next < reader->end && *reader->next != '"' && *reader->next != '\\') {
        if ((uint8_t)*reader->next++ < 0x20)
            return fail(reader, ERR_MALFORMED, "a text of the header has a control character");
    }
    *ret_text = slice_of(begin, (size_t)(reader->next - begin));
    if (reader->next < reader->end && *reader->next == '\\' &&
        !take_escaped(reader, begin, ret_text))
        return false;
    if (reader->next == reader->end)
        return fail(reader, ERR_MALFORMED, "the header ends in a text");
    reader->next++;
    return true;
}

/* --- other values -------------------------------------------------------------------------------
 */

/* The characters of a number, or of a word. */
static struct slice take_plain(struct reader *reader)
{
    skip_blanks(reader);
    const char *begin = reader->next;
    while (reader->next < reader->end && *reader->next != '\0' &&
           strchr("+-.0123456789Eaeflnrstu", *reader->next))
        reader->next++;
    return slice_of(begin, (size_t)(reader->next - begin));
}

static bool take_number(struct reader *reader, int32_t *ret_value)
{
    int64_t value = 0;
    if (rmq_fields_parse_int(take_plain(reader), &value) < 0 || value != (int32_t)value)
        return fail(reader, ERR_MALFORMED, "a number of the header is not one of 32 bits");
    *ret_value = (int32_t)value;
    return true;
}

/* Skips any value. What is between the brackets of an object or a list is looked at only as far as
 * it takes to find its end. */
static bool skip_value(struct reader *reader)
{
    uint32_t depth = 0;
    struct slice text;
    do {
        skip_blanks(reader);
        const char c = reader->next < reader->end ? *reader->next : '\0';
        if (c == '"') {
            if (!take_text(reader, &text))
                return false;
        } else if (c == '{' || c == '[') {
            depth++;
            reader->next++;
        } else if (depth > 0 && (c == '}' || c == ']')) {
            depth--;
            reader->next++;
        } else if (depth > 0 && (c == ',' || c == ':')) {
            reader->next++;
        } else if (take_plain(reader).size == 0) {
            return fail(reader, ERR_MALFORMED, "the header lacks a value where one is expected");
        }
        if (depth > DEPTH_MAX)
            return fail(reader, ERR_MALFORMED, "the header is nested too deeply");
    } while (depth > 0);
    return true;
}

/* The value of a field. A server writes texts; numbers and words are taken as their own text. */
static bool take_field(struct reader *reader, struct slice name)
{
    struct rmq_fields *fields = &reader->command->fields;
    struct slice value;
    if (take_word(reader, "null"))
        return true;
    skip_blanks(reader);
    if (reader->next < reader->end && *reader->next != '"') {
        value = take_plain(reader);
        if (value.size == 0)
            return fail(reader, ERR_MALFORMED, "a field of the header is neither text nor number");
    } else if (!take_text(reader, &value)) {
        return false;
    }
    if (fields->count == RMQ_FIELDS_MAX)
        return fail(reader, ERR_FULL, "the header has more fields than expected");
    fields->items[fields->count++] = (struct rmq_field){name, value};
    return true;
}

typedef bool member_fn(struct reader *reader, struct slice name);

static bool take_object(struct reader *reader, member_fn *take_member)
{
    struct slice name;
    if (!expect(reader, '{'))
        return false;
    if (take(reader, '}'))
        return true;
    do {
        if (!take_text(reader, &name) || !expect(reader, ':') || !take_member(reader, name))
            return false;
    } while (take(reader, ','));
    return expect(reader, '}');
}

static bool is_name(struct slice name, const char *wanted)
{
    return slice_equal(name, slice_str(wanted));
}

static bool take_member(struct reader *reader, struct slice name)
{
    struct rmq_command *command = reader->command;
    int32_t flag = 0;
    if (is_name(name, "code"))
        return take_number(reader, &command->code);
    if (is_name(name, "opaque"))
        return take_number(reader, &command->opaque);
    if (is_name(name, "version"))
        return take_number(reader, &command->version);
    if (is_name(name, "flag")) {
        if (!take_number(reader, &flag))
            return false;
        command->flag = (uint32_t)flag;
        return true;
    }
    if (is_name(name, "remark"))
        return take_word(reader, "null") || take_text(reader, &command->remark);
    if (is_name(name, "extFields")) {
        rmq_fields_clear(&command->fields);
        return take_word(reader, "null") || take_object(reader, take_field);
    }
    return skip_value(reader);
}

int rmq_header_json_decode(struct slice header, struct rmq_command *command, const char **ret_why)
{
    static const int32_t no_code = INT32_MIN;
    const char *text = header.size > 0 ? (const char *)header.bytes : "";
    struct reader reader = {.next = text, .end = text + header.size, .command = command};
    command->code = no_code;
    bool ok = take_object(&reader, take_member);
    skip_blanks(&reader);
    if (ok && reader.next != reader.end)
        ok = fail(&reader, ERR_MALFORMED, "the header has bytes behind its JSON");
    if (ok && command->code == no_code)
        ok = fail(&reader, ERR_MALFORMED, "the header has no code");
    if (!ok)
        *ret_why = reader.why;
    return ok ? 0 : reader.err;
}

void rmq_header_json_encode(const struct rmq_command *command, struct strbuf *strbuf)
{
    strbuf_addf(strbuf,
                "{\"code\":%d,\"language\":\"CPP\",\"version\":%d,\"opaque\":%d,\"flag\":%u,"
                "\"serializeTypeCurrentRPC\":\"JSON\"",
                command->code, command->version, command->opaque, command->flag);
    if (command->remark.size > 0) {
        strbuf_add(strbuf, ",\"remark\":");
        strbuf_add_json(strbuf, command->remark.bytes, command->remark.size);
    }
    strbuf_add(strbuf, ",\"extFields\":{");
    for (uint32_t i = 0; i < command->fields.count; i++) {
        const struct rmq_field *field = &command->fields.items[i];
        strbuf_add(strbuf, i > 0 ? "," : "");
        strbuf_add_json(strbuf, field->name.bytes, field->name.size);
        strbuf_add(strbuf, ":");
        strbuf_add_json(strbuf, field->value.bytes, field->value.size);
    }
    strbuf_add(strbuf, "}}");
}
