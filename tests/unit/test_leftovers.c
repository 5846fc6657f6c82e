#include "common/bq/table.h"
#include "tests/unit/support_coord.h"

/* Staging tables: whose they are, and who drops those that nobody dropped. */

struct made { bool done; };

static void on_made(void *arg, const struct bq_answer *a)
{
    assert_null(a->err);
    ((struct made *)arg)->done = true;
}

static bool is_made(void *arg)
{
    return ((struct made *)arg)->done;
}


/* A staging table as a worker of that record makes it. */
static void make_shard(struct stage *s, const struct record *r, const char *incarnation)
{
    struct bq_ref ref;
    struct bq_label labels[STAGING_LABELS];
    struct made made = {false};
    record_shard_ref(r, incarnation, &ref);
    record_staging_labels(r, labels);
    struct bq_table_new t = {.ref = &ref, .schema = r->schema_doc, .labels = labels, .label_count = STAGING_LABELS};
    bq_table_create(s->bq, &t, on_made, &made);
    STAGE_WAIT(s, is_made, &made);
}

static bool has_shard(struct stage *s, const struct record *r, const char *incarnation)
{
    struct bq_ref ref;
    char name[1024];
    record_shard_ref(r, incarnation, &ref);
    return bqmodel_has_table(s->model, bq_ref_text(&ref, name, sizeof(name)));
}

static void staging_of_another_process_under_the_same_id_stays(void **state)
{
    struct stage *s = *state;
    struct record *ours = stage_record(s, "day-1", "batch"), *twin = stage_record(s, "day-1", "batch"), *alike = stage_record(s, "day_1", "other");
    stage_publish(s, ours);
    make_shard(s, ours, "aaaaaaaaaa");
    make_shard(s, twin, "bbbbbbbbbb");
    make_shard(s, alike, "cccccccccc"); /* its tables are called like ours */
    struct process p;
    process_start(&p, s, ours, TRACK_FIRST);
    stage_seal(s, ours, 0);
    STAGE_WAIT(s, process_done, &p);
    assert_false(has_shard(s, ours, "aaaaaaaaaa"));
    assert_true(has_shard(s, twin, "bbbbbbbbbb"));
    assert_true(has_shard(s, alike, "cccccccccc"));
    process_kill(&p);
    record_free(ours);
    record_free(twin);
    record_free(alike);
}

static void what_runs_left_that_are_over_goes_when_a_daemon_looks(void **state)
{
    static const struct coordinator_events events = {.ready = NULL};
    struct stage *s = *state;
    struct record *over = stage_record(s, "over", "a"), *open = stage_record(s, "open", "b"), *adopted = stage_record(s, "adopted", "c");
    stage_publish(s, over);
    stage_publish(s, adopted);
    make_shard(s, over, "aaaaaaaaaa");
    make_shard(s, adopted, "cccccccccc");
    /* Cancelled by one who has no BigQuery: the end is known, the staging stays. */
    struct process p;
    struct bq *bq = s->world.bq;
    s->world.bq = NULL;
    process_start(&p, s, over, TRACK_SECOND);
    stage_say(s, over, (struct log_msg){.type = LOGM_CANCEL});
    STAGE_WAIT(s, process_done, &p);
    process_kill(&p);
    s->world.bq = bq;
    outbox_batches(s->outbox, catalog_end_key("adopted"), doc_set_int(doc_set_str(doc_object(), "end", "adopted"), "time_ms", loop_wall_ms(s->loop)), NULL, NULL);
    stage_publish(s, open);
    make_shard(s, open, "bbbbbbbbbb");
    assert_true(has_shard(s, over, "aaaaaaaaaa"));

    struct error err;
    struct outbox *outbox = outbox_new(&s->world, "daemon");
    struct coordinator *daemon = coordinator_start(&(struct coordinator_options){.world = &s->world, .outbox = outbox, .all = true}, &events, NULL, &err);
    stage_sleep(s, 5000);
    assert_false(has_shard(s, over, "aaaaaaaaaa"));
    assert_true(has_shard(s, open, "bbbbbbbbbb"));
    make_shard(s, over, "dddddddddd"); /* of a worker that slept */
    stage_sleep(s, 2 * 3600 * 1000);
    assert_false(has_shard(s, over, "dddddddddd"));
    assert_true(has_shard(s, adopted, "cccccccccc"));
    coordinator_free(daemon);
    stage_sleep(s, 1000);
    outbox_stop(outbox);
    outbox_free(outbox);
    record_free(over);
    record_free(open);
    record_free(adopted);
}

#define T(name) cmocka_unit_test_setup_teardown(name, stage_open, stage_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(staging_of_another_process_under_the_same_id_stays),
        T(what_runs_left_that_are_over_goes_when_a_daemon_looks),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
