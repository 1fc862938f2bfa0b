/* A node's priority is not stored but computed: nodes are few on the way up.
 *
 * Invariants: keys ascend from left to right; no node's priority is above its parent's; `last` has
 * the highest key.
 */
#include "base/tree.h"

#include "base/hashmap.h"

static uint64_t priority(const struct treenode *node)
{
    return hash_u64((uint64_t)(uintptr_t)node);
}

/* The pointer that leads to the node. */
static struct treenode **link_to(struct tree *tree, const struct treenode *node)
{
    struct treenode *parent = node->parent;
    if (!parent)
        return &tree->root;
    return parent->left == node ? &parent->left : &parent->right;
}

/* Puts the node in its parent's place, and the parent beneath it. */
static void lift(struct tree *tree, struct treenode *node)
{
    struct treenode *parent = node->parent;
    struct treenode **place = link_to(tree, parent);
    struct treenode *middle = NULL;
    if (parent->left == node) {
        middle = node->right;
        parent->left = middle;
        node->right = parent;
    } else {
        middle = node->left;
        parent->right = middle;
        node->left = parent;
    }
    if (middle)
        middle->parent = parent;
    node->parent = parent->parent;
    parent->parent = node;
    *place = node;
}

void tree_init(struct tree *tree, tree_order_fn *order)
{
    *tree = (struct tree){.order = order};
}

/* Where a node with `key` goes; *ret_parent: what will be its parent, NULL: it will be the root. */
static struct treenode **place_for(struct tree *tree, const void *key, struct treenode **ret_parent)
{
    struct treenode *parent = tree->last;
    struct treenode **place = parent ? &parent->right : &tree->root;
    if (parent && tree->order(parent, key) > 0) {
        place = &tree->root;
        while (*place) {
            parent = *place;
            place = tree->order(parent, key) > 0 ? &parent->left : &parent->right;
        }
    }
    *ret_parent = parent;
    return place;
}

void tree_insert(struct tree *tree, struct treenode *node, const void *key)
{
    struct treenode *parent = NULL;
    struct treenode **place = place_for(tree, key, &parent);
    if (parent == tree->last && (!parent || place == &parent->right))
        tree->last = node;
    *node = (struct treenode){.parent = parent};
    *place = node;
    const uint64_t own = priority(node);
    while (node->parent && priority(node->parent) < own)
        lift(tree, node);
}

/* The node with the highest key below that of `node`, which has the highest of all. */
static struct treenode *before_last(const struct treenode *node)
{
    struct treenode *before = node->left;
    if (!before)
        return node->parent;
    while (before->right)
        before = before->right;
    return before;
}

void tree_remove(struct tree *tree, struct treenode *node)
{
    if (tree->last == node)
        tree->last = before_last(node);
    while (node->left && node->right) {
        const bool left = priority(node->left) > priority(node->right);
        lift(tree, left ? node->left : node->right);
    }
    struct treenode *child = node->left ? node->left : node->right;
    *link_to(tree, node) = child;
    if (child)
        child->parent = node->parent;
    *node = (struct treenode){0};
}

struct treenode *tree_first(const struct tree *tree)
{
    struct treenode *node = tree->root;
    while (node && node->left)
        node = node->left;
    return node;
}

struct treenode *tree_above(const struct tree *tree, const void *key)
{
    struct treenode *node = tree->root, *above = NULL;
    while (node) {
        if (tree->order(node, key) > 0) {
            above = node;
            node = node->left;
        } else {
            node = node->right;
        }
    }
    return above;
}

struct treenode *tree_next(const struct treenode *node)
{
    if (node->right) {
        struct treenode *next = node->right;
        while (next->left)
            next = next->left;
        return next;
    }
    struct treenode *above = node->parent;
    while (above && above->right == node) {
        node = above;
        above = above->parent;
    }
    return above;
}
