/* The key table as a page for people: docs/configuration.md and the end of `serve --help`. */
#include "app/config_key.h"
#include "app/value.h"

#include <string.h>

static const char intro[] =
    "# Configuration\n"
    "\n"
    "<!-- Written by `tidemq config reference` from src/app/config.def; a test compares them. -->\n"
    "\n"
    "TideMQ runs without a configuration file. What differs from the defaults is given in a YAML "
    "file\n"
    "(`tidemq serve --config FILE`), in the environment, or as arguments (`--set key=value`); when "
    "a\n"
    "key is given more than once, `--set` wins over the environment, and that over the file.\n"
    "\n"
    "```yaml\n"
    "data_dir: /var/lib/tidemq\n"
    "listeners:\n"
    "  - mqtt://127.0.0.1:1883\n"
    "  - \"mqtt://[::1]:1883\"\n"
    "topics:\n"
    "  auto_create: true\n"
    "retention: {time: 1d, bytes: 4GiB}\n"
    "```\n"
    "\n"
    "- In the file a dot in a key is a level: `retention.time` is `time` under `retention`. The "
    "flat\n"
    "  form `retention.time: 1d` means the same.\n"
    "- In the environment the key is written in capitals with `TIDEMQ_` in front and `_` for each "
    "dot:\n"
    "  `TIDEMQ_RETENTION_TIME=1d`.\n"
    "- Lists are written `[a, b]` in the environment and with `--set`.\n"
    "- Sizes take `KiB`, `MiB`, `GiB`, `TiB` (powers of 1024; `K`, `M`, `G`, `T` are the same) or "
    "`KB`,\n"
    "  `MB`, `GB`, `TB` (powers of 1000). Durations take `ms`, `s`, `m`, `h`, `d`, `w`, also "
    "together:\n"
    "  `1h30m`.\n"
    "\n"
    "A key that does not exist, a value of the wrong kind or one that is out of range stops the "
    "start\n"
    "with one sentence that names the file, the line, the key and what is allowed.\n"
    "`tidemq serve --config FILE --check` only checks.\n"
    "\n"
    "After SIGHUP the server reads all sources again. Keys marked *reload* change while it runs. "
    "If\n"
    "anything is wrong, or if another key differs, nothing changes and the log says why.\n"
    "\n"
    "Under `limits.profile: tdmq` some defaults differ, and names of first-level topics must be 3 "
    "to 100\n"
    "letters, digits, `-` and `_`.\n"
    "\n";

static const char *kind_name(enum config_kind kind)
{
    switch (kind) {
    case KIND_BOOL:
        return "switch";
    case KIND_COUNT:
        return "number";
    case KIND_SIZE:
        return "size";
    case KIND_DURATION:
        return "duration";
    case KIND_CHOICE:
        return "word";
    case KIND_TEXT:
        return "text";
    case KIND_LIST:
        return "list";
    }
    return "";
}

static void add_key(const struct config_key *key, struct strbuf *out)
{
    strbuf_addf(out, "### `%s`\n\n%s\n\n", key->name, key->help);
    strbuf_addf(out, "- kind: %s; allowed: ", kind_name(key->kind));
    config_key_add_allowed(key, out);
    strbuf_add(out, key->fallback[0] == '\0' ? "\n- default: empty" : "\n- default: ");
    if (key->fallback[0] != '\0') {
        strbuf_addf(out, "`%s`", key->fallback);
    }
    if (key->fallback_tdmq) {
        strbuf_addf(out, "; under `limits.profile: tdmq` `%s`", key->fallback_tdmq);
    }
    strbuf_addf(out, "\n- changes: %s\n\n",
                key->when == WHEN_RELOAD ? "*reload* (SIGHUP)" : "when the server starts");
}

/* The part of the name before the last dot, which groups the keys on the page; 0 without one. */
static size_t group_size(const char *name)
{
    const char *dot = strrchr(name, '.');
    return dot ? (size_t)(dot - name) : 0;
}

static bool same_group(const struct config_key *a, const struct config_key *b)
{
    const size_t size = group_size(a->name);
    return size == group_size(b->name) && memcmp(a->name, b->name, size) == 0;
}

void config_reference(struct strbuf *out)
{
    strbuf_add(out, intro);
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        if (i == 0 || !same_group(key, &config_keys[i - 1])) {
            const size_t size = group_size(key->name);
            strbuf_addf(out, "## %.*s\n\n", size > 0 ? (int)size : 7,
                        size > 0 ? key->name : "general");
        }
        add_key(key, out);
    }
    /* One newline at the end of the page. */
    if (out->size > 0 && out->err == 0) {
        out->text[--out->size] = '\0';
    }
}

void config_help(struct strbuf *out)
{
    for (size_t i = 0; i < config_key_count; i++) {
        const struct config_key *key = &config_keys[i];
        strbuf_addf(out, "  %s = %s%s\n      %s\n      allowed: ", key->name,
                    key->fallback[0] == '\0' ? "(empty)" : key->fallback,
                    key->when == WHEN_RELOAD ? "  [reload]" : "", key->help);
        config_key_add_allowed(key, out);
        strbuf_add(out, "\n");
    }
}
