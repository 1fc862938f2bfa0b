/* Preloaded into the server: a disk that takes only SLOW_DISK_BYTES_S bytes a second of what is
 * written to log files, however fast the real one is. */
#include <dlfcn.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>

typedef ssize_t pwritev_fn(int fd, const struct iovec *iov, int count, off_t offset);

/* Milliseconds are too long for one small write: what is left over waits for the next. */
static void take_time(ssize_t size)
{
    static _Thread_local unsigned long long owed;
    const char *text = getenv("SLOW_DISK_BYTES_S");
    const unsigned long long rate = text ? strtoull(text, NULL, 10) : 0;
    if (rate == 0 || size <= 0)
        return;
    owed += (unsigned long long)size * 1000;
    (void)poll(NULL, 0, (int)(owed / rate));
    owed %= rate;
}

static ssize_t slow(const char *name, int fd, const struct iovec *iov, int count, off_t offset)
{
    pwritev_fn *real = (pwritev_fn *)dlsym(RTLD_NEXT, name);
    const ssize_t size = real(fd, iov, count, offset);
    take_time(size);
    return size;
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    return slow("pwritev", fd, iov, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *iov, int count, off_t offset)
{
    return slow("pwritev64", fd, iov, count, offset);
}
