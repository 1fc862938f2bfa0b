#include "base/list.h"

#include "base/unit.h"

struct item {
    int value;
    struct list node;
};

static void expect_values(const struct list *head, const int *values, size_t count)
{
    size_t i = 0;
    list_each (it, head) {
        assert_true(i < count);
        assert_int_equal(CONTAINER_OF(it, struct item, node)->value, values[i]);
        assert_ptr_equal(it->next->prev, it);
        i++;
    }
    assert_int_equal(i, count);
}

static void items_init(struct item *items, int count)
{
    for (int i = 0; i < count; i++) {
        items[i].value = i;
        list_init(&items[i].node);
    }
}

static void order_of_insertion(void **state)
{
    (void)state;
    struct list head;
    struct item items[4];
    list_init(&head);
    items_init(items, 4);
    assert_true(list_empty(&head));
    assert_null(LIST_FIRST(&head, struct item, node));
    list_push_back(&head, &items[1].node);
    list_push_back(&head, &items[3].node);
    list_push_front(&head, &items[0].node);
    list_insert_before(&items[3].node, &items[2].node);
    expect_values(&head, (int[]){0, 1, 2, 3}, 4);
    assert_ptr_equal(LIST_FIRST(&head, struct item, node), &items[0]);
}

static void removing_twice_is_harmless(void **state)
{
    (void)state;
    struct list head;
    struct item items[3];
    list_init(&head);
    items_init(items, 3);
    for (int i = 0; i < 3; i++)
        list_push_back(&head, &items[i].node);
    list_remove(&items[1].node);
    assert_true(list_empty(&items[1].node));
    list_remove(&items[1].node);
    expect_values(&head, (int[]){0, 2}, 2);
    list_push_back(&head, &items[1].node);
    expect_values(&head, (int[]){0, 2, 1}, 3);
    struct item never_in = {0};
    list_init(&never_in.node);
    list_remove(&never_in.node);
    assert_true(list_empty(&never_in.node));
}

static void safe_walk_may_remove_the_current(void **state)
{
    (void)state;
    struct list head;
    struct item items[6];
    list_init(&head);
    items_init(items, 6);
    for (int i = 0; i < 6; i++)
        list_push_back(&head, &items[i].node);
    list_each_safe (it, &head) {
        if (CONTAINER_OF(it, struct item, node)->value % 2 == 0)
            list_remove(it);
    }
    expect_values(&head, (int[]){1, 3, 5}, 3);
    list_each_safe (it, &head) {
        list_remove(it);
    }
    assert_true(list_empty(&head));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(order_of_insertion),
        cmocka_unit_test(removing_twice_is_harmless),
        cmocka_unit_test(safe_walk_may_remove_the_current),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
