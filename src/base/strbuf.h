/* Growable text with a maximum size, for JSON, metrics and log lines.
 *
 * The first failure sticks: later additions do nothing, and strbuf_err or strbuf_take tell. So a
 * caller adds everything and checks once. Thread: owner.
 */
#pragma once

#include "base/base.h"

struct strbuf {
    char *text;      /* always NUL-terminated once something was added; NULL before */
    size_t size;     /* without the NUL */
    size_t room;     /* bytes allocated */
    size_t size_max; /* most bytes of text */
    int err;         /* 0, ERR_FULL or ERR_NOMEM */
    bool text_lent;  /* text is the caller's array: never grown, never freed */
};

void strbuf_init(struct strbuf *strbuf, size_t size_max);

/* Writes into the caller's array of `room` bytes, at least one, instead of the heap; what does not
 * fit is cut, and strbuf_err gives ERR_FULL. The text stays valid as long as the array. */
void strbuf_init_array(struct strbuf *strbuf, char *array, size_t room);
void strbuf_done(struct strbuf *strbuf);

void strbuf_add(struct strbuf *strbuf, const char *text);
void strbuf_add_bytes(struct strbuf *strbuf, const void *bytes, size_t size);
void strbuf_addf(struct strbuf *strbuf, const char *fmt, ...) PRINTF(2, 3);

/* Adds a quoted JSON string. Control characters are escaped, bytes that are not UTF-8 become
 * U+FFFD, so that the result is valid JSON whatever the input. */
void strbuf_add_json(struct strbuf *strbuf, const void *bytes, size_t size);

/* 0, or ERR_FULL: size_max reached; ERR_NOMEM: out of memory. */
MUST_CHECK int strbuf_err(const struct strbuf *strbuf);

/* Hands the text over (mem_free it) and empties the strbuf, which may be filled again. Returns
 * strbuf_err; on failure the strbuf is left as it is. Not for one over a caller's array. */
MUST_CHECK int strbuf_take(struct strbuf *strbuf, char **ret_text, size_t *ret_size);
