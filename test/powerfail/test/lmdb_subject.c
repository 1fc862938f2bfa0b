/* LMDB alone, as the referee of the simulator: it must survive every crash image, and must not
 * when syncs are ignored.
 *
 *   lmdb_subject              commits transactions in $PF_DIR and marks each
 *   lmdb_subject OUTDIR MARK  opens one crash image and checks all it holds
 *
 * Transaction n sets "last" to n and rewrites KEYS_PER_TXN of KEY_COUNT keys, so that pages are
 * freed and used again; the whole content follows from n.
 */
#include "subject.h"

#include <fcntl.h>
#include <lmdb.h>
#include <stdbool.h>
#include <unistd.h>

#define TXN_COUNT    600u
#define KEY_COUNT    400u
#define KEYS_PER_TXN 12u
#define MAP_SIZE     (16u << 20)

static uint64_t key_of(uint64_t txn, uint64_t index)
{
    return (txn * 7919 + index * 104729) % KEY_COUNT;
}

/* The value of a key after transaction `txn` wrote it: its length and bytes vary. */
static size_t fill_value(char *value, uint64_t key, uint64_t txn)
{
    const size_t size = 24 + (size_t)((key * 31 + txn * 17) % 900);
    memset(value, (int)(key ^ txn), size);
    (void)snprintf(value, 24, "%llu", (unsigned long long)txn);
    return size;
}

static MDB_env *open_env(const char *dir)
{
    MDB_env *env;
    CHECK(mdb_env_create(&env) == 0);
    CHECK(mdb_env_set_mapsize(env, MAP_SIZE) == 0);
    return mdb_env_open(env, dir, 0, 0644) == 0 ? env : NULL;
}

static void put(MDB_txn *txn, MDB_dbi dbi, uint64_t key, const void *data, size_t size)
{
    MDB_val name = {sizeof key, &key};
    MDB_val value = {size, (void *)data};
    CHECK(mdb_put(txn, dbi, &name, &value, 0) == 0);
}

static void sync_dir(const char *dir)
{
    const int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    CHECK(fd >= 0 && fsync(fd) == 0 && close(fd) == 0);
}

static void fill(const char *dir)
{
    MDB_env *env = open_env(dir);
    CHECK(env);
    sync_dir(dir);
    for (uint64_t n = 1; n <= TXN_COUNT; n++) {
        MDB_txn *txn;
        MDB_dbi dbi;
        char value[1024];
        CHECK(mdb_txn_begin(env, NULL, 0, &txn) == 0 && mdb_dbi_open(txn, NULL, 0, &dbi) == 0);
        for (uint64_t i = 0; i < KEYS_PER_TXN; i++) {
            const uint64_t key = key_of(n, i);
            put(txn, dbi, key, value, fill_value(value, key, n));
        }
        put(txn, dbi, KEY_COUNT, &n, sizeof n);
        CHECK(mdb_txn_commit(txn) == 0);
        mark(n);
    }
    mdb_env_close(env);
}

/* Returns true when the database holds exactly what transaction `last` left. */
static bool holds(MDB_txn *txn, MDB_dbi dbi, uint64_t last)
{
    uint64_t written[KEY_COUNT] = {0};
    size_t count = last > 0;
    for (uint64_t n = 1; n <= last; n++) {
        for (uint64_t i = 0; i < KEYS_PER_TXN; i++)
            written[key_of(n, i)] = n;
    }
    for (uint64_t key = 0; key < KEY_COUNT; key++) {
        char value[1024];
        MDB_val name = {sizeof key, &key};
        MDB_val found;
        if (written[key] == 0)
            continue;
        count++;
        const size_t size = fill_value(value, key, written[key]);
        if (mdb_get(txn, dbi, &name, &found) != 0 || found.mv_size != size ||
            memcmp(found.mv_data, value, size) != 0)
            return false;
    }
    MDB_stat stat;
    return mdb_stat(txn, dbi, &stat) == 0 && stat.ms_entries == count;
}

static int check(const char *dir, uint64_t promised)
{
    MDB_env *env = open_env(dir);
    MDB_txn *txn;
    MDB_dbi dbi;
    if (!env)
        return promised > 0;
    CHECK(mdb_txn_begin(env, NULL, 0, &txn) == 0 && mdb_dbi_open(txn, NULL, 0, &dbi) == 0);
    const uint64_t key = KEY_COUNT;
    MDB_val name = {sizeof key, (void *)&key};
    MDB_val value;
    uint64_t last = 0;
    if (mdb_get(txn, dbi, &name, &value) == 0 && value.mv_size == sizeof last)
        memcpy(&last, value.mv_data, sizeof last);
    CHECK(last >= promised && holds(txn, dbi, last));

    /* The free list must be sound, too: the next transaction works. */
    put(txn, dbi, KEY_COUNT, &last, sizeof last);
    CHECK(mdb_txn_commit(txn) == 0);
    mdb_env_close(env);
    return 0;
}

int main(int argc, char **argv)
{
    CHECK(argc == 1 || argc == 3);
    if (argc == 3)
        return check(argv[1], strtoull(argv[2], NULL, 10));
    CHECK(getenv("PF_DIR"));
    fill(getenv("PF_DIR"));
    return 0;
}
