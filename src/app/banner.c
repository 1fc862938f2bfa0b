#include "app/server_priv.h"

#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_MAX 8192u

struct banner {
    struct strbuf *out;
    char client[sizeof(struct listener_url) +
                64]; /* arguments of mosquitto_pub for the first listener */
};

/* How mosquitto's clients on this machine reach a listener; empty when they cannot. */
static void client_arguments(const char *bound, char *ret_text, size_t size)
{
    struct listener_url url;
    struct errmsg unused = {0};
    if (listener_url_parse(bound, &url, &unused) < 0 || url.kind == LISTENER_UDP) {
        ret_text[0] = '\0';
        return;
    }
    if (url.kind == LISTENER_UNIX) {
        (void)snprintf(ret_text, size, "--unix %s", url.path);
        return;
    }
    const bool everywhere = strcmp(url.host, "*") == 0 || strcmp(url.host, "0.0.0.0") == 0;
    const char *host = everywhere ? "127.0.0.1" : url.host;
    (void)snprintf(ret_text, size, "-h %s -p %u%s", strcmp(host, "::") == 0 ? "::1" : host,
                   url.port, url.tls ? " --cafile CA.pem" : "");
}

static void add_listener(void *data, const char *url, const char *bound)
{
    (void)url;
    struct banner *banner = data;
    strbuf_addf(banner->out, "  MQTT       %s\n", bound);
    if (banner->client[0] == '\0') {
        client_arguments(bound, banner->client, sizeof(banner->client));
    }
}

static void add_admin(const struct server *server, struct strbuf *out)
{
    if (server->admin_listener) {
        const char *bound = listener_bound(server->admin_listener);
        strbuf_addf(out, "  Admin      http://%s (token in %s/%s)\n", bound + strlen("mqtt://"),
                    server->config.data_dir, INSTANCE_TOKEN_FILE);
    }
}

static void add_data(const struct server *server, struct strbuf *out)
{
    char resolved[PATH_MAX];
    const char *path = realpath(server->config.data_dir, resolved);
    if (strcmp(server->config.store, "mem") == 0) {
        strbuf_add(out, "  Messages   in memory only: lost when the server stops\n");
    }
    strbuf_addf(out, "  Data       %s\n", path ? path : server->config.data_dir);
}

static void add_example(const struct server *server, const struct banner *banner,
                        struct strbuf *out)
{
    const bool has_client = banner->client[0] != '\0';
    const char *what = has_client ? ", receive, and publish" : "";
    const char *who = config_allows_anonymous(&server->config) ? "" : " -u USER -P PASSWORD";
    if (!server->config.topics_auto_create) {
        strbuf_addf(out,
                    "\nMake a first-level topic%s from another terminal:\n"
                    "  tidemq topic create demo --data-dir %s\n",
                    what, server->config.data_dir);
    } else if (has_client) {
        strbuf_add(out, "\nReceive, and publish from another terminal:\n");
    }
    if (!has_client) {
        return;
    }
    strbuf_addf(out, "  mosquitto_sub %s%s -q 1 -t demo/hello -v\n", banner->client, who);
    strbuf_addf(out, "  mosquitto_pub %s%s -q 1 -t demo/hello -m 'hello'\n", banner->client, who);
}

void banner_print(const struct server *server)
{
    struct strbuf out;
    strbuf_init(&out, TEXT_MAX);
    struct banner banner = {.out = &out};
    strbuf_addf(&out, "TideMQ %s is ready.\n", TIDEMQ_VERSION);
    proxy_listeners(server->proxy, add_listener, &banner);
    add_admin(server, &out);
    add_data(server, &out);
    add_example(server, &banner, &out);
    if (strbuf_err(&out) == 0 && server->config.log_format == LOG_TEXT) {
        (void)fputs(out.text, stdout);
        (void)fflush(stdout);
    }
    log_write(server->log, LOG_INFO, "server",
              "ready: version %s, instance %s, data in %s, port %u", TIDEMQ_VERSION,
              server->instance.id, server->config.data_dir, proxy_port(server->proxy));
    strbuf_done(&out);
}
