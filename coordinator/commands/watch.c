#include "coordinator/live.h"

/* `watch`: follows a run to its end, and coordinates it meanwhile. */

static void interrupted(struct live *l)
{
    progress_free(l->progress);
    l->progress = NULL;
    AUTO(free_ptr) char *watch = live_advice(l, "watch");
    fprintf(stderr, "bqfleet: no longer watching; run %s goes on: %s\n", l->record->run, watch);
    live_end(l, 128 + l->signal);
}

int command_watch(struct command_env *env, char *const *args, int count)
{
    (void)count;
    struct live l = {.past_held = false};
    struct catalog_run *run = NULL;
    int code = live_open_named(&l, env, SETUP_BUS | SETUP_BIGQUERY, live_any_project(env), args[0], &run);
    if (code >= 0)
        return code;
    if (run->standing == STANDING_VOID) {
        report_print_one(l.out, report_of_end(run), live_json(&l));
        return live_close(&l, EXIT_ENDED);
    }
    l.interrupted = interrupted;
    live_show_progress(&l);
    live_track(&l, run->standing == STANDING_OPEN ? TRACK_SECOND : TRACK_LOOKS);
    return live_run(&l);
}
