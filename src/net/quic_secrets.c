/* The file is a line with its form's name, and behind it the bytes of the struct. */
#include "net/quic_secrets.h"

#include "base/mem.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

static const char form[] = "tidemq quic 1\n";

enum {
    FORM_SIZE = sizeof form - 1,
    FILE_SIZE = FORM_SIZE + sizeof(struct quic_secrets),
    FILE_MODE = 0600,
};

static int read_secrets(int dir_fd, struct quic_secrets *ret_secrets)
{
    char *bytes;
    size_t size;
    const int err = file_read_whole(dir_fd, QUIC_SECRETS_FILE, FILE_SIZE, &bytes, &size);
    if (err < 0)
        return err == ERR_FULL ? ERR_CORRUPT : err;
    const bool sound = size == FILE_SIZE && memcmp(bytes, form, FORM_SIZE) == 0;
    if (sound)
        memcpy(ret_secrets, bytes + FORM_SIZE, sizeof *ret_secrets);
    explicit_bzero(bytes, size);
    mem_free(bytes);
    return sound ? 0 : ERR_CORRUPT;
}

static int make_secrets(int dir_fd, struct quic_secrets *ret_secrets)
{
    uint8_t bytes[FILE_SIZE];
    ssize_t size;
    do {
        size = getrandom(ret_secrets, sizeof *ret_secrets, 0);
    } while (size < 0 && errno == EINTR);
    if (size != (ssize_t)sizeof *ret_secrets)
        return size < 0 ? -errno : -EIO;
    memcpy(bytes, form, FORM_SIZE);
    memcpy(bytes + FORM_SIZE, ret_secrets, sizeof *ret_secrets);
    const int err = file_write_whole(dir_fd, QUIC_SECRETS_FILE, bytes, sizeof bytes, FILE_MODE);
    explicit_bzero(bytes, sizeof bytes);
    return err;
}

int quic_secrets_open(const char *dir, struct quic_secrets *ret_secrets, struct errmsg *reterr)
{
    const int dir_fd = file_openat(AT_FDCWD, dir, O_RDONLY | O_DIRECTORY, 0);
    int err = dir_fd < 0 ? dir_fd : read_secrets(dir_fd, ret_secrets);
    if (dir_fd >= 0 && err == -ENOENT)
        err = make_secrets(dir_fd, ret_secrets);
    if (dir_fd >= 0)
        (void)close(dir_fd);
    if (err < 0)
        errmsg_wrap(reterr, "could not read or make '%s/%s': %s", dir, QUIC_SECRETS_FILE,
                    err == ERR_CORRUPT
                        ? "it is not as this server writes it; remove it to have a new one made"
                        : err_text(err));
    return err;
}
