/* The policy file: policies and block rules that an operator writes.
 *
 *     policies:
 *       - name: sensors
 *         priority: 10
 *         effect: allow
 *         actions: [pub, sub]
 *         resources: ["sensors/${ClientId}/#"]
 *     block_rules:
 *       - name: stolen
 *         type: client_id
 *         include: "pump-7*"
 *
 * A key that is not known, given twice or missing, and a value that is not allowed, are errors: the
 * message names the file, the line and the key. Thread: any.
 */
#pragma once

#include "auth/rulebook.h"

#define POLICY_FILE_MAX (4u * 1024 * 1024)

/* Reads the file (blocking); NULL or "": there is none, which is an empty one. Both results are
 * empty on failure. Returns 0, ERR_INVALID, ERR_FULL, ERR_NOMEM or -errno, with a sentence in
 * reterr. */
MUST_CHECK int policy_file_read(const char *name, struct policies *ret_policies,
                                struct blocks *ret_blocks, struct errmsg *reterr);
/* The same for a text; name: for messages. */
MUST_CHECK int policy_file_parse(const char *name, const char *text, size_t size,
                                 struct policies *ret_policies, struct blocks *ret_blocks,
                                 struct errmsg *reterr);
