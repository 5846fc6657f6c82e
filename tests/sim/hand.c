#include "tests/sim/hand.h"

#include "common/fleet/catalog.h"
#include "tests/sim/ways.h"

static struct hand { struct sleeper *sleeper; struct rnd rnd; struct metrics metrics; struct world world; struct outbox *outbox; struct proc proc;
                     char text[700]; } hand;

void hand_open(struct sim *s)
{
    memset(&hand, 0, sizeof(hand));
    hand.sleeper = sleeper_new(s->loop, s->bus, bqmodel_http(s->model), &s->net);
    sleeper_calm(hand.sleeper);
    hand.proc.sim = s;
    check_observe(&hand.proc, hand.sleeper);
    rnd_seeded(&hand.rnd, s->plan.seed);
    hand.world = (struct world){.loop = sleeper_loop(hand.sleeper), .rnd = &hand.rnd, .bus = sleeper_bus(hand.sleeper), .metrics = &hand.metrics, .prefix = SIM_PREFIX};
    hand.outbox = outbox_new(&hand.world, "operator");
}

void hand_close(struct sim *s)
{
    sleeper_kill(hand.sleeper);
    outbox_stop(hand.outbox);
    outbox_free(hand.outbox);
    if (s->past_count == s->past_cap)
        s->past = xreallocarray(s->past, s->past_cap = s->past_cap * 2 + 8, sizeof(struct sleeper *));
    s->past[s->past_count++] = hand.sleeper;
}

static void say(struct sim *s, const struct ledger *l, struct log_msg m)
{
    sim_did(s, DEED_STEER, "operator", "%s %s", log_type_name(m.type), l->record->run);
    m.text = "as the seed says";
    outbox_log(hand.outbox, l->record, &m, NULL, NULL);
    if (m.type == LOGM_CANCEL && way_cuts(l->batch) && sim_chance(s, .4))
        say(s, l, (struct log_msg){.type = LOGM_CUT, .cut = l->run_cuts}); /* as a coordinator does that reads the log late */
}

void hand_says_so(struct sim *s, const struct ledger *l, enum log_type type)
{
    say(s, l, (struct log_msg){.type = type});
}

void hand_closes(struct sim *s, const struct ledger *l)
{
    doc *end = doc_object();
    doc_set_str(end, "end", "unknown");
    doc_set_int(end, "exit", EXIT_UNFINISHED);
    say(s, l, (struct log_msg){.type = LOGM_CANCEL});
    outbox_batches(hand.outbox, catalog_end_key(l->record->run), end, NULL, NULL);
}

/* As the commands look: a run that an open one is to adopt is left alone. */
bool hand_has_heir(const struct sim *s, const struct ledger *l)
{
    for (const struct ledger *h = s->check->ledgers; h; h = h->next)
        if (ledger_open(h) && strcmp(h->record->adopts, l->record->run) == 0)
            return true;
    return false;
}

static struct ledger *any_run(struct sim *s)
{
    struct ledger *l = s->check->ledgers;
    int64_t at = s->check->run_count > 0 ? sim_below(s, s->check->run_count) : 0;
    for (; l != NULL && at > 0; at--)
        l = l->next;
    return l;
}

static void decide(struct sim *s, struct ledger *l)
{
    if (hand_has_heir(s, l))
        return;
    if (sim_chance(s, .4) && proc_redrive(s, l->batch, l->record->run) != NULL)
        return;
    say(s, l, (struct log_msg){.type = sim_chance(s, .6) ? LOGM_ACCEPT : LOGM_CANCEL});
}

void hand_steers(struct sim *s)
{
    struct ledger *l = any_run(s);
    int64_t what = sim_below(s, 20);
    if (l == NULL)
        return;
    if (what == 19 && way_cuts(l->batch)) {
        say(s, l, (struct log_msg){.type = LOGM_CUT, .cut = l->run_cuts});
        return;
    }
    if (!ledger_open(l)) {
        if (l->failed > 0 && what < 5)
            proc_redrive(s, l->batch, l->record->run);
        return;
    }
    if (l->phase == PHASE_HELD || what == 0)
        decide(s, l);
    else if (what < 6)
        say(s, l, (struct log_msg){.type = LOGM_PAUSE});
    else if (what < 14)
        say(s, l, (struct log_msg){.type = LOGM_RESUME});
    else
        say(s, l, (struct log_msg){.type = LOGM_PARALLEL, .parallel = what == 14 ? LIMIT_ITEMS : 1 + sim_below(s, 20)});
}

/* Best while its last statement is at work: the other one is to wait for it. */
void hand_replaces(struct sim *s)
{
    struct ledger *found = NULL;
    int64_t count = 0;
    for (struct ledger *l = s->check->ledgers; l; l = l->next) {
        bool writes = !l->withdrawn && !l->end_told && l->cut_count > 0 && l->cuts[l->cut_count - 1].state == LCUT_OPEN;
        if (writes && !hand_has_heir(s, l) && sim_below(s, ++count) == 0)
            found = l;
    }
    if (found != NULL)
        proc_submit(s, found->batch, NULL, true);
}

void hand_decides(struct sim *s)
{
    for (struct ledger *l = s->check->ledgers; l; l = l->next) {
        if (!ledger_open(l))
            continue;
        if (l->phase == PHASE_HELD)
            decide(s, l);
        else if (l->paused)
            say(s, l, (struct log_msg){.type = LOGM_RESUME});
    }
}

const char *hand_says(struct sim *s)
{
    size_t at = 0;
    hand.text[0] = '\0';
    for (int i = 0; i < s->plan.coordinators; i++) {
        const struct proc *p = &s->coordinators[i];
        for (struct track *t = proc_lives(p) ? coordinator_next(p->coordinator, NULL) : NULL; t; t = coordinator_next(p->coordinator, t)) {
            char waits[300];
            at += (size_t)snprintf(hand.text + at, sizeof(hand.text) - at, "%s: %s waits for \"%s\"; ", p->name, track_record(t)->run, track_waits_for(t, waits, sizeof(waits)));
            at = size_min(at, sizeof(hand.text) - 1);
        }
    }
    for (int i = 0; i < s->plan.workers; i++) {
        struct worker_state w;
        if (!proc_lives(&s->workers[i]) || s->workers[i].worker == NULL)
            continue;
        worker_state(s->workers[i].worker, &w);
        at += (size_t)snprintf(hand.text + at, sizeof(hand.text) - at, "%s: %" PRId64 " unfinished, \"%s\"; ", s->workers[i].name, w.unfinished, w.waits_for);
        at = size_min(at, sizeof(hand.text) - 1);
    }
    return hand.text;
}
