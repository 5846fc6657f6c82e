#ifndef BQF_NET_CHILD_H
#define BQF_NET_CHILD_H

#include "common/net/loop.h"

/*
 * Child processes behind a seam: children_posix() forks; tests and simulations pass their own ops. A child is three pipes and an exit.
 * Callbacks run on the loop, never from inside child_start, child_write or any other call of ours; they may call everything here,
 * child_drop included. Data is valid during the call only. Whoever started a child drops it once, also after `exited`.
 */
struct children; /* the factory */
struct child;

struct child_spec {
    const char *const *argv;     /* NULL-terminated; argv[0] is looked up in PATH */
    const char *const *env;      /* NULL-terminated "NAME=value" added to ours; may be NULL */
    const char *dir;             /* working directory, or NULL */
};

struct child_events {
    /* Up to `len` bytes of its stdout. Return how many were taken; fewer than all means: full, keep the rest and stop reading until
     * child_resume(). */
    size_t (*out)(void *arg, const char *data, size_t len);
    void (*err)(void *arg, const char *data, size_t len);   /* stderr; always taken */
    /* child_unsent() is 0 again after child_write() had to keep something (or its stdin is closed, as the next write will say);
     * may be NULL. */
    void (*drained)(void *arg);
    /* Last call: all its output was delivered. status as of waitpid; text such as "exit status 3" or "killed by signal 9 (Killed)".
     * What is left of its process group is killed before; output that comes later than 1 s after the exit is lost. */
    void (*exited)(void *arg, int status, const char *text);
};

struct child_ops {
    struct child *(*start)(void *self, const struct child_spec *, const struct child_events *, void *arg, struct error *);
};
struct children { const struct child_ops *ops; void *self; };

/* The real factory: each child in its own process group, killed when we die (PDEATHSIG), descriptors closed, SIGPIPE default. */
struct children *children_posix(struct loop *);
void children_free(struct children *); /* kills what still runs, frees what was not dropped; not from a callback of a child */

/* NULL with ERR_FATAL when it cannot be started (no such program, permission): says which program and why. */
struct child *child_start(struct children *, const struct child_spec *, const struct child_events *, void *arg, struct error *);

/* Implemented by whoever made the child: first member of every struct child is its ops. */
struct child_vtable {
    int (*write)(struct child *, const char *data, size_t len); /* copies what the pipe does not take at once; -1: its stdin is closed */
    size_t (*unsent)(const struct child *);                     /* bytes copied and not yet in the pipe */
    void (*close_stdin)(struct child *);
    void (*resume)(struct child *);                             /* after out() took less than it was given */
    void (*rest)(struct child *, int64_t us);                   /* from inside out(): nothing is read for so long, that more may gather; NULL: cannot */
    void (*kill)(struct child *, int signo);                    /* its whole process group */
    void (*drop)(struct child *);                               /* frees it: no further callbacks; killed and reaped if it still runs */
};
struct child { const struct child_vtable *ops; };

static inline int child_write(struct child *c, const char *data, size_t len) { return c->ops->write(c, data, len); }
static inline size_t child_unsent(const struct child *c) { return c->ops->unsent(c); }
static inline void child_close_stdin(struct child *c) { c->ops->close_stdin(c); }
static inline void child_resume(struct child *c) { c->ops->resume(c); }
static inline void child_rest(struct child *c, int64_t us) { if (c->ops->rest) c->ops->rest(c, us); }
static inline void child_kill(struct child *c, int signo) { c->ops->kill(c, signo); }
static inline void child_drop(struct child *c) { if (c) c->ops->drop(c); }

#endif
