#include "auth/rule_text.h"

#include "auth/rule_json.h"

static int add_chunk(const char *bytes, size_t size, void *data)
{
    strbuf_add_bytes(data, bytes, size);
    return 0;
}

/* Takes the item; NULL: there was no memory for it. */
static int write_item(json_t *item, struct strbuf *out)
{
    if (!item)
        return ERR_NOMEM;
    const int failed = json_dump_callback(item, add_chunk, out, JSON_COMPACT);
    json_decref(item);
    return failed ? ERR_NOMEM : strbuf_err(out);
}

int rule_text_write(const struct rule *rule, struct strbuf *out)
{
    return write_item(rule_json_item(rule), out);
}

int block_text_write(const struct block *block, struct strbuf *out)
{
    return write_item(block_json_item(block), out);
}

static json_t *read_item(struct slice text, struct errmsg *reterr)
{
    json_error_t error;
    json_t *item = json_loadb((const char *)text.bytes, text.size, JSON_REJECT_DUPLICATES, &error);
    if (!item)
        errmsg_wrap(reterr, "not JSON: %.200s", error.text);
    return item;
}

int rule_text_read(struct slice text, struct rule **ret_rule, struct errmsg *reterr)
{
    json_t *item = read_item(text, reterr);
    const int err = item ? rule_json_read(item, ret_rule, reterr) : ERR_INVALID;
    json_decref(item);
    return err;
}

int rule_with_priority(const struct rule *rule, uint32_t priority, struct rule **ret_rule,
                       struct errmsg *reterr)
{
    json_t *item = rule_json_item(rule);
    if (!item)
        return ERR_NOMEM;
    (void)json_object_set_new(item, "Priority", json_integer(priority));
    const int err = rule_json_read(item, ret_rule, reterr);
    json_decref(item);
    return err;
}

int block_text_read(struct slice text, struct block **ret_block, struct errmsg *reterr)
{
    json_t *item = read_item(text, reterr);
    const int err = item ? block_json_read(item, ret_block, reterr) : ERR_INVALID;
    json_decref(item);
    return err;
}
