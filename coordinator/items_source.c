#include "coordinator/items_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#define CHUNK ((size_t)64 * 1024)

int source_open(struct source *s, const char *path, struct error *err)
{
    struct stat st;
    s->fd = strcmp(path, "-") == 0 ? STDIN_FILENO : open(path, O_RDONLY | O_CLOEXEC);
    if (s->fd < 0 || fstat(s->fd, &st) != 0)
        return error_set(err, ERR_USAGE, errno, "%s: cannot be read: %s", path, strerror(errno));
    if (S_ISDIR(st.st_mode))
        return error_set(err, ERR_USAGE, EISDIR, "%s: cannot be read: it is a folder", path);
    s->waits = !S_ISREG(st.st_mode);
    s->data = xmalloc(CHUNK);
    return 0;
}

static void on_readable(void *arg, int events)
{
    struct source *s = arg;
    (void)events;
    watch_set(s->watch, 0);
    s->ready(s->arg); /* may close us */
}

/* stdin's flags are shared with whoever gave it to us, so it is never made non-blocking: a read follows only where poll() says so. */
static bool would_block(struct source *s)
{
    struct pollfd p = {.fd = s->fd, .events = POLLIN};
    return s->waits && poll(&p, 1, 0) == 0;
}

int source_fill(struct source *s, struct error *err)
{
    if (s->at < s->len)
        return SOURCE_DATA;
    if (would_block(s)) {
        if (s->watch == NULL)
            s->watch = watch_new(s->loop, s->fd, on_readable, s);
        watch_set(s->watch, WATCH_READ);
        return SOURCE_LATER;
    }
    ssize_t n;
    do
        n = read(s->fd, s->data, CHUNK);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        return error_set(err, ERR_USAGE, errno, "cannot be read: %s", strerror(errno));
    s->at = 0;
    s->len = (size_t)n;
    return n > 0 ? SOURCE_DATA : SOURCE_END;
}

void source_close(struct source *s)
{
    watch_free(s->watch);
    if (s->fd > STDIN_FILENO)
        close(s->fd);
    free(s->data);
    *s = (struct source){.fd = -1};
}
