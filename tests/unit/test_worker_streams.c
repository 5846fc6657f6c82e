#include "tests/unit/support_streams.h"

/* Items whose rows outgrow the buffer: loaded while they come, a hundred at once in one child, against a BigQuery that is slow, forgetful or out of order. */

static int64_t sessions_left(const struct kit *k)
{
    const struct bqmodel_counters *c = bqmodel_counters(k->model);
    return c->sessions - c->sessions_deleted;
}

/* --- large items ------------------------------------------------------------------------------------------------------------------------------------------- */

static void an_item_larger_than_the_buffer_is_loaded_while_its_rows_come(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 10, 3);
    streams_rows[3] = 350; /* seven times the buffer */
    streams_begin(&k, streams_one_after_another, 10, 1);
    streams_run(&k);
    assert_int_equal(k.fold->failed, 0);
    assert_true(bqmodel_counters(k.model)->sessions >= 1);
    streams_close(&k);
}

static void a_hundred_large_items_at_once_in_one_child_all_land(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, INT64_C(4) << 20, 100, 27); /* 540 KB each: 13 times the buffer */
    k.options.parallel = 100;
    k.defs.v[0].window = 100;
    streams_begin(&k, streams_one_after_another, 100, 1);
    streams_run(&k);
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(k.started, 1);
    streams_close(&k);
}

static void a_hundred_large_items_whose_rows_alternate_in_one_pipe_all_land(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, INT64_C(4) << 20, 100, 27);
    k.options.parallel = 100;
    k.defs.v[0].window = 100;
    streams_begin(&k, streams_all_together, 100, 1);
    streams_run(&k);
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(streams_most_places, 4);
    streams_close(&k);
}

static void large_and_small_items_share_a_pipe_and_a_slow_bigquery(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, INT64_C(2) << 20, 60, 1);
    for (int i = 0; i < 60; i += 4)
        streams_rows[i] = 60;
    k.options.parallel = 30;
    k.defs.v[0].window = 30;
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "PUT /upload", .kind = BQMODEL_DELAY, .times = -1, .ms = 20000});
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "LOAD", .kind = BQMODEL_JOB_SLOW, .times = -1, .ms = 40000}); /* longer than an item may take */
    streams_begin(&k, streams_all_together, 60, 1);
    streams_run(&k);
    assert_int_equal(k.fold->failed, 0);
    streams_close(&k);
}

static void many_middling_items_in_many_children_give_way_and_all_land(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 40, 20); /* 400 KB: less than a window */
    k.options.parallel = 20;
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "/upload", .kind = BQMODEL_DELAY, .times = -1, .ms = 2000});
    streams_begin(&k, streams_one_after_another, 40, 1);
    streams_run(&k);
    assert_int_equal(k.fold->failed, 0);
    streams_close(&k);
}

static void one_row_of_three_buffers(struct fake_child *f, const doc *msg)
{
    if (!streams_usual(f, msg))
        return;
    int64_t item = doc_int(msg, "item", -1);
    if (item != 2) {
        streams_one_after_another(f, msg);
        return;
    }
    static char text[1 << 16];
    memset(text, 'x', sizeof(text) - 1);
    fake_say(f, "{\"item\":2,\"row\":{\"k\":\"");
    for (int i = 0; i < 48; i++)
        fake_say(f, "%s", text);
    fake_say(f, "\",\"v\":1}}\n");
    streams_say_done(f, 2);
}

static void a_stream_keeps_no_more_than_its_window_however_slow_its_upload(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, INT64_C(4) << 20, 1, 400); /* two buffers */
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_DELAY, .times = -1, .ms = 5000});
    streams_begin(&k, streams_one_after_another, 1, 1);
    streams_run(&k);
    assert_true(streams_most_held < k.options.load_size + 2 * WIDTH); /* that is when it became one; a window is half of it */
    streams_close(&k);
}

static bool one_is_given_up(struct kit *k)
{
    const struct run *run = TAILQ_FIRST(&k->worker->runs);
    return run != NULL && !TAILQ_EMPTY(&run->large);
}

static bool says_what_it_waits_for(struct kit *k)
{
    struct worker_state s;
    worker_state(k->worker, &s);
    return strstr(s.waits_for, "the upload of item 0") != NULL;
}

static void an_upload_that_does_not_get_through_is_waited_for_visibly(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 1, 60);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_STATUS, .status = 503, .skip = 1, .times = -1});
    streams_begin(&k, streams_one_after_another, 1, 1);
    assert_true(kit_wait(&k, says_what_it_waits_for, 60));
    bqmodel_clear_faults(k.model);
    streams_run(&k);
    struct worker_state s;
    worker_state(k.worker, &s);
    assert_string_equal(s.waits_for, "");
    streams_close(&k);
}

/* Item 0 has a place, and does not end. */
static void zero_waits_to_be_told(struct fake_child *f, const doc *msg)
{
    bool zero = msg != NULL && doc_int(msg, "item", -1) == 0;
    if (!zero) {
        streams_one_after_another(f, msg);
        return;
    }
    f->kit->mode = f->serial;
    for (int64_t row = 0; row < streams_rows[0]; row++)
        streams_say_row(f, 0, row);
}

static void tell_zero(struct kit *k)
{
    struct fake_child *f = k->fakes;
    while (f->serial != k->mode)
        f = f->next;
    streams_say_done(f, 0);
}

static bool one_is_done(struct kit *k)
{
    return fold_is_done(k->fold, 1);
}

static void an_item_that_was_given_up_is_not_kept_waiting_by_those_that_come(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 100, 4);
    streams_rows[0] = streams_rows[1] = 60;
    k.options.parallel = 2;
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "LOAD", .kind = BQMODEL_JOB_SLOW, .times = -1, .ms = 1000});
    streams_begin(&k, zero_waits_to_be_told, 2, 1);
    assert_true(kit_wait(&k, one_is_given_up, 20));
    kit_publish(&k, 98);
    tell_zero(&k);
    assert_true(kit_wait(&k, one_is_done, 60));
    assert_true(k.fold->done < 80);
    streams_run(&k);
    streams_close(&k);
}

static void a_row_longer_than_the_buffer_lands_too(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 5, 1);
    streams_begin(&k, one_row_of_three_buffers, 5, 1);
    assert_true(kit_wait(&k, all_done, 3600));
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(kit_rows(&k), 5);
    streams_close(&k);
}

/* --- what goes wrong on the way ---------------------------------------------------------------------------------------------------------------------------- */

static void a_session_that_is_gone_costs_the_item_no_attempt(void **state)
{
    (void)state;
    for (int at = 0; at < 5; at++) {
        struct kit k;
        streams_open(&k, LIMIT_BUFFER_LEAST, 3, 1);
        streams_rows[1] = 60; /* five chunks */
        bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_SESSION_GONE, .status = at % 2 ? 404 : 410, .skip = at});
        streams_begin(&k, streams_one_after_another, 3, 1);
        streams_run(&k);
        assert_int_equal(k.fold->failed, 0);
        assert_int_equal(bqmodel_counters(k.model)->sessions, 2);
        assert_int_equal(streams_most_attempt, 1);
        streams_close(&k);
    }
}

static void whatever_happens_to_a_chunk_the_rows_are_there_once(void **state)
{
    (void)state;
    static const struct bqmodel_fault faults[] = {{.kind = BQMODEL_LOSE_REPLY}, {.kind = BQMODEL_DROP_BEFORE}, {.kind = BQMODEL_STATUS, .status = 503, .times = 3},
                                                  {.kind = BQMODEL_KEEP_FEWER, .bytes = 1000}, {.kind = BQMODEL_CUT_CHUNK, .bytes = 100000}};
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        for (int at = 0; at < 5; at++) {
            struct kit k;
            struct bqmodel_fault f = faults[i];
            f.match = "PUT";
            f.skip = at;
            streams_open(&k, LIMIT_BUFFER_LEAST, 3, 1);
            streams_rows[1] = 60;
            bqmodel_fault(k.model, &f);
            streams_begin(&k, streams_one_after_another, 3, 1);
            streams_run(&k);
            assert_int_equal(bqmodel_counters(k.model)->sessions, 1); /* the item ran once */
            streams_close(&k);
        }
    }
}

static void a_load_that_fails_after_its_bytes_are_gone_makes_the_item_run_again(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 1, 60);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "LOAD", .kind = BQMODEL_JOB_ERROR, .times = 3, .reason = "backendError", .message = "again"});
    streams_begin(&k, streams_one_after_another, 1, 1);
    streams_run(&k);
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(bqmodel_counters(k.model)->loads, 4);
    assert_int_equal(streams_most_attempt, 1);
    streams_close(&k);
}

static void an_upload_that_cannot_begin_is_begun_again_with_what_is_here(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 1, 60);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "POST /upload", .kind = BQMODEL_STATUS, .status = 503, .times = 150}); /* longer than one upload tries */
    streams_begin(&k, streams_one_after_another, 1, 1);
    streams_run(&k);
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(bqmodel_counters(k.model)->sessions, 1);
    streams_close(&k);
}

static void the_last_row_of_1_is_refused(struct fake_child *f, const doc *msg)
{
    if (!streams_usual(f, msg))
        return;
    int64_t item = doc_int(msg, "item", -1);
    for (int64_t row = 0; row < streams_rows[item]; row++)
        streams_say_row(f, item, row);
    if (item == 1)
        fake_say(f, "{\"item\":1,\"row\":{\"k\":\"bqmodel-reject\",\"v\":1}}\n");
    streams_say_done(f, item);
}

static void rows_that_bigquery_refuses_fail_the_item_at_once(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 3, 2);
    streams_rows[1] = 60;
    streams_begin(&k, the_last_row_of_1_is_refused, 3, 5);
    streams_run(&k);
    assert_int_equal(k.fold->failed, 1);
    assert_int_equal(k.fold->failures[0].item, 1);
    assert_int_equal(k.fold->failures[0].attempts, 1);
    assert_string_equal(k.fold->failures[0].reason, "load");
    streams_close(&k);
}

/* Item 1 ends in another way than others the first time (mode), after it has begun to stream. */
static void one_ends_badly(struct fake_child *f, const doc *msg)
{
    if (!streams_usual(f, msg))
        return;
    int64_t item = doc_int(msg, "item", -1);
    if (item != 1 || f->kit->mode == 0) {
        streams_one_after_another(f, msg);
        return;
    }
    for (int64_t row = 0; row < streams_rows[item]; row++)
        streams_say_row(f, item, row);
    switch (f->kit->mode) {
    case 1: fake_exit(f, 9, "killed by signal 9 (Killed)"); break;
    case 2: fake_say(f, "{\"item\":1,\"error\":{\"kind\":\"task\",\"message\":\"no\"}}\n"); break;
    case 3: fake_say(f, "{\"item\":1,\"row\":{\"nope\":1}}\n{\"item\":1,\"done\":true}\n"); break;
    default: break; /* says nothing more */
    }
    f->kit->mode = 0;
}

static void an_item_that_ends_badly_after_it_began_to_stream_leaves_nothing(void **state)
{
    (void)state;
    for (int mode = 1; mode <= 4; mode++) {
        struct kit k;
        streams_open(&k, LIMIT_BUFFER_LEAST, 3, 2);
        streams_rows[1] = 60;
        k.mode = mode;
        streams_begin(&k, one_ends_badly, 3, 2);
        streams_run(&k);
        assert_int_equal(k.fold->failed, 0);
        assert_int_equal(bqmodel_counters(k.model)->sessions, 2);
        assert_int_equal(sessions_left(&k), 1);
        assert_int_equal(kit_rows(&k), 64);
        streams_close(&k);
    }
}

static bool streams_some(struct kit *k)
{
    streams_watch(k);
    return k->worker->places > 0 && bqmodel_counters(k->model)->sessions > 0;
}

static void a_run_that_is_over_leaves_no_sessions(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 4, 200);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_DELAY, .times = -1, .ms = 5000});
    streams_begin(&k, streams_one_after_another, 4, 1);
    assert_true(kit_wait(&k, streams_some, 60));
    kit_pass(&k, 12000);
    kit_end(&k);
    assert_true(kit_wait(&k, worker_idle, 60));
    kit_pass(&k, 1000);
    assert_int_equal(sessions_left(&k), 0);
    assert_int_equal(bqmodel_counters(k.model)->loads, 0);
    streams_close(&k);
}

static void a_drain_in_mid_stream_hands_the_item_back(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 4, 60);
    k.mode = 4; /* item 1 hangs after its rows */
    streams_begin(&k, one_ends_badly, 4, 1);
    assert_true(kit_wait(&k, streams_some, 60));
    kit_drain(&k, 6000);
    assert_false(fold_is_done(k.fold, 1));
    kit_start(&k);
    streams_run(&k);
    assert_int_equal(k.fold->failed, 0);
    streams_close(&k);
}

static void a_worker_that_is_just_gone_in_mid_stream_loses_nothing(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 8, 60);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_DELAY, .times = -1, .ms = 300});
    streams_begin(&k, streams_one_after_another, 8, 1);
    for (int i = 0; i < 8; i++) {
        (void)kit_wait(&k, streams_some, 60);
        kit_pass(&k, 100 + i * 400);
        worker_free(k.worker);
        kit_start(&k);
    }
    streams_run(&k);
    assert_int_equal(k.fold->failed, 0);
    streams_close(&k);
}

static bool says_that_it_waits(struct kit *k)
{
    struct worker_state s;
    worker_state(k->worker, &s);
    return strstr(s.waits_for, "of item 0") != NULL;
}

static void a_load_job_that_takes_long_is_waited_for_visibly(void **state)
{
    (void)state;
    struct kit k;
    streams_open(&k, LIMIT_BUFFER_LEAST, 1, 60);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "LOAD", .kind = BQMODEL_JOB_SLOW, .ms = 60000});
    streams_begin(&k, streams_one_after_another, 1, 1);
    assert_true(kit_wait(&k, says_that_it_waits, 50));
    streams_run(&k);
    streams_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_item_larger_than_the_buffer_is_loaded_while_its_rows_come),
        cmocka_unit_test(a_hundred_large_items_at_once_in_one_child_all_land),
        cmocka_unit_test(a_hundred_large_items_whose_rows_alternate_in_one_pipe_all_land),
        cmocka_unit_test(large_and_small_items_share_a_pipe_and_a_slow_bigquery),
        cmocka_unit_test(many_middling_items_in_many_children_give_way_and_all_land),
        cmocka_unit_test(a_stream_keeps_no_more_than_its_window_however_slow_its_upload),
        cmocka_unit_test(an_upload_that_does_not_get_through_is_waited_for_visibly),
        cmocka_unit_test(an_item_that_was_given_up_is_not_kept_waiting_by_those_that_come),
        cmocka_unit_test(a_row_longer_than_the_buffer_lands_too),
        cmocka_unit_test(a_session_that_is_gone_costs_the_item_no_attempt),
        cmocka_unit_test(whatever_happens_to_a_chunk_the_rows_are_there_once),
        cmocka_unit_test(a_load_that_fails_after_its_bytes_are_gone_makes_the_item_run_again),
        cmocka_unit_test(an_upload_that_cannot_begin_is_begun_again_with_what_is_here),
        cmocka_unit_test(rows_that_bigquery_refuses_fail_the_item_at_once),
        cmocka_unit_test(an_item_that_ends_badly_after_it_began_to_stream_leaves_nothing),
        cmocka_unit_test(a_run_that_is_over_leaves_no_sessions),
        cmocka_unit_test(a_drain_in_mid_stream_hands_the_item_back),
        cmocka_unit_test(a_worker_that_is_just_gone_in_mid_stream_loses_nothing),
        cmocka_unit_test(a_load_job_that_takes_long_is_waited_for_visibly),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
