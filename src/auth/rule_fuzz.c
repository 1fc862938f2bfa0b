/* Lines that build a rule and ask it: `field=value` sets a field of the rule (in the notation of a
 * policy file), `|text` does so with a list of one item, `@n=text` sets a fact of the client,
 * `^text` its address, `+topic` publishes, `-filter` subscribes; `[…` is an ACL, `{…` a policy or a
 * block rule in JSON. What is decided must hold for the topics that the client could then use:
 *
 *  - a rule that allows a filter also allows publishing to every topic of the input that it
 * matches;
 *  - a rule that denies such a topic also denies the filter.
 */
#include "auth/acl.h"
#include "auth/block.h"
#include "auth/rule_text.h"
#include "base/utf8.h"
#include "mqtt/topic.h"

#include <string.h>

enum { TOPICS_MAX = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

struct input {
    struct rule *rule;
    struct facts facts;
    struct slice topics[TOPICS_MAX], filters[TOPICS_MAX];
    uint32_t topic_count, filter_count;
};

static void set_field(struct rule *rule, struct slice line, bool is_list)
{
    const uint8_t *equals = memchr(line.bytes, '=', line.size);
    if (!equals)
        return;
    const size_t name_size = (size_t)(equals - line.bytes);
    const enum rule_field field = rule_field_find(slice_of(line.bytes, name_size), false);
    const struct slice value = slice_of(equals + 1, line.size - name_size - 1);
    const struct rule_value given = {.items = &value, .count = 1, .is_list = is_list};
    struct errmsg why = {0};
    if (field < RULE_FIELD_COUNT && rule_set(rule, field, given, &why) < 0)
        ASSERT(why.text[0] != '\0');
}

/* What was read is written, and read again as the same. */
static void run_json(struct slice text)
{
    struct rule *rule = NULL, *again = NULL;
    struct block *block = NULL;
    struct acl *acl = NULL;
    struct errmsg why = {0};
    if (acl_parse(text, &acl, &why) == 0)
        (void)acl_unref(acl);
    if (rule_text_read(text, &rule, &why) == 0) {
        struct strbuf out;
        strbuf_init(&out, 1u << 20);
        ASSERT(rule_text_write(rule, &out) == 0);
        ASSERT(rule_text_read(slice_of(out.text, out.size), &again, NULL) == 0);
        ASSERT(again->resource_count == rule->resource_count && again->qos == rule->qos);
        strbuf_done(&out);
        (void)rule_free(rule);
        (void)rule_free(again);
    }
    if (block_text_read(text, &block, &why) == 0) {
        const struct facts facts = {.address = address_parse(text)};
        (void)block_has(block, &facts, 1);
        (void)block_free(block);
    }
}

static void run_line(struct input *input, struct slice line)
{
    if (line.size < 2)
        return;
    const struct slice rest = slice_of(line.bytes + 1, line.size - 1);
    switch (line.bytes[0]) {
    case '|':
        set_field(input->rule, rest, true);
        break;
    case '@':
        if (rest.bytes[0] >= '0' && rest.bytes[0] < '0' + FACT_COUNT)
            input->facts.values[rest.bytes[0] - '0'] = slice_of(rest.bytes + 1, rest.size - 1);
        break;
    case '^':
        input->facts.address = address_parse(rest);
        break;
    case '+':
        if (topic_name_check(rest, TOPIC_NO_LIMIT) == 0 && input->topic_count < TOPICS_MAX)
            input->topics[input->topic_count++] = rest;
        break;
    case '-':
        if (topic_filter_check(rest, TOPIC_NO_LIMIT) == 0 && input->filter_count < TOPICS_MAX)
            input->filters[input->filter_count++] = rest;
        break;
    case '[':
    case '{':
        run_json(line);
        break;
    default:
        set_field(input->rule, line, false);
        break;
    }
}

static bool decides(const struct input *input, enum rule_action action, struct slice topic)
{
    const struct rule_request request = {.action = action, .topic = topic};
    return rule_decides(input->rule, &input->facts, &request) == RULE_MATCHES;
}

static void ask(struct input *input)
{
    struct rule *rule = input->rule;
    if (rule_check(rule, false, false, NULL) < 0)
        return;
    (void)rule_concerns(rule, &input->facts);
    rule->actions = RULE_PUB | RULE_SUB; /* the same topics for both */
    rule->qos = RULE_QOS_ANY;
    rule->retain = RULE_RETAIN_ANY;
    for (uint32_t i = 0; i < input->filter_count; i++) {
        const bool filter = decides(input, RULE_SUB, input->filters[i]);
        for (uint32_t k = 0; k < input->topic_count; k++) {
            if (!topic_match(input->filters[i], input->topics[k]))
                continue;
            const bool topic = decides(input, RULE_PUB, input->topics[k]);
            ASSERT(rule->allow ? !filter || topic : !topic || filter);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct input input = {.rule = rule_new()};
    size_t begin = 0;
    for (size_t i = 0; i <= size; i++) {
        if (i < size && bytes[i] != '\n')
            continue;
        run_line(&input, slice_of(bytes + begin, i - begin));
        begin = i + 1;
    }
    ask(&input);
    (void)rule_free(input.rule);
    return 0;
}
