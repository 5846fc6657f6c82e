#include "tests/unit/support_direct.h"

struct crew crew;
struct crewman boss, worker, other;
int64_t wanted;

void direct_begin(void **state, struct record *r)
{
    crew.record = r;
    (void)state;
    stage_publish(crew.stage, r);
    stage_say(crew.stage, r, (struct log_msg){.type = LOGM_ALIVE});
    crew_coordinator(&crew, &boss, r, TRACK_SECOND);
    sleeper_calm(boss.sleeper);
}

struct record *direct_open(void **state)
{
    crew_open(&crew, state, 5);
    return crew_record(&crew, "run-1");
}

void direct_hire(struct crewman *m, const char *name)
{
    crew_worker(&crew, m, name);
    sleeper_calm(m->sleeper);
}

const struct fold *direct_fold(void)
{
    return track_fold(boss.track);
}

void direct_end(void **state)
{
    crew_check(&crew, crew.record, direct_fold(), "at the end");
    crew_kill(&crew, &worker);
    crew_kill(&crew, &other);
    crew_kill(&crew, &boss);
    record_free(crew.record);
    crew_close(&crew, state);
}

/* --- conditions -------------------------------------------------------------------------------------------------------------------------------- */

bool so_many_are_done(void *arg)
{
    (void)arg;
    return direct_fold()->done >= wanted;
}

bool nothing_waits(void *arg)
{
    (void)arg;
    return direct_fold()->load_count > 0 && !fold_has_uncut(direct_fold()) && fold_open_cut(direct_fold()) == NULL;
}

bool so_many_written(void *arg)
{
    (void)arg;
    return bqmodel_count(crew.stage->model, STAGE_TARGET) >= wanted;
}

bool a_cut_stands(void *arg)
{
    (void)arg;
    return fold_open_cut(direct_fold()) != NULL && fold_open_cut(direct_fold())->shard >= 0;
}

bool its_job_is_there(void *arg)
{
    (void)arg;
    AUTO(doc_free_auto) doc *jobs = bqmodel_jobs(crew.stage->model);
    for (size_t i = 0; i < doc_len(jobs); i++)
        if (strncmp(doc_str(doc_at(jobs, i), "jobReference.jobId", ""), "bqfleet_direct_", 15) == 0)
            return true;
    return false;
}

bool is_settled(void *arg)
{
    (void)arg;
    return fold_settled(direct_fold());
}

bool is_done(void *arg)
{
    (void)arg;
    return track_done(boss.track);
}

bool is_held(void *arg)
{
    (void)arg;
    return direct_fold()->phase == RUN_HELD;
}

void direct_wait_done(int64_t items)
{
    wanted = items;
    STAGE_WAIT(crew.stage, so_many_are_done, NULL);
}

void direct_seal(int64_t items)
{
    stage_seal(crew.stage, crew.record, items);
    DIRECT_WAIT(is_done);
}

void direct_work_one(int64_t item)
{
    crew_items(&crew, crew.record, item, 1);
    direct_wait_done(item + 1);
    DIRECT_WAIT(nothing_waits);
}

int64_t direct_now_ms(void)
{
    return loop_now_us(crew.stage->loop) / US_PER_MS;
}

void direct_all_items_are_there_once(int64_t items)
{
    static struct crew_written w;
    assert_int_equal(fold_exit_code(direct_fold()), EXIT_WRITTEN);
    crew_by_table(&crew, &w);
    assert_int_equal(w.total, items);
    for (int64_t i = 0; i < items; i++)
        assert_int_equal(w.per_item[i], 1);
}
