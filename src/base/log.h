/* Diagnostics: text or JSON lines on stderr, rate-limited per call site kind, never secrets or
 * payloads. A `struct log` is created by app and handed down; there is no global one.
 * Thread: any. */
#pragma once

#include "base/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log;

/* fd: borrowed. Messages are cut at 1,023 bytes, ending in '~'. Lines beyond `rate_max` per second
 * and kind are counted and summed up in one line. */
struct log *log_new(int fd, enum log_format format, enum log_level level_min, uint32_t rate_max);
struct log *log_free(struct log *log); /* NULL is fine */
void log_set(struct log *log, enum log_format format, enum log_level level_min);

/* Writes one line. `kind`: a short constant like "conn" or "store", the unit of rate limiting and
 * the JSON field "component". Control characters in the text are escaped. log may be NULL (silent).
 */
void log_write(struct log *log, enum log_level level, const char *kind, const char *fmt, ...)
    PRINTF(4, 5);

/* Writes the lines that sum up what earlier seconds left out. Any later line and log_free do this
 * too; app calls it once a second, so that a burst before a silence is told as well. log may be
 * NULL. */
void log_sum_up(struct log *log);

/* Replaces the clock of the rate limit, in seconds. Tests only, before the first line. */
typedef uint64_t log_clock_fn(void);
void log_set_clock(struct log *log, log_clock_fn *clock);
