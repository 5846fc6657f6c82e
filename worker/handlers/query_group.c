#include "common/base/units.h"
#include "common/bq/row_doc.h"
#include "worker/dispatch.h"
#include "worker/handlers/query_internal.h"
#include "worker/staging.h"

#include <strings.h>

/*
 * One group of items and its one job. Where rows are written the job is our INSERT, under an id of its own with tries as every job of ours: a worker that
 * dies leaves rows under a load id that no manifest will ever name. Where they are only read it is the SELECT itself, whose rows go to their items.
 */
#define ITEM_BYTES 96  /* of an item as a parameter, besides its texts */
#define LONG_MS 10000  /* a job that takes longer is worth a word */
#define AGAIN_MS 30000

/* --- its items ----------------------------------------------------------------------------------------------------------------------------- */

static size_t json_bytes(const char *p, size_t n)
{
    size_t bytes = n;
    for (size_t i = 0; i < n; i++)
        bytes += p[i] == '"' || p[i] == '\\' ? 1 : (unsigned char)p[i] < 0x20 ? 5 : 0;
    return bytes;
}

size_t group_item_bytes(const struct item *item)
{
    return ITEM_BYTES + json_bytes(item_key(item), item->key_len) + json_bytes(item_payload(item), item->payload_len);
}

void group_add(struct group *g, struct item *item)
{
    if (g->count == g->cap) {
        g->cap = g->cap ? 2 * g->cap : 16;
        g->items = xreallocarray(g->items, g->cap, sizeof(struct item *));
    }
    g->items[g->count++] = item;
    g->bytes += group_item_bytes(item);
}

static int by_index(const void *a, const void *b)
{
    const struct item *x = *(struct item *const *)a, *y = *(struct item *const *)b;
    return (x->index > y->index) - (x->index < y->index);
}

static struct item *find_item(const struct group *g, int64_t index)
{
    for (size_t from = 0, to = g->count; from < to;) {
        size_t mid = from + (to - from) / 2;
        if (g->items[mid]->index == index)
            return g->items[mid];
        if (g->items[mid]->index < index)
            from = mid + 1;
        else
            to = mid;
    }
    return NULL;
}

static doc *configuration(struct group *g)
{
    const struct record *r = g->run->record;
    AUTO(free_ptr) char *params = r->params ? doc_text(r->params) : NULL;
    AUTO(free_ptr) const char **values = xcalloc(3 * g->count, sizeof(*values));
    AUTO(free_ptr) char *numbers = xcalloc(g->count, 24);
    for (size_t i = 0; i < g->count; i++) {
        const struct item *item = g->items[i];
        snprintf(numbers + 24 * i, 24, "%" PRId64, item->index);
        values[3 * i] = numbers + 24 * i;
        values[3 * i + 1] = item_key(item);
        values[3 * i + 2] = item->payload_len > 0 ? item_payload(item) : NULL;
    }
    return bq_query_config(g->plan->sql, sql_group_params(values, g->count, params, g->load->id), r->max_bytes_billed);
}

/* --- how it ends --------------------------------------------------------------------------------------------------------------------------- */

/* BigQuery's words for what is wrong with the statement itself end in where: " at [3:17]". After the dry runs such a thing is new: a table has changed. */
static bool tells_a_place(const char *text)
{
    for (const char *at = strstr(text, " at ["); at != NULL; at = strstr(at + 1, " at [")) {
        const char *p = at + 5;
        size_t line = strspn(p, "0123456789"), column = p[line] == ':' ? strspn(p + line + 1, "0123456789") : 0;
        if (line > 0 && column > 0 && p[line + 1 + column] == ']')
            return true;
    }
    return false;
}

/* What runs into an error after two dry runs does so because of its data, unless it is said otherwise. First row that fits. */
static enum group_how judge(const struct error *err)
{
    static const struct { const char *reason, *text; enum group_how how; } rows[] = {
        {NULL, SQL_GROUP_STRAY, GROUP_FATAL},
        {"stopped", "timed out", GROUP_TOO_MUCH}, {"timeout", NULL, GROUP_TOO_MUCH}, {"resourcesExceeded", NULL, GROUP_TOO_MUCH},
        {"responseTooLarge", NULL, GROUP_TOO_MUCH}, {"tooLarge", NULL, GROUP_TOO_MUCH},
        {"invalidQuery", NULL, GROUP_DATA}, {"invalid", NULL, GROUP_DATA}, {"rows", NULL, GROUP_DATA}, {"badRequest", NULL, GROUP_DATA},
    };
    for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
        if ((rows[i].reason != NULL && strcasecmp(rows[i].reason, err->reason) != 0) || (rows[i].text != NULL && strstr(err->text, rows[i].text) == NULL))
            continue;
        return rows[i].how == GROUP_DATA && tells_a_place(err->text) ? GROUP_FATAL : rows[i].how;
    }
    return GROUP_FATAL;
}

static void finish(struct group *g, enum group_how how, const char *reason, const char *text, int64_t rows)
{
    struct group_end end = {.how = how, .reason = reason, .text = text, .rows = rows};
    timer_stop(g->timer);
    g->ended(g->arg, g, &end);
}

static void failed(struct group *g, const struct error *err)
{
    enum group_how how = judge(err);
    metric_add(g->run->worker->w.metrics, METRIC_LOADS_FAILED, 1);
    bool late = strcmp(err->reason, "stopped") == 0 || strcmp(err->reason, "timeout") == 0;
    finish(g, how, how == GROUP_DATA ? "query" : late ? "timeout" : "resources", err->text, 0);
}

/* Time may mend it. */
static void put_off(struct group *g, const struct error *err, int64_t wait_ms)
{
    char text[64];
    g->waiting = true;
    snprintf(g->trouble, sizeof(g->trouble), "%.100s, next try in %.40s", err->text, units_show_ms(wait_ms, text, sizeof(text)));
    log_warn("query %s: %s, next try in %s", g->load->id, err->text, text);
    timer_set(g->timer, wait_ms * US_PER_MS);
}

/* --- rows into the shard ------------------------------------------------------------------------------------------------------------------- */

static void on_range(void *arg, const struct row_range *range)
{
    struct group *g = arg;
    if (range != NULL)
        g->load->range = *range;
    query_range_stop(g->range);
    g->range = NULL;
    finish(g, GROUP_LANDED, NULL, NULL, g->written);
}

static void inserted(void *arg, const struct bq_job_result *r)
{
    struct group *g = arg;
    g->load->job = NULL;
    if (r->err != NULL && (r->err->kind == ERR_RETRY || r->err->kind == ERR_QUOTA)) {
        put_off(g, r->err, load_put_off(g->load, r));
    } else if (r->err != NULL) {
        failed(g, r->err);
    } else if (doc_get(r->job, "statistics.query.numDmlAffectedRows") == NULL && doc_get(r->job, "statistics.query.dmlStats") == NULL) {
        finish(g, GROUP_FATAL, "query", "BigQuery does not say how many rows its statement has written", 0);
    } else {
        timer_stop(g->timer);
        g->written = i64_max(r->inserted, r->affected);
        g->range = g->written > 0 ? query_range_start(g->load, on_range, g) : NULL;
        if (g->range == NULL)
            finish(g, GROUP_LANDED, NULL, NULL, g->written);
    }
}

static void insert(struct group *g)
{
    load_start_query(g->load, g->load->config == NULL ? configuration(g) : NULL, run_timeout_ms(g->run), inserted, g);
}

/* --- rows to their items ------------------------------------------------------------------------------------------------------------------- */

static void on_schema(void *arg, const doc *fields)
{
    struct group *g = arg;
    AUTO(doc_free_auto) doc *whole = doc_set(doc_object(), "fields", doc_copy(fields));
    struct error ignored = ERROR_INIT;
    schema_free(g->columns);
    g->columns = schema_parse(whole, &ignored);
}

static void drop_rows(struct group *g)
{
    for (size_t i = 0; i < g->count; i++)
        item_drop_rows(g->items[i]);
}

/* A row of no item of the group: the query goes on until this is told, outside of its callbacks. */
static void stray(struct group *g, const char *index)
{
    g->stray = true;
    snprintf(g->trouble, sizeof(g->trouble), SQL_GROUP_STRAY "%.40s, which is none of those in @items", index);
    timer_set(g->timer, 0);
}

static bool on_row(void *arg, const doc *row)
{
    struct group *g = arg;
    const struct field *index = g->columns ? sql_group_index(g->columns) : NULL;
    if (index == NULL) {
        stray(g, "unknown");
        return false;
    }
    AUTO(doc_free_auto) doc *whole = bq_row_doc(g->columns, row), *own = doc_object();
    const doc *number = doc_field(whole, index->name);
    struct item *item = find_item(g, doc_int(number, NULL, -1));
    if (item == NULL) {
        AUTO(free_ptr) char *text = doc_text(number);
        stray(g, doc_type(number) == DOC_NULL ? "NULL" : text);
        return false;
    }
    for (void *it = doc_first(whole); it != NULL; it = doc_next(whole, it))
        if (doc_value(it) != number)
            doc_set(own, doc_key(it), doc_copy(doc_value(it)));
    AUTO(free_ptr) char *text = doc_text(own);
    if (!item->spoiled)
        staging_row(item, text, strlen(text));
    g->paused = worker_full(g->run->worker);
    if (g->paused) {
        item->handler->blocked = true;
        dispatch_kick(g->run->worker->dispatch);
    }
    return !g->paused;
}

static void on_end(void *arg, const struct error *err, int64_t total)
{
    struct group *g = arg;
    g->rows = NULL;
    if (err == NULL) {
        finish(g, GROUP_LANDED, NULL, NULL, total);
        return;
    }
    drop_rows(g);
    if (err->kind == ERR_RETRY || err->kind == ERR_QUOTA) {
        g->load->next_try += LIMIT_TRIES; /* past all that may stand there: whatever they hold is only read */
        put_off(g, err, i64_max(err->retry_after_ms, AGAIN_MS));
    } else {
        failed(g, err);
    }
}

static void read_rows(struct group *g)
{
    static const struct bq_query_events events = {.schema = on_schema, .row = on_row, .end = on_end};
    const struct record *r = g->run->record;
    struct bq_label labels[] = {{.name = "bqfleet_run", .value = g->run->id}, {.name = "bqfleet_kind", .value = "query"}};
    AUTO(doc_free_auto) doc *config = configuration(g);
    AUTO(free_ptr) char *text = doc_text(config);
    char base[JOB_BASE_SIZE], digest[65];
    job_base_query(base, g->run->id, g->load->id);
    sha256_hex(text, strlen(text), digest);
    digest[40] = '\0';
    struct bq_ref shard;
    record_shard_ref(r, g->run->worker->incarnation, &shard);
    struct bq_job_spec spec = {.id_base = base, .location = r->location[0] ? r->location : NULL, .configuration = config, .labels = labels,
                               .label_count = ARRAY_LEN(labels), .digest = digest, .not_before_ms = g->run->worker->started_ms,
                               .target = &shard, .timeout_ms = run_timeout_ms(g->run), .first_try = g->load->next_try, .max_tries = g->load->next_try + LIMIT_TRIES};
    g->rows = bq_query_start(g->run->bq, &spec, 0, &events, g);
}

void group_resume(struct group *g)
{
    if (!g->paused)
        return;
    g->paused = false;
    bq_query_resume(g->rows);
}

/* --- life ---------------------------------------------------------------------------------------------------------------------------------- */

static void work(struct group *g)
{
    g->waiting = false;
    g->trouble[0] = '\0';
    g->started_us = loop_now_us(g->run->worker->w.loop);
    timer_set(g->timer, run_timeout_ms(g->run) * US_PER_MS);
    if (g->run->record->mode == WRITE_NONE)
        read_rows(g);
    else
        insert(g);
}

static void over_time(struct group *g)
{
    /* A job that waits for its place in BigQuery, or for its answer to reach us, is not at work yet: it may stay for as long again. */
    bool at_work = g->load->job == NULL || strcmp(bq_job_state(g->load->job), "running") == 0;
    if (!at_work || g->paused) {
        timer_set(g->timer, run_timeout_ms(g->run) * US_PER_MS);
        return;
    }
    char text[160], ms[64];
    bq_job_stop(g->load->job, true);
    g->load->job = NULL;
    bq_query_stop(g->rows);
    g->rows = NULL;
    drop_rows(g);
    snprintf(text, sizeof(text), "its query was not done within %s, and was cancelled", units_show_ms(run_timeout_ms(g->run), ms, sizeof(ms)));
    finish(g, GROUP_TOO_MUCH, "timeout", text, 0);
}

static void on_timer(void *arg)
{
    struct group *g = arg;
    if (g->waiting) {
        work(g);
    } else if (g->stray) {
        char text[sizeof(g->trouble)];
        snprintf(text, sizeof(text), "%s", g->trouble);
        bq_query_stop(g->rows);
        g->rows = NULL;
        finish(g, GROUP_FATAL, "query", text, 0);
    } else {
        over_time(g);
    }
}

struct group *group_new(struct run *run, const struct query_plan *plan, void (*ended)(void *, struct group *, const struct group_end *), void *arg)
{
    struct group *g = xcalloc(1, sizeof(*g));
    *g = (struct group){.run = run, .plan = plan, .ended = ended, .arg = arg};
    g->timer = timer_new(run->worker->w.loop, on_timer, g);
    return g;
}

void group_free(struct group *g, bool remote)
{
    if (g->load != NULL && g->load->job != NULL) {
        bq_job_stop(g->load->job, remote);
        g->load->job = NULL;
    }
    query_range_stop(g->range);
    load_free(g->load);
    bq_query_stop(g->rows);
    schema_free(g->columns);
    timer_free(g->timer);
    free(g->items);
    free(g);
}

void group_start(struct group *g)
{
    g->load = staging_load(g->run);
    if (g->load == NULL) /* the run is stopped */
        return;
    qsort(g->items, g->count, sizeof(struct item *), by_index);
    work(g);
}

const char *group_waits_for(struct group *g)
{
    if (g->waiting)
        return g->trouble;
    int64_t since_ms = g->load == NULL ? 0 : (loop_now_us(g->run->worker->w.loop) - g->started_us) / US_PER_MS;
    if (since_ms < LONG_MS)
        return "";
    char time[64];
    snprintf(g->said, sizeof(g->said), "BigQuery: query %s of %zu items, %.240s, since %s", g->load->id, g->count,
             g->load->job ? bq_job_state(g->load->job) : g->range ? "written" : g->rows ? bq_query_state(g->rows) : "", units_show_ms(since_ms, time, sizeof(time)));
    return g->said;
}
