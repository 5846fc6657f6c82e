#ifndef BQF_COORDINATOR_LOCAL_H
#define BQF_COORDINATOR_LOCAL_H

#include "coordinator/command.h"

/* `run` and `try` in one process: coordinator and worker on a bus in memory. Exit codes; errors are printed. */
int local_run(struct command_env *, const char *spec_path);
int local_try(struct command_env *, const char *spec_path);

#endif
