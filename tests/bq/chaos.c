#include "tests/bq/internal.h"

#include "common/bq/auth.h"

/* Faults by seed: which kind strikes, and how hard. One draw decides for each request, job and chunk, so that the rates add up. */

#define SLOW_MS 200      /* of a reply, mostly */
#define LONG_MS 1000     /* of a job, mostly */
#define TAIL 100         /* times as long at the worst */
#define PEACE_US (60 * US_PER_S)

enum stage { STAGE_REQUEST, STAGE_JOB_ERROR, STAGE_JOB_PENDING, STAGE_JOB_SLOW, STAGE_CHUNK };
static const struct { const char *name; enum stage stage; bool deadly; } kinds[BQMODEL_CHAOS_KINDS] = {
    [BQMODEL_CHAOS_LOSE_REPLY] = {"lose_reply", STAGE_REQUEST, false},   [BQMODEL_CHAOS_DROP_BEFORE] = {"drop_before", STAGE_REQUEST, false},
    [BQMODEL_CHAOS_CUT_REPLY] = {"cut_reply", STAGE_REQUEST, false},     [BQMODEL_CHAOS_SLOW_REPLY] = {"slow_reply", STAGE_REQUEST, false},
    [BQMODEL_CHAOS_TOO_MANY] = {"too_many", STAGE_REQUEST, false},       [BQMODEL_CHAOS_RATE_LIMIT] = {"rate_limit", STAGE_REQUEST, false},
    [BQMODEL_CHAOS_5XX_HTML] = {"5xx_html", STAGE_REQUEST, false},       [BQMODEL_CHAOS_5XX_JSON] = {"5xx_json", STAGE_REQUEST, false},
    [BQMODEL_CHAOS_TOKEN] = {"token", STAGE_REQUEST, false},             [BQMODEL_CHAOS_DENIED] = {"denied", STAGE_REQUEST, true},
    [BQMODEL_CHAOS_JOB_BACKEND] = {"job_backend", STAGE_JOB_ERROR, false}, [BQMODEL_CHAOS_JOB_CONFLICT] = {"job_conflict", STAGE_JOB_ERROR, false},
    [BQMODEL_CHAOS_JOB_QUOTA] = {"job_quota", STAGE_JOB_ERROR, true},    [BQMODEL_CHAOS_JOB_PENDING] = {"job_pending", STAGE_JOB_PENDING, false},
    [BQMODEL_CHAOS_JOB_SLOW] = {"job_slow", STAGE_JOB_SLOW, false},      [BQMODEL_CHAOS_KEEP_FEWER] = {"keep_fewer", STAGE_CHUNK, false},
    [BQMODEL_CHAOS_CUT_CHUNK] = {"cut_chunk", STAGE_CHUNK, false},       [BQMODEL_CHAOS_SESSION_GONE] = {"session_gone", STAGE_CHUNK, false},
};

void bqmodel_chaos_all(struct bqmodel_chaos *c, struct rnd *rnd, int per_mille)
{
    *c = (struct bqmodel_chaos){.rnd = rnd};
    for (size_t i = 0; i < BQMODEL_CHAOS_KINDS; i++)
        c->per_mille[i] = kinds[i].deadly ? 0 : per_mille;
}

const char *bqmodel_chaos_name(enum bqmodel_chaos_kind kind)
{
    return kinds[kind].name;
}

/* The kind that strikes now, or BQMODEL_CHAOS_KINDS. */
static enum bqmodel_chaos_kind draw(struct bqmodel *m, enum stage stage)
{
    const struct bqmodel_chaos *c = &m->o.chaos;
    if (c->rnd == NULL || (c->until_us > 0 && loop_now_us(m->loop) >= c->until_us))
        return BQMODEL_CHAOS_KINDS;
    int64_t at = (int64_t)rnd_below(c->rnd, 1000);
    for (size_t i = 0; i < BQMODEL_CHAOS_KINDS; i++) {
        if (kinds[i].stage != stage)
            continue;
        at -= c->per_mille[i];
        if (at < 0)
            return (enum bqmodel_chaos_kind)i;
    }
    return BQMODEL_CHAOS_KINDS;
}

static void count(struct bqmodel *m, enum bqmodel_chaos_kind kind)
{
    m->counters.chaos[kind]++;
    m->counters.faults++;
}

static bool coin(struct bqmodel *m)
{
    return rnd_below(m->o.chaos.rnd, 2) == 1;
}

/* Mostly about `ms`; one in ten ten times, one in a hundred a hundred times as long, and never longer. */
static int64_t heavy_tail_ms(struct bqmodel *m, int64_t ms)
{
    double tail = 1 / (1 - rnd_real(m->o.chaos.rnd)), spread = 0.5 + rnd_real(m->o.chaos.rnd);
    return (int64_t)((double)ms * (tail < TAIL ? tail : TAIL) * spread);
}

/* --- requests -------------------------------------------------------------------------------------------------------------------------------- */

/* A client that sends what it was refused with once more gives up when that is refused, too: hence the peace. */
static bool token_may_be_struck(struct bqmodel *m, const struct mrequest *r)
{
    uint64_t stamp = auth_stamp(r->header(r, "Authorization"));
    int64_t now = loop_now_us(m->loop);
    struct peace *p = NULL;
    HASH_FIND(hh, m->peace, &stamp, sizeof(stamp), p);
    if (p == NULL) {
        p = xcalloc(1, sizeof(*p));
        p->stamp = stamp;
        HASH_ADD(hh, m->peace, stamp, sizeof(p->stamp), p);
    } else if (now < p->until_us) {
        return false;
    }
    p->until_us = now + PEACE_US;
    return true;
}

void chaos_free(struct bqmodel *m)
{
    struct peace *p, *next;
    HASH_ITER(hh, m->peace, p, next)
    {
        HASH_DEL(m->peace, p);
        free(p);
    }
}

static struct bqmodel_fault http_error(struct bqmodel *m, bool html)
{
    static const struct { int status; const char *reason, *message, *page; } errors[] = {
        {500, "internalError", "An internal error occurred and the request could not be completed. Error: 2001", "<html><title>Error 500 (Server Error)</title></html>"},
        {502, "badGateway", "Bad gateway", "<!DOCTYPE html><html lang=en><title>Error 502 (Server Error)!!1</title><p>That's an error.</html>"},
        {503, "backendError", "Error encountered during execution. Retrying may solve the problem.", "<html><body>Service Unavailable</body></html>"},
        {504, "backendError", "Deadline exceeded", "<html><head><title>504 Gateway Timeout</title></head></html>"},
    };
    size_t i = (size_t)rnd_below(m->o.chaos.rnd, ARRAY_LEN(errors));
    return (struct bqmodel_fault){.kind = BQMODEL_STATUS, .status = errors[i].status, .reason = errors[i].reason, .message = errors[i].message,
                                  .body = html ? errors[i].page : NULL, .executed = coin(m)};
}

static struct bqmodel_fault request_fault(struct bqmodel *m, enum bqmodel_chaos_kind kind)
{
    const struct bqmodel_chaos *c = &m->o.chaos;
    switch (kind) {
    case BQMODEL_CHAOS_LOSE_REPLY: return (struct bqmodel_fault){.kind = BQMODEL_LOSE_REPLY};
    case BQMODEL_CHAOS_DROP_BEFORE: return (struct bqmodel_fault){.kind = BQMODEL_DROP_BEFORE};
    case BQMODEL_CHAOS_CUT_REPLY: return (struct bqmodel_fault){.kind = coin(m) ? BQMODEL_CUT_REPLY : BQMODEL_CUT_BODY};
    case BQMODEL_CHAOS_SLOW_REPLY: return (struct bqmodel_fault){.kind = BQMODEL_DELAY, .ms = heavy_tail_ms(m, c->slow_ms ? c->slow_ms : SLOW_MS)};
    case BQMODEL_CHAOS_TOO_MANY:
        return (struct bqmodel_fault){.kind = BQMODEL_STATUS, .status = 429, .reason = "rateLimitExceeded", .message = "Too many requests", .retry_after_s = coin(m)};
    case BQMODEL_CHAOS_RATE_LIMIT:
        return (struct bqmodel_fault){.kind = BQMODEL_STATUS, .status = 403, .reason = "rateLimitExceeded",
                                      .message = "Exceeded rate limits: too many api requests per user per method for this user_method. "
                                                 "For more information, see https://cloud.google.com/bigquery/docs/troubleshoot-quotas"};
    case BQMODEL_CHAOS_TOKEN:
        return (struct bqmodel_fault){.kind = BQMODEL_STATUS, .status = 401, .reason = "authError",
                                      .message = "Request had invalid authentication credentials. Expected OAuth 2 access token, login cookie or "
                                                 "other valid authentication credential."};
    case BQMODEL_CHAOS_DENIED:
        return (struct bqmodel_fault){.kind = BQMODEL_STATUS, .status = 403, .reason = "accessDenied", .message = "Access Denied: User does not have permission"};
    default: return http_error(m, kind == BQMODEL_CHAOS_5XX_HTML);
    }
}

const struct bqmodel_fault *chaos_request(struct bqmodel *m, const struct mrequest *r)
{
    enum bqmodel_chaos_kind kind = draw(m, STAGE_REQUEST);
    if (kind == BQMODEL_CHAOS_KINDS || (kind == BQMODEL_CHAOS_TOKEN && !token_may_be_struck(m, r)))
        return NULL;
    count(m, kind);
    m->chaos_fault = request_fault(m, kind);
    return &m->chaos_fault;
}

/* --- jobs ------------------------------------------------------------------------------------------------------------------------------------ */

static void job_error(struct mjob *j)
{
    static const struct { const char *reason, *message; } errors[] = {
        {"backendError", "Error encountered during execution. Retrying may solve the problem."},
        {"jobBackendError", "The job encountered an internal error during execution and was unable to complete successfully."},
        {"jobInternalError", "The job encountered an internal error during execution and was unable to complete successfully."},
        {"jobRateLimitExceeded", "Job exceeded rate limits: Your table exceeded quota for table update operations. "
                                 "For more information, see https://cloud.google.com/bigquery/docs/troubleshoot-quotas"},
    };
    struct bqmodel *m = j->model;
    enum bqmodel_chaos_kind kind = draw(m, STAGE_JOB_ERROR);
    if (kind == BQMODEL_CHAOS_KINDS || (kind == BQMODEL_CHAOS_JOB_CONFLICT && !job_mutates(j)))
        return;
    count(m, kind);
    size_t i = (size_t)rnd_below(m->o.chaos.rnd, ARRAY_LEN(errors));
    if (kind == BQMODEL_CHAOS_JOB_CONFLICT)
        error_set(&j->planned, ERR_TASK, 0, "Could not serialize access to table %s:%s.%s due to concurrent update", j->target.project, j->target.dataset,
                  j->target.table);
    else
        error_set(&j->planned, ERR_TASK, 0, "%s", kind == BQMODEL_CHAOS_JOB_QUOTA ? "Quota exceeded: Your project exceeded quota." : errors[i].message);
    error_reason(&j->planned, kind == BQMODEL_CHAOS_JOB_CONFLICT ? "invalidQuery" : kind == BQMODEL_CHAOS_JOB_QUOTA ? "quotaExceeded" : errors[i].reason);
}

void chaos_job(struct mjob *j, int64_t *pending_ms)
{
    struct bqmodel *m = j->model;
    int64_t long_ms = m->o.chaos.long_ms ? m->o.chaos.long_ms : LONG_MS;
    if (j->planned.kind == ERR_NONE)
        job_error(j);
    if (draw(m, STAGE_JOB_PENDING) == BQMODEL_CHAOS_JOB_PENDING) {
        count(m, BQMODEL_CHAOS_JOB_PENDING);
        *pending_ms += heavy_tail_ms(m, long_ms);
    }
    if (draw(m, STAGE_JOB_SLOW) == BQMODEL_CHAOS_JOB_SLOW) {
        count(m, BQMODEL_CHAOS_JOB_SLOW);
        j->slower_ms += heavy_tail_ms(m, long_ms);
    }
}

/* --- chunks ---------------------------------------------------------------------------------------------------------------------------------- */

const struct bqmodel_fault *chaos_chunk(struct bqmodel *m, int64_t len)
{
    enum bqmodel_chaos_kind kind = draw(m, STAGE_CHUNK);
    if (kind == BQMODEL_CHAOS_KINDS || (len == 0 && kind != BQMODEL_CHAOS_SESSION_GONE)) /* one that only asks */
        return NULL;
    count(m, kind);
    if (kind == BQMODEL_CHAOS_SESSION_GONE) {
        bool dead = coin(m); /* else expired */
        m->chaos_fault = (struct bqmodel_fault){.kind = BQMODEL_SESSION_GONE, .status = dead ? 410 : 404, .executed = coin(m)};
    } else {
        m->chaos_fault = (struct bqmodel_fault){.kind = kind == BQMODEL_CHAOS_KEEP_FEWER ? BQMODEL_KEEP_FEWER : BQMODEL_CUT_CHUNK,
                                                .bytes = (int64_t)rnd_below(m->o.chaos.rnd, (uint64_t)len + 1)};
    }
    return &m->chaos_fault;
}

/* --- as text --------------------------------------------------------------------------------------------------------------------------------- */

static int read_rate(struct bqmodel_chaos *c, const char *name, const doc *value, struct error *err)
{
    double rate = doc_real(value, NULL, -1);
    if (!(rate >= 0 && rate <= 1))
        return error_set(err, ERR_USAGE, 0, "chaos: %s is a rate from 0 to 1", name);
    for (size_t i = 0; i < BQMODEL_CHAOS_KINDS; i++)
        if (strcmp(kinds[i].name, name) == 0) {
            c->per_mille[i] = (int)(rate * 1000 + 0.5);
            return 0;
        }
    return error_set(err, ERR_USAGE, 0, "there is no chaos of kind \"%s\"", name);
}

int bqmodel_chaos_doc(struct bqmodel *m, const doc *d, struct error *err)
{
    static const char *const others[] = {"all", "seed", "for_ms", "slow_ms", "long_ms"};
    struct bqmodel_chaos c;
    bqmodel_chaos_all(&c, &m->chaos_rnd, (int)(doc_real(d, "all", 0) * 1000 + 0.5));
    c.slow_ms = doc_int(d, "slow_ms", 0);
    c.long_ms = doc_int(d, "long_ms", 0);
    int64_t for_ms = doc_int(d, "for_ms", 0), sums[STAGE_CHUNK + 1] = {0};
    c.until_us = for_ms > 0 ? loop_now_us(m->loop) + for_ms * US_PER_MS : 0;
    for (void *it = doc_first(d); it; it = doc_next(d, it)) {
        bool other = false;
        for (size_t i = 0; i < ARRAY_LEN(others); i++)
            other |= strcmp(others[i], doc_key(it)) == 0;
        if (!other && read_rate(&c, doc_key(it), doc_value(it), err))
            return -1;
    }
    for (size_t i = 0; i < BQMODEL_CHAOS_KINDS; i++)
        if ((sums[kinds[i].stage] += c.per_mille[i]) > 900)
            return error_set(err, ERR_USAGE, 0, "chaos: nothing would come through; the rates of one stage may add up to 0.9");
    rnd_seeded(&m->chaos_rnd, (uint64_t)doc_int(d, "seed", 1));
    m->o.chaos = c;
    return 0;
}
