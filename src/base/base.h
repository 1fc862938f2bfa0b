/* What every file may rely on: result codes, assertions, cleanup. No I/O, no threads. */
#pragma once

#include "base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MUST_CHECK                    __attribute__((warn_unused_result))
#define CLEANUP(fn)                   __attribute__((cleanup(fn)))
#define PRINTF(fmt, va)               __attribute__((format(printf, fmt, va)))
#define ASSERT(c)                     ((c) ? (void)0 : base_panic(__FILE__, __LINE__, #c))
#define ARRAY_COUNT(a)                (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)                     ((a) < (b) ? (a) : (b))
#define MAX(a, b)                     ((a) > (b) ? (a) : (b))
#define CONTAINER_OF(p, type, member) ((type *)((char *)(p)-offsetof(type, member)))

/* Moves a pointer out of a CLEANUP variable. */
#define TAKE(p)                                                                                    \
    ({                                                                                             \
        __auto_type taken_ = (p);                                                                  \
        (p) = NULL;                                                                                \
        taken_;                                                                                    \
    })

/* Prints the failed condition with its place on stderr and aborts. Thread: any. */
_Noreturn void base_panic(const char *file, int line, const char *expr);
