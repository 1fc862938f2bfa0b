/* Prints what a run found, for people or as one JSON object. */
#pragma once
#include "pattern.h"

/* Prints to stdout. Returns whether everything that was expected happened; if not, the last line
 * says what is missing. */
bool report_print(const struct gen *gen, const struct pattern_result *result);
