/* Every way a configuration can be wrong, and what the person who wrote it is told. */
#include "base/unit.h"

#include "app/config.h"
#include "app/config_key.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct fixture {
    char dir[32];
    int dir_fd;
    char file[48];
};

static int setup(void **state)
{
    static struct fixture fixture;
    (void)snprintf(fixture.dir, sizeof(fixture.dir), "/tmp/config_test_XXXXXX");
    assert_non_null(mkdtemp(fixture.dir));
    fixture.dir_fd = open(fixture.dir, O_DIRECTORY | O_CLOEXEC);
    assert_true(fixture.dir_fd >= 0);
    (void)snprintf(fixture.file, sizeof(fixture.file), "%s/t.yaml", fixture.dir);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;
    (void)unlink(fixture->file);
    assert_int_equal(rmdir(fixture->dir), 0);
    (void)close(fixture->dir_fd);
    return 0;
}

static void write_file(struct fixture *fixture, const char *text)
{
    assert_int_equal(file_write_whole(fixture->dir_fd, "t.yaml", text, strlen(text), 0600), 0);
}

static int load_yaml(struct fixture *fixture, const char *text, struct config *ret_config,
                     struct errmsg *reterr)
{
    write_file(fixture, text);
    const struct config_source source = {.file = fixture->file};
    return config_load(&source, NULL, NULL, ret_config, reterr);
}

static int load_set(const char *set, struct config *ret_config, struct errmsg *reterr)
{
    const struct config_source source = {.sets = &set, .set_count = 1};
    return config_load(&source, NULL, NULL, ret_config, reterr);
}

static void defaults_are_sound(void **state)
{
    (void)state;
    struct config config;
    struct errmsg why = {0};
    const struct config_source nothing = {0};
    assert_int_equal(config_load(&nothing, NULL, NULL, &config, &why), 0);
    assert_string_equal(config.data_dir, "./data");
    assert_int_equal(config.listeners.count, 1);
    assert_string_equal(config.listeners.items[0], "mqtt://127.0.0.1:1883");
    assert_false(config.topics_auto_create);
    assert_int_equal(config.sessions_expiry_max_ms, UINT64_C(7) * 86400 * 1000);
    assert_int_equal(config.retention_time_ms, UINT64_C(3) * 86400 * 1000);
    assert_int_equal(config.limits_receive_maximum, 1024);
    assert_int_equal(config.limits_max_packet_size, 1024 * 1024);
    assert_int_equal(config.sessions_duplicate_client_id, CONFIG_TAKEOVER);
    assert_true(config_allows_anonymous(&config));
    config_done(&config);
}

/* Each default, limit and profile value of the table must itself pass the check of its key. */
static void table_is_sound(void **state)
{
    (void)state;
    struct config config;
    struct errmsg why = {0};
    assert_int_equal(load_set("limits.profile=tdmq", &config, &why), 0);
    assert_int_equal(config.limits_payload_max, 64 * 1024);
    assert_int_equal(config.limits_topics, 100);
    assert_int_equal(config.limits_filters_per_client, 30);
    assert_int_equal(config.limits_subscriptions, 30 * config.limits_clients);
    assert_int_equal(config.limits_clients, 2000);
    assert_int_equal(config.limits_connect_rate, 400);
    assert_int_equal(config.limits_will_connect_rate, 100);
    assert_int_equal(config.limits_subscribe_rate, 100);
    assert_int_equal(config.limits_unsubscribe_rate, 100);
    assert_int_equal(config.limits_tps, 2000);
    assert_int_equal(config.limits_client_tps, 0);
    config_done(&config);
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        assert_ptr_equal(config_key_find(key->name), key);
        assert_ptr_equal(config_key_nearest(key->name), key);
        assert_true(key->help[strlen(key->help) - 1] == '.');
    }
}

static void choices_follow_their_enums(void **state)
{
    (void)state;
    static const struct {
        const char *set;
        size_t offset;
        int value;
    } rows[] = {
        {"auth.anonymous=auto", offsetof(struct config, auth_anonymous), ANONYMOUS_AUTO},
        {"auth.anonymous=true", offsetof(struct config, auth_anonymous), ANONYMOUS_TRUE},
        {"sessions.duplicate_client_id=reject",
         offsetof(struct config, sessions_duplicate_client_id), CONFIG_REJECT},
        {"limits.profile=tdmq", offsetof(struct config, limits_profile), PROFILE_TDMQ},
        {"log.format=json", offsetof(struct config, log_format), LOG_JSON},
        {"log.level=error", offsetof(struct config, log_level), LOG_ERROR},
        {"log.level=debug", offsetof(struct config, log_level), LOG_DEBUG},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct config config;
        struct errmsg why = {0};
        assert_int_equal(load_set(rows[i].set, &config, &why), 0);
        assert_int_equal(*(int *)((char *)&config + rows[i].offset), rows[i].value);
        config_done(&config);
    }
}

static void yaml_forms_mean_the_same(void **state)
{
    static const char *const rows[] = {
        "store: {engine: local, segment_size: 1MiB}\nretention: {time: 1d}\n",
        "store.segment_size: 1MiB\nretention.time: 24h\nstore: local\n",
        "store:\n  engine: \"local\"\n  segment_size: 1048576\nretention:\n  time: 1d\n",
        "# a comment\n---\nretention: {time: '1d'}\nstore: {segment_size: 1024K}\n...\n",
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct config config;
        struct errmsg why = {0};
        assert_int_equal(load_yaml(*state, rows[i], &config, &why), 0);
        assert_string_equal(config.store, "local");
        assert_int_equal(config.store_segment_size, 1024 * 1024);
        assert_int_equal(config.retention_time_ms, 86400 * 1000);
        config_done(&config);
    }
}

static void empty_file_means_defaults(void **state)
{
    static const char *const rows[] = {"", "# only a comment\n", "---\n", "{}\n"};
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct config config;
        struct errmsg why = {0};
        assert_int_equal(load_yaml(*state, rows[i], &config, &why), 0);
        assert_string_equal(config.data_dir, "./data");
        config_done(&config);
    }
}

/* --set wins over the environment, which wins over the file; lists are replaced as a whole. */
static void later_sources_win(void **state)
{
    struct fixture *fixture = *state;
    static const char *const sets[] = {"data_dir=/from-set", "sys.interval=1s", "sys.interval=2s"};
    static char *const environment[] = {"TIDEMQ_DATA_DIR=/from-env",
                                        "TIDEMQ_LISTENERS=[mqtt://127.0.0.1:1, 'mqtt://[::1]:2']",
                                        "TIDEMQ_STORE_SEGMENT_SIZE=2MiB", "OTHER=1", NULL};
    write_file(fixture, "data_dir: /from-file\nlisteners: [mqtt://127.0.0.1:9]\n"
                        "store: {segment_size: 1MiB, tail_bytes: 3MiB}\n");
    const struct config_source source = {.file = fixture->file,
                                         .sets = sets,
                                         .set_count = ARRAY_COUNT(sets),
                                         .environment = environment};
    struct config config;
    struct errmsg why = {0};
    assert_int_equal(config_load(&source, NULL, NULL, &config, &why), 0);
    assert_string_equal(config.data_dir, "/from-set");
    assert_int_equal(config.sys_interval_ms, 2000);
    assert_int_equal(config.store_segment_size, 2 * 1024 * 1024);
    assert_int_equal(config.store_tail_bytes, 3 * 1024 * 1024);
    assert_int_equal(config.listeners.count, 2);
    assert_string_equal(config.listeners.items[1], "mqtt://[::1]:2");
    config_done(&config);
}

static void note_unknown(void *data, const char *variable)
{
    const char **last = data;
    *last = variable;
}

static void unknown_variable_is_reported(void **state)
{
    (void)state;
    static char *const environment[] = {"TIDEMQ_PORT=tcp://10.0.0.1:1883", NULL};
    const struct config_source source = {.environment = environment};
    const char *last = NULL;
    struct config config;
    struct errmsg why = {0};
    assert_int_equal(config_load(&source, note_unknown, &last, &config, &why), 0);
    assert_string_equal(last, environment[0]);
    config_done(&config);
}

/* Text of a file and what must be part of the message; the place is "t.yaml:LINE". */
static const struct {
    const char *yaml;
    const char *parts[3];
} wrong_files[] = {
    {"data_dir: /d\ntopic.auto_create: true\n",
     {"t.yaml:2: unknown key \"topic.auto_create\"", "did you mean \"topics.auto_create\"?"}},
    {"auto_create: true\n", {"t.yaml:1:", "did you mean \"topics.auto_create\"?"}},
    {"colour: blue\n", {"t.yaml:1: unknown key \"colour\"", "config reference"}},
    {"retention:\n  time: soon\n",
     {"t.yaml:2: retention.time is \"soon\"", "allowed is a duration from 1m to 3650d"}},
    {"retention.time: 10s\n", {"t.yaml:1: retention.time is \"10s\"", "1m to 3650d"}},
    {"retention.time: 30\n", {"t.yaml:1: retention.time is \"30\"", "a duration"}},
    {"limits:\n  receive_maximum: 70000\n",
     {"t.yaml:2: limits.receive_maximum is \"70000\"", "a whole number from 1 to 65535"}},
    {"limits.receive_maximum: -1\n", {"t.yaml:1:", "a whole number from 1"}},
    {"limits.receive_maximum: 99999999999999999999\n", {"t.yaml:1:", "a whole number from 1"}},
    {"memory.limit: 1 lot\n", {"t.yaml:1: memory.limit is \"1 lot\"", "a size from 16MiB"}},
    {"topics.auto_create: maybe\n", {"t.yaml:1:", "allowed is true or false"}},
    {"sessions.duplicate_client_id: kick\n", {"t.yaml:1:", "one of takeover, reject"}},
    {"data_dir: [a, b]\n", {"t.yaml:1: data_dir is a list of 2", "a directory"}},
    {"data_dir:\n", {"t.yaml:1: data_dir has no value"}},
    {"data_dir: ''\n", {"t.yaml:1: data_dir is \"\"", "the name of a directory"}},
    {"data_dir: a\nsys.interval: 1s\ndata_dir: b\n",
     {"t.yaml:3: data_dir was given on line 1 already"}},
    {"store: local\nstore.engine: mem\n", {"t.yaml:2: store was given on line 1"}},
    {"store: rocketmq://127.0.0.1:9876\n",
     {"t.yaml:1: store is \"rocketmq://127.0.0.1:9876\"", "allowed is local or mem",
      "not part of this version"}},
    {"store: disk\n", {"t.yaml:1: store is \"disk\"", "local or mem"}},
    {"meta: etcd\n", {"t.yaml:1: meta is \"etcd\"", "allowed is local"}},
    {"store.segment_size: 1GiB\nretention.bytes: 1GiB\n",
     {"t.yaml:2: retention.bytes is \"1GiB\"", "four times store.segment_size"}},
    {"listeners: []\n", {"t.yaml:1: listeners is a list of 0", "at least one URL"}},
    {"listeners: [http://127.0.0.1:80]\n", {"t.yaml:1: listeners", "mqtt://HOST:PORT"}},
    {"data_dir: d\nlisteners:\n  - mqtt://127.0.0.1:1\n  - ftp://x\n",
     {"t.yaml:2: listeners has \"ftp://x\"; allowed is mqtt://HOST:PORT"}},
    {"listeners: ['ws://127.0.0.1:1/a\"b']\n",
     {"t.yaml:1: listeners has", "the path has a character"}},
    {"listeners: ['mqtts://127.0.0.1:1']\n",
     {"t.yaml:1: listeners has",
      "allowed is mqtts:// with a tls.certificate, or with ?certificate"}},
    {"listeners: ['mqtts://127.0.0.1:1?crl=x']\n", {"with a tls.certificate"}},
    {"listeners: ['mqtts://127.0.0.1:1?colour=red']\n", {"there is no option 'colour'"}},
    {"tls.min_version: 1.1\n", {"t.yaml:1: tls.min_version is \"1.1\"", "one of 1.2, 1.3"}},
    {"data_dir: d\nsys.interval:\n\n  never\n", {"t.yaml:2: sys.interval is"}},
    {"listeners: [mqtt://127.0.0.1:99999]\n", {"t.yaml:1: listeners", "mqtt://HOST:PORT"}},
    {"admin.listen: here\n", {"t.yaml:1: admin.listen is \"here\"", "HOST:PORT"}},
    {"admin.listen: 127.0.0.1\n", {"t.yaml:1: admin.listen", "HOST:PORT"}},
    {"topics.deny_subscribe: [a/b, 'x#']\n",
     {"t.yaml:1: topics.deny_subscribe has \"x#\"; allowed is a topic filter"}},
    {"websocket.origins: ['https://a.example', app.example]\n",
     {"t.yaml:1: websocket.origins has \"app.example\"; allowed is a scheme"}},
    {"websocket.origins: ['https://a.example/']\n",
     {"t.yaml:1: websocket.origins has \"https://a.example/\""}},
    {"listeners: ['mqtt://0.0.0.0:1883']\n",
     {"t.yaml:1: listeners is", "auth.password_file", "auth.anonymous is true"}},
    {"auth.anonymous: false\n", {"t.yaml:1: auth.anonymous", "auth.password_file"}},
    {"data_dir: \"a\n", {"t.yaml:", "this is not YAML"}},
    {"\tdata_dir: a\n", {"t.yaml:1: this is not YAML"}},
    {"just text\n", {"t.yaml:1: expected `key: value`"}},
    {"- a\n- b\n", {"t.yaml:1: a list is only allowed"}},
    {"a: &x {b: c}\n", {"t.yaml:1: anchors and tags"}},
    {"a: !!str b\n", {"t.yaml:1: anchors and tags"}},
    {"a: &x b\nc: *x\n", {"t.yaml:1: anchors and tags"}},
    {"a: *x\n", {"t.yaml:1:"}},
    {"a: [[b]]\n", {"t.yaml:1: a list is only allowed"}},
    {"a: [{b: c}]\n", {"t.yaml:1: `key: value` lines cannot"}},
    {"{a: b}: c\n", {"t.yaml:1: `key: value` lines cannot"}},
    {"a: {b: {c: {d: {e: {f: {g: {h: {i: j}}}}}}}}\n", {"t.yaml:1: keys are nested too deeply"}},
    {"data_dir: a\n---\ndata_dir: b\n", {"t.yaml:2: a second document"}},
    {"\"\": b\n", {"t.yaml:1: a key is empty"}},
    {"data_dir: \"a\\0b\"\n", {"t.yaml:1: a value contains a NUL"}},
};

/* Fails unless the message has all the parts and is one sentence. */
static void expect_parts(const struct errmsg *why, const char *const *parts, size_t count)
{
    for (size_t i = 0; i < count && parts[i]; i++) {
        if (!strstr(why->text, parts[i])) {
            fail_msg("'%s' is not in: %s", parts[i], why->text);
        }
    }
    assert_null(strchr(why->text, '\n'));
}

static void wrong_files_are_explained(void **state)
{
    for (size_t i = 0; i < ARRAY_COUNT(wrong_files); i++) {
        struct config config;
        struct errmsg why = {0};
        assert_int_equal(load_yaml(*state, wrong_files[i].yaml, &config, &why), ERR_INVALID);
        expect_parts(&why, wrong_files[i].parts, ARRAY_COUNT(wrong_files[i].parts));
    }
}

/* However long the file's name and the value are, the sentence ends with what is allowed. */
static void long_values_leave_room_for_the_rest(void **state)
{
    struct fixture *fixture = *state;
    char yaml[400], file[900];
    (void)snprintf(yaml, sizeof(yaml), "listeners: ['tcp://%0300d']\n", 0);
    write_file(fixture, yaml);
    size_t size = (size_t)snprintf(file, sizeof(file), "%s", fixture->dir);
    while (size < 800) {
        size += (size_t)snprintf(file + size, sizeof(file) - size, "/.");
    }
    (void)snprintf(file + size, sizeof(file) - size, "/t.yaml");
    const struct config_source source = {.file = file};
    struct config config;
    struct errmsg why = {0};
    assert_int_equal(config_load(&source, NULL, NULL, &config, &why), ERR_INVALID);
    const char *const parts[] = {"/t.yaml:1: listeners has \"tcp://000", "or mqtt+unix:PATH"};
    expect_parts(&why, parts, ARRAY_COUNT(parts));
    assert_null(strchr(why.text, '~'));
    const char *tail = "or mqtt+unix:PATH";
    assert_string_equal(why.text + strlen(why.text) - strlen(tail), tail);
}

static void long_key_is_refused(void **state)
{
    char text[400];
    memset(text, 'k', 300);
    (void)snprintf(text + 300, sizeof(text) - 300, ": v\n");
    struct config config;
    struct errmsg why = {0};
    assert_int_equal(load_yaml(*state, text, &config, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "t.yaml:1: a key is too long"));
}

static void wrong_arguments_are_explained(void **state)
{
    (void)state;
    static const struct {
        const char *set;
        const char *part;
    } rows[] = {
        {"data_dir", "--set data_dir: allowed is key=value"},
        {"=x", "allowed is key=value"},
        {"dta_dir=x", "--set: unknown key \"dta_dir\"; did you mean \"data_dir\"?"},
        {"sys.interval=x", "--set: sys.interval is \"x\"; allowed is a duration"},
        {"listeners=[a", "--set: listeners is \"[a\"; allowed is a list"},
        {"listeners=", "allowed is a list"},
    };
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        struct config config;
        struct errmsg why = {0};
        assert_int_equal(load_set(rows[i].set, &config, &why), ERR_INVALID);
        if (!strstr(why.text, rows[i].part)) {
            fail_msg("row %zu: '%s' is not in: %s", i, rows[i].part, why.text);
        }
    }
}

/* The value of a variable may be a secret of something else: only its name is a place. */
static void wrong_variable_is_named(void **state)
{
    (void)state;
    static char *const environment[] = {"TIDEMQ_SYS_INTERVAL=never", NULL};
    const struct config_source source = {.environment = environment};
    struct config config;
    struct errmsg why = {0};
    assert_int_equal(config_load(&source, NULL, NULL, &config, &why), ERR_INVALID);
    assert_non_null(strstr(why.text, "TIDEMQ_SYS_INTERVAL: sys.interval is \"never\""));
}

/* Where a value may be a credential, it is not repeated, however it is wrong. */
static void secret_values_are_not_repeated(void **state)
{
    (void)state;
    static const char *const sets[] = {
        "auth.http.headers=[Authorization Bearer hush]",
        "auth.http.headers=[\"Authorization: hush-${Nope}\"]",
        "auth.http.headers=[Authorization: hush",
        "auth.http.url=ftp://hush:hush@host/",
        "auth.http.body=[hush]",
    };
    for (size_t i = 0; i < ARRAY_COUNT(sets); i++) {
        struct config config;
        struct errmsg why = {0};
        const char *const all[] = {"auth.http.url=http://localhost/", sets[i]};
        const struct config_source source = {.sets = all, .set_count = ARRAY_COUNT(all)};
        assert_int_equal(config_load(&source, NULL, NULL, &config, &why), ERR_INVALID);
        assert_null(strstr(why.text, "hush"));
        assert_non_null(strstr(why.text, "not shown here because it may be secret; allowed is "));
    }
}

static void missing_file_is_named(void **state)
{
    (void)state;
    const struct config_source source = {.file = "/nowhere/t.yaml"};
    struct config config;
    struct errmsg why = {0};
    assert_int_equal(config_load(&source, NULL, NULL, &config, &why), -ENOENT);
    assert_non_null(strstr(why.text, "'/nowhere/t.yaml': No such file or directory"));
}

static void beyond_loopback_needs_a_decision(void **state)
{
    struct config config;
    struct errmsg why = {0};
    assert_int_equal(load_yaml(*state, "listeners: ['mqtt://0.0.0.0:1883']\nauth.anonymous: true\n",
                               &config, &why),
                     0);
    assert_true(config_allows_anonymous(&config));
    config_done(&config);
    assert_int_equal(load_yaml(*state,
                               "listeners: ['mqtt://0.0.0.0:1883']\nauth.password_file: p\n",
                               &config, &why),
                     0);
    assert_false(config_allows_anonymous(&config));
    config_done(&config);
    assert_int_equal(load_yaml(*state, "listeners: ['mqtt+unix:/tmp/x.sock', 'mqtt://[::1]:1']\n",
                               &config, &why),
                     0);
    assert_true(config_allows_anonymous(&config));
    config_done(&config);
}

static void reload_knows_what_needs_a_restart(void **state)
{
    (void)state;
    struct config a, b;
    struct errmsg why = {0};
    assert_int_equal(load_set("sys.interval=1s", &a, &why), 0);
    assert_int_equal(load_set("sys.interval=2s", &b, &why), 0);
    assert_null(config_restart_key(&a, &b));
    config_done(&b);
    assert_int_equal(load_set("listeners=[mqtt://127.0.0.1:7]", &b, &why), 0);
    assert_string_equal(config_restart_key(&a, &b), "listeners");
    config_done(&b);
    config_done(&a);
}

static void reference_has_every_key(void **state)
{
    (void)state;
    struct strbuf page, help;
    strbuf_init(&page, 1024 * 1024);
    strbuf_init(&help, 1024 * 1024);
    config_reference(&page);
    config_help(&help);
    assert_int_equal(strbuf_err(&page), 0);
    assert_int_equal(strbuf_err(&help), 0);
    for (size_t i = 0; i < config_key_count; i++) {
        char heading[80];
        (void)snprintf(heading, sizeof(heading), "### `%s`\n", config_keys[i].name);
        assert_non_null(strstr(page.text, heading));
        assert_non_null(strstr(help.text, config_keys[i].help));
    }
    strbuf_done(&page);
    strbuf_done(&help);
}

/* Failing allocation n, for every n until loading succeeds. */
static void allocation_failures_are_errors(void **state)
{
    struct fixture *fixture = *state;
    write_file(fixture, "data_dir: /d\nlisteners: [mqtt://127.0.0.1:1]\nretention: {time: 1d}\n");
    static const char *const sets[] = {"topics.deny_subscribe=[a, b]"};
    const struct config_source source = {.file = fixture->file, .sets = sets, .set_count = 1};
    for (uint64_t n = 1;; n++) {
        struct config config;
        struct errmsg why = {0};
        mem_fail_at(n);
        const int err = config_load(&source, NULL, NULL, &config, &why);
        mem_fail_at(0);
        if (err == 0) {
            config_done(&config);
            assert_true(n > 10);
            break;
        }
        assert_true(err == ERR_NOMEM || err == ERR_INVALID);
        assert_true(why.text[0] != '\0');
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_sound),
        cmocka_unit_test(table_is_sound),
        cmocka_unit_test(choices_follow_their_enums),
        cmocka_unit_test(yaml_forms_mean_the_same),
        cmocka_unit_test(empty_file_means_defaults),
        cmocka_unit_test(later_sources_win),
        cmocka_unit_test(unknown_variable_is_reported),
        cmocka_unit_test(wrong_files_are_explained),
        cmocka_unit_test(long_key_is_refused),
        cmocka_unit_test(long_values_leave_room_for_the_rest),
        cmocka_unit_test(wrong_arguments_are_explained),
        cmocka_unit_test(wrong_variable_is_named),
        cmocka_unit_test(secret_values_are_not_repeated),
        cmocka_unit_test(missing_file_is_named),
        cmocka_unit_test(beyond_loopback_needs_a_decision),
        cmocka_unit_test(reload_knows_what_needs_a_restart),
        cmocka_unit_test(reference_has_every_key),
        cmocka_unit_test(allocation_failures_are_errors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
