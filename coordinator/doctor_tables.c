#include "coordinator/doctor.h"

#include "common/base/rnd.h"
#include "common/base/units.h"
#include "common/bq/dry_run.h"
#include "common/bq/permits.h"
#include "common/bq/sql.h"

/* The tables of a spec: the target, the dataset of staging, the permits. */

#define PROBE_LIFE_MS INT64_C(3600000) /* of a probe's table, were it not dropped */

static bool none(struct doctor *d)
{
    if (d->bigquery.world.bq == NULL)
        doctor_say(d, CHECK_SKIPPED, "BigQuery was not reached");
    else if (!d->has_target)
        doctor_say(d, CHECK_SKIPPED, d->spec == NULL ? "no spec names a table" : "the spec writes to no table");
    else
        return false;
    return true;
}

static bool get_dataset(struct doctor *d, const struct bq_ref *ref, char location[64], struct error *err)
{
    struct doctor_answer answer = {.doctor = d};
    bool there = doctor_wait(&answer, bq_dataset_get(d->bigquery.world.bq, ref->project, ref->dataset, doctor_answered, &answer));
    if (there)
        snprintf(location, 64, "%s", doc_str(answer.doc, "location", ""));
    *err = answer.err;
    doc_free(answer.doc);
    return there;
}

/* --- the target -------------------------------------------------------------------------------------------------------------------------------------- */

struct table_answer { struct doctor_answer answer; char location[64], type[32]; };

static void on_table(void *arg, struct bq_table *t, const struct error *err)
{
    struct table_answer *a = arg;
    a->answer.done = true;
    a->answer.err = err ? *err : ERROR_INIT;
    if (t == NULL)
        return;
    snprintf(a->location, sizeof(a->location), "%s", t->location);
    snprintf(a->type, sizeof(a->type), "%s", t->type);
}

static void on_dry(void *arg, const struct bq_dry_result *r)
{
    struct doctor_answer *answer = arg;
    answer->done = true;
    answer->err = r->err ? *r->err : ERROR_INIT;
    answer->status = r->known;
}

/* A dry run of a statement that would change nothing is refused where changes are. -1: what it says is something else. */
static int may_write(struct doctor *d)
{
    struct doctor_answer answer = {.doctor = d};
    AUTO(buf_free) struct buf sql = BUF_INIT(4096);
    sql_touch(&d->target, &sql);
    AUTO(doc_free_auto) doc *config = bq_query_config(sql.data, NULL, 0);
    bool well = doctor_wait(&answer, bq_dry_run(d->bigquery.world.bq, config, d->target_location, on_dry, &answer));
    return well && answer.status != 0 ? 1 : answer.err.code == 403 || strcmp(answer.err.reason, "accessDenied") == 0 ? 0 : -1;
}

enum verdict doctor_target(struct doctor *d)
{
    char name[700];
    struct error err;
    if (none(d))
        return CHECK_SKIPPED;
    bq_ref_text(&d->target, name, sizeof(name));
    if (!get_dataset(d, &d->target, d->target_location, &err)) {
        doctor_advise(d, err.code == 404 ? "make the dataset, or mend write.table" : "give the account the role BigQuery Data Editor on the dataset");
        return doctor_say(d, CHECK_FAIL, "the dataset %s.%s: %s", d->target.project, d->target.dataset, err.text);
    }
    struct table_answer a = {.answer = {.doctor = d}};
    if (!doctor_wait(&a.answer, bq_table_get(d->bigquery.world.bq, &d->target, on_table, &a))) {
        if (a.answer.err.code == 404 && d->spec->write.create != NULL)
            return doctor_say(d, CHECK_OK, "%s does not exist yet: the first run makes it (write.create)", name);
        doctor_advise(d, a.answer.err.code == 404 ? "make the table, or say in write.create what its columns are; or mend write.table"
                                                  : "give the account the role BigQuery Data Editor on the dataset");
        return doctor_say(d, CHECK_FAIL, "%s: %s", name, a.answer.err.text);
    }
    d->target_exists = true;
    if (d->spec->write.via == VIA_WORKER_TABLES && strcmp(a.type, "VIEW") == 0)
        return doctor_say(d, CHECK_OK, "%s is a view; whether it is one of bqfleet's, `plan` tells", name);
    if (d->spec->write.via == VIA_WORKER_TABLES) {
        doctor_advise(d, "name a view that does not exist yet: the first run makes it (write.create)");
        return doctor_say(d, CHECK_FAIL, "%s is a %s, and write.via: worker-tables shows its rows by a view", name, a.type);
    }
    if (strcmp(a.type, "TABLE") != 0 && a.type[0] != '\0') {
        doctor_advise(d, "only tables can be written");
        return doctor_say(d, CHECK_FAIL, "%s is no table but a %s", name, a.type);
    }
    int may = may_write(d);
    if (may == 0) {
        doctor_advise(d, "give the account the role BigQuery Data Editor (roles/bigquery.dataEditor) on the dataset");
        return doctor_say(d, CHECK_FAIL, "%s exists, but may not be changed", name);
    }
    return doctor_say(d, CHECK_OK, "%s exists%s", name, may > 0 ? ", and may be changed" : "; whether it may be changed, this service does not tell");
}

/* --- staging ------------------------------------------------------------------------------------------------------------------------------------------- */

/* Makes a table as workers do, and drops it. */
static enum verdict probe(struct doctor *d)
{
    char nonce[13], name[700];
    struct doctor_answer made = {.doctor = d}, gone = {.doctor = d};
    struct bq_ref table = d->staging;
    rnd_text(d->bigquery.world.rnd, nonce, sizeof(nonce) - 1);
    snprintf(table.table, sizeof(table.table), "bqf_doctor_%s", nonce);
    bq_ref_text(&table, name, sizeof(name));
    doc *column = doc_set_str(doc_set_str(doc_object(), "name", "probe"), "type", "STRING");
    AUTO(doc_free_auto) doc *schema = doc_set(doc_object(), "fields", doc_add(doc_array(), column));
    struct bq_table_new new = {.ref = &table, .schema = schema, .expires_ms = loop_wall_ms(d->bigquery.world.loop) + PROBE_LIFE_MS,
                               .description = "Made by bqfleet doctor --probe, to see whether that may be; goes away by itself."};
    bool well = doctor_wait(&made, bq_table_create(d->bigquery.world.bq, &new, doctor_answered, &made));
    doc_free(made.doc);
    if (!well) {
        doctor_advise(d, "give the account the role BigQuery Data Editor (roles/bigquery.dataEditor) on the dataset");
        return doctor_say(d, CHECK_FAIL, "no table can be made there: %s", made.err.text);
    }
    well = doctor_wait(&gone, bq_table_delete(d->bigquery.world.bq, &table, doctor_answered, &gone));
    doc_free(gone.doc);
    if (!well) {
        doctor_advise(d, "give the account the role BigQuery Data Editor (roles/bigquery.dataEditor) on the dataset");
        return doctor_say(d, CHECK_WARN, "%s was made, but cannot be dropped (it expires within the hour): %s", name, gone.err.text);
    }
    return doctor_say(d, CHECK_OK, "a table was made in %s.%s and dropped", d->staging.project, d->staging.dataset);
}

enum verdict doctor_staging(struct doctor *d)
{
    struct error err;
    if (none(d))
        return CHECK_SKIPPED;
    if (!get_dataset(d, &d->staging, d->staging_location, &err)) {
        doctor_advise(d, err.code == 404 ? "make the dataset, or mend write.staging" : "give the account the role BigQuery Data Editor on the dataset");
        return doctor_say(d, CHECK_FAIL, "the dataset %s.%s: %s", d->staging.project, d->staging.dataset, err.text);
    }
    if (d->target_location[0] != '\0' && strcmp(d->staging_location, d->target_location) != 0) {
        doctor_advise(d, "staging has to be where the target is: a statement cannot span locations");
        return doctor_say(d, CHECK_FAIL, "the dataset %s.%s is in location %s, the target in %s", d->staging.project, d->staging.dataset, d->staging_location,
                          d->target_location);
    }
    if (d->env->settings->probe)
        return probe(d);
    doctor_advise(d, "`bqfleet doctor --probe` makes a table there and drops it");
    return doctor_say(d, CHECK_OK, "the dataset %s.%s exists; whether tables may be made there was not tried", d->staging.project, d->staging.dataset);
}

/* --- permits ------------------------------------------------------------------------------------------------------------------------------------------- */

struct rows_answer { struct doctor_answer answer; struct permit_rows rows; };

static void on_rows(void *arg, const struct bq_answer *a)
{
    struct rows_answer *r = arg;
    r->answer.done = true;
    (void)permits_rows(a, &r->rows, &r->answer.err);
}

static enum verdict say_permits(struct doctor *d, const struct permit_rows *rows, const char *name)
{
    AUTO(buf_free) struct buf held = BUF_INIT(16 * 1024);
    int64_t now_ms = rows->server_ms > 0 ? rows->server_ms : loop_wall_ms(d->bigquery.world.loop);
    bool expired = false;
    for (size_t i = 0; i < rows->count; i++) {
        const struct permit_row *row = &rows->v[i];
        char until[32];
        if (row->expires_us == 0)
            continue;
        bool over = row->expires_us / US_PER_MS <= now_ms;
        expired |= over;
        units_show_time(row->expires_us / US_PER_MS, until, sizeof(until));
        buf_xprintf(&held, "; %d %s by %s, %s %s", row->slot, over ? "was held" : "held", row->closing ? "its last job" : row->holder, over ? "whose lease ran out at" : "until", until);
    }
    if (expired)
        doctor_advise(d, "whoever wants a permit that ran out takes it, once its job is over; nothing is to be done (`bqfleet permits list` shows them)");
    return doctor_say(d, CHECK_OK, "%zu in %s%s", rows->count, name, held.len > 0 ? held.data : ", all free");
}

enum verdict doctor_permits(struct doctor *d)
{
    if (none(d))
        return CHECK_SKIPPED;
    if (d->spec->write.via == VIA_WORKER_TABLES)
        return doctor_say(d, CHECK_SKIPPED, "with via: worker-tables none are needed: no statement changes a table that another one writes");
    if (d->spec->write.permits == 0)
        return doctor_say(d, CHECK_SKIPPED, "the spec takes none (write.permits: 0)");
    if (d->env->settings->brokers == NULL && d->spec->write.permits < 0)
        return doctor_say(d, CHECK_SKIPPED, "runs in one process take none, unless write.permits says so");
    struct bq_ref table;
    char name[700];
    permits_table(&d->target, &table);
    bq_ref_text(&table, name, sizeof(name));
    struct rows_answer a = {.answer = {.doctor = d}};
    if (!doctor_wait(&a.answer, permits_read(d->bigquery.world.bq, &table, on_rows, &a))) {
        doctor_advise(d, "the account has to read and write that table: BigQuery Data Editor on its dataset");
        return doctor_say(d, CHECK_FAIL, "%s: %s", name, a.answer.err.text);
    }
    if (a.rows.absent)
        return doctor_say(d, CHECK_OK, "none yet: the first run makes %s", name);
    return say_permits(d, &a.rows, name);
}

/* --- limits -------------------------------------------------------------------------------------------------------------------------------------------- */

/* What can be read without a cost: the staging tables that there are now. */
enum verdict doctor_limits(struct doctor *d)
{
    if (none(d))
        return CHECK_SKIPPED;
    struct doctor_answer answer = {.doctor = d};
    bool well = doctor_wait(&answer, bq_table_list(d->bigquery.world.bq, d->staging.project, d->staging.dataset, "bqf_", doctor_answered, &answer));
    size_t tables = doc_len(answer.doc);
    doc_free(answer.doc);
    if (!well) {
        doctor_advise(d, answer.err.code == 404 ? "make the dataset, or mend write.staging" : "give the account the role BigQuery Data Editor on the dataset");
        return doctor_say(d, CHECK_WARN, "the staging tables cannot be listed: %s", answer.err.text);
    }
    if (tables > LIMIT_SHARDS_PER_QUERY)
        doctor_advise(d, "tables of runs that are over are dropped by `bqfleet serve`, at its start and every hour");
    return doctor_say(d, tables > LIMIT_SHARDS_PER_QUERY ? CHECK_WARN : CHECK_OK, "%zu staging tables are in %s.%s now; BigQuery reads up to 1,000 in one statement", tables,
                      d->staging.project, d->staging.dataset);
}
