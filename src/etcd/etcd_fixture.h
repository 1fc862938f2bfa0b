/* Real members of etcd, in folders of the test's own, on free ports of 127.0.0.1. For unit tests
 * only: one test executable includes it once. */
#pragma once

#include "base/mem.h"
#include "base/unit.h"
#include "etcd/etcd.h"
#include "net/http_client.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MEMBERS_MAX = 3, URL_SIZE = 64 };

struct members {
    char folder[64];
    uint32_t count;
    pid_t pids[MEMBERS_MAX]; /* 0: not running */
    char urls[MEMBERS_MAX][URL_SIZE], peers[MEMBERS_MAX][URL_SIZE];
    char cluster[MEMBERS_MAX * (URL_SIZE + 8)];
};

static inline void free_url(char url[URL_SIZE])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &size), 0);
    (void)close(fd);
    (void)snprintf(url, URL_SIZE, "http://127.0.0.1:%u", ntohs(address.sin_port));
}

/* In the child: nothing of it may be left when the test dies. */
static inline void become_member(const struct members *members, uint32_t index)
{
    char name[8], data[128], log[128];
    (void)snprintf(name, sizeof name, "m%u", index);
    (void)snprintf(data, sizeof data, "%s/m%u", members->folder, index);
    (void)snprintf(log, sizeof log, "%s/m%u.log", members->folder, index);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int fd = open(log, O_CREAT | O_WRONLY | O_APPEND, 0600);
    (void)dup2(fd, STDOUT_FILENO);
    (void)dup2(fd, STDERR_FILENO);
    const char *const args[] = {"etcd",
                                "--name",
                                name,
                                "--data-dir",
                                data,
                                "--listen-client-urls",
                                members->urls[index],
                                "--advertise-client-urls",
                                members->urls[index],
                                "--listen-peer-urls",
                                members->peers[index],
                                "--initial-advertise-peer-urls",
                                members->peers[index],
                                "--initial-cluster",
                                members->cluster,
                                NULL};
    (void)execvp("etcd", (char *const *)args);
    _exit(127);
}

static inline void member_start(struct members *members, uint32_t index)
{
    assert_int_equal(members->pids[index], 0);
    members->pids[index] = fork();
    assert_true(members->pids[index] >= 0);
    if (members->pids[index] == 0)
        become_member(members, index);
}

static inline void member_kill(struct members *members, uint32_t index)
{
    const pid_t pid = members->pids[index];
    members->pids[index] = 0;
    if (pid > 0) {
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
    }
}

static inline void members_open(struct members *members, uint32_t count)
{
    *members = (struct members){.folder = "/tmp/etcd_test.XXXXXX", .count = count};
    assert_non_null(mkdtemp(members->folder));
    for (uint32_t i = 0; i < count; i++) {
        free_url(members->urls[i]);
        free_url(members->peers[i]);
        const size_t size = strlen(members->cluster);
        (void)snprintf(members->cluster + size, sizeof members->cluster - size, "%sm%u=%s",
                       i > 0 ? "," : "", i, members->peers[i]);
    }
    for (uint32_t i = 0; i < count; i++)
        member_start(members, i);
}

static inline int remove_each(const char *path, const struct stat *stat, int kind, struct FTW *walk)
{
    (void)stat;
    (void)kind;
    (void)walk;
    return remove(path);
}

static inline void members_close(struct members *members)
{
    for (uint32_t i = 0; i < members->count; i++)
        member_kill(members, i);
    assert_int_equal(nftw(members->folder, remove_each, 16, FTW_DEPTH | FTW_PHYS), 0);
}

/* --- a client of theirs -------------------------------------------------------------------------
 */

enum { KEYS_MAX = 64 };

struct bench {
    struct members members;
    struct loop *loop;
    struct log *log;
    struct etcd *etcd;

    int answers, err;
    bool held, unsure, more;
    uint64_t revision, deleted;
    uint32_t row_count;
    struct etcd_row rows[KEYS_MAX]; /* slices kept */
    char why[256];
};

static inline void forget_rows(struct bench *bench)
{
    for (uint32_t i = 0; i < bench->row_count; i++) {
        slice_done(&bench->rows[i].key);
        slice_done(&bench->rows[i].value);
    }
    bench->row_count = 0;
}

static inline void on_answer(void *data, const struct etcd_answer *answer)
{
    struct bench *bench = data;
    bench->answers++;
    bench->err = answer->err;
    bench->held = answer->held;
    bench->unsure = answer->unsure;
    bench->revision = answer->revision;
    (void)snprintf(bench->why, sizeof bench->why, "%s", answer->why ? answer->why : "");
    forget_rows(bench);
    for (uint32_t i = 0; i < answer->result_count; i++) {
        const struct etcd_result *result = &answer->results[i];
        bench->deleted = result->deleted;
        bench->more = result->more;
        for (uint32_t k = 0; k < result->row_count && bench->row_count < KEYS_MAX; k++) {
            struct etcd_row *row = &bench->rows[bench->row_count++];
            *row = result->rows[k];
            assert_int_equal(slice_keep(row->key, &row->key), 0);
            assert_int_equal(slice_keep(row->value, &row->value), 0);
        }
    }
}

static inline int run(struct bench *bench, const struct etcd_txn *txn)
{
    const int before = bench->answers;
    struct etcd_call *call = NULL;
    assert_int_equal(etcd_submit(bench->etcd, txn, on_answer, bench, &call), 0);
    assert_int_equal(bench->answers, before); /* never inside the call */
    while (bench->answers == before)
        assert_int_equal(loop_turn(bench->loop, -1), 0);
    return bench->err;
}

static inline int run_op(struct bench *bench, const struct etcd_op *op)
{
    return run(bench, &(struct etcd_txn){.then = op, .then_count = 1});
}

static inline int put(struct bench *bench, const char *key, const char *value, uint64_t lease)
{
    return run_op(bench, &(struct etcd_op){.kind = ETCD_PUT,
                                           .key = slice_str(key),
                                           .value = slice_str(value),
                                           .lease = lease});
}

static inline int get(struct bench *bench, const char *key)
{
    return run_op(bench, &(struct etcd_op){.kind = ETCD_READ, .key = slice_str(key)});
}

static inline void client_open(struct bench *bench)
{
    const char *urls[MEMBERS_MAX];
    for (uint32_t i = 0; i < bench->members.count; i++)
        urls[i] = bench->members.urls[i];
    const struct etcd_config config = {
        .loop = bench->loop, .log = bench->log, .urls = urls, .url_count = bench->members.count};
    assert_int_equal(etcd_new(&config, &bench->etcd, NULL), 0);
}

/* Until it answers: a member that has just started has no leader yet. */
static inline void wait_for_etcd(struct bench *bench)
{
    while (get(bench, "nothing") < 0)
        assert_int_equal(loop_turn(bench->loop, 20), 0);
}

static inline void bench_open(struct bench *bench, uint32_t count)
{
    *bench = (struct bench){0};
    members_open(&bench->members, count);
    assert_int_equal(loop_new(&bench->loop, NULL), 0);
    bench->log = log_new(STDERR_FILENO, LOG_TEXT, LOG_ERROR, 1000);
    client_open(bench);
    wait_for_etcd(bench);
}

static inline void bench_close(struct bench *bench)
{
    forget_rows(bench);
    (void)etcd_free(bench->etcd);
    (void)loop_free(bench->loop);
    (void)log_free(bench->log);
    members_close(&bench->members);
}

static inline void on_gateway(void *data, const struct http_answer *answer)
{
    assert_int_equal(answer->status, 200);
    *(bool *)data = true;
}

/* What the client has no words for, asked of the first member. */
static inline void gateway(struct bench *bench, const char *path, const char *body)
{
    char url[128];
    bool done = false;
    struct http_client *http = NULL;
    struct http_call *call = NULL;
    (void)snprintf(url, sizeof url, "%s%s", bench->members.urls[0], path);
    const struct http_request request = {.url = url,
                                         .is_post = true,
                                         .body = slice_str(body),
                                         .connect_timeout_ms = 60000,
                                         .read_timeout_ms = 60000,
                                         .answer_max = 1000};
    assert_int_equal(http_client_new(bench->loop, &http, NULL), 0);
    assert_int_equal(http_client_start(http, &request, on_gateway, &done, &call), 0);
    while (!done)
        assert_int_equal(loop_turn(bench->loop, -1), 0);
    (void)http_client_free(http);
}
