/* libyaml makes a tree of the file; it is read to a fixed depth, so that an alias, even one that
 * leads back to where it stands, is no more than a value in the wrong place. */
#include "app/policy_file.h"

#include "base/mem.h"
#include "io/file.h"

#include <fcntl.h>
#include <string.h>
#include <yaml.h>

#define ITEMS_MAX RULE_RESOURCES_MAX

struct reader {
    const char *name;
    yaml_document_t document;
    struct policies *policies;
    struct blocks *blocks;
    struct errmsg *reterr;
};

/* Puts the place in front of what is said already; what: a key, or NULL. */
static int fail_at(const struct reader *reader, const yaml_node_t *node, const char *what)
{
    const size_t line = node->start_mark.line + 1;
    if (what)
        errmsg_wrap(reader->reterr, "%s:%zu: %s", reader->name, line, what);
    else
        errmsg_wrap(reader->reterr, "%s:%zu", reader->name, line);
    return ERR_INVALID;
}

static yaml_node_t *node_at(struct reader *reader, int index)
{
    yaml_node_t *node = yaml_document_get_node(&reader->document, index);
    ASSERT(node);
    return node;
}

static struct slice text_of(const yaml_node_t *node)
{
    return slice_of(node->data.scalar.value, node->data.scalar.length);
}

/* The texts of a scalar, or of a list of them. Returns their count, or -1 when it is neither. */
static int value_texts(struct reader *reader, const yaml_node_t *node, struct slice *items)
{
    if (node->type == YAML_SCALAR_NODE) {
        items[0] = text_of(node);
        return 1;
    }
    if (node->type != YAML_SEQUENCE_NODE)
        return -1;
    int count = 0;
    const yaml_node_item_t *top = node->data.sequence.items.top;
    for (const yaml_node_item_t *it = node->data.sequence.items.start; it < top; it++) {
        const yaml_node_t *item = node_at(reader, *it);
        if (item->type != YAML_SCALAR_NODE || count == (int)ITEMS_MAX)
            return -1;
        items[count++] = text_of(item);
    }
    return count;
}

/* One `key: value` of an entry. */
typedef int set_fn(void *entry, struct slice key, struct rule_value value, struct errmsg *reterr);

static int set_policy(void *entry, struct slice key, struct rule_value value, struct errmsg *reterr)
{
    const enum rule_field field = rule_field_find(key, /* in_api= */ false);
    if (field == RULE_FIELD_COUNT) {
        errmsg_wrap(reterr, "is not known; known are name, priority, effect, actions, resources, "
                            "client_id, username, ip, qos, retain and remark");
        return ERR_INVALID;
    }
    return rule_set(entry, field, value, reterr);
}

static int set_block(void *entry, struct slice key, struct rule_value value, struct errmsg *reterr)
{
    for (int i = 0; i < BLOCK_FIELD_COUNT; i++) {
        const enum block_field field = (enum block_field)i;
        if (slice_equal(slice_str(block_field_name(field, /* in_api= */ false)), key))
            return block_set(entry, field, value.items, value.count, reterr);
    }
    errmsg_wrap(reterr, "is not known; known are name, type, include, excludes, expire_time and "
                        "remark");
    return ERR_INVALID;
}

static int read_pair(struct reader *reader, const yaml_node_pair_t *pair, set_fn *set, void *entry)
{
    struct slice items[ITEMS_MAX];
    const yaml_node_t *key = node_at(reader, pair->key);
    const yaml_node_t *value = node_at(reader, pair->value);
    if (key->type != YAML_SCALAR_NODE)
        return fail_at(reader, key, "a key is not a word");
    const int count = value_texts(reader, value, items);
    int err = ERR_INVALID;
    if (count < 0) {
        errmsg_wrap(reader->reterr, "takes a value, or a list of at most %u values", ITEMS_MAX);
    } else {
        const struct rule_value given = {
            .items = items, .count = (size_t)count, .is_list = value->type == YAML_SEQUENCE_NODE};
        err = set(entry, text_of(key), given, reader->reterr);
    }
    if (err < 0) {
        errmsg_wrap(reader->reterr, "%.*s", (int)MIN(key->data.scalar.length, 40u),
                    (const char *)key->data.scalar.value);
        (void)fail_at(reader, key, NULL);
    }
    return err;
}

/* In two rounds: first what the others depend on. */
static int read_pairs(struct reader *reader, const yaml_node_t *node, const char *first,
                      set_fn *set, void *entry)
{
    if (node->type != YAML_MAPPING_NODE)
        return fail_at(reader, node, "an entry of this list is `key: value` lines");
    for (int round = 0; round < 2; round++) {
        const yaml_node_pair_t *top = node->data.mapping.pairs.top;
        for (const yaml_node_pair_t *it = node->data.mapping.pairs.start; it < top; it++) {
            const yaml_node_t *key = node_at(reader, it->key);
            const bool is_first =
                key->type == YAML_SCALAR_NODE && slice_equal(text_of(key), slice_str(first));
            const int err = is_first == (round == 0) ? read_pair(reader, it, set, entry) : 0;
            if (err < 0)
                return err;
        }
    }
    return 0;
}

static int read_policy(struct reader *reader, const yaml_node_t *node)
{
    struct rule *rule = rule_new();
    int err = read_pairs(reader, node, "effect", set_policy, rule);
    if (err == 0) {
        err = rule_check(rule, /* is_policy= */ true, /* in_api= */ false, reader->reterr);
        if (err == 0)
            err = policies_add(reader->policies, rule, reader->reterr);
        if (err < 0)
            err = fail_at(reader, node, NULL);
    }
    if (err < 0)
        (void)rule_free(rule);
    return err;
}

static int read_block(struct reader *reader, const yaml_node_t *node)
{
    struct block *block = block_new();
    int err = read_pairs(reader, node, "type", set_block, block);
    if (err == 0) {
        err = block_check(block, /* in_api= */ false, reader->reterr);
        if (err == 0)
            err = block_check_addresses(block, /* in_api= */ false, reader->reterr);
        if (err == 0)
            err = blocks_add(reader->blocks, block, reader->reterr);
        if (err < 0)
            err = fail_at(reader, node, NULL);
    }
    if (err < 0)
        (void)block_free(block);
    return err;
}

typedef int read_fn(struct reader *reader, const yaml_node_t *node);

static int read_list(struct reader *reader, const yaml_node_t *node, read_fn *each)
{
    if (node->type == YAML_SCALAR_NODE && node->data.scalar.length == 0)
        return 0; /* nothing behind the key */
    if (node->type != YAML_SEQUENCE_NODE)
        return fail_at(reader, node, "a list is expected here");
    int err = 0;
    const yaml_node_item_t *top = node->data.sequence.items.top;
    for (const yaml_node_item_t *it = node->data.sequence.items.start; it < top && err == 0; it++)
        err = each(reader, node_at(reader, *it));
    return err;
}

static int read_root(struct reader *reader, const yaml_node_t *root)
{
    bool seen[2] = {false, false};
    if (root->type != YAML_MAPPING_NODE)
        return fail_at(reader, root, "expected `policies:` and `block_rules:`");
    const yaml_node_pair_t *top = root->data.mapping.pairs.top;
    for (const yaml_node_pair_t *it = root->data.mapping.pairs.start; it < top; it++) {
        const yaml_node_t *key = node_at(reader, it->key);
        const struct slice name = key->type == YAML_SCALAR_NODE ? text_of(key) : slice_of("", 0);
        const bool policies = slice_equal(name, slice_str("policies"));
        if (!policies && !slice_equal(name, slice_str("block_rules")))
            return fail_at(reader, key,
                           "this key is not known; known are policies and "
                           "block_rules");
        if (seen[policies])
            return fail_at(reader, key, "this key is given twice");
        seen[policies] = true;
        const int err =
            read_list(reader, node_at(reader, it->value), policies ? read_policy : read_block);
        if (err < 0)
            return err;
    }
    return 0;
}

/* What the parser refuses, and documents behind the first. */
static int read_document(struct reader *reader, yaml_parser_t *parser)
{
    if (!yaml_parser_load(parser, &reader->document)) {
        errmsg_wrap(reader->reterr, "%s:%zu: this is not YAML: %s", reader->name,
                    parser->problem_mark.line + 1, parser->problem ? parser->problem : "?");
        return ERR_INVALID;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&reader->document);
    const int err = root ? read_root(reader, root) : 0;
    yaml_document_delete(&reader->document);
    if (err < 0 || !root)
        return err;
    if (!yaml_parser_load(parser, &reader->document)) {
        errmsg_wrap(reader->reterr, "%s:%zu: this is not YAML: %s", reader->name,
                    parser->problem_mark.line + 1, parser->problem ? parser->problem : "?");
        return ERR_INVALID;
    }
    const bool second = yaml_document_get_root_node(&reader->document) != NULL;
    yaml_document_delete(&reader->document);
    if (second) {
        errmsg_wrap(reader->reterr, "%s: a second document begins; allowed is one", reader->name);
        return ERR_INVALID;
    }
    return 0;
}

int policy_file_parse(const char *name, const char *text, size_t size,
                      struct policies *ret_policies, struct blocks *ret_blocks,
                      struct errmsg *reterr)
{
    yaml_parser_t parser;
    *ret_policies = (struct policies){0};
    *ret_blocks = (struct blocks){0};
    if (!yaml_parser_initialize(&parser))
        return ERR_NOMEM;
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, size);
    struct reader reader = {
        .name = name, .policies = ret_policies, .blocks = ret_blocks, .reterr = reterr};
    const int err = read_document(&reader, &parser);
    yaml_parser_delete(&parser);
    if (err < 0) {
        policies_done(ret_policies);
        blocks_done(ret_blocks);
    }
    return err;
}

int policy_file_read(const char *name, struct policies *ret_policies, struct blocks *ret_blocks,
                     struct errmsg *reterr)
{
    char *text = NULL;
    size_t size = 0;
    *ret_policies = (struct policies){0};
    *ret_blocks = (struct blocks){0};
    if (!name || name[0] == '\0')
        return 0;
    int err = file_read_whole(AT_FDCWD, name, POLICY_FILE_MAX, &text, &size);
    if (err < 0) {
        errmsg_wrap(reterr, "could not read authorization.policy_file '%s': %s", name,
                    err_text(err));
        return err;
    }
    err = policy_file_parse(name, text, size, ret_policies, ret_blocks, reterr);
    mem_free(text);
    if (err < 0)
        errmsg_wrap(reterr, "authorization.policy_file is wrong");
    return err;
}
