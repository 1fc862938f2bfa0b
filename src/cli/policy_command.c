#include "cli/cli.h"
#include "cli/output.h"

#include <stdio.h>
#include <string.h>

#define PATH_MAX_SIZE 8192u

/* The conditions of a policy other than topics, in a few words. */
static void add_conditions(struct table *table, const json_t *row)
{
    static const struct {
        const char *field, *word;
    } texts[] = {{"ClientId", "client"}, {"Username", "user"}, {"Ip", "ip"}, {"Qos", "qos"}};
    struct strbuf out;
    strbuf_init(&out, PATH_MAX_SIZE);
    for (size_t i = 0; i < ARRAY_COUNT(texts); i++) {
        const char *text = json_string_value(json_object_get(row, texts[i].field));
        if (text && text[0] != '\0' && strcmp(text, "0,1,2") != 0) {
            strbuf_addf(&out, "%s%s %s", out.size > 0 ? ", " : "", texts[i].word, text);
        }
    }
    const uint64_t retain = output_number(row, "Retain");
    if (retain == 1 || retain == 2) {
        strbuf_addf(&out, "%s%s", out.size > 0 ? ", " : "",
                    retain == 1 ? "retained" : "not retained");
    }
    table_add(table, out.text ? out.text : "");
    strbuf_done(&out);
}

static int print_policies(const json_t *rows)
{
    static const char *const heads[] = {"NAME",   "SOURCE", "PRIORITY",   "EFFECT",
                                        "ACTION", "TOPICS", "CONDITIONS", NULL};
    struct table table;
    table_init(&table, heads);
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        output_add_field(&table, row, "PolicyName");
        output_add_field(&table, row, "Source");
        output_add_field(&table, row, "Priority");
        output_add_field(&table, row, "Effect");
        output_add_field(&table, row, "Actions");
        output_add_texts(&table, json_object_get(row, "Resources"));
        add_conditions(&table, row);
    }
    return output_table(&table);
}

static int list(int argc, const char *const *argv)
{
    static const struct listing listing = {
        .usage = "tidemq policy list",
        .about = "Lists the policies in the order in which they decide.",
        .what = "policies",
        .print = print_policies,
    };
    return output_list(&listing, argc, argv);
}

/* Sets a parameter that was given. */
static void set_text(json_t *params, const char *name, const char *text)
{
    if (text) {
        (void)json_object_set_new(params, name, json_string(text));
    }
}

static int add(int argc, const char *const *argv)
{
    struct call call = {0};
    const char *priority = NULL, *effect = NULL, *action = NULL, *client = NULL, *user = NULL;
    const char *ip = NULL, *qos = NULL, *retain = NULL, *remark = NULL;
    struct arg_values topics = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--priority", "NUMBER", "Its place: smaller numbers decide first.", .value = &priority},
        {"--effect", "allow|deny", "What it means when it matches.", .value = &effect},
        {"--action", "LIST", "Of connect, pub and sub, with commas between.", .value = &action},
        {"--topic", "PATTERN", "A topic with +, # or *, and variables; repeatable; none: any.",
         .values = &topics},
        {"--client", "PATTERN", "Client IDs, with * and variables.", .value = &client},
        {"--username", "PATTERN", "User names, likewise.", .value = &user},
        {"--ip", "LIST", "Addresses and ranges such as 10.0.0.0/8.", .value = &ip},
        {"--qos", "LIST", "Of 0, 1 and 2.", .value = &qos},
        {"--retain", "true|false", "Only messages with RETAIN, or only others.", .value = &retain},
        {"--remark", "TEXT", "A note kept with the policy.", .value = &remark},
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq policy add NAME --priority NUMBER --effect allow|deny --action LIST",
        .about = "Adds a policy, which counts at once, for connected clients too.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = 1,
    };
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    json_t *params = json_pack("{s:s,s:i}", "PolicyName", call.words.items[0], "PolicyVersion", 1);
    set_text(params, "Priority", priority);
    set_text(params, "Effect", effect);
    set_text(params, "Actions", action);
    set_text(params, "ClientId", client);
    set_text(params, "Username", user);
    set_text(params, "Ip", ip);
    set_text(params, "Qos", qos);
    set_text(params, "Retain", retain);
    set_text(params, "Remark", remark);
    if (topics.count > 0) {
        (void)json_object_set_new(params, "Resources", output_texts(&topics));
    }
    output_action(&call, "CreateAuthorizationPolicy", params, "policy", "added");
    (void)api_close(call.api);
    return call.code;
}

/* The id of the policy of a name; 0: a sentence has been printed. */
static uint64_t find_id(struct api *api, const char *name)
{
    json_t *rows;
    uint64_t id = 0;
    bool in_file = false;
    if (api_list(api, "policies", "", &rows) < 0) {
        return 0;
    }
    for (size_t i = 0; i < json_array_size(rows); i++) {
        const json_t *row = json_array_get(rows, i);
        const char *other = json_string_value(json_object_get(row, "PolicyName"));
        if (other && strcmp(other, name) == 0) {
            in_file |= output_number(row, "Id") == 0;
            id = output_number(row, "Id") ? output_number(row, "Id") : id;
        }
    }
    json_decref(rows);
    if (id == 0 && in_file) {
        (void)fprintf(stderr,
                      "tidemq: policy '%s' is in the policy file; remove it there, then send the "
                      "server SIGHUP\n",
                      name);
    } else if (id == 0) {
        (void)fprintf(stderr, "tidemq: there is no policy '%s'; see: tidemq policy list\n", name);
    }
    return id;
}

/* One word of `policy order`, NAME=PRIORITY, as an item of the action's list. NULL: a sentence has
 * been printed. */
static json_t *read_place(struct call *call, const char *word)
{
    char name[PATH_MAX_SIZE];
    const char *equals = strrchr(word, '=');
    const size_t size = equals ? (size_t)(equals - word) : 0;
    if (size == 0 || size >= sizeof name || equals[1] == '\0') {
        (void)fprintf(stderr,
                      "tidemq: '%s': a name, '=' and a number are needed, such as readers=10\n",
                      word);
        call->code = EXIT_USAGE;
        return NULL;
    }
    memcpy(name, word, size);
    name[size] = '\0';
    const uint64_t id = find_id(call->api, name);
    return id == 0 ? NULL : json_pack("{s:I,s:s}", "Id", (json_int_t)id, "Priority", equals + 1);
}

static int order(int argc, const char *const *argv)
{
    struct call call = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq policy order NAME=PRIORITY...",
        .about = "Gives policies that were added other priorities, all at once.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
        .words_min = 1,
        .words_max = ARGS_WORDS_MAX,
    };
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    json_t *list = json_array(), *item = list, *response;
    for (size_t i = 0; i < call.words.count && item; i++) {
        item = read_place(&call, call.words.items[i]);
        if (item) {
            (void)json_array_append_new(list, item);
        }
    }
    if (item && api_action(call.api, "UpdateAuthorizationPolicyPriority",
                           json_pack("{s:O}", "Priorities", list), &response) == 0) {
        call.code = EXIT_OK;
        if (call.json) {
            call.code = output_json(response);
        } else {
            (void)printf("%zu policies have their new priorities\n", json_array_size(list));
        }
        json_decref(response);
    }
    json_decref(list);
    (void)api_close(call.api);
    return call.code;
}

static int remove_one(int argc, const char *const *argv)
{
    struct call call = {0};
    if (!output_begin_named(&call, "tidemq policy remove NAME", "Removes a policy that was added.",
                            argc, argv)) {
        return call.code;
    }
    const uint64_t id = find_id(call.api, call.words.items[0]);
    if (id > 0) {
        output_action(&call, "DeleteAuthorizationPolicy", json_pack("{s:I}", "Id", (json_int_t)id),
                      "policy", "removed");
    }
    (void)api_close(call.api);
    return call.code;
}

/* --- test --------------------------------------------------------------------------------------
 */

static int print_test(const json_t *answer)
{
    static const char *const heads[] = {"POLICY", "SOURCE", "PRIORITY", "EFFECT", "RESULT", NULL};
    struct table table;
    const char *policy = json_string_value(json_object_get(answer, "policy"));
    const char *block = json_string_value(json_object_get(answer, "blocked_by"));
    const bool allowed = json_is_true(json_object_get(answer, "allowed"));
    const json_t *steps = json_object_get(answer, "steps");
    if (block) {
        (void)printf("denied: block rule '%s' keeps this client out\n", block);
    } else if (!json_is_true(json_object_get(answer, "enabled"))) {
        (void)printf("allowed: authorization.enabled is false, so no policy is looked at\n");
    } else if (policy) {
        (void)printf("%s by policy '%s'\n", allowed ? "allowed" : "denied", policy);
    } else {
        (void)printf("denied: no policy matches\n");
    }
    if (json_array_size(steps) == 0) {
        return EXIT_OK;
    }
    (void)putchar('\n');
    table_init(&table, heads);
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *row = json_array_get(steps, i);
        output_add_field(&table, row, "policy");
        output_add_field(&table, row, "source");
        output_add_field(&table, row, "priority");
        output_add_field(&table, row, "effect");
        output_add_field(&table, row, "why");
    }
    return output_table(&table);
}

struct query_item {
    const char *name, *value; /* value NULL: not given */
};

/* Adds the fields of a certificate's subject: "CommonName=pump". Returns 0, or < 0 after a
 * sentence. */
static int add_subject(struct api *api, const struct arg_values *subject, struct strbuf *path)
{
    for (size_t i = 0; i < subject->count; i++) {
        const char *equals = strchr(subject->items[i], '=');
        if (!equals) {
            (void)fprintf(stderr,
                          "tidemq: --subject '%s': a field, '=' and a text are needed, such as "
                          "CommonName=pump\n",
                          subject->items[i]);
            return ERR_INVALID;
        }
        strbuf_add(path, "&Certificate.Subject.");
        strbuf_addf(path, "%.*s=", (int)(equals - subject->items[i]), subject->items[i]);
        api_add_escaped(api, equals + 1, path);
    }
    return 0;
}

/* Asks for the page. Returns 0 or < 0. */
static int ask(struct call *call, const struct query_item *items, size_t count,
               const struct arg_values *subject, json_t **ret_answer)
{
    struct strbuf path;
    strbuf_init(&path, PATH_MAX_SIZE);
    strbuf_add(&path, "/v1/policy-test?");
    for (size_t i = 0; i < count; i++) {
        if (items[i].value) {
            strbuf_addf(&path, "&%s=", items[i].name);
            api_add_escaped(call->api, items[i].value, &path);
        }
    }
    int err = add_subject(call->api, subject, &path);
    if (err < 0) {
        strbuf_done(&path);
        call->code = EXIT_USAGE;
        return err;
    }
    err = strbuf_err(&path);
    if (err < 0) {
        (void)fputs("tidemq: the arguments are too long\n", stderr);
    } else {
        err = api_get(call->api, path.text, NULL, ret_answer);
    }
    strbuf_done(&path);
    return err;
}

static int test(int argc, const char *const *argv)
{
    struct call call = {0};
    const char *client = "", *user = NULL, *address = NULL, *action = "", *topic = NULL;
    const char *qos = NULL;
    bool retain = false;
    struct arg_values subject = {0};
    const struct arg_option options[] = {
        API_OPTIONS(call.options),
        {"--client", "ID", "The client ID.", .value = &client},
        {"--username", "NAME", "The user name.", .value = &user},
        {"--address", "IP", "The address it connects from.", .value = &address},
        {"--subject", "FIELD=TEXT", "Of its certificate, such as CommonName=pump; repeatable.",
         .values = &subject},
        {"--action", "connect|pub|sub", "What it wants to do.", .value = &action},
        {"--topic", "TOPIC", "The topic, or the filter to subscribe to.", .value = &topic},
        {"--qos", "NUMBER", "0 (default), 1 or 2.", .value = &qos},
        {"--retain", NULL, "With the RETAIN flag.", .on = &retain},
        {"--json", NULL, "Print JSON.", .on = &call.json},
    };
    const struct arg_spec spec = {
        .usage = "tidemq policy test --client ID --action pub --topic TOPIC",
        .about = "Tells what the server would decide, and why. Nothing is done.",
        .options = options,
        .option_count = ARRAY_COUNT(options),
    };
    json_t *answer;
    if (!output_begin(&call, &spec, argc, argv)) {
        return call.code;
    }
    const struct query_item items[] = {
        {"client_id", client},
        {"username", user},
        {"address", address},
        {"action", action},
        {"topic", topic},
        {"qos", qos},
        {"retain", retain ? "true" : NULL},
    };
    if (ask(&call, items, ARRAY_COUNT(items), &subject, &answer) < 0) {
        call.code = EXIT_USAGE; /* 1 would be a no */
    } else {
        call.code = call.json ? output_json(answer) : print_test(answer);
        if (call.code == EXIT_OK && !json_is_true(json_object_get(answer, "allowed"))) {
            call.code = EXIT_FAILED;
        }
        json_decref(answer);
    }
    (void)api_close(call.api);
    return call.code;
}

int policy_command(int argc, const char *const *argv)
{
    static const struct subcommand subcommands[] = {
        {"list", "List the policies.", list},
        {"add", "Add one.", add},
        {"remove", "Remove one that was added.", remove_one},
        {"order", "Give some other priorities, all at once.", order},
        {"test", "Tell what would be decided, and why.", test},
    };
    return output_dispatch("policy", subcommands, ARRAY_COUNT(subcommands), argc, argv);
}
