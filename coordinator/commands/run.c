#include "coordinator/live.h"
#include "coordinator/local.h"

/* `run`: submits, coordinates and watches; without brokers, all in this process (local.c). */

static int run_on_fleet(struct command_env *env, const struct spec *spec)
{
    struct live l = {.past_held = false};
    int code = live_open(&l, env, SETUP_BUS | SETUP_BIGQUERY, spec);
    if (code >= 0)
        return code;
    if ((code = live_plan(&l, spec, false)) < 0 && (code = live_open_items(&l, spec)) < 0)
        code = live_read_runs(&l);
    if (code >= 0)
        return live_close(&l, code);
    live_submit_and_stay(&l);
    return live_run(&l);
}

int command_run(struct command_env *env, char *const *args, int count)
{
    (void)count;
    if (env->settings->brokers == NULL)
        return local_run(env, args[0]);
    struct error err = ERROR_INIT;
    AUTO(spec_free_auto) struct spec *spec = spec_load(args[0], env->settings->set, env->env, false, &err);
    if (spec == NULL)
        return command_fail(&err);
    if (spec->write.mode == WRITE_NONE) {
        error_set(&err, ERR_USAGE, 0, "%s: write.mode none has nowhere to put a fleet's rows; leave --brokers out to have them here", args[0]);
        return command_fail(&err);
    }
    return run_on_fleet(env, spec);
}
