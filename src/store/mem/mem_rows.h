/* Rows of the model engine's metadata: a skip list ordered by key. A row is made apart from the
 * list, so that changing the list needs no memory. Thread: owner. */
#pragma once

#include "store/meta.h"

struct mem_rows;
struct mem_row;

struct mem_rows *mem_rows_new(void);
struct mem_rows *mem_rows_free(struct mem_rows *rows);

/* Copies key and value; `prefix` bytes are put in front of the value. NULL when out of memory. The
 * caller owns it until mem_rows_put takes it. */
MUST_CHECK struct mem_row *mem_row_new(struct slice key, struct slice prefix, struct slice value);
void mem_row_free(struct mem_row *row);

/* Takes the row, instead of one with the same key. */
void mem_rows_put(struct mem_rows *rows, struct mem_row *row);
/* Removes the row with the key of `row`, if there is one; frees `row`. */
void mem_rows_delete(struct mem_rows *rows, struct mem_row *row);
/* As meta_scan. `each` must not change the rows. */
MUST_CHECK int mem_rows_scan(const struct mem_rows *rows, struct slice prefix, meta_scan_fn *each,
                             void *data);
uint64_t mem_rows_bytes(const struct mem_rows *rows);
