#include "base/tree.h"

#include "base/mem.h"
#include "base/unit.h"

enum { KEYS = 3000 };

struct item {
    struct treenode node;
    uint32_t key;
    bool present;
};

static int order(const struct treenode *node, const void *key)
{
    const uint32_t own = CONTAINER_OF(node, const struct item, node)->key;
    const uint32_t other = *(const uint32_t *)key;
    return (own > other) - (own < other);
}

static uint32_t comparisons;

static int counting_order(const struct treenode *node, const void *key)
{
    comparisons++;
    return order(node, key);
}

static void toggle(struct tree *tree, struct item *item)
{
    if (item->present)
        tree_remove(tree, &item->node);
    else
        tree_insert(tree, &item->node, &item->key);
    item->present = !item->present;
}

/* The walk shows the keys that are present, in order; so does each search. */
static void check(const struct tree *tree, const struct item *items)
{
    const struct treenode *node = tree_first(tree);
    for (uint32_t key = 0; key < KEYS; key++) {
        if (!items[key].present)
            continue;
        assert_ptr_equal(node, &items[key].node);
        if (key > 0) {
            const uint32_t before = key - 1;
            assert_ptr_equal(tree_above(tree, &before), node);
        }
        node = tree_next(node);
    }
    assert_null(node);
    assert_true(!tree->last == !tree->root && (!tree->last || !tree_next(tree->last)));
    const uint32_t last = KEYS;
    assert_null(tree_above(tree, &last));
}

static uint32_t depth(const struct treenode *node)
{
    uint32_t count = 0;
    for (; node; node = node->parent)
        count++;
    return count;
}

static void agrees_with_a_naive_model(void **state)
{
    (void)state;
    struct tree tree;
    struct item *items = mem_new(KEYS * sizeof *items);
    for (uint32_t key = 0; key < KEYS; key++)
        items[key].key = key;
    tree_init(&tree, order);
    check(&tree, items);
    uint64_t seed = 7;
    for (uint32_t step = 0; step < 20000; step++) {
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        toggle(&tree, &items[(seed >> 33) % KEYS]);
        if (step % 1000 == 0)
            check(&tree, items);
    }
    check(&tree, items);
    for (uint32_t key = 0; key < KEYS; key++) {
        if (items[key].present)
            toggle(&tree, &items[key]);
    }
    assert_null(tree.root);
    mem_free(items);
}

/* What is above all others is put there without a search, also after the highest was removed. */
static void ascending_keys_cost_one_comparison(void **state)
{
    (void)state;
    struct tree tree;
    struct item *items = mem_new(KEYS * sizeof *items);
    tree_init(&tree, counting_order);
    for (uint32_t key = 0; key < KEYS; key++) {
        items[key].key = key;
        toggle(&tree, &items[key]);
    }
    assert_int_equal(comparisons, KEYS - 1);
    for (uint32_t key = KEYS - 1; key > KEYS / 2; key--)
        toggle(&tree, &items[key]);
    assert_ptr_equal(tree.last, &items[KEYS / 2].node);
    comparisons = 0;
    toggle(&tree, &items[KEYS - 1]);
    assert_int_equal(comparisons, 1);
    assert_ptr_equal(tree.last, &items[KEYS - 1].node);
    check(&tree, items);
    mem_free(items);
}

/* Ascending, descending and alternating insertions: never deep. */
static void no_order_of_insertion_makes_it_deep(void **state)
{
    (void)state;
    for (uint32_t way = 0; way < 3; way++) {
        struct tree tree;
        struct item *items = mem_new(KEYS * sizeof *items);
        tree_init(&tree, order);
        for (uint32_t i = 0; i < KEYS; i++) {
            items[i].key = way == 0 ? i : way == 1 ? KEYS - i : i % 2 ? i : 2 * KEYS - i;
            toggle(&tree, &items[i]);
        }
        for (uint32_t i = 0; i < KEYS; i++)
            assert_true(depth(&items[i].node) < 60);
        mem_free(items);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_a_naive_model),
        cmocka_unit_test(ascending_keys_cost_one_comparison),
        cmocka_unit_test(no_order_of_insertion_makes_it_deep),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
