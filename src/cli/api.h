/* A running server, as its admin endpoint shows it.
 *
 * Every function that fails has printed a sentence on stderr: what could not be done, why, and what
 * to do. Thread: the only one.
 */
#pragma once

#include "base/strbuf.h"
#include "cli/args.h"

#include <jansson.h>

/* What --admin, --data-dir and --token-file say; NULL where they are not given: then the
 * environment (TIDEMQ_ADMIN, TIDEMQ_ADMIN_LISTEN, TIDEMQ_DATA_DIR) and the defaults count. */
struct api_options {
    const char *admin, *data_dir, *token_file;
};

#define API_OPTION_COUNT 3
/* Initialisers of the three struct arg_option for them. */
#define API_OPTIONS(options)                                                                       \
    {"--admin", "URL", "Address of the server's admin API (http://127.0.0.1:18080).",              \
     .value = &(options).admin},                                                                   \
        {"--data-dir", "DIR", "The server's data directory, where its token is (./data).",         \
         .value = &(options).data_dir},                                                            \
    {                                                                                              \
        "--token-file", "FILE", "The file with the token, instead of --data-dir.",                 \
            .value = &(options).token_file                                                         \
    }

struct api;

/* Returns 0 or < 0. */
MUST_CHECK int api_open(const struct api_options *options, struct api **ret_api);
struct api *api_close(struct api *api); /* NULL is fine; returns NULL */

/* Adds a text percent-encoded to a path. */
void api_add_escaped(struct api *api, const char *text, struct strbuf *out);
/* Reads a page. path: "/v1/topics/", name: added percent-encoded, may be NULL.
 * Returns 0 with the answer (json_decref it), or < 0. */
MUST_CHECK int api_get(struct api *api, const char *path, const char *name, json_t **ret_answer);
/* Reads all pages of a list and returns the rows together. what: "topics", "clients", …; query:
 * more arguments such as "&state=online". */
MUST_CHECK int api_list(struct api *api, const char *what, const char *query, json_t **ret_rows);
/* Asks for an action of the control plane; params (an object) is taken and gets its InstanceId.
 * ret_response may be NULL. */
MUST_CHECK int api_action(struct api *api, const char *action, json_t *params,
                          json_t **ret_response);
