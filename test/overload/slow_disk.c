/* Preloaded into the server: a disk that takes only SLOW_DISK_BYTES_S bytes a second of what is
 * written to log files, however fast the real one is. */
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

static void wait_for(ssize_t size)
{
    const char *text = getenv("SLOW_DISK_BYTES_S");
    if (!text || size <= 0)
        return;
    const double seconds = (double)size / atof(text);
    const struct timespec time = {.tv_sec = (time_t)seconds,
                                  .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    (void)nanosleep(&time, NULL);
}

static ssize_t slow(const char *name, int fd, const struct iovec *iov, int count, off_t offset)
{
    ssize_t (*real)(int, const struct iovec *, int, off_t) =
        (ssize_t(*)(int, const struct iovec *, int, off_t))dlsym(RTLD_NEXT, name);
    const ssize_t size = real(fd, iov, count, offset);
    wait_for(size);
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
