/* The walker against LMDB itself: what LMDB writes is sound, transaction after transaction; what is
 * damaged is found, or makes no difference to anybody. */
#include "store/local/local_fixture.h"

#include "store/local/metadb.h"
#include "store/local/metawalk.h"

#include <lmdb.h>
#include <sys/stat.h>

enum { KEY_COUNT = 300, ROUNDS = 120, VALUE_MAX = 6000, STEP = 5, OPEN_EVERY = 151 };

struct bed {
    char dir[64];
    struct metadb *db;
    struct metadb_state state;
    uint64_t seed;
    uint64_t applied;
};

struct findings {
    uint32_t count;
    uint64_t offset;
    char what[160];
};

static void on_found(void *data, uint64_t offset, const char *what)
{
    struct findings *findings = data;
    if (findings->count++ == 0) {
        findings->offset = offset;
        (void)snprintf(findings->what, sizeof findings->what, "%s", what);
    }
}

static uint64_t draw(struct bed *bed, uint64_t below)
{
    bed->seed = bed->seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (bed->seed >> 33) % below;
}

static int open_db(struct bed *bed)
{
    struct errmsg why = {0};
    return metadb_open(bed->dir, &bed->db, &bed->state, &why);
}

static int set_up(void **state)
{
    struct bed *bed = mem_new(sizeof *bed);
    bed->seed = 1;
    bed->applied = 4096;
    fixture_new_dir(bed->dir);
    assert_int_equal(open_db(bed), 0);
    *state = bed;
    return 0;
}

static int tear_down(void **state)
{
    struct bed *bed = *state;
    (void)metadb_close(bed->db);
    fixture_remove_dir(AT_FDCWD, bed->dir);
    mem_free(bed);
    return 0;
}

static int open_file(const struct bed *bed)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", bed->dir, METADB_FILE_NAME);
    const int fd = open(path, O_RDWR);
    assert_true(fd >= 0);
    return fd;
}

static int verify(const struct bed *bed, struct findings *ret_findings)
{
    *ret_findings = (struct findings){0};
    const struct metawalk_events events = {.found = on_found, .data = ret_findings};
    struct metawalk_summary summary;
    struct errmsg why = {0};
    const int fd = open_file(bed);
    const int err = metawalk_verify(fd, &events, &summary, &why);
    (void)close(fd);
    assert_int_equal(err == ERR_CORRUPT, ret_findings->count > 0);
    return err;
}

static void change(struct bed *bed, struct overlay *overlay)
{
    static uint8_t bytes[64 * 1024] __attribute__((aligned(8)));
    static uint8_t value[VALUE_MAX];
    char key[700];
    const uint64_t n = draw(bed, KEY_COUNT);
    memset(key, 'k', sizeof key);
    const int size = snprintf(key, sizeof key, "%03d", (int)n);
    const bool is_long = n % 10 == 0; /* long keys go by their hash */
    const bool is_big = draw(bed, 12) == 0;
    key[size] = 'x';
    memset(value, (int)draw(bed, 256), sizeof value);
    const struct meta_op op = {
        .kind = draw(bed, 3) == 0 ? META_DELETE : META_PUT,
        .key = slice_of(key, is_long ? 600 : 20 + n % 30),
        .value = slice_of(value, is_big ? draw(bed, VALUE_MAX) : draw(bed, 200)),
    };
    const struct store_append req = {.ops = &op, .op_count = 1};
    record_write(bytes, &req, 4096, 1);
    const struct record record = record_view(bytes, NULL);
    assert_int_equal(overlay_apply(overlay, &record), 0);
}

static void commit_some(struct bed *bed, uint64_t count)
{
    struct overlay overlay;
    struct errmsg why = {0};
    overlay_init(&overlay);
    for (uint64_t i = 0; i < count; i++)
        change(bed, &overlay);
    struct overlay_row **rows = overlay_sorted(&overlay);
    bed->applied += 8;
    assert_int_equal(metadb_commit(bed->db, rows, overlay.rows.count, bed->applied, &why), 0);
    mem_free(rows);
    overlay_clear(&overlay);
}

static void trim_some(struct bed *bed)
{
    struct metadb_base bases[20];
    struct errmsg why = {0};
    for (uint32_t i = 0; i < ARRAY_COUNT(bases); i++)
        bases[i] = (struct metadb_base){.queue_id = 1 + i, .first_seq = bed->applied + i};
    assert_int_equal(metadb_trim(bed->db, bases, ARRAY_COUNT(bases), bed->applied - 4096, 0, &why),
                     0);
}

/* Pages are taken, freed, split, merged and used again; not one is ever lost. */
static void what_lmdb_writes_is_sound(void **state)
{
    struct bed *bed = *state;
    struct findings findings;
    assert_int_equal(verify(bed, &findings), 0);
    for (int round = 0; round < ROUNDS; round++) {
        commit_some(bed, 1 + draw(bed, 200));
        if (round % 7 == 0)
            trim_some(bed);
        const int err = verify(bed, &findings);
        if (err < 0)
            fail_msg("round %d, offset %llu: %s", round, (unsigned long long)findings.offset,
                     findings.what);
        if (round % 10 == 0) {
            bed->db = metadb_close(bed->db);
            assert_int_equal(open_db(bed), 0);
        }
    }
}

static int hash_row(void *data, struct slice key, struct slice value)
{
    uint64_t *sum = data;
    const struct slice parts[] = {key, value};
    for (uint32_t i = 0; i < ARRAY_COUNT(parts); i++) {
        *sum = *sum * 31 + parts[i].size;
        for (uint32_t n = 0; n < parts[i].size; n++)
            *sum = *sum * 31 + parts[i].bytes[n];
    }
    return 0;
}

static void hash_queue(void *data, uint32_t queue_id, const struct overlay_queue *queue)
{
    uint64_t *sum = data;
    *sum = (*sum * 31 + queue_id) * 31 + queue->first_seq;
}

/* All that LMDB says when it is asked. */
static uint64_t contents(struct bed *bed)
{
    uint64_t sum = bed->state.applied * 31 + bed->state.trimmed;
    assert_int_equal(meta_scan(metadb_meta(bed->db), slice_of("", 0), hash_row, &sum), 0);
    assert_int_equal(metadb_queues(bed->db, hash_queue, &sum), 0);
    return sum;
}

static void flip(int fd, uint64_t offset)
{
    uint8_t byte = 0;
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= (uint8_t)(1u << (offset * 5 % 8));
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
}

/* A bit of every fifth byte: it is found, or LMDB gives the same rows and goes on writing soundly.
 */
static void a_flipped_bit_is_found_or_is_nobodys(void **state)
{
    struct bed *bed = *state;
    for (int round = 0; round < 4; round++)
        commit_some(bed, 60);
    trim_some(bed);
    bed->db = metadb_close(bed->db);
    assert_int_equal(open_db(bed), 0);
    const uint64_t whole = contents(bed);
    bed->db = metadb_close(bed->db);
    const int fd = open_file(bed);
    struct stat stat;
    assert_int_equal(fstat(fd, &stat), 0);
    const size_t size = (size_t)stat.st_size;
    uint8_t *kept = mem_new(size);
    assert_int_equal(pread(fd, kept, size, 0), size);
    uint64_t sound = 0, found = 0;
    for (uint64_t offset = 0; offset < size; offset += STEP) {
        struct findings findings;
        flip(fd, offset);
        if (verify(bed, &findings) < 0) {
            found++;
            assert_true(findings.offset <= size);
        } else if (sound++ % OPEN_EVERY == 0) {
            assert_int_equal(open_db(bed), 0);
            if (contents(bed) != whole)
                fail_msg("the bit at offset %llu changes rows", (unsigned long long)offset);
            commit_some(bed, 5);
            bed->db = metadb_close(bed->db);
            if (verify(bed, &findings) < 0)
                fail_msg("after the bit at offset %llu: %s", (unsigned long long)offset,
                         findings.what);
            assert_int_equal(ftruncate(fd, (off_t)size), 0);
            assert_int_equal(pwrite(fd, kept, size, 0), size);
            continue;
        }
        flip(fd, offset);
    }
    assert_true(found > size / STEP / 8);
    assert_int_equal(open_db(bed), 0);
    assert_true(contents(bed) == whole);
    mem_free(kept);
    (void)close(fd);
}

/* Cut off anywhere, or with a page of something else: found where it is. */
static void a_page_that_is_not_there_is_found(void **state)
{
    struct bed *bed = *state;
    for (int round = 0; round < 6; round++)
        commit_some(bed, 60);
    bed->db = metadb_close(bed->db);
    const int fd = open_file(bed);
    struct stat stat;
    assert_int_equal(fstat(fd, &stat), 0);
    const size_t size = (size_t)stat.st_size, page = (size_t)sysconf(_SC_PAGESIZE);
    uint8_t *kept = mem_new(size), *junk = mem_new(page);
    assert_int_equal(pread(fd, kept, size, 0), size);
    struct findings findings;
    for (size_t cut = 0; cut < size; cut += 777) {
        assert_int_equal(ftruncate(fd, (off_t)cut), 0);
        if (cut < 2 * page)
            assert_int_equal(verify(bed, &findings), ERR_CORRUPT);
        else if (verify(bed, &findings) == 0) /* free pages only */
            assert_true(size - cut <= 16 * page);
        assert_int_equal(pwrite(fd, kept, size, 0), size);
    }
    uint32_t zeroed = 0, swapped = 0;
    for (size_t at = 0; at + page < size; at += page) {
        assert_int_equal(pwrite(fd, junk, page, (off_t)at), page);
        zeroed += verify(bed, &findings) == ERR_CORRUPT;
        assert_int_equal(pwrite(fd, kept + at + page, page, (off_t)at), page);
        swapped += verify(bed, &findings) == ERR_CORRUPT;
        assert_int_equal(pwrite(fd, kept + at, page, (off_t)at), page);
    }
    assert_true(zeroed > size / page / 3);
    assert_int_equal(zeroed, swapped);
    assert_int_equal(verify(bed, &findings), 0);
    mem_free(kept);
    mem_free(junk);
    (void)close(fd);
}

/* A page as it was some transactions ago: every byte of it is sound, only the sum tells. */
static void an_outdated_page_is_found(void **state)
{
    struct bed *bed = *state;
    for (int round = 0; round < 3; round++)
        commit_some(bed, 300);
    const int fd = open_file(bed);
    struct findings findings;
    uint32_t told = 0;
    for (int round = 0; round < 20; round++) {
        struct stat stat;
        assert_int_equal(fstat(fd, &stat), 0);
        const size_t size = (size_t)stat.st_size, page = (size_t)sysconf(_SC_PAGESIZE);
        uint8_t *before = mem_new(size), *after = mem_new(size);
        assert_int_equal(pread(fd, before, size, 0), size);
        commit_some(bed, 30);
        commit_some(bed, 30);
        commit_some(bed, 30);
        assert_int_equal(pread(fd, after, size, 0), size);
        for (size_t at = 2 * page; at < size; at += page) {
            if (memcmp(before + at, after + at, page) == 0)
                continue;
            assert_int_equal(pwrite(fd, before + at, page, (off_t)at), page);
            told += verify(bed, &findings) == ERR_CORRUPT;
            assert_int_equal(pwrite(fd, after + at, page, (off_t)at), page);
        }
        assert_int_equal(verify(bed, &findings), 0);
        mem_free(before);
        mem_free(after);
    }
    assert_true(told > 100);
    (void)close(fd);
}

static void the_start_refuses_with_file_and_offset(void **state)
{
    struct bed *bed = *state;
    commit_some(bed, 100);
    bed->db = metadb_close(bed->db);
    const int fd = open_file(bed);
    flip(fd, 16); /* LMDB's own magic number */
    struct errmsg why = {0};
    assert_int_equal(metadb_open(bed->dir, &bed->db, &bed->state, &why), ERR_CORRUPT);
    assert_non_null(strstr(why.text, "'data.mdb' at offset 0"));
    flip(fd, 16);
    (void)close(fd);
    assert_int_equal(open_db(bed), 0);
}

/* As a build before the checksums wrote it. */
static void an_earlier_format_is_named(void **state)
{
    struct bed *bed = *state;
    bed->db = metadb_close(bed->db);
    fixture_remove_dir(AT_FDCWD, bed->dir);
    assert_int_equal(mkdir(bed->dir, 0750), 0);
    MDB_env *env = NULL;
    MDB_txn *txn = NULL;
    assert_int_equal(mdb_env_create(&env), 0);
    assert_int_equal(mdb_env_set_maxdbs(env, 4), 0);
    assert_int_equal(mdb_env_set_mapsize(env, METADB_MAP_SIZE), 0);
    assert_int_equal(mdb_env_open(env, bed->dir, 0, 0640), 0);
    assert_int_equal(mdb_txn_begin(env, NULL, 0, &txn), 0);
    const char *const names[] = {"rows", "queues", "state"};
    MDB_dbi table = 0;
    for (uint32_t i = 0; i < ARRAY_COUNT(names); i++)
        assert_int_equal(mdb_dbi_open(txn, names[i], MDB_CREATE, &table), 0);
    uint64_t row[4] = {1, 2, 4096, 0};
    MDB_val key = {.mv_size = 5, .mv_data = (void *)(uintptr_t) "state"};
    MDB_val value = {.mv_size = sizeof row, .mv_data = row};
    assert_int_equal(mdb_put(txn, table, &key, &value, 0), 0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    mdb_env_close(env);
    struct errmsg why = {0};
    assert_int_equal(metadb_open(bed->dir, &bed->db, &bed->state, &why), ERR_CORRUPT);
    assert_non_null(strstr(why.text, "an earlier build"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_lmdb_writes_is_sound, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_bit_is_found_or_is_nobodys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_page_that_is_not_there_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_outdated_page_is_found, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_earlier_format_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_start_refuses_with_file_and_offset, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
