/* The engine `mem` for trials: everything in memory, lost when the server ends. store/mem completes
 * requests only when told to; this wraps it so that they complete at the end of each iteration of
 * the loop. */
#pragma once

#include "io/loop.h"
#include "store/store.h"

/* loop: borrowed until store_close. Returns 0 or as mem_store_open. */
MUST_CHECK int trial_store_open(struct loop *loop, struct store **ret_store,
                                struct meta **ret_meta);
