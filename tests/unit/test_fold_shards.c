#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/fleet/fold.h"

/* What workers that cut their own shards read in the log. */

#define A "aaaaaaaaaa"
#define B "bbbbbbbbbb"

struct log { struct fold *fold; int64_t offset; };

static void say(struct log *l, struct log_msg m)
{
    struct error err = ERROR_INIT;
    m.text = "";
    m.job = "";
    m.shard = m.shard ? m.shard : "";
    m.manifest.load = m.manifest.load ? m.manifest.load : "";
    m.manifest.incarnation = m.manifest.incarnation ? m.manifest.incarnation : "";
    assert_int_equal(fold_apply(l->fold, &m, l->offset++, 0, &err), 0);
}

static void a_load(struct log *l, const char *shard, int seq, int64_t first, int64_t count)
{
    char name[LOAD_ID_LEN + 1];
    struct item_range r = {first, count};
    load_id(name, shard, seq);
    say(l, (struct log_msg){.type = LOGM_MANIFEST, .manifest = {.incarnation = shard, .load = name, .rows = count, .ranges = &r, .range_count = 1}});
}

static void a_cut(struct log *l, const char *shard, int64_t number, int seq)
{
    char name[LOAD_ID_LEN + 1];
    load_id(name, shard[0] ? shard : A, seq);
    const char *names[] = {name};
    say(l, (struct log_msg){.type = LOGM_CUT, .shard = shard, .cut = number, .loads = names, .load_count = shard[0] ? 1 : 0});
}

static void an_outcome(struct log *l, const char *shard, int64_t number)
{
    say(l, (struct log_msg){.type = LOGM_OUTCOME, .shard = shard, .cut = number, .ok = true});
}

static struct log begin(void)
{
    return (struct log){.fold = fold_new(&(struct fold_config){.tolerate_count = 0})};
}

static void a_cut_waits_for_its_own_shards_and_for_the_runs(void **state)
{
    (void)state;
    struct log l = begin();
    for (int i = 0; i < 3; i++) {
        a_load(&l, A, i, i * 10, 5);
        a_load(&l, B, i, i * 10 + 5, 5);
    }
    a_cut(&l, A, 0, 0); /* 0 */
    a_cut(&l, A, 1, 1); /* 1: its own shard's */
    a_cut(&l, B, 0, 0); /* 2 */
    a_cut(&l, "", 0, 0); /* 3: of the run, the rest */
    a_load(&l, B, 3, 40, 5);
    a_cut(&l, B, 1, 3); /* 4: behind the run's */
    const struct fold *f = l.fold;
    static const bool ready[][5] = {{true, false, true, false, false}, {false, true, true, false, false}, {false, false, true, false, false},
                                    {false, false, false, true, false}, {false, false, false, false, true}};
    const struct { const char *shard; int64_t number; } outcomes[] = {{A, 0}, {A, 1}, {B, 0}, {"", 0}, {B, 1}};
    assert_int_equal(f->cut_count, 5);
    for (size_t step = 0; step < ARRAY_LEN(outcomes); step++) {
        for (size_t i = 0; i < 5; i++)
            assert_int_equal(fold_cut_ready(f, &f->cuts[i]), ready[step][i]);
        an_outcome(&l, outcomes[step].shard, outcomes[step].number);
    }
    assert_null(fold_open_cut(f));
    fold_free(l.fold);
}

struct seen { char ids[8][LOAD_ID_LEN + 1]; size_t count, most; };

static bool each(void *arg, const struct fold_load *load)
{
    struct seen *s = arg;
    snprintf(s->ids[s->count++], sizeof(s->ids[0]), "%s", load->id);
    return s->count < s->most;
}

static void a_shard_knows_its_loads_that_are_in_no_cut(void **state)
{
    (void)state;
    struct log l = begin();
    assert_int_equal(fold_find_shard(l.fold, A), -1);
    a_load(&l, A, 0, 0, 5);
    a_load(&l, B, 0, 5, 5);
    a_load(&l, A, 1, 0, 5);  /* all of it was done: nobody needs it */
    a_load(&l, A, 2, 4, 5);  /* done too, by both */
    a_load(&l, A, 3, 20, 1);
    const struct fold *f = l.fold;
    int a = fold_find_shard(f, A), b = fold_find_shard(f, B);
    assert_int_equal(f->shards[a].loads, 4);
    assert_int_equal(f->shards[a].uncut, 2);
    assert_int_equal(f->shards[b].uncut, 1);
    struct seen seen = {.most = 8};
    fold_uncut_loads(f, a, each, &seen);
    assert_int_equal(seen.count, 2);
    assert_string_equal(seen.ids[0], A "-000000");
    assert_string_equal(seen.ids[1], A "-000003");
    seen = (struct seen){.most = 1};
    fold_uncut_loads(f, a, each, &seen);
    assert_int_equal(seen.count, 1);
    a_cut(&l, A, 0, 0);
    assert_int_equal(f->shards[a].uncut, 1);
    assert_int_equal(f->shards[b].uncut, 1);
    say(&l, (struct log_msg){.type = LOGM_SEAL, .items = 21});
    fold_free(l.fold);
}

static void what_no_shards_cut_took_is_the_last_ones(void **state)
{
    (void)state;
    struct log l = begin();
    a_load(&l, A, 0, 0, 5);
    a_load(&l, A, 1, 5, 5);
    a_cut(&l, A, 0, 0);
    a_load(&l, B, 0, 10, 5);
    say(&l, (struct log_msg){.type = LOGM_SEAL, .items = 15});
    const struct fold *f = l.fold;
    assert_int_equal(f->end, END_COMPLETE);
    assert_int_equal(f->cut_count, 2);
    assert_int_equal(f->cuts[0].loads, 1);
    assert_true(f->cuts[1].last);
    assert_int_equal(f->cuts[1].loads, 2);
    assert_int_equal(f->shards[fold_find_shard(f, A)].uncut, 0);
    assert_false(fold_cut_ready(f, &f->cuts[1]));
    a_cut(&l, B, 0, 0); /* too late */
    assert_int_equal(f->cut_count, 2);
    an_outcome(&l, A, 0);
    assert_true(fold_cut_ready(f, &f->cuts[1]));
    an_outcome(&l, "", 0);
    assert_true(fold_settled(f));
    fold_free(l.fold);
}

/* It may be written already, and what it has written is to be told. */
static void an_increment_that_fails_says_nothing_of_other_shards(void **state)
{
    (void)state;
    struct log l = begin();
    for (int i = 0; i < 2; i++) {
        a_load(&l, A, i, i * 10, 5);
        a_load(&l, B, i, i * 10 + 5, 5);
    }
    a_cut(&l, A, 0, 0);
    a_cut(&l, B, 0, 0);
    a_cut(&l, A, 1, 1);
    say(&l, (struct log_msg){.type = LOGM_SEAL, .items = 20});
    say(&l, (struct log_msg){.type = LOGM_OUTCOME, .shard = A, .cut = 0, .ok = false});
    const struct fold *f = l.fold;
    assert_int_equal(f->end, END_FAILED);
    assert_int_equal(f->cuts[1].state, CUT_OPEN);
    assert_int_equal(f->cuts[2].state, CUT_VOID);
    assert_int_equal(f->cuts[3].state, CUT_VOID); /* the run's */
    assert_false(fold_settled(f));
    assert_ptr_equal(fold_open_cut(f), &f->cuts[1]);
    assert_true(fold_cut_ready(f, &f->cuts[1]));
    an_outcome(&l, B, 0);
    assert_int_equal(f->cuts[1].state, CUT_DONE);
    assert_int_equal(f->end, END_FAILED);
    assert_true(fold_settled(f));
    fold_free(l.fold);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_cut_waits_for_its_own_shards_and_for_the_runs),
        cmocka_unit_test(a_shard_knows_its_loads_that_are_in_no_cut),
        cmocka_unit_test(what_no_shards_cut_took_is_the_last_ones),
        cmocka_unit_test(an_increment_that_fails_says_nothing_of_other_shards),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
