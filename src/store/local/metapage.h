/* LMDB's file format 1 (LMDB 0.9), as far as metawalk.c reads it. */
#pragma once

#include "base/base.h"

#define METAPAGE_MAGIC      UINT32_C(0xBEEFC0DE)
#define METAPAGE_FORMAT     1u
#define METAPAGE_NONE       UINT64_MAX /* root of an empty tree */
#define METAPAGE_DEPTH_MAX  32u
#define METAPAGE_FIRST      2u    /* after the two meta pages */
#define METAPAGE_FREE_FLAGS 0x08u /* MDB_INTEGERKEY, of the tree of free pages */

enum metapage_flags {
    METAPAGE_BRANCH = 0x01,
    METAPAGE_LEAF = 0x02,
    METAPAGE_OVERFLOW = 0x04,
    METAPAGE_META = 0x08,
};

enum metanode_flags {
    METANODE_BIG = 0x01,  /* the value lies in overflow pages */
    METANODE_TREE = 0x02, /* the value is a tree's record */
};

struct metapage_header {
    uint64_t number;
    uint16_t unused;
    uint16_t flags;
    union {
        struct {
            uint16_t lower, upper; /* the free room between node pointers and nodes */
        };
        uint32_t page_count; /* of an overflow page: how many follow on, itself included */
    };
};
_Static_assert(sizeof(struct metapage_header) == 16, "LMDB's layout");

/* A tree's record. */
struct metapage_tree {
    uint32_t page_size; /* in the tree of free pages; in others 0 */
    uint16_t flags;
    uint16_t depth;
    uint64_t branch_pages, leaf_pages, overflow_pages;
    uint64_t entries;
    uint64_t root;
};
_Static_assert(sizeof(struct metapage_tree) == 48, "LMDB's layout");

struct metapage_meta {
    struct metapage_header header;
    uint32_t magic;
    uint32_t format;
    uint64_t address;
    uint64_t map_size;
    struct metapage_tree free, main;
    uint64_t last_page;
    uint64_t txn_id;
};
_Static_assert(sizeof(struct metapage_meta) == 152, "LMDB's layout");

struct metapage_node {
    uint16_t low, high; /* size of the value; in a branch the page number's lower 32 bits */
    uint16_t flags;     /* in a branch the page number's upper 16 bits */
    uint16_t key_size;
};
_Static_assert(sizeof(struct metapage_node) == 8, "LMDB's layout");
