/* What makes a data directory this instance: its id, when it was made, and the admin token. Two
 * small files, made at the first start: `instance` and `admin.token` (readable by its owner only).
 */
#pragma once

#include "base/base.h"

#define INSTANCE_TOKEN_FILE "admin.token"

struct instance {
    char id[32];         /* "mqtt-" and twelve hexadecimal digits */
    char token[65];      /* 64 hexadecimal digits */
    uint64_t created_ms; /* wall clock */
};

/* Reads the two files, making what is missing. Blocking. Returns 0; ERR_CORRUPT: a file is not of
 * its form; -errno. Thread: any. */
MUST_CHECK int instance_open(const char *data_dir, uint64_t now_ms, struct instance *ret_instance,
                             struct errmsg *reterr);
