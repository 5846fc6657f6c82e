#include <errno.h>

#include "common/base/units.h"
#include "coordinator/live.h"

/*
 * `pause`, `resume`, `set`: change how a run goes on. The change is a message in the run's log; a coordinator, this one too, copies what the log says to
 * `batches`, where workers read it. So a command is through when its own message was read back and the copy agrees with the log:
 *   1. It was killed between the two: whoever coordinates next makes the copy, and the same command does, though it has nothing to write any more.
 *   2. Two change the same at once: the later message in the log stands, and the command whose message it was not says so.
 */
struct steer {
    struct live live;            /* first: its callbacks give it out */
    enum log_type type;
    int64_t parallel;            /* LOGM_PARALLEL: at once, across the fleet; LIMIT_ITEMS: no cap */
    const char *refused;         /* why nothing was written; NULL */
    bool decided;
    int64_t offset;              /* of the message; -1: not acknowledged, or there is none */
    struct timer *look;
};
#define LOOK_EVERY_MS 50

static bool is_so(const struct steer *s)
{
    const struct fold *f = track_fold(s->live.track);
    int64_t own = s->live.record->parallel;
    return s->type == LOGM_PARALLEL ? run_cap(f->parallel, own) == run_cap(s->parallel, own) : f->paused == (s->type == LOGM_PAUSE);
}

static void on_written(void *arg, int64_t offset, const struct error *err)
{
    struct steer *s = arg;
    s->offset = offset;
    if (err != NULL)
        live_fail(&s->live, EXIT_UNFINISHED, err);
}

/* On what the log says at its end. */
static void decide(struct steer *s)
{
    const struct fold *f = track_fold(s->live.track);
    s->decided = true;
    if (f->phase == RUN_ENDED)
        s->refused = "it has ended";
    else if (f->phase == RUN_HELD)
        s->refused = "it is held: all of its items are done, and it waits for a decision (redrive, finish --accept-failed, cancel)";
    else if (is_so(s) && s->type != LOGM_PARALLEL)
        s->refused = s->type == LOGM_PAUSE ? "it is paused already" : "it is not paused";
    if (s->refused != NULL || is_so(s))
        return;
    struct log_msg m = {.type = s->type, .parallel = s->parallel};
    s->offset = INT64_MAX;
    outbox_log(s->live.outbox, s->live.record, &m, on_written, s);
}

static void finish(struct steer *s)
{
    struct live *l = &s->live;
    const struct fold *f = track_fold(l->track);
    bool done = s->refused == NULL && is_so(s) && f->phase != RUN_ENDED;
    l->over = true;
    report_print_one(l->out, report_of_fold(l->record, f, loop_wall_ms(l->setup.world.loop)), live_json(l));
    if (s->refused != NULL)
        fprintf(stderr, "bqfleet: run %s: nothing is changed: %s\n", l->record->run, s->refused);
    else if (!done)
        fprintf(stderr, "bqfleet: run %s: %s\n", l->record->run, f->phase == RUN_ENDED ? "it has ended meanwhile" : "somebody else has changed it again meanwhile");
    live_end(l, done ? EXIT_WRITTEN : EXIT_NO);
}

static void look(void *arg)
{
    struct steer *s = arg;
    struct live *l = &s->live;
    timer_set(s->look, LOOK_EVERY_MS * US_PER_MS);
    if (l->ended || l->over || l->track == NULL || !track_live(l->track))
        return;
    const struct fold *f = track_fold(l->track);
    if (!s->decided)
        decide(s);
    if (f->next_offset <= s->offset) /* not read back yet */
        return;
    const struct catalog_run *known = catalog_find(catalog_watch_runs(coordinator_watch(l->coordinator)), l->record->run);
    if (f->phase == RUN_ENDED || known == NULL || catalog_state_is(known, f))
        finish(s);
}

static void changed(struct live *l)
{
    timer_set(((struct steer *)l)->look, 0);
}

/* A run that is over is told of as over, whatever was asked. */
static void settled(struct live *l)
{
    struct steer *s = (struct steer *)l;
    s->refused = s->decided ? s->refused : "it has ended";
    finish(s);
}

static int steer(struct command_env *env, const char *text, struct steer *s)
{
    struct live *l = &s->live;
    struct catalog_run *run = NULL;
    l->changed = changed;
    l->settled = settled;
    l->past_held = true;
    s->offset = -1;
    int code = live_open_named(l, env, SETUP_BUS, NULL, text, &run);
    if (code >= 0)
        return code;
    if (run->standing != STANDING_OPEN) {
        report_print_one(l->out, report_of_end(run), live_json(l));
        fprintf(stderr, "bqfleet: run %s: nothing is changed: it has ended\n", run->run);
        return live_close(l, EXIT_NO);
    }
    s->look = timer_new(l->setup.world.loop, look, s);
    live_track(l, TRACK_SECOND);
    if (!l->ended)
        loop_run(l->setup.world.loop);
    timer_free(s->look);
    return live_close(l, l->code);
}

int command_pause(struct command_env *env, char *const *args, int count)
{
    (void)count;
    struct steer s = {.type = LOGM_PAUSE};
    return steer(env, args[0], &s);
}

int command_resume(struct command_env *env, char *const *args, int count)
{
    (void)count;
    struct steer s = {.type = LOGM_RESUME};
    return steer(env, args[0], &s);
}

/* "parallel=N", 0 and none for no cap. */
static int read_setting(const char *text, int64_t *parallel, struct error *err)
{
    static const char name[] = "parallel=";
    const char *value = text + strlen(name);
    char *end = NULL;
    if (strncmp(text, name, strlen(name)) != 0)
        return error_set(err, ERR_USAGE, 0, "set: \"%s\" cannot be set while a run goes on; only parallel=N can (0 or none: no cap)", text);
    errno = 0;
    long long n = strcmp(value, "none") == 0 ? 0 : strtoll(value, &end, 10);
    if ((end != NULL && (end == value || *end != '\0')) || errno != 0 || n < 0 || n >= LIMIT_ITEMS || value[0] == '+' || value[0] == ' ')
        return error_set(err, ERR_USAGE, 0, "set: parallel=%s: how many items at once across the fleet, as a number; 0 or none: no cap", value);
    *parallel = n == 0 ? LIMIT_ITEMS : n;
    return 0;
}

int command_set(struct command_env *env, char *const *args, int count)
{
    (void)count;
    struct steer s = {.type = LOGM_PARALLEL};
    struct error err = ERROR_INIT;
    if (read_setting(args[1], &s.parallel, &err) != 0)
        return command_fail(&err);
    return steer(env, args[0], &s);
}
