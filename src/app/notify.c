#include "app/notify.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

/* Fills in the address of NOTIFY_SOCKET. Returns 0, ERR_NOTFOUND (not set), or ERR_INVALID. */
static int manager_address(struct sockaddr_un *ret_address, socklen_t *ret_size)
{
    const char *name = getenv("NOTIFY_SOCKET");
    if (!name || name[0] == '\0') {
        return ERR_NOTFOUND;
    }
    const size_t size = strlen(name);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if ((name[0] != '/' && name[0] != '@') || size < 2 || size >= sizeof(address.sun_path)) {
        return ERR_INVALID;
    }
    memcpy(address.sun_path, name, size);
    if (name[0] == '@') {
        address.sun_path[0] = '\0';
    }
    *ret_address = address;
    *ret_size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    return 0;
}

int notify_send(const char *state)
{
    struct sockaddr_un address;
    socklen_t size;
    const int err = manager_address(&address, &size);
    if (err < 0) {
        return err == ERR_NOTFOUND ? 0 : err;
    }
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -errno;
    }
    ssize_t sent;
    do {
        sent = sendto(fd, state, strlen(state), MSG_NOSIGNAL, (struct sockaddr *)&address, size);
    } while (sent < 0 && errno == EINTR);
    const int result = sent < 0 ? -errno : 0;
    (void)close(fd);
    return result;
}

int notify_reloading(void)
{
    char text[64];
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    const uint64_t now_us = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    (void)snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%" PRIu64, now_us);
    return notify_send(text);
}
