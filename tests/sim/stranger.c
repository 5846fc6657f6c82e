#include "tests/sim/check.h"

#include <math.h>

#include "tests/sim/dice.h"

/* What comes from outside the fleet: messages that mean nothing, or come twice, or contradict; and credentials that are not taken for a time. */

enum { KEPT = 32 };
struct kept { char key[LIMIT_NAME]; void *value; size_t key_len, len; };
static struct stranger { struct sim *sim; struct sleeper *sleeper; struct rnd rnd; struct timer *words, *refusals; struct kept kept[KEPT]; size_t heard; } stranger;

static double real(void)
{
    return rnd_real(&stranger.rnd);
}

static size_t below(size_t n)
{
    return (size_t)rnd_below(&stranger.rnd, n);
}

void odd_draw(struct oddities *o, const struct plan *p)
{
    struct rnd rnd;
    rnd_seeded(&rnd, p->seed ^ UINT64_C(0x9e3779b97f4a7c15));
    double words = rnd_real(&rnd), refusals = rnd_real(&rnd), plain = rnd_real(&rnd), rate = rnd_real(&rnd);
    *o = (struct oddities){0};
    if (!p->quiet && p->seed % 4 == 1)
        o->plain_coordinators = plain > .1 && plain < .3;
    if (p->quiet || p->seed % 4 != 3) /* the others are as they would be without all this */
        return;
    o->words = words < .6 ? .02 + .4 * rate : 0;
    o->refusals = refusals < .6 ? .01 + .2 * rate * rate : 0;
    o->plain_submitters = plain < .35;
    o->plain_coordinators = plain > .1 && plain < .5;
}

/* --- words ------------------------------------------------------------------------------------------------------------------------------------------- */

static void on_published(void *arg, int32_t partition, int64_t offset, const struct error *err)
{
    (void)arg, (void)partition, (void)offset, (void)err;
}

static void on_acked(void *arg, const struct bus_out *o, int32_t partition, int64_t offset)
{
    check_stray(((struct sim *)arg)->check, o, partition, offset);
}

static void publish(const char *topic, int32_t partition, const char *key, const void *value, size_t len)
{
    struct error err = ERROR_INIT;
    struct bus_out o = {.topic = topic, .partition = partition, .key = key, .key_len = key ? strlen(key) : 0, .value = value, .value_len = len};
    sim_did(stranger.sim, DEED_STRANGE, "stranger", "says %zu bytes in %s under %s", len, topic, key ? key : "no key");
    int rc = bus_publish(sleeper_bus(stranger.sleeper), &o, on_published, NULL, &err);
    assert(rc == 0);
    (void)rc;
}

/* As the run itself would: to its log's partition. */
static void publish_log(const struct ledger *l, const void *value, size_t len)
{
    publish(SIM_PREFIX "results", l->record->log_partition, l->record->run, value, len);
}

void stranger_says(const struct ledger *l, const void *value, size_t len)
{
    publish_log(l, value, len);
}

static const struct ledger *any_run(void)
{
    const struct check *c = stranger.sim->check;
    return c->run_count > 0 ? check_run_at((struct check *)(uintptr_t)c, (int32_t)below((size_t)c->run_count)) : NULL;
}

void stranger_heard(const struct bus_out *o)
{
    const unsigned char *p = o->value;
    if (stranger.words == NULL || o->key_len >= LIMIT_NAME || (p[1] != LOGM_SEAL && p[1] != LOGM_MANIFEST && p[1] != LOGM_CUT && p[1] != LOGM_OUTCOME))
        return;
    struct kept *k = &stranger.kept[stranger.heard++ % KEPT];
    free(k->value);
    *k = (struct kept){.value = xmemdup(o->value, o->value_len), .key_len = o->key_len, .len = o->value_len};
    memcpy(k->key, o->key, o->key_len);
}

/* What was said once is said again, whatever has become of it. */
static void repeat(void)
{
    const struct kept *k = stranger.heard > 0 ? &stranger.kept[below(size_min(stranger.heard, KEPT))] : NULL;
    const struct ledger *l = k ? check_run(stranger.sim->check, k->key, k->key_len) : NULL;
    if (l != NULL)
        publish_log(l, k->value, k->len);
}

static void babble_log(void)
{
    static const unsigned char words[][8] = {{LOGM_VERSION}, {LOGM_VERSION, LOGM_MANIFEST, 0xff, 0xff, 0xff, 0xff}, {LOGM_VERSION, LOGM_OUTCOME, 0x0a, 0x7f, 'x'},
                                             {LOGM_VERSION, LOGM_MANIFEST, 0x0a, 0x7f}, {LOGM_VERSION, LOGM_CUT, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}};
    static const size_t lengths[] = {1, 6, 5, 4, 8};
    const struct ledger *l = any_run();
    size_t at = below(ARRAY_LEN(words) + 1);
    if (l != NULL && at < ARRAY_LEN(words))
        publish_log(l, words[at], lengths[at]);
    else if (l != NULL)
        publish_log(l, NULL, 0);
}

static void babble_work(void)
{
    static const char work[] = SIM_PREFIX "work." SIM_QUEUE;
    static const char later[] = "\x09\x00later", odd[] = "\x01\x40odd", shortened[] = "\x01\x00\x05\x20run", foreign[] = "\x01\x00\x05\x06nobodyx\x01k";
    /* of a run that nobody has opened: version, flags, item, the run's length and id, the key's and key */
    static const char nobodys[] = "\x01\x00\x05\x06nobody\x01kpayload";
    switch (below(6)) {
    case 0: publish(work, -1, NULL, later, sizeof(later) - 1); break;
    case 1: publish(work, -1, NULL, odd, sizeof(odd) - 1); break;
    case 2: publish(work, -1, NULL, shortened, sizeof(shortened) - 1); break;
    case 3: publish(work, -1, "nobody", nobodys, sizeof(nobodys) - 1); break;
    case 4: publish(work, -1, "none", NULL, 0); break;
    default: publish(work, -1, NULL, foreign, sizeof(foreign) - 1);
    }
}

static void babble_catalog(void)
{
    static const char *const keys[] = {"run/nobody", "end/nobody", "state/nobody", "other/nobody", "nobody"};
    static const char *const values[] = {"", "{", "[1,2]", "{\"version\":99,\"run\":\"nobody\"}", "null"};
    const char *key = keys[below(ARRAY_LEN(keys))], *value = values[below(ARRAY_LEN(values))];
    publish(below(4) ? SIM_PREFIX "batches" : SIM_PREFIX "workers", -1, key, value, strlen(value));
}

/* Fewer items than are done already: nobody knows any more what the run has, and it is to end loudly. */
static void contradict(void)
{
    const struct ledger *l = any_run();
    if (l == NULL || l->phase != PHASE_PUBLISHING || l->withdrawn || l->done == 0)
        return;
    struct buf text = BUF_INIT(1024);
    struct log_msg m = {.type = LOGM_SEAL, .items = 0, .shard = "", .run = "", .text = "", .job = "", .by = ""};
    m.manifest.incarnation = m.manifest.load = "";
    int rc = logmsg_encode(&m, &text);
    assert(rc == 0);
    (void)rc;
    publish_log(l, text.data, text.len);
    buf_free(&text);
}

static void again(struct timer *t, double rate)
{
    dice_again(t, &stranger.rnd, rate);
}

static void on_words(void *arg)
{
    (void)arg;
    size_t what = below(20);
    if (what < 6)
        repeat();
    else if (what < 11)
        babble_log();
    else if (what < 16)
        babble_work();
    else if (what < 18)
        babble_catalog();
    else
        contradict();
    again(stranger.words, stranger.sim->odd.words);
}

/* --- refusals -------------------------------------------------------------------------------------------------------------------------------------------- */

/* A worker that may not load ends the run for all, as it must; so it is refused what another one can do in its place: to write into targets. */
static void on_refusals(void *arg)
{
    struct sim *s = arg;
    struct proc *all[] = {&s->workers[below((size_t)s->plan.workers)], &s->coordinators[below((size_t)s->plan.coordinators)],
                          s->submitter_count > 0 ? &s->submitters[below((size_t)s->submitter_count)] : NULL};
    struct proc *p = all[below(ARRAY_LEN(all))];
    unsigned way = (below(2) ? CUT_UNKNOWN : CUT_DENIED) | (below(2) ? CUT_WRITES : 0);
    int64_t ms = (int64_t)(200 * pow(900, real())); /* to three minutes */
    again(stranger.refusals, s->odd.refusals);
    if (p == NULL || !proc_lives(p) || p->paused || p->again_us != 0)
        return;
    way |= p->kind == PROC_WORKER ? CUT_WRITES : 0;
    sim_did(s, DEED_REFUSE, p->name, "has its credentials refused (%u) for %" PRId64 " ms", way, ms);
    proc_cut(p, way, ms);
}

/* --- life ------------------------------------------------------------------------------------------------------------------------------------------------- */

void stranger_open(struct sim *s)
{
    static const struct sleeper_observer all = {.acked = on_acked};
    memset(&stranger, 0, sizeof(stranger));
    stranger.sim = s;
    rnd_seeded(&stranger.rnd, s->plan.seed ^ UINT64_C(0xbf58476d1ce4e5b9));
    stranger.sleeper = sleeper_new(s->loop, s->bus, bqmodel_http(s->model), &stranger.rnd);
    sleeper_calm(stranger.sleeper);
    sleeper_observe(stranger.sleeper, &all, s);
    if (s->odd.words > 0) {
        stranger.words = timer_new(s->loop, on_words, s);
        again(stranger.words, s->odd.words);
    }
    if (s->odd.refusals > 0) {
        stranger.refusals = timer_new(s->loop, on_refusals, s);
        again(stranger.refusals, s->odd.refusals);
    }
}

void stranger_calm(void)
{
    timer_free(stranger.words);
    timer_free(stranger.refusals);
    stranger.words = stranger.refusals = NULL;
}

void stranger_close(struct sim *s)
{
    stranger_calm();
    for (size_t i = 0; i < KEPT; i++)
        free(stranger.kept[i].value);
    sleeper_kill(stranger.sleeper);
    if (s->past_count == s->past_cap)
        s->past = xreallocarray(s->past, s->past_cap = s->past_cap * 2 + 8, sizeof(struct sleeper *));
    s->past[s->past_count++] = stranger.sleeper;
}
