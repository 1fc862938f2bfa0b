#include "probe.h"

#include "base/mem.h"
#include "net/tls_client.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LINE_MAX_SIZE = 8 << 20 };

struct input {
    struct io_watch watch;
    struct probe *probe;
    struct strbuf text; /* what is not a whole line yet */
};

static void take_line(struct probe *probe, const char *line, size_t size)
{
    json_t *args = json_loadb(line, size, 0, NULL);
    if (json_is_object(args))
        probe_start(probe, args);
    else
        (void)fprintf(stderr, "a line is not a JSON object\n");
    json_decref(args);
}

static void take_lines(struct input *input)
{
    char *text = NULL;
    size_t size = 0;
    if (strbuf_take(&input->text, &text, &size) < 0)
        exit(1);
    char *line = text;
    for (char *end; line && (end = memchr(line, '\n', size - (size_t)(line - text)));
         line = end + 1)
        take_line(input->probe, line, (size_t)(end - line));
    if (line)
        strbuf_add_bytes(&input->text, line, size - (size_t)(line - text));
    mem_free(text);
}

static void on_input(struct io_watch *watch, unsigned events)
{
    struct input *input = CONTAINER_OF(watch, struct input, watch);
    char bytes[65536];
    (void)events;
    const ssize_t n = read(watch->fd, bytes, sizeof bytes);
    if (n > 0) {
        strbuf_add_bytes(&input->text, bytes, (size_t)n);
        take_lines(input);
        return;
    }
    io_watch_stop(input->probe->loop, watch);
    input->probe->is_at_end = true;
    if (list_empty(&input->probe->jobs))
        loop_stop(input->probe->loop);
}

static void on_lost(void *data, const char *address, const char *why)
{
    (void)data;
    (void)fprintf(stderr, "lost %s: %s\n", address, why);
}

static void take_arguments(int argc, char **argv, struct rmq_client_options *options,
                           struct tls_client_options *tls)
{
    static const struct option long_options[] = {
        {"namesrv", required_argument, NULL, 'n'},
        {"access-key", required_argument, NULL, 'a'},
        {"secret-key", required_argument, NULL, 's'},
        {"timeout-ms", required_argument, NULL, 't'},
        {"heartbeat-ms", required_argument, NULL, 'h'},
        {"tls-ca", required_argument, NULL, 'c'},
        {"tls-name", required_argument, NULL, 'N'},
        {0},
    };
    for (int c; (c = getopt_long(argc, argv, "", long_options, NULL)) != -1;) {
        if (c == 'n')
            options->namesrvs = optarg;
        else if (c == 'a')
            options->access_key = optarg;
        else if (c == 's')
            options->secret_key = optarg;
        else if (c == 't')
            options->request_timeout_ms = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'h')
            options->heartbeat_ms = (uint32_t)strtoul(optarg, NULL, 10);
        else if (c == 'c')
            tls->ca_file = optarg;
        else if (c == 'N')
            tls->server_name = optarg;
        else
            exit(2);
    }
}

static int run(struct probe *probe, const struct rmq_net *net,
               const struct rmq_client_options *options)
{
    struct errmsg why = {0};
    struct input input = {.probe = probe, .watch = {.fd = STDIN_FILENO, .on_event = on_input}};
    if (rmq_client_new(net, options, &probe->client, &why) < 0) {
        (void)fprintf(stderr, "%s\n", why.text);
        return 2;
    }
    strbuf_init(&input.text, LINE_MAX_SIZE);
    int err = io_watch_start(probe->loop, &input.watch, IO_READ);
    if (err == 0)
        err = loop_run(probe->loop);
    probe->client = rmq_client_free(probe->client);
    strbuf_done(&input.text);
    return err < 0;
}

int main(int argc, char **argv)
{
    struct probe probe = {0};
    struct rmq_net net = {0};
    struct rmq_client_options options = {
        .namesrvs = "", .client_id = "probe", .producer_group = "probe", .on_lost = on_lost};
    struct tls_client_options tls_options = {0};
    struct tls_client *tls = NULL;
    struct errmsg why = {0};
    take_arguments(argc, argv, &options, &tls_options);
    if (tls_options.ca_file) {
        if (tls_client_new(&tls_options, &tls, &why) < 0) {
            (void)fprintf(stderr, "%s\n", why.text);
            return 2;
        }
        options.stage = tls_client_stage;
        options.stage_data = tls;
    }
    list_init(&probe.jobs);
    if (loop_new(&probe.loop, NULL) < 0 || mailbox_new(probe.loop, &net.mailbox, NULL) < 0 ||
        worker_pool_new(1, &net.workers, NULL) < 0)
        return 1;
    net.loop = probe.loop;
    const int status = run(&probe, &net, &options);
    (void)tls_client_free(tls);
    (void)worker_pool_free(net.workers);
    (void)mailbox_free(net.mailbox);
    (void)loop_free(probe.loop);
    return status;
}
