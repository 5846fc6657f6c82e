#include "common/bq/permits_internal.h"

#include "common/base/log.h"
#include "common/base/units.h"

void permits_wait(struct permits *p, int64_t ms)
{
    p->step = WAIT;
    timer_set(p->timer, ms * US_PER_MS);
}

int64_t permits_look_ms(const struct permits *p)
{
    const struct permit_use *oldest = TAILQ_FIRST(&p->wishes);
    int64_t waited_ms = oldest ? (loop_now_us(p->loop) - oldest->since_us) / US_PER_MS : 0, usual_ms = i64_min(p->typical_ms / LOOKS, LOOK_MOST_MS);
    return i64_max(waited_ms > p->typical_ms ? (int64_t)((double)usual_ms / (double)waited_ms * (double)p->typical_ms / 2) : usual_ms, LOOK_LEAST_MS);
}

/* Whoever has waited longer looks more often, and so is likelier to be the first who sees a free row. */
void permits_wait_turn(struct permits *p)
{
    permits_wait(p, (int64_t)((double)permits_look_ms(p) * (0.5 + rnd_real(p->o.rnd))));
}

/* Nobody here gets a permit: each is told why, and may end others' uses, or free the permits. */
void permits_refuse_all(struct permits *p, const struct error *err)
{
    struct error copy = *err;
    bool gone = false;
    struct permit_use *u;
    assert(p->gone == NULL);
    TAILQ_CONCAT(&p->refused, &p->wishes, link);
    TAILQ_FOREACH(u, &p->refused, link)
        u->list = &p->refused;
    p->gone = &gone;
    p->step = REST;
    permits_next(p);
    while (!gone && (u = TAILQ_FIRST(&p->refused)) != NULL) {
        permit_cb *cb = u->cb;
        void *arg = u->arg;
        permit_end(u, false);
        cb(arg, NULL, &copy);
    }
    if (!gone)
        p->gone = NULL;
}

/* Trouble of ours, or of the service: again after a while; or it will not pass. */
void permits_troubled(struct permits *p, const struct error *err)
{
    static const struct retry_policy patience = {.base_ms = 2000, .cap_ms = 60000};
    if (err->kind != ERR_RETRY && err->kind != ERR_QUOTA) {
        permits_refuse_all(p, err);
        return;
    }
    snprintf(p->trouble, sizeof(p->trouble), "%.250s", err->text);
    permits_wait(p, i64_max(retry_delay(&patience, ++p->failures, 0, err, rnd_real(p->o.rnd)), LOOK_LEAST_MS));
}

/* --- one permit statement ------------------------------------------------------------------------------------------------------------------- */

static void on_inserted(void *arg, const char *job_id)
{
    (void)job_id;
    ((struct permits *)arg)->inserted = true;
}

void permits_start(struct permits *p, enum permit_statement kind, const struct permit_change *change, const char *word, const char *token, int64_t seq,
                   int first_try, bq_job_cb *cb)
{
    char base[PERMIT_BASE_SIZE], digest[65];
    permits_job_base(base, word, &p->o.table, change->slot, token, seq);
    doc_free(p->configuration);
    p->configuration = permits_statement(kind, &p->o.table, change);
    AUTO(free_ptr) char *text = doc_text(p->configuration);
    sha256_hex(text, strlen(text), digest);
    memcpy(p->digest, digest, 40);
    struct bq_label label = {"bqfleet_kind", "permit"};
    struct bq_job_spec spec = {.id_base = base, .location = p->o.location, .configuration = p->configuration, .labels = &label, .label_count = 1,
                               .digest = p->digest, .first_try = first_try, .max_tries = first_try + LIMIT_TRIES,
                               .target = &p->o.table, .on_inserted = on_inserted};
    p->inserted = false;
    p->job = bq_job_start(p->o.bq, &spec, cb, p);
}

/* --- what is to be done now ------------------------------------------------------------------------------------------------------------------- */

/* From REST, with nothing under way. */
void permits_next(struct permits *p)
{
    bool wished = !TAILQ_EMPTY(&p->wishes);
    assert(p->step == REST && p->used == NULL);
    if (p->job != NULL) /* a renewal: its end comes here again */
        return;
    if (p->held && wished && p->ahead == TAILQ_FIRST(&p->wishes) && p->ahead_named && !p->unheard)
        permits_give(p, p->ahead);
    else if (p->held && wished && !permits_over(p))
        permits_name(p);
    else if (p->held)
        permits_release(p);
    else if (wished)
        permits_wait(p, 0);
}

struct permit_use *permits_want(struct permits *p, const char *job_base, const char *purpose, permit_cb *cb, void *arg)
{
    struct permit_use *u = xcalloc(1, sizeof(*u));
    *u = (struct permit_use){.p = p, .purpose = xstrdup(purpose), .cb = cb, .arg = arg, .since_us = loop_now_us(p->loop), .list = &p->wishes};
    u->job = xasprintf("%s/%s/%s", bq_project(p->o.bq), p->o.location ? p->o.location : "", job_base);
    TAILQ_INSERT_TAIL(&p->wishes, u, link);
    if (p->step == REST && p->job == NULL)
        permits_wait(p, 0);
    permits_name_ahead(p);
    return u;
}

void permit_end(struct permit_use *u, bool fenced)
{
    if (u == NULL)
        return;
    struct permits *p = u->p;
    if (u->list != NULL)
        TAILQ_REMOVE(u->list, u, link);
    bool used = p->used == u;
    if (p->ahead == u)
        p->ahead = NULL;
    free(u->job);
    free(u->purpose);
    free(u);
    if (!used)
        return;
    p->used = NULL;
    p->step = REST;
    if (fenced && p->held)
        permits_lost(p);
    if (p->closing == CLOSED) /* whoever finds the job over has it now */
        p->held = false;
    timer_stop(p->renew);
    if (p->job == NULL)
        permits_wait(p, p->closing == CLOSED && !TAILQ_EMPTY(&p->wishes) ? LOOK_MOST_MS / 2 : 0); /* on a turn of its own; others have waited */
}

void permit_at_work(struct permit_use *u)
{
    if (u == NULL || u->p->used != u)
        return;
    u->p->at_work = true;
    permits_close(u->p);
}

void permit_leave(struct permit_use *u)
{
    if (u != NULL && u->p->used == u)
        u->p->held = false;
    permit_end(u, false);
}

const struct permit_grant *permit_hand_over(struct permit_use *u, permit_cb *cb, void *arg)
{
    u->cb = cb;
    u->arg = arg;
    return u->p->used == u ? &u->p->grant : NULL;
}

void permits_widen(struct permits *p, int slots)
{
    p->o.slots = (int)i64_min(i64_max(p->o.slots, slots), PERMIT_SLOTS_MAX);
}

struct permits *permits_new(const struct permits_options *o)
{
    struct permits *p = xcalloc(1, sizeof(*p));
    p->o = *o;
    p->o.holder = xstrdup(o->holder);
    p->o.location = o->location && o->location[0] ? xstrdup(o->location) : NULL;
    p->o.slots = (int)i64_min(i64_max(o->slots, 1), PERMIT_SLOTS_MAX);
    p->o.lease_ms = o->lease_ms > 0 ? o->lease_ms : WAIT_PERMIT_LEASE;
    p->o.quantum_ms = p->quantum_ms = o->quantum_ms > 0 ? o->quantum_ms : WAIT_PERMIT_QUANTUM;
    p->loop = bq_loop(o->bq);
    p->typical_ms = TYPICAL_MS;
    TAILQ_INIT(&p->wishes);
    TAILQ_INIT(&p->refused);
    p->timer = timer_new(p->loop, permits_on_timer, p);
    p->renew = timer_new(p->loop, permits_renew, p);
    return p;
}

void permits_free(struct permits *p)
{
    if (p == NULL)
        return;
    bq_call_cancel(p->call);
    bq_job_stop(p->job, false);
    permits_make_stop(p->make);
    bq_free(p->orphan_bq);
    timer_free(p->timer);
    timer_free(p->renew);
    doc_free(p->configuration);
    struct permit_use *u;
    TAILQ_CONCAT(&p->wishes, &p->refused, link);
    TAILQ_FOREACH(u, &p->wishes, link)
        u->list = &p->wishes;
    while ((u = TAILQ_FIRST(&p->wishes)) != NULL)
        permit_end(u, false);
    if (p->gone != NULL)
        *p->gone = true;
    if (p->used != NULL) {
        free(p->used->job);
        free(p->used->purpose);
        free(p->used);
    }
    free((char *)(uintptr_t)p->o.holder);
    free((char *)(uintptr_t)p->o.location);
    free(p);
}

bool permits_rest(const struct permits *p)
{
    return p->step == REST && p->job == NULL && !p->held && TAILQ_EMPTY(&p->wishes);
}

bool permits_given_back(const struct permits *p)
{
    return permits_rest(p) || (p->step == RELEASE && p->inserted && TAILQ_EMPTY(&p->wishes));
}

const char *permits_waits_for(struct permits *p)
{
    const struct permit_row *row = NULL;
    char until[32] = "";
    if (TAILQ_EMPTY(&p->wishes))
        return "";
    for (size_t i = 0; i < p->rows.count && row == NULL; i++)
        if (p->rows.v[i].slot < p->o.slots && p->rows.v[i].expires_us > 0)
            row = &p->rows.v[i];
    if (row != NULL)
        units_show_time(row->expires_us / US_PER_MS, until, sizeof(until));
    if (p->trouble[0])
        snprintf(p->text, sizeof(p->text), "a permit of %.100s: %.250s", p->o.table.table, p->trouble);
    else if (p->held && p->orphan[0])
        snprintf(p->text, sizeof(p->text), "the job %.200s, which was begun under a permit that ran out", p->orphan);
    else if (row != NULL && !p->held)
        snprintf(p->text, sizeof(p->text), "a permit of %.100s, held by %.100s until %s", p->o.table.table, row->closing ? "its last job" : row->holder, until);
    else
        snprintf(p->text, sizeof(p->text), "a permit of %.100s", p->o.table.table);
    return p->text;
}
