/* File check: what a start would say of the files that the configuration names, without a server.
 */
#pragma once

#include "app/config.h"

/* Reads the policy file, the certificates of the listeners, passwords and keys (blocking). Returns
 * 0, or an error with the file at fault in reterr. Thread: any without a loop. */
MUST_CHECK int file_check(const struct config *config, struct errmsg *reterr);
