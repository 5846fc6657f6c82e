#include "tests/unit/support_worker.h"
#include "worker/share.h"

/* A run's cap across the fleet: how it is divided, and that it is never passed by workers that come, go and die. */

static void divided(const int64_t *wants, const int64_t *parts, size_t count, int64_t cap)
{
    struct share_claim v[8] = {0};
    for (size_t i = 0; i < count; i++)
        v[i].wants = wants[i];
    shares_divide(v, count, cap);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(v[i].part, parts[i]);
}

static void a_cap_is_divided_evenly_and_the_rest_goes_to_those_that_came_first(void **state)
{
    (void)state;
    divided((int64_t[]){9, 9, 9}, (int64_t[]){3, 3, 3}, 3, 9);
    divided((int64_t[]){9, 9, 9}, (int64_t[]){4, 3, 3}, 3, 10);
    divided((int64_t[]){9, 9, 9}, (int64_t[]){1, 1, 0}, 3, 2);
    divided((int64_t[]){1, 9, 9}, (int64_t[]){1, 5, 4}, 3, 10); /* who wants little leaves it to the others */
    divided((int64_t[]){9, 0, 1}, (int64_t[]){1, 0, 1}, 3, 2);
    divided((int64_t[]){2, 3}, (int64_t[]){2, 3}, 2, 100);
}

static void parts_never_sum_to_more_than_the_cap_nor_leave_any_of_it_while_somebody_wants_it(void **state)
{
    (void)state;
    struct rnd rnd;
    rnd_seeded(&rnd, 7);
    for (int i = 0; i < 20000; i++) {
        struct share_claim v[8];
        size_t count = 1 + rnd_below(&rnd, 8);
        int64_t cap = (int64_t)rnd_below(&rnd, 30), wanted = 0, sum = 0;
        for (size_t n = 0; n < count; n++) {
            v[n] = (struct share_claim){.wants = (int64_t)rnd_below(&rnd, 12)};
            wanted += v[n].wants;
        }
        shares_divide(v, count, cap);
        for (size_t n = 0; n < count; n++) {
            assert_true(v[n].part >= 0 && v[n].part <= v[n].wants);
            sum += v[n].part;
        }
        assert_int_equal(sum, i64_min(cap, wanted));
    }
}

/* --- workers ------------------------------------------------------------------------------------------------------------------------------------------ */

#define WORKERS 4
#define OPEN_MOST 64

/* Items that handlers have and have not answered: at most so many of a fleet. */
static struct { struct fake_child *child; int64_t item; char key[32]; } open_items[OPEN_MOST];
static size_t open_count, open_high;

static void hold(struct fake_child *f, const doc *msg)
{
    if (msg == NULL) {
        fake_exit(f, 0, "exit status 0");
    } else if (doc_get(msg, "hello") != NULL) {
        fake_say(f, "{\"ready\":true}\n");
    } else {
        assert_true(open_count < OPEN_MOST);
        open_items[open_count].child = f;
        open_items[open_count].item = doc_int(msg, "item", -1);
        snprintf(open_items[open_count++].key, 32, "%s", doc_str(msg, "key", ""));
        open_high = open_count > open_high ? open_count : open_high;
    }
}

static void answer_oldest(void)
{
    if (open_count == 0)
        return;
    fake_say(open_items[0].child, "{\"item\":%" PRId64 ",\"row\":{\"k\":\"%s\",\"v\":1}}\n{\"item\":%" PRId64 ",\"done\":true}\n", open_items[0].item,
             open_items[0].key, open_items[0].item);
    memmove(open_items, open_items + 1, --open_count * sizeof(open_items[0]));
}

/* Before a worker is killed: what its children have will not be answered. */
static void forget_dead(const struct kit *k)
{
    size_t kept = 0;
    for (size_t i = 0; i < open_count; i++)
        for (const struct fake_child *f = k->fakes; f != NULL; f = f->next)
            if (f == open_items[i].child && !f->exits) {
                open_items[kept++] = open_items[i];
                break;
            }
    open_count = kept;
}

static struct worker *start(struct kit *k, const char *name)
{
    struct error err = ERROR_INIT;
    struct worker_options o = k->options;
    o.name = name;
    struct worker *w = worker_start(&o, &err);
    assert_non_null(w);
    return w;
}

static void open_fleet(struct kit *k, int64_t cap, int items)
{
    open_count = open_high = 0;
    kit_open(k, HANDLER_EXEC);
    k->script = hold;
    struct record *r = kit_record(k);
    r->parallel = cap;
    r->timeout_ms = INT64_C(3600000);
    kit_run(k, r);
    kit_publish(k, items);
}

static void on_drained(void *arg)
{
    *(bool *)arg = true;
}

static void a_cap_holds_while_workers_come_and_leave(void **state)
{
    (void)state;
    static const char *const names[WORKERS] = {"a", "b", "c", "d"};
    for (int64_t cap = 1; cap <= 6; cap++) {
        struct kit k;
        struct worker *w[WORKERS] = {NULL};
        bool drained = false;
        open_fleet(&k, cap, 2600);
        for (int step = 0; step < 60000 && !all_done(&k); step++) {
            if (step < WORKERS * 400 && step % 400 == 0)
                w[step / 400] = start(&k, names[step / 400]);
            if (step == 2200) {
                worker_drain(w[0], 5000, true, on_drained, &drained);
            } else if (drained && w[0] != NULL) {
                worker_free(w[0]);
                w[0] = NULL;
                forget_dead(&k);
            }
            answer_oldest();
            kit_pass(&k, 20);
            assert_true(open_count <= (size_t)cap);
        }
        assert_true(all_done(&k));
        assert_int_equal(open_high, cap); /* it was used, too */
        for (int i = 0; i < WORKERS; i++)
            worker_free(w[i]);
        kit_close(&k);
    }
}

static int64_t running(const struct worker *w)
{
    struct worker_state s;
    worker_state(w, &s);
    return s.in_flight;
}

static void a_worker_that_comes_later_gets_its_part(void **state)
{
    (void)state;
    struct kit k;
    open_fleet(&k, 4, 2600);
    struct worker *first = start(&k, "a");
    kit_pass(&k, 5000);
    assert_int_equal(running(first), 4);
    struct worker *second = start(&k, "b");
    for (int i = 0; i < 600; i++) {
        answer_oldest();
        kit_pass(&k, 20);
    }
    assert_int_equal(running(first), 2);
    assert_int_equal(running(second), 2);
    worker_free(first);
    worker_free(second);
    kit_close(&k);
}

static void the_part_of_a_worker_that_died_goes_to_the_others(void **state)
{
    (void)state;
    struct kit k;
    open_fleet(&k, 1, 200);
    struct worker *dead = start(&k, "a"), *heir = start(&k, "b");
    for (int i = 0; i < 400; i++) {
        answer_oldest();
        kit_pass(&k, 20);
    }
    assert_true(k.fold->done > 0);
    assert_int_equal(open_high, 1);
    worker_free(dead); /* without a word: its line stays */
    forget_dead(&k);
    for (int i = 0; i < 20000 && !all_done(&k); i++) {
        answer_oldest();
        kit_pass(&k, 20);
        assert_true(open_count <= 1);
    }
    assert_true(all_done(&k));
    worker_free(heir);
    kit_close(&k);
}

static void a_worker_that_does_not_hear_itself_starts_nothing(void **state)
{
    (void)state;
    struct kit k;
    open_fleet(&k, 2, 50);
    k.options.inside = false;
    struct worker *w = start(&k, "a");
    kit_pass(&k, 20);
    assert_int_equal(open_count, 0); /* its line is not there yet */
    kit_pass(&k, 5000);
    assert_int_equal(open_count, 2);
    worker_free(w);
    kit_close(&k);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cap_is_divided_evenly_and_the_rest_goes_to_those_that_came_first),
        cmocka_unit_test(parts_never_sum_to_more_than_the_cap_nor_leave_any_of_it_while_somebody_wants_it),
        cmocka_unit_test(a_cap_holds_while_workers_come_and_leave),
        cmocka_unit_test(a_worker_that_comes_later_gets_its_part),
        cmocka_unit_test(the_part_of_a_worker_that_died_goes_to_the_others),
        cmocka_unit_test(a_worker_that_does_not_hear_itself_starts_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
