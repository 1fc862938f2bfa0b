/* tidemq-loadgen: puts load on an MQTT server and says what it cost. See bench/README.md. */
#include "report.h"
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>

int main(int argc, char **argv)
{
    struct options options;
    if (!options_parse(argc, argv, &options))
        return 2;

    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &files);
    }
    (void)prctl(PR_SET_TIMERSLACK, 1UL); /* paced messages leave when they are due */

    struct gen *gen = bytes_new_array(1, sizeof *gen);
    struct pattern_result result;
    gen_init(gen, &options);
    pattern_run(gen, &result);
    const bool ok = report_print(gen, &result);
    gen_done(gen);
    free(gen);
    return ok ? 0 : 1;
}
