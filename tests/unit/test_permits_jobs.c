#include "tests/unit/support_permits.h"

/* The guarded jobs that rows of permits name: nothing else runs in their place before they are over. */

static void on_orphan(void *arg, const struct bq_job_result *r)
{
    struct client *c = arg;
    (void)r;
    c->job = NULL;
}

/* A statement of the guarded kind, pending for as long as the fault says. */
static void start_guarded(struct client *c, const char *base)
{
    c->configuration = bq_query_config("DELETE FROM `local`.`ds`.`t`\nWHERE TRUE", NULL, 0);
    c->job = bq_job_start(c->bq, &(struct bq_job_spec){.id_base = base, .configuration = c->configuration, .digest = "d"}, on_orphan, c);
}

static void who_takes_over_waits_for_the_job_that_the_row_names(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "work_1_0", .kind = BQMODEL_JOB_PENDING, .ms = 300000});
    struct client *holder = site_client(s);
    holder->stay = true;
    client_want(holder);
    UNTIL(s, client_has_one, holder);
    int64_t began_us = loop_now_us(s->loop);
    start_guarded(holder, "work_1_0");
    loop_until(s->loop, site_never, s, US_PER_S);
    client_kill(holder);
    s->at_once = 0;
    struct client *next = site_client(s);
    next->left = 1;
    client_want(next);
    UNTIL(s, client_has_one, next);
    assert_true(loop_now_us(s->loop) - began_us >= 150 * US_PER_S);
    AUTO(doc_free_auto) doc *job = bqmodel_job(s->model, "work_1_0_t0");
    assert_string_equal(doc_str(job, "status.state", ""), "DONE");
}

static void a_row_is_closed_while_its_last_job_runs_and_taken_when_that_is_over(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "work_1_0", .kind = BQMODEL_JOB_SLOW, .ms = 25000});
    struct client *holder = site_client(s), *next = site_client(s);
    holder->stay = true;
    client_want(holder);
    UNTIL(s, client_has_one, holder);
    client_want(next);
    next->left = 1;
    loop_until(s->loop, site_never, s, (WAIT_PERMIT_QUANTUM + 1000) * US_PER_MS);
    start_guarded(holder, "work_1_0");
    permit_at_work(holder->use);
    loop_until(s->loop, site_never, s, 10 * US_PER_S);
    AUTO(doc_free_auto) doc *row = site_row(s, 0);
    assert_string_equal(doc_str(row, "holder", ""), "");
    assert_string_equal(doc_str(row, "job", ""), "local//work_1_0");
    assert_string_equal(doc_str(row, "token", ""), holder->token); /* its fence holds */
    assert_string_equal(next->token, "");
    s->at_once = 0;
    int64_t before = bqmodel_counters(s->model)->updates;
    UNTIL(s, client_has_one, next);
    AUTO(doc_free_auto) doc *job = bqmodel_job(s->model, "work_1_0_t0");
    assert_string_equal(doc_str(job, "status.state", ""), "DONE");
    assert_true(loop_wall_ms(s->loop) - doc_int(job, "statistics.endTime", 0) < 4000);
    assert_in_range(bqmodel_counters(s->model)->updates, before + 1, before + 2); /* the take, and a renewal before it: nothing is released */
    permit_end(holder->use, false);
    UNTIL(s, client_rests, holder);
    UNTIL(s, site_done, s);
    UNTIL(s, client_rests, next);
}

/* A client that has held its permit for its quantum and has closed the row over its job work_1_0. */
static struct client *close_with_a_job(struct site *s)
{
    struct client *holder = site_client(s);
    holder->stay = true;
    client_want(holder);
    UNTIL(s, client_has_one, holder);
    loop_until(s->loop, site_never, s, (WAIT_PERMIT_QUANTUM + 1000) * US_PER_MS);
    start_guarded(holder, "work_1_0");
    permit_at_work(holder->use);
    loop_until(s->loop, site_never, s, 5 * US_PER_S);
    return holder;
}

static void a_closed_row_whose_holder_died_is_taken_when_its_job_is_over(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "work_1_0", .kind = BQMODEL_JOB_SLOW, .ms = 150000}); /* beyond its lease */
    struct client *holder = close_with_a_job(s), *next = site_client(s);
    client_kill(holder);
    s->at_once = 0;
    client_want(next);
    next->left = 1;
    UNTIL(s, client_has_one, next);
    AUTO(doc_free_auto) doc *job = bqmodel_job(s->model, "work_1_0_t0");
    assert_string_equal(doc_str(job, "status.state", ""), "DONE");
    UNTIL(s, site_done, s);
}

/* Both rows are closed: that the first one's job takes long keeps nobody from the second. */
static void a_closed_row_is_taken_while_another_ones_job_runs_on(void **state)
{
    struct site *s = *state;
    struct client *one = site_client(s), *two = site_client(s), *next = site_client(s);
    one->stay = two->stay = true;
    client_want(one);
    client_want(two);
    UNTIL(s, client_has_one, one);
    UNTIL(s, client_has_one, two);
    AUTO(doc_free_auto) doc *row = site_row(s, 0);
    bool first = strcmp(doc_str(row, "holder", ""), "client 1") == 0;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = first ? "work_1_0" : "work_2_0", .kind = BQMODEL_JOB_SLOW, .ms = 50000});
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = first ? "work_2_0" : "work_1_0", .kind = BQMODEL_JOB_SLOW, .ms = 10000});
    loop_until(s->loop, site_never, s, (WAIT_PERMIT_QUANTUM + 1000) * US_PER_MS);
    start_guarded(one, "work_1_0");
    permit_at_work(one->use);
    start_guarded(two, "work_2_0");
    permit_at_work(two->use);
    s->at_once = 0;
    client_want(next);
    next->left = 1;
    loop_until(s->loop, client_has_one, next, 30 * US_PER_S);
    assert_string_not_equal(next->token, "");
    AUTO(doc_free_auto) doc *slow = bqmodel_job(s->model, first ? "work_1_0_t0" : "work_2_0_t0");
    assert_string_not_equal(doc_str(slow, "status.state", ""), "DONE");
    AUTO(doc_free_auto) doc *over = bqmodel_job(s->model, first ? "work_2_0_t0" : "work_1_0_t0");
    assert_string_equal(doc_str(over, "status.state", ""), "DONE");
    permit_end(one->use, false);
    permit_end(two->use, false);
    UNTIL(s, site_done, s);
}

/* Rows of one table whose jobs are in two projects: having looked at one's, a process asks for the other's where that is. */
static void the_job_of_each_row_is_asked_for_in_its_own_project(void **state)
{
    struct site *s = *state;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "work_1_0", .kind = BQMODEL_JOB_SLOW, .ms = 600000});
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "work_2_0", .kind = BQMODEL_JOB_SLOW, .ms = 300000});
    struct client *here = site_client(s), *there = site_client_of(s, "other"), *next = site_client(s);
    here->stay = there->stay = true;
    client_want(here);
    client_want(there);
    UNTIL(s, client_has_one, here);
    UNTIL(s, client_has_one, there);
    loop_until(s->loop, site_never, s, (WAIT_PERMIT_QUANTUM + 1000) * US_PER_MS);
    start_guarded(here, "work_1_0");
    permit_at_work(here->use); /* its row is closed: who waits looks at that job, in this project */
    start_guarded(there, "work_2_0");
    int64_t began_us = loop_now_us(s->loop);
    loop_until(s->loop, site_never, s, 5 * US_PER_S);
    client_kill(there); /* its row runs out, while its job runs on */
    s->at_once = 0;
    next->left = 1;
    client_want(next);
    UNTIL(s, client_has_one, next);
    assert_true(loop_now_us(s->loop) - began_us >= 290 * US_PER_S);
    permit_end(here->use, false);
    UNTIL(s, site_done, s);
}

/* It runs under another account: what is waited for is said. */
static void a_job_that_may_not_be_looked_at_is_named(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    struct client *holder = close_with_a_job(s), *next = site_client(s);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "GET /bigquery/v2/projects/local/jobs/work_1_0", .kind = BQMODEL_STATUS, .times = -1, .status = 403,
                                                    .reason = "accessDenied", .message = "Access Denied: Job local:US.work_1_0"});
    client_want(next);
    loop_until(s->loop, client_has_one, next, 30 * US_PER_S);
    assert_string_equal(next->token, "");
    assert_non_null(strstr(permits_waits_for(next->permits), "Access Denied: Job local:US.work_1_0"));
    bqmodel_clear_faults(s->model);
    next->left = 1;
    UNTIL(s, site_done, s);
    permit_end(holder->use, false);
}

static bool is_not_named(void *arg)
{
    AUTO(doc_free_auto) doc *row = site_row(arg, 0);
    return strstr(doc_str(row, "job", ""), "work_1_1") == NULL;
}

/* Its renewal is pending, and nobody says so; it would name the old job again while the new one is at work. */
static void a_statement_that_comes_late_takes_no_name_away(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    s->quantum_ms = 9000000;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_permit_renew", .kind = BQMODEL_JOB_PENDING, .ms = 3000000});
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "/jobs/bqfleet_permit_renew", .kind = BQMODEL_STATUS, .times = -1, .status = 503});
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "/queries/bqfleet_permit_renew", .kind = BQMODEL_STATUS, .times = -1, .status = 503});
    struct client *c = site_client(s);
    c->stay = true;
    client_want(c);
    UNTIL(s, client_has_one, c);
    loop_until(s->loop, site_never, s, 900 * US_PER_S); /* nobody is asked for longer */
    bqmodel_clear_faults(s->model);
    struct wisher next;
    wisher_want(&next, c, "work_1_1");
    loop_until(s->loop, site_never, s, 5 * US_PER_S);
    permit_end(c->use, false);
    UNTIL(s, wisher_has_one, &next);
    assert_false(next.refused);
    assert_true(loop_now_us(s->loop) < 2500 * US_PER_S);
    assert_false(loop_until(s->loop, is_not_named, s, 3000 * US_PER_S));
    permit_end(next.use, false);
    UNTIL(s, client_rests, c);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, site_open, site_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(who_takes_over_waits_for_the_job_that_the_row_names),
        TEST(a_row_is_closed_while_its_last_job_runs_and_taken_when_that_is_over),
        TEST(a_closed_row_whose_holder_died_is_taken_when_its_job_is_over),
        TEST(a_closed_row_is_taken_while_another_ones_job_runs_on),
        TEST(the_job_of_each_row_is_asked_for_in_its_own_project),
        TEST(a_job_that_may_not_be_looked_at_is_named),
        TEST(a_statement_that_comes_late_takes_no_name_away),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
