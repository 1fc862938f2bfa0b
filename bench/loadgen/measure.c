#include "measure.h"
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

static double seconds_of(clockid_t clock)
{
    struct timespec value;
    if (clock_gettime(clock, &value) < 0)
        return 0;
    return (double)value.tv_sec + (double)value.tv_nsec / 1e9;
}

/* Returns the CPU clock of the server, which counts what /proc/PID/stat shows, but in
 * nanoseconds and not in hundredths of a second. */
static bool server_clock(pid_t pid, clockid_t *ret_clock)
{
    return pid > 0 && clock_getcpuclockid(pid, ret_clock) == 0;
}

/* Returns the number behind `label` in a file of /proc/PID; 0 when it is not there. */
static uint64_t proc_value(pid_t pid, const char *file, const char *label)
{
    char path[64];
    char text[4096];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    const ssize_t size = read(fd, text, sizeof text - 1);
    (void)close(fd);
    text[size > 0 ? size : 0] = '\0';
    const char *found = strstr(text, label);
    return found != NULL ? strtoull(found + strlen(label), NULL, 10) : 0;
}

static void read_usage(struct measure_usage *ret_usage, const struct gen *gen,
                       bool *ret_server_is_known)
{
    const pid_t pid = (pid_t)gen->options->server_pid;
    clockid_t clock;
    *ret_usage = (struct measure_usage){.wall_s = seconds_of(CLOCK_MONOTONIC),
                                        .generator_cpu_s = seconds_of(CLOCK_PROCESS_CPUTIME_ID),
                                        .counters = gen->counters};
    *ret_server_is_known = server_clock(pid, &clock);
    if (!*ret_server_is_known)
        return;
    ret_usage->server_cpu_s = seconds_of(clock);
    ret_usage->server_anon_bytes = proc_value(pid, "smaps_rollup", "\nAnonymous:") * 1024;
}

void measure_begin(struct measure *measure, const struct gen *gen, const char *name)
{
    *measure = (struct measure){.name = name};
    read_usage(&measure->start, gen, &measure->server_is_known);
}

void measure_end(struct measure *measure, const struct gen *gen)
{
    const struct measure_usage *start = &measure->start;
    const double wall_s = measure->used.wall_s;
    struct measure_usage *used = &measure->used;
    read_usage(used, gen, &measure->server_is_known);
    used->wall_s = wall_s > 0 ? wall_s : used->wall_s - start->wall_s;
    used->server_cpu_s -= start->server_cpu_s;
    used->generator_cpu_s -= start->generator_cpu_s;
    used->counters.published -= start->counters.published;
    used->counters.acked -= start->counters.acked;
    used->counters.delivered -= start->counters.delivered;
    used->counters.subscribed -= start->counters.subscribed;
    used->counters.finished -= start->counters.finished;
    used->counters.reads -= start->counters.reads;
    used->counters.writes -= start->counters.writes;
    used->counters.resumed -= start->counters.resumed;
}

void measure_settle(struct measure *measure, struct gen *gen)
{
    measure->used.wall_s = seconds_of(CLOCK_MONOTONIC) - measure->start.wall_s;
    gen_run_for(gen, gen->options->settle_ms);
    measure_end(measure, gen);
}
