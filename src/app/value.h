/* Values as people write them in configuration: counts, sizes, durations, switches.
 *
 * Sizes: a number and a unit, `B`, `KiB`, `MiB`, `GiB`, `TiB` or short `K`, `M`, `G`, `T` (powers
 * of 1024), `KB`, `MB`, `GB`, `TB` (powers of 1000); without a unit bytes are meant. Durations:
 * numbers with `ms`, `s`, `m`, `h`, `d` or `w`, largest first when there are several (`1h30m`);
 * only 0 needs no unit. Upper and lower case are the same in sizes. Thread: any.
 */
#pragma once

#include "base/base.h"
#include "base/strbuf.h"

/* All return 0, or ERR_INVALID: not of that form, or too large for 64 bits. */
MUST_CHECK int value_count(const char *text, uint64_t *ret_count);
MUST_CHECK int value_size(const char *text, uint64_t *ret_bytes);
MUST_CHECK int value_duration(const char *text, uint64_t *ret_ms);
/* true, false, yes, no, on, off. */
MUST_CHECK int value_bool(const char *text, bool *ret_value);

/* A list as it is written in one line: `[a, b]`, or `a` alone; items may be in single or double
 * quotes, and brackets inside an item (`[::1]`) must pair up. Calls `each` for every item, borrowed
 * for the call; stops with what it returns when that is < 0. Returns 0 or ERR_INVALID. */
typedef int value_item_fn(void *data, const char *item);
MUST_CHECK int value_list(const char *text, value_item_fn *each, void *data);

/* Adds a size or duration in the largest unit that gives a whole number. */
void value_add_size(struct strbuf *out, uint64_t bytes);
void value_add_duration(struct strbuf *out, uint64_t ms);
