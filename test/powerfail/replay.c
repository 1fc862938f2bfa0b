/* The replayer: reads an operation log and builds crash images from it.
 *
 *   replay LOG SRCDIR OUTDIR --point P [--seed N] [--mode M] [--marks]
 *   replay LOG SRCDIR OUTDIR --images K [--seed N] [--mode M] [--marks] [--jobs J] --each CMD...
 *   replay LOG SRCDIR OUTDIR --cuts
 *   replay LOG --list
 *
 * The log is mapped and indexed once; K images cost one forward pass, each forked off the model
 * at its point. Exit: 0, 1 when a command of --each failed, 2 when we did.
 */
#include "image.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define JOBS_MAX       64
#define MARKS_PATH_MAX (PATH_MAX + 8)

struct log {
    const uint8_t *bytes;
    size_t size;
    size_t *offsets; /* of the records */
    size_t count;
    size_t first; /* the first point: what stood before the recording is complete */
};

struct options {
    const char *log;
    const char *source;
    const char *out;
    const char *point;
    uint64_t image_count;
    uint64_t seed;
    uint64_t jobs;
    enum image_mode mode;
    bool marks;
    bool list;
    bool cuts;
    char **each; /* NULL-terminated, or NULL */
};

/* One image of many, and the command that looks at it. */
struct job {
    pid_t pid;
    uint64_t index;
    uint64_t point;
    uint64_t seed;
    uint64_t mark;
    char path[PATH_MAX];
};

static void die(const char *what, const char *detail)
{
    (void)fprintf(stderr, "replay: %s '%s'\n", what, detail);
    exit(2);
}

/* --- the log --- */

static struct pf_record record_at(const struct log *log, size_t offset)
{
    struct pf_record record;
    memcpy(&record, log->bytes + offset, sizeof record);
    return record;
}

/* Tells whether a whole record stands at `offset`. */
static bool record_is_whole(const struct log *log, size_t offset, size_t *ret_size)
{
    if (log->size - offset < sizeof(struct pf_record))
        return false;
    const struct pf_record record = record_at(log, offset);
    const uint64_t left = log->size - offset - sizeof record;
    const uint64_t names = (uint64_t)record.name1_size + record.name2_size;
    if (record.magic != PF_MAGIC || names > left || record.data_size > left - names)
        return false;
    *ret_size = (size_t)(sizeof record + names + record.data_size);
    return true;
}

/* Finds the records. One that a kill has cut off in the middle is passed over: the next one is
 * found by its magic number. */
static void log_index(struct log *log)
{
    const uint64_t magic = PF_MAGIC;
    size_t capacity = 0;
    bool based = false;
    for (size_t offset = 0, size; offset < log->size; offset += size) {
        size_t next_size;
        if (record_is_whole(log, offset, &size) &&
            (offset + size == log->size || log->size - offset - size < sizeof magic ||
             memcmp(log->bytes + offset + size, &magic, sizeof magic) == 0)) {
            log->offsets = model_grow(log->offsets, log->count, &capacity, sizeof *log->offsets);
            log->offsets[log->count++] = offset;
            if (!based && record_at(log, offset).op == PF_BASE_END) {
                based = true;
                log->first = log->count;
            }
            continue;
        }
        const uint8_t *next =
            memmem(log->bytes + offset + 1, log->size - offset - 1, &magic, sizeof magic);
        next_size = next ? (size_t)(next - log->bytes) - offset : log->size - offset;
        size = next_size;
    }
    if (!based)
        die("the log does not begin with a recorded directory:", "no base");
}

static struct log log_open(const char *path)
{
    struct log log = {0};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0 || st.st_size == 0)
        die("could not read the log", path);
    log.size = (size_t)st.st_size;
    void *bytes = mmap(NULL, log.size, PROT_READ, MAP_PRIVATE, fd, 0);
    if (bytes == MAP_FAILED)
        die("could not map the log", path);
    log.bytes = bytes;
    (void)close(fd);
    log_index(&log);
    return log;
}

static void log_list(const struct log *log)
{
    static const char *const names[] = {"?",      "start",   "base-end",   "create",   "link",
                                        "unlink", "rename",  "write",      "zero",     "truncate",
                                        "extend", "durable", "sync-begin", "sync-end", "mark",
                                        "hint",   "unseen"};
    for (size_t i = 0; i < log->count; i++) {
        const struct pf_record record = record_at(log, log->offsets[i]);
        const char *text = (const char *)log->bytes + log->offsets[i] + sizeof record;
        (void)printf("%zu %s ino=%" PRIu64 " arg1=%" PRIu64 " arg2=%" PRIu64 " data=%" PRIu64
                     " %.*s %.*s\n",
                     i, record.op < sizeof names / sizeof *names ? names[record.op] : "?",
                     record.ino, record.arg1, record.arg2, record.data_size, (int)record.name1_size,
                     text, (int)record.name2_size, text + record.name1_size);
    }
}

static void advance(struct model *model, const struct log *log, size_t point)
{
    while (model->serial < point) {
        const size_t offset = log->offsets[model->serial];
        const struct pf_record record = record_at(log, offset);
        model_apply(model, &record, log->bytes + offset + sizeof record);
    }
}

/* --- images --- */

static uint64_t last_mark(const struct model *model)
{
    return model->mark_count ? model->marks[model->mark_count - 1] : 0;
}

/* The part of SRCDIR below the recorded directory. */
static const char *sub_path(const struct model *model, const char *source)
{
    static char full[PATH_MAX];
    if (!realpath(source, full) && snprintf(full, sizeof full, "%s", source) >= PATH_MAX)
        die("too long a path:", source);
    const struct model_name *root = &model->root_path;
    if (strncmp(full, root->text, root->size) != 0 ||
        (full[root->size] != '/' && full[root->size] != '\0'))
        die("the log does not record this directory:", source);
    return full + root->size;
}

static const char *marks_path(const char *image, char *path)
{
    (void)snprintf(path, MARKS_PATH_MAX, "%s.marks", image);
    return path;
}

static struct image_stats build(struct model *model, const struct options *options,
                                const char *path, uint64_t seed)
{
    const struct image_stats stats =
        image_build(model, sub_path(model, options->source), path, options->mode, seed);
    if (!options->marks)
        return stats;
    char marks[MARKS_PATH_MAX];
    FILE *file = fopen(marks_path(path, marks), "w");
    if (!file)
        die("could not write", marks);
    for (size_t i = 0; i < model->mark_count; i++)
        (void)fprintf(file, "%" PRIu64 "\n", model->marks[i]);
    if (fclose(file) != 0)
        die("could not write", marks);
    return stats;
}

static size_t parse_point(const struct log *log, const char *text)
{
    char *end;
    if (!strchr(text, '.')) {
        const uint64_t index = strtoull(text, &end, 10);
        if (*end == '\0' && end != text && index >= log->first && index <= log->count)
            return (size_t)index;
        die("not a point of this log:", text);
    }
    const double fraction = strtod(text, &end);
    if (*end != '\0' || !(fraction >= 0 && fraction <= 1))
        die("not a fraction from 0.0 to 1.0:", text);
    return log->first + (size_t)(fraction * (double)(log->count - log->first));
}

static void build_one(const struct log *log, const struct options *options)
{
    struct model *model = model_new();
    const size_t point = parse_point(log, options->point);
    advance(model, log, point);
    const struct image_stats stats = build(model, options, options->out, options->seed);
    (void)printf("%" PRIu64 "\n", last_mark(model));
    (void)printf("point=%zu of %zu mode=%s files=%zu changes=%zu applied=%zu torn=%zu dir_ops=%zu "
                 "dir_applied=%zu unseen=%zu\n",
                 point, log->count, image_mode_name(stats.mode), stats.file_count,
                 stats.change_count, stats.applied_count, stats.torn_count, stats.dir_op_count,
                 stats.dir_op_applied_count, model->unseen_count);
    model_free(model);
}

/* --- many images --- */

static void job_start(struct job *job, char **each)
{
    size_t count = 0;
    while (each[count])
        count++;
    char mark[32];
    (void)snprintf(mark, sizeof mark, "%" PRIu64, job->mark);
    (void)fflush(stdout);
    job->pid = fork();
    if (job->pid < 0)
        die("could not fork:", strerror(errno));
    if (job->pid > 0)
        return;
    char **args = calloc(count + 3, sizeof *args);
    if (!args)
        _exit(127);
    memcpy(args, each, count * sizeof *args);
    args[count] = job->path;
    args[count + 1] = mark;
    (void)execvp(args[0], args);
    (void)fprintf(stderr, "replay: could not run '%s': %s\n", args[0], strerror(errno));
    _exit(127);
}

/* Waits for one of the running jobs. Returns 1 when it failed, 0 otherwise. */
static int job_finish(struct job *jobs, const struct options *options)
{
    int status;
    const pid_t pid = wait(&status);
    struct job *job = jobs;
    while (job < jobs + options->jobs && job->pid != pid)
        job++;
    if (pid <= 0 || job == jobs + options->jobs)
        die("could not wait for", options->each[0]);
    job->pid = 0;
    image_remove(job->path);
    if (options->marks) {
        char marks[MARKS_PATH_MAX];
        (void)unlink(marks_path(job->path, marks));
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        die("could not run", options->each[0]);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    (void)printf("FAILED image %" PRIu64 ": mark %" PRIu64 ", %s %d, again with --point %" PRIu64
                 " --seed %" PRIu64 " --mode %s\n",
                 job->index, job->mark, WIFEXITED(status) ? "exit" : "signal",
                 WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status), job->point, job->seed,
                 image_mode_name(options->mode));
    return 1;
}

static int compare_points(const void *a, const void *b)
{
    const uint64_t point_a = *(const uint64_t *)a;
    const uint64_t point_b = *(const uint64_t *)b;
    return (point_a > point_b) - (point_a < point_b);
}

static uint64_t *draw_points(const struct log *log, const struct options *options)
{
    uint64_t *points = calloc(options->image_count, sizeof *points);
    if (!points)
        die("out of memory for", "points");
    uint64_t random = options->seed;
    for (uint64_t i = 0; i < options->image_count; i++)
        points[i] = log->first + image_random_below(&random, log->count - log->first + 1);
    qsort(points, options->image_count, sizeof *points, compare_points);
    return points;
}

static struct job *free_job(struct job *jobs, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        if (jobs[i].pid == 0)
            return &jobs[i];
    }
    return NULL;
}

static int build_many(const struct log *log, const struct options *options)
{
    static struct job jobs[JOBS_MAX];
    struct timespec start;
    struct timespec end;
    (void)clock_gettime(CLOCK_MONOTONIC, &start);
    uint64_t *points = draw_points(log, options);
    struct model *model = model_new();
    uint64_t seeds = ~options->seed;
    uint64_t running = 0;
    int failed = 0;
    if (mkdir(options->out, 0755) != 0)
        die(strerror(errno), options->out);
    for (uint64_t i = 0; i < options->image_count; i++) {
        if (running == options->jobs) {
            failed += job_finish(jobs, options);
            running--;
        }
        struct job *job = free_job(jobs, options->jobs);
        job->index = i;
        job->point = points[i];
        job->seed = image_random(&seeds);
        advance(model, log, (size_t)points[i]);
        job->mark = last_mark(model);
        (void)snprintf(job->path, sizeof job->path, "%s/%" PRIu64, options->out, i);
        (void)build(model, options, job->path, job->seed);
        job_start(job, options->each);
        running++;
    }
    for (; running > 0; running--)
        failed += job_finish(jobs, options);
    (void)clock_gettime(CLOCK_MONOTONIC, &end);
    (void)rmdir(options->out); /* it stays when a command left something there */
    const double seconds =
        (double)(end.tv_sec - start.tv_sec) + (double)(end.tv_nsec - start.tv_nsec) / 1e9;
    (void)printf("images=%" PRIu64 " failed=%d records=%zu unseen=%zu seconds=%.2f\n",
                 options->image_count, failed, log->count, model->unseen_count, seconds);
    free(points);
    model_free(model);
    return failed > 0;
}

/* --- what is typed --- */

static void usage(void)
{
    (void)fputs(
        "usage: replay LOG SRCDIR OUTDIR --point INDEX|FRACTION [--seed N] [--mode MODE] "
        "[--marks]\n"
        "       replay LOG SRCDIR OUTDIR --images K [--seed N] [--mode MODE] [--marks] "
        "[--jobs J] --each CMD [ARG...]\n"
        "       replay LOG SRCDIR OUTDIR --cuts\n"
        "       replay LOG --list\n"
        "MODE: none, prefix, sectors, hole, all, random. CMD gets the image and the last mark.\n",
        stderr);
    exit(2);
}

static uint64_t parse_number(const char *text)
{
    char *end;
    const uint64_t number = strtoull(text, &end, 10);
    if (*end != '\0' || end == text)
        usage();
    return number;
}

static enum image_mode parse_mode(const char *text)
{
    for (enum image_mode mode = IMAGE_NONE; mode <= IMAGE_RANDOM; mode++) {
        if (strcmp(text, image_mode_name(mode)) == 0)
            return mode;
    }
    usage();
    return IMAGE_RANDOM;
}

/* --- images that another program chooses --- */

/* Cuts the next word off a line; ends the process when there is none. */
static char *next_word(char **rest)
{
    *rest += strspn(*rest, " ");
    char *word = *rest;
    const size_t size = strcspn(word, " \n");
    if (size == 0)
        die("a cut is POINT SEED MODE NAME, not", word);
    *rest = word + size + (word[size] != '\0');
    word[size] = '\0';
    return word;
}

/* One image for each line of stdin, told on stdout when it is there. The points must not descend.
 */
static void build_cuts(const struct log *log, const struct options *options)
{
    struct model *model = model_new();
    char line[PATH_MAX];
    if (mkdir(options->out, 0755) != 0)
        die(strerror(errno), options->out);
    while (fgets(line, sizeof line, stdin)) {
        char *rest = line;
        const char *point_text = next_word(&rest);
        const size_t point = parse_point(log, point_text);
        if (point < model->serial)
            die("points must not descend:", point_text);
        const uint64_t seed = parse_number(next_word(&rest));
        struct options one = *options;
        one.mode = parse_mode(next_word(&rest));
        const char *name = next_word(&rest);
        char path[PATH_MAX];
        if (snprintf(path, sizeof path, "%s/%s", options->out, name) >= PATH_MAX)
            die("too long a name:", name);
        advance(model, log, point);
        (void)build(model, &one, path, seed);
        (void)printf("%s %" PRIu64 "\n", name, last_mark(model));
        (void)fflush(stdout);
    }
    model_free(model);
}

/* --- command line --- */

/* Takes one option from the arguments. Returns how many it used; --each takes all. */
static int parse_option(struct options *options, int count, char **args)
{
    const char *name = args[0];
    if (strcmp(name, "--marks") == 0 || strcmp(name, "--list") == 0 ||
        strcmp(name, "--cuts") == 0) {
        *(name[2] == 'm'   ? &options->marks
          : name[2] == 'l' ? &options->list
                           : &options->cuts) = true;
        return 1;
    }
    if (count < 2)
        usage();
    if (strcmp(name, "--each") == 0) {
        options->each = args + 1;
        return count;
    }
    if (strcmp(name, "--point") == 0)
        options->point = args[1];
    else if (strcmp(name, "--images") == 0)
        options->image_count = parse_number(args[1]);
    else if (strcmp(name, "--seed") == 0)
        options->seed = parse_number(args[1]);
    else if (strcmp(name, "--jobs") == 0)
        options->jobs = parse_number(args[1]);
    else if (strcmp(name, "--mode") == 0)
        options->mode = parse_mode(args[1]);
    else
        usage();
    return 2;
}

static struct options parse_options(int count, char **args)
{
    struct options options = {.seed = 1, .jobs = 1, .mode = IMAGE_RANDOM};
    const char **paths[] = {&options.log, &options.source, &options.out};
    size_t path_count = 0;
    for (int i = 1; i < count;) {
        if (strncmp(args[i], "--", 2) == 0)
            i += parse_option(&options, count - i, args + i);
        else if (path_count < 3)
            *paths[path_count++] = args[i++];
        else
            usage();
    }
    const bool one = options.point && options.image_count == 0 && !options.each;
    const bool many = !options.point && options.image_count > 0 && options.each;
    if (options.list ? path_count != 1 : path_count != 3 || one + many + options.cuts != 1)
        usage();
    if (options.jobs == 0 || options.jobs > JOBS_MAX)
        usage();
    return options;
}

int main(int argc, char **argv)
{
    const struct options options = parse_options(argc, argv);
    struct log log = log_open(options.log);
    int result = 0;
    if (options.list)
        log_list(&log);
    else if (options.point)
        build_one(&log, &options);
    else if (options.cuts)
        build_cuts(&log, &options);
    else
        result = build_many(&log, &options);
    free(log.offsets);
    (void)munmap((void *)log.bytes, log.size);
    return result;
}
