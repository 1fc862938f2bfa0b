/* Diagnostics: text or JSON lines on stderr, rate-limited per call site kind, never secrets or
 * payloads. A `struct log` is created by app and handed down; there is no global one.
 * Thread: any. */
#pragma once

#include "base/base.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };
enum log_format { LOG_TEXT, LOG_JSON };

struct log;

/* fd: borrowed. Lines beyond `rate_max` per second and kind are counted and summed up in one line. */
struct log *log_new(int fd, enum log_format format, enum log_level level_min, uint32_t rate_max);
struct log *log_free(struct log *log); /* NULL is fine */
void log_set(struct log *log, enum log_format format, enum log_level level_min);

/* Writes one line. `kind`: a short constant like "conn" or "store", the unit of rate limiting and the
 * JSON field "component". Control characters in the text are escaped. log may be NULL (silent). */
void log_write(struct log *log, enum log_level level, const char *kind, const char *fmt, ...)
    PRINTF(4, 5);
