#include "tests/unit/support_worker.h"

/* Handlers that die again and again, with several items at once: only those that kill them fail, and the others are not slowed without bound. */

#define ITEMS 500
#define TICK_MS 20 /* an item's work */

enum way { DIES, LEAKS, HANGS };
static struct storm {
    enum way way;
    bool deadly[ITEMS];
    int attempt[ITEMS];      /* the highest that a handler was told */
    int leak_after;          /* items, after which a child is killed */
    struct { int serial; int64_t item; } held[256];
    size_t held_count;
    int64_t next_tick_ms;
} storm;

static void takes_a_while(struct fake_child *f, const doc *msg)
{
    int64_t item = msg ? doc_int(msg, "item", -1) : -1;
    if (msg == NULL)
        fake_exit(f, 0, "exit status 0");
    else if (doc_get(msg, "hello") != NULL)
        fake_say(f, "{\"ready\":true}\n");
    if (item < 0)
        return;
    assert_true(item < ITEMS && storm.held_count < ARRAY_LEN(storm.held));
    storm.held[storm.held_count].serial = f->serial;
    storm.held[storm.held_count++].item = item;
    storm.attempt[item] = (int)i64_max(storm.attempt[item], doc_int(msg, "attempt", 0));
}

static struct fake_child *child_of(struct kit *k, int serial)
{
    struct fake_child *f = k->fakes;
    while (f != NULL && f->serial != serial)
        f = f->next;
    return f;
}

static void fall(struct fake_child *f, int64_t item)
{
    if (f->exits)
        return;
    if (storm.way == LEAKS)
        fake_exit(f, 9, "killed by signal 9 (Killed)");
    else {
        char words[64];
        snprintf(words, sizeof(words), "item %" PRId64 " is too much for me\n", item);
        fake_cry(f, words);
        fake_exit(f, 139, "killed by signal 11 (Segmentation fault)");
    }
}

static void tick(struct kit *k)
{
    size_t kept = 0;
    for (size_t i = 0; i < storm.held_count; i++) { /* a child that dies says nothing more */
        struct fake_child *f = child_of(k, storm.held[i].serial);
        int64_t item = storm.held[i].item;
        if (f != NULL && ((storm.way == DIES && storm.deadly[item]) || (storm.way == LEAKS && f->items >= storm.leak_after)))
            fall(f, item);
    }
    for (size_t i = 0; i < storm.held_count; i++) {
        struct fake_child *f = child_of(k, storm.held[i].serial);
        int64_t item = storm.held[i].item;
        if (f == NULL || f->exits)
            continue;
        bool stuck = false; /* behind one that hangs */
        for (size_t j = 0; j <= i; j++)
            stuck |= storm.way == HANGS && storm.held[j].serial == f->serial && storm.deadly[storm.held[j].item];
        if (stuck)
            storm.held[kept++] = storm.held[i];
        else
            fake_say(f, "{\"item\":%" PRId64 ",\"rows\":[{\"k\":\"x\",\"v\":%" PRId64 "}],\"done\":true}\n", item, item);
    }
    storm.held_count = kept;
}

static void begin(struct kit *k, enum way way, int64_t window, int64_t parallel, int64_t attempts)
{
    memset(&storm, 0, sizeof(storm));
    storm.way = way;
    kit_open(k, HANDLER_EXEC);
    k->script = takes_a_while;
    k->defs.v[0].window = window;
    k->options.parallel = parallel;
    struct record *r = kit_record(k);
    r->attempts = attempts;
    r->timeout_ms = 5000;
    kit_run(k, r);
    kit_publish(k, ITEMS);
}

static void run_to_its_end(struct kit *k, int64_t seconds)
{
    int64_t until_ms = loop_now_ms(k->loop) + seconds * 1000;
    kit_start(k);
    while (!all_done(k) || !all_committed(k)) {
        assert_true(loop_now_ms(k->loop) < until_ms);
        loop_step(k->loop, 5 * US_PER_MS);
        if (loop_now_ms(k->loop) >= storm.next_tick_ms) {
            storm.next_tick_ms = loop_now_ms(k->loop) + TICK_MS;
            tick(k);
        }
    }
}

static void assert_only_the_deadly_failed(struct kit *k, int64_t attempts)
{
    int deadly = 0;
    for (size_t i = 0; i < k->fold->failure_count; i++) {
        const struct fold_failure *f = &k->fold->failures[i];
        assert_true(storm.deadly[f->item]);
        assert_string_equal(f->reason, storm.way == HANGS ? "timeout" : "crash");
        assert_int_equal(f->attempts, attempts);
        char words[64];
        snprintf(words, sizeof(words), "item %" PRId64 " is too much for me", f->item);
        assert_true(storm.way == HANGS || strstr(f->text, words) != NULL);
    }
    for (int i = 0; i < ITEMS; i++) {
        deadly += storm.deadly[i];
        assert_int_equal(storm.attempt[i], storm.deadly[i] ? attempts : 1);
    }
    assert_int_equal(k->fold->failed, deadly);
    assert_int_equal(k->fold->rows - (int64_t)k->fold->exclusion_count, ITEMS - deadly);
}

/* Five among five hundred. All that is lost: a child for each death, and the time in which its neighbours run one by one. */
static void a_storm_of_crashes_fails_the_culprits_and_is_soon_over(void **state)
{
    (void)state;
    static const int64_t windows[] = {1, 4, 16};
    for (size_t w = 0; w < ARRAY_LEN(windows); w++) {
        struct kit k;
        begin(&k, DIES, windows[w], 16, 3);
        storm.deadly[17] = storm.deadly[18] = storm.deadly[120] = storm.deadly[300] = storm.deadly[499] = true;
        run_to_its_end(&k, 30);
        assert_only_the_deadly_failed(&k, 3);
        int at_start = (int)(16 / windows[w]);
        assert_true(k.started <= at_start + 5 * (2 + 3 + 1));
        kit_close(&k);
    }
}

static void items_that_hang_fail_and_their_neighbours_lose_nothing(void **state)
{
    (void)state;
    static const int64_t windows[] = {1, 16};
    for (size_t w = 0; w < ARRAY_LEN(windows); w++) {
        struct kit k;
        begin(&k, HANGS, windows[w], 16, 2);
        storm.deadly[17] = storm.deadly[300] = storm.deadly[301] = true;
        run_to_its_end(&k, 120);
        assert_only_the_deadly_failed(&k, 2);
        kit_close(&k);
    }
}

/* Each child is killed after a number of items, whichever they are: nobody fails for what others left behind, though one attempt were all they had. */
static void a_child_that_leaks_until_it_is_killed_fails_nobody(void **state)
{
    (void)state;
    static const int64_t windows[] = {1, 4, 16};
    for (size_t w = 0; w < ARRAY_LEN(windows); w++) {
        struct kit k;
        begin(&k, LEAKS, windows[w], 16, 1);
        storm.leak_after = 30;
        run_to_its_end(&k, 600);
        assert_only_the_deadly_failed(&k, 1);
        kit_close(&k);
    }
}

/* --- a process for each item ------------------------------------------------------------------------------------------------------------------ */

static void dies_by_key(struct fake_child *f, const doc *msg)
{
    if (msg != NULL)
        return;
    fake_say(f, "{\"v\":1}\n");
    if (strcmp(f->argv1, "--key=k5") == 0) {
        fake_cry(f, "out of memory in five\n");
        fake_exit(f, 9, "killed by signal 9 (Killed)");
    } else {
        fake_exit(f, 0, "exit status 0");
    }
}

static void a_command_that_is_killed_fails_its_item_alone(void **state)
{
    (void)state;
    struct kit k;
    kit_open(&k, HANDLER_COMMAND);
    k.script = dies_by_key;
    kit_run(&k, kit_record(&k));
    kit_publish(&k, 40);
    kit_start(&k);
    assert_true(kit_wait(&k, all_done, 60));
    assert_int_equal(k.fold->failed, 1);
    assert_int_equal(k.fold->failures[0].item, 5);
    assert_int_equal(k.fold->failures[0].attempts, 3);
    assert_string_equal(k.fold->failures[0].reason, "crash");
    assert_non_null(strstr(k.fold->failures[0].text, "out of memory in five"));
    assert_int_equal(kit_rows(&k), 39);
    assert_int_equal(k.started, 42);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_storm_of_crashes_fails_the_culprits_and_is_soon_over),
        cmocka_unit_test(items_that_hang_fail_and_their_neighbours_lose_nothing),
        cmocka_unit_test(a_child_that_leaks_until_it_is_killed_fails_nobody),
        cmocka_unit_test(a_command_that_is_killed_fails_its_item_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
