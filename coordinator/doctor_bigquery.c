#include "coordinator/doctor.h"

#include "common/base/units.h"
#include "common/bq/dry_run.h"
#include "common/bq/sql.h"

/* Whether BigQuery is there, takes the credentials, lets the project run jobs, and has our time. */

#define ANSWER_WAIT_MS 60000 /* longest wait for one answer of a BigQuery that has answered before */
#define SKEW_WARN_MS 60000   /* more between our clock and BigQuery's is worth a warning */
#define SKEW_FAIL_MS 300000  /* and more than that makes signed credentials void */

void doctor_answered(void *arg, const struct bq_answer *a)
{
    struct doctor_answer *answer = arg;
    struct doctor *d = answer->doctor;
    answer->done = true;
    answer->err = a->err ? *a->err : ERROR_INIT;
    answer->status = a->status;
    answer->doc = a->doc ? doc_ref((doc *)(uintptr_t)a->doc) : NULL;
    int64_t theirs = a->http ? http_date_ms(a->http) : 0;
    if (theirs > 0) {
        d->skew_ms = loop_wall_ms(d->bigquery.world.loop) - theirs;
        d->skew_known = true;
    }
}

static bool is_done(void *arg)
{
    return ((struct doctor_answer *)arg)->done;
}

bool doctor_wait(struct doctor_answer *answer, struct bq_call *call)
{
    if (loop_until(answer->doctor->bigquery.world.loop, is_done, answer, ANSWER_WAIT_MS * US_PER_MS))
        return answer->err.kind == ERR_NONE;
    bq_call_cancel(call);
    error_set(&answer->err, ERR_FATAL, 0, "no answer from BigQuery within %d s", ANSWER_WAIT_MS / 1000);
    return false;
}

static bool about_credentials(const struct error *err)
{
    return strcmp(err->reason, "credentials") == 0 || err->code == 401;
}

enum verdict doctor_reach(struct doctor *d)
{
    struct error *err = &d->bigquery_error;
    if (d->spec != NULL && d->spec->write.mode == WRITE_NONE && !spec_reads_bigquery(d->spec))
        return doctor_say(d, CHECK_SKIPPED, "the spec needs no BigQuery");
    if (setup_open(&d->bigquery, d->env, SETUP_BIGQUERY, d->spec, err) == 0)
        return doctor_say(d, CHECK_OK, "%s answers; jobs run in project %s", bq_base_url(d->bigquery.world.bq), bq_project(d->bigquery.world.bq));
    if (err->kind == ERR_USAGE) /* its text is advice */
        return doctor_say(d, CHECK_FAIL, "%s", err->text);
    if (about_credentials(err))
        return doctor_say(d, CHECK_SKIPPED, "it cannot be asked without credentials");
    doctor_advise(d, "check network, proxy variables and --ca-file; --bigquery-url and BIGQUERY_EMULATOR_HOST say where it is");
    return doctor_say(d, CHECK_FAIL, "%s", err->text);
}

static bool closed(struct doctor *d)
{
    if (d->bigquery.world.bq != NULL)
        return false;
    doctor_say(d, CHECK_SKIPPED, "BigQuery was not reached");
    return true;
}

enum verdict doctor_credentials(struct doctor *d)
{
    char time[32];
    if (d->bigquery.world.bq == NULL) {
        if (!about_credentials(&d->bigquery_error))
            return doctor_say(d, CHECK_SKIPPED, "BigQuery was not reached");
        doctor_advise(d, "--auth says which kind is meant; `gcloud auth application-default login`, GOOGLE_APPLICATION_CREDENTIALS=FILE or the pod's own account "
                         "give some");
        return doctor_say(d, CHECK_FAIL, "%s", d->bigquery_error.text);
    }
    struct auth *auth = d->bigquery.auth;
    int64_t lives_ms = auth_lives_ms(auth);
    if (auth_complaint(auth) != NULL) {
        doctor_advise(d, "%s", "then only you and what runs as you can use them; a mounted secret takes defaultMode: 0400");
        return doctor_say(d, CHECK_WARN, "%s; %s", auth_describe(auth), auth_complaint(auth));
    }
    if (lives_ms < 0)
        return doctor_say(d, CHECK_OK, "%s%s", auth_describe(auth), strcmp(auth_describe(auth), "anonymous") == 0 ? ": requests go without" : ", of unknown end");
    return doctor_say(d, CHECK_OK, "%s; its token was obtained and lives for %s", auth_describe(auth), units_show_ms(lives_ms, time, sizeof(time)));
}

static void on_dry(void *arg, const struct bq_dry_result *r)
{
    struct doctor_answer *answer = arg;
    answer->done = true;
    answer->err = r->err ? *r->err : ERROR_INIT;
}

enum verdict doctor_project(struct doctor *d)
{
    if (closed(d))
        return CHECK_SKIPPED;
    struct bq *bq = d->bigquery.world.bq;
    struct doctor_answer answer = {.doctor = d};
    AUTO(buf_free) struct buf sql = BUF_INIT(4096);
    sql_nothing(&sql);
    AUTO(doc_free_auto) doc *config = bq_query_config(sql.data, NULL, 0);
    if (doctor_wait(&answer, bq_dry_run(bq, config, d->env->settings->location, on_dry, &answer)))
        return doctor_say(d, CHECK_OK, "jobs may be run in %s", bq_project(bq));
    doctor_advise(d, "give the account the role BigQuery Job User (roles/bigquery.jobUser) on project %s, and have BigQuery's API enabled there", bq_project(bq));
    return doctor_say(d, CHECK_FAIL, "no job may be run in %s: %s", bq_project(bq), answer.err.text);
}

static void ask_time(struct doctor *d)
{
    struct bq *bq = d->bigquery.world.bq;
    struct doctor_answer answer = {.doctor = d};
    struct buf path = BUF_INIT(4096);
    buf_xputs(&path, "/projects/");
    http_escape(&path, bq_project(bq));
    buf_xputs(&path, "/datasets");
    struct bq_request r = {.method = "GET", .path = path.data, .query = "maxResults=1", .once = true};
    (void)doctor_wait(&answer, bq_send(bq, &r, doctor_answered, &answer)); /* an error has the time as well */
    doc_free(answer.doc);
    buf_free(&path);
}

enum verdict doctor_clock(struct doctor *d)
{
    if (closed(d))
        return CHECK_SKIPPED;
    char time[32];
    ask_time(d);
    if (!d->skew_known)
        return doctor_say(d, CHECK_SKIPPED, "the service does not say what time it has");
    int64_t off = d->skew_ms < 0 ? -d->skew_ms : d->skew_ms;
    if (off <= SKEW_WARN_MS)
        return doctor_say(d, CHECK_OK, "this clock and BigQuery's agree to %s", units_show_ms(i64_max(off, 1000), time, sizeof(time)));
    doctor_advise(d, "set this machine's clock (NTP): %s", off > SKEW_FAIL_MS ? "signed credentials are refused when it is off by more than 5 min"
                                                                             : "expiries of staging tables and times in reports are off by as much");
    return doctor_say(d, CHECK_WARN, "this clock is %s %s BigQuery's", units_show_ms(off, time, sizeof(time)), d->skew_ms > 0 ? "ahead of" : "behind");
}
