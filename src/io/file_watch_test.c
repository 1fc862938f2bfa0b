#include "io/file_watch.h"

#include "base/mem.h"
#include "base/unit.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct room {
    char folder[64];
    int dir;
    struct loop *loop;
    struct file_watch *watch;
    int changes;
};

static void on_change(void *data)
{
    struct room *room = data;
    room->changes++;
}

static void write_at(const struct room *room, const char *name, const char *text)
{
    const int fd = openat(room->dir, name, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    (void)close(fd);
}

static void add(struct room *room, const char *name)
{
    char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", room->folder, name);
    assert_int_equal(file_watch_add(room->watch, path), 0);
}

static int set_up(void **state)
{
    struct room *room = mem_new(sizeof *room);
    (void)snprintf(room->folder, sizeof room->folder, "/tmp/file_watch_test.XXXXXX");
    assert_non_null(mkdtemp(room->folder));
    room->dir = open(room->folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(room->dir >= 0);
    assert_int_equal(loop_new(&room->loop, NULL), 0);
    assert_int_equal(file_watch_new(room->loop, on_change, room, &room->watch, NULL), 0);
    write_at(room, "a", "1");
    write_at(room, "b", "1");
    *state = room;
    return 0;
}

static int tear_down(void **state)
{
    struct room *room = *state;
    static const char *const names[] = {"a", "b", "c", "..data", "link", "one/a", "two/a"};
    (void)file_watch_free(room->watch);
    (void)loop_free(room->loop);
    for (size_t i = 0; i < ARRAY_COUNT(names); i++)
        (void)unlinkat(room->dir, names[i], 0);
    (void)unlinkat(room->dir, "one", AT_REMOVEDIR);
    (void)unlinkat(room->dir, "two", AT_REMOVEDIR);
    (void)close(room->dir);
    assert_int_equal(rmdir(room->folder), 0);
    mem_free(room);
    return 0;
}

/* inotify's events are there as soon as the call that caused them returns. */
static void expect(struct room *room, bool changed)
{
    assert_int_equal(loop_turn(room->loop, 0), 0);
    assert_int_equal(room->changes > 0, changed);
    room->changes = 0;
}

static void every_way_of_changing_is_seen(void **state)
{
    struct room *room = *state;
    add(room, "a");
    expect(room, false);
    write_at(room, "a", "2");
    expect(room, true);
    write_at(room, "c", "3");
    expect(room, false);
    assert_int_equal(renameat(room->dir, "c", room->dir, "a"), 0);
    expect(room, true);
    assert_int_equal(unlinkat(room->dir, "a", 0), 0);
    expect(room, true);
    write_at(room, "a", "4");
    expect(room, true);
}

static void other_files_do_not_matter(void **state)
{
    struct room *room = *state;
    add(room, "a");
    write_at(room, "b", "2");
    expect(room, false);
    add(room, "b");
    write_at(room, "b", "3");
    expect(room, true);
    file_watch_clear(room->watch);
    write_at(room, "a", "2");
    expect(room, false);
    add(room, "b");
    write_at(room, "a", "3");
    expect(room, false);
    write_at(room, "b", "4");
    expect(room, true);
}

/* Both the link and where it leads. */
static void links_are_followed(void **state)
{
    struct room *room = *state;
    assert_int_equal(mkdirat(room->dir, "one", 0700), 0);
    assert_int_equal(mkdirat(room->dir, "two", 0700), 0);
    write_at(room, "one/a", "1");
    write_at(room, "two/a", "1");
    assert_int_equal(symlinkat("one/a", room->dir, "link"), 0);
    add(room, "link");
    write_at(room, "one/a", "2");
    expect(room, true);
    assert_int_equal(symlinkat("two/a", room->dir, "c"), 0);
    assert_int_equal(renameat(room->dir, "c", room->dir, "link"), 0);
    expect(room, true);
}

/* A folder whose link to the whole is turned: the files' own names never change. */
static void a_whole_that_is_replaced_is_seen(void **state)
{
    struct room *room = *state;
    assert_int_equal(mkdirat(room->dir, "one", 0700), 0);
    write_at(room, "one/a", "1");
    assert_int_equal(symlinkat("one", room->dir, "..data"), 0);
    assert_int_equal(symlinkat("..data/a", room->dir, "link"), 0);
    add(room, "link");
    expect(room, false);
    assert_int_equal(mkdirat(room->dir, "two", 0700), 0);
    write_at(room, "two/a", "2");
    assert_int_equal(symlinkat("two", room->dir, "c"), 0);
    expect(room, false);
    assert_int_equal(renameat(room->dir, "c", room->dir, "..data"), 0);
    expect(room, true);
}

static void a_folder_that_is_not_there_is_told(void **state)
{
    struct room *room = *state;
    assert_int_equal(file_watch_add(room->watch, "/nowhere/at/all"), -ENOENT);
    char path[128];
    (void)snprintf(path, sizeof path, "%s/a/b", room->folder);
    assert_int_equal(file_watch_add(room->watch, path), -ENOTDIR);
}

/* A file that is not there yet may come. */
static void a_file_may_come_later(void **state)
{
    struct room *room = *state;
    add(room, "c");
    write_at(room, "c", "1");
    expect(room, true);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_way_of_changing_is_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(other_files_do_not_matter, set_up, tear_down),
        cmocka_unit_test_setup_teardown(links_are_followed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_whole_that_is_replaced_is_seen, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_folder_that_is_not_there_is_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_file_may_come_later, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
