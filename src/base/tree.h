/* Intrusive ordered set: a binary tree whose shape depends on a secret hash of the nodes' addresses
 * (a treap), so that neither the order of insertion nor a peer's choice of keys can make it deep.
 * Keys are unique and belong to the owner. Cost: 24 bytes a node, about 2 ln n comparisons; one to
 * insert a key above all others. Thread: owner. */
#pragma once

#include "base/base.h"

struct treenode {
    struct treenode *left, *right, *parent;
};

/* Below 0, 0 or above 0: the node's key comes before `key`, is it, comes after it. */
typedef int tree_order_fn(const struct treenode *node, const void *key);

struct tree {
    struct treenode *root;
    struct treenode *last; /* with the highest key; NULL: it is empty */
    tree_order_fn *order;
};

void tree_init(struct tree *tree, tree_order_fn *order);
/* key: the node's own, which no other node of the tree has. */
void tree_insert(struct tree *tree, struct treenode *node, const void *key);
void tree_remove(struct tree *tree, struct treenode *node); /* node must be in the tree */

struct treenode *tree_first(const struct tree *tree); /* NULL: it is empty */
/* The first node above `key`, which need not be in the tree; NULL: there is none. */
struct treenode *tree_above(const struct tree *tree, const void *key);
struct treenode *tree_next(const struct treenode *node);
