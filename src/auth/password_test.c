/* The password file: every kind of hash, the authenticator on a worker, reading and writing. */
#include "auth/auth.h"
#include "auth/hash.h"
#include "auth/password.h"
#include "base/mem.h"
#include "base/unit.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* alice, empty and old were written by mosquitto_passwd, the others by crypt(3). */
static const struct {
    const char *user, *password, *hash;
} known[] = {
    {"alice", "wonderland",
     "$7$101$CQrKxSTlaMyrAjwL$F+s3SnziJhyxRkUMcZfTNub+It2oqlbTAQhrUnMMtV+/rZu7nMVxOn/BEnWpl6/"
     "CxAEuENTcWlGdc702f1nP1A=="},
    {"empty", "",
     "$7$101$5OUpNsCR3Ej8xo7Y$o2oA59N/+adtO6hSKGRfMY/"
     "+J2CdWYhHwEku3WovL9FmtqyB5PR2be2K86GQeoFvCwS5cdYAcMttOy5rXLnhtQ=="},
    {"old", "sha512er",
     "$6$ZJLr2hg8Zil3O3uq$j4kah9PP2mjOqPSn2omQ5SeeNV7/"
     "0wMpACsyzIOlLoH9txchLaHiQzacZQp2eimIKBJH9LRkQTshEnf11wMlzg=="},
    {"crypt6", "crypted",
     "$6$saltsalt$jZBOucnQMcKhGbQ8vZvAkkJMkUei09muFmegadYhO80TBLAfV9YLmUcd87HmbJAN2V/"
     "Ut8IC1ByOvBKGGNab0."},
    {"crypt5", "crypted", "$5$saltsalt$E1IOoqB3SqtP4M8xjNHxH31/L1O3JsEEcP/Q8UIeVd4"},
    {"bcrypt", "crypted", "$2b$05$abcdefghijklmnopqrstuuDrG9DjSCqeH9FlnGrixxLz4m1ywqyLu"},
    {"yes", "crypted", "$y$j9T$abcdefgh$EJRh.p0BSc/lWybIkn.kWnBOqLLC.0r.JYi9wFDxpi2"},
};

static void every_kind_verifies(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
        const struct slice password = slice_str(known[i].password);
        char longer[64];
        (void)snprintf(longer, sizeof longer, "%sx", known[i].password);
        assert_true(hash_is_known(known[i].hash));
        assert_true(hash_verify(known[i].hash, password));
        assert_false(hash_verify(known[i].hash, slice_str(longer)));
        /* A NUL inside is a part of the password, not its end; but HMAC itself fills short keys up
         * with them. */
        if (strncmp(known[i].hash, "$7$", 3) == 0)
            continue;
        longer[password.size] = '\0';
        assert_false(hash_verify(known[i].hash, slice_of(longer, password.size + 1)));
    }
}

static void unknown_forms_are_told(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "",
        "secret",
        "$",
        "$7$",
        "$7$101$",
        "$7$101$QUJD",
        "$7$0$QUJD$QUJD",
        "$7$-1$QUJD$QUJD",
        "$7$99999999999$QUJD$QUJD",
        "$7$101$*$QUJD",
        "$argon2id$nonsense",
        "$9$whatever",
    };
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++)
        assert_false(hash_is_known(texts[i]));
}

static void made_hashes_verify(void **state)
{
    (void)state;
    char first[HASH_TEXT_MAX + 1], second[HASH_TEXT_MAX + 1];
    const struct slice password = slice_of("a\0b", 3);
    assert_int_equal(hash_make(password, first), 0);
    assert_int_equal(hash_make(password, second), 0);
    assert_int_equal(strncmp(first, "$argon2id$", 10), 0);
    assert_string_not_equal(first, second); /* salted */
    assert_true(hash_is_known(first));
    assert_true(hash_verify(first, password));
    assert_false(hash_verify(first, slice_of("a", 1)));
}

/* --- the file -----------------------------------------------------------------------------------
 */

struct fixture {
    char folder[64], path[96];
    struct loop *loop;
    struct mailbox *mailbox;
    struct worker_pool *workers;
};

static int set_up(void **state)
{
    struct fixture *fixture = mem_new(sizeof *fixture);
    (void)snprintf(fixture->folder, sizeof fixture->folder, "/tmp/password_test.XXXXXX");
    if (!mkdtemp(fixture->folder))
        return -1;
    (void)snprintf(fixture->path, sizeof fixture->path, "%s/users", fixture->folder);
    *state = fixture;
    return loop_new(&fixture->loop, NULL) < 0 ||
                   mailbox_new(fixture->loop, &fixture->mailbox, NULL) < 0 ||
                   worker_pool_new(1, &fixture->workers, NULL) < 0
               ? -1
               : 0;
}

static int tear_down(void **state)
{
    struct fixture *fixture = *state;
    (void)worker_pool_free(fixture->workers);
    (void)mailbox_free(fixture->mailbox);
    (void)loop_free(fixture->loop);
    (void)unlink(fixture->path);
    (void)rmdir(fixture->folder);
    mem_free(fixture);
    return 0;
}

static void write_users(const struct fixture *fixture, const char *text)
{
    assert_int_equal(file_write_whole(AT_FDCWD, fixture->path, text, strlen(text), 0600), 0);
}

static void write_known(const struct fixture *fixture)
{
    char text[4096] = "# users\n\n";
    size_t size = strlen(text);
    for (size_t i = 0; i < ARRAY_COUNT(known); i++)
        size += (size_t)snprintf(text + size, sizeof text - size, "%s:%s\r\n", known[i].user,
                                 known[i].hash);
    write_users(fixture, text);
}

static struct auth *open_auth(const struct fixture *fixture, bool anonymous, uint32_t waiting_max)
{
    struct auth *auth = NULL;
    struct errmsg why = {0};
    const struct auth_config config = {
        .anonymous = anonymous, .password_file = fixture->path, .waiting_max = waiting_max};
    const struct auth_deps deps = {.workers = fixture->workers, .mailbox = fixture->mailbox};
    if (auth_new(&config, &deps, &auth, &why) < 0)
        fail_msg("%s", why.text);
    return auth;
}

struct answer {
    bool given;
    enum auth_result result;
};

static void on_done(void *data, const struct auth_answer *given)
{
    struct answer *answer = data;
    assert_false(answer->given);
    *answer = (struct answer){true, given->result};
    if (given->result == AUTH_ALLOWED)
        assert_true(given->username.size > 0);
}

static enum auth_result ask(struct auth *auth, const char *user, const char *password,
                            struct answer *answer, struct auth_call **ret_call)
{
    const struct auth_credentials credentials = {
        .username = user ? slice_str(user) : slice_of(NULL, 0),
        .password = password ? slice_str(password) : slice_of(NULL, 0),
        .has_username = user != NULL,
        .has_password = password != NULL,
    };
    *answer = (struct answer){0};
    struct auth_answer at_once;
    return auth_connect(auth, &credentials, on_done, answer, &at_once, ret_call);
}

static enum auth_result ask_and_wait(const struct fixture *fixture, struct auth *auth,
                                     const char *user, const char *password)
{
    struct answer answer;
    struct auth_call *call = NULL;
    const enum auth_result at_once = ask(auth, user, password, &answer, &call);
    if (at_once != AUTH_PENDING)
        return at_once;
    while (!answer.given)
        assert_int_equal(loop_turn(fixture->loop, -1), 0);
    return answer.result;
}

static void users_are_let_in(void **state)
{
    const struct fixture *fixture = *state;
    write_known(fixture);
    struct auth *auth = open_auth(fixture, false, 0);
    for (size_t i = 0; i < ARRAY_COUNT(known); i++) {
        assert_int_equal(ask_and_wait(fixture, auth, known[i].user, known[i].password),
                         AUTH_ALLOWED);
        assert_int_equal(ask_and_wait(fixture, auth, known[i].user, "wrong"), AUTH_BAD_CREDENTIALS);
    }
    assert_int_equal(ask_and_wait(fixture, auth, "mallory", "wonderland"), AUTH_BAD_CREDENTIALS);
    assert_int_equal(ask_and_wait(fixture, auth, "empty", NULL), AUTH_BAD_CREDENTIALS);
    assert_int_equal(ask_and_wait(fixture, auth, "# users", "x"), AUTH_BAD_CREDENTIALS);
    assert_int_equal(ask_and_wait(fixture, auth, NULL, NULL), AUTH_NOT_AUTHORIZED);
    (void)auth_free(auth);
}

/* With anonymous clients allowed, a user name is still checked. */
static void anonymous_is_for_the_nameless(void **state)
{
    const struct fixture *fixture = *state;
    write_known(fixture);
    struct auth *auth = open_auth(fixture, true, 0);
    assert_int_equal(ask_and_wait(fixture, auth, NULL, NULL), AUTH_ALLOWED);
    assert_int_equal(ask_and_wait(fixture, auth, "alice", "wrong"), AUTH_BAD_CREDENTIALS);
    const struct auth_config without = {.anonymous = true};
    assert_int_equal(auth_configure(auth, &without, NULL), 0);
    assert_int_equal(ask_and_wait(fixture, auth, "anyone", "x"), AUTH_ALLOWED);
    const struct auth_config closed = {.anonymous = false};
    assert_int_equal(auth_configure(auth, &closed, NULL), 0);
    assert_int_equal(ask_and_wait(fixture, auth, "anyone", "x"), AUTH_NOT_AUTHORIZED);
    (void)auth_free(auth);
}

/* A user that does not exist is not answered at once: that would tell. */
static void unknown_users_cost_a_hash(void **state)
{
    const struct fixture *fixture = *state;
    write_known(fixture);
    struct auth *auth = open_auth(fixture, false, 0);
    struct answer answer;
    struct auth_call *call = NULL;
    assert_int_equal(ask(auth, "mallory", "x", &answer, &call), AUTH_PENDING);
    while (!answer.given)
        assert_int_equal(loop_turn(fixture->loop, -1), 0);
    assert_int_equal(answer.result, AUTH_BAD_CREDENTIALS);
    (void)auth_free(auth);
}

static void waiting_questions_are_bounded(void **state)
{
    const struct fixture *fixture = *state;
    write_known(fixture);
    struct auth *auth = open_auth(fixture, false, 2);
    struct answer answers[3];
    struct auth_call *calls[3] = {0};
    assert_int_equal(ask(auth, "alice", "wonderland", &answers[0], &calls[0]), AUTH_PENDING);
    assert_int_equal(ask(auth, "alice", "wonderland", &answers[1], &calls[1]), AUTH_PENDING);
    assert_int_equal(ask(auth, "alice", "wonderland", &answers[2], &calls[2]), AUTH_BUSY);
    auth_cancel(calls[0]);
    while (!answers[1].given)
        assert_int_equal(loop_turn(fixture->loop, -1), 0);
    assert_false(answers[0].given);
    assert_int_equal(answers[1].result, AUTH_ALLOWED);
    assert_int_equal(ask_and_wait(fixture, auth, "alice", "wonderland"), AUTH_ALLOWED);
    /* Replaced and freed while a question runs. */
    assert_int_equal(ask(auth, "alice", "wonderland", &answers[0], &calls[0]), AUTH_PENDING);
    auth_cancel(calls[0]);
    (void)auth_free(auth);
}

static void bad_files_name_the_line(void **state)
{
    const struct fixture *fixture = *state;
    static const struct {
        const char *text, *told;
    } rows[] = {
        {"a:secret\n", "line 1: the hash"},
        {"\n# x\nnothing\n", "line 3: a line has the form user:hash"},
        {":$7$101$QUJD$QUJD\n", "line 1: a line"},
        {"a:$7$101$QUJD$QUJD\na:$7$101$QUJD$QUJD", "line 2: the user stands in the file twice"},
    };
    write_known(fixture);
    struct auth *auth = open_auth(fixture, false, 0);
    const struct auth_config config = {.password_file = fixture->path};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        write_users(fixture, rows[i].text);
        struct errmsg why = {0};
        assert_int_equal(auth_configure(auth, &config, &why), ERR_INVALID);
        assert_non_null(strstr(why.text, rows[i].told));
        assert_null(strstr(why.text, "secret"));
    }
    /* All or nothing: the users of before are still known. */
    assert_int_equal(ask_and_wait(fixture, auth, "alice", "wonderland"), AUTH_ALLOWED);
    assert_int_equal(unlink(fixture->path), 0);
    struct errmsg why = {0};
    assert_int_equal(auth_configure(auth, &config, &why), -ENOENT);
    assert_non_null(strstr(why.text, fixture->path));
    (void)auth_free(auth);
}

static void users_are_added_and_replaced(void **state)
{
    const struct fixture *fixture = *state;
    struct errmsg why = {0};
    assert_int_equal(password_file_set(fixture->path, "al", slice_str("one"), &why), 0);
    struct stat info;
    assert_int_equal(stat(fixture->path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    write_known(fixture);
    assert_int_equal(password_file_set(fixture->path, "al", slice_str("one"), &why), 0);
    assert_int_equal(password_file_set(fixture->path, "alice", slice_str("two"), &why), 0);
    struct auth *auth = open_auth(fixture, false, 0);
    assert_int_equal(ask_and_wait(fixture, auth, "al", "one"), AUTH_ALLOWED);
    assert_int_equal(ask_and_wait(fixture, auth, "alice", "two"), AUTH_ALLOWED);
    assert_int_equal(ask_and_wait(fixture, auth, "alice", "wonderland"), AUTH_BAD_CREDENTIALS);
    assert_int_equal(ask_and_wait(fixture, auth, "old", "sha512er"), AUTH_ALLOWED);
    (void)auth_free(auth);
    static const char *const bad[] = {"", "a:b", "a\nb", "#a"};
    for (size_t i = 0; i < ARRAY_COUNT(bad); i++)
        assert_int_equal(password_file_set(fixture->path, bad[i], slice_str("x"), &why),
                         ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_kind_verifies),
        cmocka_unit_test(unknown_forms_are_told),
        cmocka_unit_test(made_hashes_verify),
        cmocka_unit_test_setup_teardown(users_are_let_in, set_up, tear_down),
        cmocka_unit_test_setup_teardown(anonymous_is_for_the_nameless, set_up, tear_down),
        cmocka_unit_test_setup_teardown(unknown_users_cost_a_hash, set_up, tear_down),
        cmocka_unit_test_setup_teardown(waiting_questions_are_bounded, set_up, tear_down),
        cmocka_unit_test_setup_teardown(bad_files_name_the_line, set_up, tear_down),
        cmocka_unit_test_setup_teardown(users_are_added_and_replaced, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
