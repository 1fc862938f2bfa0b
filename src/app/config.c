/* Gathering: all settings first, in the order file, environment, --set; then the profile's defaults
 * are known, and the settings are applied on top of them one by one. */
#include "app/config.h"

#include "app/config_key.h"
#include "base/mem.h"
#include "io/file.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#define ENVIRONMENT_PREFIX "TIDEMQ_"
#define SHOWN_MAX          60  /* bytes of a wrong value that a message repeats */
#define SOURCE_MAX         180 /* bytes of a file's name, its end */
#define PLACE_SIZE         (SOURCE_MAX + 32)
#define VALUE_SIZE         (SHOWN_MAX + 8)

void config_done(struct config *config)
{
    for (size_t i = 0; i < config_key_count; i++) {
        config_key_clear(&config_keys[i], config);
    }
}

/* "FILE:LINE" or the name of a variable or argument. */
static void add_place(const struct setting *setting, struct strbuf *out)
{
    const size_t size = strlen(setting->source);
    if (size > SOURCE_MAX) {
        strbuf_addf(out, "...%s", setting->source + size - SOURCE_MAX);
    } else {
        strbuf_add(out, setting->source);
    }
    if (setting->line > 0) {
        strbuf_addf(out, ":%zu", setting->line);
    }
}

static void settings_cleanup(struct settings *settings)
{
    settings_done(settings);
}

static int add_file(struct settings *settings, const char *file, struct errmsg *reterr)
{
    char *text = NULL;
    size_t size = 0;
    int err = file_read_whole(AT_FDCWD, file, SETTING_FILE_MAX, &text, &size);
    if (err < 0) {
        errmsg_wrap(reterr, "could not read the configuration file '%s': %s", file,
                    err == ERR_FULL ? "it is larger than 1 MiB" : err_text(err));
        return err;
    }
    err = settings_add_yaml(settings, file, text, size, reterr);
    mem_free(text);
    return err;
}

/* TIDEMQ_DATA_DIR and data_dir are the same when dots are taken for underscores. */
static bool variable_is_key(const char *variable, size_t size, const char *key)
{
    if (strlen(key) != size) {
        return false;
    }
    for (size_t i = 0; i < size; i++) {
        const char lower = variable[i] >= 'A' && variable[i] <= 'Z'
                               ? (char)(variable[i] - 'A' + 'a')
                               : variable[i];
        if (lower != (key[i] == '.' ? '_' : key[i])) {
            return false;
        }
    }
    return true;
}

static const struct config_key *variable_key(const char *variable, size_t size)
{
    for (size_t i = 0; i < config_key_count; i++) {
        if (variable_is_key(variable, size, config_keys[i].name)) {
            return &config_keys[i];
        }
    }
    return variable_is_key(variable, size, "store.engine") ? config_key_find("store") : NULL;
}

/* A wrong value, for a message. */
static void add_value(const struct config_key *key, const char *value, struct strbuf *out)
{
    if (key->is_secret) {
        strbuf_add(out, "a wrong value, not shown here because it may be secret");
    } else {
        strbuf_addf(out, "\"%.*s\"", SHOWN_MAX, value);
    }
}

/* Adds a value in one line and names its place when it is not well-formed. */
static int add_line(struct settings *settings, const char *place, const struct config_key *key,
                    const char *text, struct errmsg *reterr)
{
    const int err = settings_add(settings, place, key->name, text, key->kind == KIND_LIST);
    if (err == ERR_INVALID) {
        char shown[VALUE_SIZE];
        struct strbuf out;
        strbuf_init_array(&out, shown, sizeof(shown));
        add_value(key, text, &out);
        errmsg_wrap(reterr, "%.*s: %s is %s; allowed is a list such as [a, b]",
                    (int)strcspn(place, "="), place, key->name, shown);
    }
    return err;
}

static int add_environment(struct settings *settings, const struct config_source *source,
                           config_unknown_fn *unknown, void *data, struct errmsg *reterr)
{
    const size_t prefix_size = strlen(ENVIRONMENT_PREFIX);
    for (char *const *entry = source->environment; entry && *entry; entry++) {
        const char *equals = strchr(*entry, '=');
        if (strncmp(*entry, ENVIRONMENT_PREFIX, prefix_size) != 0 || !equals) {
            continue;
        }
        const char *name = *entry + prefix_size;
        const struct config_key *key = variable_key(name, (size_t)(equals - name));
        if (!key) {
            if (unknown) {
                unknown(data, *entry);
            }
            continue;
        }
        const int err = add_line(settings, *entry, key, equals + 1, reterr);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

/* "; did you mean …" or where to look. */
static void add_suggestion(const char *name, struct strbuf *out)
{
    const struct config_key *nearest = config_key_nearest(name);
    if (nearest) {
        strbuf_addf(out, "did you mean \"%s\"?", nearest->name);
    } else {
        strbuf_add(out, "`tidemq config reference` lists the keys");
    }
}

static int unknown_key(const char *place, const char *name, struct errmsg *reterr)
{
    char text[sizeof(reterr->text)];
    struct strbuf out;
    strbuf_init_array(&out, text, sizeof(text));
    strbuf_addf(&out, "%s: unknown key \"%.*s\"; ", place, SHOWN_MAX, name);
    add_suggestion(name, &out);
    errmsg_wrap(reterr, "%s", text);
    return ERR_INVALID;
}

static int add_set(struct settings *settings, const char *argument, struct errmsg *reterr)
{
    const char *equals = strchr(argument, '=');
    if (!equals || equals == argument) {
        errmsg_wrap(reterr, "--set %.*s: allowed is key=value, such as data_dir=/srv/tidemq",
                    SHOWN_MAX, argument);
        return ERR_INVALID;
    }
    char name[SETTING_KEY_MAX];
    const size_t size = MIN((size_t)(equals - argument), sizeof(name) - 1);
    memcpy(name, argument, size);
    name[size] = '\0';
    const struct config_key *key = config_key_find(name);
    return key ? add_line(settings, "--set", key, equals + 1, reterr)
               : unknown_key("--set", name, reterr);
}

/* Within the file a key may stand once only. */
static int check_file_settings(const struct settings *settings, struct errmsg *reterr)
{
    for (size_t i = 0; i < settings->count; i++) {
        const struct setting *row = &settings->rows[i];
        char place[PLACE_SIZE];
        struct strbuf out;
        strbuf_init_array(&out, place, sizeof(place));
        add_place(row, &out);
        const struct config_key *key = config_key_find(row->key);
        if (!key) {
            return unknown_key(place, row->key, reterr);
        }
        for (size_t k = 0; k < i; k++) {
            if (config_key_find(settings->rows[k].key) == key) {
                errmsg_wrap(reterr,
                            "%s: %s was given on line %zu already; allowed is one line for it",
                            place, key->name, settings->rows[k].line);
                return ERR_INVALID;
            }
        }
    }
    return 0;
}

static int gather(const struct config_source *source, config_unknown_fn *unknown, void *data,
                  struct settings *settings, struct errmsg *reterr)
{
    int err = 0;
    if (source->file) {
        err = add_file(settings, source->file, reterr);
        if (err == 0) {
            err = check_file_settings(settings, reterr);
        }
    }
    if (err == 0) {
        err = add_environment(settings, source, unknown, data, reterr);
    }
    for (size_t i = 0; i < source->set_count && err == 0; i++) {
        err = add_set(settings, source->sets[i], reterr);
    }
    return err;
}

/* item: the one to blame of a list, or NULL. */
static void wrap_wrong_value(const struct setting *setting, const struct config_key *key,
                             const char *item, const char *allowed, struct errmsg *reterr)
{
    char place[PLACE_SIZE], value[VALUE_SIZE];
    struct strbuf out;
    strbuf_init_array(&out, place, sizeof(place));
    /* A variable is stored with its value: only the name is the place. */
    if (setting->line == 0) {
        strbuf_add_bytes(&out, setting->source, strcspn(setting->source, "="));
    } else {
        add_place(setting, &out);
    }
    if (item || setting->item_count == 1) {
        strbuf_init_array(&out, value, sizeof(value));
        add_value(key, item ? item : setting->items[0], &out);
        errmsg_wrap(reterr, "%s: %s %s %s; allowed is %s", place, key->name,
                    setting->is_list && item ? "has" : "is", value, allowed);
    } else {
        errmsg_wrap(reterr, "%s: %s is a list of %zu; allowed is %s", place, key->name,
                    setting->item_count, allowed);
    }
}

static int apply(const struct setting *setting, struct config *config, struct errmsg *reterr)
{
    char allowed[200];
    struct strbuf out;
    strbuf_init_array(&out, allowed, sizeof(allowed));
    const struct config_key *key = config_key_find(setting->key);
    ASSERT(key);
    const int err = config_key_apply(key, setting, config, &out);
    if (err == ERR_INVALID) {
        wrap_wrong_value(setting, key, NULL, allowed, reterr);
    }
    return err;
}

static int apply_default(const struct config_key *key, const char *text, struct config *config)
{
    struct settings one = {0};
    char unused[1];
    struct strbuf out;
    strbuf_init_array(&out, unused, sizeof(unused));
    int err = settings_add(&one, "default", key->name, text, key->kind == KIND_LIST);
    if (err == 0) {
        err = config_key_apply(key, &one.rows[0], config, &out);
        ASSERT(err != ERR_INVALID);
    }
    settings_done(&one);
    return err;
}

/* The last setting of a key, as the last one wins; NULL when it is not set. */
static const struct setting *last_setting(const struct settings *settings, const char *name)
{
    const struct config_key *key = config_key_find(name);
    for (size_t i = settings->count; i > 0; i--) {
        if (config_key_find(settings->rows[i - 1].key) == key) {
            return &settings->rows[i - 1];
        }
    }
    return NULL;
}

static int apply_defaults(const struct settings *settings, struct config *config)
{
    const struct setting *profile = last_setting(settings, "limits.profile");
    const bool tdmq = profile && profile->item_count == 1 && strcmp(profile->items[0], "tdmq") == 0;
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        const char *text = tdmq && key->fallback_tdmq ? key->fallback_tdmq : key->fallback;
        const int err = apply_default(key, text, config);
        if (err < 0) {
            return err;
        }
    }
    return 0;
}

/* The seeds give 30 subscriptions for each client that may be online, and count rates by those
 * clients, too. */
static void derive(const struct settings *settings, struct config *config)
{
    const uint64_t clients = config->limits_clients;
    const struct {
        const char *name;
        uint64_t *value, derived;
    } rows[] = {
        {"limits.subscriptions", &config->limits_subscriptions, 30 * clients},
        {"limits.connect_rate", &config->limits_connect_rate, MAX(clients / 5, 1u)},
        {"limits.subscribe_rate", &config->limits_subscribe_rate, MAX(clients / 100, 100u)},
        {"limits.unsubscribe_rate", &config->limits_unsubscribe_rate, MAX(clients / 100, 100u)},
    };
    if (config->limits_profile != PROFILE_TDMQ || clients == 0) {
        return;
    }
    for (size_t i = 0; i < ARRAY_COUNT(rows); i++) {
        if (!last_setting(settings, rows[i].name)) {
            *rows[i].value = rows[i].derived;
        }
    }
}

/* Rules over several keys; the message blames where the key was set, or the default. */
static int check(const struct settings *settings, const struct config *config,
                 struct errmsg *reterr)
{
    struct config_blame blame;
    char allowed[200];
    struct strbuf out;
    strbuf_init_array(&out, allowed, sizeof(allowed));
    const int err = config_check(config, &blame, &out);
    if (err < 0) {
        const struct setting *setting = last_setting(settings, blame.key);
        if (setting) {
            wrap_wrong_value(setting, config_key_find(blame.key), blame.item, allowed, reterr);
        } else {
            errmsg_wrap(reterr, "configuration: %s is left at its default; allowed is %s",
                        blame.key, allowed);
        }
    }
    return err;
}

static int fill(const struct settings *settings, struct config *config, struct errmsg *reterr)
{
    int err = apply_defaults(settings, config);
    for (size_t i = 0; i < settings->count && err == 0; i++) {
        err = apply(&settings->rows[i], config, reterr);
    }
    if (err == 0) {
        derive(settings, config);
        err = check(settings, config, reterr);
    }
    return err;
}

int config_load(const struct config_source *source, config_unknown_fn *unknown_environment,
                void *data, struct config *ret_config, struct errmsg *reterr)
{
    CLEANUP(settings_cleanup) struct settings settings = {0};
    struct config config = {0};
    int err = gather(source, unknown_environment, data, &settings, reterr);
    if (err == 0) {
        err = fill(&settings, &config, reterr);
    }
    if (err < 0) {
        if (err == ERR_NOMEM) {
            errmsg_wrap(reterr, "could not read the configuration: %s", err_text(err));
        }
        config_done(&config);
        return err;
    }
    *ret_config = config;
    return 0;
}

const char *config_restart_key(const struct config *before, const struct config *after)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (key->when == WHEN_START && !config_key_equal(key, before, after)) {
            return key->name;
        }
    }
    return NULL;
}
