#include "app/instance.h"

#include "app/value.h"
#include "base/mem.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#define INSTANCE_FILE "instance"
#define FILE_MAX      256

static int random_hex(char *ret_hex, size_t digit_count)
{
    static const char digits[] = "0123456789abcdef";
    uint8_t bytes[32];
    ASSERT(digit_count / 2 <= sizeof(bytes));
    ssize_t size;
    do {
        size = getrandom(bytes, digit_count / 2, 0);
    } while (size < 0 && errno == EINTR);
    if (size != (ssize_t)(digit_count / 2)) {
        return size < 0 ? -errno : -EIO;
    }
    for (size_t i = 0; i < digit_count / 2; i++) {
        ret_hex[2 * i] = digits[bytes[i] >> 4];
        ret_hex[2 * i + 1] = digits[bytes[i] & 15];
    }
    ret_hex[digit_count] = '\0';
    return 0;
}

/* Reads a one-line file without its newline into `line`. */
static int read_line(int dir_fd, const char *name, char *line, size_t room)
{
    char *text;
    size_t size;
    const int err = file_read_whole(dir_fd, name, FILE_MAX, &text, &size);
    if (err < 0) {
        return err == ERR_FULL ? ERR_CORRUPT : err;
    }
    if (size > 0 && text[size - 1] == '\n') {
        size--;
    }
    const bool sound = size < room && !memchr(text, '\n', size) && !memchr(text, '\0', size);
    if (sound) {
        memcpy(line, text, size);
        line[size] = '\0';
    }
    explicit_bzero(text, size);
    mem_free(text);
    return sound ? 0 : ERR_CORRUPT;
}

static bool is_hex(const char *text, size_t size)
{
    return strlen(text) == size && strspn(text, "0123456789abcdef") == size;
}

static int open_token(int dir_fd, struct instance *instance)
{
    int err = read_line(dir_fd, INSTANCE_TOKEN_FILE, instance->token, sizeof(instance->token));
    if (err != -ENOENT) {
        /* Administrators may choose a token of their own. */
        return err == 0 && strlen(instance->token) < 16 ? ERR_CORRUPT : err;
    }
    err = random_hex(instance->token, 64);
    if (err < 0) {
        return err;
    }
    char line[80];
    const int size = snprintf(line, sizeof(line), "%s\n", instance->token);
    err = file_write_whole(dir_fd, INSTANCE_TOKEN_FILE, line, (size_t)size, 0600);
    explicit_bzero(line, sizeof(line));
    return err;
}

/* "mqtt-0123456789ab 1700000000000" */
static int parse_instance(char *line, struct instance *instance)
{
    char *space = strchr(line, ' ');
    if (!space) {
        return ERR_CORRUPT;
    }
    *space = '\0';
    if (strncmp(line, "mqtt-", 5) != 0 || !is_hex(line + 5, 12) ||
        value_count(space + 1, &instance->created_ms) < 0) {
        return ERR_CORRUPT;
    }
    (void)snprintf(instance->id, sizeof(instance->id), "mqtt-%.12s", line + 5);
    return 0;
}

static int open_id(int dir_fd, uint64_t now_ms, struct instance *instance)
{
    char line[FILE_MAX];
    int err = read_line(dir_fd, INSTANCE_FILE, line, sizeof(line));
    if (err != -ENOENT) {
        return err < 0 ? err : parse_instance(line, instance);
    }
    char hex[13];
    err = random_hex(hex, 12);
    if (err < 0) {
        return err;
    }
    (void)snprintf(instance->id, sizeof(instance->id), "mqtt-%s", hex);
    instance->created_ms = now_ms;
    const int size = snprintf(line, sizeof(line), "%s %" PRIu64 "\n", instance->id, now_ms);
    return file_write_whole(dir_fd, INSTANCE_FILE, line, (size_t)size, 0640);
}

static int open_files(int dir_fd, uint64_t now_ms, struct instance *instance, struct errmsg *reterr)
{
    const char *name = INSTANCE_FILE;
    int err = open_id(dir_fd, now_ms, instance);
    if (err == 0) {
        name = INSTANCE_TOKEN_FILE;
        err = open_token(dir_fd, instance);
    }
    if (err < 0) {
        errmsg_wrap(reterr, "could not read or make '%s': %s", name,
                    err == ERR_CORRUPT
                        ? "it is not as this server writes it; remove it to have a new one made"
                        : err_text(err));
    }
    return err;
}

int instance_open(const char *data_dir, uint64_t now_ms, struct instance *ret_instance,
                  struct errmsg *reterr)
{
    struct instance instance = {0};
    const int dir_fd = file_openat(AT_FDCWD, data_dir, O_RDONLY | O_DIRECTORY, 0);
    if (dir_fd < 0) {
        errmsg_wrap(reterr, "could not open data_dir '%s': %s", data_dir, err_text(dir_fd));
        return dir_fd;
    }
    const int err = open_files(dir_fd, now_ms, &instance, reterr);
    (void)close(dir_fd);
    if (err < 0) {
        errmsg_wrap(reterr, "data_dir '%s'", data_dir);
        return err;
    }
    *ret_instance = instance;
    return 0;
}
