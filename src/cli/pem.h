/* What the commands about registered CAs and certificates share. */
#pragma once

#include "cli/output.h"

/* Adds a file's text as the parameter `name`. Returns 0, or < 0 after it has said why. */
MUST_CHECK int pem_add(json_t *params, const char *name, const char *file);
/* Asks for an action that registers something, and prints the field `sn` of the answer, or all of
 * it as JSON. Sets call->code. params: taken. */
void pem_register(struct call *call, const char *action, json_t *params, const char *sn);
/* A command about what its one word, the parameter `sn`, names. */
struct pem_change {
    const char *usage, *about, *action;
    const char *said; /* "activated"; not of pem_show */
};
/* Describes it. */
int pem_show(const struct pem_change *show, const char *sn, int argc, const char *const *argv);
/* A command that does something with it; thing: "CA". */
int pem_run_change(const struct pem_change *change, const char *sn, const char *thing, int argc,
                   const char *const *argv);
