/* Registered certificates as an authenticator sees them: answers at once, later, and to nobody. */
#include "auth/registry_auth.h"

#include "auth/registry_fixture.h"
#include "net/peer.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

struct fixture {
    struct registry_fixture base;
    struct authenticator *authenticator;
    struct pki_pair pair;
    struct peer peer;
    struct auth_credentials credentials;
    struct auth_answer answer; /* that came later */
    int answers;
    struct log *log;
    int log_fd;
};

static void choose(struct fixture *f, const struct x509_config *config)
{
    const struct auth_deps deps = {.registry = f->base.registry, .log = f->log};
    (void)authenticator_unref(f->authenticator);
    f->authenticator = registry_auth_new(config, &deps);
    f->authenticator->jobs_max = 2;
}

static const struct x509_config plain = {.registered = true};
static const struct x509_config enrols = {.registered = true, .enrols = true, .activates = true};
static const struct x509_config pends = {.registered = true, .enrols = true};

static int set_up(void **state)
{
    struct fixture *f = mem_new(sizeof *f);
    registry_fixture_open(&f->base);
    assert_int_equal(registry_fixture_add_ca(&f->base, &f->base.ca, REGISTRY_ACTIVE),
                     REGISTRY_DONE);
    f->pair = pki_issue(&f->base.pki, &f->base.ca, &(struct pki_wish){.name = "one"});
    f->peer.certificate = registry_fixture_parse(&f->pair);
    f->credentials = (struct auth_credentials){.client_id = slice_str("c"), .peer = &f->peer};
    f->log_fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(f->log_fd >= 0);
    f->log = log_new(f->log_fd, LOG_TEXT, LOG_INFO, 1000);
    choose(f, &plain);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    (void)authenticator_unref(f->authenticator);
    (void)certificate_free(f->peer.certificate);
    pki_pair_done(&f->pair);
    registry_fixture_close(&f->base);
    (void)log_free(f->log);
    (void)close(f->log_fd);
    mem_free(f);
    return 0;
}

static void on_answer(void *data, const struct auth_answer *answer)
{
    struct fixture *f = data;
    f->answers++;
    f->answer = *answer;
}

static enum auth_result check(struct fixture *f, struct auth_call **ret_call)
{
    struct auth_answer answer = {0};
    const enum auth_result result = f->authenticator->ops->check(f->authenticator, &f->credentials,
                                                                 on_answer, f, &answer, ret_call);
    if (result != AUTH_PENDING)
        f->answer = answer;
    return result;
}

/* What is answered in the end. */
static enum auth_result ask(struct fixture *f)
{
    struct auth_call *call = NULL;
    const int answers = f->answers;
    const enum auth_result result = check(f, &call);
    if (result != AUTH_PENDING)
        return result;
    assert_non_null(call);
    assert_int_equal(f->answers, answers); /* not before it is on disk */
    (void)mem_store_step(f->base.store, 1);
    assert_int_equal(f->answers, answers + 1);
    return f->answer.result;
}

/* Refused, and the log has one more line, which says this. */
static void expect_refused(struct fixture *f, const char *why)
{
    char line[1024] = "";
    const off_t before = lseek(f->log_fd, 0, SEEK_END);
    assert_int_equal(ask(f), AUTH_BAD_CREDENTIALS);
    assert_true(pread(f->log_fd, line, sizeof line - 1, before) > 0);
    const char *said = strstr(line, "auth: refused the certificate of the client at ");
    assert_non_null(said);
    assert_string_equal(strrchr(said, ':') + 2, why);
}

static void set(struct fixture *f, enum registry_state state)
{
    registry_set(f->base.registry, slice_str(f->peer.certificate->serial), state,
                 registry_fixture_done, &f->base);
    assert_int_equal(registry_fixture_step(&f->base), REGISTRY_DONE);
}

static void add(struct fixture *f, const char *client_id, enum registry_state state)
{
    registry_fixture_submit(&f->base, &f->pair, "0101", client_id, state);
    assert_int_equal(registry_fixture_step(&f->base), REGISTRY_DONE);
}

static void expect_allowed(struct fixture *f)
{
    assert_int_equal(ask(f), AUTH_ALLOWED);
    assert_true(slice_equal(f->answer.username, slice_str("one")));
    assert_true(slice_equal(f->answer.subject, slice_str(f->peer.certificate->serial)));
    assert_int_equal(f->answer.expire_at_ms, f->peer.certificate->not_after_s * 1000);
}

static void only_registered_ones(void **state)
{
    struct fixture *f = *state;
    expect_refused(f, "it is not registered\n");
    add(f, "c", REGISTRY_ACTIVE);
    expect_allowed(f);
    assert_int_equal(f->answers, 0); /* nothing was to be written */
    f->credentials.client_id = slice_str("d");
    expect_refused(f, "it is bound to another client ID\n");
    f->credentials.peer = NULL;
    assert_int_equal(ask(f), AUTH_IGNORED);
}

static void its_state_counts(void **state)
{
    struct fixture *f = *state;
    const struct slice sn = slice_str(f->peer.certificate->serial);
    assert_false(f->authenticator->ops->knows(f->authenticator, sn));
    add(f, "c", REGISTRY_INACTIVE);
    expect_refused(f, "it is not active\n");
    set(f, REGISTRY_ACTIVE);
    expect_allowed(f);
    assert_true(f->authenticator->ops->knows(f->authenticator, sn));
    registry_set_ca(f->base.registry, slice_str("0101"), REGISTRY_INACTIVE, registry_fixture_done,
                    &f->base);
    assert_int_equal(registry_fixture_step(&f->base), REGISTRY_DONE);
    expect_refused(f, "its CA is not active\n");
    assert_false(f->authenticator->ops->knows(f->authenticator, sn));
    registry_set_ca(f->base.registry, slice_str("0101"), REGISTRY_ACTIVE, registry_fixture_done,
                    &f->base);
    assert_int_equal(registry_fixture_step(&f->base), REGISTRY_DONE);
    expect_allowed(f);
    set(f, REGISTRY_REVOKED);
    expect_refused(f, "it is revoked\n");
}

static void the_first_connection_binds(void **state)
{
    struct fixture *f = *state;
    add(f, "", REGISTRY_ACTIVE);
    f->credentials.client_id = slice_str(""); /* the server would choose another each time */
    expect_refused(f, "it came with a client ID that no certificate can be bound to\n");
    f->credentials.client_id = slice_str("first");
    expect_allowed(f);
    assert_int_equal(f->answers, 1);
    expect_allowed(f);
    assert_int_equal(f->answers, 1);
    f->credentials.client_id = slice_str("second");
    expect_refused(f, "it is bound to another client ID\n");
}

static void the_first_connection_registers(void **state)
{
    struct fixture *f = *state;
    choose(f, &enrols);
    expect_allowed(f);
    const struct registry_certificate *made =
        registry_find(f->base.registry, slice_str(f->peer.certificate->serial));
    assert_true(made->came_by_itself && slice_equal(made->client_id, slice_str("c")));
    registry_remove(f->base.registry, made->record.name, registry_fixture_done, &f->base);
    assert_int_equal(registry_fixture_step(&f->base), REGISTRY_DONE);
    choose(f, &pends);
    for (int i = 0; i < 2; i++)
        expect_refused(f, "it waits to be activated\n");
    set(f, REGISTRY_ACTIVE);
    expect_allowed(f);
}

/* A file may name CAs, too, that no registry knows. */
static void others_do_not_register(void **state)
{
    struct fixture *f = *state;
    choose(f, &enrols);
    struct pki_pair stranger = pki_issue(&f->base.pki, NULL, &(struct pki_wish){.name = "one"});
    struct certificate *own = f->peer.certificate;
    f->peer.certificate = registry_fixture_parse(&stranger);
    expect_refused(f, "no registered CA that is active has signed it\n");
    (void)certificate_free(f->peer.certificate);
    f->peer.certificate = own;
    pki_pair_done(&stranger);
    assert_int_equal(registry_certificate_count(f->base.registry), 0);
    const struct x509_config binds = {.registered = true, .enrols = true, .binds_client_id = true};
    choose(f, &binds);
    expect_refused(f, "its common name is not the client ID\n"); /* "c" is not its common name */
    assert_int_equal(registry_certificate_count(f->base.registry), 0);
}

static void two_at_once(void **state)
{
    struct fixture *f = *state;
    struct auth_call *first = NULL, *second = NULL;
    choose(f, &enrols);
    assert_int_equal(check(f, &first), AUTH_PENDING);
    assert_int_equal(check(f, &second), AUTH_BUSY);
    (void)mem_store_step(f->base.store, 1);
    assert_int_equal(f->answer.result, AUTH_ALLOWED);
    assert_int_equal(f->authenticator->refs, 1);
}

static void a_client_that_leaves_is_not_told(void **state)
{
    struct fixture *f = *state;
    struct auth_call *call = NULL;
    choose(f, &enrols);
    assert_int_equal(check(f, &call), AUTH_PENDING);
    auth_cancel(call);
    f->credentials = (struct auth_credentials){0}; /* is the chain's, and gone */
    (void)mem_store_step(f->base.store, 1);
    assert_int_equal(f->answers, 0);
    assert_int_equal(f->authenticator->refs, 1);
    assert_int_equal(registry_certificate_count(f->base.registry), 1);
}

/* An administrator who is faster than the disk wins. */
static void what_changes_meanwhile_counts(void **state)
{
    struct fixture *f = *state;
    struct auth_call *call = NULL;
    choose(f, &enrols);
    assert_int_equal(check(f, &call), AUTH_PENDING);
    registry_set_ca(f->base.registry, slice_str("0101"), REGISTRY_INACTIVE, registry_fixture_done,
                    &f->base);
    (void)mem_store_step(f->base.store, 1);
    assert_int_equal(f->answer.result, AUTH_ALLOWED);
    (void)mem_store_step(f->base.store, 1);
    assert_false(f->authenticator->ops->knows(f->authenticator, f->answer.subject));
    registry_set_ca(f->base.registry, slice_str("0101"), REGISTRY_ACTIVE, registry_fixture_done,
                    &f->base);
    registry_remove(f->base.registry, f->answer.subject, registry_fixture_done, &f->base);
    (void)mem_store_step(f->base.store, 2);
    registry_set_ca(f->base.registry, slice_str("0101"), REGISTRY_INACTIVE, registry_fixture_done,
                    &f->base);
    assert_int_equal(check(f, &call), AUTH_BUSY); /* the CA is changing */
    (void)mem_store_step(f->base.store, 1);
    expect_refused(f, "no registered CA that is active has signed it\n");
}

static void a_disk_that_fails(void **state)
{
    struct fixture *f = *state;
    choose(f, &enrols);
    mem_store_fail_append(f->base.store, 1, ERR_UNAVAILABLE);
    assert_int_equal(ask(f), AUTH_BUSY);
    assert_int_equal(registry_certificate_count(f->base.registry), 0);
    expect_allowed(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(only_registered_ones, set_up, tear_down),
        cmocka_unit_test_setup_teardown(its_state_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_first_connection_binds, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_first_connection_registers, set_up, tear_down),
        cmocka_unit_test_setup_teardown(others_do_not_register, set_up, tear_down),
        cmocka_unit_test_setup_teardown(two_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_client_that_leaves_is_not_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_changes_meanwhile_counts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_disk_that_fails, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
