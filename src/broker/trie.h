/* Subscription trie: topic filters in, the filters that match a topic name out.
 *
 * One open-addressing table of nodes keyed by (parent, level); '+' and '#' are fields of a node.
 * A match cache remembers the result per topic name, stamped with a generation per first-level
 * topic, so that a new subscription to one topic does not flush the others. Thread: owner.
 */
#pragma once

#include "base/buf.h"

struct trie;

#define MATCH_RESULT_LIFE 16

/* values: what trie_insert was given for each matching filter; order is not defined. Valid until
 * the next trie_insert or trie_remove, or for MATCH_RESULT_LIFE further trie_match, whichever ends
 * first. */
struct trie_matches {
    void *const *values;
    uint32_t count;
};

/* cache_entries_max: topic names whose result is remembered, 0 = none. */
struct trie *trie_new(uint32_t cache_entries_max);
struct trie *trie_free(struct trie *trie);
/* Makes room for so many levels of filters in an empty trie, so that it need not grow on the way
 * there. */
void trie_reserve(struct trie *trie, uint64_t level_count);
/* filter: valid (mqtt/topic.h), copied. value: not NULL. Returns 0, ERR_EXISTS, ERR_NOMEM. */
MUST_CHECK int trie_insert(struct trie *trie, struct slice filter, void *value);
/* NULL when it is not there. */
void *trie_find(const struct trie *trie, struct slice filter);
/* Returns the value removed, NULL when it was not there. */
void *trie_remove(struct trie *trie, struct slice filter);
/* All filters matching the topic name, wildcards at the first level excluded for names that begin
 * with '$'. Spec: [MQTT3-4.7.2-1] [MQTT5-4.7.2-1] */
struct trie_matches trie_match(struct trie *trie, struct slice topic);
uint64_t trie_count(const struct trie *trie);
uint64_t trie_memory(const struct trie *trie); /* bytes, cache included */
void trie_check(const struct trie *trie);      /* invariants; aborts when broken */
