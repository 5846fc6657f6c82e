#include "coordinator/redrive.h"

#include "common/fleet/envelope.h"
#include "coordinator/failed.h"
#include "tests/unit/support_coord.h"

/* Which items a redrive takes, by which record, and how it gets them from the queue. */

static void put_work(struct stage *s, const char *run, int64_t item, const char *payload)
{
    char key[32];
    struct buf bytes = BUF_INIT(1 << 20);
    struct error err = ERROR_INIT;
    snprintf(key, sizeof(key), "key-%" PRId64, item);
    struct envelope e = {.run = run, .run_len = strlen(run), .item = item, .key = key, .key_len = strlen(key), .payload = payload, .payload_len = strlen(payload)};
    assert_int_equal(envelope_encode(&e, &bytes, &err), 0);
    outbox_send(s->outbox, &(struct letter_out){.topic = "t.work.default", .partition = (int32_t)(item % STAGE_PARTITIONS), .key = key, .key_len = strlen(key),
                                                .value = bytes.data, .value_len = bytes.len}, NULL, NULL);
    buf_free(&bytes);
}

static bool all_sent(void *arg)
{
    struct stage *s = arg;
    return outbox_waiting(s->outbox) == 0;
}

static void it_fails(struct stage *s, const struct record *r, int64_t item, const char *reason, int64_t attempts)
{
    char key[32];
    snprintf(key, sizeof(key), "key-%" PRId64, item);
    struct item_failure f = {.item = item, .attempts = attempts, .key = key, .reason = reason, .text = "no"};
    stage_say(s, r, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.failures = &f, .failure_count = 1}});
}

/* --- a run's log, read ------------------------------------------------------------------------------------------------------------------------------ */

struct reading { struct runlog *log; struct redrive_choice *choice; bool done; struct error err; };
static void on_failure(void *arg, const struct item_failure *f, int64_t time_ms)
{
    struct reading *r = arg;
    redrive_failure(r->choice, f, time_ms);
}
static void on_read(void *arg, const struct error *err)
{
    struct reading *r = arg;
    r->done = true;
    if (err)
        r->err = *err;
}
static bool is_read(void *arg) { return ((struct reading *)arg)->done; }

static void read_log(struct stage *s, const struct record *r, struct reading *out, struct redrive_choice *c)
{
    static const struct runlog_events events = {.failure = on_failure, .done = on_read};
    *out = (struct reading){.choice = c};
    out->log = runlog_start(&s->world, r, &events, out, &out->err);
    assert_non_null(out->log);
    STAGE_WAIT(s, is_read, out);
    assert_int_equal(out->err.kind, ERR_NONE);
}

static struct catalog *catalog_with(const struct record *const *records, size_t count)
{
    struct catalog *c = catalog_new();
    for (size_t i = 0; i < count; i++) {
        AUTO(free_ptr) char *key = catalog_record_key(records[i]);
        AUTO(doc_free_auto) doc *d = record_to_doc(records[i]);
        AUTO(free_ptr) char *text = doc_text(d);
        catalog_apply(c, key, strlen(key), text, strlen(text), (int64_t)i);
    }
    return c;
}

static void put_end(struct catalog *c, const char *run, const char *end)
{
    AUTO(free_ptr) char *key = catalog_end_key(run);
    catalog_apply(c, key, strlen(key), end, strlen(end), 100);
}

static const struct dead_filter all = {.item = -1};

/* Items 0 to 3: 0 is loaded, 1 and 2 failed by their handler, 3 by a time-out, 4 is too large for the queue. */
static struct record *a_run(struct stage *s, int64_t tolerate)
{
    struct record *r = stage_record(s, "old", "batch");
    r->finish.tolerate_count = tolerate;
    for (int64_t i = 0; i < 4; i++)
        put_work(s, "old", i, "{\"a\":1}");
    STAGE_WAIT(s, all_sent, s);
    stage_load(s, r, 0, 1, 1);
    it_fails(s, r, 1, "handler", 2);
    it_fails(s, r, 2, "handler", 2);
    it_fails(s, r, 3, "timeout", 2);
    it_fails(s, r, 4, "size", 0);
    stage_seal(s, r, 5);
    return r;
}

static void what_failed_is_chosen_by_the_log_and_the_filter(void **state)
{
    struct stage *s = *state;
    struct record *r = a_run(s, 0);
    struct catalog *runs = catalog_with((const struct record *[]){r}, 1);
    struct redrive_choice c;
    struct reading log;
    redrive_choose(&c, runs, "old", &all);
    read_log(s, r, &log, &c);
    assert_int_equal(c.selected.count, 3);
    assert_int_equal(c.never_queued, 1);
    assert_false(itemset_has(&c.selected, 4));
    itemset_free(&c.selected);
    runlog_free(log.log);
    struct dead_filter timeouts = {.item = -1, .reason = "timeout"};
    redrive_choose(&c, runs, "old", &timeouts);
    read_log(s, r, &log, &c);
    assert_int_equal(c.selected.count, 1);
    assert_true(itemset_has(&c.selected, 3));
    itemset_free(&c.selected);
    runlog_free(log.log);
    catalog_free(runs);
    record_free(r);
}

static void what_an_earlier_redrive_may_have_written_is_not_chosen_again(void **state)
{
    static const struct { const char *end; int64_t selected; } cases[] = {
        {"{\"end\":\"written\",\"exit\":0}", 2}, {"{\"end\":\"unknown\",\"exit\":4}", 2}, {"{\"end\":\"fatal\",\"exit\":4}", 3}, {"{\"end\":\"cancelled\",\"exit\":5}", 3}};
    struct stage *s = *state;
    struct record *r = a_run(s, 9), *before = stage_record(s, "before", "batch");
    before->batches_seen = 1;
    snprintf(before->redrives, sizeof(before->redrives), "old");
    struct dead_filter timeouts = {.item = -1, .reason = "timeout"};
    before->selection = dead_filter_to_doc(&timeouts);
    for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
        struct catalog *runs = catalog_with((const struct record *[]){r, before}, 2);
        put_end(runs, "old", "{\"end\":\"written\",\"exit\":0}");
        put_end(runs, "before", cases[i].end);
        struct redrive_choice c;
        struct reading log;
        redrive_choose(&c, runs, "old", &all);
        read_log(s, r, &log, &c);
        assert_int_equal(c.selected.count, cases[i].selected);
        assert_int_equal(c.taken_before, 3 - cases[i].selected);
        itemset_free(&c.selected);
        runlog_free(log.log);
        catalog_free(runs);
    }
    record_free(before);
    record_free(r);
}

static void a_redrive_tolerates_what_the_whole_does_less_what_is_left(void **state)
{
    struct stage *s = *state;
    struct record *r = a_run(s, 3); /* four failed: held */
    struct catalog *runs = catalog_with((const struct record *[]){r}, 1);
    struct redrive_choice c;
    struct reading log;
    struct error err = ERROR_INIT;
    redrive_choose(&c, runs, "old", &all);
    read_log(s, r, &log, &c);
    const struct fold *f = runlog_fold(log.log);
    assert_int_equal(f->phase, RUN_HELD);
    assert_int_equal(redrive_judge(runs, catalog_find(runs, "old"), f, &c, false, "", &err), 0);
    struct record *n = redrive_record(&s->world, r, f, &c, false, "new", &err);
    assert_non_null(n);
    assert_string_equal(n->adopts, "old");
    assert_string_equal(n->redrives, "old");
    assert_int_equal(n->left, 1); /* the one that never was in the queue */
    assert_int_equal(n->finish.tolerate_count, 2);
    assert_int_equal(n->every_ms, 0);
    record_free(n);
    n = redrive_record(&s->world, r, f, &c, true, NULL, &err);
    assert_int_equal(n->finish.tolerate_count, 3);
    assert_int_equal(strlen(n->run), ID_LEN);
    record_free(n);
    for (int64_t i = 1; i < 4; i++) /* nothing but the time-out: three stay */
        if (i < 3)
            itemset_remove(&c.selected, i);
    r->finish.tolerate_count = 2;
    ((struct fold *)(uintptr_t)f)->config.tolerate_count = 2;
    assert_int_equal(redrive_judge(runs, catalog_find(runs, "old"), f, &c, false, "", &err), -1);
    assert_non_null(strstr(err.text, "--accept-rest"));
    assert_int_equal(redrive_judge(runs, catalog_find(runs, "old"), f, &c, true, "", &err), 0);
    itemset_free(&c.selected);
    runlog_free(log.log);
    catalog_free(runs);
    record_free(r);
}

static void the_missing_rows_of_a_run_that_replaced_the_table_are_added(void **state)
{
    struct stage *s = *state;
    struct record *r = a_run(s, 9);
    r->mode = WRITE_REPLACE;
    struct catalog *runs = catalog_with((const struct record *[]){r}, 1);
    struct redrive_choice c;
    struct reading log;
    struct error err = ERROR_INIT;
    redrive_choose(&c, runs, "old", &all);
    read_log(s, r, &log, &c);
    struct record *n = redrive_record(&s->world, r, runlog_fold(log.log), &c, false, NULL, &err);
    assert_int_equal(n->mode, WRITE_MERGE);
    assert_string_equal(n->adopts, "");
    record_free(n);
    r->key_count = 0;
    n = redrive_record(&s->world, r, runlog_fold(log.log), &c, false, NULL, &err);
    assert_int_equal(n->mode, WRITE_APPEND);
    record_free(n);
    r->key_count = 1;
    itemset_free(&c.selected);
    runlog_free(log.log);
    catalog_free(runs);
    record_free(r);
}

/* --- the source ---------------------------------------------------------------------------------------------------------------------------------------- */

struct taking { struct redrive_source *source; struct itemset keys; int64_t count; int last; bool ready; struct error err; };

static void on_ready(void *arg)
{
    ((struct taking *)arg)->ready = true;
}

static bool take_all(void *arg)
{
    struct taking *t = arg;
    struct item item;
    t->err = ERROR_INIT;
    while ((t->last = redrive_source_next(t->source, &item, &t->err)) == 1) {
        AUTO(free_ptr) char *key = xstrndup(item.key, item.key_len);
        itemset_add(&t->keys, strtol(key + 4, NULL, 10));
        t->count++;
    }
    return t->last != 2;
}

static void open_source(struct stage *s, struct taking *t, const struct record *r, const struct fold *f, struct redrive_choice *c, double per_s)
{
    *t = (struct taking){.count = 0};
    t->source = redrive_source_open(&s->world, s->outbox, r, f, c, per_s, on_ready, t);
}

static void close_source(struct stage *s, struct taking *t)
{
    redrive_source_close(t->source);
    itemset_free(&t->keys);
    stage_sleep(s, 100); /* answers to tickets */
}

/* More than is kept at once, some twice, others' among them. */
static void the_source_gives_each_selected_item_once_however_many_there_are(void **state)
{
    enum { MANY = 45000 };
    struct stage *s = *state;
    struct record *r = stage_record(s, "old", "batch");
    struct redrive_choice c = {.filter = all};
    for (int64_t i = 0; i < MANY; i++) {
        put_work(s, i % 10 == 0 ? "older" : "old", i, "{\"a\":1}");
        if (i % 1000 == 1)
            put_work(s, "old", i, "{\"a\":1}");
        if (i % 3 != 0 && i % 10 != 0)
            itemset_add(&c.selected, i);
    }
    STAGE_WAIT(s, all_sent, s);
    stage_seal(s, r, MANY);
    int64_t wanted = c.selected.count;
    assert_true(wanted > 20000);
    put_work(s, "old", 30, "{}"); /* behind the seal */
    itemset_add(&c.selected, 30);
    struct reading log;
    struct redrive_choice none = {.filter = all};
    read_log(s, r, &log, &none);
    struct taking t;
    open_source(s, &t, r, runlog_fold(log.log), &c, 0);
    STAGE_WAIT(s, take_all, &t);
    assert_int_equal(t.count, wanted);
    assert_int_equal(t.keys.count, wanted);
    assert_int_equal(t.last, -1); /* what is missing is said when all others were given */
    assert_string_equal(t.err.reason, "expired");
    assert_non_null(strstr(t.err.text, "item 30 "));
    close_source(s, &t);
    itemset_free(&c.selected);
    runlog_free(log.log);
    record_free(r);
}

static void a_rate_is_kept_to_by_the_clock(void **state)
{
    struct stage *s = *state;
    struct record *r = a_run(s, 9);
    struct catalog *runs = catalog_with((const struct record *[]){r}, 1);
    struct redrive_choice c;
    struct reading log;
    redrive_choose(&c, runs, "old", &all);
    read_log(s, r, &log, &c);
    struct taking t;
    open_source(s, &t, r, runlog_fold(log.log), &c, 1.0 / 60);
    stage_sleep(s, 5000);
    assert_false(take_all(&t));
    assert_int_equal(t.count, 1);
    t.ready = false;
    stage_sleep(s, 58000);
    assert_false(take_all(&t));
    assert_int_equal(t.count, 1);
    stage_sleep(s, 3000);
    assert_true(t.ready);
    take_all(&t);
    assert_int_equal(t.count, 2);
    stage_sleep(s, 61000);
    assert_true(take_all(&t));
    assert_int_equal(t.count, 3);
    assert_int_equal(t.last, 0);
    close_source(s, &t);
    itemset_free(&c.selected);
    runlog_free(log.log);
    catalog_free(runs);
    record_free(r);
}

/* --- listing --------------------------------------------------------------------------------------------------------------------------------------------- */

struct listing { bool done; int64_t items; struct itemset seen; int with_payload; struct error err; };
static void on_line(void *arg, const doc *line)
{
    struct listing *l = arg;
    int64_t item = doc_int(line, "_bqfleet.item", -1);
    assert_false(itemset_has(&l->seen, item));
    itemset_add(&l->seen, item);
    l->with_payload += doc_get(line, "a") != NULL;
    assert_string_equal(doc_str(line, "_bqfleet.run", ""), "old");
}
static void on_listed(void *arg, int64_t items, const struct error *err)
{
    struct listing *l = arg;
    assert_null(err);
    l->done = true;
    l->items = items;
}
static bool is_listed(void *arg) { return ((struct listing *)arg)->done; }

static void put_dead(struct stage *s, const struct record *r, int64_t item, const char *more)
{
    char key[64], value[256];
    snprintf(key, sizeof(key), "old/%" PRId64, item);
    snprintf(value, sizeof(value), "{\"run\":\"old\",\"item\":%" PRId64 ",\"key\":\"key-%" PRId64 "\",\"reason\":\"handler\",\"text\":\"all of it\",\"attempts\":2%s}", item, item,
             more);
    outbox_send(s->outbox, &(struct letter_out){.topic = "t.dead", .partition = r->dead_partition, .key = key, .key_len = strlen(key), .value = value,
                                                .value_len = strlen(value)}, NULL, NULL);
    STAGE_WAIT(s, all_sent, s);
}

/* Item 0 is in `dead` though it succeeded; 1 is there twice; 2 without its payload, which was too large for there; 3 not at all; 4 never was in the queue. */
static void what_failed_is_the_logs_word_and_its_payload_is_found_where_it_is(void **state)
{
    struct stage *s = *state;
    struct record *r = a_run(s, 9);
    put_dead(s, r, 0, ",\"payload\":{\"a\":1}");
    put_dead(s, r, 1, ",\"payload\":{\"a\":1}");
    put_dead(s, r, 1, ",\"payload\":{\"a\":1}");
    put_dead(s, r, 2, ",\"payload\":null,\"payload_left_out\":true");
    struct reading log;
    struct redrive_choice none = {.filter = all};
    read_log(s, r, &log, &none);
    struct listing l = {.items = 0};
    struct failed *f = failed_start(&(struct failed_options){.world = &s->world, .outbox = s->outbox, .record = r, .fold = runlog_fold(log.log), .line = on_line,
                                                             .arg = &l, .done = on_listed});
    STAGE_WAIT(s, is_listed, &l);
    assert_int_equal(l.items, 4);
    assert_false(itemset_has(&l.seen, 0));
    assert_int_equal(l.with_payload, 3);
    failed_stop(f);
    itemset_free(&l.seen);
    itemset_free(&none.selected);
    runlog_free(log.log);
    record_free(r);
}

/* --- times and filters ------------------------------------------------------------------------------------------------------------------------------------ */

static void times_are_dates_or_how_long_ago(void **state)
{
    static const struct { const char *text; int64_t ms; } good[] = {
        {"2026-01-31T12:00:00Z", 1769860800000}, {"2026-01-31T12:00:00.5Z", 1769860800500}, {"2026-01-31 12:00:00", 1769860800000},
        {"2026-01-31T12:00Z", 1769860800000}, {"2026-01-31", 1769817600000}, {"2h", 10000000000 - 7200000}};
    static const char *const bad[] = {"", "yesterday", "2026-13-01", "2026-01-31T12:00:00+01:00", "12:00", "2026-01-31x"};
    (void)state;
    struct error err = ERROR_INIT;
    int64_t ms;
    for (size_t i = 0; i < ARRAY_LEN(good); i++) {
        assert_int_equal(dead_filter_time("since", good[i].text, 10000000000, &ms, &err), 0);
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
        assert_int_equal(dead_filter_time("since", bad[i], 10000000000, &ms, &err), -1);
        assert_int_equal(err.kind, ERR_USAGE);
    }
}

static void a_filter_survives_its_record_and_takes_what_it_names(void **state)
{
    (void)state;
    struct dead_filter f = {.item = -1, .reason = "row", .since_ms = 100, .until_ms = 200}, back;
    AUTO(doc_free_auto) doc *d = dead_filter_to_doc(&f);
    dead_filter_from_doc(&back, d);
    struct item_failure x = {.item = 7, .key = "k", .reason = "row", .text = ""};
    assert_true(dead_filter_takes(&back, &x, 100));
    assert_false(dead_filter_takes(&back, &x, 99));
    assert_false(dead_filter_takes(&back, &x, 200));
    x.reason = "crash";
    assert_false(dead_filter_takes(&back, &x, 150));
    assert_null(dead_filter_to_doc(&all));
    dead_filter_from_doc(&back, NULL);
    assert_true(dead_filter_all(&back) && dead_filter_takes(&back, &x, 1));
    struct dead_filter item = {.item = 8}, key = {.item = -1, .key = "k"};
    assert_false(dead_filter_takes(&item, &x, 1));
    assert_true(dead_filter_takes(&key, &x, 1));
}

#define T(name) cmocka_unit_test_setup_teardown(name, stage_open, stage_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(what_failed_is_chosen_by_the_log_and_the_filter),
        T(what_an_earlier_redrive_may_have_written_is_not_chosen_again),
        T(a_redrive_tolerates_what_the_whole_does_less_what_is_left),
        T(the_missing_rows_of_a_run_that_replaced_the_table_are_added),
        T(the_source_gives_each_selected_item_once_however_many_there_are),
        T(a_rate_is_kept_to_by_the_clock),
        T(what_failed_is_the_logs_word_and_its_payload_is_found_where_it_is),
        cmocka_unit_test(times_are_dates_or_how_long_ago),
        cmocka_unit_test(a_filter_survives_its_record_and_takes_what_it_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
