/* Settings: `key = value` as given by a file, a variable or an argument, with where that was.
 *
 * The YAML file is flattened: `retention: {time: 3d}` becomes the setting `retention.time`.
 * Anchors, aliases, tags, several documents and lists in lists are refused. Thread: any.
 */
#pragma once

#include "base/base.h"

#define SETTING_FILE_MAX  (1024u * 1024)
#define SETTING_COUNT_MAX 4096u
#define SETTING_DEPTH_MAX 8u
#define SETTING_KEY_MAX   256u

struct setting {
    char *key;    /* dotted */
    char **items; /* one when it is no list */
    size_t item_count;
    bool is_list;
    const char *source; /* file name, variable or argument; borrowed */
    size_t line;        /* from 1; 0 = no line */
};

struct settings {
    struct setting *rows;
    size_t count;
};

/* Adds the settings of a YAML text. source: named in messages; borrowed as long as the settings.
 * Returns 0; ERR_INVALID: not such YAML (message with the line); ERR_NOMEM. */
MUST_CHECK int settings_add_yaml(struct settings *settings, const char *source, const char *text,
                                 size_t size, struct errmsg *reterr);

/* Adds `key` with a value in one line; text: see value_list for lists, which are only taken apart
 * when is_list. Returns 0; ERR_INVALID: a list that is not well-formed; ERR_FULL; ERR_NOMEM. */
MUST_CHECK int settings_add(struct settings *settings, const char *source, const char *key,
                            const char *text, bool is_list);
void settings_done(struct settings *settings);
