/* Password file: an authenticator over lines `user:hash`.
 *
 * Hashes: argon2id (what password_file_set writes), mosquitto_passwd's `$7$` (PBKDF2-HMAC-SHA512)
 * and `$6$` (salted SHA-512), and what libcrypt knows by a `$`: bcrypt `$2b$`, SHA-crypt `$5$` and
 * `$6$`, yescrypt `$y$`. Empty lines and lines that begin with '#' are skipped. A user named twice
 * is an error. The file is read once, at the start, and again only when a new authenticator is made
 * from it.
 *
 * Who gives no user name, or one that is not in the file, is ignored; but only after a verification
 * that costs what a wrong password costs.
 */
#pragma once

#include "auth/auth.h"

/* Reads the file (blocking) and checks the form of every line. Returns 0, ERR_INVALID with the
 * line's number in reterr, ERR_FULL (larger than 64 MiB), ERR_NOMEM or -errno. */
MUST_CHECK int password_new(const char *path, const struct auth_deps *deps,
                            struct authenticator **ret_authenticator, struct errmsg *reterr);

/* Adds the user or replaces the user's hash; the other lines stay as they are. Makes the file (mode
 * 0600) when it does not exist; it is replaced atomically and keeps its mode and owner. Blocks for
 * some ten milliseconds. Returns 0, ERR_INVALID (the name is empty, too long, begins with '#', has
 * a ':' or a control character), or as file_write_whole. Thread: any. */
MUST_CHECK int password_file_set(const char *path, const char *user, struct slice password,
                                 struct errmsg *reterr);
