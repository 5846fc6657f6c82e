#include "tests/unit/support_permits.h"

/* A second wish of a process whose permit goes another way while the row is to name it. */

static bool is_over(void *w) { return ((struct wisher *)w)->granted || ((struct wisher *)w)->refused; }

static void wait_s(struct site *s, int64_t seconds)
{
    loop_until(s->loop, site_never, s, seconds * US_PER_S);
}

/* The other one has its turn first. */
static void comes_after(struct site *s, struct wisher *w, struct client *other)
{
    other->left = 1;
    client_want(other);
    UNTIL(s, site_done, s);
    assert_false(w->granted);
    UNTIL(s, wisher_has_one, w);
    permit_end(w->use, false);
}

/* The first wish's job is over while that statement is at work; its lease is, too, before that has begun, and somebody else has the permit. */
static void a_next_job_that_is_named_too_late_waits_for_its_turn(void **state)
{
    struct site *s = *state;
    struct wisher first, second;
    s->slots = 1;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_permit_ahead", .kind = BQMODEL_JOB_PENDING, .ms = 300000});
    struct client *c = site_client(s), *other = site_client(s);
    wisher_want(&first, c, "first");
    UNTIL(s, wisher_has_one, &first);
    wisher_want(&second, c, "second");
    wait_s(s, 1);
    permit_end(first.use, false);
    comes_after(s, &second, other);
}

/* That statement fails, so that the next job is named when the first one is over. */
static void name_second(struct site *s, struct client *c, struct wisher *second)
{
    struct wisher first;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_permit_ahead", .kind = BQMODEL_JOB_ERROR, .reason = "stopped", .message = "cancelled"});
    wisher_want(&first, c, "first");
    UNTIL(s, wisher_has_one, &first);
    wisher_want(second, c, "second");
    wait_s(s, 1);
    permit_end(first.use, false);
}

static void a_job_that_is_named_too_late_waits_for_its_turn(void **state)
{
    struct site *s = *state;
    struct wisher second;
    s->slots = 1;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_permit_name", .kind = BQMODEL_JOB_PENDING, .ms = 300000});
    struct client *c = site_client(s), *other = site_client(s);
    name_second(s, c, &second);
    comes_after(s, &second, other);
}

static void who_may_not_name_its_job_is_refused_and_may_ask_again(void **state)
{
    struct site *s = *state;
    struct wisher second;
    s->slots = 1;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_permit_name", .kind = BQMODEL_JOB_ERROR, .reason = "stopped", .message = "cancelled"});
    struct client *c = site_client(s);
    name_second(s, c, &second);
    UNTIL(s, is_over, &second);
    assert_true(second.refused);
    wisher_want(&second, c, "third");
    UNTIL(s, is_over, &second);
    assert_true(second.granted);
    permit_end(second.use, false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, site_open, site_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_next_job_that_is_named_too_late_waits_for_its_turn), TEST(a_job_that_is_named_too_late_waits_for_its_turn),
        TEST(who_may_not_name_its_job_is_refused_and_may_ask_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
