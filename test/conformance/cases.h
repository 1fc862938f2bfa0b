/* The cases, by file. */
#pragma once

#include "base/unit.h"

int append_cases(void); /* each returns the number of its cases that failed */
int read_cases(void);
int row_cases(void);
int upkeep_cases(void);
