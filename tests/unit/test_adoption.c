#include "common/bq/table.h"
#include "tests/unit/support_coord.h"

/* A held run and the one that redrives it, by any number of coordinators: whatever is killed or decided meanwhile, each row is written once or not at all. */

/* Three items of four are loaded (k0, k1, k2 with v 1), one has failed. */
static struct record *held(struct stage *s, const char *run, const char *batch)
{
    struct record *r = stage_record(s, run, batch);
    stage_publish(s, r);
    stage_load(s, r, 0, 3, 1);
    stage_fail(s, r, 3);
    stage_seal(s, r, 4);
    return r;
}

static struct record *heir(struct stage *s, const char *run, const struct record *of)
{
    struct record *r = stage_record(s, run, of->batch);
    snprintf(r->adopts, sizeof(r->adopts), "%s", of->run);
    snprintf(r->redrives, sizeof(r->redrives), "%s", of->run);
    stage_publish(s, r);
    return r;
}

/* Its one item makes row k3, and k0 once more: both with v. */
static void complete(struct stage *s, const struct record *r, int v)
{
    stage_load(s, r, 0, 1, v);
    stage_load(s, r, 3, 1, v);
    stage_say(s, r, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.empty = (struct item_range[]){{1, 2}}, .empty_count = 1}});
    stage_seal(s, r, 4);
}

static void assert_values(struct stage *s, const char *want)
{
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, STAGE_TARGET);
    char found[16] = "....";
    for (size_t i = 0; i < doc_len(rows); i++) {
        int64_t k = strtol(doc_str(doc_at(rows, i), "k", "k9") + 1, NULL, 10);
        assert_in_range(k, 0, 3);
        assert_int_equal(found[k], '.'); /* once */
        found[k] = (char)('0' + doc_int(doc_at(rows, i), "v", 0));
    }
    assert_string_equal(found, want);
}

static struct track *track_of(struct process *p, const char *run)
{
    struct track *t = coordinator_find(p->coordinator, run);
    assert_non_null(t);
    return t;
}

static enum run_standing standing(struct process *p, const char *run)
{
    const struct catalog_run *r = catalog_find(catalog_watch_runs(coordinator_watch(p->coordinator)), run);
    assert_non_null(r);
    return r->standing;
}

static void free_both(struct record *a, struct record *b)
{
    record_free(a);
    record_free(b);
}

static void an_heirs_last_cut_takes_both_runs_loads_and_its_own_rows_win(void **state)
{
    struct stage *s = *state;
    struct record *old = held(s, "old", "batch"), *new = heir(s, "new", old);
    struct process a, b;
    process_start(&a, s, new, TRACK_FIRST);
    process_start(&b, s, new, TRACK_FIRST);
    stage_sleep(s, 5000);
    assert_int_equal(track_fold(track_of(&a, "old"))->phase, RUN_HELD); /* not before it is needed */
    complete(s, new, 2);
    STAGE_WAIT(s, process_done, &a);
    STAGE_WAIT(s, process_done, &b);
    assert_values(s, "2112");
    assert_int_equal(bqmodel_counters(s->model)->merges, 1);
    assert_int_equal(stage_tables(s, "bqf_"), 0);
    assert_string_equal(track_fold(track_of(&a, "old"))->adopted_by, "new");
    assert_int_equal(fold_exit_code(track_fold(a.track)), EXIT_WRITTEN);
    assert_int_equal(standing(&a, "old"), STANDING_ENDED);
    assert_int_equal(standing(&a, "new"), STANDING_ENDED);
    process_kill(&a);
    process_kill(&b);
    free_both(old, new);
}

static void an_heir_that_ends_unwritten_leaves_the_held_run_as_it_was(void **state)
{
    static const enum log_type ends[] = {LOGM_CANCEL, LOGM_FATAL, LOGM_ABANDON};
    struct stage *s = *state;
    struct record *old = held(s, "old", "batch");
    for (size_t i = 0; i < ARRAY_LEN(ends); i++) {
        char name[16];
        snprintf(name, sizeof(name), "new%zu", i);
        struct record *new = heir(s, name, old);
        struct process p;
        process_start(&p, s, new, TRACK_FIRST);
        stage_load(s, new, 0, 1, 5);
        stage_say(s, new, (struct log_msg){.type = ends[i], .text = "over"});
        STAGE_WAIT(s, process_done, &p);
        assert_int_equal(track_fold(track_of(&p, "old"))->phase, RUN_HELD);
        assert_int_equal(stage_tables(s, "bqf_new"), 0);
        assert_int_equal(stage_tables(s, "bqf_old"), 1);
        process_kill(&p);
        record_free(new);
    }
    struct record *last = heir(s, "last", old);
    struct process p;
    process_start(&p, s, last, TRACK_FIRST);
    complete(s, last, 2);
    STAGE_WAIT(s, process_done, &p);
    assert_values(s, "2112");
    process_kill(&p);
    free_both(old, last);
}

static void a_held_run_that_is_decided_otherwise_cancels_its_heir(void **state)
{
    static const enum log_type decisions[] = {LOGM_ACCEPT, LOGM_CANCEL};
    struct stage *s = *state;
    for (size_t i = 0; i < ARRAY_LEN(decisions); i++) {
        char names[2][16];
        snprintf(names[0], sizeof(names[0]), "old%zu", i);
        snprintf(names[1], sizeof(names[1]), "new%zu", i);
        struct record *old = held(s, names[0], names[0]), *new = heir(s, names[1], old);
        struct process p;
        process_start(&p, s, new, TRACK_FIRST);
        stage_load(s, new, 0, 1, 7);
        stage_sleep(s, 3000);
        stage_say(s, old, (struct log_msg){.type = decisions[i]});
        STAGE_WAIT(s, process_done, &p);
        const struct fold *f = track_fold(p.track);
        assert_int_equal(f->end, END_CANCEL);
        assert_int_equal(fold_exit_code(f), EXIT_ENDED);
        assert_non_null(strstr(f->end_text, names[0]));
        stage_sleep(s, 60000);
        assert_values(s, "111.");
        process_kill(&p);
        free_both(old, new);
    }
}

/* The accept comes between the heir's completion and the first coordinator that looks: then what the heir was to complete is written already. */
static void a_last_cut_whose_held_run_is_gone_fails_and_writes_nothing(void **state)
{
    struct stage *s = *state;
    struct record *old = held(s, "old", "batch"), *new = heir(s, "new", old);
    complete(s, new, 2);
    stage_say(s, old, (struct log_msg){.type = LOGM_ACCEPT});
    struct process a, b;
    process_start(&a, s, new, TRACK_FIRST);
    process_start(&b, s, new, TRACK_FIRST);
    STAGE_WAIT(s, process_done, &a);
    STAGE_WAIT(s, process_done, &b);
    assert_int_equal(track_fold(a.track)->end, END_FAILED);
    assert_non_null(strstr(track_fold(a.track)->end_text, "decided first (accepted)"));
    stage_sleep(s, 60000);
    assert_values(s, "111.");
    assert_int_equal(stage_logged(s, old, LOGM_ADOPTED), 0);
    process_kill(&a);
    process_kill(&b);
    free_both(old, new);
}

static void of_two_heirs_the_first_in_the_log_has_the_run(void **state)
{
    struct stage *s = *state;
    struct record *old = held(s, "old", "batch"), *one = heir(s, "one", old);
    struct record *two = stage_record(s, "two", "another"); /* no redrive makes such a record: the log decides all the same */
    snprintf(two->adopts, sizeof(two->adopts), "old");
    stage_publish(s, two);
    complete(s, one, 2);
    complete(s, two, 3);
    struct process a, b;
    process_start(&a, s, one, TRACK_FIRST);
    process_start(&b, s, two, TRACK_FIRST);
    STAGE_WAIT(s, process_done, &a);
    STAGE_WAIT(s, process_done, &b);
    bool first = track_fold(a.track)->end == END_COMPLETE;
    assert_values(s, first ? "2112" : "3113");
    assert_int_equal(track_fold(first ? b.track : a.track)->end, END_FAILED);
    assert_int_equal(bqmodel_counters(s->model)->merges, 1);
    assert_int_equal(stage_tables(s, "bqf_"), 0);
    process_kill(&a);
    process_kill(&b);
    record_free(two);
    free_both(old, one);
}

static bool adopted(void *arg)
{
    struct process *p = arg;
    struct track *t = coordinator_find(p->coordinator, "old");
    return t != NULL && track_fold(t)->end == END_ADOPTED;
}

static bool merging(void *arg)
{
    struct process *p = arg;
    return bqmodel_counters(p->stage->model)->merges > 0;
}

static void killed_when(struct stage *s, bool (*step)(void *))
{
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_SLOW, .ms = 5000});
    struct record *old = held(s, "old", "batch"), *new = heir(s, "new", old);
    struct process first, second;
    process_start(&first, s, new, TRACK_FIRST);
    complete(s, new, 2);
    STAGE_WAIT(s, step, &first);
    process_kill(&first);
    assert_int_equal(stage_tables(s, "bqf_old"), 1);
    process_start(&second, s, new, TRACK_SECOND);
    STAGE_WAIT(s, process_done, &second);
    assert_values(s, "2112");
    assert_int_equal(bqmodel_counters(s->model)->merges, 1);
    assert_int_equal(stage_tables(s, "bqf_"), 0);
    process_kill(&second);
    free_both(old, new);
}

static void a_coordinator_killed_after_the_adoption_is_replaced(void **state)
{
    killed_when(*state, adopted);
}

static void a_coordinator_killed_between_job_and_outcome_is_replaced(void **state)
{
    killed_when(*state, merging);
}

static void an_heir_that_is_held_itself_is_adopted_with_all_it_names(void **state)
{
    struct stage *s = *state;
    struct record *old = held(s, "old", "batch"), *middle = heir(s, "middle", old);
    stage_load(s, middle, 0, 2, 2); /* k0 and k1 again */
    stage_fail(s, middle, 2);
    stage_seal(s, middle, 3);
    struct record *last = heir(s, "last", middle);
    struct process a, b;
    process_start(&a, s, last, TRACK_FIRST);
    stage_sleep(s, 5000);
    assert_int_equal(track_fold(track_of(&a, "old"))->phase, RUN_HELD);
    assert_int_equal(track_fold(track_of(&a, "middle"))->phase, RUN_HELD);
    complete(s, last, 3);
    process_start(&b, s, last, TRACK_SECOND);
    STAGE_WAIT(s, process_done, &a);
    STAGE_WAIT(s, process_done, &b);
    assert_values(s, "3213");
    assert_int_equal(bqmodel_counters(s->model)->merges, 1);
    assert_int_equal(stage_tables(s, "bqf_"), 0);
    assert_string_equal(track_fold(track_of(&a, "old"))->adopted_by, "last");
    assert_string_equal(track_fold(track_of(&a, "middle"))->adopted_by, "last");
    process_kill(&a);
    process_kill(&b);
    record_free(last);
    free_both(old, middle);
}

static void an_heir_that_is_accepted_takes_the_held_run_too(void **state)
{
    struct stage *s = *state;
    struct record *old = held(s, "old", "batch"), *new = heir(s, "new", old);
    stage_load(s, new, 0, 1, 2);
    stage_fail(s, new, 1);
    stage_seal(s, new, 2);
    struct process p;
    process_start(&p, s, new, TRACK_FIRST);
    STAGE_WAIT(s, process_held, &p);
    stage_say(s, new, (struct log_msg){.type = LOGM_ACCEPT});
    STAGE_WAIT(s, process_done, &p);
    assert_values(s, "211.");
    process_kill(&p);
    free_both(old, new);
}

static struct record *held_with_an_increment(struct stage *s)
{
    struct record *r = stage_record(s, "old", "batch");
    r->every_ms = 60000;
    stage_publish(s, r);
    stage_load(s, r, 0, 2, 1);
    stage_say(s, r, (struct log_msg){.type = LOGM_CUT, .cut = 0});
    stage_load(s, r, 1, 2, 2); /* k1 is excluded */
    stage_fail(s, r, 3);
    stage_seal(s, r, 4);
    return r;
}

static void increments_of_a_held_run_are_written_before_it_is_adopted(void **state)
{
    struct stage *s = *state;
    struct record *old = held_with_an_increment(s), *new = heir(s, "new", old);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_old", .kind = BQMODEL_JOB_SLOW, .ms = 20000});
    complete(s, new, 3);
    struct process p;
    process_start(&p, s, new, TRACK_FIRST);
    stage_sleep(s, 15000);
    assert_int_equal(stage_logged(s, old, LOGM_ADOPTED), 0);
    STAGE_WAIT(s, process_done, &p);
    assert_values(s, "3123");
    assert_int_equal(bqmodel_counters(s->model)->merges, 2);
    process_kill(&p);
    free_both(old, new);
}

static void an_increment_that_fails_takes_the_heir_with_it(void **state)
{
    struct stage *s = *state;
    struct record *old = held_with_an_increment(s), *new = heir(s, "new", old);
    struct process p;
    process_start(&p, s, new, TRACK_FIRST);
    stage_sleep(s, 1000);
    stage_say(s, old, (struct log_msg){.type = LOGM_OUTCOME, .cut = 0, .ok = false, .text = "no"});
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(track_fold(p.track)->end, END_CANCEL);
    assert_non_null(strstr(track_fold(p.track)->end_text, "(failed)"));
    process_kill(&p);
    free_both(old, new);
}

struct answer { bool done; };
static void on_answer(void *arg, const struct bq_answer *a)
{
    assert_null(a->err);
    ((struct answer *)arg)->done = true;
}
static bool answered(void *arg) { return ((struct answer *)arg)->done; }

/* As its worker did when it made it. */
static void let_expire(struct stage *s, const struct record *r, const char *incarnation)
{
    struct answer a = {false};
    struct bq_ref ref;
    record_shard_ref(r, incarnation, &ref);
    bq_table_expire(s->bq, &ref, loop_wall_ms(s->loop) + EXPIRY_STAGING, on_answer, &a);
    STAGE_WAIT(s, answered, &a);
}

static void staging_of_a_held_run_outlives_its_workers_while_a_coordinator_is_there(void **state)
{
    struct stage *s = *state;
    struct record *old = held(s, "old", "batch");
    let_expire(s, old, "shard00000");
    struct process p;
    process_start(&p, s, old, TRACK_SECOND);
    stage_sleep(s, 5 * EXPIRY_STAGING);
    assert_int_equal(stage_tables(s, "bqf_"), 1);
    struct record *new = heir(s, "new", old);
    complete(s, new, 2);
    struct process q;
    process_start(&q, s, new, TRACK_FIRST);
    STAGE_WAIT(s, process_done, &q);
    assert_values(s, "2112");
    process_kill(&p);
    process_kill(&q);
    free_both(old, new);
}

static void staging_of_an_adopted_run_stays_until_its_heirs_outcome(void **state)
{
    struct stage *s = *state;
    struct record *old = held(s, "old", "batch"), *new = heir(s, "new", old);
    let_expire(s, old, "shard00000");
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_new", .kind = BQMODEL_JOB_SLOW, .ms = 40000});
    complete(s, new, 2);
    struct process a, b;
    process_start(&a, s, new, TRACK_FIRST);
    process_start(&b, s, old, TRACK_SECOND); /* one that follows the old run only: its end is not the end */
    stage_sleep(s, 30000);
    assert_int_equal(track_fold(b.track)->end, END_ADOPTED);
    assert_false(process_done(&b));
    assert_int_equal(stage_tables(s, "bqf_old"), 1);
    STAGE_WAIT(s, process_done, &a);
    STAGE_WAIT(s, process_done, &b);
    assert_values(s, "2112");
    assert_int_equal(stage_tables(s, "bqf_"), 0);
    process_kill(&a);
    process_kill(&b);
    free_both(old, new);
}

/* --- schedules drawn at random -------------------------------------------------------------------------------------------------------------- */

enum { SCHEDULES = 120, ACTIONS = 12 };

static struct log_msg a_decision(struct rnd *rnd, bool of_old)
{
    uint64_t n = rnd_below(rnd, 16);
    if (of_old && n < 2)
        return (struct log_msg){.type = n == 0 ? LOGM_ACCEPT : LOGM_CANCEL};
    if (!of_old && n == 2)
        return (struct log_msg){.type = LOGM_CANCEL};
    return (struct log_msg){.type = LOGM_RESUME}; /* decides nothing */
}

static bool both_done(void *arg)
{
    struct process *p = arg;
    struct track *old = coordinator_find(p->coordinator, "old");
    return track_done(p->track) && (old == NULL || track_done(old) || track_fold(old)->phase == RUN_HELD);
}

/* What the two logs say must be what is on the table. */
static void assert_as_logged(struct stage *s, struct process *p)
{
    enum run_end new = track_fold(p->track)->end, old = track_fold(track_of(p, "old"))->end;
    bool adopted_by_new = old == END_ADOPTED;
    if (new == END_COMPLETE) {
        assert_true(adopted_by_new);
        assert_values(s, "2112");
        assert_int_equal(stage_tables(s, "bqf_new"), 0); /* else its last loads may have come when all was over */
    } else {
        assert_false(adopted_by_new);
        assert_values(s, old == END_ACCEPTED ? "111." : "....");
    }
    assert_int_equal(stage_tables(s, "bqf_old"), old == END_NONE ? 1 : 0);
}

static void one_schedule(uint64_t seed)
{
    void *state = NULL;
    stage_open(&state);
    struct stage *s = state;
    struct rnd rnd;
    rnd_seeded(&rnd, seed);
    if (rnd_below(&rnd, 2))
        bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_SLOW, .ms = 1000 + (int64_t)rnd_below(&rnd, 20000)});
    struct record *old = held(s, "old", "batch"), *new = heir(s, "new", old);
    struct process p[2];
    bool alive[2] = {false, false};
    uint64_t completes_at = rnd_below(&rnd, ACTIONS);
    for (uint64_t i = 0; i < ACTIONS; i++) {
        size_t which = rnd_below(&rnd, 2);
        if (alive[which] && rnd_below(&rnd, 3) == 0)
            process_kill(&p[which]);
        else if (!alive[which])
            process_start(&p[which], s, new, rnd_below(&rnd, 2) ? TRACK_FIRST : TRACK_SECOND);
        else
            which = 2;
        if (which < 2)
            alive[which] = !alive[which];
        if (i == completes_at)
            complete(s, new, 2);
        bool of_old = rnd_below(&rnd, 2) == 0;
        stage_say(s, of_old ? old : new, a_decision(&rnd, of_old));
        stage_sleep(s, (int64_t)rnd_below(&rnd, 8000));
    }
    for (size_t i = 0; i < 2; i++) {
        if (!alive[i])
            process_start(&p[i], s, new, TRACK_SECOND);
        STAGE_WAIT(s, both_done, &p[i]);
    }
    stage_sleep(s, 5000);
    assert_as_logged(s, &p[0]);
    process_kill(&p[0]);
    process_kill(&p[1]);
    free_both(old, new);
    stage_close(&state);
}

static void whatever_is_killed_or_decided_the_table_is_what_the_logs_say(void **state)
{
    (void)state;
    const char *count = getenv("SCHEDULES");
    for (uint64_t seed = 1; seed <= (count ? strtoull(count, NULL, 10) : SCHEDULES); seed++)
        one_schedule(seed);
}

#define T(name) cmocka_unit_test_setup_teardown(name, stage_open, stage_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(an_heirs_last_cut_takes_both_runs_loads_and_its_own_rows_win),
        T(an_heir_that_ends_unwritten_leaves_the_held_run_as_it_was),
        T(a_held_run_that_is_decided_otherwise_cancels_its_heir),
        T(a_last_cut_whose_held_run_is_gone_fails_and_writes_nothing),
        T(of_two_heirs_the_first_in_the_log_has_the_run),
        T(a_coordinator_killed_after_the_adoption_is_replaced),
        T(a_coordinator_killed_between_job_and_outcome_is_replaced),
        T(an_heir_that_is_held_itself_is_adopted_with_all_it_names),
        T(an_heir_that_is_accepted_takes_the_held_run_too),
        T(increments_of_a_held_run_are_written_before_it_is_adopted),
        T(an_increment_that_fails_takes_the_heir_with_it),
        T(staging_of_a_held_run_outlives_its_workers_while_a_coordinator_is_there),
        T(staging_of_an_adopted_run_stays_until_its_heirs_outcome),
        cmocka_unit_test(whatever_is_killed_or_decided_the_table_is_what_the_logs_say),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
