#include "auth/template.h"

#include <string.h>

enum variable { CLIENT_ID, USERNAME, PASSWORD, ADDRESS };

static const char *const names[] = {
    [CLIENT_ID] = "${ClientId}",
    [USERNAME] = "${Username}",
    [PASSWORD] = "${Password}",
    [ADDRESS] = "${Address}",
};

/* Which variable begins here; -1: none. */
static int variable_at(const char *text)
{
    for (size_t i = 0; i < ARRAY_COUNT(names); i++) {
        if (strncmp(text, names[i], strlen(names[i])) == 0)
            return (int)i;
    }
    return -1;
}

int template_check(const char *text, struct errmsg *reterr)
{
    while ((text = strstr(text, "${"))) {
        if (variable_at(text) < 0) {
            errmsg_wrap(reterr,
                        "no variable but ${ClientId}, ${Username}, ${Password} and ${Address}; "
                        "'%.*s' is none of them",
                        (int)MIN(strcspn(text, "}") + 1, (size_t)40), text);
            return ERR_INVALID;
        }
        text += 2;
    }
    return 0;
}

bool template_has(const char *text, const char *variable)
{
    return strstr(text, variable) != NULL;
}

static void add_url(struct slice value, struct strbuf *out)
{
    static const char plain[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~";
    for (uint32_t i = 0; i < value.size; i++) {
        const char c = (char)value.bytes[i];
        if (c != '\0' && strchr(plain, c))
            strbuf_add_bytes(out, &c, 1);
        else
            strbuf_addf(out, "%%%02X", value.bytes[i]);
    }
}

static struct slice value_of(int variable, const struct auth_credentials *credentials)
{
    switch ((enum variable)variable) {
    case CLIENT_ID:
        return credentials->client_id;
    case USERNAME:
        return credentials->username;
    case PASSWORD:
        return credentials->password;
    case ADDRESS:
        break;
    }
    return slice_str(credentials->address ? credentials->address : "");
}

void template_fill(const char *text, const struct auth_credentials *credentials,
                   enum template_form form, struct strbuf *out)
{
    while (*text) {
        const int variable = variable_at(text);
        if (variable < 0) {
            strbuf_add_bytes(out, text++, 1);
            continue;
        }
        const struct slice value = value_of(variable, credentials);
        if (form == TEMPLATE_URL)
            add_url(value, out);
        else if (value.size > 0)
            strbuf_add_bytes(out, value.bytes, value.size);
        text += strlen(names[variable]);
    }
}
