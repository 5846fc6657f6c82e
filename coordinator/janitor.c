#include "coordinator/janitor.h"

#include "common/base/log.h"
#include "common/bq/table.h"

#define ROUND_MS (INT64_C(3600) * 1000)
#define LOOK_BACK_MS (8 * INT64_C(86400000)) /* staging expires after seven days */

struct place { char project[64], dataset[256]; };

struct janitor {
    struct world world;
    struct catalog *runs;
    struct place *places; size_t place_count, at; /* of this round */
    doc *tables; size_t table_at;                 /* of this place; NULL: not listed yet */
    struct bq_call *call;
    struct timer *timer;
};

static void go_on(struct janitor *j);

/* An adopted run's staging is its heir's; a run that was closed without its log may be being written still. */
static bool is_over(const struct catalog_run *r)
{
    const char *how = doc_str(r->end, "end", "unknown");
    return r->standing == STANDING_ENDED && r->record->has_target && strcmp(how, "unknown") != 0 && strcmp(how, run_end_name(END_ADOPTED)) != 0;
}

static bool is_left_over(const struct janitor *j, const doc *table)
{
    const struct catalog_run *r = catalog_find(j->runs, doc_str(table, "labels.bqfleet_run", ""));
    return r != NULL && is_over(r) && record_owns_labels(r->record, doc_get(table, "labels"));
}

static void on_dropped(void *arg, const struct bq_answer *a)
{
    struct janitor *j = arg;
    j->call = NULL;
    if (a->err != NULL)
        log_debug("a staging table that is left over was not dropped: %s", a->err->text);
    go_on(j);
}

/* True: a request is on its way. */
static bool drop_next(struct janitor *j)
{
    while (j->table_at < doc_len(j->tables)) {
        const doc *table = doc_at(j->tables, j->table_at++);
        if (!is_left_over(j, table))
            continue;
        struct bq_ref ref = {.project = ""};
        const struct place *p = &j->places[j->at];
        memcpy(ref.project, p->project, sizeof(p->project));
        memcpy(ref.dataset, p->dataset, sizeof(p->dataset));
        snprintf(ref.table, sizeof(ref.table), "%s", doc_str(table, "id", ""));
        log_info("staging table %s of run %s, which is over, is dropped", ref.table, doc_str(table, "labels.bqfleet_run", ""));
        j->call = bq_table_delete(j->world.bq, &ref, on_dropped, j);
        return true;
    }
    return false;
}

static void on_listed(void *arg, const struct bq_answer *a)
{
    struct janitor *j = arg;
    j->call = NULL;
    if (a->err != NULL)
        log_debug("staging tables that may be left over could not be listed: %s", a->err->text);
    j->tables = a->err ? doc_array() : doc_ref((doc *)(uintptr_t)a->doc);
    j->table_at = 0;
    go_on(j);
}

static void go_on(struct janitor *j)
{
    if (j->tables != NULL) {
        if (drop_next(j))
            return;
        doc_free(j->tables);
        j->tables = NULL;
        j->at++;
    }
    if (j->at < j->place_count)
        j->call = bq_table_list(j->world.bq, j->places[j->at].project, j->places[j->at].dataset, SHARD_PREFIX, on_listed, j);
    else
        timer_set(j->timer, (ROUND_MS / 2 + (int64_t)rnd_below(j->world.rnd, ROUND_MS)) * US_PER_MS); /* so that several do not come at once */
}

static void add_place(struct janitor *j, const struct record *r)
{
    for (size_t i = 0; i < j->place_count; i++)
        if (strcmp(j->places[i].project, r->staging_project) == 0 && strcmp(j->places[i].dataset, r->staging_dataset) == 0)
            return;
    j->places = xreallocarray(j->places, j->place_count + 1, sizeof(*j->places));
    struct place *p = &j->places[j->place_count++];
    memcpy(p->project, r->staging_project, sizeof(p->project));
    memcpy(p->dataset, r->staging_dataset, sizeof(p->dataset));
}

static void begin(void *arg)
{
    struct janitor *j = arg;
    int64_t since_ms = loop_wall_ms(j->world.loop) - LOOK_BACK_MS;
    j->place_count = j->at = 0;
    for (struct catalog_run *r = catalog_next(j->runs, NULL); r != NULL; r = catalog_next(j->runs, r))
        if (is_over(r) && doc_int(r->end, "time_ms", 0) > since_ms)
            add_place(j, r->record);
    go_on(j);
}

struct janitor *janitor_start(const struct world *world, struct catalog *runs)
{
    struct janitor *j = xcalloc(1, sizeof(*j));
    j->world = *world;
    j->runs = runs;
    j->timer = timer_new(world->loop, begin, j);
    timer_set(j->timer, 0);
    return j;
}

void janitor_free(struct janitor *j)
{
    if (j == NULL)
        return;
    bq_call_cancel(j->call);
    doc_free(j->tables);
    timer_free(j->timer);
    free(j->places);
    free(j);
}
