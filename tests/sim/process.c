#include "tests/sim/check.h"

#include "coordinator/catalog_watch.h"
#include "tests/sim/toil.h"
#include "tests/sim/service_odd.h"
#include "tests/sim/ways.h"

/* Processes, as their mains make them; each dies at any moment and comes again as another one. */

void proc_doom(struct proc *p, int words, void (*fn)(struct proc *))
{
    p->doom = words;
    p->doom_fn = fn;
}

/* Not in the middle of the word itself. */
void proc_word(struct proc *p)
{
    if (p->doom > 0 && --p->doom == 0)
        timer_set(p->doom_timer, (int64_t)rnd_below(&p->sim->net, 2000));
}

static void on_doom(void *arg)
{
    struct proc *p = arg;
    if (!p->paused && p->again_us == 0)
        p->doom_fn(p);
}

/* As those are that were given no credentials: they do all but what needs BigQuery. */
static void forgo_service(struct proc *p)
{
    permits_set_free(p->permits);
    bq_free(p->world.bq);
    p->permits = p->world.permits = NULL;
    p->world.bq = NULL;
}

static void come(struct sim *s, struct proc *p, enum proc_kind kind, int slot, const char *letter)
{
    int lives = p->lives + 1;
    *p = (struct proc){.sim = s, .kind = kind, .slot = slot, .lives = lives};
    snprintf(p->name, sizeof(p->name), "%s%d.%d", letter, slot, lives);
    p->sleeper = sleeper_new(s->loop, s->bus, bqmodel_http(s->model), &s->net);
    struct sleeper_faults f = {.lose_ack = s->calm ? 0 : s->plan.lose_ack, .refuse_commit = s->calm ? 0 : s->plan.refuse_commit, .delay_us = s->plan.delay_us, .fetch = s->calm ? 0 : s->odd.fetch};
    sleeper_faults(p->sleeper, &f);
    if (s->plan.skews > 0)
        sleeper_skew(p->sleeper, (sim_below(s, 7200) - 3600) * US_PER_S);
    if (s->broker_away)
        sleeper_cut(p->sleeper, CUT_BUS);
    check_observe(p, p->sleeper);
    p->doom_timer = timer_new(s->loop, on_doom, p);
    rnd_seeded(&p->rnd, rnd_u64(&s->dice));
    struct loop *loop = sleeper_loop(p->sleeper);
    struct bq *bq = bq_new(&(struct bq_options){.loop = loop, .http = sleeper_http(p->sleeper), .auth = s->auth, .rnd = &p->rnd, .base_url = "http://model",
                                                .project = "local"});
    p->permits = permits_set_new(bq, &p->rnd, p->name, s->plan.lease_ms);
    p->world = (struct world){.loop = loop, .rnd = &p->rnd, .bus = sleeper_bus(p->sleeper), .bq = bq, .permits = p->permits, .metrics = &p->metrics,
                              .prefix = SIM_PREFIX};
    if (kind == PROC_SUBMITTER ? s->odd.plain_submitters : kind == PROC_COORDINATOR && slot > 0 && s->odd.plain_coordinators)
        forgo_service(p);
    trace(p->name, "starts");
}

/* --- workers ------------------------------------------------------------------------------------------------------------------------------------- */

static void on_failed(void *arg, const struct error *err)
{
    struct proc *p = arg;
    p->failed = true;
    trace(p->name, "cannot go on: %s", err->text);
}

void proc_worker(struct sim *s, int slot)
{
    struct proc *p = &s->workers[slot];
    struct error err = ERROR_INIT;
    come(s, p, PROC_WORKER, slot, "worker");
    sleeper_tells_the_dead(p->sleeper);
    leaver_begins(p);
    p->children = (struct children){.ops = handler_ops(), .self = p};
    p->world.children = &p->children;
    p->defs.count = 1;
    p->defs.v = xcalloc(1, sizeof(*p->defs.v));
    p->defs.v[0] = (struct handler_def){.name = xstrdup("h"), .kind = HANDLER_EXEC, .start_timeout_ms = 60000, .window = 1 + (int64_t)(s->plan.seed % 5)};
    p->defs.v[0].argv = xcalloc(2, sizeof(char *));
    p->defs.v[0].argv[0] = xstrdup("hand");
    struct worker_options o = {.world = &p->world, .name = p->name, .queue = SIM_QUEUE, .handlers = &p->defs, .parallel = s->plan.parallel, .buffer = s->plan.buffer,
                               .load_size = s->plan.load_size, .linger_ms = s->plan.linger_ms, .streams = s->plan.streams, .paced = s->toil.paced, .compress = s->plan.compress,
                               .failed = on_failed, .arg = p};
    p->worker = worker_start(&o, &err);
    p->failed |= p->worker == NULL && s->toil.refused > 0;
    if (p->worker == NULL && !p->failed)
        sim_violated(s, INV_CRASH, "worker %s does not start: %s", p->name, err.text);
}

/* --- coordinators -------------------------------------------------------------------------------------------------------------------------------- */

static void open_coordinator(struct proc *p, const struct coordinator_events *events, bool all)
{
    struct error err = ERROR_INIT;
    p->outbox = outbox_new(&p->world, p->name);
    struct coordinator_options o = {.world = &p->world, .outbox = p->outbox, .all = all, .shards_at_once = p->sim->plan.shards_at_once,
                                    .params_at_once = p->sim->plan.params_at_once};
    p->coordinator = coordinator_start(&o, events, p, &err);
    if (p->coordinator == NULL)
        sim_violated(p->sim, INV_CRASH, "coordinator %s does not start: %s", p->name, err.text);
}

static void on_serve_trouble(void *arg, struct track *t, const struct error *err)
{
    struct proc *p = arg;
    trace(p->name, "trouble%s%s: %s", t ? " with " : "", t ? track_record(t)->run : "", err->text);
}

void proc_coordinator(struct sim *s, int slot)
{
    static const struct coordinator_events events = {.trouble = on_serve_trouble};
    come(s, &s->coordinators[slot], PROC_COORDINATOR, slot, "coordinator");
    open_coordinator(&s->coordinators[slot], &events, true);
}

/* --- submitters: `run` (it stays) and `submit` ---------------------------------------------------------------------------------------------------- */

static void on_ready(void *arg)
{
    struct proc *p = arg;
    if (p->redriving)
        redriving_ready(p->redriving);
    if (p->submit)
        submit_catalog_read(p->submit);
}

static void on_changed(void *arg, struct track *t)
{
    struct proc *p = arg;
    if (t != p->track || p->over)
        return;
    const struct fold *f = track_fold(t);
    if (p->submit && f->phase == RUN_ENDED)
        submit_ended(p->submit, f->end, f->end_text);
    bool held = f->phase == RUN_HELD && track_live(t);
    if (held || track_done(t))
        p->over = true;
}

static void on_trouble(void *arg, struct track *t, const struct error *err)
{
    struct proc *p = arg;
    trace(p->name, "trouble: %s", err->text);
    if (t == NULL || t != p->track || p->over)
        return;
    p->over = true;
    const struct fold *f = track_fold(t);
    if (p->batch->stays && f->items >= 0 && !fold_settled(f)) {
        struct log_msg m = {.type = LOGM_ALIVE, .published = f->items, .left = true};
        outbox_log(p->outbox, p->record, &m, NULL, NULL);
    }
}

static void on_opened(void *arg, bool attached)
{
    struct proc *p = arg;
    struct error err = ERROR_INIT;
    const struct record *r = p->record;
    if (attached) {
        struct catalog_run *known = catalog_find(catalog_watch_runs(coordinator_watch(p->coordinator)), p->record->run);
        r = known->record;
        if (known->standing != STANDING_OPEN) {
            p->over = true;
            return;
        }
    }
    trace(p->name, "%s run %s", attached ? "attaches to" : "opens", r->run);
    p->track = coordinator_track(p->coordinator, r, p->batch->stays && !attached ? TRACK_FIRST : TRACK_SECOND, &err);
    if (p->track == NULL)
        sim_violated(p->sim, INV_CRASH, "%s cannot track %s: %s", p->name, r->run, err.text);
}

static void on_sealed(void *arg, int64_t items)
{
    struct proc *p = arg;
    trace(p->name, "has sealed %" PRId64 " items", items);
    p->sealed = true;
    if (!p->batch->stays)
        p->leaves = true;
}

static void on_submit_failed(void *arg, const struct error *err, int code)
{
    struct proc *p = arg;
    trace(p->name, "is refused (%d): %s", code, err->text);
    if (p->track == NULL)
        p->leaves = true;
}

static int next_item(void *arg, struct item *out, struct error *err)
{
    struct proc *p = arg;
    (void)err;
    if (p->next_item == p->batch->items)
        return 0;
    snprintf(p->key, sizeof(p->key), "k%" PRId64, p->next_item);
    *out = (struct item){.index = p->next_item++, .key = p->key, .key_len = strlen(p->key), .payload = "", .payload_len = 0};
    if (p->batch->payload > 0)
        out->payload = toil_payload(p->batch, &out->payload_len);
    return 1;
}

void proc_submit_from(struct proc *p, struct submit_source source)
{
    static const struct submit_events told = {.opened = on_opened, .sealed = on_sealed, .failed = on_submit_failed};
    struct submit_options o = {.world = &p->world, .outbox = p->outbox, .watch = coordinator_watch(p->coordinator), .record = p->record, .source = source,
                               .replace = p->replace, .leaves = !p->batch->stays, .command = "bqfleet watch"};
    p->submit = submit_start(&o, &told, p);
}

static struct proc *submitter(struct sim *s, const struct batch_plan *b)
{
    static const struct coordinator_events events = {.ready = on_ready, .changed = on_changed, .trouble = on_trouble};
    if (s->submitter_count == SIM_SUBMITTERS)
        return NULL;
    int slot = s->submitter_count++;
    struct proc *p = &s->submitters[slot];
    come(s, p, PROC_SUBMITTER, slot, "submitter");
    p->batch = b;
    open_coordinator(p, &events, false);
    return p;
}

struct proc *proc_submit(struct sim *s, const struct batch_plan *b, const char *run, bool replace)
{
    char fresh[LIMIT_NAME];
    struct proc *p = submitter(s, b);
    if (p == NULL)
        return NULL;
    snprintf(fresh, sizeof(fresh), "run-%" PRIu64, ++s->runs_named);
    p->replace = replace;
    p->record = ways_record(b, run ? run : fresh);
    service_odd_record(p->record);
    sim_did(s, DEED_SUBMIT, p->name, "submits %s as run %s%s", b->name, p->record->run, replace ? ", replacing" : "");
    proc_submit_from(p, (struct submit_source){.next = next_item, .arg = p});
    return p;
}

struct proc *proc_redrive(struct sim *s, const struct batch_plan *b, const char *run)
{
    char fresh[LIMIT_NAME];
    struct proc *p = submitter(s, b);
    if (p == NULL)
        return NULL;
    snprintf(fresh, sizeof(fresh), "run-%" PRIu64, ++s->runs_named);
    sim_did(s, DEED_REDRIVE, p->name, "redrives run %s as %s", run, fresh);
    p->redriving = redriving_new(p, run, fresh);
    return p;
}

/* --- life and death -------------------------------------------------------------------------------------------------------------------------------- */

void proc_kill(struct proc *p)
{
    struct sim *s = p->sim;
    struct sleeper *sleeper = p->sleeper;
    poison_harm(p);
    sleeper_kill(sleeper);
    timer_free(p->doom_timer);
    p->doom_timer = NULL;
    p->doom = 0;
    worker_free(p->worker);
    submit_free(p->submit);
    redriving_free(p->redriving);
    coordinator_free(p->coordinator);
    outbox_stop(p->outbox);
    outbox_free(p->outbox);
    permits_set_free(p->permits);
    bq_free(p->world.bq);
    handler_defs_free(&p->defs);
    record_free(p->record);
    if (s->past_count == s->past_cap) {
        s->past_cap = s->past_cap ? s->past_cap * 2 : 64;
        s->past = xreallocarray(s->past, s->past_cap, sizeof(struct sleeper *));
    }
    s->past[s->past_count++] = sleeper;
    p->sleeper = NULL;
    p->worker = NULL;
    p->submit = NULL;
    p->coordinator = NULL;
    p->track = NULL;
    p->outbox = NULL;
    p->permits = NULL;
    p->record = NULL;
    p->redriving = NULL;
    p->paused = false;
    p->again_us = p->left_us = 0;
}

void proc_pause(struct proc *p, int64_t ms)
{
    poison_harm(p);
    sleeper_stop(p->sleeper);
    p->paused = true;
    p->again_us = loop_now_us(p->sim->loop) + ms * US_PER_MS;
}

void proc_cut(struct proc *p, unsigned directions, int64_t ms)
{
    poison_harm(p);
    sleeper_cut(p->sleeper, directions | (p->sim->broker_away ? CUT_BUS : 0));
    p->again_us = loop_now_us(p->sim->loop) + ms * US_PER_MS;
}

static void mend(struct proc *p)
{
    p->again_us = 0;
    sleeper_cut(p->sleeper, p->sim->broker_away ? CUT_BUS : 0);
    if (p->paused) {
        p->paused = false;
        sleeper_go_on(p->sleeper);
    }
}

void proc_tick(struct proc *p)
{
    if (!proc_lives(p))
        return;
    if (p->again_us != 0 && (p->sim->calm || loop_now_us(p->sim->loop) >= p->again_us)) {
        trace(p->name, "is back");
        mend(p);
    }
    if (p->failed && !p->paused) {
        proc_kill(p);
        return;
    }
    bool through = p->leaves || p->over;
    if (p->kind == PROC_SUBMITTER && through && !p->paused && outbox_waiting(p->outbox) == 0 && service_odd_gave_back(p)) {
        trace(p->name, "leaves");
        proc_kill(p);
    }
}
