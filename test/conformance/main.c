#include "cases.h"

int main(void)
{
    return append_cases() + read_cases() + row_cases() + upkeep_cases() > 0;
}
