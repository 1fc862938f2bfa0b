/* The YAML reader walks libyaml's events with a stack of open mappings; each holds the length its
 * prefix has in `key`, so that the dotted key is built in place.
 *
 * Invariant: key[0, prefix of the innermost mapping) is the dotted path of that mapping.
 */
#include "app/setting.h"

#include "app/value.h"
#include "base/mem.h"

#include <string.h>
#include <yaml.h>

#define ITEMS_MAX 1024u

static struct setting *settings_push(struct settings *settings, const char *source, const char *key,
                                     size_t line)
{
    if (settings->count >= SETTING_COUNT_MAX) {
        return NULL;
    }
    const size_t size = (settings->count + 1) * sizeof(*settings->rows);
    struct setting *rows = mem_try_realloc(settings->rows, size);
    if (!rows) {
        return NULL;
    }
    settings->rows = rows;
    char *copy = mem_try_copy(key, strlen(key));
    if (!copy) {
        return NULL;
    }
    struct setting *row = &rows[settings->count++];
    *row = (struct setting){.key = copy, .source = source, .line = line};
    return row;
}

static int setting_push_item(struct setting *row, const char *text, size_t size)
{
    if (row->item_count >= ITEMS_MAX) {
        return ERR_FULL;
    }
    char **items = mem_try_realloc(row->items, (row->item_count + 1) * sizeof(*items));
    if (!items) {
        return ERR_NOMEM;
    }
    row->items = items;
    items[row->item_count] = mem_try_copy(text, size);
    if (!items[row->item_count]) {
        return ERR_NOMEM;
    }
    row->item_count++;
    return 0;
}

static int push_list_item(void *data, const char *item)
{
    return setting_push_item(data, item, strlen(item));
}

int settings_add(struct settings *settings, const char *source, const char *key, const char *text,
                 bool is_list)
{
    struct setting *row = settings_push(settings, source, key, /* line= */ 0);
    if (!row) {
        return ERR_NOMEM;
    }
    row->is_list = is_list;
    return is_list ? value_list(text, push_list_item, row)
                   : setting_push_item(row, text, strlen(text));
}

void settings_done(struct settings *settings)
{
    for (size_t i = 0; i < settings->count; i++) {
        struct setting *row = &settings->rows[i];
        for (size_t k = 0; k < row->item_count; k++) {
            mem_free(row->items[k]);
        }
        mem_free(row->items);
        mem_free(row->key);
    }
    mem_free(settings->rows);
    *settings = (struct settings){0};
}

enum reader_state { READ_START, READ_KEY, READ_VALUE, READ_LIST, READ_END };

struct reader {
    struct settings *settings;
    struct errmsg *reterr;
    const char *source;
    enum reader_state state;
    size_t line;     /* of the current event */
    size_t key_line; /* of the key whose value is being read */
    size_t depth;
    size_t prefix[SETTING_DEPTH_MAX]; /* of each open mapping */
    size_t key_size;                  /* of the key whose value is being read */
    char key[SETTING_KEY_MAX];
    struct setting *row; /* the list being filled; valid until the next push */
};

static int reader_fail(struct reader *reader, const char *what)
{
    errmsg_wrap(reader->reterr, "%s:%zu: %s", reader->source, reader->line, what);
    return ERR_INVALID;
}

/* Behind a value: back to the keys of the mapping around it, or the end. */
static void reader_after_value(struct reader *reader)
{
    reader->state = reader->depth > 0 ? READ_KEY : READ_END;
}

static int on_key(struct reader *reader, const char *text, size_t size)
{
    size_t at = reader->prefix[reader->depth - 1];
    if (size == 0 || memchr(text, '\0', size)) {
        return reader_fail(reader,
                           "a key is empty or contains a NUL; keys are words such as data_dir");
    }
    if (at + 1 + size >= sizeof(reader->key)) {
        return reader_fail(reader, "a key is too long; allowed are 255 bytes with all levels");
    }
    if (at > 0) {
        reader->key[at++] = '.';
    }
    memcpy(reader->key + at, text, size);
    reader->key_size = at + size;
    reader->key[reader->key_size] = '\0';
    reader->key_line = reader->line;
    reader->state = READ_VALUE;
    return 0;
}

static int on_item(struct reader *reader, const char *text, size_t size)
{
    if (memchr(text, '\0', size)) {
        return reader_fail(reader, "a value contains a NUL byte, which no value may");
    }
    const int err = setting_push_item(reader->row, text, size);
    if (err == ERR_FULL) {
        return reader_fail(reader, "a list is too long; allowed are 1024 items");
    }
    return err;
}

static int on_scalar(struct reader *reader, const yaml_event_t *event)
{
    const char *text = (const char *)event->data.scalar.value;
    const size_t size = event->data.scalar.length;
    const bool plain = event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
    if (event->data.scalar.anchor || event->data.scalar.tag) {
        return reader_fail(reader, "anchors and tags are not allowed; write the value itself");
    }
    if (reader->state == READ_KEY) {
        return on_key(reader, text, size);
    }
    if (reader->state == READ_LIST) {
        return on_item(reader, text, size);
    }
    if (reader->state == READ_START) {
        /* libyaml gives an empty plain scalar for a document of comments only. */
        reader->state = READ_END;
        return plain && size == 0
                   ? 0
                   : reader_fail(reader, "expected `key: value` lines, found a value");
    }
    if (plain && size == 0) {
        errmsg_wrap(reader->reterr, "%s:%zu: %s has no value; write one, or remove the line",
                    reader->source, reader->key_line, reader->key);
        return ERR_INVALID;
    }
    reader->row = settings_push(reader->settings, reader->source, reader->key, reader->key_line);
    if (!reader->row) {
        return reader_fail(reader, "there are too many settings for the memory allowed");
    }
    reader_after_value(reader);
    return on_item(reader, text, size);
}

static int on_mapping(struct reader *reader, const yaml_event_t *event)
{
    if (event->data.mapping_start.anchor || event->data.mapping_start.tag) {
        return reader_fail(reader, "anchors and tags are not allowed; write the value itself");
    }
    if (reader->state != READ_START && reader->state != READ_VALUE) {
        return reader_fail(reader, "`key: value` lines cannot stand inside a list or a key");
    }
    if (reader->depth == SETTING_DEPTH_MAX) {
        return reader_fail(reader, "keys are nested too deeply; allowed are 8 levels");
    }
    reader->prefix[reader->depth++] = reader->state == READ_START ? 0 : reader->key_size;
    reader->state = READ_KEY;
    return 0;
}

static int on_list(struct reader *reader, const yaml_event_t *event)
{
    if (event->data.sequence_start.anchor || event->data.sequence_start.tag) {
        return reader_fail(reader, "anchors and tags are not allowed; write the value itself");
    }
    if (reader->state != READ_VALUE) {
        return reader_fail(reader, "a list is only allowed as the value of a key");
    }
    reader->row = settings_push(reader->settings, reader->source, reader->key, reader->key_line);
    if (!reader->row) {
        return reader_fail(reader, "there are too many settings for the memory allowed");
    }
    reader->row->is_list = true;
    reader->state = READ_LIST;
    return 0;
}

static int on_event(struct reader *reader, const yaml_event_t *event)
{
    reader->line = event->start_mark.line + 1;
    switch (event->type) {
    case YAML_SCALAR_EVENT:
        return on_scalar(reader, event);
    case YAML_MAPPING_START_EVENT:
        return on_mapping(reader, event);
    case YAML_MAPPING_END_EVENT:
        reader->depth--;
        reader_after_value(reader);
        return 0;
    case YAML_SEQUENCE_START_EVENT:
        return on_list(reader, event);
    case YAML_SEQUENCE_END_EVENT:
        reader_after_value(reader);
        return 0;
    case YAML_ALIAS_EVENT:
        return reader_fail(reader, "aliases are not allowed; write the value itself");
    case YAML_DOCUMENT_START_EVENT:
        return reader->state == READ_START
                   ? 0
                   : reader_fail(reader, "a second document begins; allowed is one");
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_END_EVENT:
        return 0;
    }
    return 0;
}

static int read_events(struct reader *reader, yaml_parser_t *parser)
{
    for (bool more = true; more;) {
        yaml_event_t event;
        if (!yaml_parser_parse(parser, &event)) {
            errmsg_wrap(reader->reterr, "%s:%zu: this is not YAML: %s", reader->source,
                        parser->problem_mark.line + 1, parser->problem ? parser->problem : "?");
            return ERR_INVALID;
        }
        const int err = on_event(reader, &event);
        more = event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

int settings_add_yaml(struct settings *settings, const char *source, const char *text, size_t size,
                      struct errmsg *reterr)
{
    yaml_parser_t parser;
    if (!yaml_parser_initialize(&parser)) {
        return ERR_NOMEM;
    }
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    struct reader reader = {.settings = settings, .reterr = reterr, .source = source};
    const int err = read_events(&reader, &parser);
    yaml_parser_delete(&parser);
    return err;
}
