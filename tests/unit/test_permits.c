#include "common/bq/permits.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"
#include "tests/bq/bqmodel.h"

/* Clients of one table of permits, each as a process of its own would be: on the model of BigQuery and one virtual clock. */

#define CLIENTS_MAX 100
#define PERMITS "ds.bqfleet_permits_t_"
struct site;
struct client {
    struct site *site;
    struct bq *bq;
    struct permits *permits;
    struct permit_use *use;
    struct bq_job *job;
    struct timer *timer;
    doc *configuration;
    int number, left, done, tries;
    bool refused, lost, stay;     /* stay: what it holds it keeps, and does nothing */
    int64_t asked_us, longest_us, work_ms;
    char token[64];
};
struct site {
    struct loop *loop;
    struct bqmodel *model;
    struct rnd rnd;
    struct auth *auth;
    struct bq_ref table;
    int slots, at_once, most_at_once;
    struct client clients[CLIENTS_MAX];
    size_t count;
};

static int open_site(void **state)
{
    static const struct bq_ref target = {"local", "ds", "t"};
    struct site *s = xcalloc(1, sizeof(*s));
    s->loop = loop_new_virtual(INT64_C(1767225600) * US_PER_S);
    rnd_seeded(&s->rnd, 7);
    struct bqmodel_options o = {.dml_ms = 800, .pending_ms = 100, .rnd = &s->rnd};
    bqmodel_documented_limits(&o);
    s->model = bqmodel_new(s->loop, &o);
    s->auth = auth_anonymous();
    s->slots = 2;
    bqmodel_add_table(s->model, "ds.t", "k:STRING, v:INT64");
    permits_table(&target, &s->table);
    *state = s;
    return 0;
}

static struct client *client(struct site *s)
{
    struct client *c = &s->clients[s->count++];
    char holder[32];
    c->site = s;
    c->number = (int)s->count;
    c->work_ms = 1000;
    c->bq = bq_new(&(struct bq_options){.loop = s->loop, .http = bqmodel_http(s->model), .auth = s->auth, .rnd = &s->rnd, .base_url = "http://model",
                                        .project = "local"});
    snprintf(holder, sizeof(holder), "client %d", c->number);
    c->permits = permits_new(&(struct permits_options){.bq = c->bq, .rnd = &s->rnd, .table = s->table, .holder = holder, .slots = s->slots});
    return c;
}

/* The process is gone: nothing of it acts any more, and nothing is said. */
static void kill_client(struct client *c)
{
    bq_job_stop(c->job, false);
    c->job = NULL;
    permits_free(c->permits);
    c->permits = NULL;
    timer_free(c->timer);
    c->timer = NULL;
}

static int close_site(void **state)
{
    struct site *s = *state;
    for (size_t i = 0; i < s->count; i++) {
        kill_client(&s->clients[i]);
        doc_free(s->clients[i].configuration);
        bq_free(s->clients[i].bq);
    }
    assert_null(bqmodel_unknown_statement(s->model));
    bqmodel_free(s->model);
    auth_free(s->auth);
    loop_free(s->loop);
    free(s);
    return 0;
}

static void want(struct client *);

static void work_done(void *arg)
{
    struct client *c = arg;
    c->site->at_once--;
    c->done++;
    permit_end(c->use, false);
    c->use = NULL;
    if (--c->left > 0)
        want(c);
}

/* "Guarded work": a stretch of time in which at most `slots` clients may be. */
static void granted(void *arg, const struct permit_grant *grant, const struct error *err)
{
    struct client *c = arg;
    struct site *s = c->site;
    if (grant == NULL) {
        assert_non_null(err);
        c->refused = true;
        c->use = NULL;
        return;
    }
    snprintf(c->token, sizeof(c->token), "%s", grant->token);
    c->longest_us = i64_max(c->longest_us, loop_now_us(s->loop) - c->asked_us);
    s->most_at_once = s->most_at_once > ++s->at_once ? s->most_at_once : s->at_once;
    if (c->stay)
        return;
    if (c->timer == NULL)
        c->timer = timer_new(s->loop, work_done, c);
    timer_set(c->timer, c->work_ms * US_PER_MS);
}

static void want(struct client *c)
{
    char base[64];
    snprintf(base, sizeof(base), "work_%d_%d", c->number, c->tries++);
    c->asked_us = loop_now_us(c->site->loop);
    c->use = permits_want(c->permits, base, "test", granted, c);
}

static bool all_done(void *arg)
{
    const struct site *s = arg;
    for (size_t i = 0; i < s->count; i++)
        if (s->clients[i].left > 0)
            return false;
    return true;
}
static bool has_one(void *arg) { return ((struct client *)arg)->token[0] != '\0'; }
static bool never(void *arg) { return arg == NULL; }
static bool at_rest(void *arg) { return permits_rest(((struct client *)arg)->permits); }

static bool given_back(void *arg) { return permits_given_back(((struct client *)arg)->permits); }

#define UNTIL(s, cond, arg) assert_true(loop_until((s)->loop, cond, arg, INT64_C(7200) * US_PER_S))

static void run_all(struct site *s, int each)
{
    for (size_t i = 0; i < s->count; i++) {
        s->clients[i].left = each;
        want(&s->clients[i]);
    }
    UNTIL(s, all_done, s);
}

static doc *row_of(struct site *s, size_t slot)
{
    char name[700];
    snprintf(name, sizeof(name), "%s.%s.%s", s->table.project, s->table.dataset, s->table.table);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, name);
    for (size_t i = 0; i < doc_len(rows); i++)
        if (doc_int(doc_at(rows, i), "slot", -1) == (int64_t)slot)
            return doc_copy(doc_at(rows, i));
    return NULL;
}

/* --- tests ------------------------------------------------------------------------------------------------------------------------------------- */

static void the_first_wish_makes_the_table_and_the_last_use_releases(void **state)
{
    struct site *s = *state;
    struct client *c = client(s);
    run_all(s, 1);
    UNTIL(s, at_rest, c);
    AUTO(doc_free_auto) doc *first = row_of(s, 0), *second = row_of(s, 1);
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
    struct client *c = client(s);
    run_all(s, 1);
    UNTIL(s, given_back, c);
    assert_false(permits_rest(c->permits));
    AUTO(doc_free_auto) doc *held = row_of(s, 0);
    assert_string_equal(doc_str(held, "holder", "?"), "client 1");
    kill_client(c);
    loop_until(s->loop, never, s, 3 * US_PER_S);
    AUTO(doc_free_auto) doc *freed = row_of(s, 0);
    assert_string_equal(doc_str(freed, "holder", "?"), "");
}

/* A process of its own for each run: nobody waits for the one that was here an hour ago. */
static void a_permit_that_was_free_for_long_is_taken_at_once(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    struct client *first = client(s);
    run_all(s, 1);
    UNTIL(s, at_rest, first);
    loop_until(s->loop, never, s, 3600 * US_PER_S);
    struct client *second = client(s);
    second->left = 1;
    want(second);
    UNTIL(s, all_done, s);
    assert_true(second->longest_us < 3 * US_PER_S); /* a look at the rows, the UPDATE */
}

static void two_that_make_the_table_at_once_make_it_once(void **state)
{
    struct site *s = *state;
    for (int i = 0; i < 20; i++)
        client(s);
    run_all(s, 1);
    char name[700];
    snprintf(name, sizeof(name), "%s.%s.%s", s->table.project, s->table.dataset, s->table.table);
    assert_int_equal(bqmodel_count(s->model, name), 2);
}

static void no_more_than_the_slots_work_at_once(void **state)
{
    struct site *s = *state;
    for (int i = 0; i < 12; i++)
        client(s);
    run_all(s, 5);
    assert_int_equal(s->most_at_once, 2);
    assert_int_equal(bqmodel_counters(s->model)->reruns, 0);
}

static void one_process_uses_a_permit_for_several_statements(void **state)
{
    struct site *s = *state;
    struct client *c = client(s);
    c->work_ms = 200;
    c->left = 3;
    c->tries = 0;
    struct client *twin = &s->clients[s->count++]; /* a second wish of the same process */
    *twin = (struct client){.site = s, .number = 50, .work_ms = 200, .left = 3, .permits = c->permits};
    want(c);
    want(twin);
    UNTIL(s, all_done, s);
    UNTIL(s, at_rest, c);
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
    struct client *holder = client(s);
    holder->stay = true;
    want(holder);
    UNTIL(s, has_one, holder);
    struct client *next = client(s);
    next->left = 1;
    want(next);
    loop_until(s->loop, has_one, next, 10 * US_PER_S);
    assert_string_equal(next->token, "");
    int64_t killed_us = loop_now_us(s->loop);
    kill_client(holder);
    s->at_once = 0;
    UNTIL(s, all_done, s);
    assert_true(loop_now_us(s->loop) - killed_us < (WAIT_PERMIT_LEASE + 15000) * US_PER_MS);
}

static void a_holder_renews_for_as_long_as_it_works(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    struct client *holder = client(s);
    holder->work_ms = 10 * WAIT_PERMIT_LEASE;
    holder->left = 1;
    want(holder);
    UNTIL(s, has_one, holder);
    struct client *next = client(s);
    next->left = 1;
    want(next);
    UNTIL(s, all_done, s);
    assert_int_equal(s->most_at_once, 1);
}

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
    struct client *holder = client(s);
    holder->stay = true;
    want(holder);
    UNTIL(s, has_one, holder);
    int64_t began_us = loop_now_us(s->loop);
    start_guarded(holder, "work_1_0");
    loop_until(s->loop, never, s, US_PER_S);
    kill_client(holder);
    s->at_once = 0;
    struct client *next = client(s);
    next->left = 1;
    want(next);
    UNTIL(s, has_one, next);
    assert_true(loop_now_us(s->loop) - began_us >= 150 * US_PER_S);
    AUTO(doc_free_auto) doc *job = bqmodel_job(s->model, "work_1_0_t0");
    assert_string_equal(doc_str(job, "status.state", ""), "DONE");
}

static void a_row_is_closed_while_its_last_job_runs_and_taken_when_that_is_over(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "work_1_0", .kind = BQMODEL_JOB_SLOW, .ms = 25000});
    struct client *holder = client(s), *next = client(s);
    holder->stay = true;
    want(holder);
    UNTIL(s, has_one, holder);
    want(next);
    next->left = 1;
    loop_until(s->loop, never, s, (WAIT_PERMIT_QUANTUM + 1000) * US_PER_MS);
    start_guarded(holder, "work_1_0");
    permit_at_work(holder->use);
    loop_until(s->loop, never, s, 10 * US_PER_S);
    AUTO(doc_free_auto) doc *row = row_of(s, 0);
    assert_string_equal(doc_str(row, "holder", ""), "");
    assert_string_equal(doc_str(row, "job", ""), "local//work_1_0");
    assert_string_equal(doc_str(row, "token", ""), holder->token); /* its fence holds */
    assert_string_equal(next->token, "");
    s->at_once = 0;
    int64_t before = bqmodel_counters(s->model)->updates;
    UNTIL(s, has_one, next);
    AUTO(doc_free_auto) doc *job = bqmodel_job(s->model, "work_1_0_t0");
    assert_string_equal(doc_str(job, "status.state", ""), "DONE");
    assert_true(loop_wall_ms(s->loop) - doc_int(job, "statistics.endTime", 0) < 4000);
    assert_in_range(bqmodel_counters(s->model)->updates, before + 1, before + 2); /* the take, and a renewal before it: nothing is released */
    permit_end(holder->use, false);
    UNTIL(s, at_rest, holder);
    UNTIL(s, all_done, s);
    UNTIL(s, at_rest, next);
}

static void a_closed_row_whose_holder_died_is_taken_when_its_job_is_over(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "work_1_0", .kind = BQMODEL_JOB_SLOW, .ms = 150000}); /* beyond its lease */
    struct client *holder = client(s), *next = client(s);
    holder->stay = true;
    want(holder);
    UNTIL(s, has_one, holder);
    loop_until(s->loop, never, s, (WAIT_PERMIT_QUANTUM + 1000) * US_PER_MS);
    start_guarded(holder, "work_1_0");
    permit_at_work(holder->use);
    loop_until(s->loop, never, s, 5 * US_PER_S);
    kill_client(holder);
    s->at_once = 0;
    want(next);
    next->left = 1;
    UNTIL(s, has_one, next);
    AUTO(doc_free_auto) doc *job = bqmodel_job(s->model, "work_1_0_t0");
    assert_string_equal(doc_str(job, "status.state", ""), "DONE");
    UNTIL(s, all_done, s);
}

static void a_lost_reply_to_a_take_is_settled(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_permit_take", .kind = BQMODEL_LOSE_REPLY, .times = 2});
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_permit_release", .kind = BQMODEL_LOSE_REPLY});
    for (int i = 0; i < 4; i++)
        client(s);
    run_all(s, 3);
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
        client(s);
    run_all(s, 2);
    assert_int_equal(s->most_at_once, 1);
}

static void without_permission_a_wish_is_refused(void **state)
{
    struct site *s = *state;
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "GET /bigquery/v2/projects/local/datasets/ds/tables/bqfleet_permits", .kind = BQMODEL_STATUS,
                                                    .times = -1, .status = 403, .reason = "accessDenied", .message = "Access Denied"});
    struct client *c = client(s);
    want(c);
    loop_until(s->loop, has_one, c, 60 * US_PER_S);
    assert_true(c->refused);
    assert_true(permits_rest(c->permits));
}

static void waiting_costs_no_statement(void **state)
{
    struct site *s = *state;
    s->slots = 1;
    struct client *holder = client(s);
    holder->stay = true;
    want(holder);
    UNTIL(s, has_one, holder);
    for (int i = 0; i < 20; i++)
        want(client(s));
    int64_t before = bqmodel_counters(s->model)->updates;
    loop_until(s->loop, never, s, 10 * WAIT_PERMIT_LEASE * US_PER_MS);
    int64_t renewals = 10 * 3 + 2;
    assert_true(bqmodel_counters(s->model)->updates - before <= renewals);
    assert_string_equal(s->clients[5].token, "");
    assert_true(strstr(permits_waits_for(s->clients[5].permits), "held by client 1 until") != NULL);
}

static void a_hundred_contend_and_none_starves(void **state)
{
    struct site *s = *state;
    for (int i = 0; i < CLIENTS_MAX; i++)
        client(s);
    run_all(s, 20);
    int64_t longest = 0, total = loop_now_us(s->loop);
    for (size_t i = 0; i < s->count; i++)
        longest = i64_max(longest, s->clients[i].longest_us);
    print_message("100 clients, 2 permits, 2,000 uses of 1 s: %" PRId64 " s in all, the longest wait %" PRId64 " s, %" PRId64 " UPDATEs, %" PRId64
                  " requests, %" PRId64 " jobs failed\n", total / US_PER_S, longest / US_PER_S, bqmodel_counters(s->model)->updates,
                  bqmodel_counters(s->model)->requests, bqmodel_counters(s->model)->failed);
    assert_int_equal(s->most_at_once, 2);
    assert_int_equal(bqmodel_counters(s->model)->failed, 0);   /* none rejected, none that lost a conflict */
    assert_int_equal(bqmodel_counters(s->model)->limited, 0);
    assert_true(bqmodel_counters(s->model)->dml_at_once <= 2);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_site, close_site)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_first_wish_makes_the_table_and_the_last_use_releases), TEST(two_that_make_the_table_at_once_make_it_once),
        TEST(a_release_that_bigquery_has_needs_nobody_any_more),
        TEST(a_permit_that_was_free_for_long_is_taken_at_once), TEST(two_that_make_the_table_at_once_make_it_once),
        TEST(no_more_than_the_slots_work_at_once), TEST(one_process_uses_a_permit_for_several_statements),
        TEST(a_killed_holder_is_waited_for_no_longer_than_its_lease), TEST(a_holder_renews_for_as_long_as_it_works),
        TEST(who_takes_over_waits_for_the_job_that_the_row_names),
        TEST(a_row_is_closed_while_its_last_job_runs_and_taken_when_that_is_over), TEST(a_closed_row_whose_holder_died_is_taken_when_its_job_is_over),
        TEST(a_lost_reply_to_a_take_is_settled),
        TEST(a_take_that_fails_in_bigquery_is_tried_again), TEST(without_permission_a_wish_is_refused), TEST(waiting_costs_no_statement),
        TEST(a_hundred_contend_and_none_starves),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
