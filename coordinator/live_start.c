#include "coordinator/live.h"

/* What a command waits for before its run begins: the fleet's runs, the plan, the items; then the submission. */

struct until { struct live *live; bool (*cond)(void *); };

static bool come(void *arg)
{
    struct until *u = arg;
    return u->live->ended || u->live->signal != 0 || u->cond(u->live);
}

int live_until(struct live *l, bool (*cond)(void *), int64_t wait_ms, const char *what)
{
    struct until u = {l, cond};
    loop_until(l->setup.world.loop, come, &u, wait_ms > 0 ? wait_ms * US_PER_MS : INT64_MAX / 4);
    if (l->ended)
        return l->code;
    if (l->signal != 0)
        return 128 + l->signal;
    if (cond(l))
        return -1;
    struct error err;
    error_set(&err, ERR_FATAL, 0, "%s gave no answer for %" PRId64 " s", what, wait_ms / 1000);
    return command_fail(&err);
}

static bool runs_known(void *arg)
{
    struct live *l = arg;
    return catalog_watch_ready(coordinator_watch(l->coordinator));
}

int live_read_runs(struct live *l)
{
    return live_until(l, runs_known, l->env->settings->wait_ms, bus_describe(l->setup.world.bus));
}

struct planning { struct live *live; struct record *record; struct error err; bool done; };

static void on_plan(void *arg, struct record *r, const struct error *err)
{
    struct planning *p = arg;
    p->done = true;
    p->record = r;
    if (err)
        p->err = *err;
}

static bool planned(void *arg)
{
    const struct planning *p = arg;
    return p->done || p->live->signal != 0 || p->live->ended;
}

int live_try_plan(struct live *l, const struct spec *spec, bool dry, struct error *err)
{
    const struct settings *s = l->env->settings;
    struct planning p = {.live = l};
    struct plan_options o = {.world = &l->setup.world, .spec = spec, .run_id = s->run_id, .project = s->project, .location = s->location, .dry = dry, .fleet = !l->embedded};
    struct plan *plan = plan_start(&o, on_plan, &p);
    loop_until(l->setup.world.loop, planned, &p, INT64_MAX / 4); /* its requests end by themselves */
    if (!p.done) {
        plan_stop(plan);
        return l->ended ? l->code : 128 + l->signal;
    }
    l->record = p.record;
    *err = p.err;
    return p.record ? 0 : -1;
}

int live_plan(struct live *l, const struct spec *spec, bool dry)
{
    struct error err = ERROR_INIT;
    int code = live_try_plan(l, spec, dry, &err);
    return code == 0 ? -1 : code < 0 ? command_fail(&err) : code;
}

static void items_ready(void *arg)
{
    struct live *l = arg;
    if (l->submit)
        submit_ready(l->submit);
}

static int next_item(void *arg, struct item *item, struct error *err)
{
    struct live *l = arg;
    return items_next(l->items, item, err);
}

int live_open_items(struct live *l, const struct spec *spec)
{
    struct error err = ERROR_INIT;
    l->items = items_open(spec, &l->setup.world, l->record->run, items_ready, l, &err);
    if (l->items == NULL)
        return command_fail(&err);
    l->source = (struct submit_source){.next = next_item, .arg = l};
    l->expected = items_expected(l->items);
    return -1;
}

void live_submit(struct live *l, const struct submit_events *events, bool leaves)
{
    struct submit_options o = {.world = &l->setup.world, .outbox = l->outbox, .watch = coordinator_watch(l->coordinator), .record = l->record,
                               .source = l->source, .replace = l->env->settings->replace_run, .leaves = leaves,
                               .command = l->watch_command};
    l->submit = submit_start(&o, events, l);
}

void live_submit_failed(struct live *l, int code, const struct error *err)
{
    code = l->signal ? 128 + l->signal : code;
    if (l->track == NULL) {
        live_fail(l, code, err);
        return;
    }
    if (l->over) /* how the run ended is being told already, and that may be otherwise */
        return;
    l->failed_code = code;
    l->failed_error = *err;
}
