/* The patterns of load: who connects, what they send, and when it is over. */
#pragma once
#include "measure.h"

#define PATTERN_MEASURES_MAX 2

struct pattern_result {
    struct measure measures[PATTERN_MEASURES_MAX];
    uint32_t measure_count;
    uint64_t deliveries_expected;
    uint64_t acks_expected;
};

/* Runs the pattern that the options name. What went wrong is in `gen`. */
void pattern_run(struct gen *gen, struct pattern_result *ret_result);
