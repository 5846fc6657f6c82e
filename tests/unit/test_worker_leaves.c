#include "tests/unit/support_worker.h"
#include "worker/core.h"
#include "worker/fatal.h"

/* What a worker leaves of a run that is over, and what it still says of it. */

static void one_row(struct fake_child *f, const doc *msg)
{
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    else
        fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"k\":\"%s\",\"v\":1},\"done\":true}\n", doc_int(msg, "item", -1), doc_str(msg, "key", ""));
}

static void begin(struct kit *k)
{
    kit_open(k, HANDLER_EXEC);
    k->script = one_row;
    kit_run(k, kit_record(k));
    kit_publish(k, 20);
}

static void on_ack(void *arg, int32_t partition, int64_t offset, const struct error *err)
{
    (void)arg, (void)partition, (void)offset;
    assert_null(err);
}

static void end_as(struct kit *k, const char *how)
{
    struct error err;
    AUTO(doc_free_auto) doc *d = doc_set_int(doc_set_str(doc_object(), "end", how), "time_ms", loop_wall_ms(k->loop));
    AUTO(free_ptr) char *text = doc_text(d), *key = catalog_end_key("r1");
    AUTO(free_ptr) char *topic = xasprintf("%sbatches", k->world.prefix);
    struct bus_out out = {.topic = topic, .key = key, .key_len = strlen(key), .value = text, .value_len = strlen(text)};
    assert_int_equal(bus_publish(k->bus, &out, on_ack, NULL, &err), 0);
}

static size_t tables(struct kit *k)
{
    AUTO(doc_free_auto) doc *all = bqmodel_tables(k->model);
    size_t n = 0;
    for (size_t i = 0; i < doc_len(all); i++)
        n += strstr(doc_str(doc_at(all, i), NULL, ""), SHARD_PREFIX) != NULL;
    return n;
}

static bool has_table(struct kit *k)
{
    return tables(k) > 0;
}

static bool has_none(struct kit *k)
{
    return tables(k) == 0;
}

/* The clean-up has listed what there was before: nobody else will drop it. */
static void a_table_whose_making_is_answered_after_the_end_is_dropped_by_its_maker(void **state)
{
    (void)state;
    struct kit k;
    begin(&k);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "/tables?", .kind = BQMODEL_DELAY, .ms = 20000});
    kit_start(&k);
    assert_true(kit_wait(&k, has_table, 60));
    end_as(&k, "cancelled");
    kit_pass(&k, 10000);
    assert_true(has_table(&k)); /* it may not be there yet, as far as the worker knows */
    assert_true(kit_wait(&k, has_none, 60));
    kit_close(&k);
}

static void a_table_that_was_there_long_before_the_end_is_left_to_the_coordinators(void **state)
{
    (void)state;
    struct kit k;
    begin(&k);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    kit_pass(&k, 120000);
    end_as(&k, "cancelled");
    kit_pass(&k, 60000);
    assert_true(has_table(&k));
    kit_close(&k);
}

static void an_adopted_runs_table_stays(void **state)
{
    (void)state;
    struct kit k;
    begin(&k);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    end_as(&k, "adopted");
    kit_pass(&k, 60000);
    assert_true(has_table(&k));
    kit_close(&k);
}

#define DAY_MS (INT64_C(24) * 3600 * 1000)

/* A run may be held for weeks, until somebody decides. */
static void a_table_lives_as_long_as_its_run_is_open(void **state)
{
    (void)state;
    struct kit k;
    begin(&k);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    kit_pass(&k, 9 * DAY_MS);
    assert_true(has_table(&k));
    kit_close(&k);
}

/* Each hour anew, and there are days left for it. */
static void a_table_that_cannot_be_kept_for_longer_is_tried_again(void **state)
{
    (void)state;
    struct kit k;
    begin(&k);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "PATCH ", .kind = BQMODEL_STATUS, .status = 403, .reason = "accessDenied", .times = 70});
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    int64_t struck = bqmodel_counters(k.model)->faults;
    kit_pass(&k, 9 * DAY_MS);
    assert_int_equal(bqmodel_counters(k.model)->faults - struck, 70);
    assert_true(has_table(&k));
    kit_close(&k);
}

static void a_fatal_error_is_told_once_it_is_known_that_the_run_is_not_over(void **state)
{
    (void)state;
    struct kit k;
    begin(&k);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    struct run *run = TAILQ_FIRST(&k.worker->runs);
    snprintf(run->fatal_text, sizeof(run->fatal_text), "the table is gone");
    struct fatal *f = fatal_new(run, 0); /* this worker has read nothing of `batches` yet */
    kit_pass(&k, 60000);
    assert_string_equal(k.fatal, "");
    fatal_catalog_at(f, 1000);
    kit_pass(&k, 1000);
    assert_string_equal(k.fatal, "the table is gone");
    assert_true(fatal_told(f));
    fatal_free(f);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_table_whose_making_is_answered_after_the_end_is_dropped_by_its_maker),
        cmocka_unit_test(a_table_that_was_there_long_before_the_end_is_left_to_the_coordinators),
        cmocka_unit_test(an_adopted_runs_table_stays),
        cmocka_unit_test(a_table_lives_as_long_as_its_run_is_open),
        cmocka_unit_test(a_table_that_cannot_be_kept_for_longer_is_tried_again),
        cmocka_unit_test(a_fatal_error_is_told_once_it_is_known_that_the_run_is_not_over),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
