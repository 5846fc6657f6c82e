#include "coordinator/dedupe.h"

#include <strings.h>

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/bq/dry_run.h"
#include "common/bq/permits_set.h"

#define FOREVER_US (INT64_C(365) * 86400 * US_PER_S) /* jobs wait as long as BigQuery lets them */
#define BATCH_PARTITIONS 100        /* neighbours that one statement rewrites, */
#define BATCH_ROWS 1000000          /* as long as they have no more rows */
#define DRY_RUNS 100                /* statements whose bytes are asked for; more are taken to be alike */

/* --- waiting ----------------------------------------------------------------------------------------------------------------------------- */

struct wait { struct dedupe *d; int patience; };

static bool is_over(void *arg)
{
    const struct wait *w = arg;
    return w->d->answered || *w->d->signals >= w->patience;
}

/* 0: answered, and d->err says how. -1: the user wants no more. */
static int await(struct dedupe *d, int patience, struct error *err)
{
    struct wait w = {d, patience};
    loop_until(d->world->loop, is_over, &w, FOREVER_US);
    if (d->answered)
        return 0;
    error_set(err, ERR_FATAL, 0, "interrupted");
    error_reason(err, "signal");
    return -1;
}

static void ask(struct dedupe *d)
{
    d->answered = false;
    d->err = ERROR_INIT;
}

static void answer(struct dedupe *d, const struct error *err)
{
    d->answered = true;
    if (err != NULL)
        d->err = *err;
}

static int result(const struct dedupe *d, struct error *err)
{
    *err = d->err;
    return err->kind == ERR_NONE ? 0 : -1;
}

/* --- the table --------------------------------------------------------------------------------------------------------------------------- */

static void take_state(struct dedupe *d, const struct bq_table *t)
{
    snprintf(d->state, sizeof(d->state), "%s %" PRId64 " %" PRId64 " %" PRId64 " %" PRId64, t->etag, t->created_ms, t->modified_ms, t->rows, t->bytes);
    d->modified_ms = t->modified_ms;
}

static int take_table(struct dedupe *d, struct bq_table *t)
{
    struct error *err = &d->err;
    if (strcmp(t->type, "TABLE") != 0)
        return error_set(err, ERR_USAGE, 0, "%s.%s is of type %s; only tables have rows to remove", t->ref.dataset, t->ref.table, t->type);
    if (t->schema == NULL || t->schema->count == 0)
        return error_set(err, ERR_USAGE, 0, "%s.%s has no columns", t->ref.dataset, t->ref.table);
    if (partition_make(t->schema, t->partitioning, t->part_field, t->part_type, t->part_start, t->part_end, t->part_interval, &d->partition, err) != 0)
        return error_prefix(err, "%s.%s", t->ref.dataset, t->ref.table);
    snprintf(d->location, sizeof(d->location), "%s", d->choice->location ? d->choice->location : t->location);
    take_state(d, t);
    d->schema = t->schema;
    t->schema = NULL; /* ours now */
    return 0;
}

static void on_table(void *arg, struct bq_table *t, const struct error *err)
{
    struct dedupe *d = arg;
    answer(d, err);
    if (err == NULL)
        (void)take_table(d, t);
    else if (err->code == 404)
        d->err.kind = ERR_USAGE;
}

/* A column that came meanwhile would not be among those that are written again. */
static void on_again(void *arg, struct bq_table *t, const struct error *err)
{
    struct dedupe *d = arg;
    answer(d, err);
    if (err != NULL)
        return;
    AUTO(doc_free_auto) doc *was = schema_to_doc(d->schema), *is = schema_to_doc(t->schema);
    if (!doc_equal(was, is))
        error_set(&d->err, ERR_FATAL, 0, "the table's columns have changed since it was looked at; give the command again");
    take_state(d, t);
}

static int get_table(struct dedupe *d, bq_table_cb *cb, struct error *err)
{
    ask(d);
    struct bq_call *call = bq_table_get(d->world->bq, &d->choice->table, cb, d);
    if (await(d, 1, err) != 0)
        return bq_call_cancel(call), -1;
    return result(d, err);
}

static void on_permits(void *arg, const struct bq_answer *a)
{
    struct dedupe *d = arg;
    struct permit_rows *rows = xcalloc(1, sizeof(*rows));
    d->answered = true;
    if (permits_rows(a, rows, &d->err) == 0 && !rows->absent)
        d->permits = (int)rows->count;
    free(rows);
}

/* Where there are permits, others write by them. */
static int get_permits(struct dedupe *d, struct error *err)
{
    struct bq_ref table;
    permits_table(&d->choice->table, &table);
    ask(d);
    struct bq_call *call = permits_read(d->world->bq, &table, on_permits, d);
    if (await(d, 1, err) != 0)
        return bq_call_cancel(call), -1;
    return result(d, err);
}

/* --- what is compared -------------------------------------------------------------------------------------------------------------------- */

static void widen(struct sql_scope *s, bool is_null, int64_t lo, int64_t hi)
{
    s->has_null = s->has_null || is_null;
    if (is_null)
        return;
    s->lo = s->has_range ? i64_min(s->lo, lo) : lo;
    s->hi = s->has_range ? i64_max(s->hi, hi) : hi;
    s->has_range = true;
}

static int choose_partitions(struct dedupe *d, struct error *err)
{
    const struct dedupe_choice *c = d->choice;
    if (c->partition_count > 0 && d->partition.unit == PARTITION_NONE)
        return error_set(err, ERR_USAGE, 0, "--partition: the table has no partitions");
    d->ids = xcalloc(c->partition_count + 1, sizeof(*d->ids));
    for (size_t i = 0; i < c->partition_count; i++) {
        char id[PARTITION_ID_SIZE];
        bool is_null;
        int64_t lo, hi;
        if (partition_parse(&d->partition, c->partitions[i], id, &is_null, &lo, &hi, err) != 0)
            return error_prefix(err, "--partition");
        d->ids[d->id_count++] = xstrdup(id);
        widen(&d->compared, is_null, lo, hi);
    }
    d->compared.ids = (const char *const *)d->ids;
    d->compared.count = d->id_count;
    d->apart = d->partition.unit != PARTITION_NONE && d->id_count != 1;
    for (size_t i = 0; i < c->key_count; i++)
        d->apart = d->apart && strcasecmp(c->keys[i], d->partition.column) != 0;
    return 0;
}

static struct sql_dedupe statement(const struct dedupe *d)
{
    const struct dedupe_choice *c = d->choice;
    return (struct sql_dedupe){.table = &c->table, .schema = d->schema, .keys = c->keys, .key_count = c->key_count, .order_by = c->order_by,
                               .order_count = c->order_count, .null_keys = c->null_keys,
                               .partition = d->partition.unit != PARTITION_NONE ? &d->partition : NULL, .compared = d->compared, .apart = d->apart};
}

/* --- the survey -------------------------------------------------------------------------------------------------------------------------- */

static int64_t number_at(const doc *row, size_t column)
{
    return doc_int(doc_at(doc_get(row, "f"), column), "v", 0);
}

static bool on_survey_row(void *arg, const doc *row)
{
    struct dedupe *d = arg;
    struct dedupe_part p = {.rows = number_at(row, SURVEY_ROWS), .repeated = number_at(row, SURVEY_REPEATED), .keys = number_at(row, SURVEY_KEYS),
                            .missing = number_at(row, SURVEY_NULLS)};
    const char *id = doc_str(doc_at(doc_get(row, "f"), SURVEY_PART), "v", "");
    d->missing += p.missing;
    d->too_many += p.repeated - p.keys;
    snprintf(p.id, sizeof(p.id), "%s", id);
    if (p.repeated == 0 || d->err.kind != ERR_NONE)
        return true;
    char same[PARTITION_ID_SIZE];
    if (d->partition.unit != PARTITION_NONE && partition_parse(&d->partition, id, same, &p.is_null, &p.lo, &p.hi, &d->err) != 0)
        d->err.kind = ERR_FATAL;
    d->parts = xreallocarray(d->parts, d->part_count + 1, sizeof(*d->parts));
    d->parts[d->part_count++] = p;
    return true;
}

static void on_survey_end(void *arg, const struct error *err, int64_t total)
{
    (void)total;
    answer(arg, err);
}

struct look { struct dedupe *d; bool known; int64_t bytes; };

static void on_dry(void *arg, const struct bq_dry_result *r)
{
    struct look *l = arg;
    l->known = r->err == NULL && r->known && r->bytes >= 0;
    l->bytes = r->bytes;
    answer(l->d, r->err);
}

/* Bytes, or -1: not known. A service that does not know dry runs would do the thing itself: only a SELECT may find that out. */
static int64_t dry_bytes(struct dedupe *d, const doc *configuration, struct error *err)
{
    struct look l = {.d = d, .bytes = -1};
    ask(d);
    struct bq_call *call = bq_dry_run(d->world->bq, configuration, d->location, on_dry, &l);
    if (await(d, 1, err) != 0)
        return bq_call_cancel(call), -1;
    return l.known ? l.bytes : -1;
}

static int survey(struct dedupe *d, struct error *err)
{
    static const struct bq_query_events events = {.row = on_survey_row, .end = on_survey_end};
    struct sql_dedupe s = statement(d);
    AUTO(buf_free) struct buf sql = BUF_INIT(LIMIT_SQL + 4096);
    char base[80], id[ID_LEN + 1];
    doc *params = NULL;
    if (sql_dedupe_survey(&s, &sql, &params, err) != 0)
        return doc_free(params), -1;
    AUTO(doc_free_auto) doc *configuration = bq_query_config(sql.data, params, d->choice->max_bytes_billed);
    id_new(id, loop_wall_ms(d->world->loop), d->world->rnd);
    snprintf(base, sizeof(base), "bqfleet_survey_%s", id);
    struct bq_label label = {"bqfleet_kind", "survey"};
    struct bq_job_spec spec = {.id_base = base, .location = d->location[0] ? d->location : NULL, .configuration = configuration, .labels = &label, .label_count = 1,
                               .digest = id};
    d->bytes = dry_bytes(d, configuration, err);
    if (err->kind != ERR_NONE)
        return -1;
    ask(d);
    struct bq_query *q = bq_query_start(d->world->bq, &spec, 0, &events, d);
    if (await(d, 1, err) != 0)
        return bq_query_stop(q), -1;
    if (d->err.kind != ERR_NONE)
        error_prefix(&d->err, "the survey");
    return result(d, err);
}

/* --- batches ----------------------------------------------------------------------------------------------------------------------------- */

/* Neighbours go together, so that the constant range of a statement covers no partition that is not its own. Where keys lie in several partitions all of them
 * are read anyhow, and as many go together as a job may change. */
static bool joins(const struct dedupe *d, const struct dedupe_batch *b, int64_t rows, const struct dedupe_part *p)
{
    const struct dedupe_part *last = &d->parts[b->first + b->count - 1];
    if (d->apart)
        return b->count < PARTITIONS_PER_JOB;
    return b->count < BATCH_PARTITIONS && rows + p->rows <= BATCH_ROWS && !p->is_null && !last->is_null && last->hi != INT64_MAX && p->lo == last->hi + 1;
}

static int by_place(const void *a, const void *b)
{
    const struct dedupe_part *x = a, *y = b;
    if (x->is_null != y->is_null)
        return x->is_null - y->is_null;
    return (x->lo > y->lo) - (x->lo < y->lo);
}

static void make_batches(struct dedupe *d)
{
    int64_t rows = 0;
    if (d->part_count > 0)
        qsort(d->parts, d->part_count, sizeof(*d->parts), by_place);
    d->batches = xcalloc(d->part_count + 1, sizeof(*d->batches));
    for (size_t i = 0; i < d->part_count; i++) {
        if (d->batch_count == 0 || !joins(d, &d->batches[d->batch_count - 1], rows, &d->parts[i])) {
            d->batches[d->batch_count++] = (struct dedupe_batch){.first = i};
            rows = 0;
        }
        d->batches[d->batch_count - 1].count++;
        rows += d->parts[i].rows;
    }
}

/* The statement of a batch; ids is to be kept as long as it. */
static int make_statement(const struct dedupe *d, const struct dedupe_batch *b, const struct bq_ref *permits, struct buf *sql, doc **params, struct error *err)
{
    struct sql_dedupe s = statement(d);
    struct sql_fence fence = {.permits = permits};
    AUTO(free_ptr) const char **ids = xcalloc(b->count + 1, sizeof(*ids));
    struct sql_scope scope = {.ids = ids, .count = b->count};
    for (size_t i = 0; i < b->count; i++) {
        const struct dedupe_part *p = &d->parts[b->first + i];
        ids[i] = p->id;
        widen(&scope, p->is_null, p->lo, p->hi);
    }
    if (d->apart)
        s.rewritten = scope;
    else
        s.compared = scope;
    s.fence = permits ? &fence : NULL;
    return sql_dedupe(&s, sql, params, err);
}

/* What all statements together will read. */
static int estimate(struct dedupe *d, struct error *err)
{
    int64_t total = 0;
    size_t asked = size_min(d->batch_count, DRY_RUNS);
    for (size_t i = 0; i < asked && d->bytes >= 0; i++) {
        AUTO(buf_free) struct buf sql = BUF_INIT(LIMIT_SQL + 4096);
        doc *params = NULL;
        if (make_statement(d, &d->batches[i], NULL, &sql, &params, err) != 0)
            return doc_free(params), -1;
        AUTO(doc_free_auto) doc *configuration = bq_query_config(sql.data, params, d->choice->max_bytes_billed);
        int64_t bytes = dry_bytes(d, configuration, err);
        if (err->kind != ERR_NONE || result(d, err) != 0) /* it would be refused, too */
            return -1;
        d->bytes = bytes < 0 ? -1 : d->bytes;
        total += bytes;
    }
    if (d->bytes >= 0)
        d->bytes = asked > 0 ? total / (int64_t)asked * (int64_t)d->batch_count + total % (int64_t)asked : 0;
    return 0;
}

int dedupe_look(struct dedupe *d, struct error *err)
{
    struct sql_dedupe s;
    if (get_table(d, on_table, err) != 0 || choose_partitions(d, err) != 0)
        return -1;
    s = statement(d);
    if (sql_dedupe_check(&s, err) != 0 || survey(d, err) != 0 || get_permits(d, err) != 0)
        return -1;
    make_batches(d);
    return estimate(d, err);
}

/* --- rewriting --------------------------------------------------------------------------------------------------------------------------- */

struct rewrite {
    struct dedupe *d;
    struct dedupe_batch *batch;
    struct permit_use *use;
    const struct permit_grant *grant;
    bool lost;
    int tries;
};

static void on_permit(void *arg, const struct permit_grant *grant, const struct error *err)
{
    struct rewrite *r = arg;
    r->grant = grant;
    if (grant == NULL)
        r->use = NULL;
    answer(r->d, err);
}

static void on_inserted(void *arg, const char *job_id)
{
    struct rewrite *r = arg;
    (void)job_id;
    permit_at_work(r->use);
}

static void on_job(void *arg, const struct bq_job_result *res)
{
    struct rewrite *r = arg;
    r->tries = res->tries;
    r->lost = res->err != NULL && strcmp(res->err->reason, PERMIT_LOST) == 0;
    snprintf(r->batch->job, sizeof(r->batch->job), "%s", res->job_id ? res->job_id : "");
    r->batch->bytes_billed += i64_max(res->bytes_billed, 0);
    r->batch->removed = res->deleted - res->inserted;
    answer(r->d, res->err);
}

/* What it does and to which state of the table: the same in whoever saw the same. */
static void job_names(const struct dedupe *d, const struct dedupe_batch *b, const char *sql, char base[80], char digest[41])
{
    struct buf text = BUF_INIT(SIZE_MAX / 2);
    char hex[65], name[700];
    buf_xprintf(&text, "%s\n%s\n%s\n", bq_ref_text(&d->choice->table, name, sizeof(name)), d->state, sql);
    for (size_t i = 0; i < b->count; i++) {
        const struct dedupe_part *p = &d->parts[b->first + i];
        buf_xprintf(&text, "%s %" PRId64 " %" PRId64 " %" PRId64 "\n", p->id, p->rows, p->repeated, p->keys);
    }
    sha256_hex(text.data, text.len, hex);
    snprintf(digest, 41, "%.40s", hex);
    snprintf(base, 80, "bqfleet_dedupe_%s", digest);
    buf_free(&text);
}

/* 0, or -1: failed; r->lost: for its permit, and nothing was changed. */
static int run_once(struct rewrite *r, struct permits *permits, const char *base, const char *digest, const char *sql, const doc *params, struct error *err)
{
    struct dedupe *d = r->d;
    if (permits != NULL) {
        d->waits = "waiting for a permit";
        ask(d);
        r->use = permits_want(permits, base, "bqfleet dedupe", on_permit, r);
        if (await(d, 1, err) != 0) {
            permit_end(r->use, false);
            return -1;
        }
        if (result(d, err) != 0)
            return -1;
    }
    doc *own = doc_copy(params);
    if (r->grant != NULL)
        permits_fence_params(own, r->grant);
    AUTO(doc_free_auto) doc *configuration = bq_query_config(sql, own, d->choice->max_bytes_billed);
    struct bq_label label = {"bqfleet_kind", "dedupe"};
    struct bq_job_spec spec = {.id_base = base, .location = d->location[0] ? d->location : NULL, .configuration = configuration, .labels = &label, .label_count = 1,
                               .digest = digest, .first_try = r->tries, .max_tries = r->tries + LIMIT_TRIES, .patient = true, .not_before_ms = d->modified_ms,
                               .on_inserted = on_inserted};
    d->waits = "rewriting";
    ask(d);
    struct bq_job *job = bq_job_start(d->world->bq, &spec, on_job, r);
    if (await(d, 2, err) != 0) { /* who takes the permit over finds the job in its row */
        bq_job_stop(job, false);
        permit_leave(r->use);
        return -1;
    }
    permit_end(r->use, r->lost);
    r->use = NULL;
    r->grant = NULL;
    return result(d, err);
}

int dedupe_rewrite(struct dedupe *d, struct dedupe_batch *b, struct error *err)
{
    struct rewrite r = {.d = d, .batch = b};
    struct bq_ref table;
    struct permits *permits = NULL;
    AUTO(buf_free) struct buf sql = BUF_INIT(LIMIT_SQL + 4096);
    doc *params = NULL;
    char base[80], digest[41];
    /* What the statement before left is what somebody else would see who looks now. */
    if (get_table(d, on_again, err) != 0)
        return -1;
    permits_table(&d->choice->table, &table);
    if (d->permits > 0 && d->world->permits != NULL)
        permits = permits_set_get(d->world->permits, &table, bq_project(d->world->bq), d->location, d->permits);
    int rc = make_statement(d, b, permits ? &table : NULL, &sql, &params, err);
    if (rc == 0) {
        job_names(d, b, sql.data, base, digest);
        do {
            *err = ERROR_INIT;
            r.lost = false;
            rc = run_once(&r, permits, base, digest, sql.data, params, err);
        } while (rc != 0 && r.lost);
    }
    doc_free(params);
    b->done = rc == 0;
    return rc;
}

void dedupe_init(struct dedupe *d, const struct world *world, const struct dedupe_choice *choice, const int *signals)
{
    *d = (struct dedupe){.world = world, .choice = choice, .signals = signals, .bytes = -1, .waits = ""};
}

void dedupe_free(struct dedupe *d)
{
    schema_free(d->schema);
    for (size_t i = 0; i < d->id_count; i++)
        free(d->ids[i]);
    free(d->ids);
    free(d->parts);
    free(d->batches);
}
