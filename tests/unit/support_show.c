#include "tests/unit/support_show.h"

struct show show;

void show_open(void **state)
{
    crew_open(&show.crew, state, 7);
    show.run = stage_record(show.crew.stage, "run-1", "batch");
    show.run->every_ms = 1000;
    tables_stage(show.crew.stage, show.run);
}

void show_publish(struct record *r)
{
    stage_publish(show.crew.stage, r);
    stage_say(show.crew.stage, r, (struct log_msg){.type = LOGM_ALIVE});
}

void show_begin(void **state)
{
    show_open(state);
    show_publish(show.run);
    crew_coordinator(&show.crew, &show.boss, show.run, TRACK_FIRST);
    sleeper_calm(show.boss.sleeper);
}

void show_finish(void **state)
{
    crew_kill(&show.crew, &show.boss);
    crew_kill(&show.crew, &show.other);
    assert_int_equal(stage_tables(show.crew.stage, "bqf_"), 0);
    assert_int_equal(stage_tables(show.crew.stage, "t_bqfleet_"), 1);
    char label[64];
    assert_string_equal(tables_label(show.crew.stage, "bqfleet_state", label, sizeof(label)), "free");
    record_free(show.run);
    crew_close(&show.crew, state);
}

static int64_t wanted;

static bool so_many_shown(void *arg)
{
    (void)arg;
    return bqmodel_count(show.crew.stage->model, STAGE_TARGET) == wanted;
}

void show_wait_rows(int64_t rows)
{
    wanted = rows;
    STAGE_WAIT(show.crew.stage, so_many_shown, NULL);
}

static bool is_done(void *arg)
{
    return track_done(((struct crewman *)arg)->track);
}

void show_wait_done(struct crewman *m)
{
    STAGE_WAIT(show.crew.stage, is_done, m);
}

/* A value that is shown under the key of an item; -1: none. */
int64_t show_value_of(int64_t item)
{
    AUTO(doc_free_auto) doc *rows = bqmodel_rows(show.crew.stage->model, STAGE_TARGET);
    char key[32];
    snprintf(key, sizeof(key), "k%" PRId64, item);
    for (size_t i = 0; i < doc_len(rows); i++)
        if (strcmp(doc_str(doc_at(rows, i), "k", ""), key) == 0)
            return doc_int(doc_at(rows, i), "v", -1);
    return -1;
}

struct record *show_second_run(enum write_mode mode)
{
    struct record *r = stage_record(show.crew.stage, "run-2", "other");
    r->every_ms = 1000;
    r->via = VIA_WORKER_TABLES;
    r->mode = mode;
    r->layout = doc_object();
    return r;
}
