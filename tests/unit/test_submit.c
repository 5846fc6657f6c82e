#include "tests/unit/support_coord.h"

/* Submitting: what is published, what is refused, and what the log says of it. */

struct source { int64_t count, given, too_large, broken, waits; struct submit *submit; char payload[32]; };

static int next_item(void *arg, struct item *item, struct error *err)
{
    struct source *s = arg;
    static char key[32];
    if (s->given == s->count)
        return 0;
    if (s->given == s->waits)
        return 2;
    if (s->given == s->broken)
        return error_set(err, ERR_USAGE, 0, "items.ndjson:%" PRId64 ": not a line of JSON", s->given + 1);
    snprintf(key, sizeof(key), "key-%" PRId64, s->given);
    snprintf(s->payload, sizeof(s->payload), "{\"n\":%" PRId64 "}", s->given);
    *item = (struct item){.index = s->given, .key = key, .key_len = strlen(key), .payload = s->payload, .payload_len = strlen(s->payload)};
    if (s->given++ == s->too_large) {
        item->payload = NULL;
        item->payload_len = 0;
        error_set(err, ERR_TASK, 0, "items.ndjson: a payload of 1,000,000 bytes; at most 921,600");
    }
    return 1;
}

/* A process that submits. */
struct submitter {
    struct stage *stage;
    struct outbox *outbox;
    struct coordinator *coordinator;
    struct submit *submit;
    struct source source;
    bool opened, attached, sealed, failed;
    int64_t items;
    int code;
    struct error err;
};

static void on_opened(void *arg, bool attached)
{
    struct submitter *x = arg;
    x->opened = true;
    x->attached = attached;
}

static void on_sealed(void *arg, int64_t items)
{
    struct submitter *x = arg;
    x->sealed = true;
    x->items = items;
}

static void on_failed(void *arg, const struct error *err, int code)
{
    struct submitter *x = arg;
    x->failed = true;
    x->err = *err;
    x->code = code;
}

static void on_ready(void *arg)
{
    struct submitter *x = arg;
    if (x->submit)
        submit_catalog_read(x->submit);
}

static void on_trouble(void *arg, struct track *t, const struct error *err)
{
    (void)arg;
    (void)t;
    fail_msg("%s", err->text);
}

static void start(struct submitter *x, struct stage *s, struct record *r, int64_t count, bool replace)
{
    static const struct coordinator_events events = {.ready = on_ready, .trouble = on_trouble};
    static const struct submit_events submit = {.opened = on_opened, .sealed = on_sealed, .failed = on_failed};
    struct error err = ERROR_INIT;
    *x = (struct submitter){.stage = s, .source = {.count = count, .too_large = -1, .broken = -1, .waits = -1}};
    s->living++;
    x->outbox = outbox_new(&s->world, "submitter");
    x->coordinator = coordinator_start(&(struct coordinator_options){.world = &s->world, .outbox = x->outbox}, &events, x, &err);
    assert_non_null(x->coordinator);
    struct submit_options o = {.world = &s->world, .outbox = x->outbox, .watch = coordinator_watch(x->coordinator), .record = r,
                               .source = {.next = next_item, .arg = &x->source}, .replace = replace, .command = "bqfleet watch"};
    x->submit = submit_start(&o, &submit, x);
}

static bool over(void *arg)
{
    struct submitter *x = arg;
    return x->sealed || x->failed || x->attached;
}

static bool idle(void *arg)
{
    struct submitter *x = arg;
    return outbox_waiting(x->outbox) == 0;
}

static void leave(struct submitter *x)
{
    submit_free(x->submit);
    x->submit = NULL;
    coordinator_free(x->coordinator);
    STAGE_WAIT(x->stage, idle, x);
    stage_sleep(x->stage, 100);
    outbox_stop(x->outbox);
    outbox_free(x->outbox);
    x->stage->living--;
}

/* Starts, ends, and looks at every item: each once. */
static void submit_well(struct stage *s, const char *run, int64_t count, struct tally *t)
{
    struct submitter x;
    struct record *r = stage_record(s, run, "batch");
    start(&x, s, r, count, false);
    STAGE_WAIT(s, over, &x);
    assert_true(x.sealed);
    assert_int_equal(x.items, count);
    stage_tally(s, run, t);
    assert_int_equal(t->total, count);
    for (int64_t i = 0; i < count; i++)
        assert_int_equal(t->per_item[i], 1);
    assert_int_equal(stage_logged(s, r, LOGM_SEAL), 1);
    struct process p; /* the seal says enough for others to know when all is done */
    process_start(&p, s, r, TRACK_LOOKS);
    STAGE_WAIT(s, over, &x);
    stage_sleep(s, 100);
    const struct fold *f = track_fold(p.track);
    assert_int_equal(f->items, count);
    int64_t ends = 0;
    for (size_t i = 0; i < f->end_count; i++)
        ends += f->ends[i].offset;
    assert_int_equal(ends, count);
    process_kill(&p);
    leave(&x);
    record_free(r);
}

static void a_run_of_no_items_is_opened_and_sealed(void **state)
{
    struct tally t;
    submit_well(*state, "none", 0, &t);
}

static void a_run_of_one_item_is_opened_and_sealed(void **state)
{
    struct tally t;
    submit_well(*state, "one", 1, &t);
}

/* The bus takes 300 at a time here: the rest waits for room. */
static void thousands_of_items_go_out_once_each_and_evenly(void **state)
{
    struct tally t;
    submit_well(*state, "many", 3210, &t);
    for (int p = 0; p < 4; p++)
        assert_in_range(t.per_partition[p], 3210 / 4 - 128, 3210 / 4 + 128); /* 128: the length of a block so far out */
}

static void a_few_items_are_spread_over_all_partitions(void **state)
{
    struct tally t;
    submit_well(*state, "few", 18, &t);
    for (int p = 0; p < 4; p++)
        assert_in_range(t.per_partition[p], 4, 6);
}

static void a_second_submission_of_an_open_batch_is_refused_with_advice(void **state)
{
    struct stage *s = *state;
    struct submitter a, b;
    struct record *first = stage_record(s, "first", "batch"), *second = stage_record(s, "second", "batch");
    start(&a, s, first, 3, false);
    STAGE_WAIT(s, over, &a);
    start(&b, s, second, 3, false);
    STAGE_WAIT(s, over, &b);
    assert_true(b.failed && !b.opened);
    assert_int_equal(b.code, EXIT_ENDED);
    assert_non_null(strstr(b.err.text, "run first of batch batch is open"));
    assert_non_null(strstr(b.err.text, "bqfleet watch first"));
    assert_non_null(strstr(b.err.text, "--replace"));
    struct tally t;
    stage_tally(s, "second", &t);
    assert_int_equal(t.total, 0);
    leave(&a);
    leave(&b);
    record_free(first);
    record_free(second);
}

static void of_two_at_once_the_first_record_has_the_name_and_the_other_withdraws(void **state)
{
    struct stage *s = *state;
    struct submitter x[2];
    struct record *r[2] = {stage_record(s, "left", "batch"), stage_record(s, "right", "batch")};
    for (int i = 0; i < 2; i++)
        start(&x[i], s, r[i], 3, false);
    for (int i = 0; i < 2; i++)
        STAGE_WAIT(s, over, &x[i]);
    assert_int_equal(x[0].sealed + x[1].sealed, 1);
    assert_int_equal(x[0].failed + x[1].failed, 1);
    int lost = x[0].failed ? 0 : 1;
    assert_int_equal(x[lost].code, EXIT_ENDED);
    stage_sleep(s, 1000);
    const struct catalog_run *known = catalog_find(catalog_watch_runs(coordinator_watch(x[!lost].coordinator)), r[lost]->run);
    assert_int_equal(known->standing, STANDING_VOID);
    assert_string_equal(doc_str(known->end, "end", ""), "withdrawn");
    struct tally t;
    stage_tally(s, r[lost]->run, &t);
    assert_int_equal(t.total, 0);
    for (int i = 0; i < 2; i++) {
        leave(&x[i]);
        record_free(r[i]);
    }
}

static void a_run_id_that_exists_is_attached_to(void **state)
{
    struct stage *s = *state;
    struct submitter a, b;
    struct record *first = stage_record(s, "nightly", "batch"), *again = stage_record(s, "nightly", "batch");
    start(&a, s, first, 3, false);
    STAGE_WAIT(s, over, &a);
    start(&b, s, again, 3, false);
    STAGE_WAIT(s, over, &b);
    assert_true(b.attached && !b.sealed && !b.failed);
    struct tally t;
    stage_tally(s, "nightly", &t);
    assert_int_equal(t.total, 3);
    leave(&a);
    leave(&b);
    record_free(first);
    record_free(again);
}

static void replacing_cancels_the_open_run_and_names_it(void **state)
{
    struct stage *s = *state;
    struct submitter a, b;
    struct record *first = stage_record(s, "first", "batch"), *second = stage_record(s, "second", "batch");
    start(&a, s, first, 3, false);
    STAGE_WAIT(s, over, &a);
    start(&b, s, second, 3, true);
    STAGE_WAIT(s, over, &b);
    assert_true(b.sealed);
    assert_string_equal(second->replaces, "first");
    assert_int_equal(stage_logged(s, first, LOGM_CANCEL), 1);
    leave(&a);
    leave(&b);
    record_free(first);
    record_free(second);
}

static void an_item_that_is_too_large_fails_and_the_others_go_on(void **state)
{
    struct stage *s = *state;
    struct submitter x;
    struct record *r = stage_record(s, "large", "batch");
    start(&x, s, r, 10, false);
    x.source.too_large = 4;
    STAGE_WAIT(s, over, &x);
    assert_true(x.sealed);
    struct tally t;
    stage_tally(s, "large", &t);
    assert_int_equal(t.total, 9);
    assert_int_equal(t.per_item[4], 0);
    struct process p;
    process_start(&p, s, r, TRACK_LOOKS);
    stage_sleep(s, 100);
    const struct fold *f = track_fold(p.track);
    assert_int_equal(f->items, 10);
    assert_int_equal(f->failed, 1);
    assert_int_equal(f->failures[0].item, 4);
    assert_string_equal(f->failures[0].key, "key-4");
    assert_string_equal(f->failures[0].reason, "size");
    process_kill(&p);
    leave(&x);
    record_free(r);
}

static void a_source_that_breaks_cancels_the_run(void **state)
{
    struct stage *s = *state;
    struct submitter x;
    struct record *r = stage_record(s, "broken", "batch");
    start(&x, s, r, 10, false);
    x.source.broken = 6;
    STAGE_WAIT(s, over, &x);
    assert_true(x.failed);
    assert_int_equal(x.code, EXIT_USAGE);
    assert_non_null(strstr(x.err.text, "items.ndjson:7"));
    assert_int_equal(stage_logged(s, r, LOGM_CANCEL), 1);
    stage_sleep(s, 60000);
    assert_int_equal(stage_logged(s, r, LOGM_SEAL), 0);
    leave(&x);
    record_free(r);
}

static void a_submitter_that_waits_for_its_source_says_that_it_lives(void **state)
{
    struct stage *s = *state;
    struct submitter x;
    struct record *r = stage_record(s, "slow", "batch");
    start(&x, s, r, 10, false);
    x.source.waits = 5;
    stage_sleep(s, 2 * WAIT_ALIVE_EVERY + 5000);
    assert_int_equal(stage_logged(s, r, LOGM_ALIVE), 3); /* at once, and every ten seconds */
    assert_false(x.sealed);
    x.source.waits = -1;
    submit_ready(x.submit);
    STAGE_WAIT(s, over, &x);
    assert_int_equal(x.items, 10);
    leave(&x);
    record_free(r);
}

static void an_interrupted_submission_is_cancelled(void **state)
{
    struct stage *s = *state;
    struct submitter x;
    struct record *r = stage_record(s, "cut", "batch");
    start(&x, s, r, 10, false);
    x.source.waits = 5;
    stage_sleep(s, 1000);
    struct error err;
    error_set(&err, ERR_FATAL, 0, "interrupted");
    submit_abort(x.submit, 130, &err);
    STAGE_WAIT(s, over, &x);
    assert_int_equal(x.code, 130);
    assert_int_equal(stage_logged(s, r, LOGM_CANCEL), 1);
    leave(&x);
    record_free(r);
}

static bool record_is_out(void *arg)
{
    return outbox_waiting(((struct submitter *)arg)->outbox) > 0;
}

static void interrupt(struct stage *s, struct submitter *x)
{
    struct error err;
    STAGE_WAIT(s, record_is_out, x);
    error_set(&err, ERR_FATAL, 0, "interrupted");
    submit_abort(x->submit, 130, &err);
    STAGE_WAIT(s, over, x);
    assert_true(x->failed && !x->opened);
    assert_int_equal(x->code, 130);
}

/* Nobody else is there to end it. */
static void interrupted_while_its_record_is_on_its_way_the_batch_has_its_name_again(void **state)
{
    struct stage *s = *state;
    struct submitter x, y;
    struct record *r = stage_record(s, "first", "batch"), *second = stage_record(s, "second", "batch");
    start(&x, s, r, 3, false);
    interrupt(s, &x);
    leave(&x);
    assert_int_equal(stage_logged(s, r, LOGM_CANCEL), 1);
    start(&y, s, second, 3, false);
    STAGE_WAIT(s, over, &y);
    assert_true(y.sealed);
    const struct catalog_run *known = catalog_find(catalog_watch_runs(coordinator_watch(y.coordinator)), "first");
    assert_string_equal(doc_str(known->end, "end", ""), "cancelled");
    leave(&y);
    record_free(r);
    record_free(second);
}

/* The record of the other one lies before ours, and its log is the one that a cancel would go to. */
static void interrupted_it_never_ends_the_run_of_another_that_has_the_same_id(void **state)
{
    struct stage *s = *state;
    struct submitter x, y;
    struct record *r = stage_record(s, "same", "batch"), *again = stage_record(s, "same", "batch");
    start(&x, s, r, 3, false);
    start(&y, s, again, 3, false);
    STAGE_WAIT(s, record_is_out, &x);
    interrupt(s, &y);
    STAGE_WAIT(s, over, &x);
    stage_sleep(s, 1000);
    assert_true(x.sealed);
    assert_int_equal(stage_logged(s, r, LOGM_CANCEL), 0);
    assert_int_equal(catalog_find(catalog_watch_runs(coordinator_watch(x.coordinator)), "same")->standing, STANDING_OPEN);
    leave(&x);
    leave(&y);
    record_free(r);
    record_free(again);
}

#define T(name) cmocka_unit_test_setup_teardown(name, stage_open, stage_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(a_run_of_no_items_is_opened_and_sealed),
        T(a_run_of_one_item_is_opened_and_sealed),
        T(thousands_of_items_go_out_once_each_and_evenly),
        T(a_few_items_are_spread_over_all_partitions),
        T(a_second_submission_of_an_open_batch_is_refused_with_advice),
        T(of_two_at_once_the_first_record_has_the_name_and_the_other_withdraws),
        T(a_run_id_that_exists_is_attached_to),
        T(replacing_cancels_the_open_run_and_names_it),
        T(an_item_that_is_too_large_fails_and_the_others_go_on),
        T(a_source_that_breaks_cancels_the_run),
        T(a_submitter_that_waits_for_its_source_says_that_it_lives),
        T(an_interrupted_submission_is_cancelled),
        T(interrupted_while_its_record_is_on_its_way_the_batch_has_its_name_again),
        T(interrupted_it_never_ends_the_run_of_another_that_has_the_same_id),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
