#include "cli/api.h"

#include "base/mem.h"
#include "base/strbuf.h"
#include "io/file.h"

#include <curl/curl.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ADMIN_DEFAULT    "127.0.0.1:18080"
#define DATA_DIR_DEFAULT "./data"
#define TOKEN_FILE       "admin.token"
#define ANSWER_MAX       (256u * 1024 * 1024)
#define URL_MAX          (512u * 1024)
#define TIMEOUT_S        60L
#define CONNECT_S        5L

struct api {
    CURL *curl;
    struct strbuf answer;
    char base[512]; /* "http://host:port" */
    char token_path[1024];
    char header[160]; /* "Authorization: Bearer …" */
    char instance_id[64];
};

static int fail(const char *text)
{
    (void)fprintf(stderr, "tidemq: %s\n", text);
    return ERR_UNAVAILABLE;
}

static const char *environment(const char *name)
{
    const char *value = getenv(name);
    return value && value[0] != '\0' ? value : NULL;
}

static void choose_base(const struct api_options *options, struct api *api)
{
    const char *admin = options->admin ? options->admin : environment("TIDEMQ_ADMIN");
    if (!admin) {
        admin = environment("TIDEMQ_ADMIN_LISTEN");
    }
    if (!admin) {
        admin = ADMIN_DEFAULT;
    }
    const bool has_scheme = strstr(admin, "://") != NULL;
    (void)snprintf(api->base, sizeof(api->base), "%s%s", has_scheme ? "" : "http://", admin);
    size_t size = strlen(api->base);
    while (size > 0 && api->base[size - 1] == '/') {
        api->base[--size] = '\0';
    }
}

static int read_token(const struct api_options *options, struct api *api)
{
    const char *dir = options->data_dir ? options->data_dir : environment("TIDEMQ_DATA_DIR");
    if (options->token_file) {
        (void)snprintf(api->token_path, sizeof(api->token_path), "%s", options->token_file);
    } else {
        (void)snprintf(api->token_path, sizeof(api->token_path), "%s/%s",
                       dir ? dir : DATA_DIR_DEFAULT, TOKEN_FILE);
    }
    char *token;
    size_t size;
    const int err = file_read_whole(AT_FDCWD, api->token_path, 128, &token, &size);
    if (err < 0) {
        (void)fprintf(stderr,
                      "tidemq: could not read the admin token '%s': %s; name the server's data "
                      "directory with --data-dir, or the file with --token-file\n",
                      api->token_path, err_text(err));
        return err;
    }
    (void)snprintf(api->header, sizeof(api->header), "Authorization: Bearer %.*s",
                   (int)strcspn(token, "\r\n"), token);
    mem_free(token);
    return 0;
}

static size_t on_answer(char *bytes, size_t size, size_t count, void *data)
{
    struct strbuf *answer = data;
    strbuf_add_bytes(answer, bytes, size * count);
    return strbuf_err(answer) == 0 ? size * count : 0;
}

/* What holds for every request. */
static void set_up(struct api *api)
{
    (void)curl_easy_setopt(api->curl, CURLOPT_WRITEFUNCTION, on_answer);
    (void)curl_easy_setopt(api->curl, CURLOPT_WRITEDATA, &api->answer);
    (void)curl_easy_setopt(api->curl, CURLOPT_TIMEOUT, TIMEOUT_S);
    (void)curl_easy_setopt(api->curl, CURLOPT_CONNECTTIMEOUT, CONNECT_S);
    /* A name may be "..": not for curl to resolve. */
    (void)curl_easy_setopt(api->curl, CURLOPT_PATH_AS_IS, 1L);
    /* The server is on this machine, or named on purpose: no proxy from the environment. */
    (void)curl_easy_setopt(api->curl, CURLOPT_NOPROXY, "*");
    (void)curl_easy_setopt(api->curl, CURLOPT_PROTOCOLS_STR, "http,https");
}

int api_open(const struct api_options *options, struct api **ret_api)
{
    if (curl_global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK) {
        return fail("could not start libcurl");
    }
    struct api *api = mem_new(sizeof(*api));
    strbuf_init(&api->answer, ANSWER_MAX);
    choose_base(options, api);
    const int err = read_token(options, api);
    if (err < 0) {
        (void)api_close(api);
        return err;
    }
    api->curl = curl_easy_init();
    if (!api->curl) {
        (void)api_close(api);
        return fail("could not start libcurl");
    }
    set_up(api);
    *ret_api = api;
    return 0;
}

struct api *api_close(struct api *api)
{
    if (api) {
        curl_easy_cleanup(api->curl);
        strbuf_done(&api->answer);
        explicit_bzero(api->header, sizeof(api->header));
        mem_free(api);
        curl_global_cleanup();
    }
    return NULL;
}

static int check_status(struct api *api, long status, const json_t *answer)
{
    if (status == 200) {
        return 0;
    }
    if (status == 401) {
        (void)fprintf(stderr,
                      "tidemq: the server at %s refused the token in '%s'; is that the data "
                      "directory of this server? --data-dir names another\n",
                      api->base, api->token_path);
        return ERR_DENIED;
    }
    const char *why = json_string_value(json_object_get(answer, "error"));
    if (why) {
        (void)fprintf(stderr, "tidemq: %s\n", why);
    } else {
        (void)fprintf(stderr, "tidemq: the server at %s answered HTTP status %ld\n", api->base,
                      status);
    }
    return ERR_INVALID;
}

/* Sends what is set up in api->curl to `path` and parses the answer. */
static int perform(struct api *api, const char *path, struct curl_slist *headers,
                   json_t **ret_answer)
{
    struct strbuf url;
    strbuf_init(&url, URL_MAX);
    strbuf_addf(&url, "%s%s", api->base, path);
    if (strbuf_err(&url) < 0) {
        strbuf_done(&url);
        return fail("the name is too long");
    }
    strbuf_done(&api->answer);
    strbuf_init(&api->answer, ANSWER_MAX);
    (void)curl_easy_setopt(api->curl, CURLOPT_URL, url.text);
    (void)curl_easy_setopt(api->curl, CURLOPT_HTTPHEADER, headers);
    const CURLcode code = curl_easy_perform(api->curl);
    strbuf_done(&url);
    if (code != CURLE_OK) {
        (void)fprintf(stderr,
                      "tidemq: could not reach the server at %s: %s; is it running? --admin URL "
                      "names another address\n",
                      api->base, curl_easy_strerror(code));
        return ERR_UNAVAILABLE;
    }
    long status = 0;
    (void)curl_easy_getinfo(api->curl, CURLINFO_RESPONSE_CODE, &status);
    json_t *answer =
        json_loadb(api->answer.text ? api->answer.text : "", api->answer.size, 0, NULL);
    const int err = check_status(api, status, answer);
    if (err == 0 && !json_is_object(answer)) {
        json_decref(answer);
        (void)fprintf(stderr, "tidemq: what answers at %s is no TideMQ admin API\n", api->base);
        return ERR_INVALID;
    }
    if (err < 0) {
        json_decref(answer);
        return err;
    }
    *ret_answer = answer;
    return 0;
}

static int get(struct api *api, const char *path, json_t **ret_answer)
{
    struct curl_slist *headers = curl_slist_append(NULL, api->header);
    (void)curl_easy_setopt(api->curl, CURLOPT_HTTPGET, 1L);
    const int err = perform(api, path, headers, ret_answer);
    curl_slist_free_all(headers);
    return err;
}

void api_add_escaped(struct api *api, const char *name, struct strbuf *out)
{
    if (name[0] != '\0') { /* curl takes an empty one for "measure it", and so fails on it */
        char *escaped = curl_easy_escape(api->curl, name, (int)strlen(name));
        strbuf_add(out, escaped ? escaped : "");
        curl_free(escaped);
    }
}

int api_get(struct api *api, const char *path, const char *name, json_t **ret_answer)
{
    struct strbuf full;
    strbuf_init(&full, URL_MAX);
    strbuf_add(&full, path);
    if (name) {
        api_add_escaped(api, name, &full);
    }
    const int err =
        strbuf_err(&full) < 0 ? fail("the name is too long") : get(api, full.text, ret_answer);
    strbuf_done(&full);
    return err;
}

/* One page of a list; *after is replaced by the name to go on from, NULL at the end. */
static int get_page(struct api *api, const char *what, const char *query, json_t **after,
                    json_t *rows)
{
    struct strbuf path;
    json_t *answer;
    strbuf_init(&path, URL_MAX);
    strbuf_addf(&path, "/v1/%s?limit=1000%s", what, query);
    if (*after) {
        strbuf_add(&path, "&after=");
        api_add_escaped(api, json_string_value(*after), &path);
    }
    const int err =
        strbuf_err(&path) < 0 ? fail("the name is too long") : get(api, path.text, &answer);
    strbuf_done(&path);
    if (err < 0) {
        return err;
    }
    json_decref(*after);
    *after = json_object_get(answer, "next");
    *after = json_is_string(*after) ? json_incref(*after) : NULL;
    (void)json_array_extend(rows, json_object_get(answer, what));
    json_decref(answer);
    return 0;
}

int api_list(struct api *api, const char *what, const char *query, json_t **ret_rows)
{
    json_t *rows = json_array();
    json_t *after = NULL;
    int err;
    do {
        err = get_page(api, what, query, &after, rows);
    } while (err == 0 && after);
    json_decref(after);
    if (err < 0) {
        json_decref(rows);
        return err;
    }
    *ret_rows = rows;
    return 0;
}

/* The control plane wants its InstanceId; the status page tells it. */
static int learn_instance(struct api *api)
{
    json_t *status;
    if (api->instance_id[0] != '\0') {
        return 0;
    }
    const int err = get(api, "/v1/status", &status);
    if (err < 0) {
        return err;
    }
    const char *id = json_string_value(json_object_get(status, "instance_id"));
    (void)snprintf(api->instance_id, sizeof(api->instance_id), "%s", id ? id : "");
    json_decref(status);
    return 0;
}

static int post(struct api *api, const char *action, const char *body, json_t **ret_answer)
{
    char name[80];
    (void)snprintf(name, sizeof(name), "X-TC-Action: %s", action);
    struct curl_slist *headers = curl_slist_append(NULL, api->header);
    headers = curl_slist_append(headers, name);
    headers = curl_slist_append(headers, "Content-Type: application/json");
    (void)curl_easy_setopt(api->curl, CURLOPT_POST, 1L);
    (void)curl_easy_setopt(api->curl, CURLOPT_POSTFIELDS, body);
    (void)curl_easy_setopt(api->curl, CURLOPT_POSTFIELDSIZE, (long)strlen(body));
    const int err = perform(api, "/", headers, ret_answer);
    curl_slist_free_all(headers);
    return err;
}

static int add_chunk(const char *bytes, size_t size, void *data)
{
    strbuf_add_bytes(data, bytes, size);
    return 0;
}

/* Takes the answer apart; a refusal is printed. */
static int read_response(json_t *answer, json_t **ret_response)
{
    json_t *response = json_object_get(answer, "Response");
    const json_t *error = json_object_get(response, "Error");
    if (error) {
        const char *message = json_string_value(json_object_get(error, "Message"));
        const char *code = json_string_value(json_object_get(error, "Code"));
        (void)fprintf(stderr, "tidemq: %s (%s)\n", message ? message : "?", code ? code : "?");
        return ERR_INVALID;
    }
    if (ret_response) {
        *ret_response = json_incref(response);
    }
    return 0;
}

int api_action(struct api *api, const char *action, json_t *params, json_t **ret_response)
{
    struct strbuf body;
    json_t *answer;
    strbuf_init(&body, 1024 * 1024);
    int err = learn_instance(api);
    if (err == 0) {
        (void)json_object_set_new(params, "InstanceId", json_string(api->instance_id));
        (void)json_dump_callback(params, add_chunk, &body, JSON_COMPACT);
        err = strbuf_err(&body) < 0 ? fail("the request is too large")
                                    : post(api, action, body.text, &answer);
    }
    if (err == 0) {
        err = read_response(answer, ret_response);
        json_decref(answer);
    }
    strbuf_done(&body);
    json_decref(params);
    return err;
}
