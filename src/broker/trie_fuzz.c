/* Lines of an operation and a name: `+filter` inserts, `-filter` removes, `?topic` matches; what is
 * found is what comparing every filter in turn finds. */
#include "broker/trie.h"

#include "mqtt/topic.h"

#include <string.h>

enum { FILTERS_MAX = 64, CACHE_ENTRIES = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

/* The naive model; the value of a filter is its row. */
struct model {
    struct slice rows[FILTERS_MAX]; /* size 0: free */
};

static struct slice *row_of(struct model *model, struct slice filter)
{
    for (uint32_t i = 0; i < FILTERS_MAX; i++) {
        if (slice_equal(model->rows[i], filter))
            return &model->rows[i];
    }
    return NULL;
}

static void insert(struct trie *trie, struct model *model, struct slice filter)
{
    struct slice *row = row_of(model, filter);
    ASSERT(trie_find(trie, filter) == row);
    if (row) {
        ASSERT(trie_insert(trie, filter, row) == ERR_EXISTS);
        return;
    }
    row = row_of(model, slice_of(NULL, 0));
    if (!row)
        return;
    ASSERT(trie_insert(trie, filter, row) == 0);
    *row = filter;
}

static void match(struct trie *trie, const struct model *model, struct slice topic)
{
    const struct trie_matches matches = trie_match(trie, topic);
    uint64_t found = 0, expected = 0;
    for (uint32_t i = 0; i < matches.count; i++) {
        const uint64_t bit = UINT64_C(1) << ((const struct slice *)matches.values[i] - model->rows);
        ASSERT((found & bit) == 0);
        found |= bit;
    }
    for (uint32_t i = 0; i < FILTERS_MAX; i++) {
        if (model->rows[i].size > 0 && topic_match(model->rows[i], topic))
            expected |= UINT64_C(1) << i;
    }
    ASSERT(found == expected);
}

static void run_line(struct trie *trie, struct model *model, struct slice line)
{
    if (line.size < 2)
        return;
    const struct slice name = slice_of(line.bytes + 1, line.size - 1);
    if (line.bytes[0] == '?') {
        if (topic_name_check(name, TOPIC_NO_LIMIT) == 0)
            match(trie, model, name);
        return;
    }
    if (topic_filter_check(name, TOPIC_NO_LIMIT) < 0)
        return;
    if (line.bytes[0] == '+') {
        insert(trie, model, name);
    } else if (line.bytes[0] == '-') {
        struct slice *row = row_of(model, name);
        ASSERT(trie_remove(trie, name) == row);
        if (row)
            *row = slice_of(NULL, 0);
    }
    trie_check(trie);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size)
{
    struct model model = {0};
    struct trie *trie = trie_new(CACHE_ENTRIES);
    while (size > 0) {
        const uint8_t *const end = memchr(bytes, '\n', size);
        const size_t line_size = end ? (size_t)(end - bytes) : size;
        run_line(trie, &model, slice_of(bytes, line_size));
        bytes += line_size + (end ? 1 : 0);
        size -= line_size + (end ? 1 : 0);
    }
    (void)trie_free(trie);
    return 0;
}
