/* Tables of text with aligned columns. Cells come from clients: control characters are shown as
 * \xNN, so that no client ID can drive a terminal. Thread: owner.
 */
#pragma once

#include "base/base.h"

#define TABLE_COLUMNS_MAX 8u

struct table {
    const char *const *heads; /* column names, NULL at the end; borrowed */
    size_t column_count;
    char **cells;
    size_t cell_count;
    bool failed; /* out of memory */
};

void table_init(struct table *table, const char *const *heads);
void table_done(struct table *table);

/* The next cell, row by row. */
void table_add(struct table *table, const char *text);
void table_add_bytes(struct table *table, const char *bytes, size_t size);
void table_addf(struct table *table, const char *fmt, ...) PRINTF(2, 3);
/* Bytes as people read them: "12.3 MiB". */
void table_add_size(struct table *table, uint64_t bytes);
/* A length of time: "3d 4h", "12s". */
void table_add_duration(struct table *table, uint64_t ms);
/* A moment, UTC; "-" for 0. */
void table_add_time(struct table *table, uint64_t ms);

/* Prints the heads (unless the first is empty) and all rows. Returns 0, or ERR_NOMEM. */
MUST_CHECK int table_print(const struct table *table);
