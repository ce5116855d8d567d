/*
 * Holds writes in the back end of a target: preloaded into the target, in front of the C library's pwrite family.
 *
 * A write whose bytes begin with $STICK_MARKER (every write, if that is empty) takes one of the files
 * $STICK_GATE/armed.0 .. armed.3, if there is one, by renaming it to stuck.N. It then waits until somebody removes
 * stuck.N, is executed, and leaves landed.N behind. Without an armed file a write passes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define TOKENS 4 /* TOKENS in harness/shim.rs is the same */
#define PASSES (-1)

static void token_path(char *path, const char *state, int token)
{
    snprintf(path, PATH_MAX, "%s/%s.%d", getenv("STICK_GATE"), state, token);
}

static int is_marked(const void *bytes, size_t length)
{
    const char *marker = getenv("STICK_MARKER");
    size_t marked = marker ? strlen(marker) : 0;
    return getenv("STICK_GATE") && length >= marked && (marked == 0 || memcmp(bytes, marker, marked) == 0);
}

/* Waits if this write is to be stuck; the token it took, or PASSES. */
static int stick(const void *bytes, size_t length)
{
    char armed[PATH_MAX], stuck[PATH_MAX];
    if (!is_marked(bytes, length))
        return PASSES;
    for (int token = 0; token < TOKENS; token++) {
        token_path(armed, "armed", token);
        token_path(stuck, "stuck", token);
        if (rename(armed, stuck) == 0) {
            while (access(stuck, F_OK) == 0)
                usleep(1000);
            return token;
        }
    }
    return PASSES;
}

static void landed(int token)
{
    char path[PATH_MAX];
    if (token == PASSES)
        return;
    token_path(path, "landed", token);
    close(open(path, O_CREAT | O_WRONLY, 0600));
}

#define WRITER(name, offset_type)                                                                                  \
    ssize_t name(int file, const void *bytes, size_t length, offset_type offset)                                   \
    {                                                                                                              \
        ssize_t (*next)(int, const void *, size_t, offset_type) = dlsym(RTLD_NEXT, #name);                         \
        int token = stick(bytes, length);                                                                          \
        ssize_t written = next(file, bytes, length, offset);                                                       \
        landed(token);                                                                                             \
        return written;                                                                                            \
    }

#define VECTOR_WRITER(name, offset_type)                                                                           \
    ssize_t name(int file, const struct iovec *pieces, int count, offset_type offset)                              \
    {                                                                                                              \
        ssize_t (*next)(int, const struct iovec *, int, offset_type) = dlsym(RTLD_NEXT, #name);                    \
        int token = count > 0 ? stick(pieces[0].iov_base, pieces[0].iov_len) : PASSES;                             \
        ssize_t written = next(file, pieces, count, offset);                                                       \
        landed(token);                                                                                             \
        return written;                                                                                            \
    }

WRITER(pwrite, off_t)
WRITER(pwrite64, off64_t)
VECTOR_WRITER(pwritev, off_t)
VECTOR_WRITER(pwritev64, off64_t)
