/* What trie_match found for topic names asked for lately, so that a device that publishes to the
 * same name again costs one hash and one comparison.
 *
 * Each entry carries the sum of two counters that only rise: one per first-level topic (spread over
 * a fixed number of counters by hash, so two topics may share one) and one for filters whose first
 * level is a wildcard. An entry whose sum is no longer right is not used.
 *
 * Results outlive their place in the cache: an entry pushed out, or never let in because it is
 * large, is freed only after MATCH_RESULT_LIFE further results. Thread: owner.
 */
#pragma once

#include "broker/trie.h"

/* What an entry may take, on average. */
#define MATCH_ENTRY_BYTES 512u

struct match_cache;

/* entries_max: rounded down to a power of two, at least 4; 0 = results are not remembered. */
struct match_cache *match_cache_new(uint32_t entries_max);
struct match_cache *match_cache_free(struct match_cache *cache);

/* hash: of the whole topic. false: not there, or out of date. */
bool match_cache_find(struct match_cache *cache, struct slice topic, uint64_t hash,
                      struct trie_matches *ret_matches);
/* Copies a result, remembers it when it is small enough, and returns the copy. first_hash: of the
 * topic's first level. */
struct trie_matches match_cache_add(struct match_cache *cache, struct slice topic, uint64_t hash,
                                    uint64_t first_hash, struct trie_matches found);

/* A filter with this first level came or went; NULL: one whose first level is a wildcard. */
void match_cache_change(struct match_cache *cache, const uint64_t *first_hash);

uint64_t match_cache_memory(const struct match_cache *cache);
void match_cache_check(const struct match_cache *cache); /* invariants; aborts when broken */
