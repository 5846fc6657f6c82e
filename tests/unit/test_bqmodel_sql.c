#include "tests/unit/support_bqmodel.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/file.h"
#include "common/base/limits.h"
#include "tests/bq/internal.h"

/* The model's statements: the text is the product's own, the meaning is asserted row by row. */

static const struct cut merge = {.mode = WRITE_MERGE};

static void every_statement_of_the_corpus_is_known(void **state)
{
    (void)state;
    struct error err = ERROR_INIT;
    size_t len = 0, known = 0;
    AUTO(free_ptr) char *path = xasprintf("%.*s/../golden/sql/corpus.ndjson", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    AUTO(free_ptr) char *text = file_read(path, 8 * 1024 * 1024, &len, &err);
    if (text == NULL)
        fail_msg("%s", err.text);
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL && *line; known++) {
        AUTO(doc_free_auto) doc *d = doc_parse(line, strlen(line), "corpus", &err);
        const char *sql = doc_str(d, "sql", ""), *at = NULL;
        bool view = strncmp(doc_str(d, "id", ""), "view_", 5) == 0;
        struct stmt *s = view ? stmt_parse_view(sql, &at) : stmt_parse(sql, &at);
        if (s == NULL)
            fail_msg("%s stops at: %.200s", doc_str(d, "id", "?"), at);
        stmt_free(s);
    }
    assert_true(known > 40);
}

/* Any change of any statement by one character is noticed, but inside of names and numbers. */
static void a_changed_statement_is_unknown(void **state)
{
    (void)state;
    size_t len = 0;
    AUTO(free_ptr) char *path = xasprintf("%.*s/../golden/sql/corpus.ndjson", (int)(strrchr(__FILE__, '/') - __FILE__), __FILE__);
    AUTO(free_ptr) char *text = file_read(path, 8 * 1024 * 1024, &len, NULL);
    assert_non_null(text);
    for (char *rest = text, *line; (line = strsep(&rest, "\n")) != NULL && *line;) {
        AUTO(doc_free_auto) doc *d = doc_parse(line, strlen(line), "corpus", NULL);
        if (strcmp(doc_str(d, "id", ""), "merge_everything") != 0)
            continue;
        AUTO(free_ptr) char *sql = xstrdup(doc_str(d, "sql", ""));
        bool quoted = false;
        for (char *p = sql; *p; p++) {
            const char *at = NULL;
            quoted ^= *p == '`';
            if (quoted || *p == '`' || strncmp(p, "0 AND token", 11) == 0 || strncmp(p, "abc'", 4) == 0 || strncmp(p, "bc'", 3) == 0 || strncmp(p, "c'", 2) == 0)
                continue;
            char was = *p;
            *p = was == 'q' ? 'z' : 'q';
            struct stmt *s = stmt_parse(sql, &at);
            if (s)
                fail_msg("byte %zu is of no account: %.60s", (size_t)(p - sql), p);
            *p = was;
        }
        return;
    }
    fail_msg("the corpus has no merge_everything");
}

static void an_unknown_statement_fails_and_is_remembered(void **state)
{
    struct world *w = *state;
    assert_int_equal(insert_query(w, "u", "DELETE FROM `local`.`ds`.`t`\nWHERE NULL", NULL), 200);
    wait_job(w, "u");
    assert_answer(w, "status.errorResult.reason", "invalidQuery");
    assert_string_equal(bqmodel_unknown_statement(w->m), "DELETE FROM `local`.`ds`.`t`\nWHERE <<<HERE>>>NULL");
    assert_int_equal(ask(w, "POST", "/jobs", "{\"configuration\":{\"query\":{\"query\":\"SELECT ERROR('x')\"}}}"), 200); /* legacy SQL by default */
    AUTO(free_ptr) char *id = xstrdup(doc_str(w->doc, "jobReference.jobId", ""));
    wait_job(w, id);
    assert_answer(w, "status.errorResult.message", "Syntax error");
}

static void giving_up_only_fails(void **state)
{
    struct world *w = *state;
    assert_int_equal(insert_query(w, "g", "SELECT ERROR('it\\'s \\\\ over')", NULL), 200);
    wait_job(w, "g");
    assert_answer(w, "status.errorResult.message", "it's \\ over");
    assert_answer(w, "status.errorResult.reason", "invalidQuery");
    assert_null(bqmodel_unknown_statement(w->m));
    assert_int_equal(ask(w, "GET", "/queries/g?maxResults=0", NULL), 400); /* a failed job is a failed request there */
    assert_answer(w, "error.message", "it's \\ over");
}

static void a_merge_updates_and_inserts_the_first_of_each_key(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[{\"k\":\"a\",\"v\":1},{\"k\":\"z\",\"v\":9}]");
    load(w, "l", "s", PLAIN("a", 2, 0, "l1") PLAIN("b", 3, 1, "l1") PLAIN("b", 4, 2, "l1") PLAIN("x", 5, 3, "other"));
    run_cut(w, &(struct cut){.mode = WRITE_MERGE, .loads = {{"l1", 3, 0}}});
    assert_counts(w, 1, 1, 0);
    assert_answer(w, "statistics.query.statementType", "MERGE");
    assert_rows(w, "ds.t", "[{\"k\":\"a\",\"v\":2,\"at\":null,\"x\":null},{\"k\":\"z\",\"v\":9,\"at\":null,\"x\":null},{\"k\":\"b\",\"v\":4,\"at\":null,\"x\":null}]");
}

static void a_load_that_is_not_whole_fails_every_statement(void **state)
{
    static const enum write_mode modes[] = {WRITE_MERGE, WRITE_APPEND, WRITE_REPLACE};
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[{\"k\":\"z\"}]");
    load(w, "l", "s", PLAIN("a", 2, 0, "l1"));
    for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
        run_cut(w, &(struct cut){.mode = modes[i], .loads = {{"l1", 1, 0}, {"l2", 5, 0}}});
        assert_answer(w, "status.errorResult.message", "bqfleet: load l2 has 0 staged rows instead of 5");
        run_cut(w, &(struct cut){.mode = modes[i], .loads = {{"l1", 0, 0}}});
        assert_answer(w, "status.errorResult.message", "bqfleet: load l1 has 1 staged rows instead of 0");
    }
    assert_int_equal(bqmodel_count(w->m, "ds.t"), 1);
    bqmodel_drop_table(w->m, "ds.s");
    run_cut(w, &merge);
    assert_answer(w, "status.errorResult.reason", "notFound");
}

static void excluded_items_of_a_load_are_left_out(void **state)
{
    struct world *w = *state;
    load(w, "l", "s", PLAIN("a", 1, 0, "l1") PLAIN("b", 2, 1, "l1") PLAIN("a", 3, 0, "l2") PLAIN("c", 4, 2, "l2"));
    run_cut(w, &(struct cut){.mode = WRITE_APPEND, .unkeyed = true, .loads = {{"l1", 2, 0}, {"l2", 2, 0}}, .exclusions = {{"l2", 0}}});
    assert_counts(w, 3, 0, 0);
    assert_rows(w, "ds.t", "[{\"k\":\"a\",\"v\":1,\"at\":null,\"x\":null},{\"k\":\"b\",\"v\":2,\"at\":null,\"x\":null},{\"k\":\"c\",\"v\":4,\"at\":null,\"x\":null}]");
}

static void loads_and_exclusions_may_stand_in_a_side_table_that_is_checked(void **state)
{
    struct world *w = *state;
    const struct cut cut = {.mode = WRITE_APPEND, .unkeyed = true, .side = true, .loads = {{"l1", 1, 0}, {"l2", 2, 0}}, .exclusions = {{"l2", 7}}};
    load(w, "l", "s", PLAIN("a", 1, 7, "l1") PLAIN("a", 2, 7, "l2") PLAIN("b", 3, 8, "l2"));
    bqmodel_add_table(w->m, "ds.side", "kind:STRING, load:STRING, number:INT64");
    bqmodel_insert(w->m, "ds.side", "[{\"kind\":\"load\",\"load\":\"l1\",\"number\":1},{\"kind\":\"load\",\"load\":\"l2\",\"number\":2}]");
    run_cut(w, &cut);
    assert_answer(w, "status.errorResult.message", "bqfleet: the side table lists 2 loads and 0 exclusions, not what was written");
    bqmodel_insert(w->m, "ds.side", "[{\"kind\":\"exclusion\",\"load\":\"l2\",\"number\":7}]");
    run_cut(w, &cut);
    assert_counts(w, 2, 0, 0);
}

static void order_decides_and_the_target_keeps_what_ranks_higher(void **state)
{
    struct world *w = *state;
    const struct cut cut = {.mode = WRITE_MERGE, .order = "x", .loads = {{"l1", 8, 0}}};
    bqmodel_insert(w->m, "ds.t", "[{\"k\":\"high\",\"v\":0,\"x\":9},{\"k\":\"tie\",\"v\":0,\"x\":1},{\"k\":\"null\",\"v\":0},{\"k\":\"nan\",\"v\":0,\"x\":\"NaN\"},"
                                 "{\"k\":\"vsnull\",\"v\":0,\"x\":1}]");
    load(w, "l", "s", ROW("\"high\"", 1, "null", "8", 0, 0, "l1") ROW("\"tie\"", 1, "null", "1", 1, 0, "l1") ROW("\"null\"", 1, "null", "null", 2, 0, "l1")
                      ROW("\"nan\"", 1, "null", "-5", 3, 0, "l1") ROW("\"vsnull\"", 1, "null", "null", 4, 0, "l1")
                      ROW("\"new\"", 1, "null", "2", 9, 5, "l1") ROW("\"new\"", 2, "null", "10", 1, 0, "l1") ROW("\"new\"", 3, "null", "\"NaN\"", 10, 0, "l1"));
    run_cut(w, &cut);
    assert_counts(w, 1, 3, 0);
    assert_rows(w, "ds.t", "[{\"k\":\"high\",\"v\":0,\"at\":null,\"x\":9.0},{\"k\":\"tie\",\"v\":1,\"at\":null,\"x\":1.0},{\"k\":\"null\",\"v\":1,\"at\":null,\"x\":null},"
                           "{\"k\":\"nan\",\"v\":1,\"at\":null,\"x\":-5.0},{\"k\":\"vsnull\",\"v\":0,\"at\":null,\"x\":1.0},{\"k\":\"new\",\"v\":2,\"at\":null,\"x\":10.0}]");
}

static void the_later_item_and_row_win_ties(void **state)
{
    struct world *w = *state;
    load(w, "l", "s", ROW("\"a\"", 1, "\"2024-01-01T00:00:00Z\"", "null", 5, 1, "l1") ROW("\"a\"", 2, "\"2024-01-01 01:00:00+01:00\"", "null", 5, 2, "l1")
                      ROW("\"a\"", 3, "\"2023-12-31T23:59:59.999999Z\"", "null", 7, 0, "l1"));
    run_cut(w, &(struct cut){.mode = WRITE_MERGE, .order = "at", .loads = {{"l1", 3, 0}}});
    assert_rows(w, "ds.t", "[{\"k\":\"a\",\"v\":2,\"at\":\"2024-01-01T00:00:00Z\",\"x\":null}]");
}

static void insert_only_columns_stay(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[{\"k\":\"a\",\"v\":1,\"x\":1}]");
    load(w, "l", "s", ROW("\"a\"", 2, "null", "2", 0, 0, "l1"));
    run_cut(w, &(struct cut){.mode = WRITE_MERGE, .keep = "v"});
    assert_rows(w, "ds.t", "[{\"k\":\"a\",\"v\":1,\"at\":null,\"x\":2.0}]");
}

static void a_null_key_equals_nothing_in_the_target(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[{\"v\":1}]");
    load(w, "l", "s", ROW("null", 2, "null", "null", 0, 0, "l1") ROW("null", 3, "null", "null", 1, 0, "l1"));
    run_cut(w, &(struct cut){.mode = WRITE_MERGE, .loads = {{"l1", 2, 0}}});
    assert_counts(w, 1, 0, 0); /* the two are one key where they are ranked */
}

static void keys_are_compared_by_their_type(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[{\"k\":\"t\",\"v\":1,\"at\":\"2024-01-01 02:00:00.100+02:00\"}]");
    load(w, "l", "s", ROW("\"s\"", 2, "\"2024-01-01T00:00:00.1Z\"", "null", 0, 0, "l1"));
    run_cut(w, &(struct cut){.mode = WRITE_MERGE, .key = "at"});
    assert_counts(w, 0, 1, 0);
    assert_rows(w, "ds.t", "[{\"k\":\"s\",\"v\":2,\"at\":\"2024-01-01T00:00:00.1Z\",\"x\":null}]");
}

static void a_wrong_partition_range_shows_as_a_second_row(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[{\"k\":\"t\",\"v\":5},{\"k\":\"t\",\"v\":6}]");
    load(w, "l", "s", PLAIN("a", 5, 0, "l1") PLAIN("b", 6, 1, "l1"));
    run_cut(w, &(struct cut){.mode = WRITE_MERGE, .key = "v", .part = "v", .lo = 6, .hi = 9, .loads = {{"l1", 2, 0}}});
    assert_counts(w, 1, 1, 0);
    assert_rows(w, "ds.t", "[{\"k\":\"t\",\"v\":5,\"at\":null,\"x\":null},{\"k\":\"b\",\"v\":6,\"at\":null,\"x\":null},{\"k\":\"a\",\"v\":5,\"at\":null,\"x\":null}]");
    run_cut(w, &(struct cut){.mode = WRITE_MERGE, .key = "at", .part = "at", .lo = 0, .hi = START_US, .loads = {{"l1", 2, 0}}});
    assert_good(w);
}

static void two_source_rows_for_one_target_row_are_an_error(void **state)
{
    struct world *w = *state;
    /* Ranked by two keys, joined by one: not what the product writes, but what the message is about. */
    static const struct bq_ref target = {"local", "ds", "t"}, shard = {"local", "ds", "s"};
    struct names columns = {0}, types = {0}, on = {0}, keys = {0}, set = {0};
    struct effects e;
    struct error err = ERROR_INIT;
    bqmodel_insert(w->m, "ds.t", "[{\"k\":\"a\",\"v\":0}]");
    load(w, "l", "s", PLAIN("a", 1, 0, "l1") PLAIN("a", 2, 1, "l1"));
    names_add(&columns, "k", 1);
    names_add(&columns, "v", 1);
    names_add(&types, "STRING", 6);
    names_add(&types, "INT64", 5);
    names_add(&on, "k", 1);
    names_add(&keys, "v", 1);
    names_add(&set, "v", 1);
    struct bq_ref shards[] = {shard};
    const struct stmt s = {.kind = STMT_MERGE, .target = target, .columns = columns, .types = types, .on = on, .keys = keys, .set = set, .shards = shards,
                           .shard_count = 1};
    const char *const fields[] = {"load", "rows"}, *const kinds[] = {"STRING", "INT64"}, *const values[] = {"l1", "2"};
    AUTO(doc_free_auto) doc *params = bq_param_structs(bq_params(), "loads", fields, kinds, 2, values, 1);
    assert_int_equal(stmt_run(w->m, &s, params, &e, &err), -1);
    assert_string_equal(err.text, "UPDATE/MERGE must match at most one source row for each target row");
    names_free(&columns);
    names_free(&types);
    names_free(&on);
    names_free(&keys);
    names_free(&set);
}

static void replace_empties_the_target_also_without_loads(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[{\"k\":\"old\"},{\"k\":\"older\"}]");
    load(w, "l", "s", PLAIN("a", 1, 0, "l1"));
    run_cut(w, &(struct cut){.mode = WRITE_REPLACE, .unkeyed = true});
    assert_counts(w, 1, 0, 2);
    assert_rows(w, "ds.t", "[{\"k\":\"a\",\"v\":1,\"at\":null,\"x\":null}]");
    run_cut(w, &(struct cut){.mode = WRITE_REPLACE, .nothing = true});
    assert_counts(w, 0, 0, 1);
    assert_answer(w, "statistics.query.statementType", "DELETE");
    assert_int_equal(bqmodel_count(w->m, "ds.t"), 0);
}

static const struct bq_ref permits = {"local", "ds", "permits"};
static const struct sql_fence fence = {&permits, 1, "mine"};

static void a_lost_permit_fails_the_statement(void **state)
{
    struct world *w = *state;
    bqmodel_add_table(w->m, "ds.permits", "slot:INT64, token:STRING, expires:TIMESTAMP");
    bqmodel_insert(w->m, "ds.permits", "[{\"slot\":1,\"token\":\"mine\",\"expires\":\"2026-01-01T00:01:00Z\"},"
                                       "{\"slot\":0,\"token\":\"mine\",\"expires\":\"2027-01-01T00:00:00Z\"},{\"slot\":1,\"token\":\"other\",\"expires\":\"2027-01-01T00:00:00Z\"}]");
    load(w, "l", "s", PLAIN("a", 1, 0, "l1"));
    run_cut(w, &(struct cut){.mode = WRITE_MERGE, .fence = &fence});
    assert_counts(w, 1, 0, 0);
    world_sleep(w, 60000);
    run_cut(w, &(struct cut){.mode = WRITE_MERGE, .fence = &fence});
    assert_answer(w, "status.errorResult.message", "bqfleet: the permit is lost");
    run_cut(w, &(struct cut){.mode = WRITE_REPLACE, .nothing = true, .fence = &fence});
    assert_answer(w, "status.errorResult.message", "bqfleet: the permit is lost");
    assert_int_equal(bqmodel_count(w->m, "ds.t"), 1);
}

static void tables_that_do_not_fit_the_statement_fail_it(void **state)
{
    struct world *w = *state;
    load(w, "l", "s", PLAIN("a", 1, 0, "l1"));
    bqmodel_drop_table(w->m, "ds.t");
    bqmodel_add_table(w->m, "ds.t", "k:STRING, v:NUMERIC, at:TIMESTAMP, x:FLOAT64");
    run_cut(w, &merge);
    assert_answer(w, "status.errorResult.reason", "invalidQuery");
    bqmodel_drop_table(w->m, "ds.t");
    bqmodel_add_table(w->m, "ds.t", "k:STRING, v:INT64, at:TIMESTAMP, x:FLOAT64, y:STRING REQUIRED");
    run_cut(w, &merge);
    assert_answer(w, "status.errorResult.message", "Required field y cannot be null");
}

/* --- several at once ------------------------------------------------------------------------------------------------------------------------- */

static void two_merges_that_only_insert_both_do(void **state)
{
    struct world *w = *state;
    load(w, "l", "s", PLAIN("a", 1, 0, "l1"));
    assert_int_equal(insert_cut(w, "m1", &merge), 200);
    assert_int_equal(insert_cut(w, "m2", &merge), 200);
    wait_job(w, "m1");
    wait_job(w, "m2");
    assert_counts(w, 1, 0, 0);
    assert_int_equal(bqmodel_count(w->m, "ds.t"), 2); /* this is why there are permits */
    assert_int_equal(bqmodel_counters(w->m)->dml_at_once, 2);
}

static void the_loser_of_a_conflict_runs_anew(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[{\"k\":\"a\",\"v\":1}]");
    load(w, "l", "s", PLAIN("a", 2, 0, "l1"));
    assert_int_equal(insert_cut(w, "m1", &merge), 200);
    assert_int_equal(insert_cut(w, "m2", &(struct cut){.mode = WRITE_REPLACE}), 200);
    wait_job(w, "m2");
    assert_good(w);
    assert_int_equal(bqmodel_counters(w->m)->reruns, 1);
    assert_rows(w, "ds.t", "[{\"k\":\"a\",\"v\":2,\"at\":null,\"x\":null}]");
}

static void an_insert_never_conflicts(void **state)
{
    struct world *w = *state;
    bqmodel_insert(w->m, "ds.t", "[{\"k\":\"a\",\"v\":1}]");
    load(w, "l", "s", PLAIN("a", 2, 0, "l1"));
    assert_int_equal(insert_cut(w, "m", &merge), 200);
    assert_int_equal(insert_cut(w, "i", &(struct cut){.mode = WRITE_APPEND}), 200);
    wait_job(w, "i");
    assert_good(w);
    assert_int_equal(bqmodel_counters(w->m)->reruns, 0);
    assert_rows(w, "ds.t", "[{\"k\":\"a\",\"v\":2,\"at\":null,\"x\":null},{\"k\":\"a\",\"v\":2,\"at\":null,\"x\":null}]");
}

static void two_mutating_statements_run_twenty_wait_and_the_next_fails(void **state)
{
    struct world *w = *state;
    char id[32];
    load(w, "l", "s", PLAIN("a", 1, 0, "l1"));
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "m", .kind = BQMODEL_JOB_SLOW, .ms = 1000, .times = 23});
    for (int i = 0; i < 23; i++) {
        snprintf(id, sizeof(id), "m%d", i);
        assert_int_equal(insert_cut(w, id, &merge), 200);
    }
    assert_answer(w, "status.state", "DONE");
    assert_answer(w, "status.errorResult.reason", "resourcesExceeded");
    assert_answer(w, "status.errorResult.message", "Too many DML statements outstanding against table local:ds.t, limit is 20.");
    get_job(w, "m1");
    assert_answer(w, "status.state", "RUNNING");
    get_job(w, "m2");
    assert_answer(w, "status.state", "PENDING");
    assert_int_equal(insert_cut(w, "i", &(struct cut){.mode = WRITE_APPEND}), 200); /* INSERT is not of them */
    wait_job(w, "i");
    assert_good(w);
    wait_job(w, "m21");
    assert_good(w);
    assert_int_equal(bqmodel_counters(w->m)->dml_at_once, 2);
    assert_int_equal(bqmodel_counters(w->m)->merges, 23);
    assert_int_equal(bqmodel_counters(w->m)->inserts, 1);
}

static void results_wait_for_the_job_as_long_as_asked(void **state)
{
    struct world *w = *state;
    load(w, "l", "s", PLAIN("a", 1, 0, "l1"));
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "m", .kind = BQMODEL_JOB_SLOW, .ms = 20000});
    assert_int_equal(insert_cut(w, "m", &merge), 200);
    int64_t before = loop_now_ms(w->loop);
    assert_int_equal(ask(w, "GET", "/queries/m?maxResults=0&timeoutMs=5000", NULL), 200);
    assert_int_equal(loop_now_ms(w->loop) - before, 5002);
    assert_false(doc_bool(w->doc, "jobComplete", true));
    assert_int_equal(ask(w, "GET", "/queries/m?maxResults=0&timeoutMs=50000", NULL), 200);
    assert_true(doc_bool(w->doc, "jobComplete", false));
    assert_true(loop_now_ms(w->loop) - before < 20100);
    assert_answer(w, "numDmlAffectedRows", "1");
    assert_null(doc_get(w->doc, "dmlStats"));
}

/* --- the product's own client ---------------------------------------------------------------------------------------------------------------- */

struct outcome { bool came; struct error err; int64_t output_rows, inserted; int tries; };

static void on_job(void *arg, const struct bq_job_result *r)
{
    struct outcome *o = arg;
    *o = (struct outcome){.came = true, .output_rows = r->output_rows, .inserted = r->inserted, .tries = r->tries};
    if (r->err)
        o->err = *r->err;
}

static bool job_came(void *arg)
{
    return ((struct outcome *)arg)->came;
}

static void run_job(struct world *w, struct bq *bq, const struct bq_job_spec *spec, struct outcome *o)
{
    *o = (struct outcome){0};
    bq_job_start(bq, spec, on_job, o);
    assert_true(loop_until(w->loop, job_came, o, 600 * US_PER_S));
    if (o->err.kind != ERR_NONE)
        fail_msg("%s", o->err.text);
}

static void the_products_client_loads_through_losses(void **state)
{
    struct world *w = *state;
    struct rnd rnd;
    rnd_seeded(&rnd, 1);
    struct auth *auth = auth_anonymous();
    struct bq *bq = bq_new(&(struct bq_options){.loop = w->loop, .http = w->http, .auth = auth, .rnd = &rnd, .base_url = "http://model", .project = "local"});
    static const char row[] = PLAIN("a", 1, 0, "l1");
    const size_t size = LIMIT_MULTIPART + 1000;
    AUTO(free_ptr) char *data = xmalloc(size);
    memset(data, ' ', size);
    memcpy(data + size - (sizeof(row) - 1), row, sizeof(row) - 1);
    struct http_slice media = {data, size};
    static const struct bq_ref shard = {"local", "ds", "s"};
    AUTO(doc_free_auto) doc *load_config = bq_load_config(&shard);
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_KEEP_FEWER, .bytes = UPLOAD_CHUNK / 4});
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_LOSE_REPLY, .skip = 1});
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "big_t0", .kind = BQMODEL_JOB_ERROR, .reason = "jobBackendError"});
    struct outcome o;
    run_job(w, bq, &(struct bq_job_spec){.id_base = "big", .digest = "d1", .configuration = load_config, .media = &media, .media_count = 1}, &o);
    assert_int_equal(o.output_rows, 1);
    assert_int_equal(o.tries, 2);
    assert_int_equal(bqmodel_count(w->m, "ds.s"), 1);
    bqmodel_fault(w->m, &(struct bqmodel_fault){.match = "POST", .kind = BQMODEL_LOSE_REPLY});
    media.len = 0;
    run_job(w, bq, &(struct bq_job_spec){.id_base = "none", .digest = "d2", .configuration = load_config, .media = &media, .media_count = 1}, &o);
    assert_int_equal(o.output_rows, 0);
    assert_int_equal(bqmodel_counters(w->m)->duplicates, 1);
    assert_int_equal(bqmodel_counters(w->m)->faults, 4);
    bq_free(bq);
    auth_free(auth);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, world_setup, world_teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_statement_of_the_corpus_is_known),
        cmocka_unit_test(a_changed_statement_is_unknown),
        TEST(an_unknown_statement_fails_and_is_remembered),
        TEST(giving_up_only_fails),
        TEST(a_merge_updates_and_inserts_the_first_of_each_key),
        TEST(a_load_that_is_not_whole_fails_every_statement),
        TEST(excluded_items_of_a_load_are_left_out),
        TEST(loads_and_exclusions_may_stand_in_a_side_table_that_is_checked),
        TEST(order_decides_and_the_target_keeps_what_ranks_higher),
        TEST(the_later_item_and_row_win_ties),
        TEST(insert_only_columns_stay),
        TEST(a_null_key_equals_nothing_in_the_target),
        TEST(keys_are_compared_by_their_type),
        TEST(a_wrong_partition_range_shows_as_a_second_row),
        TEST(two_source_rows_for_one_target_row_are_an_error),
        TEST(replace_empties_the_target_also_without_loads),
        TEST(a_lost_permit_fails_the_statement),
        TEST(tables_that_do_not_fit_the_statement_fail_it),
        TEST(two_merges_that_only_insert_both_do),
        TEST(the_loser_of_a_conflict_runs_anew),
        TEST(an_insert_never_conflicts),
        TEST(two_mutating_statements_run_twenty_wait_and_the_next_fails),
        TEST(results_wait_for_the_job_as_long_as_asked),
        TEST(the_products_client_loads_through_losses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
