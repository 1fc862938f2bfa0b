/* What the subjects share: a check that ends the process, and marks. */
#pragma once

#include <dlfcn.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            (void)fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, #condition,               \
                          strerror(errno));                                                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Tells the recorder, when there is one, what is promised from here on. */
static inline void mark(uint64_t value)
{
    void (*pf_mark)(uint64_t) = (void (*)(uint64_t))dlsym(RTLD_DEFAULT, "pf_mark");
    if (pf_mark)
        pf_mark(value);
}
