/* The rulebook: all policies and block rules of the server, and the switch.
 *
 * Policies have two origins, each with names and priorities of its own: the policy file, which only
 * its owner changes, and those that administrators store while the server runs. A decision asks
 * them in this order, each by priority: file, stored, and then the ACL that came with the client's
 * authentication. The first that matches decides; when none does the answer is no.
 *
 * Every change raises the generation, by which whoever keeps decisions knows that they are old, and
 * tells the watcher. Thread: the loop's.
 */
#pragma once

#include "auth/acl.h"
#include "auth/block.h"

#define RULEBOOK_POLICIES_MAX 1000u /* of each origin */
#define RULEBOOK_BLOCKS_MAX   1000u

enum rule_origin { ORIGIN_FILE, ORIGIN_STORED, ORIGIN_ACL };

/* Policies of one origin in order of priority; owns them. Zeroed: empty. */
struct policies {
    struct rule **items;
    size_t count;
};

struct blocks {
    struct block **items;
    size_t count;
};

/* Takes the rule over on success. Returns 0; ERR_EXISTS: name or priority is in use; ERR_FULL;
 * both with a sentence in reterr. */
MUST_CHECK int policies_add(struct policies *policies, struct rule *rule, struct errmsg *reterr);
void policies_done(struct policies *policies);
MUST_CHECK int blocks_add(struct blocks *blocks, struct block *block, struct errmsg *reterr);
void blocks_done(struct blocks *blocks);

struct rulebook;

typedef void rulebook_changed_fn(void *data);

struct rulebook *rulebook_new(void);                       /* empty, switched off */
struct rulebook *rulebook_free(struct rulebook *rulebook); /* NULL is fine; returns NULL */
/* changed: called after each change, inside it; one watcher, NULL for none. */
void rulebook_watch(struct rulebook *rulebook, rulebook_changed_fn *changed, void *data);
/* Never 0. */
uint64_t rulebook_generation(const struct rulebook *rulebook);
/* Whether policies are looked at; block rules always are. */
bool rulebook_enabled(const struct rulebook *rulebook);

/* What the configuration says; policies and blocks are taken over and left empty. */
void rulebook_configure(struct rulebook *rulebook, bool enabled, struct policies *policies,
                        struct blocks *blocks);

/* Stored policies and blocks; those of the file for lists only. Borrowed until the next change. */
const struct policies *rulebook_policies(const struct rulebook *rulebook, enum rule_origin origin);
const struct blocks *rulebook_blocks(const struct rulebook *rulebook, enum rule_origin origin);
/* NULL: there is none. */
const struct rule *rulebook_policy(const struct rulebook *rulebook, uint64_t id);
const struct rule *rulebook_policy_named(const struct rulebook *rulebook, struct slice name);
const struct block *rulebook_block(const struct rulebook *rulebook, struct slice name);

/* Whether it could be stored, in place of the one with its id if there is one. As policies_add. */
MUST_CHECK int rulebook_check_policy(const struct rulebook *rulebook, const struct rule *rule,
                                     struct errmsg *reterr);
/* Stores it, in place of the one with its id; takes it over. It must have passed the check. */
void rulebook_put_policy(struct rulebook *rulebook, struct rule *rule);
void rulebook_remove_policy(struct rulebook *rulebook, uint64_t id);
/* The same for several that are stored already, at once: each takes the place of the one with its
 * id, so that they may exchange their priorities. Taken over, and left empty. */
MUST_CHECK int rulebook_check_policies(const struct rulebook *rulebook,
                                       const struct policies *changed, struct errmsg *reterr);
void rulebook_put_policies(struct rulebook *rulebook, struct policies *changed);
/* As with policies; is_new: a name that is in use is an error, else it must be. */
MUST_CHECK int rulebook_check_block(const struct rulebook *rulebook, const struct block *block,
                                    bool is_new, struct errmsg *reterr);
void rulebook_put_block(struct rulebook *rulebook, struct block *block);
void rulebook_remove_block(struct rulebook *rulebook, struct slice name);

/* The block rule that keeps a client out, or NULL. now_ms: wall clock. */
const struct block *rulebook_blocks_client(const struct rulebook *rulebook,
                                           const struct facts *facts, uint64_t now_ms);

/* Rules that may decide about a client, numbered from 0 in the order in which they are asked.
 * Borrowed until the next change. */
struct rule_table {
    struct rule *const *items[3]; /* by origin */
    size_t counts[3], count;
};

struct rule_table rulebook_table(const struct rulebook *rulebook, const struct facts *facts);

static inline const struct rule *rule_table_get(const struct rule_table *table, size_t i,
                                                enum rule_origin *ret_origin)
{
    int origin = ORIGIN_FILE;
    for (; i >= table->counts[origin]; origin++)
        i -= table->counts[origin];
    *ret_origin = (enum rule_origin)origin;
    return table->items[origin][i];
}
