#include "common/net/child_spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIPE_BYTES (1024 * 1024) /* asked for; the kernel may give less (64 KiB) to a user who has many */
#define MOST_DESCRIPTORS 65536   /* looked at where close_range does not exist */

enum stage { STAGE_SETUP, STAGE_DIR, STAGE_EXEC };

/* What a child says on the status pipe when it could not become the program. */
struct failure {
    int stage, os_errno;
};

struct pipes {
    int in[2], out[2], err[2], status[2]; /* [0] is read, [1] written */
};

static void fd_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static void pipes_close(struct pipes *p)
{
    int *all[] = {p->in, p->out, p->err, p->status};
    for (size_t i = 0; i < ARRAY_LEN(all); i++) {
        fd_close(&all[i][0]);
        fd_close(&all[i][1]);
    }
}

/* A process started without stdin or stdout has their numbers free: an end of ours there would be overwritten by dup2 in the child. */
static int above_stdio(int *fd)
{
    if (*fd > STDERR_FILENO)
        return 0;
    int moved = fcntl(*fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (moved < 0)
        return -1;
    close(*fd);
    *fd = moved;
    return 0;
}

static int pipe_make(int fds[2])
{
    if (pipe2(fds, O_CLOEXEC) != 0)
        return -1;
    return above_stdio(&fds[0]) != 0 || above_stdio(&fds[1]) != 0 ? -1 : 0;
}

static int pipes_make(struct pipes *p)
{
    *p = (struct pipes){{-1, -1}, {-1, -1}, {-1, -1}, {-1, -1}};
    if (pipe_make(p->in) != 0 || pipe_make(p->out) != 0 || pipe_make(p->err) != 0 || pipe_make(p->status) != 0)
        return -1;
    if (fcntl(p->in[1], F_SETFL, O_NONBLOCK) != 0 || fcntl(p->out[0], F_SETFL, O_NONBLOCK) != 0 ||
        fcntl(p->err[0], F_SETFL, O_NONBLOCK) != 0)
        return -1;
    fcntl(p->in[1], F_SETPIPE_SZ, PIPE_BYTES); /* only speed: whatever it answers is fine */
    fcntl(p->out[0], F_SETPIPE_SZ, PIPE_BYTES);
    return 0;
}

static bool same_name(const char *a, const char *b)
{
    size_t n = strcspn(a, "=");
    return strncmp(a, b, n) == 0 && b[n] == '=';
}

/* Ours, less what is overridden, plus the child's own. The vector is the caller's to free, the strings are not. */
static char **environment(const char *const *more)
{
    size_t ours = 0, theirs = 0;
    while (environ != NULL && environ[ours] != NULL)
        ours++;
    while (more != NULL && more[theirs] != NULL)
        theirs++;
    char **env = xcalloc(ours + theirs + 1, sizeof(char *));
    size_t n = 0;
    for (size_t i = 0; i < ours; i++) {
        bool overridden = false;
        for (size_t k = 0; k < theirs && !overridden; k++)
            overridden = same_name(more[k], environ[i]);
        if (!overridden)
            env[n++] = environ[i];
    }
    for (size_t k = 0; k < theirs; k++)
        env[n++] = (char *)(uintptr_t)more[k]; /* execvpe does not write to them */
    return env;
}

/* From here to the exec there is only one thread and no certainty about anybody's locks: system calls only. */

static void say_failure(int status_fd, enum stage stage)
{
    struct failure f = {.stage = (int)stage, .os_errno = errno};
    ssize_t n = write(status_fd, &f, sizeof(f));
    (void)n; /* the parent sees the end of the pipe at least */
    _exit(127);
}

static void close_all_on_exec(void)
{
    if (close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC) == 0)
        return;
    long most = sysconf(_SC_OPEN_MAX);
    for (int fd = STDERR_FILENO + 1; fd < most && fd < MOST_DESCRIPTORS; fd++)
        fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void reset_signals(void)
{
    struct sigaction sa = {.sa_handler = SIG_DFL}, old;
    for (int signo = 1; signo < NSIG; signo++) {
        bool ignored = sigaction(signo, NULL, &old) == 0 && old.sa_handler == SIG_IGN;
        if (!ignored || signo == SIGPIPE) /* ignoring SIGPIPE is our habit; ignoring SIGHUP is the wish of who started us */
            sigaction(signo, &sa, NULL);
    }
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void become(const struct child_spec *spec, char **env, const struct pipes *p, pid_t parent)
{
    reset_signals();
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent)
        _exit(127); /* it died before the line above */
    if (dup2(p->in[0], STDIN_FILENO) < 0 || dup2(p->out[1], STDOUT_FILENO) < 0 || dup2(p->err[1], STDERR_FILENO) < 0)
        say_failure(p->status[1], STAGE_SETUP);
    close_all_on_exec();
    if (spec->dir != NULL && chdir(spec->dir) != 0)
        say_failure(p->status[1], STAGE_DIR);
    execvpe(spec->argv[0], (char *const *)(uintptr_t)spec->argv, env);
    say_failure(p->status[1], STAGE_EXEC);
}

/* Signals are held back over the fork: our handlers write to a pipe that the child would share with us. */
static pid_t fork_quietly(const struct child_spec *spec, char **env, const struct pipes *p)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    pid_t parent = getpid(), pid = fork();
    if (pid == 0)
        become(spec, env, p, parent);
    int saved = errno;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = saved;
    return pid;
}

/* Waits until the child has become the program or said why not. */
static int read_status(int fd, const struct child_spec *spec, struct error *err)
{
    struct failure f;
    ssize_t n;
    do
        n = read(fd, &f, sizeof(f));
    while (n < 0 && errno == EINTR);
    if (n == 0)
        return 0; /* closed by the exec */
    if (n != (ssize_t)sizeof(f))
        return error_set(err, ERR_FATAL, errno, "cannot start \"%s\": its start was cut short", spec->argv[0]);
    if (f.stage == STAGE_DIR)
        return error_set(err, ERR_FATAL, f.os_errno, "cannot start \"%s\" in folder \"%s\": %s", spec->argv[0], spec->dir,
                         strerror(f.os_errno));
    return error_set(err, ERR_FATAL, f.os_errno, "cannot start \"%s\": %s", spec->argv[0], strerror(f.os_errno));
}

static int os_failure(const struct child_spec *spec, const char *what, struct error *err)
{
    return error_set(err, ERR_FATAL, errno, "cannot start \"%s\": %s: %s", spec->argv[0], what, strerror(errno));
}

static int take_hold(pid_t pid, struct pipes *p, const struct child_spec *spec, struct spawned *out, struct error *err)
{
    setpgid(pid, pid); /* both do it: whoever comes second is told so and does not mind */
    fd_close(&p->status[1]);
    fd_close(&p->in[0]);
    fd_close(&p->out[1]);
    fd_close(&p->err[1]);
    if (read_status(p->status[0], spec, err) != 0)
        return -1;
    int pidfd = pidfd_open(pid, 0);
    if (pidfd < 0)
        return os_failure(spec, "pidfd_open (Linux 5.3 has it)", err);
    *out = (struct spawned){.pid = pid, .pidfd = pidfd, .in = p->in[1], .out = p->out[0], .err = p->err[0]};
    p->in[1] = p->out[0] = p->err[0] = -1;
    return 0;
}

int spawn(const struct child_spec *spec, struct spawned *out, struct error *err)
{
    assert(spec->argv != NULL && spec->argv[0] != NULL);
    AUTO(pipes_close) struct pipes p;
    if (pipes_make(&p) != 0)
        return os_failure(spec, "pipe", err);
    AUTO(free_ptr) char **env = environment(spec->env);
    pid_t pid = fork_quietly(spec, env, &p);
    if (pid < 0)
        return os_failure(spec, "fork", err);
    if (take_hold(pid, &p, spec, out, err) == 0)
        return 0;
    kill(-pid, SIGKILL);
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        continue;
    return -1;
}

const char *child_status_text(int status, char out[CHILD_STATUS_SIZE])
{
    if (WIFSIGNALED(status)) {
        const char *name = sigdescr_np(WTERMSIG(status));
        snprintf(out, CHILD_STATUS_SIZE, "killed by signal %d (%s)", WTERMSIG(status), name ? name : "unknown");
    } else {
        snprintf(out, CHILD_STATUS_SIZE, "exit status %d", WEXITSTATUS(status));
    }
    return out;
}
