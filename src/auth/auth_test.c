/* The chain, with authenticators that answer as the test asks, and identities: who they are, when
 * and why they end. */
#include "auth/auth_priv.h"
#include "base/mem.h"
#include "base/unit.h"
#include "mqtt/props.h"

#include <string.h>

/* --- an authenticator that does as it is told ----------------------------------------------------
 */

struct fake {
    struct authenticator base;
    enum auth_result result; /* AUTH_PENDING: `call` is kept */
    struct slice knows;
    struct auth_call call;
    const struct auth_credentials *credentials;
    int asked, cancelled, freed;
};

static void fake_cancel(struct auth_call *call)
{
    CONTAINER_OF(call, struct fake, call)->cancelled++;
}

static enum auth_result fake_check(struct authenticator *authenticator,
                                   const struct auth_credentials *credentials, auth_done_fn *done,
                                   void *data, struct auth_answer *ret_answer,
                                   struct auth_call **ret_call)
{
    struct fake *fake = CONTAINER_OF(authenticator, struct fake, base);
    fake->asked++;
    fake->credentials = credentials;
    fake->call = (struct auth_call){.done = done, .data = data, .cancel = fake_cancel};
    *ret_call = &fake->call;
    ret_answer->username = credentials->username;
    ret_answer->subject = credentials->client_id;
    return fake->result;
}

static bool fake_knows(const struct authenticator *authenticator, struct slice subject)
{
    return slice_equal(CONTAINER_OF(authenticator, struct fake, base)->knows, subject);
}

static void fake_free(struct authenticator *authenticator)
{
    CONTAINER_OF(authenticator, struct fake, base)->freed++;
}

static const struct authenticator_ops fake_ops[] = {
    {.name = "one", .check = fake_check, .knows = fake_knows, .free = fake_free},
    {.name = "two", .check = fake_check, .free = fake_free},
};

struct fixture {
    struct loop *loop;
    struct metrics *metrics;
    struct auth *auth;
    struct fake fakes[2];
    struct auth_answer answer; /* the last one that came later */
    int answers;
};

static void put_in(struct auth *auth, struct fake *fakes, size_t count)
{
    auth->chain->count = 0;
    for (size_t i = 0; i < count; i++) {
        fakes[i].base = (struct authenticator){.ops = &fake_ops[i], .refs = 1, .jobs_max = 1};
        auth->chain->items[auth->chain->count++] = &fakes[i].base;
        auth->chain->asked_for = auth->chain->count;
    }
}

static void open_fixture(struct fixture *fixture, bool anonymous)
{
    *fixture = (struct fixture){.metrics = metrics_new()};
    assert_int_equal(loop_new(&fixture->loop, NULL), 0);
    const struct auth_config config = {.anonymous = anonymous, .waiting_max = 2};
    const struct auth_deps deps = {.loop = fixture->loop, .metrics = fixture->metrics};
    assert_int_equal(auth_new(&config, &deps, &fixture->auth, NULL), 0);
    put_in(fixture->auth, fixture->fakes, 2);
}

static void close_fixture(struct fixture *fixture)
{
    (void)auth_free(fixture->auth);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(fixture->fakes[i].freed, 1);
    assert_int_equal(metric_get(&fixture->metrics->auth_waiting), 0);
    (void)metrics_free(fixture->metrics);
    (void)loop_free(fixture->loop);
}

static void on_done(void *data, const struct auth_answer *answer)
{
    struct fixture *fixture = data;
    fixture->answer = *answer;
    fixture->answers++;
}

static enum auth_result ask(struct fixture *fixture, const char *user,
                            struct auth_answer *ret_answer, struct auth_call **ret_call)
{
    const struct auth_credentials credentials = {
        .client_id = slice_str("id"),
        .username = user ? slice_str(user) : slice_of(NULL, 0),
        .password = slice_str("secret"),
        .has_username = user != NULL,
        .has_password = true,
    };
    return auth_connect(fixture->auth, &credentials, on_done, fixture, ret_answer, ret_call);
}

/* What two authenticators say, and what comes of it; asked: whether the second was. */
static const struct {
    enum auth_result one, two, wanted, wanted_nameless;
    bool asked;
} verdicts[] = {
    {AUTH_ALLOWED, AUTH_BAD_CREDENTIALS, AUTH_ALLOWED, AUTH_ALLOWED, false},
    {AUTH_BAD_CREDENTIALS, AUTH_ALLOWED, AUTH_BAD_CREDENTIALS, AUTH_BAD_CREDENTIALS, false},
    {AUTH_NOT_AUTHORIZED, AUTH_ALLOWED, AUTH_NOT_AUTHORIZED, AUTH_NOT_AUTHORIZED, false},
    {AUTH_BUSY, AUTH_ALLOWED, AUTH_BUSY, AUTH_BUSY, false},
    {AUTH_IGNORED, AUTH_ALLOWED, AUTH_ALLOWED, AUTH_ALLOWED, true},
    {AUTH_IGNORED, AUTH_BAD_CREDENTIALS, AUTH_BAD_CREDENTIALS, AUTH_BAD_CREDENTIALS, true},
    {AUTH_IGNORED, AUTH_IGNORED, AUTH_BAD_CREDENTIALS, AUTH_NOT_AUTHORIZED, true},
};

static void the_first_that_does_not_ignore_decides(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(verdicts); i++) {
        for (int later = 0; later < 4; later++) { /* bit 0, 1: the answer of one, two comes later */
            struct fixture fixture;
            struct auth_call *call = NULL;
            struct auth_answer answer;
            open_fixture(&fixture, false);
            struct fake *fakes = fixture.fakes;
            fakes[0].result = later & 1 ? AUTH_PENDING : verdicts[i].one;
            fakes[1].result = later & 2 ? AUTH_PENDING : verdicts[i].two;
            enum auth_result result = ask(&fixture, "u", &answer, &call);
            if (later & 1) {
                assert_int_equal(result, AUTH_PENDING);
                const struct auth_answer one = {.result = verdicts[i].one};
                fakes[0].call.done(fakes[0].call.data, &one);
            }
            if ((later & 2) && verdicts[i].asked) {
                const struct auth_answer two = {.result = verdicts[i].two};
                fakes[1].call.done(fakes[1].call.data, &two);
            }
            if (fixture.answers > 0) {
                assert_int_equal(fixture.answers, 1);
                answer = fixture.answer;
            }
            assert_int_equal(answer.result, verdicts[i].wanted);
            assert_int_equal(fakes[1].asked, verdicts[i].asked);
            if (answer.result == AUTH_ALLOWED)
                assert_string_equal(answer.authenticator, verdicts[i].asked ? "two" : "one");
            close_fixture(&fixture);
        }
    }
}

/* Anonymous is who has no name and whom nobody refuses. */
static void the_nameless_are_asked_about_too(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARRAY_COUNT(verdicts); i++) {
        for (int anonymous = 0; anonymous < 2; anonymous++) {
            struct fixture fixture;
            struct auth_call *call = NULL;
            struct auth_answer answer;
            open_fixture(&fixture, anonymous);
            fixture.fakes[0].result = verdicts[i].one;
            fixture.fakes[1].result = verdicts[i].two;
            const bool silent = verdicts[i].one == AUTH_IGNORED && verdicts[i].two == AUTH_IGNORED;
            assert_int_equal(ask(&fixture, NULL, &answer, &call),
                             silent && anonymous ? AUTH_ALLOWED : verdicts[i].wanted_nameless);
            if (silent && anonymous)
                assert_null(answer.authenticator);
            assert_int_equal(ask(&fixture, "u", &answer, &call), verdicts[i].wanted);
            close_fixture(&fixture);
        }
    }
}

static void credentials_outlive_the_call(void **state)
{
    (void)state;
    struct fixture fixture;
    struct auth_call *call = NULL;
    struct auth_answer answer;
    open_fixture(&fixture, false);
    fixture.fakes[0].result = AUTH_PENDING;
    char user[] = "name";
    struct props props = {.raw = slice_of("\x26\0\1a\0\1b", 7), .user_count = 1};
    const struct auth_credentials credentials = {
        .username = slice_str(user), .has_username = true, .props = &props};
    assert_int_equal(auth_connect(fixture.auth, &credentials, on_done, &fixture, &answer, &call),
                     AUTH_PENDING);
    memset(user, 'x', sizeof user - 1);
    memset(&props, 0, sizeof props);
    const struct auth_credentials *kept = fixture.fakes[0].credentials;
    assert_true(slice_equal(kept->username, slice_str("name")));
    uint32_t pos = 0;
    struct prop_pair pair;
    assert_true(props_user_next(kept->props, &pos, &pair));
    assert_true(slice_equal(pair.value, slice_str("b")));
    auth_cancel(call);
    assert_int_equal(fixture.fakes[0].cancelled, 1);
    assert_int_equal(fixture.answers, 0);
    close_fixture(&fixture);
}

static void questions_are_bounded_and_end_with_the_chain(void **state)
{
    (void)state;
    struct fixture fixture;
    struct auth_call *calls[3] = {0};
    struct auth_answer answer;
    open_fixture(&fixture, false);
    fixture.fakes[0].result = AUTH_PENDING;
    assert_int_equal(ask(&fixture, "u", &answer, &calls[0]), AUTH_PENDING);
    assert_int_equal(ask(&fixture, "u", &answer, &calls[1]), AUTH_PENDING);
    assert_int_equal(metric_get(&fixture.metrics->auth_waiting), 2);
    assert_int_equal(ask(&fixture, "u", &answer, &calls[2]), AUTH_BUSY);
    auth_cancel(calls[0]);
    mem_fail_at(1);
    assert_int_equal(ask(&fixture, "u", &answer, &calls[2]), AUTH_BUSY);
    assert_int_equal(ask(&fixture, "u", &answer, &calls[2]), AUTH_PENDING);
    close_fixture(&fixture); /* with two under way */
}

/* A yes of a chain that has been replaced meanwhile is asked again of the new one. */
static void a_late_yes_is_asked_again(void **state)
{
    (void)state;
    struct fixture fixture;
    struct auth_call *call = NULL;
    struct auth_answer answer;
    open_fixture(&fixture, false);
    fixture.fakes[0].result = AUTH_PENDING;
    assert_int_equal(ask(&fixture, "u", &answer, &call), AUTH_PENDING);
    const struct auth_config config = {.anonymous = false};
    assert_int_equal(auth_configure(fixture.auth, &config, NULL), 0);
    struct fake fresh[1] = {{.result = AUTH_BAD_CREDENTIALS}};
    put_in(fixture.auth, fresh, 1);
    const struct auth_answer yes = {.result = AUTH_ALLOWED};
    fixture.fakes[0].call.done(fixture.fakes[0].call.data, &yes);
    assert_int_equal(fixture.answers, 1);
    assert_int_equal(fixture.answer.result, AUTH_BAD_CREDENTIALS);
    assert_int_equal(fresh[0].asked, 1);
    close_fixture(&fixture);
    assert_int_equal(fresh[0].freed, 1);
}

/* --- identities ----------------------------------------------------------------------------------
 */

struct owner {
    struct identity *identity;
    int ends;
    enum identity_end why;
};

static void on_end(void *data, enum identity_end why)
{
    struct owner *owner = data;
    owner->ends++;
    owner->why = why;
    owner->identity = identity_free(owner->identity);
}

static void own(struct fixture *fixture, struct owner *owner, const char *authenticator,
                const char *subject, uint64_t expire_at_ms)
{
    const struct auth_answer answer = {
        .authenticator = authenticator,
        .expire_at_ms = expire_at_ms,
        .username = slice_str("name"),
        .subject = slice_str(subject),
    };
    *owner = (struct owner){0};
    assert_int_equal(identity_new(fixture->auth, &answer, on_end, owner, &owner->identity), 0);
}

static void identities_expire(void **state)
{
    (void)state;
    struct fixture fixture;
    struct owner owners[3];
    open_fixture(&fixture, false);
    assert_int_equal(loop_turn(fixture.loop, 0), 0);
    const uint64_t now_ms = loop_wall_ms(fixture.loop);
    own(&fixture, &owners[0], "one", "a", now_ms + 1);
    own(&fixture, &owners[1], "one", "a", 1); /* has expired already */
    own(&fixture, &owners[2], "one", "a", now_ms + 3600000);
    assert_int_equal(owners[1].ends, 0); /* not inside the call */
    while (owners[0].ends == 0 || owners[1].ends == 0)
        assert_int_equal(loop_turn(fixture.loop, -1), 0);
    assert_int_equal(owners[0].why, IDENTITY_EXPIRED);
    assert_int_equal(owners[2].ends, 0);
    assert_int_equal(metric_get(&fixture.metrics->auth_expired), 2);
    (void)identity_free(owners[2].identity);
    close_fixture(&fixture);
}

static void identities_are_revoked_by_subject(void **state)
{
    (void)state;
    struct fixture fixture;
    struct owner owners[4];
    open_fixture(&fixture, false);
    own(&fixture, &owners[0], "one", "a", 0);
    own(&fixture, &owners[1], "one", "a", 0);
    own(&fixture, &owners[2], "two", "a", 0);
    own(&fixture, &owners[3], "one", "b", 0);
    identities_revoke(fixture.auth, "one", slice_str("a"));
    identities_revoke(fixture.auth, "one", slice_str("a"));
    static const int ends[] = {1, 1, 0, 0};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(owners[i].ends, ends[i]);
        if (ends[i] > 0)
            assert_int_equal(owners[i].why, IDENTITY_REVOKED);
        (void)identity_free(owners[i].identity);
    }
    assert_int_equal(metric_get(&fixture.metrics->auth_revoked), 2);
    close_fixture(&fixture);
}

/* After a new configuration: who is not known any more goes, many of them in slices. */
static void a_new_chain_reviews_all(void **state)
{
    (void)state;
    enum { MANY = 2000 };
    struct fixture fixture;
    static struct owner owners[MANY];
    open_fixture(&fixture, false);
    fixture.fakes[0].knows = slice_str("stays");
    for (int i = 0; i < MANY; i++)
        own(&fixture, &owners[i],
            i % 4 == 2   ? "two"
            : i % 4 == 3 ? "gone"
                         : "one",
            i % 4 == 0 ? "stays" : "goes", 0);
    identities_review(fixture.auth);
    owners[4].identity = identity_free(owners[4].identity); /* while it is under way */
    while (metric_get(&fixture.metrics->auth_revoked) < MANY / 2)
        assert_int_equal(loop_turn(fixture.loop, -1), 0);
    for (int i = 0; i < MANY; i++) {
        assert_int_equal(owners[i].ends, i % 4 == 1 || i % 4 == 3);
        (void)identity_free(owners[i].identity);
    }
    close_fixture(&fixture);
}

static void identities_without_memory(void **state)
{
    (void)state;
    struct fixture fixture;
    open_fixture(&fixture, false);
    struct owner owner = {0};
    const struct auth_answer answer = {.authenticator = "one",
                                       .username = slice_str("name"),
                                       .acl = slice_str("[]"),
                                       .subject = slice_str("s")};
    int failures = 0;
    for (uint64_t n = 1;; n++) {
        mem_fail_at(n);
        const int err = identity_new(fixture.auth, &answer, on_end, &owner, &owner.identity);
        mem_fail_at(0);
        if (err == 0)
            break;
        assert_int_equal(err, ERR_NOMEM);
        failures++;
    }
    assert_int_equal(failures, 3);
    assert_true(slice_equal(owner.identity->acl, slice_str("[]")));
    (void)identity_free(owner.identity);
    close_fixture(&fixture);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_that_does_not_ignore_decides),
        cmocka_unit_test(the_nameless_are_asked_about_too),
        cmocka_unit_test(credentials_outlive_the_call),
        cmocka_unit_test(questions_are_bounded_and_end_with_the_chain),
        cmocka_unit_test(a_late_yes_is_asked_again),
        cmocka_unit_test(identities_expire),
        cmocka_unit_test(identities_are_revoked_by_subject),
        cmocka_unit_test(a_new_chain_reviews_all),
        cmocka_unit_test(identities_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
