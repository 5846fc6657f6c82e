#ifndef BQF_NET_CHILD_SPAWN_H
#define BQF_NET_CHILD_SPAWN_H

#include <sys/types.h>

#include "common/net/child.h"

/* The moment between fork and exec. Only for child_posix.c. */

struct spawned {
    pid_t pid;  /* also its process group */
    int pidfd;  /* readable when it has ended */
    int in, out, err; /* our ends: close-on-exec, non-blocking */
};

/* 0 when the program runs; else -1 with ERR_FATAL, and nothing is left open. */
int spawn(const struct child_spec *, struct spawned *, struct error *) MUST_CHECK;

/* "exit status 3": what waitpid's status says. Returns out. */
#define CHILD_STATUS_SIZE 64
const char *child_status_text(int status, char out[CHILD_STATUS_SIZE]);

#endif
