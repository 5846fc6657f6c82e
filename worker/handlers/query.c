#include "common/base/units.h"
#include "worker/dispatch.h"
#include "worker/handlers/query_internal.h"
#include "worker/manifests.h"
#include "worker/pool.h"
#include "worker/runs.h"

/*
 * A user's SELECT over groups of items. There is one such handler for a run, and all groups of it are its own.
 *
 * Items wait with the dispatcher until a group can begin, so that they can still be given back: when a whole group waits; or, while no group is at work,
 * when the first has waited for `linger`. So whatever arrives while a statement runs shares the next one: what a statement reads besides its items it reads
 * once for all of them. A group that fails because of its data is halved until the culprit is alone.
 */
#define GROUP_EVERY_MS 500 /* between two statements of a run: BigQuery takes 25 in 10 s on one table */
#define ALONE_MOST 20      /* items that failed alone, and not one group ever got through: it is the statement */

struct query {
    struct handler h;
    struct worker *w;
    struct query_look *look;     /* NULL: it is done */
    struct query_plan plan;
    bool ready;
    struct group *open;          /* takes items; until the end of the dispatcher's turn */
    struct group_list queued, working;
    int64_t groups;              /* open, queued and working */
    int64_t working_count;
    struct timer *linger, *begin, *pace;
    bool due;                    /* the first item that waits has waited for long enough */
    int64_t next_us;             /* no statement before */
    bool landed;                 /* a group got through */
    int64_t failed_alone;
};

static struct query *query_of(struct handler *h)
{
    return (struct query *)h;
}

static int64_t most(const struct query *q)
{
    return i64_max(i64_min(q->w->o.parallel, LIMIT_GROUPS), 1);
}

static struct log_ctx ctx_of(const struct query *q, const struct group *g)
{
    return (struct log_ctx){.run = q->h.run->id, .worker = q->w->name, .handler = q->h.run->record->handler, .job = g->load ? g->load->id : NULL};
}

/* --- statements at work ---------------------------------------------------------------------------------------------------------------------- */

static void begin_queued(void *arg)
{
    struct query *q = arg;
    struct group *g;
    while (!q->h.run->fatal && (g = TAILQ_FIRST(&q->queued)) != NULL && q->working_count < most(q)) {
        int64_t now = loop_now_us(q->w->w.loop);
        if (now < q->next_us) {
            timer_set(q->pace, q->next_us - now);
            return;
        }
        q->next_us = now + GROUP_EVERY_MS * US_PER_MS;
        TAILQ_REMOVE(&q->queued, g, link);
        TAILQ_INSERT_TAIL(&q->working, g, link);
        q->working_count++;
        group_start(g);
    }
}

static void close_open(struct query *q)
{
    if (q->open == NULL)
        return;
    TAILQ_INSERT_TAIL(&q->queued, q->open, link);
    q->open = NULL;
}

/* The dispatcher has handed out what there was. */
static void on_begin(void *arg)
{
    struct query *q = arg;
    close_open(q);
    begin_queued(q);
}

/* --- what came of a group ---------------------------------------------------------------------------------------------------------------------- */

static void answer_all(struct group *g, const struct verdict *v)
{
    for (size_t i = 0; i < g->count; i++)
        dispatch_answer(g->items[i], v);
    g->count = 0;
}

static void landed(struct query *q, struct group *g, int64_t rows)
{
    struct log_ctx ctx = ctx_of(q, g);
    log_line(LOG_DEBUG, &ctx, "%" PRId64 " rows of %zu items came by a query", rows, g->count);
    q->landed = true;
    if (q->h.run->record->mode == WRITE_NONE || rows == 0) {
        struct verdict done = {.outcome = OUT_DONE};
        answer_all(g, &done);
        return;
    }
    metric_add(q->w->w.metrics, METRIC_LOADS, 1);
    metric_add(q->w->w.metrics, METRIC_ROWS, rows);
    struct verdict loaded = {.outcome = OUT_LOADED, .load = g->load};
    answer_all(g, &loaded);
    g->load->rows = rows;
    ranges_sort(&g->load->ranges);
    manifests_load(g->load);
}

static void on_group(void *arg, struct group *g, const struct group_end *end);

static void split(struct query *q, struct group *g)
{
    struct group *halves[2];
    for (int h = 0; h < 2; h++) {
        halves[h] = group_new(q->h.run, &q->plan, on_group, q);
        size_t from = h == 0 ? 0 : g->count / 2, to = h == 0 ? g->count / 2 : g->count;
        for (size_t i = from; i < to; i++)
            group_add(halves[h], g->items[i]);
    }
    g->count = 0;
    TAILQ_INSERT_HEAD(&q->queued, halves[1], link);
    TAILQ_INSERT_HEAD(&q->queued, halves[0], link);
    q->groups += 2;
}

/* Another attempt on the same data ends in the same error, so there is none; what took too long is tried again, alone. */
static void culprit(struct query *q, struct group *g, const struct group_end *end)
{
    struct item *item = g->items[0];
    struct verdict v = verdict_of(FROM_ROW, 0, end->reason, end->text, strlen(end->text));
    if (end->how == GROUP_DATA)
        v.outcome = OUT_FAILED;
    item->suspect = true;
    q->failed_alone++;
    answer_all(g, &v);
    if (!q->landed && q->failed_alone >= ALONE_MOST)
        runs_fatal(q->h.run, "the query of handler %.64s has failed for each of %d items alone, and for none it has not: %.300s", q->h.run->record->handler,
                   ALONE_MOST, end->text);
}

static void on_group(void *arg, struct group *g, const struct group_end *end)
{
    struct query *q = arg;
    struct log_ctx ctx = ctx_of(q, g);
    TAILQ_REMOVE(&q->working, g, link);
    q->working_count--;
    q->groups--;
    if (end->how == GROUP_FATAL) {
        runs_fatal(q->h.run, "the query of handler %.64s: %.400s", q->h.run->record->handler, end->text);
        dispatch_kick(q->w->dispatch);
    } else if (end->how == GROUP_LANDED) {
        landed(q, g, end->rows);
    } else if (g->count == 1) {
        culprit(q, g, end);
    } else {
        log_line(LOG_WARN, &ctx, "the query failed for a group of %zu items, which is split: %.400s", g->count, end->text);
        split(q, g);
    }
    group_free(g, false);
    begin_queued(q);
}

/* --- groups to be ------------------------------------------------------------------------------------------------------------------------------ */

static bool fits(const struct query *q, const struct group *g, const struct item *item)
{
    return !item->suspect && !item->solo && (int64_t)g->count < q->h.run->def->window && g->bytes + group_item_bytes(item) <= LIMIT_GROUP_BYTES;
}

/* Whether what waits is enough for a whole group. */
static bool is_whole(const struct query *q)
{
    const struct run *run = q->h.run;
    if (run->waiting_count >= run->def->window)
        return true;
    size_t bytes = 0;
    const struct item *item;
    TAILQ_FOREACH(item, &run->waiting, link) {
        bytes += item->key_len + item->payload_len;
        if (bytes >= LIMIT_GROUP_BYTES)
            return true;
    }
    return false;
}

static void on_linger(void *arg)
{
    struct query *q = arg;
    q->due = true;
    dispatch_kick(q->w->dispatch);
}

static bool query_room(struct handler *h, const struct item *item)
{
    struct query *q = query_of(h);
    if (!q->ready)
        return false;
    if (q->open != NULL && fits(q, q->open, item))
        return true;
    close_open(q);
    if (q->groups < most(q) && (item->suspect || item->solo || (q->due && q->groups == 0) || is_whole(q)))
        return true;
    q->due |= q->groups > 0; /* it shares the next one with whatever comes until then */
    if (!q->due && !timer_is_set(q->linger))
        timer_set(q->linger, q->w->o.linger_ms * US_PER_MS);
    return false;
}

static void query_start(struct handler *h, struct item *item)
{
    struct query *q = query_of(h);
    if (q->open == NULL) {
        q->open = group_new(h->run, &q->plan, on_group, q);
        q->groups++;
        q->due = false;
        timer_stop(q->linger);
        timer_set(q->begin, 0); /* once all that waits was offered */
    }
    group_add(q->open, item);
    if (item->suspect || item->solo)
        close_open(q);
}

/* --- life -------------------------------------------------------------------------------------------------------------------------------------- */

static void on_looked(void *arg, const struct error *err)
{
    struct query *q = arg;
    query_look_stop(q->look);
    q->look = NULL;
    if (err != NULL) {
        runs_fatal(q->h.run, "%s", err->text);
    } else {
        q->ready = true;
        pool_proved(&q->h);
    }
    dispatch_kick(q->w->dispatch);
}

static void query_resume(struct handler *h)
{
    struct group *g;
    h->blocked = false;
    TAILQ_FOREACH(g, &query_of(h)->working, link)
        group_resume(g);
}

static void free_groups(struct group_list *list, bool remote)
{
    struct group *g;
    while ((g = TAILQ_FIRST(list)) != NULL) {
        TAILQ_REMOVE(list, g, link);
        group_free(g, remote);
    }
}

/* Its jobs are of no use to anybody else: whoever gets the items runs them under ids of its own. */
static void query_close(struct handler *h, bool now)
{
    struct query *q = query_of(h);
    (void)now;
    close_open(q);
    free_groups(&q->queued, true);
    free_groups(&q->working, true);
    query_look_stop(q->look);
    query_plan_free(&q->plan);
    timer_free(q->linger);
    timer_free(q->begin);
    timer_free(q->pace);
    free(q);
}

static const char *query_waits_for(struct handler *h)
{
    struct query *q = query_of(h);
    struct group *g;
    if (q->look != NULL)
        return query_look_waits_for(q->look);
    TAILQ_FOREACH(g, &q->working, link) {
        const char *text = group_waits_for(g);
        if (text[0] != '\0')
            return text;
    }
    return "";
}

struct handler *handler_query(struct run *run, struct error *err)
{
    static const struct handler_ops ops = {.start = query_start, .room = query_room, .resume = query_resume, .close = query_close,
                                           .waits_for = query_waits_for};
    struct worker *w = run->worker;
    if (run->bq == NULL) {
        error_set(err, ERR_FATAL, 0, "a query needs BigQuery, to which this worker has no access");
        return NULL;
    }
    struct query *q = xcalloc(1, sizeof(*q));
    handler_init(&q->h, &ops, run, INT64_MAX);
    q->w = w;
    TAILQ_INIT(&q->queued);
    TAILQ_INIT(&q->working);
    q->linger = timer_new(w->w.loop, on_linger, q);
    q->begin = timer_new(w->w.loop, on_begin, q);
    q->pace = timer_new(w->w.loop, begin_queued, q);
    q->look = query_look_start(run, &q->plan, on_looked, q);
    return &q->h;
}
