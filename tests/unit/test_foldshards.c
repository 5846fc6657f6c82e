#include "common/fleet/consolidate.h"
#include "common/fleet/foldshards.h"
#include "tests/unit/support_coord.h"

/* Cuts with more shards than one statement reads. */

/* A run of `shards` loads of two items each, the second of which the next one has too; and what a coordinator needs to consolidate its cut. */
struct scene {
    struct stage *s;
    struct record *r;
    struct process looks;
    int64_t items;
};

static void scene_open(struct scene *c, struct stage *s, int shards)
{
    *c = (struct scene){.s = s, .items = shards + 1};
    c->r = stage_record(s, "run-1", "batch");
    stage_publish(s, c->r);
    for (int i = 0; i < shards; i++)
        stage_load(s, c->r, i, 2, i + 1);
    stage_seal(s, c->r, c->items);
    process_start(&c->looks, s, c->r, TRACK_LOOKS);
    stage_sleep(s, 1000);
}

static void scene_close(struct scene *c)
{
    process_kill(&c->looks);
    record_free(c->r);
}

/* One coordinator at the cut. */
struct hand { struct scene *scene; struct consolidate *consolidate; bool done; struct error err; };

static void on_written(void *arg, int64_t offset, const struct error *err)
{
    (void)offset;
    assert_null(err);
    ((struct hand *)arg)->done = true;
}

static void on_done(void *arg, struct log_msg *outcome, const struct error *err)
{
    struct hand *h = arg;
    h->err = err ? *err : ERROR_INIT;
    h->done = outcome == NULL;
    if (outcome != NULL)
        outbox_log(h->scene->s->outbox, h->scene->r, outcome, on_written, h);
}

static void hand_start(struct hand *h, struct scene *c, size_t at_once, int64_t wait_ms)
{
    const struct fold *f = track_fold(c->looks.track);
    *h = (struct hand){.scene = c};
    const struct fold_cut *cut = f->cut_count > 0 ? &f->cuts[0] : NULL; /* open, or settled by another hand meanwhile */
    assert_non_null(cut);
    struct consolidate_options o = {.world = &c->s->world, .of = {.record = c->r, .fold = f, .cut = cut}, .wait_ms = wait_ms,
                                    .shards_at_once = at_once};
    h->consolidate = consolidate_start(&o, on_done, h);
}

static bool hand_done(void *arg)
{
    return ((struct hand *)arg)->done;
}

static void hand_stop(struct hand *h)
{
    consolidate_stop(h->consolidate, true);
    h->consolidate = NULL;
}

/* Item i is done by load i - 1 if there is one (which came first), else by load 0: its row says which. */
static void assert_whole(struct scene *c)
{
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(c->s->model, STAGE_TARGET);
    assert_int_equal(doc_len(rows), c->items);
    for (size_t i = 0; i < doc_len(rows); i++) {
        int64_t item = strtoll(doc_str(doc_at(rows, i), "k", "k-1") + 1, NULL, 10);
        assert_int_equal(doc_int(doc_at(rows, i), "v", -1), item > 0 ? item : 1);
    }
}

static int jobs_of_kind(struct scene *c, const char *kind)
{
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(c->s->model);
    int count = 0;
    for (size_t i = 0; i < doc_len(jobs); i++)
        count += strcmp(doc_str(doc_at(jobs, i), "configuration.labels.bqfleet_kind", ""), kind) == 0;
    return count;
}

static const struct fold_cut *outcome(struct scene *c)
{
    stage_sleep(c->s, 2000);
    return &track_fold(c->looks.track)->cuts[0];
}

/* The name of the first folded table, "" when there is none. */
static void folded_table(struct scene *c, char *out, size_t size)
{
    AUTO(doc_free_auto) doc *tables = bqmodel_tables(c->s->model);
    out[0] = '\0';
    for (size_t i = 0; i < doc_len(tables) && !out[0]; i++)
        if (strstr(doc_str(doc_at(tables, i), NULL, ""), ".bqf_run_1_f") != NULL)
            snprintf(out, size, "%s", doc_str(doc_at(tables, i), NULL, ""));
}

static void many_shards_are_folded_and_then_consolidated(void **state)
{
    struct scene c;
    struct hand h;
    scene_open(&c, *state, 7);
    hand_start(&h, &c, 3, 0);
    STAGE_WAIT(c.s, hand_done, &h);
    assert_int_equal(h.err.kind, ERR_NONE);
    assert_int_equal(outcome(&c)->state, CUT_DONE);
    assert_int_equal(outcome(&c)->rows, 14); /* excluded ones, too */
    assert_whole(&c);
    assert_int_equal(jobs_of_kind(&c, "fold"), 3);
    assert_int_equal(jobs_of_kind(&c, "cut"), 1);
    assert_int_equal(stage_tables(c.s, "bqf_run_1_f"), 3);
    hand_stop(&h);
    scene_close(&c);
}

static void as_many_shards_as_a_statement_reads_are_not_folded(void **state)
{
    struct scene c;
    struct hand h;
    scene_open(&c, *state, 3);
    hand_start(&h, &c, 3, 0);
    STAGE_WAIT(c.s, hand_done, &h);
    assert_whole(&c);
    assert_int_equal(jobs_of_kind(&c, "fold"), 0);
    hand_stop(&h);
    scene_close(&c);
}

static void two_coordinators_fold_each_shard_once(void **state)
{
    struct scene c;
    struct hand a, b;
    scene_open(&c, *state, 11);
    hand_start(&a, &c, 4, 0);
    stage_sleep(c.s, 7);
    hand_start(&b, &c, 4, 0);
    STAGE_WAIT(c.s, hand_done, &a);
    STAGE_WAIT(c.s, hand_done, &b);
    assert_int_equal(outcome(&c)->state, CUT_DONE);
    assert_whole(&c);
    assert_int_equal(jobs_of_kind(&c, "fold"), 3);
    assert_int_equal(jobs_of_kind(&c, "cut"), 1);
    hand_stop(&a);
    hand_stop(&b);
    scene_close(&c);
}

/* At every moment of the first one's life. Each is a world of its own. */
static void another_coordinator_finishes_what_one_left(void **state)
{
    (void)state;
    int cut_short = 0;
    for (int64_t ms = 1; ms < 80; ms += 3) {
        void *stage = NULL;
        stage_open(&stage);
        struct scene c;
        struct hand a, b;
        scene_open(&c, stage, 7);
        hand_start(&a, &c, 3, 0);
        stage_sleep(c.s, ms);
        cut_short += !a.done;
        hand_stop(&a);
        hand_start(&b, &c, 3, 0);
        STAGE_WAIT(c.s, hand_done, &b);
        assert_int_equal(b.err.kind, ERR_NONE);
        assert_int_equal(outcome(&c)->state, CUT_DONE);
        assert_whole(&c);
        assert_int_equal(jobs_of_kind(&c, "fold"), 3);
        assert_int_equal(jobs_of_kind(&c, "cut"), 1);
        hand_stop(&b);
        scene_close(&c);
        stage_close(&stage);
    }
    assert_true(cut_short > 10);
}

static void lost_replies_and_refused_requests_change_nothing(void **state)
{
    struct scene c;
    struct hand h;
    scene_open(&c, *state, 7);
    bqmodel_fault(c.s->model, &(struct bqmodel_fault){.match = "bqfleet_fold_", .kind = BQMODEL_LOSE_REPLY, .times = 4});
    bqmodel_fault(c.s->model, &(struct bqmodel_fault){.match = "POST /bigquery/v2/projects/local/datasets/ds/tables", .kind = BQMODEL_LOSE_REPLY, .times = 2});
    bqmodel_fault(c.s->model, &(struct bqmodel_fault){.match = "bqfleet_fold_", .kind = BQMODEL_JOB_ERROR, .reason = "backendError", .message = "again"});
    hand_start(&h, &c, 3, 0);
    STAGE_WAIT(c.s, hand_done, &h);
    assert_int_equal(outcome(&c)->state, CUT_DONE);
    assert_whole(&c);
    assert_int_equal(jobs_of_kind(&c, "fold"), 4); /* a second try of one */
    hand_stop(&h);
    scene_close(&c);
}

/* The first one's version folds by threes, the second one's by fours: their tables are not each other's, the cut's job is. */
static void coordinators_that_group_otherwise_do_not_meet_in_a_folded_table(void **state)
{
    struct scene c;
    struct hand a, b;
    scene_open(&c, *state, 8);
    hand_start(&a, &c, 3, 0);
    hand_start(&b, &c, 4, 0);
    STAGE_WAIT(c.s, hand_done, &a);
    STAGE_WAIT(c.s, hand_done, &b);
    assert_int_equal(outcome(&c)->state, CUT_DONE);
    assert_whole(&c);
    assert_int_equal(jobs_of_kind(&c, "fold"), 3 + 2);
    assert_int_equal(jobs_of_kind(&c, "cut"), 1);
    hand_stop(&a);
    hand_stop(&b);
    scene_close(&c);
}

static void a_shard_that_is_gone_fails_the_cut_for_all(void **state)
{
    struct scene c;
    struct hand a, b;
    scene_open(&c, *state, 7);
    char table[400];
    snprintf(table, sizeof(table), "local.ds.bqf_run_1_shard%05d", 4);
    bqmodel_drop_table(c.s->model, table);
    hand_start(&a, &c, 3, 0);
    STAGE_WAIT(c.s, hand_done, &a);
    assert_int_equal(outcome(&c)->state, CUT_FAILED);
    assert_non_null(strstr(outcome(&c)->text, "cannot be folded"));
    assert_int_equal(bqmodel_count(c.s->model, STAGE_TARGET), 0);
    assert_int_equal(jobs_of_kind(&c, "giveup"), 2); /* of the fold; of the cut */
    /* Of a version that folds otherwise, to which the shard came back: the cut's job decides. */
    hand_start(&b, &c, 100, 0);
    STAGE_WAIT(c.s, hand_done, &b);
    assert_int_equal(bqmodel_count(c.s->model, STAGE_TARGET), 0);
    assert_int_equal(jobs_of_kind(&c, "cut"), 0);
    hand_stop(&a);
    hand_stop(&b);
    scene_close(&c);
}

static void a_shard_without_its_rows_is_not_folded(void **state)
{
    struct scene c;
    struct hand h;
    scene_open(&c, *state, 4);
    bqmodel_drop_table(c.s->model, "local.ds.bqf_run_1_shard00002");
    bqmodel_add_table(c.s->model, "local.ds.bqf_run_1_shard00002", "k:STRING, v:INT64, bqfleet_item:INT64, bqfleet_row:INT64, bqfleet_load:STRING");
    hand_start(&h, &c, 3, 0);
    STAGE_WAIT(c.s, hand_done, &h);
    assert_int_equal(outcome(&c)->state, CUT_FAILED);
    assert_non_null(strstr(outcome(&c)->text, "has 0 staged rows instead of 2"));
    assert_int_equal(bqmodel_count(c.s->model, STAGE_TARGET), 0);
    hand_stop(&h);
    scene_close(&c);
}

struct folding { bool done, failed; };

static void on_folding(void *arg, const struct error *err, bool decided)
{
    struct folding *f = arg;
    (void)decided;
    f->done = true;
    f->failed = err != NULL;
}

static bool folding_done(void *arg)
{
    return ((struct folding *)arg)->done;
}

/* All is folded, and its coordinator gone before the cut's job. A table that is lost then is made anew by the next one, and is empty, its job being done. */
static void a_folded_table_that_is_gone_never_passes_for_whole(void **state)
{
    struct scene c;
    scene_open(&c, *state, 7);
    const struct fold *f = track_fold(c.looks.track);
    struct cut_text t;
    struct error err = ERROR_INIT;
    struct folding folding = {.done = false};
    assert_int_equal(cut_text_make(&(struct cut_of){.record = c.r, .fold = f, .cut = fold_open_cut(f)}, 3, &t, &err), 0);
    struct foldshards *all = foldshards_start(&c.s->world, c.r, &t, on_folding, &folding);
    STAGE_WAIT(c.s, folding_done, &folding);
    assert_false(folding.failed);
    foldshards_stop(all);
    char table[1024];
    bq_ref_text(&t.folds[1].into, table, sizeof(table));
    assert_int_equal(bqmodel_count(c.s->model, table), 6);
    bqmodel_expire(c.s->model, table);
    struct hand h;
    hand_start(&h, &c, 3, 0);
    STAGE_WAIT(c.s, hand_done, &h);
    assert_int_equal(bqmodel_count(c.s->model, table), 0);
    assert_int_equal(outcome(&c)->state, CUT_FAILED);
    assert_non_null(strstr(outcome(&c)->text, "has 0 staged rows instead of 2"));
    assert_int_equal(bqmodel_count(c.s->model, STAGE_TARGET), 0);
    cut_text_free(&t);
    hand_stop(&h);
    scene_close(&c);
}

/* While the cut's job waits for its turn. */
static void a_folded_table_that_goes_before_its_reader_fails_it(void **state)
{
    struct scene c;
    struct hand h;
    scene_open(&c, *state, 7);
    bqmodel_fault(c.s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_PENDING, .ms = 60000});
    hand_start(&h, &c, 3, 0);
    stage_sleep(c.s, 5000);
    assert_int_equal(jobs_of_kind(&c, "cut"), 1);
    char table[400];
    folded_table(&c, table, sizeof(table));
    bqmodel_drop_table(c.s->model, table);
    STAGE_WAIT(c.s, hand_done, &h);
    assert_int_equal(outcome(&c)->state, CUT_FAILED);
    assert_int_equal(bqmodel_count(c.s->model, STAGE_TARGET), 0);
    hand_stop(&h);
    scene_close(&c);
}

static void what_one_process_may_not_make_it_leaves_to_others(void **state)
{
    struct scene c;
    struct hand a, b;
    scene_open(&c, *state, 7);
    bqmodel_fault(c.s->model, &(struct bqmodel_fault){.match = "POST /bigquery/v2/projects/local/datasets/ds/tables", .kind = BQMODEL_STATUS, .status = 403,
                                                      .reason = "accessDenied", .message = "no permission bigquery.tables.create", .times = 3});
    hand_start(&a, &c, 3, 0);
    STAGE_WAIT(c.s, hand_done, &a);
    assert_int_equal(a.err.kind, ERR_FATAL);
    hand_stop(&a);
    assert_int_equal(stage_logged(c.s, c.r, LOGM_OUTCOME), 0);
    bqmodel_clear_faults(c.s->model);
    hand_start(&b, &c, 3, 0);
    STAGE_WAIT(c.s, hand_done, &b);
    assert_int_equal(outcome(&c)->state, CUT_DONE);
    assert_whole(&c);
    hand_stop(&b);
    scene_close(&c);
}

/* A second one that waits, and then finds the job at work, folds nothing. */
static void who_finds_the_cuts_job_does_not_fold(void **state)
{
    struct scene c;
    struct hand a, b;
    scene_open(&c, *state, 7);
    bqmodel_fault(c.s->model, &(struct bqmodel_fault){.match = "bqfleet_cut_", .kind = BQMODEL_JOB_SLOW, .ms = 60000});
    hand_start(&a, &c, 3, 0);
    stage_sleep(c.s, 5000);
    int64_t before = bqmodel_counters(c.s->model)->queries;
    hand_stop(&a);
    hand_start(&b, &c, 5, 1000);
    STAGE_WAIT(c.s, hand_done, &b);
    assert_int_equal(bqmodel_counters(c.s->model)->queries, before);
    assert_int_equal(outcome(&c)->state, CUT_DONE);
    assert_whole(&c);
    hand_stop(&b);
    scene_close(&c);
}

/* Both runs were worked on by the same workers, so that their loads have the same ids; of equal keys those of the run itself win. */
static void an_adopted_runs_shards_are_folded_apart(void **state)
{
    struct scene c;
    struct hand h = {.scene = &c};
    struct stage *s = *state;
    struct process older;
    struct record *adopted = stage_record(s, "run-0", "batch");
    stage_publish(s, adopted);
    for (int i = 0; i < 5; i++)
        stage_load(s, adopted, i, 1, 100);
    process_start(&older, s, adopted, TRACK_LOOKS);
    s->shards = 0;
    scene_open(&c, s, 3); /* items 0 to 3 */
    const struct fold *f = track_fold(c.looks.track);
    const struct adopted of[] = {{.record = adopted, .fold = track_fold(older.track)}};
    struct consolidate_options o = {.world = &s->world, .shards_at_once = 4,
                                    .of = {.record = c.r, .fold = f, .cut = &f->cuts[0], .adopted = of, .adopted_count = 1}};
    h.consolidate = consolidate_start(&o, on_done, &h);
    STAGE_WAIT(s, hand_done, &h);
    assert_int_equal(outcome(&c)->state, CUT_DONE);
    assert_int_equal(jobs_of_kind(&c, "fold"), 1 + 2);
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(s->model, STAGE_TARGET);
    assert_int_equal(doc_len(rows), 5);
    for (size_t i = 0; i < doc_len(rows); i++) {
        int64_t item = strtoll(doc_str(doc_at(rows, i), "k", "k-1") + 1, NULL, 10);
        assert_int_equal(doc_int(doc_at(rows, i), "v", -1), item == 4 ? 100 : item > 0 ? item : 1);
    }
    hand_stop(&h);
    process_kill(&older);
    record_free(adopted);
    scene_close(&c);
}

static void more_than_nine_hundred_shards_are_folded_by_a_coordinator_and_dropped(void **state)
{
    struct stage *s = *state;
    struct process p;
    struct record *r = stage_record(s, "run-1", "batch");
    stage_publish(s, r);
    enum { MANY = LIMIT_SHARDS_PER_QUERY + 7 };
    for (int i = 0; i < MANY; i++)
        stage_load(s, r, i * 3, 3, 1);
    stage_seal(s, r, MANY * 3);
    process_start(&p, s, r, TRACK_FIRST);
    STAGE_WAIT(s, process_done, &p);
    assert_int_equal(fold_exit_code(track_fold(p.track)), EXIT_WRITTEN);
    assert_int_equal(bqmodel_count(s->model, STAGE_TARGET), MANY * 3);
    assert_int_equal(bqmodel_counters(s->model)->inserts, 2);
    assert_int_equal(bqmodel_counters(s->model)->merges, 1);
    assert_int_equal(stage_tables(s, "bqf_"), 0);
    process_kill(&p);
    record_free(r);
}

/* --- texts that are too long ------------------------------------------------------------------------------------------------------------------ */

/* A record whose target has that many columns of the longest names. */
static struct record *wide_record(struct stage *s, int columns)
{
    struct error err = ERROR_INIT;
    struct record *r = stage_record(s, "run-1", "batch");
    doc *fields = doc_array();
    doc_add(fields, doc_set_str(doc_set_str(doc_object(), "name", "k"), "type", "STRING"));
    for (int i = 0; i < columns; i++) {
        char name[400];
        snprintf(name, sizeof(name), "c%05d%0290d", i, 0);
        doc_add(fields, doc_set_str(doc_set_str(doc_object(), "name", name), "type", "INT64"));
    }
    doc_free(r->schema_doc);
    schema_free(r->schema);
    r->schema_doc = doc_set(doc_object(), "fields", fields);
    r->schema = schema_parse(r->schema_doc, &err);
    assert_non_null(r->schema);
    return r;
}

static void a_text_that_is_too_long_for_one_shard_is_given_up_by_a_job(void **state)
{
    struct stage *s = *state;
    struct process p, other;
    struct record *r = wide_record(s, 2000);
    stage_publish(s, r);
    stage_load(s, r, 0, 2, 1);
    stage_load(s, r, 2, 2, 1);
    stage_seal(s, r, 4);
    process_start(&p, s, r, TRACK_FIRST);
    process_start(&other, s, r, TRACK_SECOND);
    STAGE_WAIT(s, process_done, &p);
    STAGE_WAIT(s, process_done, &other);
    assert_int_equal(track_fold(p.track)->end, END_FAILED);
    assert_non_null(strstr(track_fold(p.track)->end_text, "longer than BigQuery's"));
    assert_int_equal(bqmodel_counters(s->model)->gives_up, 1);
    AUTO(doc_free_auto) doc *job = bqmodel_job(s->model, "bqfleet_cut_run-1_0_t0");
    assert_string_equal(doc_str(job, "configuration.labels.bqfleet_kind", ""), "giveup");
    process_kill(&p);
    process_kill(&other);
    record_free(r);
}

#define T(name) cmocka_unit_test_setup_teardown(name, stage_open, stage_close)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(many_shards_are_folded_and_then_consolidated),
        T(as_many_shards_as_a_statement_reads_are_not_folded),
        T(two_coordinators_fold_each_shard_once),
        cmocka_unit_test(another_coordinator_finishes_what_one_left),
        T(lost_replies_and_refused_requests_change_nothing),
        T(coordinators_that_group_otherwise_do_not_meet_in_a_folded_table),
        T(a_shard_that_is_gone_fails_the_cut_for_all),
        T(a_shard_without_its_rows_is_not_folded),
        T(a_folded_table_that_is_gone_never_passes_for_whole),
        T(a_folded_table_that_goes_before_its_reader_fails_it),
        T(what_one_process_may_not_make_it_leaves_to_others),
        T(who_finds_the_cuts_job_does_not_fold),
        T(an_adopted_runs_shards_are_folded_apart),
        T(more_than_nine_hundred_shards_are_folded_by_a_coordinator_and_dropped),
        T(a_text_that_is_too_long_for_one_shard_is_given_up_by_a_job),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
