#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/base/buf.h"
#include "common/base/limits.h"
#include "common/net/child_spawn.h"

/*
 * Children as processes. The end of one, in order:
 * 1. Its pidfd says that it has ended. It is not reaped yet, so its number, which is also its group's, belongs to nobody else.
 * 2. Both outputs are read to their end. Somebody it started may hold them open: after a grace of 1 s the group is killed, and only what
 *    lies in the pipes at that moment is still read (the reader may be paused: that time is not limited).
 * 3. What is left of the group is killed, the child reaped, `exited` called.
 */

#define CHUNK (256 * 1024)         /* bytes of one read */
#define GRACE_US US_PER_S          /* between its exit and the end of its outputs */
#define FREE_WAIT_MS 2000          /* for killed children to vanish, when the factory goes */
#define KEEP_UNSENT (1024 * 1024)  /* a larger buffer is given back when it is empty */

enum state {
    RUNNING,
    ENDED,    /* its outputs are still read */
    LATE,     /* the grace is over: late_out bytes are still read */
    REPORTED, /* reaped, and `exited` was called */
    DROPPED,  /* by its owner while it ran: it was killed and waits to be reaped */
    GONE      /* reaped and dropped */
};

struct pipe_end {
    int fd; /* -1: closed */
    struct watch *watch;
};

struct posix_child {
    struct child child;
    TAILQ_ENTRY(posix_child) link;
    struct factory *factory;
    struct child_events events;
    void *arg;
    enum state state;
    int calls; /* of its callbacks that are on the stack */
    pid_t pid;
    struct pipe_end in, out, err, exit;
    struct buf unsent;
    size_t sent; /* bytes at the beginning of unsent that are in the pipe */
    bool close_when_sent;
    struct buf kept; /* of its stdout, not taken yet */
    bool paused;
    size_t late_out;
    struct timer *grace, *again; /* again: gives what was kept once more, after a resume; or the end of a rest */
};

struct factory {
    struct children children;
    struct loop *loop;
    TAILQ_HEAD(, posix_child) all;
    char chunk[CHUNK];
};

static struct posix_child *of(struct child *c)
{
    return (struct posix_child *)c;
}

static void end_close(struct pipe_end *e)
{
    if (e->fd < 0)
        return;
    watch_free(e->watch);
    close(e->fd);
    *e = (struct pipe_end){.fd = -1};
}

static void free_child(struct posix_child *c)
{
    TAILQ_REMOVE(&c->factory->all, c, link);
    end_close(&c->in);
    end_close(&c->out);
    end_close(&c->err);
    end_close(&c->exit);
    buf_free(&c->unsent);
    buf_free(&c->kept);
    timer_free(c->grace);
    timer_free(c->again);
    free(c);
}

/* Around every callback: the child stays in memory until the outermost one has returned. */
static void enter(struct posix_child *c)
{
    c->calls++;
}

static void leave(struct posix_child *c)
{
    if (--c->calls == 0 && c->state == GONE)
        free_child(c);
}

static bool is_dropped(const struct posix_child *c)
{
    return c->state == DROPPED || c->state == GONE;
}

/* The one place where a child's state changes. */
static void set_state(struct posix_child *c, enum state to)
{
    static const unsigned char legal[] = {
        [RUNNING] = 1 << ENDED | 1 << DROPPED,
        [ENDED] = 1 << LATE | 1 << REPORTED | 1 << GONE,
        [LATE] = 1 << REPORTED | 1 << GONE,
        [REPORTED] = 1 << GONE,
        [DROPPED] = 1 << GONE,
        [GONE] = 0,
    };
    if (!(legal[c->state] & 1 << to))
        abort(); /* a bug that could signal a stranger's process */
    c->state = to;
}

/* Not once it is reaped. */
static void signal_group(const struct posix_child *c, int signo)
{
    if (kill(-c->pid, signo) != 0)
        kill(c->pid, signo); /* it has left its group */
}

/* Once, when the child is a zombie: afterwards its number may be somebody else's. */
static int reap_group(struct posix_child *c)
{
    int status = 0;
    signal_group(c, SIGKILL);
    while (waitpid(c->pid, &status, 0) < 0 && errno == EINTR)
        continue;
    return status;
}

static void report_if_over(struct posix_child *c)
{
    if ((c->state != ENDED && c->state != LATE) || c->out.fd >= 0 || c->err.fd >= 0 || c->kept.len > 0)
        return;
    char text[CHILD_STATUS_SIZE];
    int status = reap_group(c);
    timer_stop(c->grace);
    set_state(c, REPORTED);
    c->events.exited(c->arg, status, child_status_text(status, text));
}

/* Its stdout */

static void watch_out(struct posix_child *c)
{
    if (c->out.fd >= 0)
        watch_set(c->out.watch, c->kept.len > 0 || c->paused || timer_is_set(c->again) ? 0 : WATCH_READ);
}

/* Offers bytes; what is not taken is kept, and nothing is read until a resume, which may have come from inside the callback. */
static void offer(struct posix_child *c, const char *data, size_t len)
{
    c->paused = true;
    size_t taken = c->events.out(c->arg, data, len);
    assert(taken <= len);
    if (is_dropped(c))
        return;
    if (taken == len)
        c->paused = false;
    if (data == c->kept.data)
        buf_consume(&c->kept, taken);
    else if (taken < len)
        buf_xadd(&c->kept, data + taken, len - taken);
    if (c->kept.len == 0)
        buf_free(&c->kept);
    watch_out(c);
}

static void on_out(void *arg, int events)
{
    (void)events;
    struct posix_child *c = arg;
    size_t max = c->state == LATE ? size_min(CHUNK, c->late_out) : CHUNK;
    ssize_t n = max > 0 ? read(c->out.fd, c->factory->chunk, max) : 0;
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    enter(c);
    if (n <= 0) {
        end_close(&c->out);
    } else {
        c->late_out -= c->state == LATE ? (size_t)n : 0;
        if (c->state == LATE && c->late_out == 0)
            end_close(&c->out);
        offer(c, c->factory->chunk, (size_t)n);
    }
    report_if_over(c);
    leave(c);
}

static void on_again(void *arg)
{
    struct posix_child *c = arg;
    enter(c);
    if (c->kept.len > 0)
        offer(c, c->kept.data, c->kept.len);
    else
        watch_out(c);
    report_if_over(c);
    leave(c);
}

static void posix_resume(struct child *child)
{
    struct posix_child *c = of(child);
    if (!c->paused)
        return;
    c->paused = false;
    timer_set(c->again, 0);
}

static void posix_rest(struct child *child, int64_t us)
{
    struct posix_child *c = of(child);
    if (c->kept.len > 0)
        return;
    timer_set(c->again, us);
    watch_out(c);
}

/* Its stderr */

static void on_err(void *arg, int events)
{
    (void)events;
    struct posix_child *c = arg;
    ssize_t n = read(c->err.fd, c->factory->chunk, CHUNK);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    enter(c);
    if (n > 0)
        c->events.err(c->arg, c->factory->chunk, (size_t)n);
    else
        end_close(&c->err);
    report_if_over(c);
    leave(c);
}

/* Its stdin */

static void close_stdin(struct posix_child *c)
{
    end_close(&c->in);
    buf_free(&c->unsent);
    c->sent = 0;
}

/* Bytes the pipe took, 0 when it is full, -1 when nobody reads it any more. */
static ssize_t push(struct posix_child *c, const char *data, size_t len)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = write(c->in.fd, data + done, len - done);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n < 0)
            return -1;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

static void on_in(void *arg, int events)
{
    (void)events;
    struct posix_child *c = arg;
    ssize_t n = push(c, c->unsent.data + c->sent, c->unsent.len - c->sent);
    if (n >= 0)
        c->sent += (size_t)n;
    if (n >= 0 && c->sent < c->unsent.len)
        return;
    buf_clear(&c->unsent);
    c->sent = 0;
    if (n < 0 || c->close_when_sent) {
        close_stdin(c);
    } else {
        watch_set(c->in.watch, 0);
        if (c->unsent.cap > KEEP_UNSENT)
            buf_free(&c->unsent);
    }
    enter(c);
    if (c->events.drained != NULL)
        c->events.drained(c->arg);
    leave(c);
}

static int posix_write(struct child *child, const char *data, size_t len)
{
    struct posix_child *c = of(child);
    if (c->in.fd < 0 || c->close_when_sent)
        return -1;
    ssize_t n = c->unsent.len > 0 ? 0 : push(c, data, len);
    if (n < 0) {
        close_stdin(c);
        return -1;
    }
    if ((size_t)n == len)
        return 0;
    if (c->sent > c->unsent.len / 2) {
        buf_consume(&c->unsent, c->sent);
        c->sent = 0;
    }
    buf_xadd(&c->unsent, data + n, len - (size_t)n);
    watch_set(c->in.watch, WATCH_WRITE);
    return 0;
}

static size_t posix_unsent(const struct child *child)
{
    const struct posix_child *c = (const struct posix_child *)child;
    return c->unsent.len - c->sent;
}

static void posix_close_stdin(struct child *child)
{
    struct posix_child *c = of(child);
    if (posix_unsent(child) > 0)
        c->close_when_sent = true;
    else
        close_stdin(c);
}

/* Its end */

static size_t bytes_waiting(int fd)
{
    int n = 0;
    return ioctl(fd, FIONREAD, &n) == 0 && n > 0 ? (size_t)n : 0;
}

static void on_grace(void *arg)
{
    struct posix_child *c = arg;
    set_state(c, LATE);
    signal_group(c, SIGKILL);
    enter(c);
    if (c->out.fd >= 0) {
        c->late_out = bytes_waiting(c->out.fd);
        if (c->late_out == 0)
            end_close(&c->out);
    }
    for (size_t left = c->err.fd >= 0 ? bytes_waiting(c->err.fd) : 0; left > 0 && !is_dropped(c);) {
        ssize_t n = read(c->err.fd, c->factory->chunk, size_min(left, CHUNK));
        if (n <= 0)
            break;
        left -= (size_t)n;
        c->events.err(c->arg, c->factory->chunk, (size_t)n);
    }
    end_close(&c->err);
    report_if_over(c);
    leave(c);
}

static void on_exit_seen(void *arg, int events)
{
    (void)events;
    struct posix_child *c = arg;
    end_close(&c->exit);
    if (c->state == DROPPED) {
        reap_group(c);
        set_state(c, GONE);
        free_child(c);
        return;
    }
    enter(c);
    set_state(c, ENDED);
    close_stdin(c);
    timer_set(c->grace, GRACE_US);
    report_if_over(c);
    leave(c);
}

static void posix_kill(struct child *child, int signo)
{
    struct posix_child *c = of(child);
    if (c->state == RUNNING || c->state == ENDED || c->state == LATE)
        signal_group(c, signo);
}

static void posix_drop(struct child *child)
{
    struct posix_child *c = of(child);
    assert(!is_dropped(c));
    close_stdin(c);
    end_close(&c->out);
    end_close(&c->err); /* what was kept stays: a callback may be reading it just now */
    timer_stop(c->grace);
    timer_stop(c->again);
    if (c->state == RUNNING) {
        signal_group(c, SIGKILL);
        set_state(c, DROPPED); /* its pidfd brings the rest */
        return;
    }
    if (c->state != REPORTED)
        reap_group(c);
    set_state(c, GONE);
    if (c->calls == 0)
        free_child(c);
}

static const struct child_vtable posix_child_ops = {
    .write = posix_write,
    .unsent = posix_unsent,
    .close_stdin = posix_close_stdin,
    .resume = posix_resume,
    .rest = posix_rest,
    .kill = posix_kill,
    .drop = posix_drop,
};

/* The factory */

static void end_open(struct pipe_end *e, struct loop *l, int fd, void (*fn)(void *, int), struct posix_child *c, int events)
{
    e->fd = fd;
    e->watch = watch_new(l, fd, fn, c);
    watch_set(e->watch, events);
}

static struct child *posix_start(void *self, const struct child_spec *spec, const struct child_events *events, void *arg, struct error *err)
{
    struct factory *f = self;
    struct spawned s;
    if (spawn(spec, &s, err) != 0)
        return NULL;
    struct posix_child *c = xcalloc(1, sizeof(*c));
    c->child.ops = &posix_child_ops;
    c->factory = f;
    c->events = *events;
    c->arg = arg;
    c->pid = s.pid;
    c->unsent = BUF_INIT(LIMIT_CHILD_STDIN);
    c->kept = BUF_INIT(CHUNK);
    c->grace = timer_new(f->loop, on_grace, c);
    c->again = timer_new(f->loop, on_again, c);
    end_open(&c->in, f->loop, s.in, on_in, c, 0);
    end_open(&c->out, f->loop, s.out, on_out, c, WATCH_READ);
    end_open(&c->err, f->loop, s.err, on_err, c, WATCH_READ);
    end_open(&c->exit, f->loop, s.pidfd, on_exit_seen, c, WATCH_READ);
    TAILQ_INSERT_TAIL(&f->all, c, link);
    return &c->child;
}

struct child *child_start(struct children *f, const struct child_spec *spec, const struct child_events *events, void *arg,
                          struct error *err)
{
    return f->ops->start(f->self, spec, events, arg, err);
}

struct children *children_posix(struct loop *l)
{
    static const struct child_ops ops = {.start = posix_start};
    struct factory *f = xcalloc(1, sizeof(*f));
    f->children = (struct children){.ops = &ops, .self = f};
    f->loop = l;
    TAILQ_INIT(&f->all);
    struct sigaction now;
    if (sigaction(SIGCHLD, NULL, &now) == 0 && now.sa_handler == SIG_IGN)
        signal(SIGCHLD, SIG_DFL); /* inherited: the kernel would reap our children itself and keep their status */
    return &f->children;
}

void children_free(struct children *children)
{
    if (children == NULL)
        return;
    struct factory *f = children->self;
    struct posix_child *c;
    TAILQ_FOREACH(c, &f->all, link) {
        assert(c->calls == 0);
        if (c->state != REPORTED)
            signal_group(c, SIGKILL);
    }
    while ((c = TAILQ_FIRST(&f->all)) != NULL) {
        struct pollfd ended = {.fd = c->exit.fd, .events = POLLIN};
        bool gone = c->exit.fd < 0 || poll(&ended, 1, FREE_WAIT_MS) == 1;
        if (c->state != REPORTED && gone) /* one that hangs in the kernel is left to it */
            reap_group(c);
        free_child(c);
    }
    free(f);
}
