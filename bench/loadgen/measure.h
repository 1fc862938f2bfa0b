/* What one part of a run cost: wall time, the server's and the generator's CPU, memory. */
#pragma once
#include "gen.h"

struct measure_usage {
    double wall_s;
    double server_cpu_s;        /* user and system, all threads, also those that ended */
    double generator_cpu_s;     /* the same of this process */
    uint64_t server_anon_bytes; /* resident anonymous memory, at the end */
    struct counters counters;
};

struct measure {
    const char *name;
    bool server_is_known; /* the CPU and memory figures are set */
    struct measure_usage start;
    struct measure_usage used; /* differences, but server_anon_bytes as it is */
};

void measure_begin(struct measure *measure, const struct gen *gen, const char *name);
void measure_end(struct measure *measure, const struct gen *gen);

/* Ends a part: its clock stops now, but its CPU counts until the server had the options' time to
 * finish what it does behind. */
void measure_settle(struct measure *measure, struct gen *gen);
