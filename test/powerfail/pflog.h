/* The operation log: what the recorder appends and the replayer reads.
 *
 * A log is a sequence of records, each one header followed by two names and data, all unpadded
 * and little-endian. A record is appended by a single write to a file opened with O_APPEND, so
 * that several threads and processes may share a log; the order of the records is the order in
 * which the simulated machine executed them.
 *
 * Files and directories are named by inode number. A number that the file system gives to a new
 * file announces itself by a new PF_CREATE record.
 */
#pragma once

#include <stdint.h>

#define PF_MAGIC UINT64_C(0x31474f4c5f464354)

enum pf_op {
    PF_START = 1,       /* a process began recording; name1 = the directory, arg2 = its mode */
    PF_BASE_END = 2,    /* all before this stood, durable, before recording began */
    PF_CREATE = 3,      /* ino, mode arg2, under name1 in directory arg1; O_TMPFILE: no name */
    PF_LINK = 4,        /* another name, name1 in directory arg1, for ino */
    PF_UNLINK = 5,      /* name1 leaves directory arg1 */
    PF_RENAME = 6,      /* name1 in directory arg1 becomes name2 in directory arg2 */
    PF_WRITE = 7,       /* data at offset arg1 of ino; arg2 = token of its PF_DURABLE, or 0 */
    PF_ZERO = 8,        /* arg2 bytes at offset arg1 of ino become zero, the size stays */
    PF_TRUNCATE = 9,    /* the size of ino becomes arg1 */
    PF_EXTEND = 10,     /* the size of ino becomes at least arg1 */
    PF_DURABLE = 11,    /* the writes of ino with token arg1 returned from an O_DSYNC descriptor */
    PF_SYNC_BEGIN = 12, /* a sync of ino (0: of everything) was called; arg1 = its token */
    PF_SYNC_END = 13,   /* the sync with token arg1 returned; arg2 = errno, 0 for success */
    PF_MARK = 14,       /* the program under test promises arg1 from here on */
    PF_HINT = 15,       /* a call that promises nothing (name1), on ino */
    PF_UNSEEN = 16,     /* ino can change from here on without a record, through name1 */
};

enum pf_flag {
    PF_DIRECTORY = 1, /* PF_CREATE: a directory */
    PF_EXCHANGE = 2,  /* PF_RENAME: both names stay and change places */
};

struct pf_record {
    uint64_t magic;
    uint16_t op;
    uint16_t flags;
    uint16_t name1_size; /* bytes, no terminator */
    uint16_t name2_size;
    uint64_t ino;
    uint64_t arg1;
    uint64_t arg2;
    uint64_t data_size; /* bytes after the names */
};
