#include "tests/unit/support_worker.h"

/* Handlers that misbehave, and what becomes of their items. */

static int64_t item_in(const doc *msg)
{
    return msg ? doc_int(msg, "item", -1) : -1;
}

static void well_done(struct fake_child *f, int64_t item)
{
    fake_say(f, "{\"item\":%" PRId64 ",\"rows\":[{\"k\":\"x\",\"v\":%" PRId64 "}],\"done\":true}\n", item, item);
}

/* What is common: ready at the hello, gone when stdin closes. True: there is an item to deal with. */
static bool usual(struct fake_child *f, const doc *msg)
{
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    return item_in(msg) >= 0;
}

static int attempts_of[64];

static void count_attempt(const doc *msg)
{
    int64_t item = item_in(msg);
    if (item >= 0 && item < 64)
        attempts_of[item] = (int)doc_int(msg, "attempt", -1);
}

static const struct fold_failure *failure_of(struct kit *k, int64_t item)
{
    for (size_t i = 0; i < k->fold->failure_count; i++)
        if (k->fold->failures[i].item == item)
            return &k->fold->failures[i];
    return NULL;
}

static void run_to_its_end(struct kit *k, fake_script *script, int items)
{
    memset(attempts_of, 0, sizeof(attempts_of));
    k->script = script;
    kit_run(k, kit_record(k));
    kit_publish(k, items);
    kit_start(k);
    assert_true(kit_wait(k, all_done, 600));
    assert_true(kit_wait(k, all_committed, 10));
}

/* --- crashes ---------------------------------------------------------------------------------------------------------------------------------------------- */

/* The first child holds what it gets until it has three; later ones answer at once. Item 2 kills them. */
static void item_two_kills(struct fake_child *f, const doc *msg)
{
    count_attempt(msg);
    if (!usual(f, msg) || (f->serial == 1 && f->items < 3))
        return;
    if (item_in(msg) == 2) {
        fake_cry(f, "Segmentation fault in two\n");
        fake_exit(f, 139, "killed by signal 11 (Segmentation fault)");
    } else {
        well_done(f, item_in(msg));
    }
}

/* With a window of three the culprit is among its neighbours: they are tried alone, and only it loses attempts. */
static void only_the_item_that_kills_alone_loses_attempts(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.defs.v[0].window = 3;
    k.options.parallel = 3;
    for (int64_t i = 0; i < 3; i++)
        kit_publish_item(&k, i, 0, "{\"n\":2}"); /* side by side with one child */
    k.next_item = 3;
    run_to_its_end(&k, item_two_kills, 3);
    assert_int_equal(k.fold->failed, 1);
    const struct fold_failure *f = failure_of(&k, 2);
    assert_non_null(f);
    assert_string_equal(f->reason, "crash");
    assert_int_equal(f->attempts, 3);
    assert_non_null(strstr(f->text, "signal 11"));
    assert_non_null(strstr(f->text, "Segmentation fault in two")); /* its last words */
    for (int i = 0; i < 6; i++)
        assert_int_equal(attempts_of[i], i == 2 ? 3 : 1);
    assert_int_equal(k.started, 6); /* together; 0, 1 and 2 one after another; 2 three times in a new one; one for the others */
    assert_int_equal(kit_rows(&k), 5);
    assert_int_equal(doc_len(k.dead), 1);
    assert_int_equal(doc_int(k.dead, "0.item", -1), 2);
    assert_int_equal(doc_int(k.dead, "0.payload.n", -1), 2);
    assert_string_equal(doc_str(k.dead, "0.run", ""), "r1");
    kit_close(&k);
}

/* A script that never says ready, whose first item kills it: told from a program that cannot start. */
static void first_item_kills_and_ready_is_never_said(struct fake_child *f, const doc *msg)
{
    count_attempt(msg);
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (item_in(msg) == 0)
        fake_exit(f, 256, "exit status 1");
    else if (item_in(msg) > 0)
        well_done(f, item_in(msg));
}

static void an_item_that_kills_at_once_is_no_handler_that_cannot_start(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.options.parallel = 1;
    run_to_its_end(&k, first_item_kills_and_ready_is_never_said, 4);
    assert_string_equal(k.fatal, "");
    assert_int_equal(k.fold->failed, 1);
    assert_string_equal(failure_of(&k, 0)->reason, "crash");
    assert_int_equal(kit_rows(&k), 3);
    kit_close(&k);
}

static void dies_at_start(struct fake_child *f, const doc *msg)
{
    (void)msg;
    fake_cry(f, "ImportError: no module named pandas\n");
    fake_exit(f, 256, "exit status 1");
}

static bool is_fatal(struct kit *k)
{
    return k->fatal[0] != '\0';
}

static void a_handler_that_cannot_start_stops_its_run_with_its_last_words(void **state)
{
    (void)state;
    for (int refuse = 0; refuse < 2; refuse++) {
        struct kit k;
        kit_open(&k, HANDLER_EXEC);
        k.script = dies_at_start;
        k.refuse_start = refuse == 1;
        kit_run(&k, kit_record(&k));
        kit_publish(&k, 10);
        kit_start(&k);
        assert_true(kit_wait(&k, is_fatal, 60));
        assert_non_null(strstr(k.fatal, "work does not start"));
        assert_non_null(strstr(k.fatal, refuse ? "no such program" : "ImportError"));
        int started = k.started;
        assert_true(started <= 8);
        kit_pass(&k, 60000);
        assert_int_equal(k.started, started); /* and that was all */
        assert_int_equal(k.fold->done, 0);
        assert_int_equal(kit_committed(&k), 0);
        kit_end(&k);
        assert_true(kit_wait(&k, all_committed, 10));
        kit_close(&k);
    }
}

/* As a program of `command` would. */
static void prints_and_ends(struct fake_child *f, const doc *msg)
{
    if (msg == NULL || doc_get(msg, "hello") == NULL)
        return;
    fake_say(f, "hello\n");
    fake_exit(f, 0, "exit status 0");
}

static void a_program_that_ends_well_without_an_answer_is_told_what_exec_is(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = prints_and_ends;
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 3);
    kit_start(&k);
    assert_true(kit_wait(&k, is_fatal, 60));
    assert_non_null(strstr(k.fatal, "work does not start: exit status 0, without an answer (a program of exec goes on reading lines until its stdin ends"));
    kit_end(&k);
    kit_close(&k);
}

/* --- time ------------------------------------------------------------------------------------------------------------------------------------------------- */

/* Item 1 hangs the whole child: what it was given after it stays unanswered too. */
static void item_one_hangs(struct fake_child *f, const doc *msg)
{
    count_attempt(msg);
    const char *one = strstr(f->in.data, "{\"item\":1,");
    if (usual(f, msg) && (one == NULL || one >= f->in.data + f->told)) /* not told yet */
        well_done(f, item_in(msg));
}

static void an_item_that_hangs_loses_attempts_and_its_neighbours_none(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.defs.v[0].window = 3;
    k.options.parallel = 3;
    for (int64_t i = 0; i < 9; i++)
        kit_publish_item(&k, i, 0, "{}");
    k.next_item = 9;
    int64_t from = loop_now_ms(k.loop);
    run_to_its_end(&k, item_one_hangs, 0);
    assert_true(loop_now_ms(k.loop) - from >= 3 * 30000);
    assert_int_equal(k.fold->failed, 1);
    assert_string_equal(failure_of(&k, 1)->reason, "timeout");
    assert_int_equal(failure_of(&k, 1)->attempts, 3);
    for (int i = 0; i < 9; i++)
        assert_int_equal(attempts_of[i], i == 1 ? 3 : 1);
    kit_close(&k);
}

static void loads_a_model_for_a_minute(struct fake_child *f, const doc *msg)
{
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (item_in(msg) >= 0 && f->kit->mode == 1)
        well_done(f, item_in(msg));
}

/* 50 s of start within a start_timeout of 60 s, though an item may only take 30 s. */
static void no_items_clock_runs_during_the_start(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.options.parallel = 1;
    k.script = loads_a_model_for_a_minute;
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 3);
    kit_start(&k);
    kit_pass(&k, 2000);
    struct worker_state state_now;
    worker_state(k.worker, &state_now);
    assert_string_equal(state_now.waits_for, "");
    kit_pass(&k, 48000);
    assert_int_equal(k.started, 1);
    worker_state(k.worker, &state_now);
    assert_string_equal(state_now.waits_for, "handler work, which has not answered at all yet (its start_timeout is 1 min)");
    k.mode = 1;
    fake_say(k.fakes, "{\"ready\":true}\n");
    kit_pass(&k, 20000);
    assert_int_equal(k.started, 1);
    worker_state(k.worker, &state_now);
    assert_string_equal(state_now.waits_for, "");
    well_done(k.fakes, 0);
    assert_true(kit_wait(&k, all_done, 30));
    assert_int_equal(k.fold->failed, 0);
    kit_close(&k);
}

/* --- errors ----------------------------------------------------------------------------------------------------------------------------------------------- */

static int64_t retried_at[8];

static void says_errors(struct fake_child *f, const doc *msg)
{
    count_attempt(msg);
    if (!usual(f, msg))
        return;
    int64_t item = item_in(msg), attempt = doc_int(msg, "attempt", 0);
    if (item == 0) {
        fake_say(f, "{\"item\":0,\"row\":{\"v\":5}}\n{\"item\":0,\"error\":{\"kind\":\"task\",\"message\":\"no such player\"}}\n");
    } else if (item == 1) {
        retried_at[attempt] = loop_now_ms(f->kit->loop);
        if (attempt < 3)
            fake_say(f, "{\"item\":1,\"error\":{\"kind\":\"retry\",\"message\":\"busy\"}}\n");
        else
            well_done(f, 1);
    } else {
        well_done(f, item);
    }
}

static void errors_cost_attempts_and_leave_no_rows_behind(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    run_to_its_end(&k, says_errors, 5);
    assert_int_equal(k.fold->failed, 1);
    assert_string_equal(failure_of(&k, 0)->text, "no such player");
    assert_string_equal(failure_of(&k, 0)->reason, "handler");
    assert_int_equal(attempts_of[0], 3);
    assert_int_equal(kit_rows(&k), 4);
    assert_true(retried_at[2] - retried_at[1] >= 500); /* "retry" waits, and longer each time */
    assert_true(retried_at[3] - retried_at[2] >= 1000);
    kit_close(&k);
}

static void says_fatal(struct fake_child *f, const doc *msg)
{
    if (usual(f, msg))
        fake_say(f, "{\"item\":%" PRId64 ",\"error\":{\"kind\":\"fatal\",\"message\":\"the password is wrong\"}}\n", item_in(msg));
}

static void a_fatal_error_stops_the_run_once(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    k.script = says_fatal;
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 20);
    kit_start(&k);
    assert_true(kit_wait(&k, is_fatal, 10));
    kit_pass(&k, 10000);
    assert_non_null(strstr(k.fatal, "the password is wrong"));
    assert_int_equal(k.fold->end, END_FATAL);
    assert_int_equal(k.fold->messages, 1);
    assert_null(k.fakes);
    struct worker_state s;
    worker_state(k.worker, &s);
    assert_int_equal(s.in_flight, 0);
    assert_int_equal(s.unfinished, 20);
    assert_non_null(strstr(s.waits_for, "the end of run r1"));
    kit_close(&k);
}

static void strange_talk(struct fake_child *f, const doc *msg)
{
    if (msg != NULL && doc_get(msg, "hello") != NULL) {
        fake_say(f, "Loading model...\n\n[1, 2]\n{'python': 'dict'}\n{\"ready\":true}\nno newline yet");
    } else if (usual(f, msg)) {
        int64_t i = item_in(msg);
        fake_say(f, " and now\n{\"item\":999,\"row\":{\"v\":1}}\n{\"item\":%" PRId64 ",\"progress\":0.5}\n  {\"later\": {\"x\": [\"}\\\"\"]}, \"item\" : %" PRId64
                 " , \"row\" : {\"v\" : %" PRId64 "} }\r\n{\"item\":%" PRId64 ",\"done\":true}\n{\"item\":%" PRId64 ",\"row\":{\"v\":7}}\n",
                 i, i, i, i, i);
    }
}

static void talk_that_is_no_answer_is_never_fatal(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    run_to_its_end(&k, strange_talk, 5);
    assert_int_equal(k.fold->failed, 0);
    assert_int_equal(kit_rows(&k), 5); /* the rows after `done` are ignored */
    kit_close(&k);
}

static void bad_rows(struct fake_child *f, const doc *msg)
{
    if (!usual(f, msg))
        return;
    int64_t i = item_in(msg);
    if (i == 1)
        fake_say(f, "{\"item\":1,\"rows\":[{\"v\":1},{\"v\":\"x\"}],\"done\":true}\n");
    else if (i == 2)
        fake_say(f, "{\"item\":2,\"row\":{\"nope\":1}}\n{\"item\":2,\"done\":true}\n");
    else if (i == 3)
        fake_say(f, "{\"item\":3,\"row\":{\"v\":1}\n{\"item\":3,\"done\":true}\n"); /* a brace is missing: a row must not get lost in silence */
    else if (i == 4)
        fake_say(f, "{\"item\":4,\"rows\":[{\"v\":1},2],\"done\":true}\n");
    else
        well_done(f, i);
}

static void a_bad_row_fails_its_item_and_nobody_else(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    run_to_its_end(&k, bad_rows, 8);
    assert_int_equal(k.fold->failed, 4);
    assert_string_equal(failure_of(&k, 1)->reason, "row");
    assert_non_null(strstr(failure_of(&k, 1)->text, "v"));
    assert_string_equal(failure_of(&k, 2)->reason, "row");
    assert_non_null(strstr(failure_of(&k, 2)->text, "nope"));
    assert_string_equal(failure_of(&k, 3)->reason, "handler");
    assert_string_equal(failure_of(&k, 4)->reason, "row");
    assert_int_equal(kit_rows(&k), 4);
    assert_int_equal(k.fold->load_count, 1);
    kit_close(&k);
}

static void a_line_of_100_mb(struct fake_child *f, const doc *msg)
{
    if (!usual(f, msg))
        return;
    if (item_in(msg) == 0) {
        fake_say(f, "{\"item\":0,\"row\":{\"k\":\"");
        static char piece[1 << 20];
        memset(piece, 'x', sizeof(piece) - 1);
        for (int i = 0; i < 100; i++)
            fake_say(f, "%s", piece);
        fake_say(f, "\"}}\n{\"item\":0,\"done\":true}\n");
    } else {
        well_done(f, item_in(msg));
    }
}

static void a_line_without_end_fails_its_item_by_size(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_EXEC);
    struct record *r = kit_record(&k);
    r->attempts = 1;
    k.script = a_line_of_100_mb;
    kit_run(&k, r);
    kit_publish(&k, 3);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 100));
    assert_int_equal(k.fold->failed, 1);
    assert_string_equal(failure_of(&k, 0)->reason, "size");
    assert_int_equal(kit_rows(&k), 2);
    kit_close(&k);
}

/* --- commands --------------------------------------------------------------------------------------------------------------------------------------------- */

static void exits_by_key(struct fake_child *f, const doc *msg)
{
    if (msg != NULL)
        return;
    fake_say(f, "{\"v\":1}\n");
    if (strcmp(f->argv1, "--key=k1") == 0) {
        fake_cry(f, "table is locked\n");
        fake_exit(f, 3 << 8, "exit status 3");
    } else if (strcmp(f->argv1, "--key=k2") == 0 && f->kit->mode++ < 2) {
        fake_exit(f, 75 << 8, "exit status 75");
    } else if (strcmp(f->argv1, "--key=k3") != 0) {
        fake_exit(f, 0, "exit status 0");
    }
}

static void a_commands_exit_status_is_its_verdict(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_COMMAND);
    run_to_its_end(&k, exits_by_key, 6);
    assert_int_equal(k.fold->failed, 2);
    assert_string_equal(failure_of(&k, 1)->reason, "handler");
    assert_non_null(strstr(failure_of(&k, 1)->text, "exit status 3: table is locked"));
    assert_string_equal(failure_of(&k, 3)->reason, "timeout");
    assert_int_equal(kit_rows(&k), 4);
    kit_close(&k);
}

static void a_command_that_is_not_there_stops_its_run(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_COMMAND);
    k.refuse_start = true;
    k.script = exits_by_key;
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 5);
    kit_start(&k);
    assert_true(kit_wait(&k, is_fatal, 60));
    assert_non_null(strstr(k.fatal, "no such program"));
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(only_the_item_that_kills_alone_loses_attempts),
        cmocka_unit_test(an_item_that_kills_at_once_is_no_handler_that_cannot_start),
        cmocka_unit_test(a_handler_that_cannot_start_stops_its_run_with_its_last_words),
        cmocka_unit_test(a_program_that_ends_well_without_an_answer_is_told_what_exec_is),
        cmocka_unit_test(an_item_that_hangs_loses_attempts_and_its_neighbours_none),
        cmocka_unit_test(no_items_clock_runs_during_the_start),
        cmocka_unit_test(errors_cost_attempts_and_leave_no_rows_behind),
        cmocka_unit_test(a_fatal_error_stops_the_run_once),
        cmocka_unit_test(talk_that_is_no_answer_is_never_fatal),
        cmocka_unit_test(a_bad_row_fails_its_item_and_nobody_else),
        cmocka_unit_test(a_line_without_end_fails_its_item_by_size),
        cmocka_unit_test(a_commands_exit_status_is_its_verdict),
        cmocka_unit_test(a_command_that_is_not_there_stops_its_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
