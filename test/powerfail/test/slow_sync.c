/* Preloaded below the recorder: while fdatasync runs, the subject does something else. */
#include <dlfcn.h>
#include <unistd.h>

int fdatasync(int fd)
{
    void (*during_sync)(void) = (void (*)(void))dlsym(RTLD_DEFAULT, "during_sync");
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
    if (during_sync)
        during_sync();
    return real(fd);
}
