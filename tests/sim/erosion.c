#include "tests/sim/erosion.h"


#include "tests/sim/dice.h"
#include "tests/sim/hand.h"

/*
 * What time, administrators and haste do to a fleet: retention or somebody's clean-up takes the beginning of a log or of the queue; a topic's access list is changed
 * and changed back; a later version of the product says something in a run's log; people decide about a run without looking whether somebody else has. It ends with
 * the calm; what nobody can mend by then is closed by a person, as `bqfleet cancel` does with a run whose log is gone.
 */
struct blind { struct proc *p; int lives; };
static struct eroder { struct sim *sim; struct rnd rnd; struct timer *timer, *ambush; const struct ledger *prey; enum log_type heard;
                       struct blind blind[64]; size_t blind_count; int64_t calm_us; } eroder;

#define CLOSED_AFTER_US (600 * US_PER_S)

static double real(void)
{
    return rnd_real(&eroder.rnd);
}

static int64_t below(int64_t n)
{
    return (int64_t)rnd_below(&eroder.rnd, (uint64_t)n);
}

static int64_t spread_ms(int64_t from, int64_t to)
{
    return dice_spread(&eroder.rnd, from, to);
}

static struct ledger *any_run(bool (*fits)(const struct ledger *))
{
    struct ledger *found = NULL;
    int64_t count = 0;
    for (struct ledger *l = eroder.sim->check->ledgers; l; l = l->next)
        if (!l->withdrawn && fits(l) && below(++count) == 0)
            found = l;
    return found;
}

static bool goes_on(const struct ledger *l)
{
    return !ledger_settled(l) || !l->end_told;
}

static bool is_open(const struct ledger *l)
{
    return ledger_open(l);
}

static bool is_alone(const struct ledger *);

static bool is_heir(const struct ledger *l)
{
    return ledger_open(l) && l->record->adopts[0] != '\0';
}

/* Held or nearly so, and written in part; or replaced by somebody who is to wait for it. */
static bool is_being_written(const struct ledger *l)
{
    return !l->closed && l->cut_count > 0 && l->cuts[l->cut_count - 1].state == LCUT_OPEN;
}

static bool is_alone_and_written(const struct ledger *l)
{
    return is_alone(l) && is_being_written(l);
}

static bool works(const struct ledger *l)
{
    return l->phase == PHASE_WORKING;
}

static bool is_held(const struct ledger *l)
{
    return l->phase == PHASE_HELD;
}

static bool is_inherited(const struct ledger *l)
{
    return l->phase == PHASE_HELD && hand_has_heir(eroder.sim, l);
}

static bool is_alone(const struct ledger *l)
{
    return l->phase == PHASE_HELD && !hand_has_heir(eroder.sim, l);
}

static bool has_ended(const struct ledger *l)
{
    return l->phase == PHASE_ENDED;
}

/* --- processes that come anew ------------------------------------------------------------------------------------------------------------------------------ */

static void come_again(struct proc *p)
{
    if (!proc_lives(p) || p->kind == PROC_SUBMITTER)
        return;
    proc_kill(p);
    if (p->kind == PROC_WORKER)
        proc_worker(eroder.sim, p->slot);
    else
        proc_coordinator(eroder.sim, p->slot);
    sim_did(eroder.sim, DEED_RESTART, p->name, "is started anew");
}

/* Whoever could not read its logs for a time does not read them again: somebody starts it anew when it may. */
static void cure_the_blind(void)
{
    for (size_t i = 0; i < eroder.blind_count;) {
        struct blind *b = &eroder.blind[i];
        bool same = proc_lives(b->p) && b->p->lives == b->lives;
        if (same && b->p->again_us != 0) {
            i++;
            continue;
        }
        if (same)
            come_again(b->p);
        *b = eroder.blind[--eroder.blind_count];
    }
}

static void keep_from(struct proc *p, unsigned way, int64_t ms)
{
    if (!proc_lives(p) || p->paused || p->again_us != 0 || (way == CUT_READS && eroder.blind_count == ARRAY_LEN(eroder.blind)))
        return;
    sim_did(eroder.sim, DEED_REFUSE, p->name, "is kept from topics or tables (%u) for %" PRId64 " ms", way, ms);
    proc_cut(p, way, ms);
    if (way == CUT_READS)
        eroder.blind[eroder.blind_count++] = (struct blind){p, p->lives};
}

/* Of those who coordinate. */
static void keep_all_from(unsigned way, double part, int64_t from_ms, int64_t to_ms)
{
    struct sim *s = eroder.sim;
    for (int i = 0; i < s->plan.coordinators + s->submitter_count; i++)
        if (real() < part)
            keep_from(i < s->plan.coordinators ? &s->coordinators[i] : &s->submitters[i - s->plan.coordinators], way, spread_ms(from_ms, to_ms));
}

/* Who was about to write an increment sleeps, until others have. */
static void stop_the_first(const struct ledger *l)
{
    struct sim *s = eroder.sim;
    for (int i = 0; i < s->submitter_count; i++) {
        struct proc *p = &s->submitters[i];
        if (!proc_lives(p) || p->paused || p->again_us != 0 || !p->batch->stays || p->record == NULL || strcmp(p->record->run, l->record->run) != 0)
            continue;
        int64_t ms = spread_ms(40000, 120000);
        sim_did(s, DEED_PAUSE, p->name, "is stopped for %" PRId64 " ms", ms);
        proc_pause(p, ms);
    }
}

static void deny(void)
{
    static const unsigned ways[] = {CUT_TOPICS, CUT_TOPICS, CUT_TOPICS, CUT_READS, CUT_ASKS, CUT_ASKS, CUT_RUNS, CUT_LOG, CUT_LOG | CUT_ASKS, CUT_DENIED | CUT_WRITES, CUT_DENIED | CUT_WRITES};
    struct sim *s = eroder.sim;
    int kind = (int)below(10);
    struct proc *p = kind < 2 ? &s->workers[below(s->plan.workers)] : kind < 6 || s->submitter_count == 0 ? &s->coordinators[below(s->plan.coordinators)]
                                                                                                    : &s->submitters[below(s->submitter_count)];
    unsigned way = kind >= 2 && real() < (s->plan.shards_at_once == 4 ? .5 : .15) ? CUT_DENIED : ways[below(ARRAY_LEN(ways))]; /* a worker that may not load ends the run for all, as it must */
    keep_from(p, way, spread_ms(2000, 240000));
}

/* --- what is deleted ------------------------------------------------------------------------------------------------------------------------------------------ */

static void erode_log(void)
{
    struct sim *s = eroder.sim;
    const struct ledger *l = any_run(goes_on);
    int32_t partition = l ? l->record->log_partition : 0;
    int64_t from = l ? l->record->log_offset : 0, end = s->check->log_ends[partition];
    if (l == NULL || end <= from)
        return;
    int64_t before = from + 1 + below(end - from);
    sim_did(s, DEED_ERODE, "broker", "has no logs of partition %d before %" PRId64 " any more", partition, before);
    check_log_gone(s->check, partition, before);
    bus_memory_delete(s->bus, SIM_PREFIX "results", partition, before);
    for (int i = 0; i < s->plan.coordinators && real() < .5; i++)
        come_again(&s->coordinators[i]);
}

static void erode_work(void)
{
    struct sim *s = eroder.sim;
    int32_t partition = (int32_t)below(s->plan.partitions);
    const struct work_log *w = &s->check->work[partition];
    int64_t from = i64_max(w->passed, w->low);
    if (w->count <= from)
        return;
    int64_t before = real() < .5 ? w->count : from + 1 + below(w->count - from);
    sim_did(s, DEED_ERODE, "broker", "has no work of partition %d before %" PRId64 " any more", partition, before);
    check_work_gone(s->check, partition, before);
    bus_memory_delete(s->bus, SIM_PREFIX "work." SIM_QUEUE, partition, before);
    static const unsigned ways[] = {CUT_ASKS, CUT_ASKS, CUT_LOG | CUT_ASKS, CUT_TOPICS}; /* of those who are to find out */
    unsigned way = ways[below(ARRAY_LEN(ways))];
    keep_all_from(way, way == CUT_TOPICS ? 1 : .6, 60000, 300000);
}

/* --- what is said ------------------------------------------------------------------------------------------------------------------------------------------------ */

static void say_later(void)
{
    static const unsigned char words[][3] = {{LOGM_VERSION + 1, LOGM_SEAL, 0}, {LOGM_VERSION, LOGM_TYPES, 0}};
    struct ledger *l = any_run(is_heir);
    l = l != NULL && real() < .7 ? l : any_run(is_open);
    if (l == NULL)
        return;
    sim_did(eroder.sim, DEED_STRANGE, "later", "says in the log of %s what nobody understands", l->record->run);
    l->beyond = true;
    stranger_says(l, words[below(ARRAY_LEN(words))], 2);
}

static void encode_and_say(const struct ledger *l, struct log_msg *m)
{
    struct buf text = BUF_INIT(4096);
    m->text = m->by = m->job = "";
    m->run = m->run ? m->run : "";
    m->shard = m->shard ? m->shard : "";
    m->manifest.incarnation = m->manifest.load = "";
    int rc = logmsg_encode(m, &text);
    assert(rc == 0);
    (void)rc;
    sim_did(eroder.sim, DEED_STRANGE, "stranger", "says %s in the log of %s", log_type_name(m->type), l->record->run);
    stranger_says(l, text.data, text.len);
    buf_free(&text);
}

/* An item that the run does not have: nobody knows any more what it has, and it is to end loudly. */
static void say_beyond(void)
{
    struct ledger *l = any_run(real() < .8 ? works : is_held);
    struct item_range range = {.count = 1};
    if (l == NULL)
        return;
    range.first = l->items + below(3);
    encode_and_say(l, &(struct log_msg){.type = LOGM_MANIFEST, .manifest = {.empty = &range, .empty_count = 1}});
}

/* Cuts and outcomes of nobody, cuts of what is cut already, and settings of what is over. */
static void say_late(void)
{
    struct ledger *l = any_run(is_alone_and_written);
    if (l != NULL) /* which nobody says before its increments have their outcomes */
        encode_and_say(l, &(struct log_msg){.type = LOGM_ADOPTED, .run = "nobody"});
    l = any_run(real() < .5 ? has_ended : goes_on);
    const char *loads[1];
    if (l == NULL)
        return;
    const struct lload *x = l->load_count > 0 ? l->loads[below((int64_t)l->load_count)] : NULL;
    int64_t number = 0;
    for (size_t i = 0; i < l->cut_count && x != NULL; i++)
        number += strcmp(l->cuts[i].shard, x->shard) == 0;
    char unknown[LOAD_ID_LEN + 1];
    switch (below(6)) {
    case 0: encode_and_say(l, &(struct log_msg){.type = LOGM_OUTCOME, .shard = "nobodys000"}); break;
    case 1: encode_and_say(l, &(struct log_msg){.type = LOGM_CUT, .shard = "nobodys000"}); break;
    case 2:
        if (l->phase == PHASE_ENDED)
            encode_and_say(l, &(struct log_msg){.type = below(2) ? LOGM_PAUSE : LOGM_PARALLEL, .parallel = 3});
        break;
    case 4: /* of a load that there is not */
        snprintf(unknown, sizeof(unknown), "%s-999999", x ? x->shard : "");
        loads[0] = unknown;
        if (x != NULL)
            encode_and_say(l, &(struct log_msg){.type = LOGM_CUT, .shard = x->shard, .cut = number, .loads = loads, .load_count = 1});
        break;
    case 3: /* of another's load */
        loads[0] = x && l->loads[0] != x ? l->loads[0]->id : NULL;
        if (loads[0] != NULL && strcmp(l->loads[0]->shard, x->shard) != 0)
            encode_and_say(l, &(struct log_msg){.type = LOGM_CUT, .shard = x->shard, .cut = number, .loads = loads, .load_count = 1});
        break;
    default:
        loads[0] = x ? x->id : NULL;
        if (x != NULL && (x->cut >= 0 || x->fresh == 0))
            encode_and_say(l, &(struct log_msg){.type = LOGM_CUT, .shard = x->shard, .cut = number, .loads = loads, .load_count = 1});
    }
}

/* --- people in a hurry ----------------------------------------------------------------------------------------------------------------------------------------- */

static void decide_rashly(void)
{
    struct ledger *l = any_run(is_inherited);
    if (l != NULL)
        hand_says_so(eroder.sim, l, real() < .5 ? LOGM_ACCEPT : LOGM_CANCEL);
}

static void redrive_hastily(void)
{
    struct ledger *l = any_run(is_alone_and_written);
    l = l ? l : any_run(is_alone);
    if (l != NULL && real() < .8)
        proc_redrive(eroder.sim, l->batch, l->record->run);
    else if ((l = any_run(is_being_written)) != NULL && !hand_has_heir(eroder.sim, l) && real() < (l->batch->via == VIA_DIRECT ? .5 : .1))
        proc_submit(eroder.sim, l->batch, NULL, true);
}

static void slow_cuts(void)
{
    struct sim *s = eroder.sim;
    static const char *const jobs[] = {"bqfleet_cut_", "bqfleet_direct_", "bqfleet_fold_"};
    struct bqmodel_fault f = {.match = jobs[below(ARRAY_LEN(jobs))], .kind = BQMODEL_JOB_SLOW, .ms = spread_ms(5000, 100000), .times = 2};
    s->slowed_ms += f.times * f.ms;
    sim_did(s, DEED_SERVICE, "service", "fault %d for %s, %" PRId64 " ms", f.kind, f.match, f.ms);
    bqmodel_fault(s->model, &f);
}

/* --- just when something else happens ---------------------------------------------------------------------------------------------------------------------------- */

/* Its older one, which it is to take over and which is still held; NULL. */
static struct ledger *held_by(const struct ledger *l)
{
    struct ledger *older = l->record->adopts[0] ? check_run(eroder.sim->check, l->record->adopts, strlen(l->record->adopts)) : NULL;
    return older != NULL && older->phase == PHASE_HELD ? older : NULL;
}

static bool is_replaced(const struct ledger *l)
{
    for (const struct ledger *n = eroder.sim->check->ledgers; n; n = n->next)
        if (ledger_open(n) && strcmp(n->record->replaces, l->record->run) == 0)
            return true;
    return false;
}

/* The end of a heir: somebody decides about what it was to take over. A cut: who has the first right to write it falls asleep. A cancel over a replacement:
 * coordinators learn late that the older one is over. */
static void on_ambush(void *arg)
{
    const struct ledger *l = eroder.prey, *older = held_by(l);
    (void)arg;
    if (eroder.heard == LOGM_CUT)
        stop_the_first(l);
    else if (eroder.heard == LOGM_CANCEL)
        keep_all_from(CUT_RUNS, .8, 60000, 240000);
    else if (older != NULL)
        hand_says_so(eroder.sim, older, real() < .5 ? LOGM_ACCEPT : LOGM_CANCEL);
    if (eroder.heard == LOGM_SEAL && real() < .5)
        keep_all_from(CUT_TOPICS, 1, 30000, 120000);
}

void erosion_heard(const struct ledger *l, const struct log_msg *m)
{
    const double *rates = eroder.sim->odd.erosion;
    bool ends_heir = l->phase == PHASE_ENDED && l->ended_by == LOGM_SEAL && held_by(l) != NULL && rates[ERODE_RASH] > 0;
    bool cuts = m->type == LOGM_CUT && m->shard[0] == '\0' && l->batch->permits > 0 && l->batch->every_ms > 0 && rates[ERODE_DENY] > 0;
    bool cancels = m->type == LOGM_CANCEL && rates[ERODE_DENY] > 0 && is_replaced(l);
    if (eroder.timer != NULL && m->type != LOGM_ADOPTED && l->phase == PHASE_ENDED && held_by(l) != NULL) /* when it waits for what it is to take over */
        looker_soon(below(300) * US_PER_MS);
    if (eroder.timer == NULL || timer_is_set(eroder.ambush) || !(ends_heir || cuts || cancels) || real() > .35)
        return;
    eroder.prey = l;
    eroder.heard = ends_heir ? LOGM_SEAL : m->type;
    timer_set(eroder.ambush, cancels ? below(100) * US_PER_MS : 0);
}

/* --- when --------------------------------------------------------------------------------------------------------------------------------------------------------- */

static void (*const deeds[])(void) = {[ERODE_LOG] = erode_log, [ERODE_WORK] = erode_work, [ERODE_LATER] = say_later, [ERODE_BEYOND] = say_beyond,
                                      [ERODE_RASH] = decide_rashly, [ERODE_HASTY] = redrive_hastily, [ERODE_DENY] = deny, [ERODE_SLOW] = slow_cuts,
                                      [ERODE_LATE_WORD] = say_late};
_Static_assert(ARRAY_LEN(deeds) == EROSIONS, "a rate for each");

static void again(void)
{
    dice_again(eroder.timer, &eroder.rnd, dice_sum(eroder.sim->odd.erosion, EROSIONS));
}

static void on_step(void *arg)
{
    (void)arg;
    size_t what = dice_pick(&eroder.rnd, eroder.sim->odd.erosion, EROSIONS);
    cure_the_blind();
    deeds[what]();
    again();
}

void erosion_open(struct sim *s)
{
    memset(&eroder, 0, sizeof(eroder));
    eroder.sim = s;
    rnd_seeded(&eroder.rnd, s->plan.seed ^ UINT64_C(0xa0761d6478bd642f));
    if (dice_sum(s->odd.erosion, EROSIONS) <= 0)
        return;
    eroder.timer = timer_new(s->loop, on_step, NULL);
    eroder.ambush = timer_new(s->loop, on_ambush, NULL);
    again();
}

void erosion_close(void)
{
    timer_free(eroder.timer);
    timer_free(eroder.ambush);
    eroder.timer = eroder.ambush = NULL;
}

void erosion_calm(void)
{
    erosion_close();
    eroder.calm_us = loop_now_us(eroder.sim->loop);
}

/* Nobody can fold the log of such a run, or not everybody: it ends if somebody still can, and else when somebody closes it. */
void erosion_after(void)
{
    struct sim *s = eroder.sim;
    cure_the_blind();
    if (dice_sum(s->odd.erosion, EROSIONS) <= 0 || loop_now_us(s->loop) < eroder.calm_us + CLOSED_AFTER_US)
        return;
    for (struct ledger *l = s->check->ledgers; l; l = l->next) {
        if (l->closed || !goes_on(l) || !check_is_beyond(s->check, l))
            continue;
        hand_closes(s, l);
        for (int i = 0; i < s->submitter_count; i++)
            if (proc_lives(&s->submitters[i]) && s->submitters[i].record && strcmp(s->submitters[i].record->run, l->record->run) == 0)
                s->submitters[i].leaves = true;
    }
}
