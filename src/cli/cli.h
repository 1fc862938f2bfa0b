/* The commands that ask a running server, and the offline check of a store. Each takes the
 * arguments behind its name and returns an enum exit_code; answers go to stdout, what went wrong
 * and what to do about it to stderr.
 */
#pragma once

#include "cli/args.h"

int topic_command(int argc, const char *const *argv);
int client_command(int argc, const char *const *argv);
int device_command(int argc, const char *const *argv);
int ca_command(int argc, const char *const *argv);
int device_cert_command(int argc, const char *const *argv);
int policy_command(int argc, const char *const *argv);
int block_command(int argc, const char *const *argv);
int status_command(int argc, const char *const *argv);
int cert_command(int argc, const char *const *argv);
int store_command(int argc, const char *const *argv);
