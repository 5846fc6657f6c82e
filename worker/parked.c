#include "worker/parked.h"

#include "worker/batches_end.h"
#include "worker/intake.h"
#include "worker/runs.h"

struct parked {
    struct worker *w;
    struct item_list fresh;   /* came after the question was asked */
    struct item_list asked;   /* wait until the catalog has reached target */
    int64_t target;           /* -1: the answer is not there yet */
    int64_t at;               /* where the catalog is */
    struct batches_end *end;  /* asked for */
    struct timer *soon;       /* one question for all that came in a turn */
};

static void ask(void *arg);

struct parked *parked_new(struct worker *w)
{
    struct parked *p = xcalloc(1, sizeof(*p));
    p->w = w;
    p->target = -1;
    TAILQ_INIT(&p->fresh);
    TAILQ_INIT(&p->asked);
    p->soon = timer_new(w->w.loop, ask, p);
    return p;
}

void parked_free(struct parked *p)
{
    if (p == NULL)
        return;
    struct item *item;
    while ((item = TAILQ_FIRST(&p->fresh)) != NULL || (item = TAILQ_FIRST(&p->asked)) != NULL)
        item_abandon(item);
    batches_end_forget(p->end);
    timer_free(p->soon);
    free(p);
}

static void resolve_one(struct parked *p, struct item *item, int64_t *unknown)
{
    enum run_answer answer;
    struct run *run = runs_find(p->w->known, item->text, item->text_len, &answer);
    item_enlist(item, NULL);
    if (answer != RUN_OPEN) {
        struct log_ctx ctx = {.run = item->text, .worker = p->w->name, .item1 = LOG_ITEM(item->index)};
        if (answer == RUN_UNKNOWN && (*unknown)++ == 0) /* there may be many */
            log_line(LOG_WARN, &ctx, "the item is dropped, and others of such runs: no run of this id is known");
        metric_add(p->w->w.metrics, METRIC_ITEMS_SKIPPED, 1);
        item_finish(item);
        return;
    }
    struct item *twin = itemmap_find(&run->items, item->index);
    if (twin == NULL) {
        item_set_failure(item, NULL, NULL, 0);
        runs_take(run, item);
        return;
    }
    for (const struct delivery *d = &item->first; d != NULL; d = d->next)
        item_delivered(twin, d->partition, d->offset);
    item_abandon(item);
}

static void check(struct parked *p)
{
    if (p->target < 0 || p->at < p->target)
        return;
    p->target = -1;
    struct item *item;
    int64_t unknown = 0;
    while ((item = TAILQ_FIRST(&p->asked)) != NULL)
        resolve_one(p, item, &unknown);
    intake_room(p->w->intake); /* those of runs that are over are done as well */
    if (!TAILQ_EMPTY(&p->fresh))
        ask(p);
    worker_moved(p->w);
}

static void answered(void *arg, int64_t next)
{
    struct parked *p = arg;
    p->end = NULL;
    p->target = next;
    check(p);
}

static void ask(void *arg)
{
    struct parked *p = arg;
    if (p->end != NULL || p->target >= 0)
        return;
    struct item *item;
    while ((item = TAILQ_FIRST(&p->fresh)) != NULL)
        item_enlist(item, &p->asked);
    if (TAILQ_EMPTY(&p->asked))
        return;
    p->end = batches_end_ask(p->w, answered, p);
}

void parked_add(struct parked *p, struct item *item, const char *run, size_t run_len)
{
    item_set_failure(item, NULL, run, run_len);
    item_enlist(item, &p->fresh);
    if (p->end == NULL && p->target < 0 && !timer_is_set(p->soon))
        timer_set(p->soon, 0);
}

void parked_catalog_at(struct parked *p, int64_t next)
{
    p->at = next;
    check(p);
}
