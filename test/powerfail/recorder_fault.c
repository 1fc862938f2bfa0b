/* Faults that the recorder injects into calls on watched files.
 *
 * PF_FAIL=CALL:N:ERRNO[,...]: the N-th call fails; N+ means the N-th and all later ones. CALL is
 * a libc name (the 64-bit twins count as the plain name), or any-write or any-sync. PF_SHORT=N:
 * every N-th write call writes half of its bytes. PF_NOSYNC=all|files|dirs|dsync: no sync, none of
 * files, none of directories, or none that O_DSYNC implies, takes place (1 means all).
 */
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define RULE_COUNT_MAX 16
#define ERRNO_MAX      200
#define SECTOR_SIZE    512u

struct rule {
    char call[32];
    uint64_t first;
    bool onward;
    int err;
    atomic_uint_fast64_t calls;
};

static struct {
    struct rule rules[RULE_COUNT_MAX];
    size_t rule_count;
    uint64_t short_every; /* 0: never */
    atomic_uint_fast64_t writes;
    bool nosync[RECORDER_SYNC_KINDS];
} faults;

static void reject(const char *variable)
{
    static const char text[] = "powerfail recorder: not understood: ";
    (void)!write(2, text, sizeof text - 1);
    (void)!write(2, variable, strlen(variable));
    (void)!write(2, "\n", 1);
    _exit(99);
}

/* Returns the number of an errno given as a name or in digits, 0 when it is neither. */
static int parse_errno(const char *text)
{
    for (int err = 1; err < ERRNO_MAX; err++) {
        const char *name = strerrorname_np(err);
        if (name && strcmp(name, text) == 0)
            return err;
    }
    char *end;
    const unsigned long err = strtoul(text, &end, 10);
    return *end == '\0' && err < ERRNO_MAX ? (int)err : 0;
}

static bool parse_rule(char *text, struct rule *rule)
{
    char *rest = text;
    const char *call = strsep(&rest, ":");
    const char *count = strsep(&rest, ":");
    if (!rest || strlen(call) >= sizeof rule->call)
        return false;
    memcpy(rule->call, call, strlen(call) + 1);
    char *end;
    rule->first = strtoull(count, &end, 10);
    rule->onward = *end == '+';
    rule->err = parse_errno(rest);
    return rule->first > 0 && end[rule->onward] == '\0' && rule->err > 0;
}

static void parse_nosync(const char *text)
{
    const bool all = strcmp(text, "all") == 0 || strcmp(text, "1") == 0;
    const bool files = all || strcmp(text, "files") == 0;
    const bool dirs = all || strcmp(text, "dirs") == 0;
    const bool dsync = files || strcmp(text, "dsync") == 0;
    if (!dirs && !dsync)
        reject("PF_NOSYNC");
    faults.nosync[RECORDER_SYNC_FILE] = files;
    faults.nosync[RECORDER_SYNC_DIR] = dirs;
    faults.nosync[RECORDER_SYNC_ALL] = all;
    faults.nosync[RECORDER_SYNC_WRITE] = dsync;
}

__attribute__((constructor)) static void start(void)
{
    const char *nosync = getenv("PF_NOSYNC");
    if (nosync)
        parse_nosync(nosync);
    const char *every = getenv("PF_SHORT");
    if (every) {
        char *end;
        faults.short_every = strtoull(every, &end, 10);
        if (*end != '\0' || faults.short_every == 0)
            reject("PF_SHORT");
    }
    const char *rules = getenv("PF_FAIL");
    if (!rules)
        return;
    char text[1024];
    if (strlen(rules) >= sizeof text)
        reject("PF_FAIL");
    memcpy(text, rules, strlen(rules) + 1);
    for (char *rest = text, *one; (one = strsep(&rest, ","));) {
        if (faults.rule_count == RULE_COUNT_MAX ||
            !parse_rule(one, &faults.rules[faults.rule_count++]))
            reject("PF_FAIL");
    }
}

bool recorder_fails(const char *call, enum recorder_group group)
{
    for (size_t i = 0; i < faults.rule_count; i++) {
        struct rule *rule = &faults.rules[i];
        const bool meant = strcmp(rule->call, call) == 0 ||
                           (group == RECORDER_WRITE && strcmp(rule->call, "any-write") == 0) ||
                           (group == RECORDER_SYNC && strcmp(rule->call, "any-sync") == 0);
        if (!meant)
            continue;
        const uint64_t number = atomic_fetch_add(&rule->calls, 1) + 1;
        if (number == rule->first || (rule->onward && number > rule->first)) {
            errno = rule->err;
            return true;
        }
    }
    return false;
}

size_t recorder_shorten(const struct recorder_file *file, size_t size)
{
    if (faults.short_every == 0 ||
        (atomic_fetch_add(&faults.writes, 1) + 1) % faults.short_every != 0)
        return size;
    size_t half = size / 2;
    if (file->open_flags & O_DIRECT)
        half -= half % SECTOR_SIZE;
    return half > 0 ? half : size;
}

bool recorder_ignores_sync(enum recorder_sync kind)
{
    return faults.nosync[kind];
}
