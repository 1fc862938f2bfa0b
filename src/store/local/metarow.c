#include "store/local/metarow.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string.h>

uint64_t metarow_check(enum metarow_table table, struct slice key, struct slice value)
{
    const uint64_t seed = XXH3_64bits_withSeed(key.bytes, key.size, (uint64_t)table);
    return XXH3_64bits_withSeed(value.bytes, value.size, seed);
}

uint64_t metarow_stored_check(struct slice stored)
{
    uint64_t check = 0;
    if (stored.size >= METAROW_CHECK_SIZE)
        memcpy(&check, stored.bytes + stored.size - METAROW_CHECK_SIZE, sizeof check);
    return check;
}

bool metarow_open(enum metarow_table table, struct slice key, struct slice stored,
                  struct slice *ret_value)
{
    if (stored.size < METAROW_CHECK_SIZE)
        return false;
    const struct slice value = slice_of(stored.bytes, stored.size - METAROW_CHECK_SIZE);
    if (metarow_check(table, key, value) != metarow_stored_check(stored))
        return false;
    *ret_value = value;
    return true;
}

static uint64_t state_check(const struct metarow_state *state)
{
    return XXH3_64bits(state, offsetof(struct metarow_state, check));
}

void metarow_seal_state(struct metarow_state *state)
{
    state->check = state_check(state);
}

bool metarow_state_sound(const struct metarow_state *state)
{
    return state->version == METAROW_VERSION && state->check == state_check(state);
}
