/* The model engine: everything in memory, completions when the test says so, faults on request. */
#pragma once

#include "store/store.h"

MUST_CHECK int mem_store_open(struct store **ret_store, struct meta **ret_meta);

/* Completes up to `n` pending requests in order, calling their dones. Returns how many were. */
uint32_t mem_store_step(struct store *store, uint32_t n);
/* Pending requests. */
uint32_t mem_store_pending(const struct store *store);
/* Makes the nth append from now fail with `err` (n from 1; 0 = none). */
void mem_store_fail_append(struct store *store, uint32_t n, int err);
/* Makes every read complete later instead of at once (true), or at once where possible. */
void mem_store_slow_reads(struct store *store, bool slow);
/* Drops what is not acknowledged and everything pending, as kill -9 would, and gives the durable
 * rest as a new store; the old one is freed. sync_lazy: lazily written records survive too. */
void mem_store_crash(struct store **store, struct meta **meta, bool sync_lazy);
/* Frees messages below `position`, after asking the watcher, as retention would. */
void mem_store_trim(struct store *store, uint64_t position);
void mem_store_set_writable(struct store *store, bool writable);
