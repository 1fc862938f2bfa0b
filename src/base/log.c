/* One line is one write(2) under the lock, so lines of different threads never mix. The rate limit
 * counts per kind and second; kinds are few constants, kept in a small array that is searched in
 * order. Kinds beyond the array share its last place.
 */
#include "base/log.h"

#include "base/mem.h"
#include "base/strbuf.h"
#include "base/utf8.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { KINDS_MAX = 32, MESSAGE_MAX = 1024, LINE_MAX_SIZE = 8192 };

struct log_kind {
    const char *name; /* NULL: free place */
    uint64_t second;
    uint32_t written, left_out;
};

struct log {
    int fd;
    _Atomic int format;
    _Atomic int level_min;
    uint32_t rate_max;
    log_clock_fn *clock;
    pthread_mutex_t lock; /* the rest, and the order of writes */
    struct log_kind kinds[KINDS_MAX];
};

static uint64_t monotonic_s(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec;
}

struct log *log_new(int fd, enum log_format format, enum log_level level_min, uint32_t rate_max)
{
    struct log *log = mem_new(sizeof *log);
    log->fd = fd;
    log->rate_max = rate_max;
    log->clock = monotonic_s;
    log_set(log, format, level_min);
    const int err = pthread_mutex_init(&log->lock, NULL);
    ASSERT(err == 0);
    return log;
}

void log_set(struct log *log, enum log_format format, enum log_level level_min)
{
    atomic_store_explicit(&log->format, (int)format, memory_order_relaxed);
    atomic_store_explicit(&log->level_min, (int)level_min, memory_order_relaxed);
}

void log_set_clock(struct log *log, log_clock_fn *clock)
{
    log->clock = clock;
}

static const char *level_text(enum log_level level)
{
    static const char *const texts[] = {"debug", "info", "warn", "error"};
    ASSERT((unsigned)level < ARRAY_COUNT(texts));
    return texts[level];
}

static void write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        const ssize_t written = write(fd, text, size);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return; /* diagnostics have nowhere else to go */
        text += written;
        size -= (size_t)written;
    }
}

static void add_time(struct strbuf *line)
{
    struct timespec now;
    struct tm parts;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)gmtime_r(&now.tv_sec, &parts);
    strbuf_addf(line, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ", parts.tm_year + 1900,
                parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec,
                now.tv_nsec / 1000000);
}

/* true for U+0080 to U+009F, which terminals obey like escape sequences. */
static bool is_c1(const uint8_t *at, uint32_t length)
{
    return length == 2 && at[0] == 0xc2 && at[1] < 0xa0;
}

static void add_text(struct strbuf *line, const char *text)
{
    const uint8_t *at = (const uint8_t *)text;
    size_t size = strlen(text);
    while (size > 0) {
        const uint32_t length = utf8_sequence(at, size);
        const uint32_t step = MAX(length, 1u);
        if (length == 0 || *at < 0x20 || *at == 0x7f || is_c1(at, length)) {
            for (uint32_t i = 0; i < step; i++)
                strbuf_addf(line, "\\x%02x", at[i]);
        } else {
            strbuf_add_bytes(line, at, length);
        }
        at += step;
        size -= step;
    }
}

static void write_line(struct log *log, enum log_level level, const char *kind, const char *text)
{
    char array[LINE_MAX_SIZE];
    struct strbuf line;
    strbuf_init_array(&line, array, sizeof array - 1); /* the newline always fits */
    if (atomic_load_explicit(&log->format, memory_order_relaxed) == LOG_JSON) {
        strbuf_add(&line, "{\"time\":\"");
        add_time(&line);
        strbuf_addf(&line, "\",\"level\":\"%s\",\"component\":", level_text(level));
        strbuf_add_json(&line, kind, strlen(kind));
        strbuf_add(&line, ",\"message\":");
        strbuf_add_json(&line, text, strlen(text));
        strbuf_add(&line, "}");
    } else {
        add_time(&line);
        strbuf_addf(&line, " %s %s: ", level_text(level), kind);
        add_text(&line, text);
    }
    ASSERT(strbuf_err(&line) == 0);
    array[line.size] = '\n';
    write_all(log->fd, array, line.size + 1);
}

static struct log_kind *find_kind(struct log *log, const char *name)
{
    size_t i = 0;
    while (i < KINDS_MAX - 1 && log->kinds[i].name && strcmp(log->kinds[i].name, name) != 0)
        i++;
    if (!log->kinds[i].name)
        log->kinds[i].name = name;
    return &log->kinds[i];
}

/* Starts a new second for a kind, after telling what the last one left out. */
static void kind_turn(struct log *log, struct log_kind *kind, uint64_t second)
{
    if (kind->left_out > 0) {
        char text[64];
        (void)snprintf(text, sizeof text, "%u more lines left out", kind->left_out);
        write_line(log, LOG_WARN, kind->name, text);
    }
    kind->second = second;
    kind->written = kind->left_out = 0;
}

static void sum_up(struct log *log, uint64_t second)
{
    for (size_t i = 0; i < KINDS_MAX && log->kinds[i].name; i++) {
        if (log->kinds[i].second != second)
            kind_turn(log, &log->kinds[i], second);
    }
}

void log_sum_up(struct log *log)
{
    if (!log)
        return;
    (void)pthread_mutex_lock(&log->lock);
    sum_up(log, log->clock());
    (void)pthread_mutex_unlock(&log->lock);
}

void log_write(struct log *log, enum log_level level, const char *kind, const char *fmt, ...)
{
    if (!log || (int)level < atomic_load_explicit(&log->level_min, memory_order_relaxed))
        return;
    char text[MESSAGE_MAX];
    va_list ap;
    va_start(ap, fmt);
    const int size = vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    ASSERT(size >= 0);
    if (size >= (int)sizeof text)
        text[sizeof text - 2] = '~';

    (void)pthread_mutex_lock(&log->lock);
    const uint64_t second = log->clock();
    struct log_kind *state = find_kind(log, kind);
    sum_up(log, second);
    if (state->written < log->rate_max) {
        state->written++;
        write_line(log, level, kind, text);
    } else {
        state->left_out++;
    }
    (void)pthread_mutex_unlock(&log->lock);
}

struct log *log_free(struct log *log)
{
    if (!log)
        return NULL;
    sum_up(log, UINT64_MAX);
    (void)pthread_mutex_destroy(&log->lock);
    mem_free(log);
    return NULL;
}
