/* How rows lie in the database, beyond what LMDB makes of them.
 *
 * LMDB does not checksum its pages. So every value of the tables "rows" and "queues" ends with a
 * checksum over table, key and value, and the one row of the table "state" holds the sum of them
 * all: a changed row shows by itself, a lost, doubled or outdated one in the sum. The state row
 * names its transaction, which tells the two snapshots that LMDB keeps from each other, and has a
 * checksum of its own.
 *
 * Everything here is pure. Thread: any.
 */
#pragma once

#include "base/buf.h"

#define METAROW_VERSION    2u
#define METAROW_CHECK_SIZE 8u
/* The state row of version 1, which had no checksums. */
#define METAROW_STATE_1_SIZE 32u
#define METAROW_STATE_KEY    "state"
#define METAROW_LOST_KEY     "lost" /* beside the state: what was given up, see metadb.h */

enum metarow_table { METAROW_ROWS = 1, METAROW_QUEUES = 2, METAROW_LOST = 3 };

/* The one row of the table "state". */
struct metarow_state {
    uint64_t version;
    uint64_t secret; /* keys the hashes of long keys */
    uint64_t applied;
    uint64_t trimmed;
    uint64_t txn_id; /* LMDB's number of the transaction that wrote it */
    uint64_t digest; /* sum of the checksums of all rows of the other tables */
    uint64_t check;  /* of everything before it */
};
_Static_assert(sizeof(struct metarow_state) == 56, "written as it lies in memory");

/* Checksum of a row: of its key as LMDB has it, and of its value without the checksum. */
uint64_t metarow_check(enum metarow_table table, struct slice key, struct slice value);

/* The checksum at the end of a stored value; 0 when the value is too short to have one. */
uint64_t metarow_stored_check(struct slice stored);

/* The stored value without its checksum; false when it does not carry the right one. */
bool metarow_open(enum metarow_table table, struct slice key, struct slice stored,
                  struct slice *ret_value);

void metarow_seal_state(struct metarow_state *state);
bool metarow_state_sound(const struct metarow_state *state);
