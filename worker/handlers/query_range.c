#include "worker/handlers/query_internal.h"
#include "worker/staging.h"

/* Where the rows of a group lie in the column that partitions the target: they never were here, so the shard is asked. It only makes the consolidation
 * cheaper: whatever goes wrong, the load is reported without. */
#define PATIENCE_MS 60000

struct query_range {
    struct run *run;
    struct bq_query *query;
    struct timer *patience;
    struct row_range range;
    void (*cb)(void *arg, const struct row_range *);
    void *arg;
};

static bool on_row(void *arg, const doc *row)
{
    struct query_range *q = arg;
    const doc *cells = doc_field(row, "f"), *lo = doc_field(doc_at(cells, 0), "v"), *hi = doc_field(doc_at(cells, 1), "v");
    q->range.any = doc_type(lo) == DOC_STRING && doc_type(hi) == DOC_STRING;
    q->range.lo = doc_int(lo, NULL, 0);
    q->range.hi = doc_int(hi, NULL, 0);
    q->range.null = doc_int(doc_field(doc_at(cells, 2), "v"), NULL, 1) > 0;
    return true;
}

static void on_end(void *arg, const struct error *err, int64_t total)
{
    struct query_range *q = arg;
    q->query = NULL;
    if (err != NULL)
        log_warn("the range of a query's rows in column %s is not known, so partitions cannot be pruned: %s", q->run->record->partition_column, err->text);
    bool known = err == NULL && total == 1;
    q->cb(q->arg, known ? &q->range : NULL);
}

static void on_patience(void *arg)
{
    struct query_range *q = arg;
    q->cb(q->arg, NULL);
}

struct query_range *query_range_start(const struct load *l, void (*cb)(void *arg, const struct row_range *), void *arg)
{
    static const struct bq_query_events events = {.row = on_row, .end = on_end};
    struct run *run = l->run;
    const struct record *r = run->record;
    const struct field *column = r->partition_column[0] && r->schema ? schema_find(r->schema, r->partition_column) : NULL;
    const struct bq_ref *shard = staging_shard(run, NULL, NULL);
    if (column == NULL || shard == NULL)
        return NULL;
    struct query_range *q = xcalloc(1, sizeof(*q));
    *q = (struct query_range){.run = run, .cb = cb, .arg = arg};
    struct buf sql = BUF_INIT(LIMIT_SQL);
    sql_group_range(shard, column, &sql);
    AUTO(doc_free_auto) doc *config = bq_query_config(sql.data, bq_param(bq_params(), "load", "STRING", l->id), r->max_bytes_billed);
    char base[JOB_BASE_SIZE];
    job_base_range(base, run->id, l->id);
    struct bq_label labels[] = {{.name = "bqfleet_run", .value = run->id}, {.name = "bqfleet_kind", .value = "range"}};
    struct bq_job_spec spec = {.id_base = base, .location = r->location[0] ? r->location : NULL, .configuration = config, .labels = labels,
                               .label_count = ARRAY_LEN(labels), .digest = l->digest, .not_before_ms = run->worker->started_ms};
    q->query = bq_query_start(run->bq, &spec, 0, &events, q);
    q->patience = timer_new(run->worker->w.loop, on_patience, q);
    timer_set(q->patience, PATIENCE_MS * US_PER_MS);
    buf_free(&sql);
    return q;
}

void query_range_stop(struct query_range *q)
{
    if (q == NULL)
        return;
    bq_query_stop(q->query);
    timer_free(q->patience);
    free(q);
}
