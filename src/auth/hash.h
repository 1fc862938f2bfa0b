/* Password hashes as they stand in a password file. Slow on purpose. Thread: any. */
#pragma once

#include "base/buf.h"

#define HASH_TEXT_MAX 255 /* bytes of a hash, without the NUL */

/* true when hash_verify knows the form of `text`. */
bool hash_is_known(const char *text);
/* true when `password` is the one that `text` was made of. Takes a time that depends on the form of
 * `text` and its cost parameters, not on whether the password is right. */
bool hash_verify(const char *text, struct slice password);
/* Makes an argon2id hash. Returns 0 or ERR_NOMEM. */
MUST_CHECK int hash_make(struct slice password, char ret_text[HASH_TEXT_MAX + 1]);
