/* Commands that run inside this program rather than ask a server. Each takes the arguments behind
 * its name and returns an enum exit_code.
 */
#pragma once

#include "cli/args.h"

int serve_command(int argc, const char *const *argv);
int config_command(int argc, const char *const *argv);
int password_command(int argc, const char *const *argv);
int version_command(int argc, const char *const *argv);
