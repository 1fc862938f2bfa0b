#include "base/err.h"

#include "base/unit.h"

#include <errno.h>
#include <string.h>

static void wrap_builds_from_the_inside_out(void **state)
{
    (void)state;
    struct errmsg msg = {0};
    errmsg_wrap(&msg, "No space left on device");
    assert_string_equal(msg.text, "No space left on device");
    errmsg_wrap(&msg, "could not open segment '%s'", "x.log");
    assert_string_equal(msg.text, "could not open segment 'x.log': No space left on device");
}

static void wrap_accepts_no_message(void **state)
{
    (void)state;
    errmsg_wrap(NULL, "nobody reads %d", 1);
}

/* Joined length 510 and 511 fit, 512 is cut: the mark stands right before the NUL. */
static void wrap_marks_what_was_cut(void **state)
{
    (void)state;
    for (size_t head_size = 0; head_size <= 600; head_size++) {
        char head[601] = {0};
        memset(head, 'h', head_size);
        struct errmsg msg = {.text = "tail"};
        errmsg_wrap(&msg, "%s", head);
        const size_t whole = head_size + strlen(": tail");
        if (whole < sizeof msg.text) {
            assert_int_equal(strlen(msg.text), whole);
            assert_null(strchr(msg.text, '~'));
        } else {
            assert_int_equal(strlen(msg.text), sizeof msg.text - 1);
            assert_int_equal(msg.text[sizeof msg.text - 2], '~');
        }
    }
}

static void text_of_own_and_system_codes(void **state)
{
    (void)state;
    assert_string_equal(err_text(0), "success");
    assert_string_equal(err_text(ERR_NOTFOUND), "no such object");
    assert_string_equal(err_text(-ENOSPC), "No space left on device");
    assert_string_equal(err_text(-999), "unknown error");
    assert_string_equal(err_text(-5000), "unknown error");
    assert_string_equal(err_text(1), "unknown error");
}

/* Every code of err.def is at or below -1000, where no errno lies, and has a text of its own. */
static void codes_are_distinct(void **state)
{
    (void)state;
    static const int codes[] = {
#define X(name, num, text) name,
#include "base/err.def"
#undef X
    };
    for (size_t i = 0; i < sizeof codes / sizeof codes[0]; i++) {
        assert_true(codes[i] <= -1000);
        assert_string_not_equal(err_text(codes[i]), "unknown error");
        for (size_t j = 0; j < i; j++)
            assert_string_not_equal(err_text(codes[i]), err_text(codes[j]));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(wrap_builds_from_the_inside_out),
        cmocka_unit_test(wrap_accepts_no_message),
        cmocka_unit_test(wrap_marks_what_was_cut),
        cmocka_unit_test(text_of_own_and_system_codes),
        cmocka_unit_test(codes_are_distinct),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
