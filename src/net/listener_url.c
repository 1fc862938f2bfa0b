#include "net/listener_url.h"

#include "base/buf.h"
#include "wire/http_upgrade.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <string.h>

struct scheme {
    const char *name;
    enum listener_kind kind;
    bool tls, websocket;
    uint16_t port;
};

static const struct scheme schemes[] = {
    {"mqtt", LISTENER_TCP, false, false, 1883}, {"mqtts", LISTENER_TCP, true, false, 8883},
    {"ws", LISTENER_TCP, false, true, 8888},    {"wss", LISTENER_TCP, true, true, 8889},
    {"quic", LISTENER_UDP, true, false, 14567},
};

/* What options there are. words: what is allowed, separated by '|'; NULL: a text. */
static const struct option {
    const char *name;
    const char *words;
    enum { FOR_TLS, FOR_TCP, FOR_QUIC } whose;
} options[] = {
    {"certificate", NULL, FOR_TLS},
    {"private_key", NULL, FOR_TLS},
    {"client_ca", NULL, FOR_TLS},
    {"client_certificate", "none|optional|required", FOR_TLS},
    {"crl", NULL, FOR_TLS},
    {"ocsp_response", NULL, FOR_TLS},
    {"min_version", "1.2|1.3", FOR_TLS},
    {"priorities", NULL, FOR_TLS},
    {"proxy_protocol", "false|true|required", FOR_TCP},
    {"retry", "auto|always", FOR_QUIC},
};

static const struct scheme unix_scheme = {"mqtt+unix", LISTENER_UNIX, false, false, 0};

static int copy_part(const char *what, struct slice part, size_t max, const char *url, char *ret,
                     struct errmsg *reterr)
{
    if (part.size > max) {
        errmsg_wrap(reterr, "'%s': more than %zu bytes of %s", url, max, what);
        return ERR_INVALID;
    }
    if (part.size > 0)
        memcpy(ret, part.bytes, part.size);
    ret[part.size] = '\0';
    return 0;
}

static int parse_port(struct slice text, const char *url, uint16_t *ret_port, struct errmsg *reterr)
{
    uint32_t port = 0, i = 0;
    for (; i < text.size && text.bytes[i] >= '0' && text.bytes[i] <= '9' && port <= UINT16_MAX; i++)
        port = port * 10 + (uint32_t)(text.bytes[i] - '0');
    if (text.size == 0 || i < text.size || port > UINT16_MAX) {
        errmsg_wrap(reterr, "'%s': port '%.*s' is not a number from 0 to 65535", url,
                    (int)text.size, (const char *)text.bytes);
        return ERR_INVALID;
    }
    *ret_port = (uint16_t)port;
    return 0;
}

static int parse_unix(const char *path, const char *url, struct listener_url *ret_url,
                      struct errmsg *reterr)
{
    if (strncmp(path, "//", 2) == 0)
        path += 2;
    const size_t size = strlen(path);
    if (size == 0 || size > LISTENER_PATH_MAX) {
        errmsg_wrap(reterr, "'%s': the socket's path must have 1 to %d bytes", url,
                    LISTENER_PATH_MAX);
        return ERR_INVALID;
    }
    memcpy(ret_url->path, path, size + 1);
    return 0;
}

/* Finds where the host ends and what follows it; ret_rest is "" or ":PORT". */
static int split_host(struct slice text, const char *url, struct slice *ret_host,
                      struct slice *ret_rest, struct errmsg *reterr)
{
    const char *begin = (const char *)text.bytes, *end;
    if (text.size > 0 && *begin == '[') {
        end = memchr(begin, ']', text.size);
        if (!end) {
            errmsg_wrap(reterr, "'%s': the ']' of the IPv6 address is missing", url);
            return ERR_INVALID;
        }
        *ret_host = slice_of(begin + 1, (size_t)(end - begin - 1));
        end++;
    } else {
        end = text.size > 0 ? memchr(begin, ':', text.size) : NULL;
        if (end && memchr(end + 1, ':', text.size - (size_t)(end + 1 - begin))) {
            errmsg_wrap(reterr, "'%s': an IPv6 address must stand in [brackets]", url);
            return ERR_INVALID;
        }
        end = end ? end : begin + text.size;
        *ret_host = slice_of(begin, (size_t)(end - begin));
    }
    *ret_rest = slice_of(end, text.size - (size_t)(end - begin));
    return 0;
}

/* HOST[:PORT] */
static int parse_authority(struct slice text, const char *url, struct listener_url *ret_url,
                           struct errmsg *reterr)
{
    struct slice host, rest;
    if (text.size > 0 && memchr(text.bytes, '@', text.size)) {
        errmsg_wrap(reterr, "'%s': only HOST:PORT may follow '%s://'", url, ret_url->scheme);
        return ERR_INVALID;
    }
    int err = split_host(text, url, &host, &rest, reterr);
    if (err < 0)
        return err;
    if (host.size == 0) {
        errmsg_wrap(reterr, "'%s': the host is missing ('*' means all addresses)", url);
        return ERR_INVALID;
    }
    err = copy_part("host name", host, LISTENER_HOST_MAX, url, ret_url->host, reterr);
    if (err < 0)
        return err;
    struct in6_addr address;
    if (text.bytes[0] == '[' && inet_pton(AF_INET6, ret_url->host, &address) != 1) {
        errmsg_wrap(reterr, "'%s': '%s' is not an IPv6 address", url, ret_url->host);
        return ERR_INVALID;
    }
    if (rest.size == 0)
        return 0;
    if (rest.bytes[0] != ':') {
        errmsg_wrap(reterr, "'%s': ':PORT' is expected behind ']', not '%.*s'", url, (int)rest.size,
                    (const char *)rest.bytes);
        return ERR_INVALID;
    }
    return parse_port(slice_of(rest.bytes + 1, rest.size - 1), url, &ret_url->port, reterr);
}

/* HOST[:PORT][/PATH] */
static int parse_network(const char *text, const char *url, struct listener_url *ret_url,
                         struct errmsg *reterr)
{
    const size_t size = strcspn(text, "/");
    const char *path = text + size;
    int err = parse_authority(slice_of(text, size), url, ret_url, reterr);
    if (err < 0)
        return err;
    if (*path != '\0' && !ret_url->websocket) {
        errmsg_wrap(reterr, "'%s': only HOST:PORT may follow '%s://'", url, ret_url->scheme);
        return ERR_INVALID;
    }
    if (ret_url->websocket)
        err = copy_part("path", *path ? slice_str(path) : slice_str("/mqtt"), LISTENER_PATH_MAX,
                        url, ret_url->path, reterr);
    if (err == 0 && ret_url->websocket && !http_upgrade_path_check(ret_url->path)) {
        errmsg_wrap(reterr, "'%s': the path has a character that a URL's path may not have", url);
        err = ERR_INVALID;
    }
    return err;
}

/* The scheme that `text` begins with, and what follows it. */
static const struct scheme *find_scheme(const char *text, const char **ret_rest)
{
    const char *colon = strchr(text, ':');
    if (!colon)
        return NULL;
    const size_t size = (size_t)(colon - text);
    if (size == strlen(unix_scheme.name) && memcmp(text, unix_scheme.name, size) == 0) {
        *ret_rest = colon + 1;
        return &unix_scheme;
    }
    for (size_t i = 0; i < ARRAY_COUNT(schemes); i++) {
        if (size == strlen(schemes[i].name) && memcmp(text, schemes[i].name, size) == 0 &&
            strncmp(colon, "://", 3) == 0) {
            *ret_rest = colon + 3;
            return &schemes[i];
        }
    }
    return NULL;
}

/* --- options ------------------------------------------------------------------------------ */

static int hex_digit(char c)
{
    static const char digits[] = "0123456789abcdef";
    const char *found =
        c != '\0' ? strchr(digits, c >= 'A' && c <= 'F' ? c + ('a' - 'A') : c) : NULL;
    return found ? (int)(found - digits) : -1;
}

static int decode(struct slice text, char *ret_value)
{
    const char *p = (const char *)text.bytes, *end = p + text.size;
    size_t size = 0;
    while (p < end) {
        if (size == LISTENER_VALUE_MAX)
            return ERR_FULL;
        char c = *p++;
        if (c == '%') {
            const int high = end - p >= 2 ? hex_digit(p[0]) : -1;
            const int low = high >= 0 ? hex_digit(p[1]) : -1;
            if (low < 0 || high + low == 0)
                return ERR_INVALID;
            c = (char)(high * 16 + low);
            p += 2;
        }
        ret_value[size++] = c;
    }
    ret_value[size] = '\0';
    return 0;
}

static bool is_text(struct slice slice, const char *text)
{
    return slice.size == strlen(text) && memcmp(slice.bytes, text, slice.size) == 0;
}

static const struct option *find_option(struct slice name)
{
    for (size_t i = 0; i < ARRAY_COUNT(options); i++) {
        if (is_text(name, options[i].name))
            return &options[i];
    }
    return NULL;
}

static bool is_one_of(const char *word, const char *words)
{
    const size_t size = strlen(word);
    for (const char *at = words; at; at = strchr(at, '|') ? strchr(at, '|') + 1 : NULL) {
        if (strcspn(at, "|") == size && memcmp(at, word, size) == 0)
            return true;
    }
    return false;
}

/* Splits NAME=VALUE off the front of *rest. */
static void split_option(const char **rest, struct slice *ret_name, struct slice *ret_value)
{
    const char *text = *rest;
    const size_t size = strcspn(text, "&"), name_size = strcspn(text, "=&");
    *ret_name = slice_of(text, name_size);
    *ret_value = name_size < size ? slice_of(text + name_size + 1, size - name_size - 1)
                                  : slice_of(text + size, 0);
    *rest = text[size] == '&' ? text + size + 1 : text + size;
}

bool listener_option_next(const char **rest, struct listener_option *ret_option)
{
    if (**rest == '\0')
        return false;
    struct slice name, value;
    split_option(rest, &name, &value);
    const struct option *option = find_option(name);
    ASSERT(option != NULL);
    const int err = decode(value, ret_option->value);
    ASSERT(err == 0); /* it was checked */
    ret_option->name = option->name;
    return true;
}

bool listener_option_find(const struct listener_url *url, const char *name,
                          struct listener_option *ret_option)
{
    struct listener_option option;
    bool found = false;
    for (const char *rest = url->query; listener_option_next(&rest, &option);) {
        if (strcmp(option.name, name) == 0) {
            *ret_option = option;
            found = true;
        }
    }
    return found;
}

static int check_option(struct slice name, struct slice value, const char *url,
                        const struct listener_url *parsed, struct errmsg *reterr)
{
    char text[LISTENER_VALUE_MAX + 1];
    const struct option *option = find_option(name);
    const char *shown = (const char *)name.bytes;
    if (!option) {
        errmsg_wrap(reterr, "'%s': there is no option '%.*s'", url, (int)name.size, shown);
    } else if (option->whose == FOR_TLS && !parsed->tls) {
        errmsg_wrap(reterr, "'%s': '%s' is for listeners with TLS, which '%s' is not", url,
                    option->name, parsed->scheme);
    } else if (option->whose == FOR_TCP && parsed->kind == LISTENER_UDP) {
        errmsg_wrap(reterr, "'%s': '%s' is for TCP, on which '%s' is not", url, option->name,
                    parsed->scheme);
    } else if (option->whose == FOR_QUIC && parsed->kind != LISTENER_UDP) {
        errmsg_wrap(reterr, "'%s': '%s' is for listeners of QUIC, which '%s' is not", url,
                    option->name, parsed->scheme);
    } else if (value.size == 0) {
        errmsg_wrap(reterr, "'%s': the option '%s' has no value", url, option->name);
    } else if (decode(value, text) < 0) {
        errmsg_wrap(reterr,
                    "'%s': the value of '%s' is too long, or has a '%%' without two "
                    "hexadecimal digits other than 00",
                    url, option->name);
    } else if (option->words && !is_one_of(text, option->words)) {
        errmsg_wrap(reterr, "'%s': '%s' is one of %s", url, option->name, option->words);
    } else {
        return 0;
    }
    return ERR_INVALID;
}

static int parse_query(const char *query, const char *url, struct listener_url *ret_url,
                       struct errmsg *reterr)
{
    int err =
        copy_part("options", slice_str(query), LISTENER_QUERY_MAX, url, ret_url->query, reterr);
    for (const char *rest = query; err == 0 && *rest != '\0';) {
        struct slice name, value;
        split_option(&rest, &name, &value);
        err = check_option(name, value, url, ret_url, reterr);
        if (err == 0 && is_text(name, "retry"))
            ret_url->retry_always = is_text(value, "always");
    }
    return err;
}

int listener_url_parse(const char *text, struct listener_url *ret_url, struct errmsg *reterr)
{
    const char *rest = NULL;
    const struct scheme *scheme = find_scheme(text, &rest);
    if (!scheme) {
        errmsg_wrap(reterr, "'%s': it begins with none of the words that listeners begin with",
                    text);
        return ERR_INVALID;
    }
    struct listener_url url = {.scheme = scheme->name,
                               .kind = scheme->kind,
                               .tls = scheme->tls,
                               .websocket = scheme->websocket,
                               .port = scheme->port};
    char place[LISTENER_HOST_MAX + LISTENER_PATH_MAX + 16];
    const size_t size = strcspn(rest, "?");
    int err = copy_part("address", slice_of(rest, size), sizeof place - 1, text, place, reterr);
    if (err == 0)
        err = scheme == &unix_scheme ? parse_unix(place, text, &url, reterr)
                                     : parse_network(place, text, &url, reterr);
    if (err == 0 && rest[size] == '?')
        err = parse_query(rest + size + 1, text, &url, reterr);
    if (err == 0)
        *ret_url = url;
    return err;
}

int listener_url_resolve(const struct listener_url *url, struct listener_address *ret_list)
{
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE};
    struct addrinfo *found = NULL;
    const int gai = getaddrinfo(url->host, NULL, &hints, &found);
    if (gai != 0)
        return gai < 0 ? gai : -gai;
    int count = 0;
    for (const struct addrinfo *it = found; it && count < LISTENER_ADDRESSES_MAX;
         it = it->ai_next) {
        struct listener_address *to = &ret_list[count];
        *to = (struct listener_address){.size = it->ai_addrlen};
        memcpy(&to->address, it->ai_addr, it->ai_addrlen);
        if (it->ai_family == AF_INET)
            ((struct sockaddr_in *)&to->address)->sin_port = htons(url->port);
        else if (it->ai_family == AF_INET6)
            ((struct sockaddr_in6 *)&to->address)->sin6_port = htons(url->port);
        else
            continue;
        count++;
    }
    freeaddrinfo(found);
    return count;
}

static bool is_loopback(const struct sockaddr_storage *address)
{
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)address;
        return ntohl(in->sin_addr.s_addr) >> 24 == 127;
    }
    const struct in6_addr *in6 = &((const struct sockaddr_in6 *)address)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(in6) || (IN6_IS_ADDR_V4MAPPED(in6) && in6->s6_addr[12] == 127);
}

bool listener_url_is_local(const struct listener_url *url)
{
    if (url->kind == LISTENER_UNIX)
        return true;
    if (strcmp(url->host, "*") == 0)
        return false;
    struct listener_address list[LISTENER_ADDRESSES_MAX] = {0};
    const int count = listener_url_resolve(url, list);
    for (int i = 0; i < count; i++) {
        if (!is_loopback(&list[i].address))
            return false;
    }
    return count > 0;
}
