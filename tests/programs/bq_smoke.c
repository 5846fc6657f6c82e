#include "common/base/ids.h"
#include "common/base/log.h"
#include "common/bq/permits.h"
#include "common/bq/sql.h"

/*
 * bq_smoke URL [PROJECT]: the BigQuery client against a server that speaks the API, with the effects of every kind of statement looked
 * at afterwards. Prints a line for each thing that is as it should be, and ends at the first that is not.
 */

#define WAIT_US (120 * US_PER_S)

static struct loop *loop;
static struct bq *bq;
static struct rnd rnd;
static char run_id[ID_LEN + 1];
static struct bq_ref target, shard;
static int jobs;

static const char fields[] =
    "{\"fields\":[{\"name\":\"k\",\"type\":\"STRING\",\"mode\":\"REQUIRED\"},{\"name\":\"day\",\"type\":\"DATE\"},{\"name\":\"v\",\"type\":\"INT64\"},"
    "{\"name\":\"score\",\"type\":\"FLOAT64\"},{\"name\":\"made\",\"type\":\"STRING\"},{\"name\":\"tags\",\"type\":\"STRING\",\"mode\":\"REPEATED\"}]}";
static const char shard_fields[] =
    "{\"fields\":[{\"name\":\"k\",\"type\":\"STRING\"},{\"name\":\"day\",\"type\":\"DATE\"},{\"name\":\"v\",\"type\":\"INT64\"},"
    "{\"name\":\"score\",\"type\":\"FLOAT64\"},{\"name\":\"made\",\"type\":\"STRING\"},{\"name\":\"tags\",\"type\":\"STRING\",\"mode\":\"REPEATED\"},"
    "{\"name\":\"bqfleet_item\",\"type\":\"INT64\"},{\"name\":\"bqfleet_row\",\"type\":\"INT64\"},{\"name\":\"bqfleet_load\",\"type\":\"STRING\"}]}";

static void expect(bool holds, const char *fmt, ...) PRINTF_LIKE(2, 3);
static void expect(bool holds, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    printf("%s %s\n", holds ? "ok" : "NOT OK", text);
    fflush(stdout);
    if (!holds)
        exit(1);
}

/* --- one thing at a time ----------------------------------------------------------------------------------------------------------------- */

struct reply {
    bool over;
    int status;
    struct error err;
    doc *doc;
};

static bool over(void *arg)
{
    return *(const bool *)arg;
}

static void wait_for(bool *flag, const char *what)
{
    if (!loop_until(loop, over, flag, WAIT_US))
        expect(false, "%s ends within %d s", what, (int)(WAIT_US / US_PER_S));
}

static void on_answer(void *arg, const struct bq_answer *a)
{
    struct reply *r = arg;
    r->over = true;
    r->status = a->status;
    if (a->err)
        r->err = *a->err;
    r->doc = a->doc ? doc_copy(a->doc) : NULL;
}

static void settle(struct reply *r, const char *what)
{
    wait_for(&r->over, what);
    expect(r->err.kind == ERR_NONE, "%s %s", what, r->err.text);
}

static doc *parse(const char *text)
{
    struct error err = ERROR_INIT;
    doc *d = doc_parse(text, strlen(text), "text", &err);
    if (d == NULL)
        expect(false, "%s: %s", text, err.text);
    return d;
}

struct job_reply {
    bool over, decided;
    struct error err;
    int64_t rows, inserted, updated, deleted;
    char job_id[128];
};

static void on_job(void *arg, const struct bq_job_result *r)
{
    struct job_reply *j = arg;
    j->over = true;
    if (r->err)
        j->err = *r->err;
    j->decided = r->decided;
    j->rows = r->output_rows;
    j->inserted = r->inserted;
    j->updated = r->updated;
    j->deleted = r->deleted;
    snprintf(j->job_id, sizeof(j->job_id), "%s", r->job_id);
}

/* n: its number; the same number again is the same job. Takes over the configuration. */
static struct job_reply job(int n, doc *configuration, const struct http_slice *media, size_t media_count)
{
    struct job_reply r = {0};
    char id[64];
    snprintf(id, sizeof(id), "smoke_%s_%d", run_id, n);
    struct bq_job_spec spec = {.id_base = id, .location = "US", .configuration = configuration, .digest = "smoke", .media = media,
                               .media_count = media_count, .max_tries = 1};
    bq_job_start(bq, &spec, on_job, &r);
    wait_for(&r.over, id);
    doc_free(configuration);
    return r;
}

/* --- rows -------------------------------------------------------------------------------------------------------------------------------- */

struct rows {
    bool over;
    struct error err;
    struct buf text; /* "a,1;b,NULL;" */
    int64_t total;
};

static bool on_row(void *arg, const doc *row)
{
    struct rows *r = arg;
    const doc *cells = doc_get(row, "f");
    for (size_t i = 0; i < doc_len(cells); i++)
        buf_xprintf(&r->text, "%s%s", i ? "," : "", doc_str(doc_at(cells, i), "v", "NULL"));
    buf_xputs(&r->text, ";");
    return true;
}

static void on_rows_end(void *arg, const struct error *err, int64_t total)
{
    struct rows *r = arg;
    r->over = true;
    r->total = total;
    if (err)
        r->err = *err;
}

static void expect_rows(const char *sql, doc *params, const char *want)
{
    static const struct bq_query_events events = {NULL, on_row, on_rows_end};
    struct rows r = {.text = BUF_INIT(1 << 20)};
    buf_xputs(&r.text, "");
    char id[64];
    snprintf(id, sizeof(id), "smoke_%s_q%d", run_id, ++jobs);
    AUTO(doc_free_auto) doc *configuration = bq_query_config(sql, params, 0);
    struct bq_job_spec spec = {.id_base = id, .location = "US", .configuration = configuration, .max_tries = 1};
    bq_query_start(bq, &spec, 2, &events, &r);
    wait_for(&r.over, sql);
    expect(r.err.kind == ERR_NONE && strcmp(r.text.data, want) == 0, "%s is %s (is %s %s)", sql, want, r.text.data, r.err.text);
    buf_free(&r.text);
}

static void expect_target(const char *want)
{
    char sql[1024];
    snprintf(sql, sizeof(sql), "SELECT k, CAST(day AS STRING), v, made FROM `%s.%s` ORDER BY k, v", target.dataset, target.table);
    expect_rows(sql, NULL, want);
}

/* --- cuts -------------------------------------------------------------------------------------------------------------------------------- */

static struct job_reply cut_with(struct sql_cut cut)
{
    static const char *const keys[] = {"k", "day"}, *const order[] = {"score"}, *const keep[] = {"made"};
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = parse(fields);
    AUTO(schema_free_auto) struct schema *schema = schema_parse(d, &err);
    struct buf sql = BUF_INIT(1 << 20);
    doc *params = NULL;
    cut.target = &target;
    cut.schema = schema;
    cut.shards = &shard;
    cut.shard_count = 1;
    if (cut.mode == WRITE_MERGE) {
        cut.keys = keys;
        cut.key_count = 2;
        cut.order_by = order;
        cut.order_count = 1;
        cut.insert_only = keep;
        cut.insert_only_count = 1;
        cut.partition_column = "day";
        cut.has_range = true;
        cut.range_lo = 19723; /* 2024-01-01 */
        cut.range_hi = 19753; /* 2024-01-31 */
    }
    if (sql_consolidate(&cut, &sql, &params, &err) != 0)
        expect(false, "a statement for %s: %s", write_mode_name(cut.mode), err.text);
    struct job_reply r = job(++jobs, bq_query_config(sql.data, params, 0), NULL, 0);
    buf_free(&sql);
    return r;
}

static struct job_reply cut(enum write_mode mode, const struct sql_load *loads, size_t count, const struct sql_exclusion *out, size_t out_count)
{
    return cut_with((struct sql_cut){.mode = mode, .loads = loads, .load_count = count, .exclusions = out, .exclusion_count = out_count});
}

static void expect_counts(const char *what, const struct job_reply *r, int64_t inserted, int64_t updated, int64_t deleted)
{
    expect(r->err.kind == ERR_NONE && r->inserted == inserted && r->updated == updated && r->deleted == deleted,
           "%s: %" PRId64 " inserted, %" PRId64 " updated, %" PRId64 " deleted %s", what, r->inserted, r->updated, r->deleted, r->err.text);
}

static void create(const struct bq_ref *ref, const char *columns, const char *partitioning)
{
    AUTO(doc_free_auto) doc *schema = parse(columns);
    AUTO(doc_free_auto) doc *parts = partitioning ? parse(partitioning) : NULL;
    struct reply r = {0};
    struct bq_table_new n = {.ref = ref, .schema = schema, .partitioning = parts, .expires_ms = loop_wall_ms(loop) + 86400000};
    bq_table_create(bq, &n, on_answer, &r);
    settle(&r, "creating a table");
    doc_free(r.doc);
}

static void prepare(void)
{
    doc *reference = doc_set_str(doc_set_str(doc_object(), "projectId", target.project), "datasetId", target.dataset);
    AUTO(doc_free_auto) doc *dataset = doc_set(doc_object(), "datasetReference", reference);
    doc_set_str(dataset, "location", "US");
    char path[256];
    snprintf(path, sizeof(path), "/projects/%s/datasets", target.project);
    struct reply r = {0};
    bq_send(bq, &(struct bq_request){.method = "POST", .path = path, .body = dataset}, on_answer, &r);
    settle(&r, "creating a dataset");
    doc_free(r.doc);
    create(&target, fields, "{\"timePartitioning\":{\"type\":\"DAY\",\"field\":\"day\"}}");
    create(&shard, shard_fields, NULL);
    AUTO(doc_free_auto) doc *schema = parse(shard_fields);
    struct bq_table_new again = {.ref = &shard, .schema = schema};
    struct reply second = {0};
    bq_table_create(bq, &again, on_answer, &second);
    wait_for(&second.over, "creating it again");
    expect(second.err.code == 409 && strcmp(second.err.reason, "duplicate") == 0, "a second creation is a duplicate: %s", second.err.text);
    doc_free(second.doc);
}

static void load_little(void)
{
    static const char rows[] =
        "{\"k\":\"a\",\"day\":\"2024-01-01\",\"v\":1,\"score\":1.5,\"made\":\"m1\",\"tags\":[\"x\"],\"bqfleet_item\":0,\"bqfleet_row\":0,\"bqfleet_load\":\"L1\"}\n"
        "{\"k\":\"a\",\"day\":\"2024-01-01\",\"v\":2,\"score\":\"NaN\",\"made\":\"m1\",\"tags\":[],\"bqfleet_item\":1,\"bqfleet_row\":0,\"bqfleet_load\":\"L1\"}\n"
        "{\"k\":\"b\",\"day\":\"2024-01-02\",\"v\":3,\"score\":null,\"made\":\"m1\",\"bqfleet_item\":2,\"bqfleet_row\":0,\"bqfleet_load\":\"L1\"}\n",
        more[] =
        "{\"k\":\"a\",\"day\":\"2024-01-01\",\"v\":4,\"score\":1.25,\"made\":\"m2\",\"bqfleet_item\":3,\"bqfleet_row\":0,\"bqfleet_load\":\"L2\"}\n"
        "{\"k\":\"b\",\"day\":\"2024-01-02\",\"v\":5,\"score\":-7.0,\"made\":\"m2\",\"bqfleet_item\":4,\"bqfleet_row\":0,\"bqfleet_load\":\"L2\"}\n"
        "{\"k\":\"b\",\"day\":\"2024-01-02\",\"v\":6,\"score\":-7.0,\"made\":\"m2\",\"bqfleet_item\":4,\"bqfleet_row\":1,\"bqfleet_load\":\"L2\"}\n"
        "{\"k\":\"c\",\"day\":\"2024-01-03\",\"v\":7,\"score\":1,\"made\":\"m2\",\"bqfleet_item\":5,\"bqfleet_row\":0,\"bqfleet_load\":\"L2\"}\n";
    struct http_slice one[] = {{rows, sizeof(rows) - 1}}, two[] = {{more, 20}, {more + 20, sizeof(more) - 1 - 20}};
    int first = ++jobs;
    struct job_reply r = job(first, bq_load_config(&shard), one, 1);
    expect(r.err.kind == ERR_NONE && r.rows == 3, "a load in one request: %" PRId64 " rows %s", r.rows, r.err.text);
    r = job(first, bq_load_config(&shard), one, 1);
    expect(r.err.kind == ERR_NONE && r.rows == 3, "the same job again is found, not run: %" PRId64 " rows %s", r.rows, r.err.text);
    r = job(++jobs, bq_load_config(&shard), two, 2);
    expect(r.err.kind == ERR_NONE && r.rows == 4, "a second load: %" PRId64 " rows %s", r.rows, r.err.text);
    char sql[1024];
    snprintf(sql, sizeof(sql), "SELECT COUNT(*) FROM `%s.%s`", shard.dataset, shard.table);
    expect_rows(sql, NULL, "7;");
}

#define BIG_ROWS 11000
static void load_much(void)
{
    struct buf big = BUF_INIT(64 << 20);
    char filler[901];
    memset(filler, 'x', sizeof(filler) - 1);
    filler[sizeof(filler) - 1] = '\0';
    for (int i = 0; i < BIG_ROWS; i++)
        buf_xprintf(&big, "{\"k\":\"z%d\",\"day\":\"2024-01-04\",\"v\":%d,\"made\":\"%s\",\"bqfleet_item\":%d,\"bqfleet_row\":0,\"bqfleet_load\":\"L3\"}\n", i, i,
                    filler, 10 + i);
    struct http_slice media = {big.data, big.len};
    struct job_reply r = job(++jobs, bq_load_config(&shard), &media, 1);
    expect(r.err.kind == ERR_NONE && r.rows == BIG_ROWS, "a load of %zu bytes in a session: %" PRId64 " rows %s", big.len, r.rows, r.err.text);
    buf_free(&big);
    static const char bad[] = "{\"k\":\"a\",\"v\":\n";
    struct http_slice slice = {bad, sizeof(bad) - 1};
    r = job(++jobs, bq_load_config(&shard), &slice, 1);
    expect(r.err.kind == ERR_TASK && r.decided, "a load of bad rows fails as a task: %s %s", error_kind_name(r.err.kind), r.err.text);
    struct bq_ref nowhere = shard;
    snprintf(nowhere.table, sizeof(nowhere.table), "nowhere");
    slice = (struct http_slice){"{}\n", 3};
    r = job(++jobs, bq_load_config(&nowhere), &slice, 1);
    expect(r.err.kind == ERR_FATAL, "a load into a missing table is fatal: %s %s", error_kind_name(r.err.kind), r.err.text);
}

static void consolidate(void)
{
    static const struct sql_load l1 = {"L1", 3, 0}, l2 = {"L2", 4, 0}, both[] = {{"L1", 3, 0}, {"L2", 4, 0}}, wrong[] = {{"L1", 3, 0}, {"L2", 5, 0}},
                                 gone[] = {{"L9", 0, 0}, {"L8", 1, 0}};
    static const struct sql_exclusion not_four[] = {{"L2", 4}};
    struct job_reply r = cut(WRITE_MERGE, wrong, 2, NULL, 0);
    expect(r.err.kind == ERR_FATAL && strcmp(r.err.reason, "staging") == 0, "a load with a row too few fails: %s", r.err.text);
    r = cut(WRITE_APPEND, gone, 2, NULL, 0);
    expect(r.err.kind == ERR_FATAL && strcmp(r.err.reason, "staging") == 0, "a load without rows fails though nothing is to be written: %s", r.err.text);
    expect_target("");
    r = cut(WRITE_MERGE, &l1, 1, NULL, 0); /* NaN ranks below 1.5 */
    expect_counts("merge of new rows", &r, 2, 0, 0);
    expect_target("a,2024-01-01,1,m1;b,2024-01-02,3,m1;");
    r = cut(WRITE_MERGE, &l2, 1, NULL, 0); /* a: 1.25 is lower than 1.5; b: anything beats NULL, and the greater row wins */
    expect_counts("merge of old and new rows", &r, 1, 1, 0);
    expect_target("a,2024-01-01,1,m1;b,2024-01-02,6,m1;c,2024-01-03,7,m2;");
    r = cut(WRITE_MERGE, &l1, 1, NULL, 0); /* a: on a tie the later increment wins; b: NULL does not beat -7 */
    expect_counts("merge of the same rows", &r, 0, 1, 0);
    r = cut(WRITE_REPLACE, both, 2, not_four, 1);
    expect_counts("replace", &r, 5, 0, 3);
    expect_target("a,2024-01-01,1,m1;a,2024-01-01,2,m1;a,2024-01-01,4,m2;b,2024-01-02,3,m1;c,2024-01-03,7,m2;");
    r = cut(WRITE_REPLACE, wrong, 2, NULL, 0);
    expect(strcmp(r.err.reason, "staging") == 0, "a replace with a row too few fails: %s", r.err.text);
    r = cut(WRITE_APPEND, &l2, 1, not_four, 1);
    expect_counts("append", &r, 2, 0, 0);
    r = cut(WRITE_REPLACE, NULL, 0, NULL, 0);
    expect(r.err.kind == ERR_NONE && r.deleted == 7, "replace without loads empties: %" PRId64 " deleted %s", r.deleted, r.err.text);
    expect_target("");
}

struct granted { bool over; struct permit_grant grant; char token[64]; };

static void on_grant(void *arg, const struct permit_grant *grant, const struct error *err)
{
    struct granted *g = arg;
    expect(grant != NULL, "a permit is given %s", err ? err->text : "");
    g->over = true;
    g->grant.slot = grant->slot;
    snprintf(g->token, sizeof(g->token), "%s", grant->token);
}

static bool at_rest(void *permits) { return permits_rest(permits); }

/* Table, row, take, fence, release. */
static void consolidate_under_a_permit(void)
{
    static const struct sql_load l1 = {"L1", 3, 0};
    struct granted g = {0};
    struct bq_ref table;
    permits_table(&target, &table);
    struct permits *permits = permits_new(&(struct permits_options){.bq = bq, .rnd = &rnd, .table = table, .location = "US", .holder = "smoke", .slots = 1});
    struct permit_use *use = permits_want(permits, "smoke_guarded", "smoke", on_grant, &g);
    wait_for(&g.over, "a permit");
    struct sql_fence fence = {.permits = &table, .slot = g.grant.slot, .token = "another"};
    struct job_reply r = cut_with((struct sql_cut){.mode = WRITE_APPEND, .loads = &l1, .load_count = 1, .fence = &fence});
    expect(strcmp(r.err.reason, PERMIT_LOST) == 0, "a lost permit fails the statement: %s", r.err.text);
    fence.token = g.token;
    r = cut_with((struct sql_cut){.mode = WRITE_APPEND, .loads = &l1, .load_count = 1, .fence = &fence});
    expect_counts("append under a permit", &r, 3, 0, 0);
    permit_end(use, false);
    expect(loop_until(loop, at_rest, permits, WAIT_US), "the permit is released");
    permits_free(permits);
}

static void consolidate_by_side_table(void)
{
    static const struct sql_load both[] = {{"L1", 3, 0}, {"L2", 4, 0}};
    static const struct sql_exclusion not_four[] = {{"L2", 4}};
    static const char rows[] = "{\"kind\":\"load\",\"load\":\"L1\",\"number\":3}\n{\"kind\":\"load\",\"load\":\"L2\",\"number\":4}\n"
                               "{\"kind\":\"exclusion\",\"load\":\"L2\",\"number\":4}\n";
    struct bq_ref side = shard;
    snprintf(side.table, sizeof(side.table), "side");
    create(&side, "{\"fields\":[{\"name\":\"kind\",\"type\":\"STRING\"},{\"name\":\"load\",\"type\":\"STRING\"},{\"name\":\"number\",\"type\":\"INT64\"}]}", NULL);
    struct sql_cut c = {.mode = WRITE_REPLACE, .loads = both, .load_count = 2, .exclusions = not_four, .exclusion_count = 1, .side = &side};
    struct job_reply r = cut_with(c);
    expect(r.err.kind == ERR_FATAL && strcmp(r.err.reason, "staging") == 0, "an empty side table fails: %s", r.err.text);
    struct http_slice slice = {rows, sizeof(rows) - 1};
    r = job(++jobs, bq_load_config(&side), &slice, 1);
    expect(r.rows == 3, "the side table has %" PRId64 " rows", r.rows);
    r = cut_with(c);
    expect_counts("replace by a side table", &r, 5, 0, 3);
}

static void fold(void)
{
    static const struct sql_load whole = {"L1", 3, 0}, short_of = {"L1", 4, 0};
    struct error err = ERROR_INIT;
    AUTO(doc_free_auto) doc *d = parse(fields);
    AUTO(schema_free_auto) struct schema *schema = schema_parse(d, &err);
    struct bq_ref folded = shard;
    snprintf(folded.table, sizeof(folded.table), "folded");
    create(&folded, shard_fields, NULL);
    for (int i = 0; i < 2; i++) {
        struct buf sql = BUF_INIT(1 << 20);
        doc *params = NULL;
        struct sql_cut c = {.target = &folded, .schema = schema, .shards = &shard, .shard_count = 1, .loads = i ? &whole : &short_of, .load_count = 1};
        expect(sql_fold(&c, &sql, &params, &err) == 0, "a statement that folds: %s", err.text);
        struct job_reply r = job(++jobs, bq_query_config(sql.data, params, 0), NULL, 0);
        if (i == 0)
            expect(r.err.kind == ERR_FATAL && strcmp(r.err.reason, "staging") == 0, "a load that is not whole is not folded: %s", r.err.text);
        else
            expect_counts("fold", &r, 3, 0, 0);
        buf_free(&sql);
    }
}

static void on_table(void *arg, struct bq_table *t, const struct error *err)
{
    struct reply *r = arg;
    r->over = true;
    if (err)
        r->err = *err;
    else
        expect(t->partitioning == PART_TIME && strcmp(t->part_field, "day") == 0 && t->schema->count == 6, "the table is as it was created");
}

static void tables(void)
{
    struct reply r[6] = {0};
    bq_table_get(bq, &target, on_table, &r[0]);
    settle(&r[0], "tables.get");
    bq_table_rows(bq, &target, 0, 2, NULL, on_answer, &r[1]);
    settle(&r[1], "tabledata.list");
    expect(doc_len(doc_get(r[1].doc, "rows")) == 2 && doc_int(r[1].doc, "totalRows", 0) == 5, "two rows of five");
    bq_table_rows(bq, &target, 0, 10, doc_str(r[1].doc, "pageToken", NULL), on_answer, &r[2]);
    settle(&r[2], "the next page");
    expect(doc_len(doc_get(r[2].doc, "rows")) == 3, "the other three");
    bq_table_expire(bq, &shard, loop_wall_ms(loop) + 7 * 86400000LL, on_answer, &r[3]);
    settle(&r[3], "renewing a table");
    bq_table_list(bq, target.project, target.dataset, "s", on_answer, &r[4]);
    settle(&r[4], "tables.list");
    expect(doc_len(r[4].doc) == 2, "two tables begin with s");
    for (int i = 0; i < 2; i++) {
        struct reply gone = {0};
        bq_table_delete(bq, &shard, on_answer, &gone);
        settle(&gone, i == 0 ? "deleting a table" : "deleting it again");
        doc_free(gone.doc);
    }
    bq_table_get(bq, &shard, on_table, &r[5]);
    wait_for(&r[5].over, "asking for a deleted table");
    expect(r[5].err.code == 404 && strcmp(r[5].err.reason, "notFound") == 0, "it is gone: %s", r[5].err.text);
    for (size_t i = 0; i < ARRAY_LEN(r); i++)
        doc_free(r[i].doc);
}

static void parameters(void)
{
    static const char *const words[] = {"x", "y"}, *const names[] = {"a", "n"}, *const types[] = {"STRING", "INT64"}, *const values[] = {"p", "1", "q", "2"};
    doc *params = bq_params();
    bq_param(params, "s", "STRING", "it's");
    bq_param(params, "none", "STRING", NULL);
    bq_param_int(params, "n", INT64_MAX);
    bq_param_array(params, "words", "STRING", words, 2);
    bq_param_structs(params, "pairs", names, types, 2, values, 2);
    expect_rows("SELECT @s, @none, @n, ARRAY_LENGTH(@words), (SELECT SUM(p.n) FROM UNNEST(@pairs) AS p)", params, "it's,NULL,9223372036854775807,2,3;");
    expect_rows("SELECT n FROM UNNEST([1, 2, 3, 4, 5]) AS n ORDER BY n", NULL, "1;2;3;4;5;");
    struct buf sql = BUF_INIT(4096);
    sql_give_up(&sql, "it's over \\ here");
    struct job_reply r = job(++jobs, bq_query_config(sql.data, NULL, 0), NULL, 0);
    expect(r.err.kind == ERR_FATAL && strstr(r.err.text, "it's over \\ here"), "giving up says why: %s", r.err.text);
    buf_free(&sql);
}

int main(int argc, char **argv)
{
    if (argc < 2) {
        fprintf(stderr, "usage: bq_smoke URL [PROJECT]\n");
        return 2;
    }
    loop = loop_new();
    rnd_system(&rnd);
    id_new(run_id, loop_wall_ms(loop), &rnd);
    struct http *http = http_curl(loop, &(struct http_options){0});
    struct auth *auth = auth_anonymous();
    struct bq_options o = {.loop = loop, .http = http, .auth = auth, .rnd = &rnd, .base_url = argv[1], .project = argc > 2 ? argv[2] : "local"};
    bq = bq_new(&o);
    snprintf(target.project, sizeof(target.project), "%s", o.project);
    snprintf(target.dataset, sizeof(target.dataset), "smoke_%s", run_id);
    snprintf(target.table, sizeof(target.table), "target");
    shard = target;
    snprintf(shard.table, sizeof(shard.table), "s1");
    prepare();
    load_little();
    load_much();
    consolidate();
    consolidate_under_a_permit();
    consolidate_by_side_table();
    fold();
    parameters();
    tables();
    bq_free(bq);
    auth_free(auth);
    http_free(http);
    loop_free(loop);
    printf("ok all\n");
    return 0;
}
