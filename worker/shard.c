#include "worker/shard.h"

#include "common/base/retry.h"
#include "common/base/units.h"
#include "common/bq/table.h"
#include "worker/runs.h"

#define RENEW_MS (EXPIRY_STAGING / 2)
#define RENEW_AGAIN_MS (INT64_C(3600) * 1000)
static const struct retry_policy policy = {.base_ms = 5000, .cap_ms = 60000};

enum shard_state { SHARD_NONE, SHARD_CREATING, SHARD_WAITING, SHARD_READY };
struct shard {
    struct run *run;
    struct worker *w;
    enum shard_state state;
    struct bq_ref ref;
    struct bq_call *call;
    struct timer *timer;     /* waiting: the next attempt; ready: the renewal */
    int failures;
    void (*changed)(void *);
    void *arg;
    char trouble[160];
    int64_t made_ms;         /* wall clock, when it was ready */
    struct bq *bq, *own_bq;  /* of a leaver */
    LIST_ENTRY(shard) link;  /* worker->leavers */
};

static void set_state(struct shard *s, enum shard_state to)
{
    static const unsigned legal[] = {[SHARD_NONE] = 1u << SHARD_CREATING, [SHARD_CREATING] = 1u << SHARD_WAITING | 1u << SHARD_READY,
                                     [SHARD_WAITING] = 1u << SHARD_CREATING, [SHARD_READY] = 0};
    if (!(legal[s->state] >> to & 1))
        abort();
    s->state = to;
}

static void renewed(void *arg, const struct bq_answer *a)
{
    struct shard *s = arg;
    s->call = NULL;
    if (a->err != NULL)
        log_warn("staging table %s could not be kept for longer, and is tried again in an hour: %s", s->ref.table, a->err->text);
    timer_set(s->timer, (a->err ? RENEW_AGAIN_MS : RENEW_MS) * US_PER_MS);
}

/* --- when the run is over ----------------------------------------------------------------------------------------------------------------------- */

#define CLOCKS_MS 60000 /* by so much the clocks of a worker and of a coordinator may differ */

/*
 * Coordinators drop what there is when the end stands in `batches`. So a table that is made later, by a worker that was stopped in between or has only
 * now got its answer, is dropped by whoever made it, when it learns of the end:
 *   1. One that was there long before the end needs nothing.
 *   2. One that is being made may come into being at any moment: its answer is waited for.
 *   3. An adopted run's tables are its heir's; of a run that was closed without its log it is not known whether it is being written.
 */
static bool may_be_late(const struct shard *s)
{
    const doc *end = s->run->over ? s->run->known->end : NULL;
    const char *how = doc_str(end, "end", "unknown");
    if (s->state == SHARD_NONE || strcmp(how, "unknown") == 0 || strcmp(how, run_end_name(END_ADOPTED)) == 0)
        return false;
    return s->state != SHARD_READY || s->made_ms + CLOCKS_MS > doc_int(end, "time_ms", 0);
}

static void leave(struct shard *s)
{
    bq_call_cancel(s->call);
    timer_free(s->timer);
    bq_free(s->own_bq);
    free(s);
}

static void dropped(void *arg, const struct bq_answer *a)
{
    struct shard *s = arg;
    struct worker *w = s->w;
    s->call = NULL;
    if (a->err != NULL)
        log_warn("staging table %s was not dropped (it expires by itself): %s", s->ref.table, a->err->text);
    LIST_REMOVE(s, link);
    leave(s);
    worker_moved(w);
}

static void drop(struct shard *s)
{
    s->call = bq_table_delete(s->bq, &s->ref, dropped, s);
}

static void stay(struct shard *s)
{
    s->bq = s->run->bq;
    s->own_bq = s->run->own_bq;
    s->run->own_bq = NULL;
    s->run = NULL;
    timer_stop(s->timer);
    LIST_INSERT_HEAD(&s->w->leavers, s, link);
    if (s->state == SHARD_CREATING)
        return; /* its answer comes */
    bq_call_cancel(s->call);
    drop(s);
}

void shard_free(struct shard *s)
{
    if (may_be_late(s))
        stay(s);
    else
        leave(s);
}

void shards_forget(struct worker *w)
{
    struct shard *s;
    while ((s = LIST_FIRST(&w->leavers)) != NULL) {
        LIST_REMOVE(s, link);
        leave(s);
    }
}

/* --- making it -------------------------------------------------------------------------------------------------------------------------------------- */

static void created(void *arg, const struct bq_answer *a)
{
    struct shard *s = arg;
    s->call = NULL;
    if (s->run == NULL) { /* made or not, or only its answer is lost */
        drop(s);
        return;
    }
    /* Nobody else makes this name: a table that exists is our own request, whose answer was lost. */
    if (a->err == NULL || a->err->code == 409) {
        set_state(s, SHARD_READY);
        s->made_ms = loop_wall_ms(s->w->w.loop);
        s->trouble[0] = '\0';
        timer_set(s->timer, RENEW_MS * US_PER_MS);
        s->changed(s->arg);
        return;
    }
    set_state(s, SHARD_WAITING);
    if (a->err->kind != ERR_RETRY && a->err->kind != ERR_QUOTA) {
        runs_fatal(s->run, "staging table %s.%s.%s cannot be created: %s", s->ref.project, s->ref.dataset, s->ref.table, a->err->text);
        return;
    }
    struct error again = *a->err;
    again.kind = ERR_RETRY;
    int64_t delay = retry_delay(&policy, ++s->failures, 0, &again, rnd_real(s->w->w.rnd));
    char wait[64];
    snprintf(s->trouble, sizeof(s->trouble), "%.100s, next try in %.40s", a->err->text, units_show_ms(delay, wait, sizeof(wait)));
    log_warn("staging table %s: %s, next try in %s", s->ref.table, a->err->text, wait);
    timer_set(s->timer, delay * US_PER_MS);
}

/* What a view may name does not go away by itself. */
static bool expires(const struct shard *s)
{
    return s->run->record->via != VIA_WORKER_TABLES;
}

static void create(struct shard *s)
{
    set_state(s, SHARD_CREATING);
    AUTO(doc_free_auto) doc *schema = record_shard_schema(s->run->record);
    struct bq_label labels[STAGING_LABELS];
    record_staging_labels(s->run->record, labels);
    struct bq_table_new table = {.ref = &s->ref, .schema = schema, .expires_ms = expires(s) ? loop_wall_ms(s->w->w.loop) + EXPIRY_STAGING : 0, .labels = labels,
                                 .label_count = STAGING_LABELS, .description = "Rows of a bqfleet run on their way to its target; goes away by itself."};
    s->call = bq_table_create(s->run->bq, &table, created, s);
}

static void on_timer(void *arg)
{
    struct shard *s = arg;
    if (s->state == SHARD_WAITING)
        create(s);
    else if (s->state == SHARD_READY && expires(s))
        s->call = bq_table_expire(s->run->bq, &s->ref, loop_wall_ms(s->w->w.loop) + EXPIRY_STAGING, renewed, s);
}

struct shard *shard_new(struct run *run, void (*changed)(void *), void *arg)
{
    struct shard *s = xcalloc(1, sizeof(*s));
    s->run = run;
    s->w = run->worker;
    s->changed = changed;
    s->arg = arg;
    record_shard_ref(run->record, s->w->incarnation, &s->ref);
    s->timer = timer_new(s->w->w.loop, on_timer, s);
    return s;
}

bool shard_ready(const struct shard *s)
{
    return s->state == SHARD_READY;
}

bool shard_want(struct shard *s)
{
    if (s->state != SHARD_NONE)
        return false;
    create(s);
    return true;
}

bool shard_wanted(const struct shard *s)
{
    return s->state == SHARD_CREATING;
}

const struct bq_ref *shard_ref(const struct shard *s)
{
    return &s->ref;
}

const char *shard_waits_for(const struct shard *s)
{
    return s->trouble;
}
