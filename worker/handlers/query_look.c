#include "common/base/units.h"
#include "common/bq/dry_run.h"
#include "worker/handlers/query_internal.h"
#include "worker/staging.h"

/*
 * A user's SELECT is looked at by BigQuery before anything runs:
 *   1. a dry run of the text as it is: so places in messages are the user's own; it must be a SELECT, and says what it returns;
 *   2. its columns are compared with the target's;
 *   3. where rows are written: the shard, and a dry run of our statement around the text, for what only that shows (types). What fails after that fails
 *      because of its data.
 */
#define AGAIN_MS 30000

struct query_look {
    struct run *run;
    struct query_plan *plan;
    query_look_cb *cb;
    void *arg;
    struct bq_call *call;
    struct timer *timer;   /* the first step, from the loop; or the next one again */
    void (*step)(void *look);
    char trouble[200];
};

static bool only_reads(const struct run *run)
{
    return run->record->mode == WRITE_NONE;
}

static void finish(struct query_look *l, const struct error *err)
{
    struct error why = err ? *err : ERROR_INIT;
    if (err != NULL)
        error_prefix(&why, "the query of handler %.64s", l->run->record->handler);
    l->cb(l->arg, err ? &why : NULL);
}

static void look_at(struct query_look *l, const char *sql, bq_dry_cb *cb)
{
    const struct record *r = l->run->record;
    AUTO(free_ptr) char *params = r->params ? doc_text(r->params) : NULL;
    AUTO(doc_free_auto) doc *config = bq_query_config(sql, sql_group_params(NULL, 0, params, ""), r->max_bytes_billed);
    l->call = bq_dry_run(l->run->bq, config, r->location, cb, l);
}

/* 1: looked at again later; 0: to be acted on. */
static int later(struct query_look *l, void (*step)(void *), const struct error *err)
{
    if (err == NULL || (err->kind != ERR_RETRY && err->kind != ERR_QUOTA))
        return 0;
    int64_t wait_ms = i64_max(err->retry_after_ms, AGAIN_MS);
    char text[64];
    snprintf(l->trouble, sizeof(l->trouble), "the query's dry run: %.100s, next try in %.40s", err->text, units_show_ms(wait_ms, text, sizeof(text)));
    log_warn("%s", l->trouble);
    l->step = step;
    timer_set(l->timer, wait_ms * US_PER_MS);
    return 1;
}

/* --- our statement ------------------------------------------------------------------------------------------------------------------------- */

static void look_at_insert(void *arg);

static void on_insert(void *arg, const struct bq_dry_result *r)
{
    struct query_look *l = arg;
    l->call = NULL;
    if (later(l, look_at_insert, r->err) == 0)
        finish(l, r->err);
}

static void look_at_insert(void *arg)
{
    struct query_look *l = arg;
    l->trouble[0] = '\0';
    look_at(l, l->plan->sql, on_insert);
}

static void describe(const struct query_look *l, struct sql_group *g)
{
    const struct record *r = l->run->record;
    *g = (struct sql_group){.target = r->schema, .select = l->run->def->sql, .result = l->plan->result};
    if (r->null_keys == NULL_KEYS_REFUSE) {
        g->keys = (const char *const *)r->keys;
        g->key_count = r->key_count;
    }
}

static void on_shard(void *arg)
{
    struct query_look *l = arg;
    struct sql_group g;
    struct buf sql = BUF_INIT(2 * LIMIT_SQL);
    describe(l, &g);
    g.shard = staging_shard(l->run, on_shard, l);
    if (g.shard == NULL)
        return;
    sql_group_insert(&g, &sql);
    l->plan->sql = buf_steal(&sql);
    look_at_insert(l);
}

/* --- the user's ---------------------------------------------------------------------------------------------------------------------------- */

static void look_at_select(void *arg);

static int take_result(struct query_look *l, const struct bq_dry_result *r, struct error *err)
{
    struct sql_group g;
    l->plan->result = sql_select_result(r, err);
    if (l->plan->result == NULL)
        return -1;
    describe(l, &g);
    return sql_group_check(&g, err);
}

static void on_select(void *arg, const struct bq_dry_result *r)
{
    struct query_look *l = arg;
    struct error err = ERROR_INIT;
    l->call = NULL;
    if (later(l, look_at_select, r->err) != 0)
        return;
    if (take_result(l, r, &err) != 0) {
        finish(l, &err);
    } else if (only_reads(l->run)) {
        l->plan->sql = xstrdup(l->run->def->sql);
        finish(l, NULL);
    } else {
        on_shard(l);
    }
}

static void look_at_select(void *arg)
{
    struct query_look *l = arg;
    l->trouble[0] = '\0';
    look_at(l, l->run->def->sql, on_select);
}

/* --- life ---------------------------------------------------------------------------------------------------------------------------------- */

static void on_timer(void *arg)
{
    struct query_look *l = arg;
    l->step(l);
}

struct query_look *query_look_start(struct run *run, struct query_plan *plan, query_look_cb *cb, void *arg)
{
    struct query_look *l = xcalloc(1, sizeof(*l));
    *l = (struct query_look){.run = run, .plan = plan, .cb = cb, .arg = arg, .step = look_at_select};
    l->timer = timer_new(run->worker->w.loop, on_timer, l);
    timer_set(l->timer, 0);
    return l;
}

void query_look_stop(struct query_look *l)
{
    if (l == NULL)
        return;
    (void)staging_shard(l->run, NULL, NULL);
    bq_call_cancel(l->call);
    timer_free(l->timer);
    free(l);
}

const char *query_look_waits_for(const struct query_look *l)
{
    return l->trouble;
}

void query_plan_free(struct query_plan *p)
{
    schema_free(p->result);
    free(p->sql);
    *p = (struct query_plan){.sql = NULL};
}
