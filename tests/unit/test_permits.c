#include "tests/unit/support_permits.h"

/* The semaphore: who gets a permit, when, and at what cost. */

static void the_first_wish_makes_the_table_and_the_last_use_releases(void **state)
{
    struct site *s = *state;
    struct client *c = site_client(s);
    site_run_all(s, 1);
    UNTIL(s, client_rests, c);
    assert_string_equal(permits_waits_for(c->permits), "");
    AUTO(doc_free_auto) doc *first = site_row(s, 0), *second = site_row(s, 1);
    assert_non_null(first);
    assert_non_null(second);
    assert_string_equal(doc_str(first, "job", "?"), "");
    assert_string_equal(doc_str(second, "holder", "?"), "");
    assert_int_equal(bqmodel_counters(s->model)->updates, 2); /* take, release */
}

/* A process that ends waits for no statement of its own that needs nothing more of it. */
static void a_release_that_bigquery_has_needs_nobody_any_more(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    struct client *c = site_client(s);
    site_run_all(s, 1);
    UNTIL(s, client_gave_back, c);
    assert_false(permits_rest(c->permits));
    AUTO(doc_free_auto) doc *held = site_row(s, 0);
    assert_string_equal(doc_str(held, "holder", "?"), "client 1");
    client_kill(c);
    loop_until(s->loop, site_never, s, 3 * US_PER_S);
    AUTO(doc_free_auto) doc *freed = site_row(s, 0);
    assert_string_equal(doc_str(freed, "holder", "?"), "");
}

/* A process of its own for each run: nobody waits for the one that was here an hour ago. */
static void a_permit_that_was_free_for_long_is_taken_at_once(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    struct client *first = site_client(s);
    site_run_all(s, 1);
    UNTIL(s, client_rests, first);
    loop_until(s->loop, site_never, s, 3600 * US_PER_S);
    struct client *second = site_client(s);
    second->left = 1;
    client_want(second);
    UNTIL(s, site_done, s);
    assert_true(second->longest_us < 3 * US_PER_S); /* a look at the rows, the UPDATE */
}

static void two_that_make_the_table_at_once_make_it_once(void **state)
{
    struct site *s = *state;
    for (int i = 0; i < 20; i++)
        site_client(s);
    site_run_all(s, 1);
    char name[700];
    snprintf(name, sizeof(name), "%s.%s.%s", s->table.project, s->table.dataset, s->table.table);
    assert_int_equal(bqmodel_count(s->model, name), 2);
}

static void no_more_than_the_slots_work_at_once(void **state)
{
    struct site *s = *state;
    for (int i = 0; i < 12; i++)
        site_client(s);
    site_run_all(s, 5);
    assert_int_equal(s->most_at_once, 2);
    assert_int_equal(bqmodel_counters(s->model)->reruns, 0);
}

static void one_process_uses_a_permit_for_several_statements(void **state)
{
    struct site *s = *state;
    struct client *c = site_client(s);
    c->work_ms = 200;
    c->left = 3;
    c->tries = 0;
    struct client *twin = &s->clients[s->count++]; /* a second wish of the same process */
    *twin = (struct client){.site = s, .number = 50, .work_ms = 200, .left = 3, .permits = c->permits};
    client_want(c);
    client_want(twin);
    UNTIL(s, site_done, s);
    UNTIL(s, client_rests, c);
    twin->permits = NULL;
    assert_int_equal(s->most_at_once, 1);
    assert_true(bqmodel_counters(s->model)->updates <= 8);
    s->count--;
    timer_free(twin->timer);
}

static void a_killed_holder_is_waited_for_no_longer_than_its_lease(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    struct client *holder = site_client(s);
    holder->stay = true;
    client_want(holder);
    UNTIL(s, client_has_one, holder);
    struct client *next = site_client(s);
    next->left = 1;
    client_want(next);
    loop_until(s->loop, client_has_one, next, 10 * US_PER_S);
    assert_string_equal(next->token, "");
    int64_t killed_us = loop_now_us(s->loop);
    client_kill(holder);
    s->at_once = 0;
    UNTIL(s, site_done, s);
    assert_true(loop_now_us(s->loop) - killed_us < (WAIT_PERMIT_LEASE + 15000) * US_PER_MS);
}

static void a_holder_renews_for_as_long_as_it_works(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    struct client *holder = site_client(s);
    holder->work_ms = 10 * WAIT_PERMIT_LEASE;
    holder->left = 1;
    client_want(holder);
    UNTIL(s, client_has_one, holder);
    struct client *next = site_client(s);
    next->left = 1;
    client_want(next);
    UNTIL(s, site_done, s);
    assert_int_equal(s->most_at_once, 1);
}

static void a_lost_reply_to_a_take_is_settled(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_permit_take", .kind = BQMODEL_LOSE_REPLY, .times = 2});
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_permit_release", .kind = BQMODEL_LOSE_REPLY});
    for (int i = 0; i < 4; i++)
        site_client(s);
    site_run_all(s, 3);
    assert_int_equal(s->most_at_once, 1);
    for (size_t i = 0; i < s->count; i++)
        assert_int_equal(s->clients[i].done, 3);
}

static void a_take_that_fails_in_bigquery_is_tried_again(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_permit_take", .kind = BQMODEL_JOB_ERROR, .times = 3, .reason = "invalidQuery",
                                                    .message = "Could not serialize access to table local:ds.p due to concurrent update"});
    for (int i = 0; i < 3; i++)
        site_client(s);
    site_run_all(s, 2);
    assert_int_equal(s->most_at_once, 1);
}

static void without_permission_a_wish_is_refused(void **state)
{
    struct site *s = *state;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "GET /bigquery/v2/projects/local/datasets/ds/tables/bqfleet_permits", .kind = BQMODEL_STATUS,
                                                    .times = -1, .status = 403, .reason = "accessDenied", .message = "Access Denied"});
    struct client *c = site_client(s);
    client_want(c);
    loop_until(s->loop, client_has_one, c, 60 * US_PER_S);
    assert_true(c->refused);
    assert_true(permits_rest(c->permits));
}

struct impatient { struct permits *permits; int told; };

/* Whoever cannot write leaves at once, and takes its permits along. */
static void leave(void *arg, const struct permit_grant *grant, const struct error *err)
{
    struct impatient *i = arg;
    assert_null(grant);
    assert_int_equal(err->code, 403);
    i->told++;
    permits_free(i->permits);
}

static void one_that_is_refused_may_free_the_permits_that_others_wait_for(void **state)
{
    struct site *s = *state;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "GET /bigquery/v2/projects/local/datasets/ds/tables/bqfleet_permits", .kind = BQMODEL_STATUS,
                                                    .times = -1, .status = 403, .reason = "accessDenied", .message = "Access Denied"});
    struct client *c = site_client(s);
    struct impatient i = {.permits = c->permits};
    c->permits = NULL;
    for (int n = 0; n < 3; n++)
        permits_want(i.permits, "work", "to be told", leave, &i);
    loop_until(s->loop, site_never, s, 60 * US_PER_S);
    assert_int_equal(i.told, 1); /* who frees them has no wish any more */
}

/* Its id has no other: whoever finds it failed goes on with the next try. */
static void a_row_whose_load_somebody_cancelled_is_made_all_the_same(void **state)
{
    struct site *s = *state;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_permit_row", .kind = BQMODEL_JOB_ERROR, .reason = "stopped",
                                                    .message = "Job execution was cancelled: User requested cancellation"});
    struct client *first = site_client(s), *second = site_client(s);
    client_want(first);
    loop_until(s->loop, client_has_one, first, 60 * US_PER_S);
    assert_true(first->refused);
    client_want(second);
    UNTIL(s, client_has_one, second);
    assert_false(second->refused);
}

static void waiting_costs_no_statement(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    struct client *holder = site_client(s);
    holder->stay = true;
    client_want(holder);
    UNTIL(s, client_has_one, holder);
    for (int i = 0; i < 20; i++)
        client_want(site_client(s));
    int64_t before = bqmodel_counters(s->model)->updates;
    loop_until(s->loop, site_never, s, 10 * WAIT_PERMIT_LEASE * US_PER_MS);
    int64_t renewals = 10 * 3 + 2;
    assert_true(bqmodel_counters(s->model)->updates - before <= renewals);
    assert_string_equal(s->clients[5].token, "");
    assert_true(strstr(permits_waits_for(s->clients[5].permits), "held by client 1 until") != NULL);
}

static void a_hundred_contend_and_none_starves(void **state)
{
    struct site *s = *state;
    const char *count = getenv("SCHEDULES");
    int uses = count ? (int)strtol(count, NULL, 10) : 20;
    for (int i = 0; i < CLIENTS_MAX; i++)
        site_client(s);
    site_run_all(s, uses);
    int64_t longest = 0, total = loop_now_us(s->loop);
    for (size_t i = 0; i < s->count; i++)
        longest = i64_max(longest, s->clients[i].longest_us);
    print_message("100 clients, 2 permits, %d uses of 1 s by each: %" PRId64 " s in all, the longest wait %" PRId64 " s, %" PRId64 " UPDATEs, %" PRId64
                  " requests, %" PRId64 " jobs failed\n", uses, total / US_PER_S, longest / US_PER_S, bqmodel_counters(s->model)->updates,
                  bqmodel_counters(s->model)->requests, bqmodel_counters(s->model)->failed);
    assert_int_equal(s->most_at_once, 2);
    assert_int_equal(bqmodel_counters(s->model)->failed, 0);   /* none rejected, none that lost a conflict */
    assert_int_equal(bqmodel_counters(s->model)->limited, 0);
    assert_true(bqmodel_counters(s->model)->dml_at_once <= 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, site_open, site_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_wish_makes_the_table_and_the_last_use_releases), TEST(two_that_make_the_table_at_once_make_it_once),
        TEST(a_release_that_bigquery_has_needs_nobody_any_more),
        TEST(a_permit_that_was_free_for_long_is_taken_at_once), TEST(two_that_make_the_table_at_once_make_it_once),
        TEST(no_more_than_the_slots_work_at_once), TEST(one_process_uses_a_permit_for_several_statements),
        TEST(a_killed_holder_is_waited_for_no_longer_than_its_lease), TEST(a_holder_renews_for_as_long_as_it_works),
        TEST(a_lost_reply_to_a_take_is_settled),
        TEST(a_take_that_fails_in_bigquery_is_tried_again), TEST(without_permission_a_wish_is_refused), TEST(waiting_costs_no_statement),
        TEST(one_that_is_refused_may_free_the_permits_that_others_wait_for), TEST(a_row_whose_load_somebody_cancelled_is_made_all_the_same),
        TEST(a_hundred_contend_and_none_starves),
    };
    cmocka_set_test_filter(getenv("ONLY"));
    return cmocka_run_group_tests(tests, NULL, NULL);
}
