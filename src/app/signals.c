/* Signals are blocked before any thread is made and read from a signalfd on the loop, so that
 * nothing runs in a signal handler. */
#include "app/server_priv.h"

#include <errno.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <unistd.h>

static void on_signal(struct server *server, uint32_t number)
{
    if (number == SIGHUP) {
        reload_config(server);
        return;
    }
    if (server->stopping) {
        log_write(server->log, LOG_WARN, "server", "stopping at once: a second signal came");
        server->cut_short = true;
        loop_stop(server->loop);
        return;
    }
    server_stop(server);
}

static void on_event(struct io_watch *watch, unsigned events)
{
    (void)events;
    struct server *server = CONTAINER_OF(watch, struct server, signals);
    struct signalfd_siginfo info;
    while (read(watch->fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        on_signal(server, info.ssi_signo);
    }
}

int signals_open(struct server *server, struct errmsg *reterr)
{
    sigset_t set;
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGHUP);
    const struct sigaction ignore = {.sa_handler = SIG_IGN};
    int err = -pthread_sigmask(SIG_BLOCK, &set, NULL);
    if (err == 0 && sigaction(SIGPIPE, &ignore, NULL) < 0) {
        err = -errno;
    }
    if (err == 0) {
        server->signals.fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
        err = server->signals.fd < 0 ? -errno : 0;
    }
    if (err == 0) {
        server->signals.on_event = on_event;
        err = io_watch_start(server->loop, &server->signals, IO_READ);
    }
    if (err < 0) {
        errmsg_wrap(reterr, "could not set up signals: %s", err_text(err));
    }
    return err;
}

void signals_close(struct server *server)
{
    if (server->signals.fd >= 0) {
        io_watch_stop(server->loop, &server->signals);
        (void)close(server->signals.fd);
        server->signals.fd = -1;
    }
}
