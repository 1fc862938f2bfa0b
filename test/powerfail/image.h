/* Crash images: one of the states that the disk may show after a power cut.
 *
 * Forced changes are always in an image. What happens to the others is the image's mode, drawn
 * from the seed for each file and directory by itself:
 *  - none      they are lost;
 *  - prefix    the first few are there, the next one up to some sector;
 *  - sectors   each 512-byte sector of each write is there or not; the size is one that the file
 *              went through; nothing follows a shrinking that is lost;
 *  - hole      they are all there but for one run of sectors, in half of the cases the first ones:
 *              the disk wrote what came later first;
 *  - all       they are all there, as after kill -9;
 *  - random    one of the above for the whole image, or one for each file.
 * Directory operations are kept up to some point in each directory, or (but for the mode prefix)
 * each by itself, as long as nothing earlier on the same names is lost; a rename between two
 * directories happens in both or in neither.
 */
#pragma once

#include "model.h"

enum image_mode { IMAGE_NONE, IMAGE_PREFIX, IMAGE_SECTORS, IMAGE_HOLE, IMAGE_ALL, IMAGE_RANDOM };

struct image_stats {
    enum image_mode mode; /* the one drawn; IMAGE_RANDOM: one for each file */
    size_t file_count;
    size_t change_count; /* not yet guaranteed */
    size_t applied_count;
    size_t torn_count;
    size_t dir_op_count; /* not yet guaranteed */
    size_t dir_op_applied_count;
};

/* Builds the image of the directory `sub_path` (below the recorded one, "" for all of it) in
 * `out_path`, which must not exist. The same model state, mode and seed give the same image.
 * Ends the process with a message when the image cannot be written. Thread: one. */
struct image_stats image_build(struct model *model, const char *sub_path, const char *out_path,
                               enum image_mode mode, uint64_t seed);

/* Removes an image and all in it. */
void image_remove(const char *path);

const char *image_mode_name(enum image_mode mode);

/* The next number of a splitmix64 sequence, and one below `limit` (0 when that is 0). */
uint64_t image_random(uint64_t *state);
uint64_t image_random_below(uint64_t *state, uint64_t limit);
