/* The model engine: everything in memory, completions when the test says so, faults on request.
 *
 * Requests are completed strictly in the order of submission, by mem_store_step or, once attached
 * to a loop, at the end of its iterations; but when an append fails, those behind it do at the same
 * time. A crash keeps what was acknowledged as durable and loses
 * all else, so that whoever counts on more than the contract promises is found out.
 */
#pragma once

#include "io/loop.h"
#include "store/store.h"

/* Returns 0. */
MUST_CHECK int mem_store_open(struct store **ret_store, struct meta **ret_meta);

/* Completes everything pending at the end of each iteration of the loop from now on. loop: borrowed
 * until store_close or mem_store_crash. */
void mem_store_attach(struct store *store, struct loop *loop);

/* Completes up to `n` pending requests in order, calling their dones. Returns how many were. */
uint32_t mem_store_step(struct store *store, uint32_t n);
/* Pending requests. */
uint32_t mem_store_pending(const struct store *store);
/* Makes the nth append from now fail with `err` (n from 1; 0 = none), and with it those that are
 * submitted until it is completed. */
void mem_store_fail_append(struct store *store, uint32_t n, int err);
/* Appends that failed so far, or will when they are completed, or were refused because of that. */
uint32_t mem_store_failed(const struct store *store);
/* true when there are some that have not been told yet. */
bool mem_store_failing(const struct store *store);
/* Makes every read complete later instead of at once (true), or at once where possible. */
void mem_store_slow_reads(struct store *store, bool slow);
/* Drops what is not acknowledged and everything pending, as kill -9 would, and gives the durable
 * rest as a new store; the old one is freed. sync_lazy: lazily written records survive too. Results
 * of reads not yet released are freed with it; no done is called. */
void mem_store_crash(struct store **store, struct meta **meta, bool sync_lazy);
/* Frees messages below `position`, after asking the watcher, as retention would. Nothing happens
 * while the watcher has not answered the last time. */
void mem_store_trim(struct store *store, uint64_t position);
/* Makes appends be refused from now on (reads go on), or taken again; tells the watcher. */
void mem_store_set_writable(struct store *store, bool writable);
/* Bytes pending above which store_pressure says true; four times as many are refused (32 MiB). */
void mem_store_set_pressure(struct store *store, uint64_t bytes);
