#include "common/base/log.h"
#include "coordinator/live.h"

/* `serve`: coordinates every open run until it is told to stop. As many as wanted; each may stop at any moment. */

static void interrupted(struct live *l)
{
    log_info("leaving; what is open goes on with other coordinators, or when one comes back");
    live_end(l, 0);
}

int command_serve(struct command_env *env, char *const *args, int count)
{
    (void)args;
    (void)count;
    struct live l = {.interrupted = interrupted};
    int code = live_open(&l, env, SETUP_BUS | SETUP_BIGQUERY | LIVE_ALL_RUNS, live_any_project(env));
    if (code >= 0)
        return code;
    if ((code = live_read_runs(&l)) >= 0)
        return live_close(&l, code);
    log_info("coordinating the runs of %s", bus_describe(l.setup.world.bus));
    return live_run(&l);
}
