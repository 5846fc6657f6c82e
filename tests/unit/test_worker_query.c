#include "tests/unit/support_query.h"

/* SQL as a handler: groups of items, one statement each. */

static const struct bqmodel_counters *counters(struct kit *k)
{
    return bqmodel_counters(k->model);
}

/* --- groups -------------------------------------------------------------------------------------------------------------------------------------- */

static void rows_of_a_select_get_into_the_shard_by_groups(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    query_begin(&k, 250);
    assert_true(kit_wait(&k, all_done, 300));
    query_assert_numbers(&k, 250);
    assert_int_equal(k.fold->rows, 250);
    assert_int_equal(counters(&k)->groups, 3);
    assert_int_equal(counters(&k)->loads, 0);
    assert_int_equal(counters(&k)->dry_runs, 2); /* the user's text, and ours around it */
    assert_int_equal(query_jobs(&k, "bqfleet_query_r1_"), 3);
    assert_true(kit_wait(&k, all_committed, 30));
    kit_close(&k);
}

static void items_without_rows_are_done_and_others_have_many(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, "SELECT i.item, i.key AS k, r * 10 AS v FROM UNNEST(@items) AS i, UNNEST(GENERATE_ARRAY(1, CAST(JSON_VALUE(i.payload, '$.n') AS INT64))) AS r", 100);
    query_begin(&k, 5);
    assert_true(kit_wait(&k, all_done, 300));
    int64_t values[5] = {0}, rows[5] = {0};
    query_written(&k, values, rows);
    const int64_t sums[5] = {0, 10, 30, 60, 100};
    for (int i = 0; i < 5; i++) {
        assert_int_equal(rows[i], i);
        assert_int_equal(values[i], sums[i]);
    }
    assert_int_equal(k.fold->failed, 0);
    kit_close(&k);
}

static void a_group_without_rows_is_no_load(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, "SELECT i.item, i.key AS k FROM UNNEST(@items) AS i WHERE i.key = 'nobody'", 100);
    query_begin(&k, 40);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(k.fold->empty, 40);
    assert_int_equal(k.fold->load_count, 0);
    assert_true(kit_wait(&k, all_committed, 30));
    kit_close(&k);
}

static void what_comes_while_a_statement_runs_shares_the_next_one(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 1000);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_SLOW, .times = -1, .ms = 20000});
    query_begin(&k, 30);
    for (int i = 0; i < 30; i++) {
        kit_pass(&k, 1000);
        kit_publish(&k, 10);
    }
    assert_true(kit_wait(&k, all_done, 300));
    query_assert_numbers(&k, 330);
    assert_in_range(counters(&k)->groups, 2, 4);
    kit_close(&k);
}

static bool two_groups(struct kit *k)
{
    return counters(k)->groups == 2;
}

static void what_waited_for_a_statement_does_not_linger_as_well(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 1000);
    k.options.linger_ms = 30000;
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_SLOW, .ms = 5000});
    query_begin(&k, 30);
    kit_pass(&k, 31000);
    assert_int_equal(counters(&k)->groups, 1);
    kit_publish(&k, 10);
    assert_true(kit_wait(&k, two_groups, 6));
    assert_true(kit_wait(&k, all_done, 60));
    kit_close(&k);
}

static bool some_left(struct kit *k)
{
    return k->fold->done >= 2000;
}

static void statements_keep_to_what_bigquery_takes_on_one_table(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 10);
    k.options.parallel = 64;
    query_begin(&k, 2000);
    assert_true(kit_wait(&k, some_left, 3600));
    query_assert_numbers(&k, 2000);
    assert_true(counters(&k)->dml_at_once <= 4);
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(k.model);
    size_t n = doc_len(jobs);
    assert_true(n >= 200);
    for (size_t i = 25; i < n; i++) /* 25 in 10 s */
        assert_true(doc_int(doc_at(jobs, i), "statistics.creationTime", 0) - doc_int(doc_at(jobs, i - 25), "statistics.creationTime", 0) > 10000);
    kit_close(&k);
}

static void parallel_counts_groups(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 10);
    k.options.parallel = 1;
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_SLOW, .times = -1, .ms = 3000});
    query_begin(&k, 100);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(counters(&k)->dml_at_once, 1);
    query_assert_numbers(&k, 100);
    kit_close(&k);
}

static void large_payloads_make_small_groups(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 1000);
    AUTO(free_ptr) char *payload = xmalloc(600 * 1024);
    kit_run(&k, kit_record(&k));
    for (k.next_item = 0; k.next_item < 12; k.next_item++) { /* quotes take two bytes each on the way: six tenths of a group's bytes */
        int n = snprintf(payload, 600 * 1024, "{\"n\":%d,\"x\":\"", (int)k.next_item);
        for (int i = 0; i < 300000; i++)
            memcpy(payload + n + 2 * i, "\\\"", 2);
        memcpy(payload + n + 600000, "\"}", 3);
        kit_publish_item(&k, k.next_item, 0, payload);
    }
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 300));
    query_assert_numbers(&k, 12);
    assert_int_equal(counters(&k)->groups, 12);
    kit_close(&k);
}

/* The partition column's range is asked of the shard, so that the consolidation can leave partitions out. */
static void a_load_says_where_its_rows_lie(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    struct record *r = kit_record(&k);
    snprintf(r->partition_column, sizeof(r->partition_column), "v");
    kit_run(&k, r);
    k.next_item = 0;
    for (; k.next_item < 40; k.next_item++) {
        char payload[32];
        snprintf(payload, sizeof(payload), k.next_item == 30 ? "{}" : "{\"n\":%d}", (int)k.next_item + 7);
        kit_publish_item(&k, k.next_item, 0, payload);
    }
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 300));
    const struct fold_load *l = &k.fold->loads[0];
    assert_int_equal(k.fold->load_count, 1);
    assert_true(l->has_range && l->range_null);
    assert_int_equal(l->range_lo, 7);
    assert_int_equal(l->range_hi, 46);
    kit_close(&k);
}

static void a_range_that_cannot_be_had_is_done_without(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_range", .kind = BQMODEL_STATUS, .times = -1, .status = 503});
    struct record *r = kit_record(&k);
    snprintf(r->partition_column, sizeof(r->partition_column), "v");
    kit_run(&k, r);
    kit_publish(&k, 40);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 300));
    assert_false(k.fold->loads[0].has_range);
    query_assert_numbers(&k, 40);
    kit_close(&k);
}

/* --- failures of items ------------------------------------------------------------------------------------------------------------------------------ */

static void a_group_that_fails_is_split_until_the_culprit_is_alone(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 37);
    kit_publish_item(&k, k.next_item++, 0, "{\"n\":\"many\"}");
    kit_publish(&k, 62);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(k.fold->failed, 1);
    assert_int_equal(k.fold->failures[0].item, 37);
    assert_int_equal(k.fold->failures[0].attempts, 1); /* another attempt would end in the same error */
    assert_string_equal(k.fold->failures[0].reason, "query");
    assert_non_null(strstr(k.fold->failures[0].text, "Bad int64 value: many"));
    query_assert_numbers(&k, 100);
    assert_true(query_jobs(&k, "bqfleet_query") <= 1 + 2 * 7);
    assert_true(kit_wait(&k, all_committed, 30));
    kit_close(&k);
}

static void a_null_in_a_key_fails_its_item(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, "SELECT i.item, JSON_VALUE(i.payload, '$.name') AS k, i.item AS v FROM UNNEST(@items) AS i", 100);
    struct record *r = kit_record(&k);
    r->keys = xcalloc(2, sizeof(char *));
    r->keys[0] = xstrdup("k");
    r->key_count = 1;
    kit_run(&k, r);
    for (; k.next_item < 8; k.next_item++)
        kit_publish_item(&k, k.next_item, 0, k.next_item == 5 ? "{}" : "{\"name\":\"x\"}");
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(k.fold->failed, 1);
    assert_int_equal(k.fold->failures[0].item, 5);
    assert_non_null(strstr(k.fold->failures[0].text, "key column k is NULL in a row of item 5"));
    query_assert_numbers(&k, 8);
    kit_close(&k);
}

static void a_payload_that_is_no_json_fails_its_item(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 3);
    kit_publish_item(&k, k.next_item++, 0, "{nope");
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(k.fold->failed, 1);
    assert_int_equal(k.fold->failures[0].item, 3);
    query_assert_numbers(&k, 4);
    kit_close(&k);
}

static void a_query_that_fails_for_every_item_stops_the_run(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, "SELECT i.item, i.key AS k, DIV(1, 0) AS v FROM UNNEST(@items) AS i", 1000);
    query_begin(&k, 500);
    assert_true(kit_wait(&k, query_fatal, 600));
    assert_non_null(strstr(k.fatal, "failed for each of 20 items alone"));
    assert_non_null(strstr(k.fatal, "division by zero"));
    assert_true(query_jobs(&k, "bqfleet_query") < 100);
    kit_end(&k);
    assert_true(kit_wait(&k, all_committed, 30));
    kit_close(&k);
}

static void what_is_too_much_for_bigquery_is_split(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_ERROR, .times = 3, .reason = "resourcesExceeded",
                                                   .message = "Resources exceeded during query execution: too much memory"});
    query_begin(&k, 100);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(k.fold->failed, 0);
    query_assert_numbers(&k, 100);
    kit_close(&k);
}

/* --- time ------------------------------------------------------------------------------------------------------------------------------------------- */

static void a_group_that_takes_too_long_is_split(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_SLOW, .ms = 60000}); /* twice what an item may take */
    query_begin(&k, 100);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(counters(&k)->groups, 3);
    query_assert_numbers(&k, 100);
    kit_close(&k);
}

static void an_item_that_takes_too_long_alone_has_its_attempts(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_SLOW, .times = -1, .ms = 60000});
    query_begin(&k, 1);
    assert_true(kit_wait(&k, all_done, 600));
    assert_int_equal(k.fold->failed, 1);
    assert_int_equal(k.fold->failures[0].attempts, 3);
    assert_string_equal(k.fold->failures[0].reason, "timeout");
    kit_close(&k);
}

static void a_job_that_does_not_heed_its_timeout_is_cancelled(void **state)
{
    (void)state;
    struct kit k;
    query_open(&k, NUMBERS, 100);
    bqmodel_options(k.model)->endless_jobs = true;
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_query", .kind = BQMODEL_JOB_SLOW, .ms = 3600000});
    query_begin(&k, 10);
    assert_true(kit_wait(&k, all_done, 600));
    assert_int_equal(k.fold->failed, 0);
    query_assert_numbers(&k, 10);
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(k.model);
    assert_string_equal(doc_str(doc_at(jobs, 0), "status.errorResult.reason", ""), "stopped");
    assert_non_null(strstr(doc_str(doc_at(jobs, 0), "status.errorResult.message", ""), "User requested"));
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_a_select_get_into_the_shard_by_groups),
        cmocka_unit_test(items_without_rows_are_done_and_others_have_many),
        cmocka_unit_test(a_group_without_rows_is_no_load),
        cmocka_unit_test(what_comes_while_a_statement_runs_shares_the_next_one),
        cmocka_unit_test(what_waited_for_a_statement_does_not_linger_as_well),
        cmocka_unit_test(statements_keep_to_what_bigquery_takes_on_one_table),
        cmocka_unit_test(parallel_counts_groups),
        cmocka_unit_test(large_payloads_make_small_groups),
        cmocka_unit_test(a_load_says_where_its_rows_lie),
        cmocka_unit_test(a_range_that_cannot_be_had_is_done_without),
        cmocka_unit_test(a_group_that_fails_is_split_until_the_culprit_is_alone),
        cmocka_unit_test(a_null_in_a_key_fails_its_item),
        cmocka_unit_test(a_payload_that_is_no_json_fails_its_item),
        cmocka_unit_test(a_query_that_fails_for_every_item_stops_the_run),
        cmocka_unit_test(what_is_too_much_for_bigquery_is_split),
        cmocka_unit_test(a_group_that_takes_too_long_is_split),
        cmocka_unit_test(an_item_that_takes_too_long_alone_has_its_attempts),
        cmocka_unit_test(a_job_that_does_not_heed_its_timeout_is_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
