#include "tests/unit/support_bqjob.h"

static void on_inserted(void *arg, const char *job_id)
{
    (void)job_id;
    ((struct outcome *)arg)->announced++;
}

static void on_end(void *arg, const struct bq_job_result *r)
{
    struct outcome *o = arg;
    assert_false(o->over);
    o->over = true;
    o->failed = r->err != NULL;
    if (r->err)
        o->err = *r->err;
    o->decided = r->decided;
    o->tries = r->tries;
    snprintf(o->job_id, sizeof(o->job_id), "%s", r->job_id);
    o->rows = r->output_rows;
    o->inserted = r->inserted;
    o->updated = r->updated;
    o->deleted = r->deleted;
    o->affected = r->affected;
    o->billed = r->bytes_billed;
    o->ended_ms = r->ended_ms;
}

struct bq_job *job_start(struct script *s, int how, struct outcome *o)
{
    static const struct bq_label labels[] = {{"bqfleet_run", "r1"}};
    static const struct bq_ref table = {"p", "d", "t"};
    AUTO(doc_free_auto) doc *config = how & LOAD ? bq_load_config(&table) : bq_query_config("MERGE", NULL, 0);
    struct bq_job_spec spec = {
        .id_base = "b", .location = how & NOWHERE ? NULL : "EU", .configuration = config, .labels = labels, .label_count = 1, .digest = "d1",
        .not_before_ms = 1700000000000, .max_tries = how & TWO_TRIES ? 2 : 0,
        .patient = (how & PATIENT) != 0, .give_up_by_job = (how & GIVES_UP) != 0, .on_inserted = on_inserted,
    };
    return bq_job_start(s->bq, &spec, on_end, o);
}

struct outcome job_play(struct script *s, int how)
{
    struct outcome o = {0};
    job_start(s, how, &o);
    assert_false(o.over); /* never from inside */
    script_run(s, &o.over);
    script_end(s);
    return o;
}
