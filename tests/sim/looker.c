#include "tests/sim/check.h"

/*
 * People who look: `status` and `run --wait` at any time, as a process of their own that follows runs' logs and does nothing; and what coordinators would show of theirs.
 * Whatever is shown must be true by what the log says: nothing is done or settled that is not, who waits for something says for what, and two who have
 * read the same of a log have made the same of it.
 */
enum { LOOKS_AT_MOST = 12, DIGESTED_ITEMS = 3000 };

static struct looker {
    struct sim *sim;
    struct rnd rnd;
    struct timer *timer;
    struct sleeper *sleeper; /* NULL: nobody looks just now */
    struct metrics metrics;
    struct world world;
    struct outbox *outbox;
    struct coordinator *coordinator;
    bool ready;
    int looks;               /* until it goes */
} looker;

void looker_draw(struct oddities *o, const struct plan *p)
{
    struct rnd rnd;
    rnd_seeded(&rnd, p->seed ^ UINT64_C(0x8ebc6af09c88c6e3));
    double looks = rnd_real(&rnd), rate = rnd_real(&rnd);
    if (p->seed % 4 == 3 || p->seed % 4 == 1 || p->seed % 8 == 2)
        o->looks = looks < .7 ? .02 + .2 * rate * rate : 0;
}

/* --- what is seen ------------------------------------------------------------------------------------------------------------------------------------------ */

static void must_say(const struct track *t, const char *who)
{
    char text[600];
    const struct fold *f = track_fold(t);
    const char *why = !track_live(t) ? "its log is not read" : f->phase == RUN_HELD ? "it is held" : f->phase == RUN_ENDED && !fold_settled(f) ? "it is being written"
                                     : f->phase < RUN_HELD && f->paused ? "it is paused" : NULL;
    if (track_waits_for(t, text, sizeof(text))[0] == '\0' && why != NULL)
        sim_violated(looker.sim, INV_PROGRESS, "%s does not say what %s waits for: %s", who, track_record(t)->run, why);
    if (trace_on())
        trace(who, "%s waits for \"%s\"", track_record(t)->run, text);
}

/* One of the run waits for all before it, one of a shard for the run's and its own shard's. */
static void cuts_in_their_order(const struct fold *f, const char *run, const char *who)
{
    for (const struct fold_cut *c = fold_open_cut(f); c != NULL; c = fold_next_open(f, c)) {
        bool waits = false;
        for (const struct fold_cut *b = f->cuts; b < c; b++)
            waits |= b->state == CUT_OPEN && (b->shard < 0 || c->shard < 0 || b->shard == c->shard);
        if (fold_cut_ready(f, c) == waits)
            sim_violated(looker.sim, INV_EFFECT, "%s would write cut %" PRId64 " of %s out of its turn", who, c->number, run);
    }
}

static void must_be_so(const struct track *t, const struct ledger *l, const char *who)
{
    struct sim *s = looker.sim;
    const struct fold *f = track_fold(t);
    const char *run = l->record->run;
    if (track_unknown(t) && !l->beyond)
        sim_violated(s, INV_LOUD, "%s takes the log of %s for gone, and it is there", who, run);
    if (f->done > l->done || (fold_settled(f) && !ledger_settled(l)))
        sim_violated(s, INV_ROWS, "%s sees %" PRId64 " items of %s done%s, and its log says %" PRId64, who, f->done, run, fold_settled(f) ? ", and it settled" : "", l->done);
    if (f->phase == RUN_HELD && (fold_exit_code(f) != EXIT_HELD || l->phase < PHASE_HELD))
        sim_violated(s, INV_ROWS, "%s sees %s held, and the log says otherwise", who, run);
    if (fold_settled(f) && !l->closed && fold_exit_code(f) != ledger_exit(l))
        sim_violated(s, INV_ROWS, "%s would end with %d over %s, and its log says %" PRId64, who, fold_exit_code(f), run, ledger_exit(l));
    if (l->phase >= PHASE_HELD && f->phase == RUN_HELD && fold_over_tolerance(f) != (f->failed > fold_tolerated(f)))
        sim_violated(s, INV_ROWS, "%s sees %s held within what it tolerates", who, run);
    if (f->phase == RUN_PUBLISHING && (fold_tolerated(f) < 0 || (fold_over_tolerance(f) && f->failed == 0)))
        sim_violated(s, INV_ROWS, "%s sees %s over its tolerance, and nothing has failed: %" PRId64, who, run, fold_tolerated(f));
    int64_t item = l->owners > 0 ? (int64_t)rnd_below(&looker.rnd, (uint64_t)l->owners + 4) - 1 : 0;
    if (fold_is_done(f, item) && (item >= l->owners || l->owner[item] == OWNER_NONE))
        sim_violated(s, INV_ROWS, "%s sees item %" PRId64 " of %s done, which it is not", who, item, run);
    if (fold_is_failed(f, item) && l->owner[item] != OWNER_FAILED)
        sim_violated(s, INV_ROWS, "%s sees item %" PRId64 " of %s as failed, which it is not", who, item, run);
    int64_t failed = 0;
    for (int64_t i = fold_next_failed(f, 0); i >= 0; i = fold_next_failed(f, i + 1))
        failed++;
    if (failed != f->failed)
        sim_violated(s, INV_ROWS, "%s lists %" PRId64 " failed items of %s, and counts %" PRId64, who, failed, run, f->failed);
    cuts_in_their_order(f, run, who);
}

/* Of a run as somebody has folded it. */
struct seen { int64_t next; char digest[65]; const char *who; };

static void must_agree(const struct track *t, const struct ledger *l, struct seen *seen, size_t *count, const char *who)
{
    const struct fold *f = track_fold(t);
    struct seen mine = {.next = f->next_offset, .who = who};
    if (!track_live(t) || l->done > DIGESTED_ITEMS)
        return;
    fold_digest(f, mine.digest);
    for (size_t i = 0; i < *count; i++)
        if (seen[i].next == mine.next && strcmp(seen[i].digest, mine.digest) != 0)
            sim_violated(looker.sim, INV_ROWS, "%s and %s have read the log of %s to %" PRId64 ", and do not make the same of it", who, seen[i].who, l->record->run, mine.next);
    if (*count < SIM_COORDINATORS + 8)
        seen[(*count)++] = mine;
}

static struct track *track_of(struct coordinator *c, const char *run)
{
    return c ? coordinator_find(c, run) : NULL;
}

static void look_at_run(struct ledger *l)
{
    struct sim *s = looker.sim;
    struct seen seen[SIM_COORDINATORS + 8];
    size_t count = 0;
    struct track *t = looker.sleeper ? track_of(looker.coordinator, l->record->run) : NULL;
    if (t != NULL && !l->withdrawn) {
        must_be_so(t, l, "looker");
        must_say(t, "looker");
        must_agree(t, l, seen, &count, "looker");
    }
    for (int i = 0; i < s->plan.coordinators + s->submitter_count; i++) {
        const struct proc *p = i < s->plan.coordinators ? &s->coordinators[i] : &s->submitters[i - s->plan.coordinators];
        if (!proc_lives(p) || p->paused || p->coordinator == NULL || (t = track_of(p->coordinator, l->record->run)) == NULL || l->withdrawn)
            continue;
        must_be_so(t, l, p->name);
        must_say(t, p->name);
        must_agree(t, l, seen, &count, p->name);
    }
}

/* --- the one who looks --------------------------------------------------------------------------------------------------------------------------------------- */

static void on_ready(void *arg)
{
    (void)arg;
    looker.ready = true;
}

static void on_trouble(void *arg, struct track *t, const struct error *err)
{
    (void)arg;
    trace("looker", "cannot see %s: %s", t ? track_record(t)->run : "runs", err->text);
}

static void come(void)
{
    static const struct coordinator_events events = {.ready = on_ready, .trouble = on_trouble};
    struct sim *s = looker.sim;
    struct error err = ERROR_INIT;
    looker.sleeper = sleeper_new(s->loop, s->bus, bqmodel_http(s->model), &looker.rnd);
    sleeper_calm(looker.sleeper);
    looker.world = (struct world){.loop = sleeper_loop(looker.sleeper), .rnd = &looker.rnd, .bus = sleeper_bus(looker.sleeper), .metrics = &looker.metrics, .prefix = SIM_PREFIX};
    looker.outbox = outbox_new(&looker.world, "looker");
    struct coordinator_options o = {.world = &looker.world, .outbox = looker.outbox};
    looker.ready = false;
    looker.looks = 1 + (int)rnd_below(&looker.rnd, LOOKS_AT_MOST);
    looker.coordinator = coordinator_start(&o, &events, NULL, &err);
    if (looker.coordinator == NULL)
        sim_violated(s, INV_CRASH, "nobody can look: %s", err.text);
    if (s->broker_away)
        sleeper_cut(looker.sleeper, CUT_BUS);
}

static void go(void)
{
    struct sim *s = looker.sim;
    if (looker.sleeper == NULL)
        return;
    sleeper_kill(looker.sleeper);
    coordinator_free(looker.coordinator);
    outbox_stop(looker.outbox);
    outbox_free(looker.outbox);
    if (s->past_count == s->past_cap)
        s->past = xreallocarray(s->past, s->past_cap = s->past_cap * 2 + 8, sizeof(struct sleeper *));
    s->past[s->past_count++] = looker.sleeper;
    looker.sleeper = NULL;
}

/* As `status` does, and `status RUN` of one that is over. */
static void follow(void)
{
    struct catalog *all = catalog_watch_runs(coordinator_watch(looker.coordinator));
    struct error err = ERROR_INIT;
    for (struct catalog_run *r = catalog_next(all, NULL); r != NULL; r = catalog_next(all, r))
        if (coordinator_find(looker.coordinator, r->run) == NULL && (r->standing == STANDING_OPEN || rnd_below(&looker.rnd, 4) == 0) &&
            coordinator_track(looker.coordinator, r->record, TRACK_LOOKS, &err) == NULL)
            sim_violated(looker.sim, INV_CRASH, "nobody can look at %s: %s", r->run, err.text);
}

static void on_look(void *arg)
{
    struct sim *s = arg;
    sim_did(s, DEED_LOOK, "looker", "looks");
    if (looker.sleeper == NULL)
        come();
    else if (looker.looks-- == 0)
        go();
    else
        sleeper_cut(looker.sleeper, s->broker_away || rnd_below(&looker.rnd, 5) == 0 ? CUT_BUS : 0);
    if (looker.sleeper != NULL && looker.ready)
        follow();
    for (struct ledger *l = s->check->ledgers; l; l = l->next)
        look_at_run(l);
    timer_set(looker.timer, (int64_t)(rnd_real(&looker.rnd) * 2 / s->odd.looks * (double)US_PER_S));
}

void looker_open(struct sim *s)
{
    memset(&looker, 0, sizeof(looker));
    looker.sim = s;
    rnd_seeded(&looker.rnd, s->plan.seed ^ UINT64_C(0xe7037ed1a0b428db));
    if (s->odd.looks <= 0)
        return;
    looker.timer = timer_new(s->loop, on_look, s);
    timer_set(looker.timer, US_PER_S);
}

void looker_soon(int64_t us)
{
    if (looker.timer)
        timer_set(looker.timer, us);
}

void looker_close(struct sim *s)
{
    (void)s;
    timer_free(looker.timer);
    looker.timer = NULL;
    go();
}
