#include "rocketmq/rmq_json.h"

#include "base/mem.h"
#include "base/strbuf.h"

#include <string.h>

enum { BODY_MAX = 16 << 20 };

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

/* The size of the text in quotes at the start, up to the end when it has none. */
static size_t text_size(const char *text, size_t size)
{
    size_t i = 1;
    while (i < size && text[i] != '"')
        i += text[i] == '\\' ? 2 : 1;
    return MIN(i + 1, size);
}

/* The size of the number at the start when it is the name of a member, else 0. */
static size_t name_size(const char *text, size_t size)
{
    size_t digits = 0;
    if (size > 0 && text[0] == '-')
        digits = 1;
    const size_t sign = digits;
    while (digits < size && text[digits] >= '0' && text[digits] <= '9')
        digits++;
    size_t next = digits;
    while (next < size && is_blank(text[next]))
        next++;
    return digits > sign && next < size && text[next] == ':' ? digits : 0;
}

/* Adds the body with quotes around such names. */
static void mend(struct slice body, struct strbuf *strbuf)
{
    const char *text = (const char *)body.bytes;
    size_t copied = 0;
    char before = '\0'; /* the last character that was not blank */
    for (size_t i = 0; i < body.size;) {
        const char c = text[i];
        const size_t name = before == '{' || before == ',' ? name_size(text + i, body.size - i) : 0;
        if (name > 0) {
            strbuf_add_bytes(strbuf, text + copied, i - copied);
            strbuf_add(strbuf, "\"");
            strbuf_add_bytes(strbuf, text + i, name);
            strbuf_add(strbuf, "\"");
            i += name;
            copied = i;
            before = '"';
            continue;
        }
        i += c == '"' ? text_size(text + i, body.size - i) : 1;
        if (!is_blank(c))
            before = c;
    }
    strbuf_add_bytes(strbuf, text + copied, body.size - copied);
}

int rmq_json_parse(struct slice body, json_t **ret_value, const char **ret_why)
{
    struct strbuf mended;
    json_t *value = NULL;
    if (body.size == 0) {
        *ret_why = "the body is empty";
        return ERR_MALFORMED;
    }
    /* Each name gets two bytes more, and takes four at least. */
    strbuf_init(&mended, (size_t)BODY_MAX * 2);
    mend(body, &mended);
    int err = strbuf_err(&mended);
    if (err == 0) {
        value = json_loadb(mended.text, mended.size, 0, NULL);
        err = value ? 0 : ERR_MALFORMED;
    }
    strbuf_done(&mended);
    if (err < 0)
        *ret_why = err == ERR_NOMEM ? "there is no memory for the body" : "the body is not JSON";
    else
        *ret_value = value;
    return err;
}
