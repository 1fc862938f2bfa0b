/* Retained index: topic name -> where its retained message lies; ordered by topic level.
 *
 * An iteration over a filter holds no place in the index, only the last topic it returned, so it
 * can stop for as long as a slow client needs while entries come and go. Thread: owner.
 */
#pragma once

#include "base/buf.h"

struct retained_index;

struct retained {
    uint64_t position;   /* of the message in the log, or of its latest copy */
    uint64_t origin;     /* position of the original */
    uint64_t expires_ms; /* wall clock, UINT64_MAX = never */
    uint32_t size;       /* bytes of the message in the log */
    uint32_t topic_id;
    uint32_t pending; /* appends for this topic under way: no copy is made while there are */
    bool present;     /* false: only kept because of `pending` */
};

struct retained_index *retained_new(void);
struct retained_index *retained_free(struct retained_index *index);
/* Finds or makes the entry (zeroed, present = false). Returns NULL when out of memory. The pointer
 * is valid until the entry is removed. */
struct retained *retained_put(struct retained_index *index, struct slice topic);
struct retained *retained_find(struct retained_index *index, struct slice topic);
/* Sets `present`; the only way to, because the count depends on it. */
void retained_mark(struct retained_index *index, struct retained *retained, bool present);
void retained_remove(struct retained_index *index, struct slice topic);
/* The next present entry after topic `after` (size 0: from the start) that matches `filter`, in
 * index order; NULL at the end. ret_topic lies in the index, for as long as the entry; `after` need
 * not be there any more. Seeks: costs O(depth * log n) for each
 * returned entry and for each subtree skipped. Same '$' rule as trie_match.
 * visits_max bounds the work: when used up, returns NULL with *ret_topic set to where to go on
 * (use it as `after`); at the real end ret_topic->size is 0. */
struct retained *retained_next(struct retained_index *index, struct slice filter,
                               struct slice after, uint32_t visits_max, struct slice *ret_topic);
uint64_t retained_count(const struct retained_index *index); /* present entries */
uint64_t retained_memory(const struct retained_index *index);
void retained_check(const struct retained_index *index);
