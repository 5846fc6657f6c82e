#include "worker/direct.h"

#include "common/base/units.h"
#include "common/fleet/consolidate.h"
#include "worker/post.h"
#include "worker/runs.h"

#define TROUBLE_AGAIN_MS 60000 /* after this process's own trouble */
#define OLDER_LOOK_MS 1000     /* whether the run that it replaces is over */
#define LONG_MS 10000          /* a wait that is worth a word */
#define GATHER_MS 250          /* other workers' loads end at the same time, and with them the run, perhaps: then all that is left is the last cut's */

struct direct {
    struct run *run;
    struct worker *w;
    struct world world;        /* its bq runs the run's jobs */
    struct fold *fold;
    struct bus_follow *follow;
    struct timer *timer;
    struct permits *permits;   /* NULL: it writes without */
    bool live;                 /* the log was read to its end once */
    bool broken;               /* it cannot be read any further: what is not cut belongs to the run's last cut */
    /* the permit for the next cut */
    struct permit_use *use;
    bool granted;
    int64_t use_number, use_us; /* of that cut; asked for at */
    int64_t wish_us;           /* not asked for before */
    bool gathering;            /* it has loads to write, and no cut before them; wish_us is set for that */
    /* a cut that was written and not read back */
    struct post *said;
    bool unread;
    int64_t said_number, said_us;
    /* the cut that stands */
    int64_t at;                /* of fold->cuts; -1 */
    struct consolidate *consolidate;
    struct post *outcome;
    int64_t outcome_us;        /* sent at */
    int64_t again_us;          /* not before; INT64_MAX: its outcome is in the log and will be read */
    int64_t since_us;          /* at work on it */
    int64_t next_us;           /* when it looks again */
    char trouble[192], text[512];
};

static void act(void *arg);

static void look_at(struct direct *d, int64_t us)
{
    d->next_us = i64_min(d->next_us, us);
}

static void poke(struct direct *d)
{
    timer_set(d->timer, 0);
}

static struct post *post_log(struct direct *d, struct log_msg *m, post_cb *cb)
{
    struct worker *w = d->w;
    struct buf bytes = BUF_INIT(LIMIT_MANIFEST);
    m->by = w->name;
    int rc = logmsg_encode(m, &bytes);
    assert(rc == 0);
    (void)rc;
    struct bus_out out = {.topic = w->results, .partition = d->run->record->log_partition, .key = d->run->id, .key_len = strlen(d->run->id),
                          .value = bytes.data, .value_len = bytes.len};
    struct post *post = post_send(w->posts, &out, false, cb, d);
    buf_free(&bytes);
    return post;
}

/* --- the log -------------------------------------------------------------------------------------------------------------------------------- */

static void drop_use(struct direct *d)
{
    permit_end(d->use, false);
    d->use = NULL;
    d->granted = false;
}

/* Nothing is written from here any more. A cut that stands is a coordinator's to end. */
static void give_up(struct direct *d, const struct error *err)
{
    struct log_ctx ctx = {.run = d->run->id, .worker = d->w->name};
    log_line(LOG_WARN, &ctx, "rows are written by the run's coordinators from now on: %s", err->text);
    d->broken = true;
    drop_use(d);
    worker_moved(d->w);
}

static void fold_message(struct direct *d, const struct bus_msg *m)
{
    struct log_msg msg;
    struct logmsg_memory *memory = NULL;
    struct error err = ERROR_INIT;
    if (logmsg_decode(m->value, m->value_len, &msg, &memory, &err) != 0) {
        if (err.kind == ERR_FATAL) /* what a later version decides by it is not known here */
            give_up(d, &err);
        return;
    }
    if (fold_apply(d->fold, &msg, m->offset, m->time_ms, &err) != 0)
        give_up(d, &err); /* coordinators end the run for it */
    if (msg.type == LOGM_CUT && strcmp(msg.shard, d->w->incarnation) == 0 && msg.cut == d->said_number)
        d->unread = false;
    logmsg_free(memory);
}

static void on_message(void *arg, const struct bus_msg *m)
{
    struct direct *d = arg;
    size_t len = strlen(d->run->id);
    if (d->broken || m->key_len != len || memcmp(m->key, d->run->id, len) != 0 || m->value == NULL)
        return;
    fold_message(d, m);
    if (d->live)
        poke(d);
}

static void on_end(void *arg, int64_t next)
{
    struct direct *d = arg;
    (void)next;
    d->live = true;
    poke(d);
}

static void on_failed(void *arg, const struct error *err)
{
    struct direct *d = arg;
    bus_follow_stop(d->follow);
    d->follow = NULL;
    if (!d->broken)
        give_up(d, err);
}

/* --- the cut that stands -------------------------------------------------------------------------------------------------------------------- */

static void stop(struct direct *d, bool settled)
{
    post_forget(d->outcome);
    d->outcome = NULL;
    consolidate_stop(d->consolidate, settled);
    d->consolidate = NULL;
}

static void cannot(struct direct *d, const struct error *err)
{
    struct log_ctx ctx = {.run = d->run->id, .worker = d->w->name};
    log_line(LOG_WARN, &ctx, "an increment cannot be written from here, and is left to the run's coordinators: %s", err->text);
    snprintf(d->trouble, sizeof(d->trouble), "%.180s", err->text);
    d->again_us = loop_now_us(d->w->w.loop) + TROUBLE_AGAIN_MS * US_PER_MS;
    stop(d, false);
    poke(d);
}

static void on_said_outcome(void *arg, const struct error *err)
{
    struct direct *d = arg;
    d->outcome = NULL;
    if (err != NULL) {
        cannot(d, err);
        return;
    }
    stop(d, true);
    d->again_us = INT64_MAX;
    d->trouble[0] = '\0';
    poke(d);
}

static void on_consolidated(void *arg, struct log_msg *outcome, const struct error *err)
{
    struct direct *d = arg;
    if (outcome == NULL) {
        cannot(d, err);
        return;
    }
    d->outcome = post_log(d, outcome, on_said_outcome);
    d->outcome_us = loop_now_us(d->w->w.loop);
    poke(d);
}

static int own_shard(const struct direct *d)
{
    return fold_find_shard(d->fold, d->w->incarnation);
}

static const struct fold_cut *own_cut(const struct direct *d)
{
    int shard = own_shard(d);
    const struct fold_cut *c = shard < 0 ? NULL : fold_open_cut(d->fold);
    while (c != NULL && c->shard != shard)
        c = fold_next_open(d->fold, c);
    return c;
}

/* The permit that was asked for is this cut's, unless others took it, so to speak, before it was read. */
static struct permit_use *take_use(struct direct *d, const struct fold_cut *cut)
{
    struct permit_use *use = d->use_number == cut->number ? d->use : NULL;
    if (use == NULL)
        return NULL;
    d->use = NULL;
    d->granted = false;
    return use;
}

/* Of a message in the log. */
static bool in_time(struct direct *d, int64_t sent_us)
{
    int64_t until_us = sent_us + WAIT_LOG_BACK * US_PER_MS;
    look_at(d, until_us > loop_now_us(d->w->w.loop) ? until_us : INT64_MAX);
    return until_us > loop_now_us(d->w->w.loop);
}

static void work_on(struct direct *d, const struct fold_cut *cut)
{
    int64_t at = cut ? cut - d->fold->cuts : -1, now = loop_now_us(d->w->w.loop);
    if (at != d->at) { /* settled by whomever, or a new one */
        stop(d, true);
        d->at = at;
        d->again_us = 0;
        d->trouble[0] = '\0';
        worker_moved(d->w);
    }
    if (d->outcome != NULL && d->consolidate != NULL && !in_time(d, d->outcome_us)) {
        consolidate_stop(d->consolidate, true); /* its job is over: the permit is not kept by a worker that is cut off from the log */
        d->consolidate = NULL;
    }
    if (cut == NULL || d->consolidate != NULL || d->outcome != NULL || d->again_us == INT64_MAX)
        return;
    if (d->again_us > now) {
        look_at(d, d->again_us);
        return;
    }
    if (!fold_cut_ready(d->fold, cut)) /* others come first, which may wait for this permit */
        return;
    struct consolidate_options o = {.world = &d->world, .of = {.record = d->run->record, .fold = d->fold, .cut = cut}, .use = take_use(d, cut)};
    d->since_us = now;
    d->consolidate = consolidate_start(&o, on_consolidated, d);
}

/* --- the next one --------------------------------------------------------------------------------------------------------------------------- */

static bool may_cut(const struct direct *d)
{
    const struct fold *f = d->fold;
    int shard = own_shard(d);
    return (f->phase == RUN_WORKING || f->phase == RUN_PUBLISHING) && shard >= 0 && f->shards[shard].uncut > 0 && !d->run->fatal;
}

struct named { const char *v[LIMIT_PARAM_LOADS]; size_t count; };

static bool name_load(void *arg, const struct fold_load *l)
{
    struct named *n = arg;
    n->v[n->count++] = l->id;
    return n->count < ARRAY_LEN(n->v);
}

static void on_said_cut(void *arg, const struct error *err)
{
    struct direct *d = arg;
    d->said = NULL;
    if (err != NULL)
        give_up(d, err);
}

static void say_cut(struct direct *d)
{
    AUTO(free_ptr) struct named *named = xcalloc(1, sizeof(*named));
    int shard = own_shard(d);
    fold_uncut_loads(d->fold, shard, name_load, named);
    struct log_msg m = {.type = LOGM_CUT, .cut = d->fold->shards[shard].cuts, .shard = d->w->incarnation, .loads = named->v, .load_count = named->count};
    d->said_number = m.cut;
    d->said_us = loop_now_us(d->w->w.loop);
    d->unread = true;
    d->said = post_log(d, &m, on_said_cut);
}

static void on_grant(void *arg, const struct permit_grant *grant, const struct error *err)
{
    struct direct *d = arg;
    d->granted = grant != NULL;
    if (grant == NULL) {
        d->use = NULL;
        d->wish_us = loop_now_us(d->w->w.loop) + TROUBLE_AGAIN_MS * US_PER_MS;
        snprintf(d->trouble, sizeof(d->trouble), "%.180s", err->text);
    }
    poke(d);
}

static void wish(struct direct *d)
{
    char base[JOB_BASE_SIZE], purpose[CUT_PURPOSE_SIZE];
    int64_t now = loop_now_us(d->w->w.loop), number = d->fold->shards[own_shard(d)].cuts;
    if (d->wish_us > now) {
        look_at(d, d->wish_us);
        return;
    }
    job_base_shard_cut(base, d->run->id, d->w->incarnation, number);
    cut_purpose(purpose, d->run->record, d->w->incarnation, number);
    d->gathering = false;
    d->use_number = number;
    d->use_us = now;
    d->use = permits_want(d->permits, base, purpose, on_grant, d);
}

/* While a cut is at work nothing is lost by asking for the next one's permit; else it might come for nothing. */
static void gather(struct direct *d, const struct fold_cut *cut)
{
    if (cut == NULL && !d->gathering)
        d->wish_us = i64_max(d->wish_us, loop_now_us(d->w->w.loop) + GATHER_MS * US_PER_MS);
    d->gathering = true;
    wish(d);
}

/*
 * One of its own cuts is at work at a time. The permit for the next one is asked for early, so it may come early:
 *   1. The job of cut 4 is over, its outcome not yet read here: the permit for cut 5 waits that little while.
 *   2. The job of cut 4 has lost its permit, and asks for another one, of the same process, behind cut 5's wish: cut 5 gives its own back, or both would
 *      wait for ever.
 */
static void go_on(struct direct *d, const struct fold_cut *cut)
{
    bool idle = cut == NULL && !d->unread;
    if (d->granted && ((cut != NULL && d->again_us != INT64_MAX) || (idle && !may_cut(d)))) {
        drop_use(d);
        d->wish_us = loop_now_us(d->w->w.loop) + (cut != NULL ? US_PER_S : 0);
    }
    if (d->use != NULL && !d->granted && !d->unread && !may_cut(d))
        drop_use(d);
    if (d->unread && d->granted && !in_time(d, d->said_us))
        drop_use(d); /* others have the table; a cut that stands after all gets another one */
    d->gathering = d->gathering && may_cut(d);
    if (d->unread || !may_cut(d))
        return;
    if (catalog_older_open(runs_catalog(d->w->known), d->run->record))
        look_at(d, loop_now_us(d->w->w.loop) + OLDER_LOOK_MS * US_PER_MS);
    else if (idle && (d->granted || d->permits == NULL))
        say_cut(d);
    else if (d->use == NULL && d->permits != NULL && (cut == NULL || d->consolidate != NULL))
        gather(d, cut);
}

static void act(void *arg)
{
    struct direct *d = arg;
    assert(d->live);
    if (d->broken)
        return;
    const struct fold_cut *cut = own_cut(d);
    d->next_us = INT64_MAX;
    work_on(d, cut);
    go_on(d, cut);
    if (d->next_us != INT64_MAX)
        timer_set(d->timer, i64_max(d->next_us - loop_now_us(d->w->w.loop), 0));
    worker_moved(d->w);
}

/* --- life ----------------------------------------------------------------------------------------------------------------------------------- */

struct direct *direct_new(struct run *run)
{
    static const struct bus_follow_events events = {.message = on_message, .at_end = on_end, .failed = on_failed};
    struct worker *w = run->worker;
    if (run->record->via != VIA_DIRECT || run->bq == NULL)
        return NULL;
    struct direct *d = xcalloc(1, sizeof(*d));
    *d = (struct direct){.run = run, .w = w, .world = w->w, .fold = fold_new(&run->record->finish), .at = -1, .said_number = -1};
    d->world.bq = run->bq;
    d->permits = consolidate_permits(&d->world, run->record);
    d->timer = timer_new(w->w.loop, act, d);
    struct error err = ERROR_INIT;
    d->follow = bus_follow(w->w.bus, w->results, run->record->log_partition, run->record->log_offset, &events, d, &err);
    if (d->follow == NULL)
        give_up(d, &err);
    return d;
}

void direct_free(struct direct *d)
{
    if (d == NULL)
        return;
    if (d->follow != NULL)
        bus_follow_stop(d->follow);
    stop(d, d->run->over);
    post_forget(d->said);
    drop_use(d);
    timer_free(d->timer);
    fold_free(d->fold);
    free(d);
}

bool direct_idle(const struct direct *d)
{
    if (d == NULL || d->broken)
        return true;
    const struct fold *f = d->fold;
    int shard = own_shard(d);
    bool open = f->phase == RUN_WORKING || f->phase == RUN_PUBLISHING;
    if (!d->live || (open && d->run->loads_told > (shard < 0 ? 0 : f->shards[shard].loads)))
        return false;
    return !d->unread && own_cut(d) == NULL && !may_cut(d);
}

const char *direct_waits_for(struct direct *d)
{
    if (d == NULL || d->broken)
        return "";
    int64_t since_us = d->consolidate != NULL ? d->since_us : d->use != NULL && !d->granted ? d->use_us : INT64_MAX;
    if (d->trouble[0] || loop_now_us(d->w->w.loop) - since_us < LONG_MS * US_PER_MS)
        return d->trouble;
    if (d->consolidate != NULL)
        return consolidate_state(d->consolidate, d->text, sizeof(d->text));
    snprintf(d->text, sizeof(d->text), "%.400s", permits_waits_for(d->permits));
    return d->text;
}
