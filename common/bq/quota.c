#include "common/bq/quota.h"

#include <sys/queue.h>

#include "common/base/log.h"
#include "common/base/units.h"

#define LONGEST_MS INT64_C(1800000)
#define JITTER_MS 5000     /* so that a fleet does not come back in one instant */
#define PROBE_MS INT64_C(120000) /* one that has gone to see and says nothing for so long: another one goes */
#define LOOK_MS 5000       /* how often the others look whether it is back */

struct parked {
    LIST_ENTRY(parked) link;
    enum work_class class;
    char *name;             /* of the table or project; "" */
    int64_t until_ms, width_ms; /* loop time; how long it was parked the last time */
    int64_t probing_ms;     /* since when one is on its way; -1: none */
    char text[256];
};
LIST_HEAD(parked_list, parked);

struct quotas {
    struct loop *loop;
    struct rnd *rnd;
    struct parked_list list;
    char text[512];
};

struct quotas *quotas_new(struct loop *loop, struct rnd *rnd)
{
    struct quotas *q = xcalloc(1, sizeof(*q));
    q->loop = loop;
    q->rnd = rnd;
    LIST_INIT(&q->list);
    return q;
}

static void forget(struct parked *p)
{
    LIST_REMOVE(p, link);
    free(p->name);
    free(p);
}

void quotas_free(struct quotas *q)
{
    if (q == NULL)
        return;
    while (!LIST_EMPTY(&q->list))
        forget(LIST_FIRST(&q->list));
    free(q);
}

static const char *name_in(const struct quota_claim *c, enum work_class class)
{
    if (class == WORK_LOADS_TABLE || class == WORK_DML_TABLE)
        return c->table ? c->table : "";
    return class == WORK_REQUESTS || c->project == NULL ? "" : c->project;
}

static bool is_of(const struct parked *p, const struct quota_claim *c)
{
    bool fits = p->class == WORK_REQUESTS || (c->load ? p->class == WORK_LOADS_TABLE || p->class == WORK_LOADS_PROJECT
                                                      : p->class == WORK_QUERIES || (p->class == WORK_DML_TABLE && c->table != NULL));
    return fits && strcmp(p->name, name_in(c, p->class)) == 0;
}

static int64_t wait_of(const struct quotas *q, const struct parked *p)
{
    int64_t now = loop_now_ms(q->loop);
    if (now < p->until_ms)
        return p->until_ms - now;
    return p->probing_ms >= 0 && now - p->probing_ms < PROBE_MS ? LOOK_MS : 0;
}

int64_t quotas_wait_ms(struct quotas *q, const struct quota_claim *c)
{
    int64_t wait = 0;
    struct parked *p;
    LIST_FOREACH(p, &q->list, link)
        if (is_of(p, c))
            wait = i64_max(wait, wait_of(q, p));
    LIST_FOREACH(p, &q->list, link)
        if (wait == 0 && is_of(p, c) && p->class != WORK_REQUESTS) /* of those it is the request that goes to see */
            p->probing_ms = loop_now_ms(q->loop);
    return wait;
}

/* The class that a refusal is about. A plain quotaExceeded is about the narrowest: a wider one will be met by others, and parks theirs, too. */
static enum work_class class_of(const struct quota_claim *c, const struct failure_row *row)
{
    enum work_class class = row ? row->parks : WORK_OF_JOB;
    if (class == WORK_REQUESTS || (c->load && class == WORK_LOADS_PROJECT) || (!c->load && class == WORK_QUERIES))
        return class;
    if (c->load)
        return WORK_LOADS_TABLE;
    return c->table != NULL ? WORK_DML_TABLE : WORK_QUERIES;
}

void quotas_park(struct quotas *q, const struct quota_claim *c, const struct failure_row *row, const char *text)
{
    enum work_class class = class_of(c, row);
    const char *name = name_in(c, class);
    int64_t now = loop_now_ms(q->loop), first = row && row->wait_ms > 0 ? row->wait_ms : INT64_C(600000);
    struct parked *p;
    LIST_FOREACH(p, &q->list, link)
        if (p->class == class && strcmp(p->name, name) == 0)
            break;
    if (p != NULL && now < p->until_ms) /* it was under way when the others were parked */
        return;
    if (p == NULL) {
        p = xcalloc(1, sizeof(*p));
        p->class = class;
        p->name = xstrdup(name);
        LIST_INSERT_HEAD(&q->list, p, link);
    }
    p->width_ms = p->width_ms == 0 ? first : i64_min(2 * p->width_ms, i64_max(LONGEST_MS, first));
    p->until_ms = now + p->width_ms + (int64_t)(rnd_real(q->rnd) * JITTER_MS);
    p->probing_ms = -1;
    snprintf(p->text, sizeof(p->text), "%.255s", text);
    char until[32];
    units_show_time(loop_wall_ms(q->loop) + p->until_ms - now, until, sizeof(until));
    log_warn("%s%s%s: parked until %s, other work goes on: %s", work_class_name(class), name[0] ? " " : "", name, until, text);
}

void quotas_passed(struct quotas *q, const struct quota_claim *c)
{
    struct parked *p, *next;
    for (p = LIST_FIRST(&q->list); p != NULL; p = next) {
        next = LIST_NEXT(p, link);
        if (p->class == WORK_REQUESTS || !is_of(p, c) || loop_now_ms(q->loop) < p->until_ms) /* what began before the refusal proves nothing */
            continue;
        log_info("%s%s%s: go on", work_class_name(p->class), p->name[0] ? " " : "", p->name);
        forget(p);
    }
}

static struct parked *requests(struct quotas *q)
{
    struct parked *p;
    LIST_FOREACH(p, &q->list, link)
        if (p->class == WORK_REQUESTS)
            return p;
    return NULL;
}

int64_t quotas_requests_wait_ms(struct quotas *q)
{
    struct parked *p = requests(q);
    int64_t wait = p ? wait_of(q, p) : 0;
    if (p != NULL && wait == 0)
        p->probing_ms = loop_now_ms(q->loop);
    return wait;
}

void quotas_requests_passed(struct quotas *q)
{
    struct parked *p = requests(q);
    if (p != NULL && loop_now_ms(q->loop) >= p->until_ms)
        forget(p);
}

const char *quotas_text(struct quotas *q, const struct quota_claim *c)
{
    const struct parked *p;
    char until[32];
    q->text[0] = '\0';
    LIST_FOREACH(p, &q->list, link) {
        if (c != NULL && !is_of(p, c))
            continue;
        units_show_time(loop_wall_ms(q->loop) + i64_max(p->until_ms - loop_now_ms(q->loop), 0), until, sizeof(until));
        snprintf(q->text, sizeof(q->text), "%s%s%s until %s: %s", work_class_name(p->class), p->name[0] ? " " : "", p->name, until, p->text);
        break;
    }
    return q->text;
}
