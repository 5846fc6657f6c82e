#include "common/base/log.h"
#include "common/base/units.h"
#include "common/bq/job_internal.h"

/* What a job waits for: that it may be worth asking, that it may be tried again, that a quota is over. */

#define POLL_FIRST_MS 250
#define POLL_LEAST_MS 100
#define POLL_LAST_MS 10000

static const struct retry_policy try_policy = {.base_ms = 1000, .cap_ms = 60000};

void job_waited(void *arg)
{
    struct bq_job *j = arg;
    job_enter(j, j->after_wait);
}

/* Of a load nothing can be awaited at the server. How long the last ones took says when it is worth asking. */
static int64_t poll_delay_ms(struct bq_job *j)
{
    int64_t usual_ms = j->is_query ? 0 : bq_root(j->bq)->usual_load_ms, now_ms = loop_now_ms(j->bq->loop);
    if (j->waits_since_ms < 0)
        j->waits_since_ms = now_ms;
    int64_t since_ms = now_ms - j->waits_since_ms, ms = usual_ms > 0 ? i64_max(usual_ms / 10, POLL_LEAST_MS) : POLL_FIRST_MS;
    if (since_ms < usual_ms * 3 / 4)
        return i64_min(usual_ms * 3 / 4 - since_ms, POLL_LAST_MS); /* one that took an hour says little of the next */
    for (int i = 0; i < j->polls && ms < POLL_LAST_MS; i++)
        ms += ms / 4;
    if (since_ms >= usual_ms * 3 / 2) /* it takes longer than usual: who knows how long */
        j->polls++;
    return i64_min(ms, POLL_LAST_MS);
}

void job_note_load(struct bq *bq, const doc *job)
{
    int64_t ms = doc_int(job, "statistics.endTime", 0) - doc_int(job, "statistics.creationTime", INT64_MAX);
    if (ms > 0)
        bq->usual_load_ms = bq->usual_load_ms > 0 ? (3 * bq->usual_load_ms + ms) / 4 : ms;
}

void job_wait_poll(struct bq_job *j, enum step then)
{
    int64_t ms = poll_delay_ms(j);
    j->after_wait = then;
    job_enter(j, STEP_WAIT_POLL);
    timer_set(j->timer, (int64_t)((double)ms * (0.75 + rnd_real(j->bq->rnd) / 2) * (double)US_PER_MS)); /* so that a fleet does not poll in step */
}

static struct quota_claim claim(const struct bq_job *j)
{
    return (struct quota_claim){.load = !j->is_query, .table = j->table, .project = j->bq->project};
}

void job_wait_retry(struct bq_job *j, int failures, const struct error *err)
{
    j->why = *err;
    j->after_wait = STEP_INSERT;
    int64_t ms = retry_delay(&try_policy, failures, 0, err, rnd_real(j->bq->rnd));
    char until[32];
    units_show_time(loop_wall_ms(j->bq->loop) + ms, until, sizeof(until));
    snprintf(j->wait_text, sizeof(j->wait_text), "waiting for a retry until %.24s", until);
    job_enter(j, STEP_WAIT_RETRY);
    log_line(LOG_INFO, &(struct log_ctx){.job = j->job_id}, "%s; tried again at %s", err->text, until);
    timer_set(j->timer, i64_max(ms, 0) * US_PER_MS);
}

bool job_wait_parked(struct bq_job *j)
{
    struct quota_claim c = claim(j);
    int64_t ms = j->only_gives_up ? 0 : quotas_wait_ms(j->bq->quotas, &c);
    if (ms == 0)
        return false;
    char until[32];
    units_show_time(loop_wall_ms(j->bq->loop) + ms, until, sizeof(until));
    snprintf(j->wait_text, sizeof(j->wait_text), "waiting for a quota until %.24s (%.200s)", until, quotas_text(j->bq->quotas, &c));
    j->after_wait = STEP_INSERT;
    job_enter(j, STEP_WAIT_RETRY);
    timer_set(j->timer, ms * US_PER_MS);
    return true;
}

void job_refused(struct bq_job *j, const struct error *err, const struct failure_row *row)
{
    struct quota_claim c = claim(j);
    quotas_park(j->bq->quotas, &c, row, err->text);
}

void job_let_through(struct bq_job *j)
{
    struct quota_claim c = claim(j);
    if (!j->only_gives_up)
        quotas_passed(j->bq->quotas, &c);
}
