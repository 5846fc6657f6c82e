#include "tests/unit/support_worker.h"

/* Loads that fail, buffers that are full, replies that are lost, workers that leave. */

static void one_row(struct fake_child *f, const doc *msg)
{
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    else
        fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"k\":\"%s\",\"v\":1},\"done\":true}\n", doc_int(msg, "item", -1), doc_str(msg, "key", ""));
}

static void begin(struct kit *k, fake_script *script, int items)
{
    k->script = script;
    kit_run(k, kit_record(k));
    kit_publish(k, items);
    kit_start(k);
}

static int64_t offset_sum(struct kit *k)
{
    return kit_committed(k);
}

/* --- loads --------------------------------------------------------------------------------------------------------------------------------------------- */

static void row_of_37_is_refused(struct fake_child *f, const doc *msg)
{
    if (doc_int(msg, "item", -1) == 37)
        fake_say(f, "{\"item\":37,\"row\":{\"k\":\"bqmodel-reject\",\"v\":1},\"done\":true}\n");
    else
        one_row(f, msg);
}

static void refused_row(bool compress)
{
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.options.compress = compress;
    begin(&k, row_of_37_is_refused, 200);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(k.fold->failed, 1);
    assert_int_equal(k.fold->failures[0].item, 37);
    assert_string_equal(k.fold->failures[0].reason, "load");
    assert_int_equal(kit_rows(&k), 199);
    assert_int_equal(k.fold->rows, 199);
    AUTO(doc_free_auto) doc *tables = bqmodel_tables(k.model), *rows = bqmodel_rows(k.model, doc_str(doc_at(tables, 0), NULL, ""));
    bool seen[200] = {false};
    for (size_t i = 0; i < doc_len(rows); i++) { /* each row carries the load that its manifest names */
        int64_t item = doc_int(doc_at(rows, i), "bqfleet_item", -1);
        assert_false(seen[item]);
        seen[item] = true;
        bool named = false;
        for (size_t l = 0; l < k.fold->load_count; l++)
            named |= strcmp(k.fold->loads[l].id, doc_str(doc_at(rows, i), "bqfleet_load", "")) == 0;
        assert_true(named);
    }
    assert_true(kit_wait(&k, all_committed, 10));
    kit_close(&k);
}

static void one_refused_row_fails_only_its_item(void **state)
{
    (void)state;
    refused_row(false);
}

static void a_packed_load_is_split_likewise(void **state)
{
    (void)state;
    refused_row(true);
}

static void a_packed_load_is_sent_small_and_arrives_whole(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.options.compress = true;
    begin(&k, one_row, 2000);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(kit_rows(&k), 2000);
    assert_int_equal(k.fold->rows, 2000);
    int64_t bytes = 0;
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(k.model);
    for (size_t i = 0; i < doc_len(jobs); i++)
        bytes += doc_int(doc_at(jobs, i), "statistics.load.inputFileBytes", 0);
    assert_in_range(bytes, 1, 2000 * 30); /* of some 90 each */
    struct worker_state s;
    worker_state(k.worker, &s);
    assert_int_equal(s.buffered, 0);
    kit_close(&k);
}

static void a_load_that_fails_once_is_tried_under_the_next_id(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_load", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "again"});
    begin(&k, one_row, 50);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(kit_rows(&k), 50);
    kit_close(&k);
}

static void replies_that_are_lost_double_nothing(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "POST /upload", .kind = BQMODEL_LOSE_REPLY, .times = 2});
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "/tables", .kind = BQMODEL_LOSE_REPLY});
    begin(&k, one_row, 50);
    assert_true(kit_wait(&k, all_done, 300));
    assert_int_equal(kit_rows(&k), 50);
    assert_int_equal(k.fold->rows, 50);
    kit_close(&k);
}

static bool is_fatal(struct kit *k)
{
    return k->fatal[0] != '\0';
}

static void a_refused_permission_stops_the_run_and_says_what_to_do(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "/tables", .kind = BQMODEL_STATUS, .times = -1, .status = 403, .reason = "accessDenied",
                                                   .message = "Access Denied: Dataset p:staging"});
    begin(&k, one_row, 50);
    assert_true(kit_wait(&k, is_fatal, 100));
    assert_non_null(strstr(k.fatal, "staging"));
    assert_non_null(strstr(k.fatal, "Access Denied"));
    kit_pass(&k, 5000);
    assert_int_equal(offset_sum(&k), 0);
    kit_end(&k);
    assert_true(kit_wait(&k, all_committed, 10));
    kit_close(&k);
}

static bool says_that_it_waits(struct kit *k)
{
    struct worker_state s;
    worker_state(k->worker, &s);
    return strstr(s.waits_for, "BigQuery: load") != NULL;
}

static bool says_what_it_waits_for(struct kit *k)
{
    struct worker_state s;
    worker_state(k->worker, &s);
    return strstr(s.waits_for, "next try in") != NULL;
}

static void a_bigquery_that_is_away_is_waited_for_visibly(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "POST /upload", .kind = BQMODEL_STATUS, .times = -1, .status = 503});
    begin(&k, one_row, 50);
    assert_true(kit_wait(&k, says_that_it_waits, 30));
    assert_true(kit_wait(&k, says_what_it_waits_for, 6 * 3600));
    assert_int_equal(offset_sum(&k), 0);
    bqmodel_clear_faults(k.model);
    assert_true(kit_wait(&k, all_done, 3600));
    assert_int_equal(kit_rows(&k), 50);
    kit_close(&k);
}

/* --- room ---------------------------------------------------------------------------------------------------------------------------------------------- */

/* Item i has 50 rows of 8 KB, told one after the other. */
static void say_rows(struct fake_child *f, int64_t item, int count)
{
    static char text[8192];
    memset(text, 'x', sizeof(text) - 1);
    for (int i = 0; i < count; i++)
        fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"k\":\"%s\",\"v\":%d}}\n", item, text, i);
    fake_say(f, "{\"item\":%" PRId64 ",\"done\":true}\n", item);
}

static void rows_of_400_kb(struct fake_child *f, const doc *msg)
{
    int64_t item = msg ? doc_int(msg, "item", -1) : -1;
    if (item < 0)
        one_row(f, msg);
    else
        say_rows(f, item, 50);
}

static int64_t most_held;
static void watch_buffer(struct kit *k)
{
    struct worker_state s;
    worker_state(k->worker, &s);
    most_held = i64_max(most_held, s.buffered);
}

static bool all_done_and_watched(struct kit *k)
{
    watch_buffer(k);
    return all_done(k);
}

static void a_full_buffer_gives_items_up_and_nothing_gets_stuck(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.options.parallel = 16;
    k.options.buffer = LIMIT_BUFFER_LEAST; /* two items and a half */
    k.options.load_size = 800000;
    most_held = 0;
    begin(&k, rows_of_400_kb, 40);
    assert_true(kit_wait(&k, all_done_and_watched, 3600));
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(kit_rows(&k), 40 * 50);
    assert_int_equal(k.fold->rows, 40 * 50);
    assert_true(most_held > LIMIT_BUFFER_LEAST / 2);
    assert_true(most_held < LIMIT_BUFFER_LEAST + 10000);
    kit_close(&k);
}

static void item_3_is_larger_than_the_buffer(struct fake_child *f, const doc *msg)
{
    int64_t item = msg ? doc_int(msg, "item", -1) : -1;
    if (item == 3)
        say_rows(f, item, 150);
    else
        one_row(f, msg);
}

static void keep_rows(void *arg, int64_t item, const char *lines, size_t len)
{
    (void)item;
    (void)lines;
    *(size_t *)arg += len;
}

/* There is nowhere to stream them to. */
static void rows_for_stdout_that_outgrow_the_buffer_fail_their_item_with_advice(void **state)
{
    (void)state;
    struct kit k;
    size_t bytes = 0;
    kit_open(&k, HANDLER_EXEC);
    k.options.buffer = LIMIT_BUFFER_LEAST;
    k.options.rows = keep_rows;
    k.options.arg = &bytes;
    k.options.failed = NULL;
    k.script = item_3_is_larger_than_the_buffer;
    struct record *r = kit_record(&k);
    r->mode = WRITE_NONE;
    kit_run(&k, r);
    kit_publish(&k, 6);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 3600));
    assert_int_equal(k.fold->failed, 1);
    assert_int_equal(k.fold->failures[0].item, 3);
    assert_string_equal(k.fold->failures[0].reason, "size");
    assert_non_null(strstr(k.fold->failures[0].text, "raise --buffer"));
    assert_null(strstr(k.fold->failures[0].text, "mode none")); /* it is so with `try`, too */
    assert_true(bytes > 0 && bytes < 1000); /* those of the others */
    kit_close(&k);
}

static void a_slow_bigquery_reaches_the_handlers_pipes(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.options.parallel = 4;
    k.options.buffer = LIMIT_BUFFER_LEAST;
    k.options.load_size = 400000;
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_load", .kind = BQMODEL_JOB_SLOW, .times = -1, .ms = 60000}); /* longer than an item may take */
    most_held = 0;
    begin(&k, rows_of_400_kb, 20);
    assert_true(kit_wait(&k, all_done_and_watched, 24 * 3600));
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(kit_rows(&k), 20 * 50);
    assert_true(most_held < LIMIT_BUFFER_LEAST + 10000);
    kit_close(&k);
}

/* --- leaving ------------------------------------------------------------------------------------------------------------------------------------------- */

/* Each item takes 5 s. */
static void slowly_done(void *arg);
struct slow { struct fake_child *f; int serial; struct kit *k; int64_t item; struct timer *timer; };
static void slowly(struct fake_child *f, const doc *msg)
{
    if (msg == NULL || doc_get(msg, "hello") != NULL) {
        one_row(f, msg);
        return;
    }
    struct slow *s = xcalloc(1, sizeof(*s));
    *s = (struct slow){.f = f, .serial = f->serial, .k = f->kit, .item = doc_int(msg, "item", -1)};
    s->timer = timer_new(f->kit->loop, slowly_done, s);
    timer_set(s->timer, 5 * US_PER_S);
}

static void slowly_done(void *arg)
{
    struct slow *s = arg;
    for (struct fake_child *f = s->k->fakes; f != NULL; f = f->next)
        if (f->serial == s->serial)
            fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"v\":1},\"done\":true}\n", s->item);
    timer_free(s->timer);
    free(s);
}

static void a_drain_finishes_what_is_in_flight_and_hands_back_the_rest(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    begin(&k, slowly, 100);
    kit_pass(&k, 7000);
    int64_t from = loop_now_ms(k.loop);
    kit_drain(&k, 25000);
    assert_true(loop_now_ms(k.loop) - from < 10000);
    assert_int_equal(k.fold->done, 8); /* two rounds of four */
    assert_int_equal(kit_rows(&k), 8);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 600));
    assert_int_equal(k.fold->rows, 100); /* those that were done are known to be */
    assert_true(kit_wait(&k, all_committed, 10));
    kit_close(&k);
}

static void a_drain_without_patience_hands_back_all(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    begin(&k, slowly, 10);
    kit_pass(&k, 2000);
    kit_drain(&k, 0);
    assert_int_equal(k.fold->done, 0);
    kit_pass(&k, 6000);
    assert_null(k.fakes);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 600));
    assert_int_equal(k.fold->rows, 10);
    kit_close(&k);
}

/* One item of partition 0 hangs; what is done above it is known to the next owner. */
static void zero_hangs_once(struct fake_child *f, const doc *msg)
{
    if (doc_int(msg, "item", -1) != 0 || f->kit->mode == 1)
        one_row(f, msg);
}

static bool all_but_one_done(struct kit *k)
{
    return k->fold->done == k->next_item - 1;
}

static void what_was_done_above_an_unfinished_item_is_not_done_again(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    begin(&k, zero_hangs_once, 400);
    assert_true(kit_wait(&k, all_but_one_done, 29));
    kit_pass(&k, 500);
    assert_int_equal(offset_sum(&k), 300); /* three partitions to their ends, the fourth not at all */
    kit_drain(&k, 0);
    k.mode = 1;
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    assert_int_equal(k.fold->rows, 400);
    assert_int_equal(k.fold->exclusion_count, 0);
    assert_true(kit_wait(&k, all_committed, 10));
    kit_close(&k);
}

static void a_worker_that_is_just_gone_loses_nothing(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    begin(&k, one_row, 600);
    for (int i = 0; i < 6; i++) {
        kit_pass(&k, 3 + i * 17);
        worker_free(k.worker);
        kit_start(&k);
    }
    assert_true(kit_wait(&k, all_done, 600));
    assert_int_equal(k.fold->rows, 600 + (int64_t)k.fold->exclusion_count);
    assert_true(kit_wait(&k, all_committed, 10));
    kit_close(&k);
}

static int tombstones, lines;
static void on_worker_line(void *arg, const struct bus_msg *m)
{
    (void)arg;
    if (m->value == NULL) {
        tombstones++;
        return;
    }
    lines++;
    AUTO(doc_free_auto) doc *d = doc_parse(m->value, m->value_len, "line", NULL);
    assert_string_equal(doc_str(d, "queue", ""), "default");
    assert_string_equal(doc_str(d, "handlers.0", ""), "work");
}

static void the_fleet_sees_the_worker_and_sees_it_leave(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    static const struct bus_follow_events events = {.message = on_worker_line};
    tombstones = lines = 0;
    struct bus_follow *follow = bus_follow(k.bus, "t.workers", 0, BUS_BEGIN, &events, &k, NULL);
    begin(&k, one_row, 10);
    kit_pass(&k, 35000);
    assert_true(lines >= 4);
    assert_int_equal(tombstones, 0);
    kit_drain(&k, 1000);
    assert_int_equal(tombstones, 1);
    bus_follow_stop(follow);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_refused_row_fails_only_its_item),
        cmocka_unit_test(a_packed_load_is_split_likewise),
        cmocka_unit_test(a_packed_load_is_sent_small_and_arrives_whole),
        cmocka_unit_test(a_load_that_fails_once_is_tried_under_the_next_id),
        cmocka_unit_test(replies_that_are_lost_double_nothing),
        cmocka_unit_test(a_refused_permission_stops_the_run_and_says_what_to_do),
        cmocka_unit_test(a_bigquery_that_is_away_is_waited_for_visibly),
        cmocka_unit_test(a_full_buffer_gives_items_up_and_nothing_gets_stuck),
        cmocka_unit_test(rows_for_stdout_that_outgrow_the_buffer_fail_their_item_with_advice),
        cmocka_unit_test(a_slow_bigquery_reaches_the_handlers_pipes),
        cmocka_unit_test(a_drain_finishes_what_is_in_flight_and_hands_back_the_rest),
        cmocka_unit_test(a_drain_without_patience_hands_back_all),
        cmocka_unit_test(what_was_done_above_an_unfinished_item_is_not_done_again),
        cmocka_unit_test(a_worker_that_is_just_gone_loses_nothing),
        cmocka_unit_test(the_fleet_sees_the_worker_and_sees_it_leave),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
