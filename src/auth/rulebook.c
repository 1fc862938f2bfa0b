#include "auth/rulebook.h"

#include "base/mem.h"

#include <stdio.h>
#include <string.h>

struct rulebook {
    bool enabled;
    struct policies policies[2]; /* by origin */
    struct blocks blocks[2];
    uint64_t generation;
    rulebook_changed_fn *changed;
    void *changed_data;
};

/* --- lists --------------------------------------------------------------------------------------
 */

/* Returns 0, or ERR_EXISTS with a sentence when they cannot both be there. */
static int rules_compare(const struct rule *rule, const struct rule *other, struct errmsg *reterr)
{
    if (strcmp(other->name, rule->name) == 0) {
        errmsg_wrap(reterr, "there is a policy of the name '%s' already", rule->name);
        return ERR_EXISTS;
    }
    if (other->priority == rule->priority) {
        errmsg_wrap(reterr, "policy '%s' has the priority %u already; give this one another",
                    other->name, rule->priority);
        return ERR_EXISTS;
    }
    return 0;
}

/* as: the one it takes the place of, or NULL. */
static int policies_check(const struct policies *policies, const struct rule *rule,
                          const struct rule *as, struct errmsg *reterr)
{
    for (size_t i = 0; i < policies->count; i++) {
        const int err =
            policies->items[i] == as ? 0 : rules_compare(rule, policies->items[i], reterr);
        if (err < 0)
            return err;
    }
    if (!as && policies->count >= RULEBOOK_POLICIES_MAX) {
        errmsg_wrap(reterr, "there are %u policies already, as many as there may be",
                    RULEBOOK_POLICIES_MAX);
        return ERR_FULL;
    }
    return 0;
}

static struct rule *policies_find(const struct policies *policies, uint64_t id)
{
    for (size_t i = 0; i < policies->count; i++) {
        if (policies->items[i]->id == id)
            return policies->items[i];
    }
    return NULL;
}

static void policies_insert(struct policies *policies, struct rule *rule)
{
    policies->items = mem_grow(policies->items, (policies->count + 1) * sizeof *policies->items);
    size_t at = policies->count++;
    for (; at > 0 && policies->items[at - 1]->priority > rule->priority; at--)
        policies->items[at] = policies->items[at - 1];
    policies->items[at] = rule;
}

int policies_add(struct policies *policies, struct rule *rule, struct errmsg *reterr)
{
    const int err = policies_check(policies, rule, NULL, reterr);
    if (err == 0)
        policies_insert(policies, rule);
    return err;
}

void policies_done(struct policies *policies)
{
    for (size_t i = 0; i < policies->count; i++)
        (void)rule_free(policies->items[i]);
    mem_free(policies->items);
    *policies = (struct policies){0};
}

static struct block **blocks_find(const struct blocks *blocks, struct slice name)
{
    for (size_t i = 0; i < blocks->count; i++) {
        if (slice_equal(slice_str(blocks->items[i]->name), name))
            return &blocks->items[i];
    }
    return NULL;
}

int blocks_add(struct blocks *blocks, struct block *block, struct errmsg *reterr)
{
    if (blocks_find(blocks, slice_str(block->name))) {
        errmsg_wrap(reterr, "there is a block rule of the name '%s' already", block->name);
        return ERR_EXISTS;
    }
    if (blocks->count >= RULEBOOK_BLOCKS_MAX) {
        errmsg_wrap(reterr, "there are %u block rules already, as many as there may be",
                    RULEBOOK_BLOCKS_MAX);
        return ERR_FULL;
    }
    blocks->items = mem_grow(blocks->items, (blocks->count + 1) * sizeof *blocks->items);
    blocks->items[blocks->count++] = block;
    return 0;
}

void blocks_done(struct blocks *blocks)
{
    for (size_t i = 0; i < blocks->count; i++)
        (void)block_free(blocks->items[i]);
    mem_free(blocks->items);
    *blocks = (struct blocks){0};
}

/* --- the book -----------------------------------------------------------------------------------
 */

struct rulebook *rulebook_new(void)
{
    struct rulebook *rulebook = mem_new(sizeof *rulebook);
    rulebook->generation = 1;
    return rulebook;
}

struct rulebook *rulebook_free(struct rulebook *rulebook)
{
    if (!rulebook)
        return NULL;
    for (size_t i = 0; i < ARRAY_COUNT(rulebook->policies); i++) {
        policies_done(&rulebook->policies[i]);
        blocks_done(&rulebook->blocks[i]);
    }
    mem_free(rulebook);
    return NULL;
}

void rulebook_watch(struct rulebook *rulebook, rulebook_changed_fn *changed, void *data)
{
    rulebook->changed = changed;
    rulebook->changed_data = data;
}

uint64_t rulebook_generation(const struct rulebook *rulebook)
{
    return rulebook->generation;
}

bool rulebook_enabled(const struct rulebook *rulebook)
{
    return rulebook->enabled;
}

static void rulebook_touch(struct rulebook *rulebook)
{
    rulebook->generation++;
    if (rulebook->changed)
        rulebook->changed(rulebook->changed_data);
}

void rulebook_configure(struct rulebook *rulebook, bool enabled, struct policies *policies,
                        struct blocks *blocks)
{
    rulebook->enabled = enabled;
    policies_done(&rulebook->policies[ORIGIN_FILE]);
    blocks_done(&rulebook->blocks[ORIGIN_FILE]);
    rulebook->policies[ORIGIN_FILE] = *policies;
    rulebook->blocks[ORIGIN_FILE] = *blocks;
    *policies = (struct policies){0};
    *blocks = (struct blocks){0};
    rulebook_touch(rulebook);
}

const struct policies *rulebook_policies(const struct rulebook *rulebook, enum rule_origin origin)
{
    ASSERT(origin <= ORIGIN_STORED);
    return &rulebook->policies[origin];
}

const struct blocks *rulebook_blocks(const struct rulebook *rulebook, enum rule_origin origin)
{
    ASSERT(origin <= ORIGIN_STORED);
    return &rulebook->blocks[origin];
}

const struct rule *rulebook_policy(const struct rulebook *rulebook, uint64_t id)
{
    return policies_find(&rulebook->policies[ORIGIN_STORED], id);
}

const struct rule *rulebook_policy_named(const struct rulebook *rulebook, struct slice name)
{
    const struct policies *stored = &rulebook->policies[ORIGIN_STORED];
    for (size_t i = 0; i < stored->count; i++) {
        if (slice_equal(slice_str(stored->items[i]->name), name))
            return stored->items[i];
    }
    return NULL;
}

const struct block *rulebook_block(const struct rulebook *rulebook, struct slice name)
{
    struct block **found = blocks_find(&rulebook->blocks[ORIGIN_STORED], name);
    return found ? *found : NULL;
}

int rulebook_check_policy(const struct rulebook *rulebook, const struct rule *rule,
                          struct errmsg *reterr)
{
    return policies_check(&rulebook->policies[ORIGIN_STORED], rule,
                          rulebook_policy(rulebook, rule->id), reterr);
}

/* Returns whether there was one. */
static bool take_out(struct policies *stored, uint64_t id)
{
    for (size_t i = 0; i < stored->count; i++) {
        if (stored->items[i]->id != id)
            continue;
        (void)rule_free(stored->items[i]);
        stored->count--;
        memmove(&stored->items[i], &stored->items[i + 1],
                (stored->count - i) * sizeof *stored->items);
        return true;
    }
    return false;
}

void rulebook_put_policy(struct rulebook *rulebook, struct rule *rule)
{
    struct policies *stored = &rulebook->policies[ORIGIN_STORED];
    (void)take_out(stored, rule->id);
    policies_insert(stored, rule);
    rulebook_touch(rulebook);
}

void rulebook_remove_policy(struct rulebook *rulebook, uint64_t id)
{
    if (take_out(&rulebook->policies[ORIGIN_STORED], id))
        rulebook_touch(rulebook);
}

int rulebook_check_policies(const struct rulebook *rulebook, const struct policies *changed,
                            struct errmsg *reterr)
{
    const struct policies *stored = &rulebook->policies[ORIGIN_STORED];
    for (size_t i = 0; i < changed->count; i++) {
        for (size_t j = 0; j < stored->count; j++) {
            const struct rule *rule = changed->items[i], *other = stored->items[j];
            if (rules_compare(rule, other, NULL) < 0 && !policies_find(changed, other->id))
                return rules_compare(rule, other, reterr);
        }
    }
    return 0;
}

void rulebook_put_policies(struct rulebook *rulebook, struct policies *changed)
{
    struct policies *stored = &rulebook->policies[ORIGIN_STORED];
    for (size_t i = 0; i < changed->count; i++)
        (void)take_out(stored, changed->items[i]->id);
    for (size_t i = 0; i < changed->count; i++)
        policies_insert(stored, changed->items[i]);
    mem_free(changed->items);
    *changed = (struct policies){0};
    rulebook_touch(rulebook);
}

int rulebook_check_block(const struct rulebook *rulebook, const struct block *block, bool is_new,
                         struct errmsg *reterr)
{
    const bool found = rulebook_block(rulebook, slice_str(block->name)) != NULL;
    if (found == is_new) {
        errmsg_wrap(reterr, "there is %s block rule of the name '%s'%s", is_new ? "a" : "no",
                    block->name, is_new ? " already" : "");
        return is_new ? ERR_EXISTS : ERR_NOTFOUND;
    }
    if (is_new && rulebook->blocks[ORIGIN_STORED].count >= RULEBOOK_BLOCKS_MAX) {
        errmsg_wrap(reterr, "there are %u block rules already, as many as there may be",
                    RULEBOOK_BLOCKS_MAX);
        return ERR_FULL;
    }
    return 0;
}

void rulebook_put_block(struct rulebook *rulebook, struct block *block)
{
    struct blocks *stored = &rulebook->blocks[ORIGIN_STORED];
    struct block **found = blocks_find(stored, slice_str(block->name));
    if (found) {
        (void)block_free(*found);
        *found = block;
    } else {
        stored->items = mem_grow(stored->items, (stored->count + 1) * sizeof *stored->items);
        stored->items[stored->count++] = block;
    }
    rulebook_touch(rulebook);
}

void rulebook_remove_block(struct rulebook *rulebook, struct slice name)
{
    struct blocks *stored = &rulebook->blocks[ORIGIN_STORED];
    struct block **found = blocks_find(stored, name);
    if (!found)
        return;
    (void)block_free(*found);
    stored->count--;
    const size_t at = (size_t)(found - stored->items);
    memmove(found, found + 1, (stored->count - at) * sizeof *stored->items);
    rulebook_touch(rulebook);
}

const struct block *rulebook_blocks_client(const struct rulebook *rulebook,
                                           const struct facts *facts, uint64_t now_ms)
{
    for (size_t origin = 0; origin < ARRAY_COUNT(rulebook->blocks); origin++) {
        const struct blocks *blocks = &rulebook->blocks[origin];
        for (size_t i = 0; i < blocks->count; i++) {
            if (block_has(blocks->items[i], facts, now_ms))
                return blocks->items[i];
        }
    }
    return NULL;
}

struct rule_table rulebook_table(const struct rulebook *rulebook, const struct facts *facts)
{
    const struct policies *file = &rulebook->policies[ORIGIN_FILE];
    const struct policies *stored = &rulebook->policies[ORIGIN_STORED];
    struct rule_table table = {
        .items = {file->items, stored->items, acl_rules(facts->acl)},
        .counts = {file->count, stored->count, acl_count(facts->acl)},
    };
    table.count = table.counts[0] + table.counts[1] + table.counts[2];
    return table;
}
