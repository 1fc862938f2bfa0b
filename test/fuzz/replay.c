/* Runs a fuzz target over its corpus without a fuzzer, so that every build tests what fuzzing once
 * found: the empty input, then each file of the folder named by the argument, in order of name.
 *
 * usage: TARGET FOLDER
 *
 * Prints how many inputs ran. Fails when the folder cannot be read or holds no file; a target that
 * finds a fault aborts, and the last line printed names the input.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

enum { INPUT_SIZE_MAX = 16 << 20 };

static int is_visible(const struct dirent *entry)
{
    return entry->d_name[0] != '.';
}

/* Reads a whole file into new memory of exactly its size, so that a sanitizer sees a read beyond.
 */
static uint8_t *read_input(const char *path, size_t *ret_size)
{
    uint8_t *bytes = NULL;
    FILE *file = fopen(path, "rb");
    if (!file)
        return NULL;
    if (fseek(file, 0, SEEK_END) == 0) {
        const long size = ftell(file);
        if (size >= 0 && size <= INPUT_SIZE_MAX && fseek(file, 0, SEEK_SET) == 0) {
            bytes = malloc((size_t)size + (size == 0));
            if (bytes && fread(bytes, 1, (size_t)size, file) != (size_t)size) {
                free(bytes);
                bytes = NULL;
            }
            *ret_size = (size_t)size;
        }
    }
    (void)fclose(file);
    return bytes;
}

static int replay(const char *folder, const char *name)
{
    char path[4096];
    size_t size = 0;
    const int path_size = snprintf(path, sizeof path, "%s/%s", folder, name);
    if (path_size < 0 || (size_t)path_size >= sizeof path)
        return -1;
    uint8_t *bytes = read_input(path, &size);
    if (!bytes) {
        (void)fprintf(stderr, "could not read %s\n", path);
        return -1;
    }
    (void)printf("%s, %zu bytes\n", name, size);
    (void)fflush(stdout);
    (void)LLVMFuzzerTestOneInput(bytes, size);
    free(bytes);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: %s FOLDER\n", argv[0]);
        return 2;
    }
    struct dirent **entries = NULL;
    const int entry_count = scandir(argv[1], &entries, is_visible, alphasort);
    if (entry_count < 0) {
        perror(argv[1]);
        return 1;
    }
    const uint8_t nothing = 0;
    (void)LLVMFuzzerTestOneInput(&nothing, 0);
    int replayed = 0;
    for (int i = 0; i < entry_count; i++) {
        replayed += replay(argv[1], entries[i]->d_name) == 0;
        free(entries[i]);
    }
    free(entries);
    (void)printf("%d of %d inputs replayed, and the empty one\n", replayed, entry_count);
    return replayed == entry_count && entry_count > 0 ? 0 : 1;
}
