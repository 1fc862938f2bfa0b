/* Runs seeds. usage: sim [--seeds N] [--first SEED] [--steps N] [--seed SEED [--trace] [--shrink]]
 *
 * TIDEMQ_SIM_SEEDS and TIDEMQ_SIM_FIRST say more than the arguments; TIDEMQ_LONG=1 makes ten times
 * as many otherwise. A few seeds run twice and must do the same. Histories run in
 * child processes, a batch in each: a killed server leaves the memory of its requests behind, and a
 * failed assertion in the core ends a child only. A failure prints seed, step, what was wrong, and
 * the command that replays it. --shrink leaves out steps for as long as the same thing goes wrong.
 */
#include "sim.h"

#include "base/hashmap.h"

#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { BATCH = 50, ALARM_S = 30, ALIKE = 5, STEPS_MAX = 100000, TEXT_SIZE = 256 };

/* What a child tells. */
static struct report {
    uint64_t seed, digest;
    uint32_t step, done;
    uint32_t messages, kills;
    char text[TEXT_SIZE];
} * report;

uint32_t sim_step;
bool sim_tracing;
uint64_t sim_digest;

void sim_failed(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(report->text, sizeof report->text, format, arguments);
    va_end(arguments);
    report->step = sim_step;
    sim_trace("FAILED: %s", report->text);
    (void)fflush(stdout);
    _exit(1);
}

void sim_trace(const char *format, ...)
{
    if (!sim_tracing)
        return;
    va_list arguments;
    va_start(arguments, format);
    (void)vprintf(format, arguments);
    va_end(arguments);
    (void)printf("\n");
}

static void run_one(uint64_t seed, uint32_t steps, const bool *without)
{
    report->seed = seed;
    (void)alarm(ALARM_S); /* or it would go round in circles unseen */
    sim_digest = 0xCBF29CE484222325u;
    hash_set_seed(1);
    history_run(seed, steps, without);
    report->digest = sim_digest;
    report->messages += model.message_count;
    report->done++;
}

/* Runs in a child. Returns false when it failed; *report says where. */
static bool run_child(uint64_t first, uint32_t count, uint32_t steps, const bool *without)
{
    (void)fflush(stdout);
    report->text[0] = '\0';
    const pid_t child = fork();
    if (child == 0) {
        if (!sim_tracing) /* what an assertion prints, the report of the replay will say */
            (void)!freopen("/dev/null", "w", stderr);
        for (uint32_t i = 0; i < count; i++)
            run_one(first + i, steps, without);
        (void)fflush(stdout);
        _exit(0);
    }
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child)
        exit(2);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return true;
    if (report->text[0] == '\0') {
        report->step = UINT32_MAX;
        (void)snprintf(report->text, sizeof report->text, "the process ended with status 0x%x",
                       (unsigned)status);
    }
    return false;
}

/* What went wrong, without the numbers in it. */
static void kind_of(const char *text, char *ret_kind)
{
    size_t size = 0;
    for (; *text && size + 1 < TEXT_SIZE; text++) {
        if (*text < '0' || *text > '9')
            ret_kind[size++] = *text;
    }
    ret_kind[size] = '\0';
}

static uint32_t shrink(uint64_t seed, uint32_t steps, bool *without)
{
    char wanted[TEXT_SIZE], kind[TEXT_SIZE];
    kind_of(report->text, wanted);
    if (report->step < steps)
        steps = report->step + 1;
    for (uint32_t size = steps / 2; size > 0; size /= 2) {
        for (uint32_t from = 0; from < steps; from += size) {
            bool kept[STEPS_MAX];
            memcpy(kept, without, steps);
            for (uint32_t i = from; i < MIN(from + size, steps); i++)
                without[i] = true;
            const bool fails =
                memcmp(kept, without, steps) == 0 || !run_child(seed, 1, steps, without);
            kind_of(report->text, kind);
            if (!fails || strcmp(kind, wanted) != 0)
                memcpy(without, kept, steps);
        }
    }
    return steps;
}

static int replay(uint64_t seed, uint32_t steps, bool shrinks, bool traces)
{
    static bool without[STEPS_MAX];
    sim_tracing = traces && !shrinks;
    const bool good = run_child(seed, 1, steps, NULL);
    if (!good && shrinks) {
        steps = shrink(seed, steps, without);
        sim_tracing = traces;
        (void)run_child(seed, 1, steps, without);
    }
    if (!good)
        (void)printf("seed %llu failed at step %u: %s\n", (unsigned long long)seed, report->step,
                     report->text);
    else
        (void)printf("seed %llu is good, digest %016llx\n", (unsigned long long)seed,
                     (unsigned long long)report->digest);
    return good ? 0 : 1;
}

static uint64_t from_environment(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? strtoull(text, NULL, 10) : otherwise;
}

/* A failure is worth nothing that does not come again. */
static bool replays_alike(uint64_t first, uint32_t steps)
{
    for (uint64_t seed = first; seed < first + ALIKE; seed++) {
        uint64_t digests[2];
        for (int i = 0; i < 2; i++) {
            if (!run_child(seed, 1, steps, NULL))
                return true; /* told by the run itself */
            digests[i] = report->digest;
        }
        if (digests[0] != digests[1]) {
            (void)printf("seed %llu does something else each time\n", (unsigned long long)seed);
            return false;
        }
    }
    return true;
}

static int run_many(const char *program, uint64_t first, uint32_t seeds, uint32_t steps)
{
    uint32_t failed = replays_alike(first, steps) ? 0 : 1;
    for (uint64_t seed = first; seed < first + seeds;) {
        const uint32_t count = (uint32_t)MIN((uint64_t)BATCH, first + seeds - seed);
        if (run_child(seed, count, steps, NULL)) {
            seed += count;
            continue;
        }
        failed++;
        (void)printf("seed %llu failed at step %u: %s\n  again: %s --seed %llu --steps %u\n",
                     (unsigned long long)report->seed, report->step, report->text, program,
                     (unsigned long long)report->seed, steps);
        seed = report->seed + 1;
    }
    (void)printf("%u histories of %u steps from seed %llu, %u messages: %u passed, %u failed\n",
                 seeds, steps, (unsigned long long)first, report->messages, seeds - failed, failed);
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    const bool is_long = from_environment("TIDEMQ_LONG", 0) > 0;
    uint64_t first = 1, seed = 0;
    uint32_t seeds = 1000, steps = 500;
    bool shrinks = false, traces = false;
    for (int i = 1; i < argc; i++) {
        const uint64_t value = i + 1 < argc ? strtoull(argv[i + 1], NULL, 10) : 0;
        if (strcmp(argv[i], "--seeds") == 0)
            seeds = (uint32_t)value;
        else if (strcmp(argv[i], "--first") == 0)
            first = value;
        else if (strcmp(argv[i], "--steps") == 0)
            steps = (uint32_t)MIN(value, (uint64_t)STEPS_MAX);
        else if (strcmp(argv[i], "--seed") == 0)
            seed = value;
        shrinks |= strcmp(argv[i], "--shrink") == 0;
        traces |= strcmp(argv[i], "--trace") == 0;
    }
    seeds = (uint32_t)from_environment("TIDEMQ_SIM_SEEDS", is_long ? 10 * seeds : seeds);
    first = from_environment("TIDEMQ_SIM_FIRST", first);
    report = mmap(NULL, sizeof *report, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (report == MAP_FAILED)
        return 2;
    return seed ? replay(seed, steps, shrinks, traces) : run_many(argv[0], first, seeds, steps);
}
