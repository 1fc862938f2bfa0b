/* Result codes and error messages. 0 = success, negative = failure; <= -1000 are ours (err.def),
 * the rest are -errno. */
#pragma once

#define X(name, num, text) name = num,
enum err {
#include "base/err.def"
};
#undef X

/* A message for people, built from the inside out: each caller wraps what it knows. */
struct errmsg {
    char text[512];
};

/* Puts formatted text in front of what `msg` says, joined by ": "; cut with '~' when too long.
 * msg may be NULL. Thread: any. */
void errmsg_wrap(struct errmsg *msg, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Returns the text for one of our codes or for -errno; static storage. Thread: any. */
const char *err_text(int err);
