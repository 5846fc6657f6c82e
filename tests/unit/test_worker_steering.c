#include "tests/unit/support_worker.h"

#include "common/fleet/catalog.h"

/* What a worker does when its run is paused, or ended while its last statement still runs. */

static int given, answers;
static bool answering;

static void script(struct fake_child *f, const doc *msg)
{
    if (msg == NULL) {
        fake_exit(f, 0, "exit status 0");
    } else if (doc_get(msg, "hello") != NULL) {
        fake_say(f, "{\"ready\":true}\n");
    } else {
        given++;
        if (!answering)
            return;
        answers++;
        fake_say(f, "{\"item\":%" PRId64 ",\"row\":{\"k\":\"%s\",\"v\":1}}\n{\"item\":%" PRId64 ",\"done\":true}\n", doc_int(msg, "item", -1),
                 doc_str(msg, "key", ""), doc_int(msg, "item", -1));
    }
}

static void begin(struct kit *k, bool answer)
{
    given = answers = 0;
    answering = answer;
    kit_open(k, HANDLER_EXEC);
    k->script = script;
    struct record *r = kit_record(k);
    r->timeout_ms = INT64_C(3600000);
    kit_run(k, r);
}

static int children(const struct kit *k)
{
    int n = 0;
    for (const struct fake_child *f = k->fakes; f != NULL; f = f->next)
        n += !f->exits;
    return n;
}

static void over(struct kit *k)
{
    AUTO(doc_free_auto) doc *d = catalog_state_value(&(struct fold){.phase = RUN_ENDED, .end = END_CANCEL});
    AUTO(free_ptr) char *text = doc_text(d), *key = catalog_state_key("r1");
    struct error err = ERROR_INIT;
    struct bus_out out = {.topic = "t.batches", .partition = 0, .key = key, .key_len = strlen(key), .value = text, .value_len = strlen(text)};
    assert_int_equal(bus_publish(k->bus, &out, NULL, NULL, &err), 0);
    kit_pass(k, 100);
}

static void what_was_done_before_a_pause_is_loaded_and_reported(void **state)
{
    (void)state;
    struct kit k;
    begin(&k, true);
    kit_publish(&k, 10);
    k.options.linger_ms = 600000;
    kit_start(&k);
    kit_state(&k, true);
    kit_pass(&k, 10000);
    assert_int_equal(k.fold->done, answers);
    kit_state(&k, false);
    assert_true(kit_wait(&k, all_done, 60));
    kit_drain(&k, 1000);
    kit_close(&k);
}

/* The end is not there yet: a cut's outcome is waited for. */
static void handlers_of_a_run_that_is_over_are_stopped_before_its_end_is_known(void **state)
{
    (void)state;
    struct kit k;
    begin(&k, false);
    kit_publish(&k, 20);
    kit_start(&k);
    kit_pass(&k, 2000);
    assert_int_equal(given, 4);
    assert_int_equal(children(&k), 4);
    over(&k);
    assert_int_equal(children(&k), 0);
    kit_publish(&k, 5); /* still on their way */
    kit_pass(&k, 60000);
    assert_int_equal(given, 4);
    assert_int_equal(kit_committed(&k), 0); /* nothing passes before the end is known */
    assert_string_equal(k.fatal, "");      /* that is no news */
    kit_end(&k);
    assert_true(kit_wait(&k, all_committed, 30));
    assert_true(worker_idle(&k));
    kit_drain(&k, 1000);
    kit_close(&k);
}

static void loads_in_flight_of_a_run_that_is_over_are_cancelled(void **state)
{
    (void)state;
    struct kit k;
    begin(&k, true);
    bqmodel_fault(k.model, &(struct bqmodel_fault){.match = "bqfleet_load", .kind = BQMODEL_JOB_SLOW, .ms = 30000});
    kit_publish(&k, 10);
    kit_start(&k);
    kit_pass(&k, 10000); /* the job runs */
    assert_int_equal(bqmodel_counters(k.model)->loads, 1);
    over(&k);
    kit_pass(&k, 60000);
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(k.model);
    assert_string_equal(doc_str(doc_at(jobs, 0), "status.errorResult.reason", ""), "stopped");
    assert_int_equal(kit_rows(&k), 0);
    assert_int_equal(k.manifests, 0);
    kit_end(&k);
    kit_drain(&k, 1000);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_was_done_before_a_pause_is_loaded_and_reported),
        cmocka_unit_test(handlers_of_a_run_that_is_over_are_stopped_before_its_end_is_known),
        cmocka_unit_test(loads_in_flight_of_a_run_that_is_over_are_cancelled),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
