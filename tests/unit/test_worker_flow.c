#include "tests/unit/support_worker.h"

/* From the queue to the manifest, with handlers that behave. */

/* A row for each item. */
static void one_row(struct fake_child *f, const doc *msg)
{
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    else
        fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"k\":\"%s\",\"v\":%" PRId64 "}}\n{\"item\":%" PRId64 ",\"done\":true}\n", doc_int(msg, "item", -1),
                 doc_str(msg, "key", ""), doc_int(msg, "payload.n", -1), doc_int(msg, "item", -1));
}

static void silent(struct fake_child *f, const doc *msg)
{
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
}

static void rows_of_all_items_land_and_only_then_is_committed(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = one_row;
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 1000);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    assert_int_equal(kit_rows(&k), 1000);
    assert_int_equal(k.fold->rows, 1000);
    assert_int_equal(k.fold->exclusion_count, 0);
    assert_true(k.fold->load_count < 100); /* group commit */
    assert_true(kit_wait(&k, all_committed, 5));
    assert_true(worker_idle(&k));
    kit_drain(&k, 10000);
    kit_close(&k);
}

static bool has_manifest(struct kit *k)
{
    return k->manifests > 0;
}

/* A load that is done, but whose manifest nobody has acknowledged, does not count. */
static void nothing_is_committed_before_the_manifest_is_acknowledged(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = one_row;
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_load", .kind = BQMODEL_JOB_SLOW, .ms = 20000});
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 10);
    kit_start(&k);
    kit_pass(&k, 15000);
    assert_int_equal(k.manifests, 0);
    assert_int_equal(kit_committed(&k), 0);
    assert_true(kit_wait(&k, has_manifest, 60));
    assert_true(kit_wait(&k, all_committed, 5));
    kit_close(&k);
}

/* Milliseconds until `count` items that take takes_us each are done, `parallel` at once. */
static int64_t time_of(int count, int64_t takes_us, int64_t parallel)
{
    struct kit k;
    kit_open(&k, HANDLER_NOOP);
    k.defs.v[0].noop_us = takes_us;
    k.options.parallel = parallel;
    kit_run(&k, kit_record(&k));
    kit_publish(&k, count);
    int64_t start = loop_now_ms(k.loop);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 600));
    int64_t ms = loop_now_ms(k.loop) - start;
    assert_int_equal(k.fold->empty, count);
    kit_close(&k);
    return ms;
}

static void rehearsed_items_take_their_time_as_many_at_once_as_may_run(void **state)
{
    (void)state;
    int64_t at_once = time_of(1000, 0, 10), waiting = time_of(1000, 50000, 10), working = time_of(1000, 500, 10);
    assert_in_range(at_once, 0, 300);
    assert_in_range(waiting, 5000, 6000);             /* a hundred times ten of them */
    assert_in_range(working, 500, 500 + at_once + 300); /* one after another */
}

static void items_without_rows_share_few_manifests(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_NOOP);
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 20000);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    assert_int_equal(k.fold->empty, 20000);
    assert_true(k.manifests < 200);
    assert_int_equal(kit_rows(&k), 0);
    assert_true(kit_wait(&k, all_committed, 5));
    kit_close(&k);
}

static void a_window_keeps_several_items_with_one_child(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = one_row;
    k.defs.v[0].window = 4;
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 100);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    assert_int_equal(k.started, 1);
    kit_close(&k);
}

static void a_command_gets_key_and_payload_and_says_it_all_by_its_exit(struct fake_child *f, const doc *msg)
{
    if (msg != NULL)
        return;
    AUTO(doc_free_auto) doc *payload = doc_parse(f->in.data, f->in.len, "payload", NULL);
    fake_say(f, "working\n{\"k\":\"%s\",\"v\":%" PRId64 "}\n", f->argv1, doc_int(payload, "n", -1));
    fake_exit(f, 0, "exit status 0");
}

static void a_command_runs_once_for_each_item(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_COMMAND);
    k.script = a_command_gets_key_and_payload_and_says_it_all_by_its_exit;
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 20);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    assert_int_equal(k.started, 20);
    AUTO(doc_free_auto) doc *tables = bqmodel_tables(k.model), *rows = bqmodel_rows(k.model, doc_str(doc_at(tables, 0), NULL, ""));
    assert_int_equal(doc_len(rows), 20);
    for (size_t i = 0; i < 20; i++) {
        char key[32];
        snprintf(key, sizeof(key), "--key=k%" PRId64, doc_int(doc_at(rows, i), "v", -1));
        assert_string_equal(doc_str(doc_at(rows, i), "k", ""), key);
        assert_int_equal(doc_int(doc_at(rows, i), "bqfleet_item", -1), doc_int(doc_at(rows, i), "v", -2));
    }
    kit_close(&k);
}

static void items_of_a_run_that_is_unknown_or_over_are_dropped(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = silent;
    kit_publish(&k, 10);
    kit_start(&k);
    assert_true(kit_wait(&k, all_committed, 10)); /* nobody ever wrote its record */
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 10);
    kit_pass(&k, 3000);
    assert_int_equal(kit_committed(&k), 10);
    assert_int_equal(k.started, 4);
    kit_end(&k);
    assert_true(kit_wait(&k, all_committed, 10));
    kit_pass(&k, 6000);
    assert_null(k.fakes); /* its handlers are stopped */
    assert_int_equal(k.manifests, 0);
    kit_close(&k);
}

static void a_record_that_comes_after_its_items_were_fetched_is_waited_for(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = one_row;
    kit_start(&k);
    kit_pass(&k, 1000);
    kit_run(&k, kit_record(&k)); /* the worker may see the items first: two topics, no order between them */
    kit_publish(&k, 50);
    assert_true(kit_wait(&k, all_done, 60));
    kit_close(&k);
}

static void a_paused_run_holds_its_items(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = one_row;
    kit_run(&k, kit_record(&k));
    kit_state(&k, true);
    kit_publish(&k, 10);
    kit_start(&k);
    kit_pass(&k, 5000);
    assert_int_equal(k.fold->done, 0);
    struct worker_state s;
    worker_state(k.worker, &s);
    assert_non_null(strstr(s.waits_for, "resumed"));
    kit_state(&k, false);
    assert_true(kit_wait(&k, all_done, 60));
    kit_close(&k);
}

static void what_does_not_decode_goes_to_dead_and_holds_nothing_up(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = one_row;
    kit_run(&k, kit_record(&k));
    struct bus_out out = {.topic = "t.work.default", .partition = 0, .value = "\x7fnonsense", .value_len = 9};
    assert_int_equal(bus_publish(k.bus, &out, NULL, NULL, NULL), 0);
    kit_publish(&k, 8);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    k.next_item = 9; /* with the bad one */
    assert_true(kit_wait(&k, all_committed, 10));
    assert_int_equal(doc_len(k.dead), 1);
    assert_string_equal(doc_str(k.dead, "0.reason", ""), "envelope");
    assert_int_equal(doc_int(k.dead, "0.partition", -1), 0);
    kit_close(&k);
}

static void a_second_delivery_shares_the_fate_of_the_item_that_is_here(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = one_row;
    kit_run(&k, kit_record(&k));
    kit_publish_item(&k, 0, 0, "{\"n\":0}");
    kit_publish_item(&k, 0, 1, "{\"n\":0}");
    kit_publish_item(&k, 0, 0, "{\"n\":0}");
    kit_start(&k);
    k.next_item = 1;
    assert_true(kit_wait(&k, all_done, 60));
    k.next_item = 3;
    assert_true(kit_wait(&k, all_committed, 10));
    assert_int_equal(kit_rows(&k), 1);
    kit_close(&k);
}

static bool both_have_work(struct kit *k)
{
    struct worker_state a, b;
    worker_state(k->worker, &a);
    worker_state(k->second, &b);
    return a.in_flight > 0 && b.in_flight > 0;
}

/* Answers only when mode is 1. */
static void when_told(struct fake_child *f, const doc *msg)
{
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "item") != NULL && f->kit->mode == 1)
        one_row(f, msg);
}

static void partitions_that_move_lose_nothing_and_double_nothing(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = one_row;
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 400);
    kit_start(&k);
    kit_pass(&k, 20);
    struct worker_options o = k.options;
    o.name = "w2";
    k.second = worker_start(&o, NULL);
    assert_non_null(k.second);
    kit_publish(&k, 400);
    assert_true(kit_wait(&k, all_done, 120));
    assert_int_equal(k.fold->rows, 800 + (int64_t)k.fold->exclusion_count); /* each once, or twice and once excluded */
    assert_true(kit_wait(&k, all_committed, 10));
    kit_drain(&k, 10000);
    kit_publish(&k, 100);
    assert_true(kit_wait(&k, all_done, 60));
    assert_true(kit_wait(&k, all_committed, 10));
    kit_close(&k);
}

static void an_item_in_flight_when_its_partition_comes_back_is_not_run_twice(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = when_told;
    k.options.parallel = 8;
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 8);
    kit_start(&k);
    kit_pass(&k, 1000);
    struct worker_options o = k.options;
    o.name = "w2";
    k.second = worker_start(&o, NULL); /* takes some partitions... */
    assert_true(kit_wait(&k, both_have_work, 20));
    worker_free(k.second);             /* ...and leaves them to the first again */
    k.second = NULL;
    kit_pass(&k, 3000);
    struct worker_state s;
    worker_state(k.worker, &s);
    assert_int_equal(s.unfinished, 8);
    int items = 0;
    for (struct fake_child *f = k.fakes; f != NULL; f = f->next) {
        items += f->items;
        for (int64_t i = 0; i < 8; i++) {
            char has[32];
            snprintf(has, sizeof(has), "{\"item\":%" PRId64 ",", i);
            if (strstr(f->in.data, has) != NULL)
                fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"v\":1},\"done\":true}\n", i);
        }
    }
    assert_int_equal(items, 8);
    assert_true(kit_wait(&k, all_done, 60));
    assert_int_equal(kit_rows(&k), 8);
    assert_true(kit_wait(&k, all_committed, 10));
    kit_close(&k);
}

static void mode_none_hands_rows_over_and_writes_nothing(void **state);

static int64_t lines_seen;
static void take_lines(void *arg, int64_t item, const char *lines, size_t len)
{
    (void)arg;
    char expected[64];
    snprintf(expected, sizeof(expected), "{\"k\":\"k%" PRId64 "\",\"v\":%" PRId64 "}\n", item, item);
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(lines, expected, len);
    lines_seen++;
}

static void mode_none_hands_rows_over_and_writes_nothing(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = one_row;
    k.options.rows = take_lines;
    struct record *r = kit_record(&k);
    r->mode = WRITE_NONE;
    kit_run(&k, r);
    kit_publish(&k, 30);
    lines_seen = 0;
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    assert_int_equal(lines_seen, 30);
    assert_int_equal(k.fold->empty, 30);
    kit_close(&k);
}

#define MANY 32

/* Says nothing before its window is full, and then all at once. */
static void in_one_breath(struct fake_child *f, const doc *msg)
{
    one_row(f, msg);
    f->stopped = msg != NULL && f->items % MANY != 0;
    if (!f->stopped)
        fake_say(f, "\n");
}

static size_t given_at[2]; /* bytes that the child had been sent when the first, and when the last of its answers was read */
static void note_given(void *arg, int64_t item, const char *lines, size_t len)
{
    (void)item;
    (void)lines;
    (void)len;
    struct kit *k = arg;
    if (lines_seen++ < MANY)
        given_at[lines_seen > 1] = k->fakes->in.len;
}

static void a_child_has_further_items_before_the_last_of_its_answers_is_read(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = in_one_breath;
    k.defs.v[0].window = k.options.parallel = MANY;
    k.options.rows = note_given;
    struct record *r = kit_record(&k);
    r->mode = WRITE_NONE;
    kit_run(&k, r);
    kit_publish(&k, 2 * MANY);
    lines_seen = 0;
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    assert_int_equal(lines_seen, 2 * MANY);
    assert_true(given_at[1] >= given_at[0] + given_at[0] / 4);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rows_of_all_items_land_and_only_then_is_committed),
        cmocka_unit_test(nothing_is_committed_before_the_manifest_is_acknowledged),
        cmocka_unit_test(items_without_rows_share_few_manifests),
        cmocka_unit_test(rehearsed_items_take_their_time_as_many_at_once_as_may_run),
        cmocka_unit_test(a_window_keeps_several_items_with_one_child),
        cmocka_unit_test(a_command_runs_once_for_each_item),
        cmocka_unit_test(items_of_a_run_that_is_unknown_or_over_are_dropped),
        cmocka_unit_test(a_record_that_comes_after_its_items_were_fetched_is_waited_for),
        cmocka_unit_test(a_paused_run_holds_its_items),
        cmocka_unit_test(what_does_not_decode_goes_to_dead_and_holds_nothing_up),
        cmocka_unit_test(a_second_delivery_shares_the_fate_of_the_item_that_is_here),
        cmocka_unit_test(partitions_that_move_lose_nothing_and_double_nothing),
        cmocka_unit_test(an_item_in_flight_when_its_partition_comes_back_is_not_run_twice),
        cmocka_unit_test(mode_none_hands_rows_over_and_writes_nothing),
        cmocka_unit_test(a_child_has_further_items_before_the_last_of_its_answers_is_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
