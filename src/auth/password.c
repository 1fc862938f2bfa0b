/* The users of a password file in a hash table; each check is a job for the worker pool.
 *
 * A job holds copies of the hash and the password, never the table. A user that does not exist
 * costs the verification of another user's hash, so that the time of an answer does not tell which
 * names exist.
 */
#include "auth/password.h"

#include "auth/hash.h"
#include "auth/job.h"
#include "base/hashmap.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <string.h>

#define FILE_SIZE_MAX (64u * 1024 * 1024)
#define USER_SIZE_MAX 65535u

struct user {
    struct hashnode node;
    struct slice name; /* inside `text` of the authenticator */
    const char *hash;
};

struct password {
    struct authenticator base;
    struct auth_deps deps;
    struct hashmap users;
    struct user *decoy; /* whose hash stands in for users that do not exist; NULL = no users */
    char *text;         /* the file, cut into names and hashes */
};

struct password_job {
    struct auth_job base;
    const struct auth_credentials *credentials; /* there until the job is cancelled or answered */
    bool user_exists, given, ok;
    uint32_t size;
    char hash[HASH_TEXT_MAX + 1];
    uint8_t bytes[]; /* the password presented */
};

static bool user_matches(const struct hashnode *node, const void *key)
{
    return slice_equal(CONTAINER_OF(node, struct user, node)->name, *(const struct slice *)key);
}

static struct user *find_user(const struct password *password, struct slice name)
{
    struct hashnode *node =
        hashmap_find(&password->users, hash_bytes(name.bytes, name.size), user_matches, &name);
    return node ? CONTAINER_OF(node, struct user, node) : NULL;
}

static void password_free(struct authenticator *authenticator)
{
    struct password *password = CONTAINER_OF(authenticator, struct password, base);
    uint64_t pos = 0;
    struct hashnode *node = NULL;
    while ((node = hashmap_next(&password->users, &pos, node))) {
        hashmap_remove(&password->users, node);
        mem_free(CONTAINER_OF(node, struct user, node));
    }
    hashmap_done(&password->users);
    mem_free(password->text);
    mem_free(password);
}

static bool password_knows(const struct authenticator *authenticator, struct slice subject)
{
    return find_user(CONTAINER_OF(authenticator, struct password, base), subject) != NULL;
}

/* --- checking ------------------------------------------------------------------------------- */

static void job_run(struct auth_job *base)
{
    struct password_job *job = CONTAINER_OF(base, struct password_job, base);
    const bool ok = hash_verify(job->hash, slice_of(job->bytes, job->size));
    job->ok = ok && job->user_exists && job->given;
}

static void job_answer(struct auth_job *base, struct auth_answer *ret_answer)
{
    const struct password_job *job = CONTAINER_OF(base, struct password_job, base);
    ret_answer->result = !job->user_exists ? AUTH_IGNORED
                         : job->ok         ? AUTH_ALLOWED
                                           : AUTH_BAD_CREDENTIALS;
    ret_answer->username = ret_answer->subject = job->credentials->username;
}

static void job_free(struct auth_job *base)
{
    struct password_job *job = CONTAINER_OF(base, struct password_job, base);
    sodium_memzero(job->bytes, job->size);
    mem_free(job);
}

static enum auth_result password_check(struct authenticator *authenticator,
                                       const struct auth_credentials *credentials,
                                       auth_done_fn *done, void *data,
                                       struct auth_answer *ret_answer, struct auth_call **ret_call)
{
    const struct password *password = CONTAINER_OF(authenticator, struct password, base);
    (void)ret_answer;
    if (!credentials->has_username || !password->decoy)
        return AUTH_IGNORED;
    const struct user *user = find_user(password, credentials->username);
    const struct slice given = credentials->password;
    struct password_job *job = mem_try_alloc(sizeof *job + given.size);
    if (!job)
        return AUTH_BUSY;
    *job = (struct password_job){
        .base = {.run = job_run, .answer = job_answer, .free = job_free},
        .credentials = credentials,
        .user_exists = user != NULL,
        .given = credentials->has_password,
        .size = given.size,
    };
    const char *hash = user ? user->hash : password->decoy->hash;
    memcpy(job->hash, hash, strlen(hash) + 1);
    if (given.size > 0)
        memcpy(job->bytes, given.bytes, given.size);
    return auth_job_submit(&job->base, authenticator, &password->deps, done, data, ret_call);
}

static const struct authenticator_ops password_ops = {
    .name = "users",
    .check = password_check,
    .knows = password_knows,
    .free = password_free,
};

/* --- reading the file ----------------------------------------------------------------------- */

/* Takes one line (NUL-terminated, modified) into the table. Returns NULL, or what is wrong. */
static const char *add_line(struct password *password, char *line)
{
    line[strcspn(line, "\r")] = '\0';
    if (*line == '\0' || *line == '#')
        return NULL;
    char *colon = strchr(line, ':');
    if (!colon || colon == line || colon - line > (ptrdiff_t)USER_SIZE_MAX)
        return "a line has the form user:hash";
    const char *hash = colon + 1;
    if (!hash_is_known(hash))
        return "the hash has no known form (a password in clear text is not accepted)";
    const struct slice name = slice_of(line, (size_t)(colon - line));
    if (find_user(password, name))
        return "the user stands in the file twice";
    struct user *user = mem_new(sizeof *user);
    user->name = name;
    user->hash = hash;
    hashmap_insert(&password->users, &user->node, hash_bytes(name.bytes, name.size));
    if (!password->decoy)
        password->decoy = user;
    return NULL;
}

static int read_users(struct password *password, const char *path, struct errmsg *reterr)
{
    size_t size = 0;
    const int err = file_read_whole(AT_FDCWD, path, FILE_SIZE_MAX, &password->text, &size);
    if (err < 0) {
        errmsg_wrap(reterr, "could not read password file '%s': %s", path, err_text(err));
        return err;
    }
    uint32_t number = 1;
    for (char *line = password->text, *next = NULL; line; line = next, number++) {
        next = memchr(line, '\n', size - (size_t)(line - password->text));
        if (next)
            *next++ = '\0';
        const char *wrong = add_line(password, line);
        if (wrong) {
            errmsg_wrap(reterr, "password file '%s', line %u: %s", path, number, wrong);
            return ERR_INVALID;
        }
    }
    return 0;
}

int password_new(const char *path, const struct auth_deps *deps,
                 struct authenticator **ret_authenticator, struct errmsg *reterr)
{
    if (sodium_init() < 0) {
        errmsg_wrap(reterr, "could not start libsodium");
        return -EIO;
    }
    struct password *password = mem_new(sizeof *password);
    password->base = (struct authenticator){.ops = &password_ops, .refs = 1};
    password->deps = *deps;
    hashmap_init(&password->users);
    const int err = read_users(password, path, reterr);
    if (err < 0) {
        password_free(&password->base);
        return err;
    }
    *ret_authenticator = &password->base;
    return 0;
}

/* --- writing the file ----------------------------------------------------------------------- */

static bool user_name_ok(const char *user)
{
    const size_t size = strlen(user);
    if (size == 0 || size > USER_SIZE_MAX || *user == '#')
        return false;
    for (const char *p = user; *p; p++) {
        if (*p == ':' || (unsigned char)*p < 0x20 || *p == 0x7f)
            return false;
    }
    return true;
}

/* Copies all lines but the user's, who gets the new one in their place or at the end. */
static void replace_line(struct strbuf *out, const char *text, const char *user, const char *hash)
{
    const size_t user_size = strlen(user);
    bool placed = false;
    while (*text) {
        const size_t line_size = strcspn(text, "\n");
        if (strncmp(text, user, user_size) == 0 && text[user_size] == ':') {
            if (!placed)
                strbuf_addf(out, "%s:%s\n", user, hash);
            placed = true;
        } else {
            strbuf_add_bytes(out, text, line_size);
            strbuf_add(out, "\n");
        }
        text += line_size + (text[line_size] == '\n');
    }
    if (!placed)
        strbuf_addf(out, "%s:%s\n", user, hash);
}

int password_file_set(const char *path, const char *user, struct slice password,
                      struct errmsg *reterr)
{
    if (!user_name_ok(user)) {
        errmsg_wrap(reterr, "a user name is not empty, does not begin with '#' and has no ':' and "
                            "no control characters");
        return ERR_INVALID;
    }
    char hash[HASH_TEXT_MAX + 1];
    char *text = NULL;
    size_t size = 0;
    int err = sodium_init() < 0 ? -EIO : hash_make(password, hash);
    if (err == 0)
        err = file_read_whole(AT_FDCWD, path, FILE_SIZE_MAX, &text, &size);
    if (err == 0 || err == -ENOENT) {
        struct strbuf out;
        strbuf_init(&out, FILE_SIZE_MAX);
        replace_line(&out, text ? text : "", user, hash);
        err = strbuf_err(&out);
        if (err == 0)
            err = file_write_whole(AT_FDCWD, path, out.text, out.size, 0600);
        strbuf_done(&out);
    }
    mem_free(text);
    if (err < 0)
        errmsg_wrap(reterr, "could not write password file '%s': %s", path, err_text(err));
    return err;
}
