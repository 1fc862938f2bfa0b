/* A change of files is followed up when nothing has changed for a moment: a certificate and its key
 * are two files, and who renews them writes one after the other. Until both are there the new ones
 * do not fit together, and the old ones stay. */
#include "app/certificates.h"

#include "app/server_priv.h"
#include "auth/registry.h"
#include "base/mem.h"
#include "io/file_watch.h"
#include "proxy/proxy_tls.h"

#include <jansson.h>
#include <string.h>
#include <time.h>

enum {
    SETTLE_MS = 500,
    REMIND_MS = 24 * 3600 * 1000,
    DAY_S = 24 * 3600,
    REMIND_DAYS = 30,    /* before a certificate expires */
    REMIND_LIST_DAYS = 1 /* before the next revocation list or OCSP response is due */
};

struct reminder {
    struct server *server;
    int64_t now_s;
    int64_t first_s; /* when the first of the server's own certificates expires; 0 = none */
    json_t *alarms;  /* an array */
};

static void add_day(int64_t time_s, char *ret_text, size_t size)
{
    const time_t when = (time_t)time_s;
    struct tm tm = {0};
    (void)gmtime_r(&when, &tm);
    if (strftime(ret_text, size, "%Y-%m-%d %H:%M UTC", &tm) == 0) {
        ret_text[0] = '\0';
    }
}

static void add_alarm(const struct reminder *reminder, const struct proxy_certificate *certificate)
{
    const int64_t left_s = certificate->not_after_s - reminder->now_s;
    json_t *row = json_object();
    (void)json_object_set_new(row, "alarm", json_string("expiry"));
    (void)json_object_set_new(row, "use", json_string(certificate->use));
    (void)json_object_set_new(row, "file", json_string(certificate->file));
    (void)json_object_set_new(row, "listener", json_string(certificate->listener));
    (void)json_object_set_new(row, "subject", json_string(certificate->subject));
    (void)json_object_set_new(row, "not_after_s", json_integer(certificate->not_after_s));
    (void)json_object_set_new(row, "days_left", json_integer(left_s / DAY_S));
    (void)json_array_append_new(reminder->alarms, row);
}

static void remind_of(void *data, const struct proxy_certificate *certificate)
{
    struct reminder *reminder = data;
    const bool is_list = strcmp(certificate->use, "crl") == 0;
    const bool is_response = strcmp(certificate->use, "ocsp") == 0;
    const int64_t end_s = certificate->not_after_s;
    char day[64];
    if (strcmp(certificate->use, "server") == 0 &&
        (reminder->first_s == 0 || end_s < reminder->first_s)) {
        reminder->first_s = end_s;
    }
    const int64_t left_s = end_s - reminder->now_s;
    if (end_s == 0 || left_s > (is_list || is_response ? REMIND_LIST_DAYS : REMIND_DAYS) * DAY_S) {
        return;
    }
    add_alarm(reminder, certificate);
    add_day(end_s, day, sizeof(day));
    if (is_list) {
        log_write(reminder->server->log, LOG_WARN, "alarm",
                  "the revocation list '%s' of %s (%s): the next one %s on %s; without it "
                  "no certificate of that CA is accepted",
                  certificate->file, certificate->listener, certificate->subject,
                  left_s < 0 ? "was due" : "is due", day);
    } else if (is_response) {
        log_write(reminder->server->log, LOG_WARN, "alarm",
                  "the OCSP response '%s' of %s (%s): the next one %s on %s; without it none is "
                  "sent to clients",
                  certificate->file, certificate->listener, certificate->subject,
                  left_s < 0 ? "was due" : "is due", day);
    } else {
        log_write(reminder->server->log, LOG_WARN, "alarm",
                  "the certificate '%s' of %s (%s) %s on %s, %lld days from now", certificate->file,
                  certificate->listener, certificate->subject,
                  left_s < 0 ? "has expired" : "expires", day, (long long)(left_s / DAY_S));
    }
}

static void remind(struct server *server)
{
    struct reminder reminder = {.server = server,
                                .now_s = (int64_t)(loop_wall_ms(server->loop) / 1000),
                                .alarms = json_array()};
    proxy_tls_certificates(server->proxy, remind_of, &reminder);
    metric_set(&server->metrics->tls_certificate_expiry, reminder.first_s);
    const size_t size = json_dumpb(reminder.alarms, NULL, 0, JSON_COMPACT);
    char *text = mem_new(size + 1);
    (void)json_dumpb(reminder.alarms, text, size, JSON_COMPACT);
    broker_alarms(server->broker, text);
    mem_free(text);
    json_decref(reminder.alarms);
}

static void on_remind(struct timer *timer)
{
    struct server *server = CONTAINER_OF(timer, struct server, certificate_reminder);
    remind(server);
    timer_start(loop_timers(server->loop), timer, REMIND_MS);
}

static void watch_path(void *data, const char *path)
{
    struct server *server = data;
    const int err = file_watch_add(server->certificate_watch, path);
    if (err < 0) {
        log_write(server->log, LOG_WARN, "server",
                  "changes of '%s' will not be noticed (%s): send SIGHUP after changing it", path,
                  err_text(err));
    }
}

/* Links may lead elsewhere by now. */
static void watch_again(struct server *server)
{
    if (server->certificate_watch) {
        file_watch_clear(server->certificate_watch);
        proxy_tls_paths(server->proxy, watch_path, server);
    }
}

/* Reads all of them anew. Returns 0, or an error with the reason in reterr; then nothing changes.
 */
static int renew(struct server *server, struct errmsg *reterr)
{
    struct proxy_config proxy;
    server_proxy_config(server, &server->config, &proxy);
    const int err = proxy_tls_stage(server->proxy, &proxy.tls, reterr);
    if (err < 0) {
        watch_again(server);
        return err;
    }
    proxy_tls_commit(server->proxy);
    certificates_changed(server);
    return 0;
}

static void on_settled(struct timer *timer)
{
    struct server *server = CONTAINER_OF(timer, struct server, certificate_settle);
    struct errmsg why = {0};
    if (renew(server, &why) < 0) {
        log_write(server->log, LOG_WARN, "server",
                  "files of certificates have changed, but the old ones stay in use: %s", why.text);
    } else {
        log_write(server->log, LOG_INFO, "server",
                  "certificates read again: their files have changed");
    }
}

/* Clients of a CA that is not active any more are refused by the authenticator in any case. */
static void on_authorities(void *data)
{
    struct server *server = data;
    struct errmsg why = {0};
    if (server->config.auth_x509_mode != X509_REGISTERED) {
        return;
    }
    if (renew(server, &why) < 0) {
        log_write(server->log, LOG_WARN, "server",
                  "the listeners do not know of the changed CAs yet, because the files of "
                  "certificates cannot be read; mend them: %s",
                  why.text);
    }
}

static void on_change(void *data)
{
    struct server *server = data;
    timer_start(loop_timers(server->loop), &server->certificate_settle, SETTLE_MS);
}

void certificates_changed(struct server *server)
{
    timer_stop(loop_timers(server->loop), &server->certificate_settle);
    watch_again(server);
    remind(server);
}

void certificates_start(struct server *server)
{
    struct errmsg why = {0};
    server->certificate_settle.on_due = on_settled;
    server->certificate_reminder.on_due = on_remind;
    if (file_watch_new(server->loop, on_change, server, &server->certificate_watch, &why) < 0) {
        log_write(server->log, LOG_WARN, "server", "%s; send SIGHUP after changing certificates",
                  why.text);
    }
    certificates_changed(server);
    registry_watch_authorities(server->registry, on_authorities, server);
    timer_start(loop_timers(server->loop), &server->certificate_reminder, REMIND_MS);
}

void certificates_stop(struct server *server)
{
    timer_stop(loop_timers(server->loop), &server->certificate_settle);
    timer_stop(loop_timers(server->loop), &server->certificate_reminder);
    server->certificate_watch = file_watch_free(server->certificate_watch);
}
