#include "common/bq/permits_internal.h"

#include "common/base/log.h"

void permits_lost(struct permits *p)
{
    log_line(LOG_INFO, &(struct log_ctx){.job = p->named}, "the permit in slot %d of %s is lost", p->slot, p->o.table.table);
    p->held = false;
    p->ahead = NULL;
    timer_stop(p->renew);
}

static void renew_later(struct permits *p)
{
    timer_set(p->renew, p->o.lease_ms / 3 * US_PER_MS);
}

static void statement_ended(struct permits *p, const struct bq_job_result *r)
{
    p->job = NULL;
    p->unheard |= permits_unheard(r);
}

/* The answer to a statement about a permit that we hold. False: it is not told, or not ours any more; what follows was arranged. */
static bool kept(struct permits *p, const struct bq_job_result *r)
{
    statement_ended(p, r);
    if (r->err != NULL && r->decided && r->err->kind != ERR_RETRY && r->err->kind != ERR_QUOTA) {
        permits_lost(p); /* it runs out by itself */
        permits_refuse_all(p, r->err);
        return false;
    }
    if (r->err != NULL) {
        p->unsure = true;
        p->held = false;
        permits_troubled(p, r->err);
        return false;
    }
    p->failures = 0;
    p->trouble[0] = '\0';
    if (permits_changed_one(r))
        return true;
    permits_lost(p);
    p->step = REST;
    permits_next(p);
    return false;
}

static void keep(struct permits *p, const char *purpose, const char *word, bq_job_cb *cb)
{
    struct permit_change change = {.slot = p->slot, .token = p->token, .job = p->named, .purpose = purpose, .lease_ms = p->o.lease_ms};
    permits_start(p, PERMIT_KEEP, &change, word, p->token, p->seq++, 0, cb);
}

static void on_ahead(void *arg, const struct bq_job_result *r)
{
    struct permits *p = arg;
    statement_ended(p, r);
    if (r->err == NULL && !permits_changed_one(r))
        permits_lost(p);
    p->ahead_named = p->ahead != NULL && r->err == NULL;
    if (!p->ahead_named)
        p->ahead = NULL;
    if (p->held)
        renew_later(p);
    if (p->step == REST)
        permits_next(p);
    else
        permits_close(p);
}

/* An error: it may be closed or not, and is released as if it were not. Who finds it taken has lost nothing: the guarded job checks the token. */
static void on_closed(void *arg, const struct bq_job_result *r)
{
    struct permits *p = arg;
    statement_ended(p, r);
    p->closing = OPEN;
    if (r->err == NULL && !permits_changed_one(r))
        permits_lost(p);
    else if (r->err == NULL)
        p->closing = CLOSED;
    if (p->step == USE && p->held)
        renew_later(p);
    if (p->step != REST)
        return;
    p->held = p->held && p->closing != CLOSED;
    if (p->closing == CLOSED && !TAILQ_EMPTY(&p->wishes))
        permits_wait(p, LOOK_MOST_MS / 2); /* others have waited for it */
    else
        permits_next(p);
}

/* The quantum is over, no other job is named beside the one that BigQuery has: that one is the last. */
void permits_close(struct permits *p)
{
    if (p->step != USE || !p->at_work || !p->held || p->job != NULL || p->ahead != NULL || p->closing != OPEN || !permits_over(p))
        return;
    p->closing = CLOSING;
    snprintf(p->last_token, sizeof(p->last_token), "%s", p->token);
    snprintf(p->named, sizeof(p->named), "%s", p->used->job);
    struct permit_change change = {.slot = p->slot, .token = p->token, .job = p->named, .purpose = p->used->purpose, .lease_ms = p->o.lease_ms};
    permits_start(p, PERMIT_CLOSE, &change, "close", p->token, p->seq++, 0, on_closed);
}

/* While one job is at work the row gets the next one's name beside it, so that no statement lies between the two. */
void permits_name_ahead(struct permits *p)
{
    struct permit_use *u = TAILQ_FIRST(&p->wishes);
    if (u == NULL || p->ahead != NULL || p->job != NULL || !p->held || p->used == NULL || p->closing != OPEN || permits_over(p))
        return;
    p->ahead = u;
    p->ahead_named = false;
    snprintf(p->named, sizeof(p->named), "%s %s", p->used->job, u->job);
    keep(p, p->used->purpose, "ahead", on_ahead);
}

void permits_give(struct permits *p, struct permit_use *u)
{
    TAILQ_REMOVE(&p->wishes, u, link);
    u->list = NULL;
    p->used = u;
    p->ahead = NULL;
    p->at_work = false;
    p->closing = OPEN;
    p->step = USE;
    p->grant = (struct permit_grant){.slot = p->slot, .token = p->token};
    renew_later(p);
    permits_name_ahead(p);
    u->cb(u->arg, &p->grant, NULL);
}

static void on_named(void *arg, const struct bq_job_result *r)
{
    struct permits *p = arg;
    if (!kept(p, r))
        return;
    struct permit_use *u = TAILQ_FIRST(&p->wishes);
    p->step = REST;
    if (u != NULL && strcmp(u->job, p->named) == 0)
        permits_give(p, u);
    else
        permits_next(p);
}

void permits_name(struct permits *p)
{
    const struct permit_use *u = TAILQ_FIRST(&p->wishes);
    p->step = NAME;
    timer_stop(p->renew);
    snprintf(p->named, sizeof(p->named), "%s", u->job);
    keep(p, u->purpose, "name", on_named);
}

static void on_renewed(void *arg, const struct bq_job_result *r)
{
    struct permits *p = arg;
    statement_ended(p, r);
    bool bad = r->err != NULL || !permits_changed_one(r);
    if (r->err == NULL && bad)
        permits_lost(p);
    else if (p->held)
        renew_later(p); /* with an error, too: the fence knows whether it is still ours */
    if (p->step == SETTLE && bad && !p->held) {
        bq_call_cancel(p->call);
        p->call = NULL;
        timer_stop(p->timer);
        p->step = REST;
    }
    if (p->step == REST)
        permits_next(p);
    else
        permits_close(p);
}

void permits_renew(void *arg)
{
    struct permits *p = arg;
    if (p->job == NULL && p->held && (p->step == USE || p->step == SETTLE))
        keep(p, p->used ? p->used->purpose : "waits for the last holder's job", "renew", on_renewed);
}

static void on_released(void *arg, const struct bq_job_result *r)
{
    struct permits *p = arg;
    p->job = NULL;
    if (r->err != NULL) /* it runs out by itself */
        log_warn("a permit of %s could not be released: %s", p->o.table.table, r->err->text);
    p->held = false;
    p->step = REST;
    if (TAILQ_EMPTY(&p->wishes))
        permits_next(p);
    else
        permits_wait(p, LOOK_MOST_MS / 2); /* others have waited for it */
}

void permits_release(struct permits *p)
{
    p->step = RELEASE;
    timer_stop(p->renew);
    snprintf(p->last_token, sizeof(p->last_token), "%s", p->token);
    struct permit_change change = {.slot = p->slot, .token = p->token};
    permits_start(p, PERMIT_RELEASE, &change, "release", p->token, -1, 0, on_released);
}

/* --- the last holder's jobs ------------------------------------------------------------------------------------------------------------------ */

static void settled(struct permits *p)
{
    bq_free(p->orphan_bq);
    p->orphan_bq = NULL;
    p->orphan_try = 0;
    const char *rest = strchr(p->orphan, ' ');
    if (rest != NULL) {
        memmove(p->orphan, rest + 1, strlen(rest + 1) + 1);
        permits_settle(p);
        return;
    }
    p->orphan[0] = '\0';
    p->step = REST;
    permits_next(p);
}

static void on_orphan(void *arg, const struct bq_answer *a)
{
    struct permits *p = arg;
    p->call = NULL;
    if (a->err == NULL && a->doc == NULL) { /* no such try, and none after it: whoever inserts one now has no token */
        settled(p);
    } else if (a->err == NULL && strcmp(doc_str(a->doc, "status.state", ""), "DONE") == 0) {
        p->orphan_try++;
        permits_settle(p);
    } else {
        snprintf(p->trouble, sizeof(p->trouble), "%.250s", a->err ? a->err->text : "");
        timer_set(p->timer, SETTLE_EVERY_MS * US_PER_MS);
    }
}

/* The first of them: "PROJECT/LOCATION/BASE", perhaps with others behind a space. */
bool permits_ask_orphan(struct permits *p, bq_cb *cb)
{
    char project[128] = "", location[64] = "";
    size_t len = strcspn(p->orphan, " ");
    AUTO(free_ptr) char *first = xstrndup(p->orphan, len);
    char *slash = strchr(first, '/'), *second = slash ? strchr(slash + 1, '/') : NULL;
    if (second == NULL || slash - first >= (ptrdiff_t)sizeof(project) || second - slash > (ptrdiff_t)sizeof(location))
        return false;
    memcpy(project, first, (size_t)(slash - first));
    memcpy(location, slash + 1, (size_t)(second - slash - 1));
    AUTO(free_ptr) char *id = xasprintf("%s_t%d", second + 1, p->orphan_try);
    if (p->orphan_bq != NULL && strcmp(bq_project(p->orphan_bq), project) != 0) { /* another row's job was asked for before */
        bq_free(p->orphan_bq);
        p->orphan_bq = NULL;
    }
    if (p->orphan_bq == NULL)
        p->orphan_bq = bq_new_for(p->o.bq, project);
    p->call = bq_job_get(p->orphan_bq, id, location[0] ? location : NULL, cb, p);
    return true;
}

void permits_settle(struct permits *p)
{
    p->step = SETTLE;
    if (!permits_ask_orphan(p, on_orphan))
        settled(p);
}

/* The take named the wish's job behind those that are to be settled. */
static bool named_at_take(const struct permits *p, const struct permit_use *u)
{
    size_t all = strlen(p->named), one = u ? strlen(u->job) : 0;
    return one > 0 && all > one && p->named[all - one - 1] == ' ' && strcmp(p->named + all - one, u->job) == 0;
}

void permits_held(struct permits *p)
{
    struct permit_use *u = TAILQ_FIRST(&p->wishes);
    p->step = REST;
    renew_later(p);
    p->ahead_named = p->orphan[0] && named_at_take(p, u);
    p->ahead = p->ahead_named ? u : NULL;
    if (p->orphan[0])
        permits_settle(p);
    else if (u != NULL && strcmp(u->job, p->named) == 0)
        permits_give(p, u);
    else
        permits_next(p);
}
