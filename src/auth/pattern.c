/* A pattern is parsed into parts: text, wildcards, variables. Those without variables are put
 * together once; the others for each question, into an array on the stack. There a wildcard is a
 * byte that no UTF-8 text has, so that nothing in a value can be one.
 */
#include "auth/pattern.h"

#include "auth/glob.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "mqtt/topic.h"

#include <string.h>
#include <strings.h>

#define PARTS_MAX 64u
#define EDITS_MAX 4u
#define INDEX_MAX 65535u
#define TO_END    UINT32_MAX

enum part_kind { PART_TEXT, PART_VALUE };
enum edit_kind { EDIT_SUBSTRING, EDIT_LOWER, EDIT_UPPER, EDIT_TRIM };

struct edit {
    enum edit_kind kind;
    uint32_t begin, end; /* in characters; TO_END */
};

struct part {
    enum part_kind kind;
    struct slice text; /* in pattern->text; wildcards are characters of it still */
    enum fact fact;
    uint32_t edit_count;
    struct edit edits[EDITS_MAX];
};

struct pattern {
    char *text;     /* owned, as written */
    uint8_t *fixed; /* owned: put together; NULL with variables */
    uint32_t size, fixed_size;
    uint32_t prefix_size; /* of `text`: what everything begins with that it matches or covers */
    enum pattern_kind kind;
    bool is_glob;
    uint32_t part_count;
    struct part parts[];
};

/* What a pattern is for one client. */
struct expansion {
    struct slice text;
    uint8_t room[PATTERN_TEXT_MAX];
};

struct slice pattern_text(const struct pattern *pattern)
{
    return slice_of(pattern->text, pattern->size);
}

struct pattern_head pattern_head(const struct pattern *pattern)
{
    static const uint8_t ones[sizeof(uint64_t)] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    struct pattern_head head = {.mask = 0};
    const uint32_t size = MIN(pattern->prefix_size, (uint32_t)sizeof head.mask);
    memcpy(&head.mask, ones, size);
    memcpy(&head.bits, pattern->text, size);
    return head;
}

struct pattern *pattern_free(struct pattern *pattern)
{
    if (!pattern)
        return NULL;
    mem_free(pattern->text);
    mem_free(pattern->fixed);
    mem_free(pattern);
    return NULL;
}

/* --- putting together ---------------------------------------------------------------------------
 */

/* Bytes of the first `count` characters. Returns -1 when there are fewer. */
static int64_t characters_size(struct slice text, uint32_t count)
{
    uint32_t at = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (at >= text.size)
            return -1;
        const uint32_t size = utf8_sequence(text.bytes + at, text.size - at);
        if (size == 0)
            return -1;
        at += size;
    }
    return at;
}

static bool edit_substring(const struct edit *edit, struct slice *text)
{
    const int64_t begin = characters_size(*text, edit->begin);
    const int64_t end = edit->end == TO_END ? text->size : characters_size(*text, edit->end);
    if (begin < 0 || end < begin)
        return false;
    *text = slice_of(text->bytes + begin, (size_t)(end - begin));
    return true;
}

static void edit_trim(struct slice *text)
{
    while (text->size > 0 && text->bytes[0] <= ' ') {
        text->bytes++;
        text->size--;
    }
    while (text->size > 0 && text->bytes[text->size - 1] <= ' ')
        text->size--;
}

static void edit_case(bool upper, uint8_t *bytes, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        if (upper && bytes[i] >= 'a' && bytes[i] <= 'z')
            bytes[i] = (uint8_t)(bytes[i] - 'a' + 'A');
        else if (!upper && bytes[i] >= 'A' && bytes[i] <= 'Z')
            bytes[i] = (uint8_t)(bytes[i] - 'A' + 'a');
    }
}

/* false with what the grammar of topics gives a meaning to. */
static bool value_is_safe(const struct pattern *pattern, struct pattern_client client,
                          struct slice value)
{
    if (pattern->kind == PATTERN_NAME)
        return true;
    if (memchr(value.bytes, '+', value.size) || memchr(value.bytes, '#', value.size))
        return false;
    return !client.strict || !memchr(value.bytes, '/', value.size);
}

/* Adds the value of a variable at *at. Returns false when it has none to match with. */
static bool add_value(const struct pattern *pattern, const struct part *part,
                      struct pattern_client client, uint8_t *room, uint32_t *at)
{
    struct slice value = client.facts->values[part->fact];
    if (value.size == 0 || value.size > PATTERN_TEXT_MAX - *at ||
        !utf8_check(value.bytes, value.size))
        return false;
    uint8_t *bytes = room + *at;
    memcpy(bytes, value.bytes, value.size);
    value.bytes = bytes;
    for (uint32_t i = 0; i < part->edit_count; i++) {
        const struct edit *edit = &part->edits[i];
        if (edit->kind == EDIT_SUBSTRING && !edit_substring(edit, &value))
            return false;
        if (edit->kind == EDIT_TRIM)
            edit_trim(&value);
        if (edit->kind == EDIT_LOWER || edit->kind == EDIT_UPPER)
            edit_case(edit->kind == EDIT_UPPER, room + (value.bytes - room), value.size);
    }
    if (value.size == 0 || !value_is_safe(pattern, client, value))
        return false;
    memmove(bytes, value.bytes, value.size);
    *at += value.size;
    return true;
}

static void add_text(const struct pattern *pattern, const struct part *part, uint8_t *room,
                     uint32_t *at)
{
    for (uint32_t i = 0; i < part->text.size; i++) {
        const uint8_t c = part->text.bytes[i];
        if (c == '*' && pattern->is_glob)
            room[(*at)++] = GLOB_ANY;
        else if (c == '?' && pattern->kind == PATTERN_BLOCK)
            room[(*at)++] = GLOB_ONE;
        else
            room[(*at)++] = c;
    }
}

static bool expand(const struct pattern *pattern, struct pattern_client client,
                   struct expansion *expansion)
{
    uint32_t at = 0;
    if (pattern->fixed) {
        expansion->text = slice_of(pattern->fixed, pattern->fixed_size);
        return true;
    }
    for (uint32_t i = 0; i < pattern->part_count; i++) {
        const struct part *part = &pattern->parts[i];
        if (part->kind == PART_VALUE) {
            if (!add_value(pattern, part, client, expansion->room, &at))
                return false;
        } else if (part->text.size > PATTERN_TEXT_MAX - at) {
            return false;
        } else {
            add_text(pattern, part, expansion->room, &at);
        }
    }
    expansion->text = slice_of(expansion->room, at);
    return true;
}

/* --- parsing ------------------------------------------------------------------------------------
 */

struct parser {
    struct slice text;
    uint32_t at;
    struct errmsg *reterr;
};

static int parse_fail(const struct parser *parser, const char *what)
{
    errmsg_wrap(parser->reterr, "'%.*s': %s", (int)MIN(parser->text.size, 100u),
                (const char *)parser->text.bytes, what);
    return ERR_INVALID;
}

static bool take(struct parser *parser, const char *word)
{
    const size_t size = strlen(word);
    if (parser->text.size - parser->at < size ||
        memcmp(parser->text.bytes + parser->at, word, size) != 0)
        return false;
    parser->at += (uint32_t)size;
    return true;
}

static void skip_spaces(struct parser *parser)
{
    while (take(parser, " "))
        continue;
}

static bool take_index(struct parser *parser, uint32_t *ret_index)
{
    uint32_t value = 0, digits = 0;
    skip_spaces(parser);
    while (parser->at < parser->text.size && digits < 6) {
        const uint8_t c = parser->text.bytes[parser->at];
        if (c < '0' || c > '9')
            break;
        value = value * 10 + (uint32_t)(c - '0');
        parser->at++;
        digits++;
    }
    skip_spaces(parser);
    *ret_index = value;
    return digits > 0 && value <= INDEX_MAX;
}

static int parse_substring(struct parser *parser, struct edit *edit)
{
    *edit = (struct edit){.kind = EDIT_SUBSTRING, .end = TO_END};
    if (!take_index(parser, &edit->begin) ||
        (take(parser, ",") && !take_index(parser, &edit->end)) || !take(parser, ")"))
        return parse_fail(parser, "substring takes one or two numbers from 0 to 65535");
    return 0;
}

/* Behind the dot. */
static int parse_edit(struct parser *parser, struct edit *edit)
{
    static const struct {
        const char *text;
        enum edit_kind kind;
    } plain[] = {
        {"toLowerCase()", EDIT_LOWER}, {"toUpperCase()", EDIT_UPPER}, {"trim()", EDIT_TRIM}};
    if (take(parser, "substring("))
        return parse_substring(parser, edit);
    for (size_t i = 0; i < ARRAY_COUNT(plain); i++) {
        if (take(parser, plain[i].text)) {
            *edit = (struct edit){.kind = plain[i].kind};
            return 0;
        }
    }
    return parse_fail(parser, "behind a variable only .substring(begin), .substring(begin, end), "
                              ".toLowerCase(), .toUpperCase() and .trim() are known");
}

/* Behind "${". */
static int parse_value(struct parser *parser, struct part *part)
{
    const struct slice rest =
        slice_of(parser->text.bytes + parser->at, parser->text.size - parser->at);
    *part = (struct part){.kind = PART_VALUE};
    const uint32_t size = fact_find(rest, &part->fact);
    if (size == 0 || size == rest.size || (rest.bytes[size] != '}' && rest.bytes[size] != '.'))
        return parse_fail(parser,
                          "an unknown variable; known are ${ClientId}, ${Username} and "
                          "${Certificate.Subject.Country} (or Organization, OrganizationalUnit, "
                          "State, CommonName, SerialNumber)");
    parser->at += size;
    while (!take(parser, "}")) {
        if (part->edit_count == EDITS_MAX)
            return parse_fail(parser, "a variable takes at most 4 methods");
        if (!take(parser, "."))
            return parse_fail(parser, "a variable is not closed with '}'");
        const int err = parse_edit(parser, &part->edits[part->edit_count++]);
        if (err < 0)
            return err;
    }
    return 0;
}

/* Up to the next variable. */
static void parse_text(struct parser *parser, bool variables, struct part *part)
{
    const uint32_t begin = parser->at;
    *part = (struct part){.kind = PART_TEXT};
    while (parser->at < parser->text.size) {
        if (variables && take(parser, "${")) {
            parser->at -= 2;
            break;
        }
        parser->at++;
    }
    part->text = slice_of(parser->text.bytes + begin, parser->at - begin);
}

static int parse_parts(struct parser *parser, struct pattern *pattern)
{
    const bool variables = pattern->kind != PATTERN_BLOCK;
    while (parser->at < parser->text.size) {
        if (pattern->part_count == PARTS_MAX)
            return parse_fail(parser, "too many variables; allowed are 32");
        struct part *part = &pattern->parts[pattern->part_count++];
        if (variables && take(parser, "${")) {
            const int err = parse_value(parser, part);
            if (err < 0)
                return err;
        } else {
            parse_text(parser, variables, part);
        }
    }
    return 0;
}

/* --- checking -----------------------------------------------------------------------------------
 */

static bool has_byte(const struct pattern *pattern, int byte)
{
    for (uint32_t i = 0; i < pattern->part_count; i++) {
        const struct part *part = &pattern->parts[i];
        if (part->kind == PART_TEXT && memchr(part->text.bytes, byte, part->text.size))
            return true;
    }
    return false;
}

/* A filter must be one whatever its variables become: each stands for some letters. */
static int check_filter(const struct parser *parser, const struct pattern *pattern)
{
    uint8_t probe[PATTERN_TEXT_MAX];
    uint32_t at = 0;
    for (uint32_t i = 0; i < pattern->part_count; i++) {
        const struct part *part = &pattern->parts[i];
        if (part->kind == PART_VALUE)
            probe[at++] = 'x';
        else
            add_text(pattern, part, probe, &at);
    }
    if (topic_filter_check(slice_of(probe, at), TOPIC_NO_LIMIT) < 0)
        return parse_fail(parser, "not a topic filter: '+' stands for one whole level, '#' for all "
                                  "that follow");
    return 0;
}

static int check_topic(const struct parser *parser, struct pattern *pattern)
{
    const bool filter = has_byte(pattern, '+') || has_byte(pattern, '#');
    pattern->is_glob = pattern->kind == PATTERN_TOPIC && has_byte(pattern, '*');
    if (pattern->is_glob && filter)
        return parse_fail(parser, "'*' cannot stand in one topic with '+' or '#'; write two");
    return pattern->is_glob ? 0 : check_filter(parser, pattern);
}

/* Returns 0 or ERR_NOMEM. */
static int put_together(struct pattern *pattern)
{
    struct expansion expansion;
    for (uint32_t i = 0; i < pattern->part_count; i++) {
        if (pattern->parts[i].kind == PART_VALUE)
            return 0;
    }
    const bool expanded = expand(pattern, (struct pattern_client){0}, &expansion);
    ASSERT(expanded);
    pattern->fixed_size = expansion.text.size;
    pattern->fixed = (uint8_t *)mem_try_copy(expansion.text.bytes, expansion.text.size);
    return pattern->fixed ? 0 : ERR_NOMEM;
}

/* Up to the first wildcard or variable, without a '/' at its end: "a" is matched by "a/#", too. */
static uint32_t literal_prefix(const struct pattern *pattern)
{
    const struct slice first = pattern->parts[0].text; /* empty when it is a variable */
    uint32_t size = 0;
    while (size < first.size && !memchr("*?+#", first.bytes[size], 4))
        size++;
    return size > 0 && first.bytes[size - 1] == '/' ? size - 1 : size;
}

static int pattern_fill(struct pattern *pattern, struct errmsg *reterr)
{
    struct parser parser = {.text = pattern_text(pattern), .reterr = reterr};
    int err = parse_parts(&parser, pattern);
    if (err < 0)
        return err;
    if (pattern->kind == PATTERN_TOPIC || pattern->kind == PATTERN_FILTER)
        err = check_topic(&parser, pattern);
    else
        pattern->is_glob = true;
    pattern->prefix_size = literal_prefix(pattern);
    return err < 0 ? err : put_together(pattern);
}

int pattern_new(enum pattern_kind kind, struct slice text, struct pattern **ret_pattern,
                struct errmsg *reterr)
{
    if (text.size == 0 || text.size > PATTERN_TEXT_MAX || !utf8_check(text.bytes, text.size)) {
        errmsg_wrap(reterr, "not a text of 1 to %u bytes of UTF-8", PATTERN_TEXT_MAX);
        return ERR_INVALID;
    }
    struct pattern *pattern = mem_try_zeroed(sizeof *pattern + PARTS_MAX * sizeof *pattern->parts);
    if (!pattern)
        return ERR_NOMEM;
    pattern->kind = kind;
    pattern->size = text.size;
    pattern->text = mem_try_copy(text.bytes, text.size);
    int err = pattern->text ? pattern_fill(pattern, reterr) : ERR_NOMEM;
    if (err < 0) {
        (void)pattern_free(pattern);
        return err;
    }
    struct pattern *fitted =
        mem_try_realloc(pattern, sizeof *pattern + pattern->part_count * sizeof *pattern->parts);
    *ret_pattern = fitted ? fitted : pattern;
    return 0;
}

/* --- comparing ----------------------------------------------------------------------------------
 */

/* What `a/b` + `/` + `*` matches, `a/b` included: all that `a/b` + `/#` does. Returns the part in
 * front, or a slice of size 0. */
static struct slice glob_parent(struct slice glob)
{
    const uint32_t size = glob.size;
    if (size < 3 || glob.bytes[size - 1] != GLOB_ANY || glob.bytes[size - 2] != '/')
        return slice_of("", 0);
    return slice_of(glob.bytes, size - 2);
}

static bool topic_glob_matches(struct slice glob, struct slice text)
{
    const struct slice parent = glob_parent(glob);
    return glob_matches(glob, text) || (parent.size > 0 && glob_matches(parent, text));
}

bool pattern_matches(const struct pattern *pattern, struct pattern_client client, struct slice text)
{
    struct expansion expansion;
    if (!expand(pattern, client, &expansion))
        return false;
    if (!pattern->is_glob)
        return topic_match(expansion.text, text);
    return pattern->kind == PATTERN_TOPIC ? topic_glob_matches(expansion.text, text)
                                          : glob_matches(expansion.text, text);
}

/* A wildcard of the filter is a character that only `*` takes, as nothing else in the pattern can
 * be one: so what the pattern takes in of the filter's text, it takes in of its names. */
bool pattern_covers(const struct pattern *pattern, struct pattern_client client,
                    struct slice filter)
{
    struct expansion expansion;
    if (!expand(pattern, client, &expansion))
        return false;
    return pattern->is_glob ? topic_glob_matches(expansion.text, filter)
                            : topic_covers(expansion.text, filter);
}

bool pattern_overlaps(const struct pattern *pattern, struct pattern_client client,
                      struct slice filter)
{
    struct expansion expansion;
    if (!expand(pattern, client, &expansion))
        return false;
    if (!pattern->is_glob)
        return topic_overlaps(expansion.text, filter);
    const struct slice parent = glob_parent(expansion.text);
    return glob_overlaps(expansion.text, filter) ||
           (parent.size > 0 && glob_overlaps(parent, filter));
}
