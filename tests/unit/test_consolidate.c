#include "common/fleet/consolidate.h"
#include "coordinator/probe.h"
#include "common/fleet/side.h"
#include "tests/unit/support_coord.h"

/* One cut to its outcome, and what decides that outcome. */

static struct record *begin(struct stage *s, struct process *p)
{
    struct record *r = stage_record(s, "run-1", "batch");
    stage_publish(s, r);
    process_start(p, s, r, TRACK_FIRST);
    return r;
}

static void end(struct process *p, struct record *r)
{
    process_kill(p);
    record_free(r);
}

/* Two coordinators that folded the same log must give BigQuery the same text: a digest that differs is a loud stop. */
static void the_statement_of_a_cut_is_the_same_in_every_coordinator(void **state)
{
    struct stage *s = *state;
    struct process a, b;
    struct record *r = stage_record(s, "run-1", "batch");
    stage_publish(s, r);
    for (int i = 0; i < 12; i++)
        stage_load(s, r, i * 3, 5, i); /* overlapping: with exclusions */
    stage_say(s, r, (struct log_msg){.type = LOGM_CUT, .cut = 0});
    process_start(&a, s, r, TRACK_LOOKS);
    process_start(&b, s, r, TRACK_LOOKS);
    stage_sleep(s, 1000);
    struct cut_text ta, tb;
    struct error err = ERROR_INIT;
    const struct fold *fa = track_fold(a.track), *fb = track_fold(b.track);
    assert_int_equal(cut_text_make(&(struct cut_of){.record = track_record(a.track), .fold = fa, .cut = fold_open_cut(fa)}, LIMIT_SHARDS_PER_QUERY, &ta, &err), 0);
    assert_int_equal(cut_text_make(&(struct cut_of){.record = track_record(b.track), .fold = fb, .cut = fold_open_cut(fb)}, LIMIT_SHARDS_PER_QUERY, &tb, &err), 0);
    assert_string_equal(ta.digest, tb.digest);
    assert_int_equal(strlen(ta.digest), 40);
    assert_int_equal(ta.rows, 60);
    cut_text_free(&ta);
    cut_text_free(&tb);
    process_kill(&a);
    end(&b, r);
}

static void more_exclusions_than_parameters_carry_go_through_a_side_table(void **state)
{
    struct stage *s = *state;
    struct process p;
    struct record *r = begin(s, &p);
    int64_t many = LIMIT_PARAM_LOADS + 500;
    stage_load(s, r, 0, many, 1);
    stage_load(s, r, 0, many + 2, 2); /* a zombie's: all but two excluded */
    stage_seal(s, r, many + 2);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_WRITTEN);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, STAGE_TARGET);
    int64_t sum = 0;
    for (size_t i = 0; i < doc_len(rows); i++)
        sum += doc_int(doc_at(rows, i), "v", 0);
    assert_int_equal(doc_len(rows), many + 2);
    assert_int_equal(sum, many + 2 * 2);
    assert_int_equal(bqmodel_counters(s->model)->loads, 1); /* the side table's */
    assert_int_equal(stage_tables(s, "bqf_"), 0);           /* it went with the shards */
    end(&p, r);
}

static void a_statement_that_fails_for_good_fails_the_run_for_all(void **state)
{
    struct stage *s = *state;
    struct process p;
    struct record *r = begin(s, &p);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery",
                                                    .message = "No matching signature"});
    stage_load(s, r, 0, 3, 1);
    stage_seal(s, r, 3);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(track_fold(p.track)->end, END_FAILED);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_UNFINISHED);
    assert_non_null(strstr(track_fold(p.track)->end_text, "No matching signature"));
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 0);
    end(&p, r);
}

static void a_statement_that_lost_a_conflict_is_tried_again_under_the_next_id(void **state)
{
    struct stage *s = *state;
    struct process p;
    struct record *r = begin(s, &p);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_ERROR, .reason = "invalidQuery",
                                                    .message = "Could not serialize access to table local:ds.t due to concurrent update"});
    stage_load(s, r, 0, 3, 1);
    stage_seal(s, r, 3);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_WRITTEN);
    assert_string_equal(track_fold(p.track)->cuts[0].job, "bqfleet_cut_run-1_0_t1");
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 3);
    end(&p, r);
}

static bool in_trouble(void *arg)
{
    return ((struct process *)arg)->trouble.kind != ERR_NONE;
}

static void what_one_process_may_not_do_decides_nothing(void **state)
{
    struct stage *s = *state;
    struct process p, other;
    struct record *r = begin(s, &p);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "POST /bigquery/v2/projects/local/jobs", .kind = BQMODEL_STATUS, .times = -1, .status = 403,
                                                    .reason = "accessDenied", .message = "no permission bigquery.jobs.create"});
    stage_load(s, r, 0, 3, 1);
    stage_seal(s, r, 3);
    STAGE_WAIT(s, in_trouble, &p);
    assert_non_null(strstr(p.trouble.text, "cannot be consolidated from here"));
    assert_int_equal(stage_logged(s, r, LOGM_OUTCOME), 0);
    assert_int_equal(stage_tables(s, "bqf_"), 1);
    bqmodel_clear_faults(s->model); /* another one may */
    process_start(&other, s, r, TRACK_FIRST);
    STAGE_WAIT(s, process_done, &other);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 3);
    STAGE_WAIT(s, process_done, &p);
    process_kill(&other);
    end(&p, r);
}

/* It may run jobs, and so could insert one that gives up; but it may not read the tables. */
static void a_process_that_may_not_read_the_tables_leaves_the_cut_to_others(void **state)
{
    struct stage *s = *state;
    struct process p, other;
    struct record *r = begin(s, &p);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "POST /bigquery/v2/projects/local/jobs", .kind = BQMODEL_STATUS, .times = 1, .status = 403,
                                                    .reason = "accessDenied", .message = "Access Denied: Table local:ds.t"});
    process_start(&other, s, r, TRACK_SECOND);
    stage_load(s, r, 0, 3, 1);
    stage_seal(s, r, 3);
    STAGE_WAIT(s, in_trouble, &p);
    STAGE_WAIT(s, process_done, &other);
    assert_int_equal(track_fold(other.track)->end, END_COMPLETE);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 3);
    process_kill(&other);
    end(&p, r);
}

static void a_load_whose_rows_are_gone_never_passes_for_whole(void **state)
{
    struct stage *s = *state;
    struct process p;
    struct record *r = stage_record(s, "run-1", "batch");
    stage_publish(s, r);
    stage_load(s, r, 0, 3, 1);
    AUTO(doc_free_auto) doc *tables = bqmodel_tables(s->model);
    for (size_t i = 0; i < doc_len(tables); i++)
        if (strstr(doc_str(doc_at(tables, i), NULL, ""), "bqf_") != NULL)
            bqmodel_expire(s->model, doc_str(doc_at(tables, i), NULL, ""));
    stage_seal(s, r, 3);
    process_start(&p, s, r, TRACK_FIRST);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(track_fold(p.track)->end, END_FAILED);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), 0);
    end(&p, r);
}

struct found { bool done; struct probe_result r; struct error err; };

static void on_consolidated(void *arg, struct log_msg *outcome, const struct error *err)
{
    (void)err;
    *(bool *)arg = outcome != NULL;
}

static struct consolidate *start(struct process *p, int64_t wait_ms, size_t shards_at_once, bool *over)
{
    const struct fold *f = track_fold(p->track);
    struct consolidate_options o = {.world = &p->stage->world, .of = {.record = track_record(p->track), .fold = f, .cut = fold_open_cut(f)}, .wait_ms = wait_ms,
                                    .shards_at_once = shards_at_once};
    return consolidate_start(&o, on_consolidated, over);
}

static void whoever_asks_is_told_what_a_cut_waits_for(void **state)
{
    struct stage *s = *state;
    struct process p;
    char text[400];
    bool over = false, folds = false;
    struct record *r = stage_record(s, "run-1", "batch");
    stage_publish(s, r);
    for (int i = 0; i < 12; i++)
        stage_load(s, r, i * 3, 3, i);
    stage_say(s, r, (struct log_msg){.type = LOGM_CUT, .cut = 0});
    process_start(&p, s, r, TRACK_LOOKS);
    stage_sleep(s, 1000);
    struct fold_cut *cut = (struct fold_cut *)(uintptr_t)fold_open_cut(track_fold(p.track));
    cut->shard = 0; /* as if it were one of the first shard's */
    struct consolidate *c = start(&p, 60000, 0, &over);
    assert_non_null(strstr(consolidate_state(c, text, sizeof(text)), "an increment of shard"));
    consolidate_stop(c, true);
    cut->shard = -1;
    c = start(&p, 0, 8, &over);
    for (int i = 0; i < 10000 && !over; i++) {
        folds |= strstr(consolidate_state(c, text, sizeof(text)), "fold") != NULL;
        loop_step(s->loop, 5 * US_PER_MS);
    }
    assert_true(folds && over);
    consolidate_stop(c, true);
    end(&p, r);
}

static void on_probe(void *arg, const struct probe_result *r, const struct error *err)
{
    struct found *f = arg;
    f->done = true;
    f->r = *r;
    f->err = err ? *err : ERROR_INIT;
}

static bool is_found(void *arg)
{
    return ((struct found *)arg)->done;
}

static struct probe_result ask(struct stage *s, bool wait)
{
    struct found f = {.done = false};
    struct probe *probe = probe_start(&s->world, "run-1", "", wait, NULL, on_probe, &f);
    STAGE_WAIT(s, is_found, &f);
    probe_stop(probe);
    assert_int_equal(f.err.kind, ERR_NONE);
    return f.r;
}

static void bigquery_itself_tells_what_was_written_of_a_run(void **state)
{
    struct stage *s = *state;
    struct process p;
    assert_int_equal(ask(s, false).state, PROBE_NONE);
    struct record *r = begin(s, &p);
    stage_load(s, r, 0, 3, 1);
    stage_say(s, r, (struct log_msg){.type = LOGM_CUT, .cut = 0});
    stage_sleep(s, 60000);
    struct probe_result first = ask(s, false);
    assert_int_equal(first.state, PROBE_WRITTEN);
    assert_false(first.last);
    assert_int_equal(first.cuts, 1);
    bqmodel_fault(s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_SLOW, .ms = 30000});
    stage_load(s, r, 3, 2, 1);
    stage_seal(s, r, 5);
    stage_sleep(s, 5000);
    assert_int_equal(ask(s, false).state, PROBE_RUNNING);
    struct probe_result last = ask(s, true);
    assert_int_equal(last.state, PROBE_WRITTEN);
    assert_true(last.last);
    assert_int_equal(last.inserted, 5);
    STAGE_WAIT(s, process_done, &p);
    end(&p, r);
}

/* What came after the first increment had no rows: the run is whole all the same, and BigQuery can tell. */
static void a_last_cut_without_rows_is_told_by_a_job_that_does_nothing(void **state)
{
    struct stage *s = *state;
    struct process p;
    struct record *r = begin(s, &p);
    struct item_range rest = {3, 2};
    stage_load(s, r, 0, 3, 1);
    stage_say(s, r, (struct log_msg){.type = LOGM_CUT, .cut = 0});
    stage_sleep(s, 60000);
    stage_say(s, r, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.empty = &rest, .empty_count = 1}});
    stage_seal(s, r, 5);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_WRITTEN);
    struct probe_result found = ask(s, false);
    assert_int_equal(found.state, PROBE_WRITTEN);
    assert_true(found.last);
    assert_int_equal(found.inserted, 3);
    assert_int_equal(bqmodel_counters(s->model)->merges, 1);
    end(&p, r);
}

#define T(name) cmocka_unit_test_setup_teardown(name, stage_open, stage_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(the_statement_of_a_cut_is_the_same_in_every_coordinator),
        T(more_exclusions_than_parameters_carry_go_through_a_side_table), T(whoever_asks_is_told_what_a_cut_waits_for),
        T(a_statement_that_fails_for_good_fails_the_run_for_all),
        T(a_statement_that_lost_a_conflict_is_tried_again_under_the_next_id),
        T(what_one_process_may_not_do_decides_nothing),
        T(a_process_that_may_not_read_the_tables_leaves_the_cut_to_others),
        T(a_load_whose_rows_are_gone_never_passes_for_whole),
        T(a_last_cut_without_rows_is_told_by_a_job_that_does_nothing),
        T(bigquery_itself_tells_what_was_written_of_a_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
