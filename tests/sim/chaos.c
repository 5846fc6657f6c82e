#include "tests/sim/check.h"

#include <math.h>

#include "tests/sim/dice.h"
#include "tests/sim/hand.h"
#include "tests/sim/service_odd.h"
#include "tests/sim/toil.h"

/* What goes wrong, and when: of every kind at its rate, until the calm. */

static struct timer *step_timer;

struct proc *sim_any(struct sim *s, enum proc_kind kind, bool alive)
{
    struct proc *of = kind == PROC_WORKER ? s->workers : kind == PROC_COORDINATOR ? s->coordinators : s->submitters;
    int count = kind == PROC_WORKER ? s->plan.workers : kind == PROC_COORDINATOR ? s->plan.coordinators : s->submitter_count;
    int at = count > 0 ? (int)sim_below(s, count) : 0;
    for (int i = 0; i < count; i++, at = (at + 1) % count)
        if (proc_lives(&of[at]) == alive)
            return &of[at];
    return NULL;
}

static enum proc_kind any_kind(struct sim *s)
{
    int64_t n = sim_below(s, 10);
    return n < 5 ? PROC_WORKER : n < 8 ? PROC_COORDINATOR : PROC_SUBMITTER;
}

/* --- processes --------------------------------------------------------------------------------------------------------------------------------------- */

static void restart(struct sim *s, struct proc *p)
{
    if (p->kind == PROC_WORKER)
        proc_worker(s, p->slot);
    else
        proc_coordinator(s, p->slot);
    sim_did(s, DEED_RESTART, p->name, "is started anew");
}

/* Somebody submits the batch of one that died again: under the same id, or a new one, or over it. */
static void submit_again(struct sim *s, const struct batch_plan *b, const char *run)
{
    int64_t how = sim_below(s, 4);
    if (how < 2)
        proc_submit(s, b, run, false);
    else
        proc_submit(s, b, NULL, how == 3);
}

static void kill_now(struct proc *p)
{
    struct sim *s = p->sim;
    char run[LIMIT_NAME] = "";
    const struct batch_plan *b = p->batch;
    sim_did(s, DEED_KILL, p->name, "is killed");
    if (p->kind == PROC_SUBMITTER)
        snprintf(run, sizeof(run), "%s", p->record ? p->record->run : "");
    enum proc_kind kind = p->kind;
    bool redrives = p->redriving != NULL; /* the run is held still: somebody decides again */
    proc_kill(p);
    if (kind == PROC_SUBMITTER && run[0] && !redrives && sim_chance(s, .4))
        submit_again(s, b, run);
    else if (kind != PROC_SUBMITTER && sim_chance(s, .5))
        restart(s, p);
}

static void pause_now(struct proc *p)
{
    int64_t ms = (int64_t)(200 * pow(1500, rnd_real(&p->sim->dice))); /* to five minutes */
    sim_did(p->sim, DEED_PAUSE, p->name, "is stopped for %" PRId64 " ms", ms);
    proc_pause(p, ms);
}

static void cut_now(struct proc *p)
{
    static const unsigned ways[] = {CUT_BUS, CUT_BUS_IN, CUT_BUS_OUT, CUT_HTTP, CUT_HTTP_IN, CUT_HTTP_OUT, CUT_BUS | CUT_HTTP, CUT_LOG, CUT_LOG};
    unsigned way = ways[sim_below(p->sim, ARRAY_LEN(ways))];
    int64_t ms = (int64_t)(100 * pow(1200, rnd_real(&p->sim->dice))); /* to two minutes */
    sim_did(p->sim, DEED_CUT, p->name, "is cut off (%u) for %" PRId64 " ms", way, ms);
    proc_cut(p, way, ms);
}

static void expel_now(struct proc *p)
{
    sim_did(p->sim, DEED_EXPEL, p->name, "is thrown out of its group");
    poison_harm(p);
    sleeper_expel(p->sleeper);
}

static void skew_now(struct proc *p)
{
    int64_t s = sim_below(p->sim, 7200) - 3600;
    sim_did(p->sim, DEED_SKEW, p->name, "'s clock is now %" PRId64 " s ahead", s);
    sleeper_skew(p->sleeper, s * US_PER_S);
}

/* Most things happen in the middle of what a process does: so many words of it from now. */
static void strike(struct sim *s, void (*fn)(struct proc *))
{
    struct proc *p = sim_any(s, any_kind(s), true);
    if (p == NULL || p->paused || p->again_us != 0)
        return;
    if (sim_chance(s, .75))
        proc_doom(p, 1 + (int)sim_below(s, 12), fn);
    else
        fn(p);
}

void chaos_ambush(struct proc *p, int64_t within_us)
{
    struct sim *s = p->sim;
    if (p->paused || p->again_us != 0)
        return;
    p->doom = 0;
    p->doom_fn = sim_chance(s, .5) ? kill_now : pause_now;
    timer_set(p->doom_timer, sim_below(s, within_us));
}

/* It outlives its sender, and perhaps the lease under which it began. */
void chaos_wrote(struct proc *p, const char *kind)
{
    struct sim *s = p->sim;
    if (s->calm || p->paused || p->again_us != 0 || s->plan.ambush == 0 || !sim_chance(s, s->plan.ambush))
        return;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = kind, .kind = BQMODEL_JOB_SLOW, .ms = 5000 + sim_below(s, 40000)});
    chaos_ambush(p, 4 * US_PER_S);
}

static void revive(struct sim *s)
{
    struct proc *p = sim_any(s, sim_chance(s, .6) ? PROC_WORKER : PROC_COORDINATOR, false);
    if (p != NULL)
        restart(s, p);
}

static void widen(struct sim *s)
{
    if (s->plan.widened == 0 || s->widened || !sim_chance(s, .05))
        return;
    s->widened = true;
    sim_did(s, DEED_WIDEN, "broker", "has %d partitions of work more", s->plan.widened);
    bus_memory_widen(s->bus, SIM_PREFIX "work." SIM_QUEUE, s->plan.partitions + s->plan.widened);
}

static void break_broker(struct sim *s)
{
    if (s->broker_away)
        return;
    int64_t ms = (int64_t)(500 * pow(240, rnd_real(&s->dice)));
    sim_did(s, DEED_BROKER, "broker", "is away for %" PRId64 " ms", ms);
    world_broker(s, ms);
}

/* --- the service --------------------------------------------------------------------------------------------------------------------------------------- */

static void trouble_service(struct sim *s)
{
    static const char *const jobs[] = {"bqfleet_cut", "bqfleet_direct", "bqfleet_load", "bqfleet_permit", "bqfleet_side", "bqfleet_fold", ""};
    static const struct bqmodel_fault kinds[] = {
        {.kind = BQMODEL_JOB_SLOW, .ms = 20000}, {.kind = BQMODEL_JOB_SLOW, .ms = 200000}, {.kind = BQMODEL_JOB_PENDING, .ms = 50000},
        {.kind = BQMODEL_LOSE_REPLY, .times = 2}, {.kind = BQMODEL_DROP_BEFORE, .times = 3}, {.kind = BQMODEL_STATUS, .status = 503, .executed = true},
        {.kind = BQMODEL_STATUS, .status = 500, .times = 4}, {.kind = BQMODEL_DELAY, .ms = 40000}, {.kind = BQMODEL_DELAY, .ms = 3000, .times = 10},
        {.kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error."},
        {.kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error.", .times = 3},
        {.kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery", .message = "Could not serialize access to table t due to concurrent update"},
        {.kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "Backend error.", .times = 12}};
    struct bqmodel_fault f = kinds[sim_below(s, ARRAY_LEN(kinds))];
    f.match = jobs[sim_below(s, ARRAY_LEN(jobs))];
    s->hard |= f.times >= 10;
    s->slowed_ms += f.kind == BQMODEL_JOB_SLOW || f.kind == BQMODEL_JOB_PENDING ? f.ms : 0;
    sim_did(s, DEED_SERVICE, "service", "fault %d for %s, %d times, %" PRId64 " ms", f.kind, f.match, f.times, f.ms);
    bqmodel_fault(s->model, &f);
}

/* Somebody's clean-up, or its time is over. The run may then only be whole, or end loudly. */
static void drop_staging(struct sim *s)
{
    static const char staging[] = "local.ds.bqf_";
    AUTO(doc_free_auto) doc *all = bqmodel_tables(s->model);
    const char *found = NULL;
    int64_t count = 0;
    for (size_t i = 0; i < doc_len(all); i++) {
        const char *name = doc_str(doc_at(all, i), NULL, "");
        if (strncmp(name, staging, sizeof(staging) - 1) == 0 && sim_below(s, ++count) == 0)
            found = name;
    }
    if (found == NULL)
        return;
    check_bereft(s->check, found + sizeof(staging) - 1);
    bool expires = sim_chance(s, .5);
    sim_did(s, DEED_DROP, "service", "%s %s", found, expires ? "has expired" : "is dropped");
    if (expires)
        bqmodel_expire(s->model, found);
    else
        bqmodel_drop_table(s->model, found);
}

/* --- the step --------------------------------------------------------------------------------------------------------------------------------------------- */

static void one_step(struct sim *s)
{
    const struct plan *p = &s->plan;
    double revivals = p->kills * .7, brokers = (p->cuts + p->expels) * .03;
    double weights[] = {p->kills, p->pauses, p->cuts, p->expels, p->skews, p->service, p->steers, revivals, brokers, p->drops, p->replaces};
    double all = 0, at;
    for (size_t i = 0; i < ARRAY_LEN(weights); i++)
        all += weights[i];
    if (all <= 0)
        return;
    at = rnd_real(&s->dice) * all;
    size_t what = 0;
    while (what + 1 < ARRAY_LEN(weights) && at >= weights[what])
        at -= weights[what++];
    switch (what) {
    case 0: strike(s, kill_now); break;
    case 1: strike(s, pause_now); break;
    case 2: strike(s, cut_now); break;
    case 3: strike(s, expel_now); break;
    case 4: strike(s, skew_now); break;
    case 5: trouble_service(s); break;
    case 6: hand_steers(s); break;
    case 7: revive(s); break;
    case 8: break_broker(s); break;
    case 9: drop_staging(s); break;
    default: hand_replaces(s);
    }
    widen(s);
    dice_again(step_timer, &s->dice, all);
}

static void on_step(void *arg)
{
    one_step(arg);
}

void chaos_start(struct sim *s)
{
    step_timer = timer_new(s->loop, on_step, s);
    timer_set(step_timer, sim_below(s, 2 * US_PER_S));
}

void chaos_submits(struct sim *s, struct proc *p)
{
    if (p != NULL && s->plan.dies_publishing && !s->calm)
        proc_doom(p, 1 + (int)sim_below(s, p->batch->items + 6), kill_now);
}

static void calm_one(struct proc *p)
{
    if (!proc_lives(p))
        return;
    sleeper_calm(p->sleeper);
    p->doom = 0;
    timer_stop(p->doom_timer);
}

/* Nothing goes wrong any more, and one worker and one coordinator at least are there. Whoever is stopped wakes soon, or when all is over. */
void chaos_calm(struct sim *s)
{
    s->calm = true;
    timer_stop(step_timer);
    trace("world", "** calm");
    stranger_calm();
    service_odd_calm();
    tamper_calm();
    leaver_calm();
    meddler_calm();
    erosion_calm();
    bqmodel_clear_faults(s->model);
    bqmodel_options(s->model)->chaos.rnd = NULL;
    world_broker(s, 0);
    for (int i = 0; i < s->plan.workers; i++)
        calm_one(&s->workers[i]);
    for (int i = 0; i < s->plan.coordinators; i++)
        calm_one(&s->coordinators[i]);
    for (int i = 0; i < s->submitter_count; i++)
        calm_one(&s->submitters[i]);
    for (int i = 0; i < s->plan.workers; i++)
        if (!proc_lives(&s->workers[i]) && (i == 0 || sim_chance(s, .5)))
            restart(s, &s->workers[i]);
    for (int i = 0; i < s->plan.coordinators; i++)
        if (!proc_lives(&s->coordinators[i]) && (i == 0 || sim_chance(s, .5)))
            restart(s, &s->coordinators[i]);
}

void chaos_stop(struct sim *s)
{
    (void)s;
    timer_free(step_timer);
    step_timer = NULL;
}
