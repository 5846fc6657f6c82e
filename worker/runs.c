#include "worker/runs.h"

#include "worker/direct.h"
#include "worker/dispatch.h"
#include "worker/fatal.h"
#include "worker/intake.h"
#include "worker/manifests.h"
#include "worker/pool.h"
#include "worker/post.h"
#include "worker/staging.h"

struct runs {
    struct worker *w;
    struct catalog *catalog;
    struct bus_follow *follow;
    bool caught_up;          /* `batches` was read to its end once */
    int64_t at;              /* it was read up to there */
    uint64_t version;
    char waits[160];
};

/* --- one run ----------------------------------------------------------------------------------------------------------------------- */

static void make_rowcheck(struct run *run)
{
    const struct record *r = run->record;
    if (r->mode != WRITE_NONE && (r->schema == NULL || run->worker->w.bq == NULL))
        runs_fatal(run, r->schema == NULL ? "the run's record has no schema" : "this worker has no access to BigQuery");
    if (r->schema == NULL)
        return;
    struct rowcheck_options options = {.required = (const char *const *)r->keys, .required_count = r->null_keys == NULL_KEYS_REFUSE ? r->key_count : 0,
                                       .partition_column = r->partition_column[0] ? r->partition_column : NULL};
    struct error err = ERROR_INIT;
    run->check = rowcheck_new(r->schema, &options, &err);
    if (run->check == NULL)
        runs_fatal(run, "%s", err.text);
}

static struct run *run_new(struct runs *rs, const struct catalog_run *known)
{
    struct worker *w = rs->w;
    struct run *run = xcalloc(1, sizeof(*run));
    run->worker = w;
    snprintf(run->id, sizeof(run->id), "%s", known->run);
    run->known = known;
    run->record = known->record;
    TAILQ_INIT(&run->waiting);
    TAILQ_INIT(&run->suspects);
    TAILQ_INIT(&run->solo);
    TAILQ_INIT(&run->large);
    TAILQ_INIT(&run->streams);
    TAILQ_INIT(&run->held);
    run->def = handler_defs_find(w->o.handlers, known->record->handler);
    if (run->def == NULL) {
        struct log_ctx ctx = {.run = run->id, .worker = w->name, .handler = known->record->handler};
        log_line(LOG_WARN, &ctx, "this worker does not offer handler %s: the run's items wait here", known->record->handler);
    }
    TAILQ_INSERT_TAIL(&w->runs, run, link);
    run->bq = w->w.bq;
    if (run->bq != NULL && run->record->project[0] && strcmp(bq_project(run->bq), run->record->project) != 0)
        run->bq = run->own_bq = bq_new_for(run->bq, run->record->project);
    run->pool = pool_new(run);
    run->staging = staging_new(run);
    run->manifests = manifests_new(run);
    run->direct = direct_new(run);
    make_rowcheck(run);
    return run;
}

/* Handlers, loads and messages of the run end here; none of its items is with anybody any more. */
static void quiet(struct run *run)
{
    pool_free(run->pool);
    staging_free(run->staging);
    manifests_free(run->manifests);
    run->pool = NULL;
    run->staging = NULL;
    run->manifests = NULL;
    dispatch_forget(run);
}

/* done: their offsets are (the run is over); otherwise they are just forgotten. */
static void run_free(struct runs *rs, struct run *run, bool done)
{
    struct worker *w = rs->w;
    rs->version++;
    quiet(run);
    direct_free(run->direct);
    fatal_free(run->telling);
    struct item *item, *next;
    for (item = TAILQ_FIRST(&w->items); item != NULL && run->items.count > 0; item = next) {
        next = TAILQ_NEXT(item, all);
        if (item->run != run)
            continue;
        post_forget(item->dead);
        if (done)
            item_finish(item);
        else
            item_abandon(item);
    }
    assert(run->items.count == 0 && run->running == 0);
    TAILQ_REMOVE(&w->runs, run, link);
    itemmap_free(&run->items);
    rowcheck_free(run->check);
    bq_free(run->own_bq);
    free(run);
}

static void run_over(struct runs *rs, struct run *run)
{
    struct log_ctx ctx = {.run = run->id, .worker = rs->w->name};
    log_line(run->items.count > 0 ? LOG_INFO : LOG_DEBUG, &ctx, "the run is over; %zu items of it were here", run->items.count);
    run_free(rs, run, true);
    intake_room(rs->w->intake);
    dispatch_kick(rs->w->dispatch);
}

void runs_take(struct run *run, struct item *item)
{
    item->run = run;
    itemmap_add(&run->items, item);
    if (run->fatal) {
        item_move(item, ITEM_HELD);
        item_enlist(item, &run->held);
    } else {
        dispatch_add(item);
    }
}

/* --- a run that cannot go on ------------------------------------------------------------------------------------------------------- */

void runs_fatal(struct run *run, const char *fmt, ...)
{
    if (run->fatal)
        return;
    struct worker *w = run->worker;
    run->fatal = true;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(run->fatal_text, sizeof(run->fatal_text), fmt, ap);
    va_end(ap);
    run->telling = fatal_new(run, w->known ? w->known->at : 0);
    dispatch_kick(w->dispatch);
}

/* It is cancelled, or ended otherwise, and its end is not in `batches` only because the outcome of a statement is waited for. */
static void stop_over(struct run *run)
{
    if (!run->known->over || run->fatal)
        return;
    run->fatal = true; /* which needs no telling */
    snprintf(run->fatal_text, sizeof(run->fatal_text), "it was ended, and the outcome of its last statement is waited for");
}

void runs_stop_fatal(struct runs *rs)
{
    struct run *run;
    TAILQ_FOREACH(run, &rs->w->runs, link) {
        if (!run->fatal || run->pool == NULL)
            continue;
        quiet(run);
        struct item *item;
        TAILQ_FOREACH(item, &rs->w->items, all) {
            if (item->run != run || item->state == ITEM_HELD) /* held: came after the run had stopped and before this turn */
                continue;
            post_forget(item->dead);
            item->dead = NULL;
            item_drop_rows(item);
            item_move(item, ITEM_HELD);
            item_enlist(item, &run->held);
        }
    }
}

/* --- the catalog -------------------------------------------------------------------------------------------------------------------- */

static struct run *active(struct runs *rs, const struct catalog_run *known)
{
    struct run *run;
    TAILQ_FOREACH(run, &rs->w->runs, link)
        if (run->known == known)
            return run;
    return NULL;
}

struct run *runs_find(struct runs *rs, const char *id, size_t len, enum run_answer *answer)
{
    const struct catalog_run *known = rs->caught_up ? catalog_find_n(rs->catalog, id, len) : NULL;
    *answer = known == NULL || known->record == NULL ? RUN_UNKNOWN : known->standing == STANDING_OPEN ? RUN_OPEN : RUN_OVER;
    if (known != NULL && known->standing != STANDING_OPEN)
        *answer = RUN_OVER;
    if (*answer != RUN_OPEN)
        return NULL;
    struct run *run = active(rs, known);
    if (run == NULL) {
        run = run_new(rs, known);
        stop_over(run);
    }
    return run;
}

struct catalog *runs_catalog(const struct runs *rs)
{
    return rs->catalog;
}

uint64_t runs_version(const struct runs *rs)
{
    return rs->version;
}

/* A record was removed, whose run may be one of ours: nothing of it may be looked at. */
static void sweep(struct runs *rs)
{
    struct run *run, *next;
    for (run = TAILQ_FIRST(&rs->w->runs); run != NULL; run = next) {
        next = TAILQ_NEXT(run, link);
        if (catalog_find(rs->catalog, run->id) != run->known)
            run_over(rs, run);
    }
}

static void read_to(struct runs *rs, int64_t next)
{
    struct run *run;
    rs->at = next;
    if (!rs->caught_up)
        return;
    intake_catalog_at(rs->w->intake, next);
    TAILQ_FOREACH(run, &rs->w->runs, link)
        if (run->telling != NULL)
            fatal_catalog_at(run->telling, next);
}

static void on_message(void *arg, const struct bus_msg *m)
{
    struct runs *rs = arg;
    const struct catalog_run *known = catalog_apply(rs->catalog, m->key, m->key_len, m->value, m->value_len, m->offset);
    if (known == NULL) {
        sweep(rs);
    } else {
        struct run *run = active(rs, known);
        if (run != NULL && known->standing != STANDING_OPEN) {
            run->over = true;
            run_over(rs, run);
        } else if (run != NULL) {
            stop_over(run);
            dispatch_kick(rs->w->dispatch);
        }
    }
    read_to(rs, m->offset + 1);
}

static void on_end(void *arg, int64_t next)
{
    struct runs *rs = arg;
    rs->caught_up = true;
    read_to(rs, next);
}

static void on_failed(void *arg, const struct error *err)
{
    struct runs *rs = arg;
    bus_follow_stop(rs->follow);
    rs->follow = NULL;
    worker_fail(rs->w, err);
}

struct runs *runs_new(struct worker *w, struct error *err)
{
    static const struct bus_follow_events events = {.message = on_message, .at_end = on_end, .failed = on_failed};
    struct runs *rs = xcalloc(1, sizeof(*rs));
    rs->w = w;
    rs->catalog = catalog_new();
    char topic[TOPIC_SIZE];
    topic_batches(topic, w->prefix);
    rs->follow = bus_follow(w->w.bus, topic, 0, BUS_BEGIN, &events, rs, err);
    if (rs->follow == NULL) {
        catalog_free(rs->catalog);
        free(rs);
        return NULL;
    }
    return rs;
}

void runs_free(struct runs *rs)
{
    if (rs == NULL)
        return;
    struct run *run;
    while ((run = TAILQ_FIRST(&rs->w->runs)) != NULL)
        run_free(rs, run, false);
    if (rs->follow != NULL)
        bus_follow_stop(rs->follow);
    catalog_free(rs->catalog);
    free(rs);
}

const char *runs_waits_for(struct runs *rs)
{
    rs->waits[0] = '\0';
    const struct run *run;
    TAILQ_FOREACH(run, &rs->w->runs, link) {
        if (run->items.count == 0)
            continue;
        if (run->fatal)
            snprintf(rs->waits, sizeof(rs->waits), "the end of run %.40s, which stopped: %.80s", run->id, run->fatal_text);
        else if (run->def == NULL)
            snprintf(rs->waits, sizeof(rs->waits), "a worker that offers handler %.64s (run %.40s)", run->record->handler, run->id);
        else if (run->known->paused)
            snprintf(rs->waits, sizeof(rs->waits), "run %.40s to be resumed", run->id);
    }
    return rs->waits;
}
