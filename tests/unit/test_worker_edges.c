#include "tests/unit/support_worker.h"

#include "common/bus/bus_ops.h"
#include "worker/core.h"

/* What only happens when several things meet: each of these once stopped a worker for good, or let rows go missing. */

static int64_t item_in(const doc *msg)
{
    return msg ? doc_int(msg, "item", -1) : -1;
}

/* The greeting is answered, a closed stdin is obeyed. False: nothing is left to be said. */
static bool usual(struct fake_child *f, const doc *msg)
{
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    return msg != NULL && doc_get(msg, "item") != NULL;
}

static void begin(struct kit *k, fake_script *script, int items)
{
    k->script = script;
    kit_run(k, kit_record(k));
    kit_publish(k, items);
    kit_start(k);
}

static bool is_fatal(struct kit *k)
{
    return k->fatal[0] != '\0';
}

/* --- intake ------------------------------------------------------------------------------------------------------------------------------------------- */

/* 1. News in `batches` take a while to be read, so that as many items as a worker takes are parked. 2. It turns out that their run is over. 3. The rest of
 * the queue must still be taken. */
static void a_backlog_of_a_run_that_is_over_does_not_stop_the_intake(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_NOOP);
    kit_start(&k);
    kit_pass(&k, 1000);
    for (int i = 0; i < 60000; i++) {
        struct bus_out out = {.topic = "t.batches", .partition = 0, .key = "other", .key_len = 5, .value = "{}", .value_len = 2};
        struct error err = ERROR_INIT;
        assert_int_equal(bus_publish(k.bus, &out, NULL, NULL, &err), 0);
    }
    kit_run(&k, kit_record(&k));
    kit_end(&k);
    kit_publish(&k, LIMIT_UNFINISHED + 2000);
    assert_true(kit_wait(&k, all_committed, 60));
    kit_close(&k);
}

static struct fake_child *holder;

static void item_zero_waits(struct fake_child *f, const doc *msg)
{
    if (!usual(f, msg))
        return;
    if (item_in(msg) == 0)
        holder = f;
    else
        fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"v\":1},\"done\":true}\n", item_in(msg));
}

static bool none_but_item_zero(struct kit *k)
{
    return holder != NULL && k->fold->done > 0 && k->worker->unfinished == 1;
}

/* A commit could not tell any more which of them are done. */
static void no_more_is_taken_beyond_two_billion_offsets_above_an_unfinished_item(void **state)
{
    (void)state;
    struct kit k;
    holder = NULL;
    kit_open(&k, HANDLER_EXEC);
    k.script = item_zero_waits;
    kit_run(&k, kit_record(&k));
    kit_publish_item(&k, 0, 0, "{}");
    bus_memory_skip(k.bus, "t.work.default", 0, LIMIT_ACK_SPAN);
    for (int64_t i = 1; i < 600; i++)
        kit_publish_item(&k, i, 0, "{}");
    k.next_item = 600;
    kit_start(&k);
    assert_true(kit_wait(&k, none_but_item_zero, 60));
    kit_pass(&k, 60000);
    assert_true(k.fold->done < 10);
    fake_say(holder, "{\"item\":0,\"row\":{\"v\":1},\"done\":true}\n");
    assert_true(kit_wait(&k, all_done, 60));
    kit_close(&k);
}

static const struct bus_ops *honest;
static bool refusing;
static int refusals; /* under way */
struct refusal { bus_done_cb *cb; void *arg; };

static void refuse(void *arg, const struct error *unused)
{
    (void)unused;
    struct refusal r = *(struct refusal *)arg;
    free(arg);
    refusals--;
    struct error err = ERROR_INIT;
    error_set(&err, ERR_RETRY, 0, "the coordinator of the group moves");
    if (r.cb != NULL)
        r.cb(r.arg, &err);
}

static void commit_or_refuse(struct bus_group *g, const struct bus_commit *commits, size_t count, bus_done_cb *cb, void *arg)
{
    if (!refusing || (count == 1 && commits[0].offset == 0)) { /* the one that opens a partition, before anything runs */
        honest->group_commit(g, commits, count, cb, arg);
        return;
    }
    struct refusal *r = xmalloc(sizeof(*r));
    *r = (struct refusal){.cb = cb, .arg = arg};
    refusals++;
    honest->group_commit(g, NULL, 0, refuse, r);
}

/* A hundred items, whose commits are refused. */
static void begin_refusing(struct kit *k, struct bus_ops *ops)
{
    kit_open(k, HANDLER_NOOP);
    *ops = *k->bus->ops;
    honest = k->bus->ops;
    ops->group_commit = commit_or_refuse;
    k->bus->ops = ops;
    refusing = true;
    begin(k, NULL, 100);
}

static bool is_refused(struct kit *k)
{
    (void)k;
    return refusals > 0;
}

/* A main that cannot go on frees its worker while the loop still turns, so that permits are given back. */
static void a_commit_that_is_refused_after_its_worker_is_gone_concerns_nobody(void **state)
{
    (void)state;
    struct kit k;
    struct bus_ops ops;
    begin_refusing(&k, &ops);
    assert_true(kit_wait(&k, is_refused, 60));
    worker_free(k.worker);
    assert_true(refusals > 0);
    kit_pass(&k, 5000);
    assert_int_equal(refusals, 0);
    refusing = false;
    kit_start(&k);
    assert_true(kit_wait(&k, all_committed, 60));
    k.bus->ops = honest;
    kit_close(&k);
}

static void a_commit_that_was_refused_is_made_again_although_nothing_else_is_done(void **state)
{
    (void)state;
    struct kit k;
    struct bus_ops ops;
    begin_refusing(&k, &ops);
    assert_true(kit_wait(&k, all_done, 60));
    kit_pass(&k, 10000);
    assert_int_equal(kit_committed(&k), 0);
    refusing = false;
    assert_true(kit_wait(&k, all_committed, 10));
    k.bus->ops = honest;
    kit_close(&k);
}

/* --- runs that stop ----------------------------------------------------------------------------------------------------------------------------------------- */

static void items_that_come_in_the_very_turn_in_which_a_run_stops_wait_for_its_end(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_NOOP);
    k.world.bq = NULL; /* the run stops as soon as its first item is seen */
    begin(&k, NULL, 10);
    assert_true(kit_wait(&k, is_fatal, 60));
    kit_pass(&k, 1000);
    assert_int_equal(kit_committed(&k), 0);
    kit_end(&k);
    assert_true(kit_wait(&k, all_committed, 60));
    kit_close(&k);
}

/* --- items with a place ---------------------------------------------------------------------------------------------------------------------------------------- */

static struct timer *leaving[64];
static size_t leaving_count;

static void leaves_now(void *arg)
{
    fake_exit(arg, 0, "exit status 0");
}

/* Every item has two thirds of the buffer, and takes another second. */
static void two_thirds(struct fake_child *f, const doc *msg)
{
    if (msg != NULL)
        return;
    assert_true(leaving_count < ARRAY_LEN(leaving));
    leaving[leaving_count] = timer_new(f->kit->loop, leaves_now, f);
    timer_set(leaving[leaving_count++], US_PER_S);
    static char text[35000];
    memset(text, 'x', sizeof(text) - 1);
    for (int i = 0; i < 20; i++)
        fake_say(f, "{\"k\":\"%s\",\"v\":%d}\n", text, i);
}

static bool somebody_waits_for_a_place(struct kit *k)
{
    const struct run *run = TAILQ_FIRST(&k->worker->runs);
    return run != NULL && !TAILQ_EMPTY(&run->large);
}

static void a_start_that_fails_for_an_item_with_a_place_is_made_good(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_COMMAND);
    k.options.parallel = 4;
    k.options.buffer = LIMIT_BUFFER_LEAST;
    begin(&k, two_thirds, 8);
    assert_true(kit_wait(&k, somebody_waits_for_a_place, 60));
    k.refuse_start = true;
    kit_pass(&k, 120000);
    k.refuse_start = false;
    assert_true(kit_wait(&k, all_done, 3600));
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(kit_rows(&k), 8 * 20);
    while (leaving_count > 0)
        timer_free(leaving[--leaving_count]);
    kit_close(&k);
}

/* --- lines that cannot be read -------------------------------------------------------------------------------------------------------------------------------- */

/* The child has items 0 and 1; a row of item 1 is in a line that cannot be taken; then both are said to be done. */
static void two_at_once(struct fake_child *f, const doc *msg, void (*bad)(struct fake_child *))
{
    if (!usual(f, msg))
        return;
    if (item_in(msg) == 0) {
        f->kit->mode = 1;
        return;
    }
    if (item_in(msg) == 1 && f->kit->mode == 1) {
        fake_say(f, "{\"item\":1,\"row\":{\"k\":\"first\"}}\n");
        bad(f);
        fake_say(f, "{\"item\":0,\"row\":{\"k\":\"good\"}}\n{\"item\":0,\"done\":true}\n{\"item\":1,\"done\":true}\n");
    }
}

static void say_long_line(struct fake_child *f)
{
    static char piece[1 << 16];
    memset(piece, 'x', sizeof(piece) - 1);
    fake_say(f, "{\"item\":1,\"row\":{\"k\":\"");
    for (int i = 0; i <= LIMIT_LINE / (int)sizeof(piece); i++)
        fake_say(f, "%s", piece);
    fake_say(f, "\"}}\n");
}

static void long_line_of_the_second(struct fake_child *f, const doc *msg)
{
    two_at_once(f, msg, say_long_line);
}

static void say_two_in_one(struct fake_child *f)
{
    fake_say(f, "{\"item\":0,\"progress\":0.5}{\"item\":1,\"row\":{\"k\":\"second\"}}\n\n");
}

static void two_answers_in_one_line(struct fake_child *f, const doc *msg)
{
    two_at_once(f, msg, say_two_in_one);
}

static void say_item_last(struct fake_child *f)
{
    fake_say(f, "{\"row\":{\"k\":\"second\nline\"},\"item\":1}\n");
}

static void a_broken_line_without_its_item(struct fake_child *f, const doc *msg)
{
    two_at_once(f, msg, say_item_last);
}

static void run_window(struct kit *k, fake_script *script)
{
    kit_open(k, HANDLER_EXEC);
    k->defs.v[0].window = 2;
    k->options.parallel = 2;
    k->script = script;
    struct record *r = kit_record(k);
    r->attempts = 1;
    kit_run(k, r);
    kit_publish(k, 2);
    kit_start(k);
    assert_true(kit_wait(k, all_done, 600));
}

static bool has_failed(const struct kit *k, int64_t item)
{
    for (int64_t i = 0; i < k->fold->failed; i++)
        if (k->fold->failures[i].item == item)
            return true;
    return false;
}

static void a_line_too_long_fails_the_item_that_it_names(void **state)
{
    (void)state;
    struct kit k;
    run_window(&k, long_line_of_the_second);
    assert_true(has_failed(&k, 1));
    assert_int_equal(k.fold->failed, 1);
    assert_int_equal(kit_rows(&k), 1);
    kit_close(&k);
}

static void rows_in_a_broken_line_are_never_just_missing(void **state)
{
    (void)state;
    fake_script *const scripts[] = {two_answers_in_one_line, a_broken_line_without_its_item};
    for (size_t i = 0; i < ARRAY_LEN(scripts); i++) {
        struct kit k;
        run_window(&k, scripts[i]);
        assert_true(has_failed(&k, 1));
        kit_close(&k);
    }
}

/* --- loads ---------------------------------------------------------------------------------------------------------------------------------------------- */

static struct fake_child *slow_child;
static int64_t slow_item;
static struct timer *slow_timer;

static void slow_answer(void *unused)
{
    (void)unused;
    fake_say(slow_child, "{\"item\":%" PRId64 ",\"row\":{\"v\":1},\"done\":true}\n", slow_item);
}

static void an_item_in_ten_seconds(struct fake_child *f, const doc *msg)
{
    if (!usual(f, msg))
        return;
    slow_child = f;
    slow_item = item_in(msg);
    timer_set(slow_timer, 10 * US_PER_S);
}

/* Seven hours of items that come one by one: a load for each would be more than BigQuery takes in a day. */
static void a_long_run_keeps_below_the_loads_of_a_day(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    slow_timer = timer_new(k.loop, slow_answer, NULL);
    k.options.parallel = 1;
    begin(&k, an_item_in_ten_seconds, 2500);
    assert_true(kit_wait(&k, all_done, 8 * 3600));
    assert_int_equal(kit_rows(&k), 2500);
    assert_int_equal(k.fold->failed, 0);
    assert_true(k.fold->load_count < 500 + 8 * 3600 / 96);
    assert_true(k.fold->load_count > 400);
    timer_free(slow_timer);
    kit_close(&k);
}

/* --- leaving ------------------------------------------------------------------------------------------------------------------------------------------------ */

static void says_done(void *arg)
{
    struct fake_child *f = arg;
    fake_say(f, "{\"item\":0,\"row\":{\"v\":1}}\n{\"item\":0,\"done\":true}\n");
}

static struct timer *late_answer;
static void answers_late(struct fake_child *f, const doc *msg)
{
    if (usual(f, msg)) {
        late_answer = timer_new(f->kit->loop, says_done, f);
        timer_set(late_answer, 19500 * US_PER_MS);
    }
}

/* The grace of 30 s leaves 20 s to handlers and the rest to loads; an item that is done at 19.5 s has that rest before it. */
static void an_item_done_at_the_last_moment_has_time_to_land(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_load", .kind = BQMODEL_JOB_SLOW, .times = -1, .ms = 4000});
    begin(&k, answers_late, 1);
    kit_pass(&k, 100);
    kit_drain(&k, 30000);
    kit_pass(&k, 1000);
    assert_true(all_done(&k));
    assert_true(all_committed(&k));
    timer_free(late_answer);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_backlog_of_a_run_that_is_over_does_not_stop_the_intake),
        cmocka_unit_test(no_more_is_taken_beyond_two_billion_offsets_above_an_unfinished_item),
        cmocka_unit_test(a_commit_that_is_refused_after_its_worker_is_gone_concerns_nobody),
        cmocka_unit_test(a_commit_that_was_refused_is_made_again_although_nothing_else_is_done),
        cmocka_unit_test(items_that_come_in_the_very_turn_in_which_a_run_stops_wait_for_its_end),
        cmocka_unit_test(a_start_that_fails_for_an_item_with_a_place_is_made_good),
        cmocka_unit_test(a_line_too_long_fails_the_item_that_it_names),
        cmocka_unit_test(rows_in_a_broken_line_are_never_just_missing),
        cmocka_unit_test(a_long_run_keeps_below_the_loads_of_a_day),
        cmocka_unit_test(an_item_done_at_the_last_moment_has_time_to_land),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
