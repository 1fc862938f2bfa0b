#include "io/mailbox.h"

#include "base/mem.h"
#include "base/unit.h"

#include <errno.h>
#include <pthread.h>
#include <sys/resource.h>
#include <unistd.h>

enum { POSTERS = 4, LETTERS = 5000 };

struct letter {
    struct mail mail;
    struct office *office;
    int poster, number;
    bool answer; /* posts another letter when delivered */
};

struct office {
    struct loop *loop;
    struct mailbox *mailbox;
    int next[POSTERS]; /* the number expected from each poster */
    int delivered, expected;
};

struct poster {
    struct office *office;
    int index;
};

static void post(struct office *office, int poster, int number, bool answer);

static void on_letter(struct mail *mail)
{
    struct letter *letter = CONTAINER_OF(mail, struct letter, mail);
    struct office *office = letter->office;
    assert_int_equal(letter->number, office->next[letter->poster]++);
    if (letter->answer)
        post(office, letter->poster, letter->number + 1, false);
    mem_free(letter);
    if (++office->delivered == office->expected)
        loop_stop(office->loop);
}

static void post(struct office *office, int poster, int number, bool answer)
{
    struct letter *letter = mem_new(sizeof *letter);
    *letter = (struct letter){.mail.deliver = on_letter,
                              .office = office,
                              .poster = poster,
                              .number = number,
                              .answer = answer};
    mailbox_post(office->mailbox, &letter->mail);
}

static void office_init(struct office *office, int expected)
{
    *office = (struct office){.expected = expected};
    assert_int_equal(loop_new(&office->loop, NULL), 0);
    assert_int_equal(mailbox_new(office->loop, &office->mailbox, NULL), 0);
}

static void office_done(struct office *office)
{
    assert_null(mailbox_free(office->mailbox));
    assert_null(loop_free(office->loop));
}

static void *post_many(void *data)
{
    const struct poster *poster = data;
    for (int i = 0; i < LETTERS; i++)
        post(poster->office, poster->index, i, false);
    return NULL;
}

static void each_posters_order_is_kept(void **state)
{
    (void)state;
    struct office office;
    struct poster posters[POSTERS];
    pthread_t threads[POSTERS];
    office_init(&office, POSTERS * LETTERS);
    for (int i = 0; i < POSTERS; i++) {
        posters[i] = (struct poster){.office = &office, .index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, post_many, &posters[i]), 0);
    }
    assert_int_equal(loop_run(office.loop), 0);
    for (int i = 0; i < POSTERS; i++) {
        assert_int_equal(pthread_join(threads[i], NULL), 0);
        assert_int_equal(office.next[i], LETTERS);
    }
    office_done(&office);
}

static void delivery_happens_in_the_loop_only(void **state)
{
    (void)state;
    struct office office;
    office_init(&office, 2);
    post(&office, 0, 0, false);
    post(&office, 0, 1, false);
    assert_int_equal(office.delivered, 0);
    assert_int_equal(loop_turn(office.loop, -1), 0);
    assert_int_equal(office.delivered, 2);
    assert_int_equal(loop_turn(office.loop, 0), 0);
    assert_int_equal(office.delivered, 2);
    office_done(&office);
}

static void mail_posted_by_a_delivery_comes_next(void **state)
{
    (void)state;
    struct office office;
    office_init(&office, 2);
    post(&office, 0, 0, true);
    assert_int_equal(loop_turn(office.loop, -1), 0);
    assert_int_equal(office.delivered, 1);
    assert_int_equal(loop_turn(office.loop, -1), 0);
    assert_int_equal(office.delivered, 2);
    office_done(&office);
}

static void free_delivers_what_is_left(void **state)
{
    (void)state;
    struct office office;
    office_init(&office, 100);
    for (int i = 0; i < 10; i++)
        post(&office, 0, i, i == 9);
    office.mailbox = mailbox_free(office.mailbox);
    assert_int_equal(office.delivered, 11);
    office_done(&office);
}

static void no_descriptor_left_is_an_error(void **state)
{
    (void)state;
    struct loop *loop = NULL;
    struct mailbox *mailbox = NULL;
    struct errmsg msg = {0};
    struct rlimit before, tight;
    assert_int_equal(loop_new(&loop, NULL), 0);
    const int lowest_free = dup(STDERR_FILENO);
    (void)close(lowest_free);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    tight = before;
    tight.rlim_cur = (rlim_t)lowest_free;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    const int err = mailbox_new(loop, &mailbox, &msg);
    struct loop *second = NULL;
    const int err_loop = loop_new(&second, NULL);
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &before), 0);
    assert_int_equal(err, -EMFILE);
    assert_int_equal(err_loop, -EMFILE);
    assert_null(mailbox);
    assert_null(second);
    assert_string_equal(msg.text, "could not create a mailbox: Too many open files");
    (void)loop_free(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_posters_order_is_kept),
        cmocka_unit_test(delivery_happens_in_the_loop_only),
        cmocka_unit_test(mail_posted_by_a_delivery_comes_next),
        cmocka_unit_test(free_delivers_what_is_left),
        cmocka_unit_test(no_descriptor_left_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
