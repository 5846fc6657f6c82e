#include "common/bus/bus_ops.h"
#include "tests/unit/support_coord.h"

/* Trackers whose bus refuses something, and logs that say what no process of a fleet would: what few fleets ever meet. */

static struct record *begin(struct stage *s, const char *run)
{
    struct record *r = stage_record(s, run, "batch");
    r->finish = (struct fold_config){.tolerate_count = 0};
    return r;
}

/* --- a bus that refuses --------------------------------------------------------------------------------------------------------------------------- */

static struct { const struct bus_ops *inner; struct bus_ops ops; const char *refused; /* how keys begin that it does not take */ int refusals; } gate;

static int refuse_keys(struct bus *b, const struct bus_out *out, bus_ack_cb *cb, void *arg, struct error *err)
{
    if (gate.refused != NULL && out->key != NULL && strncmp(out->key, gate.refused, strlen(gate.refused)) == 0) {
        gate.refusals++;
        return error_set(err, ERR_FATAL, 29, "topic %s: Broker: Topic authorization failed", out->topic);
    }
    return gate.inner->publish(b, out, cb, arg, err);
}

static struct bus_follow *refuse_logs(struct bus *b, const char *topic, int32_t partition, int64_t from, const struct bus_follow_events *events, void *arg, struct error *err)
{
    if (gate.refused != NULL && strstr(topic, gate.refused) != NULL) {
        error_set(err, ERR_RETRY, 0, "topic %s: too many open files", topic);
        return NULL;
    }
    return gate.inner->follow(b, topic, partition, from, events, arg, err);
}

static void refuse(struct stage *s, const char *what)
{
    if (s->bus->ops != &gate.ops) {
        gate.inner = s->bus->ops;
        gate.ops = *gate.inner;
        gate.ops.publish = refuse_keys;
        gate.ops.follow = refuse_logs;
        s->bus->ops = &gate.ops;
    }
    gate.refused = what;
    gate.refusals = 0;
}

static void an_end_that_the_bus_refuses_is_written_once_it_takes_it(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, "run-1");
    stage_publish(s, r);
    stage_load(s, r, 0, 3, 1);
    stage_seal(s, r, 3);
    refuse(s, "end/");
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    stage_sleep(s, 200000);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 3);
    assert_in_range(gate.refusals, 2, 4); /* a minute between them */
    assert_non_null(strstr(p.trouble.text, "its end could not be written to topic batches"));
    assert_false(track_done(p.track));
    assert_true(stage_tables(s, "bqf_") > 0); /* workers may not know that it is over */
    refuse(s, NULL);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(catalog_find(catalog_watch_runs(coordinator_watch(p.coordinator)), "run-1")->standing, STANDING_ENDED);
    assert_int_equal(stage_tables(s, "bqf_"), 0);
    process_kill(&p);
    record_free(r);
}

static void an_end_that_another_wrote_is_not_written_again(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, "run-1");
    stage_publish(s, r);
    stage_load(s, r, 0, 3, 1);
    stage_seal(s, r, 3);
    refuse(s, "end/");
    struct process p, q;
    process_start(&p, s, r, TRACK_FIRST);
    stage_sleep(s, 20000);
    assert_int_equal(gate.refusals, 1);
    refuse(s, NULL);
    process_start(&q, s, r, TRACK_FIRST);
    stage_sleep(s, 20000); /* less than what the first waits */
    assert_true(process_done(&q));
    assert_true(process_done(&p));
    process_kill(&p);
    process_kill(&q);
    record_free(r);
}

static void a_state_that_the_bus_refuses_is_asked_for_each_minute_and_not_each_moment(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, "run-1");
    stage_publish(s, r);
    stage_say(s, r, (struct log_msg){.type = LOGM_PAUSE});
    refuse(s, "state/");
    struct process p;
    process_start(&p, s, r, TRACK_SECOND);
    stage_sleep(s, 200000);
    assert_in_range(gate.refusals, 2, 4);
    refuse(s, NULL);
    stage_sleep(s, 70000);
    assert_true(catalog_find(catalog_watch_runs(coordinator_watch(p.coordinator)), "run-1")->paused);
    process_kill(&p);
    record_free(r);
}

static void a_decision_that_the_bus_refuses_is_asked_for_each_minute(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, "run-1");
    stage_publish(s, r);
    refuse(s, "run-1");
    struct process p;
    process_start(&p, s, r, TRACK_SECOND);
    stage_sleep(s, 300000 + 150000); /* its submitter is silent */
    assert_in_range(gate.refusals, 2, 4);
    refuse(s, NULL);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(track_fold(p.track)->end, END_ABANDON);
    process_kill(&p);
    record_free(r);
}

static void a_log_that_cannot_be_followed_at_all_is_told_at_the_start(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, "run-1"), *other = begin(s, "run-2");
    struct error err = ERROR_INIT;
    struct process p;
    stage_publish(s, r);
    process_start(&p, s, r, TRACK_FIRST);
    refuse(s, "results");
    assert_null(coordinator_track(p.coordinator, other, TRACK_SECOND, &err));
    assert_non_null(strstr(err.text, "too many open files"));
    refuse(s, NULL);
    assert_non_null(coordinator_track(p.coordinator, other, TRACK_SECOND, &err));
    process_kill(&p);
    record_free(r);
    record_free(other);
}

/* As an embedded run that is repeated knows of its last time. */
static void a_cut_goes_on_behind_the_tries_that_are_known_to_have_failed(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, "run-1");
    stage_publish(s, r);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    track_first_try(p.track, 2);
    stage_load(s, r, 0, 3, 1);
    stage_seal(s, r, 3);
    STAGE_WAIT(s, process_done, &p);
    assert_non_null(strstr(track_fold(p.track)->cuts[0].job, "_t2"));
    process_kill(&p);
    record_free(r);
}

/* --- answers that come when nobody waits for them any more ------------------------------------------------------------------------------------------------ */

static struct { const char *topic; struct bus *bus; char name[64]; int32_t partition; bus_marks_cb *cb; void *arg; } late;

static void keep_question(struct bus *b, const char *topic, int32_t partition, bus_marks_cb *cb, void *arg)
{
    if (late.cb != NULL || strstr(topic, late.topic) == NULL) {
        gate.inner->watermarks(b, topic, partition, cb, arg);
        return;
    }
    late.bus = b;
    late.partition = partition;
    late.cb = cb;
    late.arg = arg;
    snprintf(late.name, sizeof(late.name), "%s", topic);
}

static void on_any_trouble(void *arg, struct track *t, const struct error *err)
{
    (void)arg, (void)t, (void)err;
}

static bool is_asked(void *arg)
{
    (void)arg;
    return late.cb != NULL;
}

/* The coordinator looks for lost items, and the run is cancelled, cleaned up and forgotten before the bus has answered. */
static void outlive_a_run(struct stage *s, const char *topic, int64_t end)
{
    struct record *r = begin(s, "run-1");
    struct seal_end seal_end = {0, end};
    struct error err = ERROR_INIT;
    memset(&late, 0, sizeof(late));
    late.topic = topic;
    refuse(s, NULL);
    gate.ops.watermarks = keep_question;
    stage_publish(s, r);
    struct outbox *outbox = outbox_new(&s->world, "all");
    struct coordinator_options o = {.world = &s->world, .outbox = outbox, .all = true};
    struct coordinator *c = coordinator_start(&o, &(struct coordinator_events){.trouble = on_any_trouble}, NULL, &err);
    assert_non_null(c);
    stage_say(s, r, (struct log_msg){.type = LOGM_SEAL, .items = 3, .ends = &seal_end, .end_count = 1});
    STAGE_WAIT(s, is_asked, NULL);
    assert_non_null(coordinator_find(c, "run-1"));
    stage_say(s, r, (struct log_msg){.type = LOGM_CANCEL});
    stage_sleep(s, 20000);
    assert_null(coordinator_find(c, "run-1"));
    gate.inner->watermarks(late.bus, late.name, late.partition, late.cb, late.arg);
    stage_sleep(s, 20000);
    assert_int_equal(stage_logged(s, r, LOGM_LOST), 0);
    coordinator_free(c);
    outbox_stop(outbox);
    outbox_free(outbox);
    record_free(r);
}

static void the_logs_end_told_of_a_run_that_is_forgotten_means_nothing(void **state)
{
    outlive_a_run(*state, "results", 0);
}

static void the_queues_beginning_told_of_a_run_that_is_forgotten_means_nothing(void **state)
{
    outlive_a_run(*state, "work.default", 1);
}

/* --- logs that are strange --------------------------------------------------------------------------------------------------------------------------- */

static void a_log_that_is_gone_is_told_and_its_follower_let_go(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, "run-1");
    char text[300];
    stage_publish(s, r);
    stage_load(s, r, 0, 3, 1);
    bus_memory_delete(s->bus, "t.results", r->log_partition, r->log_offset + 1);
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    stage_sleep(s, 1000);
    assert_true(track_unknown(p.track));
    assert_string_equal(p.trouble.reason, "out of range");
    assert_string_equal(track_waits_for(p.track, text, sizeof(text)), "nothing: its log is gone");
    process_kill(&p);
    record_free(r);
}

static void a_seal_that_names_a_partition_which_is_not_there_loses_nothing(void **state)
{
    struct stage *s = *state;
    struct record *r = begin(s, "run-1");
    struct seal_end end = {99, 1};
    stage_publish(s, r);
    stage_load(s, r, 0, 3, 1);
    stage_say(s, r, (struct log_msg){.type = LOGM_SEAL, .items = 5, .ends = &end, .end_count = 1});
    struct process p;
    process_start(&p, s, r, TRACK_FIRST);
    stage_sleep(s, 300000);
    assert_int_equal(track_fold(p.track)->phase, RUN_WORKING);
    stage_load(s, r, 3, 2, 1);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(track_fold(p.track)->end, END_COMPLETE);
    process_kill(&p);
    record_free(r);
}

/* The cut of the i-th shard that the stage has made; "shard" and its number. */
static void cut_shard(struct stage *s, const struct record *r, int i)
{
    char incarnation[] = "shard00000", load[LOAD_ID_LEN + 1];
    const char *loads[] = {load};
    incarnation[INCARNATION_LEN - 2] = (char)('0' + i / 10);
    incarnation[INCARNATION_LEN - 1] = (char)('0' + i % 10);
    load_id(load, incarnation, 0);
    stage_say(s, r, (struct log_msg){.type = LOGM_CUT, .shard = incarnation, .loads = loads, .load_count = 1});
}

static void more_orphaned_increments_than_are_done_at_once_are_all_done(void **state)
{
    enum { ORPHANS = 40 };
    struct stage *s = *state;
    struct record *r = begin(s, "run-1");
    r->via = VIA_DIRECT;
    stage_publish(s, r);
    for (int i = 0; i < ORPHANS; i++) {
        stage_load(s, r, i, 1, i);
        cut_shard(s, r, i);
    }
    struct process p;
    process_start(&p, s, r, TRACK_SECOND);
    stage_sleep(s, 600000);
    assert_int_equal(stage_logged(s, r, LOGM_OUTCOME), ORPHANS);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), ORPHANS);
    stage_seal(s, r, ORPHANS);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), ORPHANS);
    process_kill(&p);
    record_free(r);
}

static void an_orphaned_increment_of_a_run_that_replaces_another_waits_for_that_ones_end(void **state)
{
    struct stage *s = *state;
    struct record *older = begin(s, "older"), *newer = begin(s, "newer");
    stage_publish(s, older);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_older", .kind = BQMODEL_JOB_SLOW, .ms = 150000});
    stage_load(s, older, 0, 2, 1);
    stage_seal(s, older, 2);
    newer->via = VIA_DIRECT;
    snprintf(newer->replaces, sizeof(newer->replaces), "older");
    stage_publish(s, newer);
    stage_load(s, newer, 0, 1, 2);
    cut_shard(s, newer, 1);
    struct process p;
    process_start(&p, s, newer, TRACK_FIRST);
    stage_sleep(s, 100000); /* longer than it is left to its worker */
    assert_int_equal(stage_logged(s, newer, LOGM_OUTCOME), 0);
    stage_load(s, newer, 1, 1, 2);
    stage_seal(s, newer, 2);
    STAGE_WAIT(s, process_done, &p);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, STAGE_TARGET);
    assert_int_equal(doc_len(rows), 2);
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(doc_int(doc_at(rows, i), "v", 0), 2); /* on top of the older one's */
    process_kill(&p);
    record_free(older);
    record_free(newer);
}

static void a_chain_of_more_redrives_than_a_run_takes_over_is_not_written(void **state)
{
    enum { HELD = LIMIT_ADOPTED + 1 };
    struct stage *s = *state;
    struct record *runs[HELD + 1];
    for (int i = 0; i <= HELD; i++) {
        char name[16];
        snprintf(name, sizeof(name), "run-%02d", i);
        runs[i] = begin(s, name);
        snprintf(runs[i]->batch, sizeof(runs[i]->batch), "batch of %s", name); /* under one name only neighbours may be open */
        if (i > 0)
            snprintf(runs[i]->adopts, sizeof(runs[i]->adopts), "%s", runs[i - 1]->run);
        stage_publish(s, runs[i]);
        stage_fail(s, runs[i], 0);
        if (i < HELD)
            stage_seal(s, runs[i], 1);
    }
    for (int i = 0; i < HELD; i++)
        stage_say(s, runs[i], (struct log_msg){.type = LOGM_ADOPTED, .run = runs[HELD]->run});
    struct process p;
    process_start(&p, s, runs[HELD], TRACK_FIRST);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(track_fold(p.track)->end, END_CANCEL);
    assert_non_null(strstr(track_fold(p.track)->end_text, "more than 16 redrives"));
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 0);
    process_kill(&p);
    for (int i = 0; i <= HELD; i++)
        record_free(runs[i]);
}

#define T(name) cmocka_unit_test_setup_teardown(name, stage_open, stage_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_end_that_the_bus_refuses_is_written_once_it_takes_it),
        T(an_end_that_another_wrote_is_not_written_again),
        T(a_state_that_the_bus_refuses_is_asked_for_each_minute_and_not_each_moment),
        T(a_decision_that_the_bus_refuses_is_asked_for_each_minute),
        T(a_log_that_cannot_be_followed_at_all_is_told_at_the_start),
        T(a_cut_goes_on_behind_the_tries_that_are_known_to_have_failed),
        T(the_logs_end_told_of_a_run_that_is_forgotten_means_nothing),
        T(the_queues_beginning_told_of_a_run_that_is_forgotten_means_nothing),
        T(a_log_that_is_gone_is_told_and_its_follower_let_go),
        T(a_seal_that_names_a_partition_which_is_not_there_loses_nothing),
        T(more_orphaned_increments_than_are_done_at_once_are_all_done),
        T(an_orphaned_increment_of_a_run_that_replaces_another_waits_for_that_ones_end),
        T(a_chain_of_more_redrives_than_a_run_takes_over_is_not_written),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
