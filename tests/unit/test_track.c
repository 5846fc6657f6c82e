#include "tests/unit/support_coord.h"

/* Trackers on logs: what they decide, what they do, and that it happens once. */

static void assert_target(struct stage *s, int64_t rows)
{
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), rows);
}

static struct record *begin(struct stage *s)
{
    struct record *r = stage_record(s, "run-1", "batch");
    r->finish = (struct fold_config){.tolerate_count = 0, .stop_after = 20};
    return r;
}

static void a_complete_run_is_consolidated_once_then_its_staging_goes(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    stage_publish(s, r);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    stage_load(s, r, 0, 5, 1);
    stage_load(s, r, 3, 7, 2); /* 3 and 4 again: theirs is the first load */
    stage_sleep(s, 20000);
    assert_target(s, 0);
    stage_seal(s, r, 10);
    STAGE_WAIT(s, process_done, &p);
    assert_target(s, 10);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, STAGE_TARGET);
    for (size_t i = 0; i < doc_len(rows); i++) {
        int64_t item = strtol(doc_str(doc_at(rows, i), "k", "k-1") + 1, NULL, 10);
        assert_int_equal(doc_int(doc_at(rows, i), "v", 0), item < 5 ? 1 : 2);
    }
    const struct fold *f = track_fold(p.track);
    assert_int_equal(f->end, END_COMPLETE);
    assert_int_equal(f->cuts[0].inserted, 10);
    assert_int_equal(stage_logged(s, r, LOGM_OUTCOME), 1);
    assert_int_equal(bqmodel_counters(s->model)->merges, 1);
    assert_int_equal(stage_tables(s, "bqf_"), 0);
    const struct catalog_run *known = catalog_find(catalog_watch_runs(coordinator_watch(p.coordinator)), "run-1");
    assert_int_equal(known->standing, STANDING_ENDED);
    assert_int_equal(doc_int(known->end, "exit", -1), EXIT_WRITTEN);
    process_kill(&p);
    record_free(r);
}

static void staging_stays_until_the_outcome_is_in_the_log(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_SLOW, .ms = 60000});
    stage_publish(s, r);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    stage_load(s, r, 0, 3, 1);
    stage_seal(s, r, 3);
    stage_sleep(s, 50000);
    assert_int_equal(stage_logged(s, r, LOGM_OUTCOME), 0);
    assert_int_equal(stage_tables(s, "bqf_"), 1);
    assert_false(process_done(&p));
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(stage_tables(s, "bqf_"), 0);
    process_kill(&p);
    record_free(r);
}

static void a_run_of_nothing_is_written_without_a_job(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    stage_publish(s, r);
    stage_seal(s, r, 0);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_WRITTEN);
    assert_int_equal(bqmodel_counters(s->model)->queries, 0);
    process_kill(&p);
    record_free(r);
}

static void replacing_with_nothing_empties_the_target(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    r->mode = WRITE_REPLACE;
    bqmodel_insert(s->model, STAGE_TARGET, "[{\"k\":\"old\",\"v\":1}]");
    stage_publish(s, r);
    stage_seal(s, r, 0);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    STAGE_WAIT(s, process_done, &p);
    assert_target(s, 0);
    process_kill(&p);
    record_free(r);
}

static void two_that_act_at_once_have_one_effect(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    r->mode = WRITE_APPEND; /* a second effect would show */
    r->key_count = 0;
    stage_publish(s, r);
    struct process a, b;
    process_start(&a, s, r, TRACK_FIRST);
    process_start(&b, s, r, TRACK_FIRST);
    stage_load(s, r, 0, 8, 1);
    stage_seal(s, r, 8);
    STAGE_WAIT(s, process_done, &a);
    STAGE_WAIT(s, process_done, &b);
    assert_target(s, 8);
    assert_int_equal(bqmodel_counters(s->model)->inserts, 1);
    assert_int_equal(bqmodel_counters(s->model)->duplicates, 1);
    char ours[65], theirs[65];
    fold_digest(track_fold(a.track), ours);
    fold_digest(track_fold(b.track), theirs);
    assert_string_equal(ours, theirs);
    process_kill(&a);
    process_kill(&b);
    record_free(r);
}

static void a_second_coordinator_leaves_the_first_its_time(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    stage_publish(s, r);
    struct process second;
    process_start(&second, s, r, TRACK_SECOND);
    stage_load(s, r, 0, 3, 1);
    stage_seal(s, r, 3);
    stage_sleep(s, WAIT_SECOND_COORDINATOR - 1000);
    assert_int_equal(bqmodel_counters(s->model)->merges, 0);
    STAGE_WAIT(s, process_done, &second);
    assert_target(s, 3);
    process_kill(&second);
    record_free(r);
}

/* Its submitter was killed in a run with increments: once is enough to wait for it. */
static void a_second_coordinator_that_had_to_take_over_waits_no_longer(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    r->every_ms = 1000;
    stage_publish(s, r);
    struct process second;
    process_start(&second, s, r, TRACK_SECOND);
    stage_load(s, r, 0, 3, 1);
    stage_sleep(s, WAIT_SECOND_COORDINATOR / 3 * 4 + 5000);
    assert_target(s, 3);
    stage_load(s, r, 3, 3, 1);
    stage_sleep(s, 5000);
    assert_target(s, 6);
    stage_load(s, r, 6, 3, 1);
    stage_seal(s, r, 9);
    stage_sleep(s, 5000);
    assert_true(process_done(&second));
    assert_target(s, 9);
    process_kill(&second);
    record_free(r);
}

static void one_that_found_the_firsts_job_goes_on_waiting(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    r->every_ms = 1000;
    stage_publish(s, r);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_SLOW, .ms = 100000});
    struct process first, second;
    process_start(&first, s, r, TRACK_FIRST);
    process_start(&second, s, r, TRACK_SECOND);
    stage_load(s, r, 0, 3, 1);
    stage_sleep(s, 90000);
    process_kill(&first);
    stage_load(s, r, 3, 3, 1);
    stage_sleep(s, 25000);
    assert_target(s, 3); /* the second one has said how the first's job ended */
    stage_sleep(s, 30000);
    assert_target(s, 6);
    process_kill(&second);
    record_free(r);
}

static void where_the_submitter_says_that_it_leaves_nobody_waits_for_it(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    stage_publish(s, r);
    struct process second;
    process_start(&second, s, r, TRACK_SECOND);
    stage_load(s, r, 0, 3, 1);
    stage_say(s, r, (struct log_msg){.type = LOGM_ALIVE, .published = 3, .left = true});
    stage_seal(s, r, 3);
    stage_sleep(s, 5000);
    assert_true(process_done(&second));
    assert_target(s, 3);
    process_kill(&second);
    record_free(r);
}

static bool cut_inserted(void *arg)
{
    struct stage *s = arg;
    return bqmodel_counters(s->model)->merges > 0;
}

static void a_coordinator_killed_between_job_and_outcome_is_replaced_by_the_next(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    stage_publish(s, r);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_SLOW, .ms = 5000});
    struct process first, second;
    process_start(&first, s, r, TRACK_FIRST);
    stage_load(s, r, 0, 3, 1);
    stage_seal(s, r, 3);
    STAGE_WAIT(s, cut_inserted, s);
    process_kill(&first);
    assert_int_equal(stage_logged(s, r, LOGM_OUTCOME), 0);
    process_start(&second, s, r, TRACK_SECOND);
    STAGE_WAIT(s, process_done, &second);
    assert_int_equal(bqmodel_counters(s->model)->merges, 1);
    assert_int_equal(stage_logged(s, r, LOGM_OUTCOME), 1);
    assert_target(s, 3);
    process_kill(&second);
    record_free(r);
}

static void a_held_run_writes_nothing_until_it_is_accepted(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    stage_publish(s, r);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    stage_load(s, r, 0, 3, 1);
    stage_fail(s, r, 3);
    stage_seal(s, r, 4);
    STAGE_WAIT(s, process_held, &p);
    stage_sleep(s, 120000);
    assert_target(s, 0);
    assert_int_equal(stage_tables(s, "bqf_"), 1);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_HELD);
    stage_say(s, r, (struct log_msg){.type = LOGM_ACCEPT});
    STAGE_WAIT(s, process_done, &p);
    assert_target(s, 3);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_WRITTEN);
    process_kill(&p);
    record_free(r);
}

static void a_cancelled_run_writes_nothing_and_leaves_nothing(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    stage_publish(s, r);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    stage_load(s, r, 0, 3, 1);
    char other[192]; /* a run whose id begins alike */
    snprintf(other, sizeof(other), "ds.bqf_%s_2_abcdefghij", r->run);
    for (char *c = other; *c; c++)
        *c = *c == '-' ? '_' : *c;
    bqmodel_add_table(s->model, other, "k:STRING");
    stage_say(s, r, (struct log_msg){.type = LOGM_CANCEL, .text = "enough"});
    stage_seal(s, r, 3);
    STAGE_WAIT(s, process_done, &p);
    assert_target(s, 0);
    assert_int_equal(stage_tables(s, "bqf_"), 1); /* not its own */
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_ENDED);
    process_kill(&p);
    record_free(r);
}

static bool goes_on(void *arg)
{
    const struct process *p = arg;
    const struct catalog_run *run = catalog_find(catalog_watch_runs(coordinator_watch(p->coordinator)), track_record(p->track)->run);
    return run != NULL && !run->paused;
}

static void a_copy_of_the_state_by_one_who_read_less_of_the_log_is_mended(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    stage_publish(s, r);
    stage_say(s, r, (struct log_msg){.type = LOGM_PAUSE});
    stage_say(s, r, (struct log_msg){.type = LOGM_RESUME});
    outbox_batches(s->outbox, catalog_state_key(r->run), catalog_state_value(&(struct fold){.paused = true}), NULL, NULL);
    stage_sleep(s, 100);
    struct process p;
    process_start(&p, s, r, TRACK_SECOND);
    STAGE_WAIT(s, goes_on, &p);
    process_kill(&p);
    record_free(r);
}

static void a_submitter_that_falls_silent_is_abandoned_and_its_late_seal_is_void(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    stage_publish(s, r);
    stage_say(s, r, (struct log_msg){.type = LOGM_ALIVE, .published = 3});
    struct process a, b;
    process_start(&a, s, r, TRACK_SECOND);
    process_start(&b, s, r, TRACK_SECOND);
    stage_load(s, r, 0, 3, 1);
    stage_sleep(s, WAIT_ABANDON - 5000);
    stage_say(s, r, (struct log_msg){.type = LOGM_ALIVE, .published = 3}); /* it was only slow */
    stage_sleep(s, WAIT_ABANDON - 5000);
    assert_int_equal(stage_logged(s, r, LOGM_ABANDON), 0);
    stage_sleep(s, 10000);
    assert_in_range(stage_logged(s, r, LOGM_ABANDON), 1, 2); /* both may write it; one counts */
    stage_seal(s, r, 3);
    STAGE_WAIT(s, process_done, &a);
    STAGE_WAIT(s, process_done, &b);
    assert_int_equal(track_fold(a.track)->end, END_ABANDON);
    assert_target(s, 0);
    process_kill(&a);
    process_kill(&b);
    record_free(r);
}

/* A member of the queue's group that commits what it is told to. */
struct consumer { struct bus_group *group; int assigned; bool left; };
static void on_assigned(void *arg, int32_t partition, int64_t committed, const char *metadata)
{
    (void)partition, (void)committed, (void)metadata;
    ((struct consumer *)arg)->assigned++;
}
static void on_revoked(void *arg, int32_t partition, bool lost) { (void)arg, (void)partition, (void)lost; }
static void on_work(void *arg, const struct bus_msg *m) { (void)arg, (void)m; }
static void on_group_failed(void *arg, const struct error *err) { (void)arg; fail_msg("%s", err->text); }
static void on_left(void *arg) { ((struct consumer *)arg)->left = true; }
static bool all_assigned(void *arg) { return ((struct consumer *)arg)->assigned == STAGE_PARTITIONS; }
static bool has_left(void *arg) { return ((struct consumer *)arg)->left; }

static void join(struct stage *s, struct consumer *c)
{
    static const struct bus_group_events events = {.assigned = on_assigned, .revoked = on_revoked, .message = on_work, .failed = on_group_failed};
    struct error err = ERROR_INIT;
    char group[TOPIC_SIZE];
    group_of_queue(group, s->world.prefix, "default");
    *c = (struct consumer){.assigned = 0};
    c->group = bus_join(s->bus, &(struct bus_group_config){.group = group, .topic = "t.work.default"}, &events, c, &err);
    assert_non_null(c->group);
    STAGE_WAIT(s, all_assigned, c);
}

static void publish_work(struct stage *s, int per_partition)
{
    for (int i = 0; i < per_partition * STAGE_PARTITIONS; i++)
        outbox_send(s->outbox, &(struct letter_out){.topic = "t.work.default", .partition = i % STAGE_PARTITIONS, .key = "k", .key_len = 1, .value = "x",
                                                    .value_len = 1}, NULL, NULL);
    stage_sleep(s, 100);
}

static void commit(struct consumer *c, int32_t partition, int64_t offset)
{
    bus_group_commit(c->group, &(struct bus_commit){.partition = partition, .offset = offset, .metadata = ""}, 1, NULL, NULL);
}

static void items_passed_over_by_the_queue_are_lost_but_only_then(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    struct consumer c;
    stage_publish(s, r);
    join(s, &c);
    publish_work(s, 2);
    stage_seal(s, r, 8);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    stage_load(s, r, 0, 5, 1);
    for (int32_t i = 0; i < STAGE_PARTITIONS; i++)
        commit(&c, i, i == 2 ? 1 : 2); /* one item is still somebody's */
    stage_sleep(s, 60000);
    assert_int_equal(track_fold(p.track)->phase, RUN_WORKING);
    commit(&c, 2, 2);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(track_fold(p.track)->end, END_LOST);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_UNFINISHED);
    assert_non_null(strstr(track_fold(p.track)->end_text, "3 items"));
    assert_target(s, 0);
    process_kill(&p);
    bus_group_leave(c.group, true, on_left, &c);
    STAGE_WAIT(s, has_left, &c);
    record_free(r);
}

static void failures_in_a_row_stop_the_run(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    r->finish.stop_after = 3;
    stage_publish(s, r);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    for (int i = 0; i < 3; i++)
        stage_fail(s, r, i);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(track_fold(p.track)->end, END_FATAL);
    assert_int_equal(stage_logged(s, r, LOGM_FATAL), 1);
    process_kill(&p);
    record_free(r);
}

static void increments_are_cut_and_written_while_the_run_goes_on(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s);
    r->every_ms = 60000;
    stage_publish(s, r);
    struct process a, b;
    process_start(&a, s, r, TRACK_FIRST);
    process_start(&b, s, r, TRACK_FIRST);
    stage_say(s, r, (struct log_msg){.type = LOGM_ALIVE});
    stage_load(s, r, 0, 4, 1);
    stage_sleep(s, 70000);
    assert_target(s, 4);
    stage_sleep(s, 130000); /* nothing new: no cut */
    assert_int_equal(track_fold(a.track)->cut_count, 1);
    stage_load(s, r, 2, 4, 2);
    stage_seal(s, r, 6);
    STAGE_WAIT(s, process_done, &a);
    STAGE_WAIT(s, process_done, &b);
    assert_target(s, 6);
    assert_int_equal(bqmodel_counters(s->model)->merges, 2); /* a last cut with nothing left has no job */
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, STAGE_TARGET);
    int64_t sum = 0;
    for (size_t i = 0; i < doc_len(rows); i++)
        sum += doc_int(doc_at(rows, i), "v", 0);
    assert_int_equal(sum, 4 * 1 + 2 * 2); /* the second load of 2 and 3 is excluded */
    process_kill(&a);
    process_kill(&b);
    record_free(r);
}

static void a_run_that_replaces_another_writes_after_the_others_outcome(void **state)
{
    struct stage *s = *state;
    struct record *older = stage_record(s, "older", "batch"), *newer;
    older->finish = (struct fold_config){.tolerate_count = 0};
    stage_publish(s, older);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_older", .kind = BQMODEL_JOB_SLOW, .ms = 40000});
    newer = stage_record(s, "newer", "batch");
    newer->finish = older->finish;
    snprintf(newer->replaces, sizeof(newer->replaces), "older");
    stage_load(s, older, 0, 2, 1);
    stage_seal(s, older, 2); /* complete just before it would have been cancelled */
    stage_publish(s, newer);
    stage_say(s, older, (struct log_msg){.type = LOGM_CANCEL, .text = "replaced"});
    stage_load(s, newer, 0, 2, 2);
    stage_seal(s, newer, 2);
    struct process p;
    process_start(&p, s, newer, TRACK_FIRST);
    STAGE_WAIT(s, process_done, &p);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, STAGE_TARGET);
    assert_int_equal(doc_len(rows), 2);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(doc_int(doc_at(rows, i), "v", 0), 2); /* the newer one's, on top */
    assert_int_equal(bqmodel_counters(s->model)->merges, 2);
    process_kill(&p);
    record_free(older);
    record_free(newer);
}

#define T(name) cmocka_unit_test_setup_teardown(name, stage_open, stage_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_complete_run_is_consolidated_once_then_its_staging_goes),
        T(staging_stays_until_the_outcome_is_in_the_log),
        T(a_run_of_nothing_is_written_without_a_job),
        T(replacing_with_nothing_empties_the_target),
        T(two_that_act_at_once_have_one_effect),
        T(a_second_coordinator_leaves_the_first_its_time),
        T(a_second_coordinator_that_had_to_take_over_waits_no_longer),
        T(one_that_found_the_firsts_job_goes_on_waiting),
        T(where_the_submitter_says_that_it_leaves_nobody_waits_for_it),
        T(a_coordinator_killed_between_job_and_outcome_is_replaced_by_the_next),
        T(a_held_run_writes_nothing_until_it_is_accepted),
        T(a_cancelled_run_writes_nothing_and_leaves_nothing),
        T(a_copy_of_the_state_by_one_who_read_less_of_the_log_is_mended),
        T(a_submitter_that_falls_silent_is_abandoned_and_its_late_seal_is_void),
        T(items_passed_over_by_the_queue_are_lost_but_only_then),
        T(failures_in_a_row_stop_the_run),
        T(increments_are_cut_and_written_while_the_run_goes_on),
        T(a_run_that_replaces_another_writes_after_the_others_outcome),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
