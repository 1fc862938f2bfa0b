#include "auth/glob.h"

#include "base/utf8.h"

#include <string.h>

#define GLOB_SIZE_MAX 1024u

/* Bytes of the character at `at`: of text that is no UTF-8, one. */
static uint32_t character_size(struct slice text, uint32_t at)
{
    const uint32_t size = utf8_sequence(text.bytes + at, text.size - at);
    return size > 0 ? size : 1;
}

/* On a mismatch the last GLOB_ANY takes one byte more; earlier ones need not be tried again. */
bool glob_matches(struct slice glob, struct slice text)
{
    uint32_t g = 0, t = 0, any = UINT32_MAX, any_text = 0;
    while (t < text.size) {
        if (g < glob.size && glob.bytes[g] == GLOB_ANY) {
            any = ++g;
            any_text = t;
        } else if (g < glob.size && glob.bytes[g] == GLOB_ONE) {
            t += character_size(text, t);
            g++;
        } else if (g < glob.size && glob.bytes[g] == text.bytes[t]) {
            g++;
            t++;
        } else if (any != UINT32_MAX) {
            g = any;
            t = ++any_text;
        } else {
            return false;
        }
    }
    while (g < glob.size && glob.bytes[g] == GLOB_ANY)
        g++;
    return g == glob.size;
}

/* Where in the glob one may be, having read a part of some name: `at[i]`: in front of byte i. */
struct places {
    uint32_t size; /* of the glob; at[size]: behind it */
    bool any;      /* there is one */
    bool at[GLOB_SIZE_MAX + 1];
};

/* GLOB_ANY may stand for nothing. */
static void places_close(struct slice glob, struct places *places)
{
    for (uint32_t i = 0; i < places->size; i++) {
        if (places->at[i] && glob.bytes[i] == GLOB_ANY)
            places->at[i + 1] = true;
    }
}

static void places_read(struct slice glob, struct places *places, uint8_t byte)
{
    places->any = false;
    for (uint32_t i = places->size; i > 0; i--) {
        const bool here = places->at[i] && i < places->size && glob.bytes[i] == GLOB_ANY;
        places->at[i] = here || (places->at[i - 1] && glob.bytes[i - 1] == byte);
        places->any |= places->at[i];
    }
    places->at[0] = places->at[0] && glob.size > 0 && glob.bytes[0] == GLOB_ANY;
    places->any |= places->at[0];
    places_close(glob, places);
}

/* Some characters of one level, perhaps none. */
static void places_read_level(struct slice glob, struct places *places)
{
    for (uint32_t i = 0; i < places->size; i++) {
        if (places->at[i] && glob.bytes[i] != '/')
            places->at[i + 1] = true;
    }
}

static bool overlaps(struct slice glob, struct slice filter)
{
    struct places places = {.size = glob.size, .any = true};
    places.at[0] = true;
    places_close(glob, &places);
    for (uint32_t i = 0; i < filter.size && places.any; i++) {
        const uint8_t byte = filter.bytes[i];
        if (byte == '#')
            return true; /* it can become whatever the glob still wants */
        if (byte == '+')
            places_read_level(glob, &places);
        else
            places_read(glob, &places, byte);
    }
    return places.any && places.at[glob.size];
}

/* `a/#` matches "a" too. */
static bool ends_above(struct slice glob, struct slice filter)
{
    const uint32_t size = filter.size;
    return size >= 3 && filter.bytes[size - 1] == '#' &&
           overlaps(glob, slice_of(filter.bytes, size - 2));
}

bool glob_overlaps(struct slice glob, struct slice filter)
{
    ASSERT(glob.size <= GLOB_SIZE_MAX);
    const bool wild = filter.size > 0 && (filter.bytes[0] == '+' || filter.bytes[0] == '#');
    if (wild && glob.size > 0 && glob.bytes[0] == '$')
        return false; /* [MQTT3-4.7.2-1] [MQTT5-4.7.2-1] */
    return overlaps(glob, filter) || ends_above(glob, filter);
}
