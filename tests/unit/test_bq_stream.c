#include "common/bq/feed.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "common/base/limits.h"
#include "common/bq/job.h"
#include "tests/bq/bqmodel.h"

/* Loads whose bytes come while they are sent, against the model: every fault, at every chunk. */

#define CHUNK UPLOAD_UNIT
#define CHUNKS 5  /* whole ones, and a rest */
#define ROW 10000 /* bytes, about */
#define ROWS (CHUNKS * CHUNK / ROW + 7)

struct stage {
    struct loop *loop;
    struct rnd rnd;
    struct bqmodel *model;
    struct auth auth;      /* counts */
    int tokens;
    char header[64];
    struct bq *bq;
    struct bq_feed *feed;
    struct bq_job *job;
    doc *config;
    int made;              /* rows */
    int pause_at;          /* rows after which nothing comes for a while; 0: never */
    struct timer *more;
    size_t most;           /* bytes held */
    bool over, decided, spent;
    struct error err;
    int64_t rows;
};

/* --- credentials that can be refused ------------------------------------------------------------------------------------------------------ */

static void auth_ask(struct auth *a, auth_cb *cb, void *arg)
{
    struct stage *s = (struct stage *)(void *)((char *)a - offsetof(struct stage, auth));
    snprintf(s->header, sizeof(s->header), "Authorization: Bearer %d", s->tokens);
    cb(arg, s->header, NULL);
}

static void auth_is_refused(struct auth *a, uint64_t stamp)
{
    struct stage *s = (struct stage *)(void *)((char *)a - offsetof(struct stage, auth));
    s->tokens += stamp == auth_stamp(s->header);
}

/* --- one load ------------------------------------------------------------------------------------------------------------------------------ */

static void add_row(struct stage *s)
{
    static char text[ROW];
    memset(text, 'a' + s->made % 26, sizeof(text) - 1);
    AUTO(free_ptr) char *row = xasprintf("{\"k\":\"%s\",\"v\":%d}\n", text, s->made++);
    bq_feed_add(s->feed, row, strlen(row));
    if (s->made == ROWS)
        bq_feed_end(s->feed);
}

/* As a maker that waits while two chunks are here. */
static void make(void *arg)
{
    struct stage *s = arg;
    while (s->made < ROWS && bq_feed_held(s->feed) < 2 * CHUNK) {
        add_row(s);
        s->most = size_max(s->most, bq_feed_held(s->feed));
        if (s->made == s->pause_at) {
            timer_set(s->more, 120 * US_PER_S);
            return;
        }
    }
}

static void on_kept(void *arg)
{
    struct stage *s = arg;
    if (!timer_is_set(s->more))
        timer_set(s->more, 0);
}

static void on_end(void *arg, const struct bq_job_result *r)
{
    struct stage *s = arg;
    s->job = NULL;
    s->over = true;
    s->decided = r->decided;
    s->rows = r->output_rows;
    s->spent = !bq_feed_whole(s->feed);
    if (r->err)
        s->err = *r->err;
}

static void begin(struct stage *s, int64_t session_ms)
{
    static const struct auth_ops ops = {.header = auth_ask, .refused = auth_is_refused};
    *s = (struct stage){.loop = loop_new_virtual(INT64_C(1700000000) * US_PER_S), .auth = {.ops = &ops}};
    rnd_seeded(&s->rnd, 7);
    s->model = bqmodel_new(s->loop, &(struct bqmodel_options){.project = "p", .location = "EU", .session_ms = session_ms});
    bqmodel_add_table(s->model, "d.t", "k:STRING, v:INT64");
    s->bq = bq_new(&(struct bq_options){.loop = s->loop, .http = bqmodel_http(s->model), .auth = &s->auth, .rnd = &s->rnd, .base_url = "http://bq", .project = "p"});
    s->feed = bq_feed_new(CHUNK, on_kept, s);
    s->more = timer_new(s->loop, make, s);
    static const struct bq_ref table = {"p", "d", "t"};
    s->config = bq_load_config(&table);
}

static void start(struct stage *s)
{
    struct bq_job_spec spec = {.id_base = "b", .location = "EU", .configuration = s->config, .digest = "item-1-attempt-1-nonce-x", .feed = s->feed,
                               .not_before_ms = loop_wall_ms(s->loop)};
    s->job = bq_job_start(s->bq, &spec, on_end, s);
    make(s);
}

static bool is_over(void *arg)
{
    return ((struct stage *)arg)->over;
}

static void run(struct stage *s)
{
    start(s);
    assert_true(loop_until(s->loop, is_over, s, 3600 * US_PER_S));
}

static void finish(struct stage *s)
{
    bq_job_stop(s->job, false);
    bq_feed_free(s->feed);
    timer_free(s->more);
    doc_free(s->config);
    bq_free(s->bq);
    bqmodel_free(s->model);
    loop_free(s->loop);
}

static void assert_landed(struct stage *s, const char *what, int at)
{
    if (s->err.kind != ERR_NONE || s->rows != ROWS)
        fail_msg("%s at chunk %d: %" PRId64 " rows, %s", what, at, s->rows, s->err.text);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, "d.t");
    assert_int_equal(doc_len(rows), ROWS);
    for (int i = 0; i < ROWS; i++) {
        const char *k = doc_str(doc_at(rows, (size_t)i), "k", "");
        assert_int_equal(doc_int(doc_at(rows, (size_t)i), "v", -1), i);
        assert_int_equal(strlen(k), ROW - 1);
        assert_int_equal(k[0], 'a' + i % 26);
    }
    assert_int_equal(bqmodel_counters(s->model)->loads, 1);
    assert_true(s->most < 2 * CHUNK + 2 * ROW);
}

/* --- tests --------------------------------------------------------------------------------------------------------------------------------- */

static void bytes_go_while_they_come_and_no_more_than_two_chunks_are_kept(void **state)
{
    (void)state;
    struct stage s;
    begin(&s, 0);
    run(&s);
    assert_landed(&s, "nothing", 0);
    assert_true(s.most >= 2 * CHUNK);
    AUTO(doc_free_auto) doc *job = bqmodel_job(s.model, "b_t0");
    assert_string_equal(doc_str(job, "configuration.labels.bqfleet_digest", ""), "item-1-attempt-1-nonce-x");
    finish(&s);
}

/* The end comes when all whole chunks could be gone already: the last one is never empty. */
static void a_load_of_whole_chunks_ends_with_bytes_too(void **state)
{
    (void)state;
    for (int late = 0; late < 2; late++) {
        struct stage s;
        begin(&s, 0);
        s.made = ROWS;
        static char row[CHUNK];
        int head = snprintf(row, sizeof(row), "{\"v\":1,\"k\":\"");
        memset(row + head, 'x', sizeof(row) - (size_t)head);
        memcpy(row + sizeof(row) - 3, "\"}\n", 3);
        start(&s);
        for (int i = 0; i < 3; i++)
            bq_feed_add(s.feed, row, sizeof(row));
        for (int i = 0; late && i < 50; i++)
            loop_step(s.loop, US_PER_S);
        assert_int_equal(bq_feed_held(s.feed), late ? CHUNK : 3 * CHUNK);
        bq_feed_end(s.feed);
        assert_true(loop_until(s.loop, is_over, &s, 3600 * US_PER_S));
        assert_int_equal(s.err.kind, ERR_NONE);
        assert_int_equal(s.rows, 3);
        finish(&s);
    }
}

static void whatever_happens_to_one_chunk_the_load_is_whole(void **state)
{
    (void)state;
    static const struct bqmodel_fault faults[] = {
        {.kind = BQMODEL_LOSE_REPLY}, {.kind = BQMODEL_DROP_BEFORE}, {.kind = BQMODEL_STATUS, .status = 503}, {.kind = BQMODEL_STATUS, .status = 500, .executed = true},
        {.kind = BQMODEL_STATUS, .status = 429, .reason = "rateLimitExceeded"}, {.kind = BQMODEL_DELAY, .ms = 90000},
        {.kind = BQMODEL_STATUS, .status = 401, .reason = "authError"}, {.kind = BQMODEL_KEEP_FEWER, .bytes = 0}, {.kind = BQMODEL_KEEP_FEWER, .bytes = 1},
        {.kind = BQMODEL_KEEP_FEWER, .bytes = 100000}, {.kind = BQMODEL_CUT_CHUNK, .bytes = 0}, {.kind = BQMODEL_CUT_CHUNK, .bytes = 131072},
        {.kind = BQMODEL_CUT_CHUNK, .bytes = CHUNK}, {.kind = BQMODEL_LOSE_REPLY, .times = 3}, {.kind = BQMODEL_KEEP_FEWER, .bytes = 70000, .times = 4}};
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        for (int at = 0; at <= CHUNKS; at++) {
            struct stage s;
            struct bqmodel_fault f = faults[i];
            f.match = "PUT";
            f.skip = at;
            begin(&s, 0);
            bqmodel_fault(s.model, &f);
            run(&s);
            char what[32];
            snprintf(what, sizeof(what), "fault %zu", i);
            assert_true(bqmodel_counters(s.model)->faults >= 1);
            assert_landed(&s, what, at);
            assert_int_equal(s.tokens, f.status == 401);
            finish(&s);
        }
    }
}

static void a_start_that_is_lost_or_refused_is_made_again(void **state)
{
    (void)state;
    static const struct bqmodel_fault faults[] = {{.kind = BQMODEL_LOSE_REPLY, .times = 2}, {.kind = BQMODEL_STATUS, .status = 503, .times = 3},
                                                  {.kind = BQMODEL_STATUS, .status = 401, .reason = "authError"}};
    for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
        struct stage s;
        struct bqmodel_fault f = faults[i];
        f.match = "POST /upload";
        begin(&s, 0);
        bqmodel_fault(s.model, &f);
        run(&s);
        assert_landed(&s, "start", 0);
        finish(&s);
    }
}

static void assert_lost(struct stage *s)
{
    assert_int_equal(s->err.kind, ERR_RETRY);
    assert_string_equal(s->err.reason, "sessionLost");
    assert_true(s->spent);
    assert_false(s->decided);
    assert_int_equal(bqmodel_counters(s->model)->loads, 0);
    assert_int_equal(bqmodel_count(s->model, "d.t"), 0);
}

/* Only while no byte was let go can another session take them all. */
static void a_session_that_is_gone_before_its_end_is_the_end(void **state)
{
    (void)state;
    for (int i = 0; i < 2 * (CHUNKS + 1); i++) {
        struct stage s;
        int at = i / 2;
        begin(&s, 0);
        bqmodel_fault(s.model, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_SESSION_GONE, .status = i % 2 ? 410 : 404, .skip = at});
        run(&s);
        if (at == 0)
            assert_landed(&s, "gone", at);
        else
            assert_lost(&s);
        finish(&s);
    }
}

static void a_session_that_is_gone_after_its_last_chunk_has_its_job(void **state)
{
    (void)state;
    struct stage s;
    begin(&s, 0);
    bqmodel_fault(s.model, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_SESSION_GONE, .status = 410, .skip = CHUNKS, .executed = true});
    run(&s);
    assert_landed(&s, "gone", CHUNKS);
    finish(&s);
    begin(&s, 0);
    bqmodel_fault(s.model, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_LOSE_REPLY, .skip = CHUNKS});
    bqmodel_fault(s.model, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_SESSION_GONE, .skip = CHUNKS + 1});
    run(&s);
    assert_landed(&s, "reply lost and gone", CHUNKS);
    finish(&s);
}

static void a_session_that_expires_while_no_bytes_come_is_the_end(void **state)
{
    (void)state;
    struct stage s;
    begin(&s, 60000);
    s.pause_at = ROWS / 2;
    run(&s);
    assert_lost(&s);
    finish(&s);
}

static void a_session_that_lives_waits_for_its_bytes(void **state)
{
    (void)state;
    struct stage s;
    begin(&s, 600000);
    s.pause_at = ROWS / 2;
    run(&s);
    assert_landed(&s, "pause", 0);
    finish(&s);
}

static void a_server_that_forgets_what_it_had_is_as_a_session_that_is_gone(void **state)
{
    (void)state;
    struct stage s;
    begin(&s, 0);
    bqmodel_fault(s.model, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_STATUS, .status = 308, .body = "", .skip = 2, .times = -1});
    run(&s);
    assert_lost(&s);
    finish(&s);
}

static void a_failed_job_and_a_quota_after_the_bytes_are_gone_end_it_for_now(void **state)
{
    (void)state;
    struct stage s;
    begin(&s, 0);
    bqmodel_fault(s.model, &(struct bqmodel_fault){.match = "LOAD", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "again"});
    run(&s);
    assert_int_equal(s.err.kind, ERR_RETRY);
    assert_true(s.decided && s.spent);
    assert_int_equal(bqmodel_counters(s.model)->loads, 1); /* no second try without bytes */
    finish(&s);
    begin(&s, 0);
    bqmodel_fault(s.model, &(struct bqmodel_fault){.match = "PUT", .kind = BQMODEL_STATUS, .status = 403, .reason = "quotaExceeded", .message = "Quota exceeded", .skip = CHUNKS});
    run(&s);
    assert_int_equal(s.err.kind, ERR_QUOTA);
    assert_true(!s.decided && s.spent);
    assert_int_equal(bqmodel_counters(s.model)->loads, 0);
    finish(&s);
}

static void rows_that_are_refused_are_the_jobs_verdict(void **state)
{
    (void)state;
    struct stage s;
    begin(&s, 0);
    static const char row[] = "{\"k\":\"bqmodel-reject\",\"v\":1}\n";
    bq_feed_add(s.feed, row, sizeof(row) - 1);
    run(&s);
    assert_int_equal(s.err.kind, ERR_TASK);
    assert_true(s.decided);
    assert_int_equal(bqmodel_count(s.model, "d.t"), 0);
    finish(&s);
}

/* Somebody else's job under our id: it has another nonce, or is from before the run. */
static void another_nonce_under_our_id_is_fatal(void **state)
{
    (void)state;
    struct stage s, *other = &s;
    begin(&s, 0);
    static const char row[] = "{\"k\":\"x\",\"v\":1}\n";
    struct http_slice media = {row, sizeof(row) - 1};
    struct bq_job_spec spec = {.id_base = "b", .location = "EU", .configuration = s.config, .digest = "item-1-attempt-1-nonce-y", .media = &media, .media_count = 1};
    bq_job_start(s.bq, &spec, on_end, other);
    assert_true(loop_until(s.loop, is_over, &s, 60 * US_PER_S));
    assert_int_equal(s.err.kind, ERR_NONE);
    s.over = false;
    run(&s);
    assert_int_equal(s.err.kind, ERR_FATAL);
    assert_string_equal(s.err.reason, "foreignJob");
    finish(&s);
}

static void a_load_that_is_given_up_leaves_no_session_and_no_job(void **state)
{
    (void)state;
    struct stage s;
    begin(&s, 0);
    s.pause_at = ROWS / 2;
    start(&s);
    while (loop_now_us(s.loop) < INT64_C(30) * US_PER_S && bq_feed_whole(s.feed))
        loop_step(s.loop, US_PER_S);
    assert_false(bq_feed_whole(s.feed));
    bq_job_stop(s.job, true);
    s.job = NULL;
    timer_stop(s.more);
    for (int i = 0; i < 20; i++)
        loop_step(s.loop, US_PER_S);
    assert_int_equal(bqmodel_counters(s.model)->sessions, 1);
    assert_int_equal(bqmodel_counters(s.model)->sessions_deleted, 1);
    assert_int_equal(bqmodel_counters(s.model)->loads, 0);
    finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bytes_go_while_they_come_and_no_more_than_two_chunks_are_kept),
        cmocka_unit_test(a_load_of_whole_chunks_ends_with_bytes_too),
        cmocka_unit_test(whatever_happens_to_one_chunk_the_load_is_whole),
        cmocka_unit_test(a_start_that_is_lost_or_refused_is_made_again),
        cmocka_unit_test(a_session_that_is_gone_before_its_end_is_the_end),
        cmocka_unit_test(a_session_that_is_gone_after_its_last_chunk_has_its_job),
        cmocka_unit_test(a_session_that_expires_while_no_bytes_come_is_the_end),
        cmocka_unit_test(a_session_that_lives_waits_for_its_bytes),
        cmocka_unit_test(a_server_that_forgets_what_it_had_is_as_a_session_that_is_gone),
        cmocka_unit_test(a_failed_job_and_a_quota_after_the_bytes_are_gone_end_it_for_now),
        cmocka_unit_test(rows_that_are_refused_are_the_jobs_verdict),
        cmocka_unit_test(another_nonce_under_our_id_is_fatal),
        cmocka_unit_test(a_load_that_is_given_up_leaves_no_session_and_no_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
