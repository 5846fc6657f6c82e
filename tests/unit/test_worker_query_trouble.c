#include "tests/unit/support_query.h"

/* SQL as a handler: statements that cannot be run, services that fail, workers that leave or die, rows that are only read. */

static bool waits_visibly(struct kit *k)
{
    struct worker_state s;
    worker_state(k->worker, &s);
    return strstr(s.waits_for, "next try in") != NULL || strstr(s.waits_for, "waiting for a quota until") != NULL;
}

static bool job_runs(struct kit *k)
{
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(k->model);
    return doc_len(jobs) > 0 && strcmp(doc_str(doc_at(jobs, 0), "status.state", ""), "RUNNING") == 0;
}

/* --- statements that cannot be run ------------------------------------------------------------------------------------------------------------------ */

/* The run stops with these words before any statement was run. */
static void assert_refused(const char *sql, const char *why)
{
    struct kit k;
    query_open(&k, sql, 100);
    query_begin(&k, 20);
    assert_true(kit_wait(&k, query_fatal, 100));
    if (strstr(k.fatal, why) == NULL)
        fail_msg("\"%s\" instead of \"%s\"", k.fatal, why);
    assert_int_equal(query_jobs(&k, ""), 0);
    assert_int_equal(kit_committed(&k), 0);
    kit_end(&k);
    assert_true(kit_wait(&k, all_committed, 30));
    kit_close(&k);
}

static void a_query_that_does_not_fit_stops_the_run_before_anything_runs(void **state)
{
    (void)state;
    assert_refused("SELECT i.item,\n  i.nope AS k FROM UNNEST(@items) AS i", "at [2:");
    assert_refused("SELECT i.key AS k FROM UNNEST(@items) AS i", "the query of handler work: it returns no column item");
    assert_refused("SELECT i.item, i.key AS kk FROM UNNEST(@items) AS i", "it returns a column kk, which the target has not");
    assert_refused("SELECT i.key AS item, i.key AS k FROM UNNEST(@items) AS i", "column item is a STRING");
    assert_refused("SELECT i.item, i.key AS v FROM UNNEST(@items) AS i", "has type STRING which cannot be inserted into column v, which has type INT64");
}

static void what_bigquery_calls_no_select_is_refused(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "POST /bigquery/v2/projects/p/jobs", .kind = BQMODEL_STATUS, .status = 200,
        .body = "{\"configuration\":{\"dryRun\":true},\"status\":{\"state\":\"DONE\"},\"statistics\":{\"query\":{\"statementType\":\"SCRIPT\",\"schema\":{\"fields\":[]}}}}"});
    query_begin(&k, 20);
    assert_true(kit_wait(&k, query_fatal, 100));
    assert_non_null(strstr(k.fatal, "it is a SCRIPT; a query handler is one SELECT"));
    kit_close(&k);
}

static void a_service_without_dry_runs_is_not_trusted(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "POST /bigquery/v2/projects/p/jobs", .kind = BQMODEL_STATUS, .status = 200,
                                                   .body = "{\"status\":{\"state\":\"DONE\"},\"statistics\":{}}"});
    query_begin(&k, 20);
    assert_true(kit_wait(&k, query_fatal, 100));
    assert_non_null(strstr(k.fatal, "does not say what a statement would do"));
    kit_close(&k);
}

static void a_row_of_an_item_that_was_not_asked_for_stops_the_run(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, "SELECT i.item + 1 AS item, i.key AS k FROM UNNEST(@items) AS i", 100);
    query_begin(&k, 20);
    assert_true(kit_wait(&k, query_fatal, 100));
    assert_non_null(strstr(k.fatal, "the query returned a row of item 20, which is none of those in @items"));
    assert_int_equal(query_jobs(&k, "bqfleet_query"), 1); /* nobody's data are at fault: there is nothing to look for */
    assert_int_equal(kit_rows(&k), 0);
    kit_close(&k);
}

static void a_refused_permission_stops_the_run(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_ERROR, .reason = "accessDenied",
                                                   .message = "Access Denied: Table p:d.prices: User does not have permission to query table"});
    query_begin(&k, 20);
    assert_true(kit_wait(&k, query_fatal, 100));
    assert_non_null(strstr(k.fatal, "p:d.prices"));
    assert_int_equal(k.fold->failed, 0);
    kit_close(&k);
}

/* A table it reads has changed since the dry runs: no item is at fault. */
static void a_statement_that_is_wrong_later_stops_the_run(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery",
                                                   .message = "Unrecognized name: price at [3:17]"});
    query_begin(&k, 20);
    assert_true(kit_wait(&k, query_fatal, 100));
    assert_non_null(strstr(k.fatal, "Unrecognized name: price at [3:17]"));
    kit_close(&k);
}

/* --- services that fail ------------------------------------------------------------------------------------------------------------------------------ */

static void replies_that_are_lost_double_nothing(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_LOSE_REPLY, .times = 4});
    query_begin(&k, 250);
    assert_true(kit_wait(&k, all_done, 600));
    assert_true(bqmodel_counters(k.model)->duplicates > 0);
    assert_int_equal(k.fold->rows, 250);
    assert_int_equal(kit_rows(&k), 250);
    query_assert_numbers(&k, 250);
    kit_close(&k);
}

/* For longer than a request is repeated: nobody knows whether it ran, so it is asked for under the same id. */
static void answers_that_are_lost_for_long_double_nothing(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_LOSE_REPLY, .times = -1});
    query_begin(&k, 50);
    assert_true(kit_wait(&k, waits_visibly, 3600));
    assert_int_equal(kit_committed(&k), 0);
    bqmodel_clear_faults(k.model);
    assert_true(kit_wait(&k, all_done, 600));
    assert_int_equal(query_jobs(&k, "bqfleet_query"), 1);
    assert_int_equal(kit_rows(&k), 50);
    query_assert_numbers(&k, 50);
    kit_close(&k);
}

static void a_statement_that_fails_for_a_while_is_tried_under_the_next_id(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "_t0", .kind = BQMODEL_JOB_ERROR, .reason = "jobBackendError", .message = "again"});
    query_begin(&k, 50);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(k.fold->load_count, 1);
    AUTO(free_ptr) char *id = xasprintf("bqfleet_query_r1_%s_t1", k.fold->loads[0].id);
    assert_int_equal(query_jobs(&k, id), 1);
    query_assert_numbers(&k, 50);
    kit_close(&k);
}

static void a_quota_is_waited_for_visibly(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_ERROR, .times = 9, .reason = "quotaExceeded",
                                                   .message = "Quota exceeded: your project"});
    query_begin(&k, 50);
    assert_true(kit_wait(&k, waits_visibly, 6 * 3600));
    assert_int_equal(kit_committed(&k), 0);
    assert_true(kit_wait(&k, all_done, 6 * 3600));
    assert_int_equal(k.fold->failed, 0);
    query_assert_numbers(&k, 50);
    kit_close(&k);
}

static void a_dry_run_that_gets_no_answer_is_made_again(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "POST /bigquery/v2/projects/p/jobs", .kind = BQMODEL_STATUS, .times = -1, .status = 503});
    query_begin(&k, 50);
    assert_true(kit_wait(&k, waits_visibly, 6 * 3600));
    bqmodel_clear_faults(k.model);
    assert_true(kit_wait(&k, all_done, 600));
    query_assert_numbers(&k, 50);
    kit_close(&k);
}

/* --- workers that leave or die ------------------------------------------------------------------------------------------------------------------------ */

static void slow_job(struct kit *k)
{
    bqmodel_fault(k->model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_SLOW, .ms = 20000});
}

static void a_drain_waits_for_its_statement(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    slow_job(&k);
    query_begin(&k, 50);
    assert_true(kit_wait(&k, job_runs, 30));
    kit_drain(&k, 60000);
    assert_int_equal(k.fold->done, 50);
    assert_int_equal(kit_committed(&k), 50);
    query_assert_numbers(&k, 50);
    kit_close(&k);
}

static void a_drain_that_is_over_sooner_hands_the_items_back_and_cancels(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    slow_job(&k);
    query_begin(&k, 50);
    assert_true(kit_wait(&k, job_runs, 30));
    kit_drain(&k, 3000);
    assert_int_equal(k.fold->done, 0);
    assert_int_equal(kit_committed(&k), 0);
    kit_pass(&k, 1000);
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(k.model);
    assert_string_equal(doc_str(doc_at(jobs, 0), "status.errorResult.reason", ""), "stopped");
    kit_start(&k); /* another one */
    assert_true(kit_wait(&k, all_done, 300));
    query_assert_numbers(&k, 50);
    kit_close(&k);
}

static void the_end_of_a_run_cancels_its_statement(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    slow_job(&k);
    query_begin(&k, 50);
    assert_true(kit_wait(&k, job_runs, 30));
    kit_end(&k);
    assert_true(kit_wait(&k, all_committed, 30));
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(k.model);
    assert_string_equal(doc_str(doc_at(jobs, 0), "status.errorResult.reason", ""), "stopped");
    kit_close(&k);
}

/* Its jobs run in the project that the run's record names, not in the worker's. */
static void a_run_of_another_project_has_its_statement_cancelled_too(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    slow_job(&k);
    struct record *r = kit_record(&k);
    snprintf(r->project, sizeof(r->project), "q");
    kit_run(&k, r);
    kit_publish(&k, 50);
    kit_start(&k);
    assert_true(kit_wait(&k, job_runs, 30));
    kit_end(&k);
    assert_true(kit_wait(&k, all_committed, 30));
    kit_pass(&k, 1000);
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(k.model);
    assert_string_equal(doc_str(doc_at(jobs, 0), "status.errorResult.reason", ""), "stopped");
    kit_close(&k);
}

static bool jobs_are_over(struct kit *k)
{
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(k->model);
    for (size_t i = 0; i < doc_len(jobs); i++)
        if (strcmp(doc_str(doc_at(jobs, i), "status.state", ""), "DONE") != 0)
            return false;
    return true;
}

/* A worker dies in the middle of a group, and its statement goes on: those rows are of a load that nobody ever names. */
static void the_statement_of_a_dead_worker_writes_rows_that_nobody_reads(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    query_begin(&k, 50);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_SLOW, .ms = 20000});
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "/cancel", .kind = BQMODEL_DROP_BEFORE, .times = -1}); /* a dead process cancels nothing */
    assert_true(kit_wait(&k, job_runs, 30));
    worker_free(k.worker);
    k.worker = NULL;
    assert_true(kit_wait(&k, jobs_are_over, 60));
    assert_int_equal(kit_rows(&k), 50);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(kit_rows(&k), 100);
    assert_int_equal(k.fold->load_count, 1);
    query_assert_numbers(&k, 50);
    kit_close(&k);
}

static void a_paused_run_begins_no_group(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 10);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_SLOW, .times = -1, .ms = 5000});
    query_begin(&k, 100);
    assert_true(kit_wait(&k, job_runs, 30));
    kit_state(&k, true);
    kit_pass(&k, 60000);
    int64_t begun = query_jobs(&k, "bqfleet_query");
    assert_in_range(begun, 1, 3);
    kit_pass(&k, 60000);
    assert_int_equal(query_jobs(&k, "bqfleet_query"), begun);
    kit_state(&k, false);
    assert_true(kit_wait(&k, all_done, 600));
    query_assert_numbers(&k, 100);
    kit_close(&k);
}

/* --- rows that are only read -------------------------------------------------------------------------------------------------------------------------- */

static struct { int64_t items, rows; struct buf text; } shown;
static void on_rows(void *arg, int64_t item, const char *lines, size_t len)
{
    (void)arg;
    (void)item;
    shown.items++;
    for (size_t i = 0; i < len; i++)
        shown.rows += lines[i] == '\n';
    buf_xadd(&shown.text, lines, len);
}

static void begin_reading(struct kit *k, int items)
{
    struct record *r = kit_record(k);
    r->mode = WRITE_NONE;
    r->has_target = false;
    r->timeout_ms = 3600000;
    k->options.rows = on_rows;
    shown.items = shown.rows = 0;
    shown.text = BUF_INIT(1 << 20);
    kit_run(k, r);
    kit_publish(k, items);
    kit_start(k);
}

static void without_a_table_rows_are_read_and_told(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, "SELECT i.item, i.key AS k, r AS v FROM UNNEST(@items) AS i, UNNEST(GENERATE_ARRAY(1, CAST(JSON_VALUE(i.payload, '$.n') AS INT64))) AS r", 20);
    bqmodel_options(k.model)->page_rows = 7;
    begin_reading(&k, 30);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(shown.rows, 29 * 30 / 2);
    assert_int_equal(shown.items, 29); /* item 0 has none */
    assert_non_null(strstr(shown.text.data, "{\"k\":\"k29\",\"v\":29}\n")); /* without its index */
    assert_int_equal(kit_rows(&k), 0);
    assert_int_equal(bqmodel_counters(k.model)->groups, 0);
    buf_free(&shown.text);
    kit_close(&k);
}

static void rows_that_are_read_find_the_culprit_too(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    begin_reading(&k, 10);
    kit_publish_item(&k, k.next_item++, 0, "{\"n\":\"many\"}");
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(k.fold->failed, 1);
    assert_int_equal(k.fold->failures[0].item, 10);
    assert_int_equal(shown.rows, 10);
    buf_free(&shown.text);
    kit_close(&k);
}

/* What was read of a result that breaks off is forgotten. */
static void a_result_that_breaks_off_is_read_anew(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_options(k.model)->page_rows = 10;
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "pageToken=20", .kind = BQMODEL_STATUS, .times = -1, .status = 503});
    begin_reading(&k, 50);
    assert_true(kit_wait(&k, waits_visibly, 3600));
    assert_int_equal(shown.rows, 0);
    bqmodel_clear_faults(k.model);
    assert_true(kit_wait(&k, all_done, 600));
    assert_int_equal(shown.rows, 50);
    buf_free(&shown.text);
    kit_close(&k);
}

static void rows_that_are_read_stay_within_the_buffer(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, "SELECT i.item, i.key AS k, r AS v FROM UNNEST(@items) AS i, UNNEST(GENERATE_ARRAY(1, 100)) AS r", 20);
    k.options.buffer = 10000; /* four items' */
    begin_reading(&k, 20);
    assert_true(kit_wait(&k, all_done, 3600));
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(shown.rows, 2000);
    buf_free(&shown.text);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_query_that_does_not_fit_stops_the_run_before_anything_runs),
        cmocka_unit_test(what_bigquery_calls_no_select_is_refused),
        cmocka_unit_test(a_service_without_dry_runs_is_not_trusted),
        cmocka_unit_test(a_row_of_an_item_that_was_not_asked_for_stops_the_run),
        cmocka_unit_test(a_refused_permission_stops_the_run),
        cmocka_unit_test(a_statement_that_is_wrong_later_stops_the_run),
        cmocka_unit_test(replies_that_are_lost_double_nothing),
        cmocka_unit_test(answers_that_are_lost_for_long_double_nothing),
        cmocka_unit_test(a_statement_that_fails_for_a_while_is_tried_under_the_next_id),
        cmocka_unit_test(a_quota_is_waited_for_visibly),
        cmocka_unit_test(a_dry_run_that_gets_no_answer_is_made_again),
        cmocka_unit_test(a_drain_waits_for_its_statement),
        cmocka_unit_test(a_drain_that_is_over_sooner_hands_the_items_back_and_cancels),
        cmocka_unit_test(the_end_of_a_run_cancels_its_statement),
        cmocka_unit_test(a_run_of_another_project_has_its_statement_cancelled_too),
        cmocka_unit_test(the_statement_of_a_dead_worker_writes_rows_that_nobody_reads),
        cmocka_unit_test(a_paused_run_begins_no_group),
        cmocka_unit_test(without_a_table_rows_are_read_and_told),
        cmocka_unit_test(rows_that_are_read_find_the_culprit_too),
        cmocka_unit_test(a_result_that_breaks_off_is_read_anew),
        cmocka_unit_test(rows_that_are_read_stay_within_the_buffer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
