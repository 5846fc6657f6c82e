#include "common/bq/permits_internal.h"

/* --- taking ----------------------------------------------------------------------------------------------------------------------------------- */

static void hold(struct permits *p)
{
    p->held = true;
    p->held_us = loop_now_us(p->loop);
    p->failures = 0;
    p->trouble[0] = '\0';
    permits_held(p);
}

#define WAITED " (waited " /* in a row's purpose: for people, and for the others who wait */
#define WAITED_MOST_S 86400 /* that others are believed */

static int64_t waited_ms(const struct permits *p)
{
    const struct permit_use *u = TAILQ_FIRST(&p->wishes);
    return u ? (loop_now_us(p->loop) - u->since_us) / US_PER_MS : 0;
}

static void on_taken(void *arg, const struct bq_job_result *r)
{
    struct permits *p = arg;
    struct sight *s = &p->sights[p->slot];
    p->job = NULL;
    bool theirs = r->err != NULL && strcmp(r->err->reason, "foreignJob") == 0;
    bool over = r->err == NULL || (theirs && strcmp(doc_str(r->job, "status.state", ""), "DONE") == 0);
    if (over || (r->decided && !theirs)) /* of theirs, one that runs may yet change it */
        s->tries = r->tries; /* if the row still has that token at the next look */
    if (r->err == NULL && permits_changed_one(r)) {
        hold(p);
    } else if (r->err == NULL || theirs) {
        permits_wait_turn(p);
    } else {
        p->unsure = permits_unheard(r);
        permits_troubled(p, r->err);
    }
}

static void take(struct permits *p, const struct permit_row *row)
{
    const struct permit_use *u = TAILQ_FIRST(&p->wishes);
    p->step = TAKE;
    p->slot = row->slot;
    p->orphan_try = 0;
    p->seq = 0;
    p->closing = OPEN;
    p->unheard = false;
    /* Adaptive: while nobody else takes it in between, it is kept longer the next time. */
    p->quantum_ms = strcmp(row->token, p->last_token) == 0 ? i64_min(p->quantum_ms * 2, p->o.quantum_ms * QUANTUM_GROWS) : p->o.quantum_ms;
    id_new(p->token, loop_wall_ms(p->loop), p->o.rnd);
    snprintf(p->orphan, sizeof(p->orphan), "%s", row->job);
    bool fits = strlen(row->job) + 1 + strlen(u->job) < sizeof(p->named) && strchr(row->job, ' ') == NULL;
    int n = snprintf(p->named, sizeof(p->named), "%s%s%s", row->job, row->job[0] && fits ? " " : "", fits ? u->job : "");
    assert(n < (int)sizeof(p->named));
    (void)n;
    snprintf(p->purpose, sizeof(p->purpose), "%.100s" WAITED "%" PRId64 " s)", u->purpose, waited_ms(p) / 1000);
    struct permit_change change = {.slot = row->slot, .seen_token = row->token, .seen_job = row->job, .token = p->token, .holder = p->o.holder,
                                   .job = p->named, .purpose = p->purpose, .lease_ms = p->o.lease_ms};
    permits_start(p, PERMIT_TAKE, &change, "take", row->token, -1, p->sights[row->slot].tries, on_taken);
}

/* Whether its time is over: by BigQuery's clock where it told us; else when it has stood there for a lease, unchanged. */
static bool expired(const struct permits *p, const struct permit_row *row)
{
    if (row->expires_us == 0)
        return true; /* released */
    if (p->rows.server_ms > 0)
        return (p->rows.server_ms - SKEW_MS) * US_PER_MS > row->expires_us;
    return loop_now_us(p->loop) - p->sights[row->slot].since_us > (p->o.lease_ms + SKEW_MS) * US_PER_MS;
}

/* Remembers what it sees. The number of rows that may be used. */
static int see(struct permits *p)
{
    int usable = 0;
    for (size_t i = 0; i < p->rows.count; i++) {
        const struct permit_row *row = &p->rows.v[i];
        struct sight *s = &p->sights[row->slot];
        usable += row->slot < p->o.slots;
        if (strcmp(s->token, row->token) != 0) {
            const char *waited = strstr(row->purpose, WAITED);
            if (waited != NULL)
                p->typical_ms = (p->typical_ms * 7 + i64_min(i64_max(strtoll(waited + strlen(WAITED), NULL, 10), 0), WAITED_MOST_S) * 1000) / 8 + 1;
            s->tries = 0;
        }
        if (strcmp(s->token, row->token) == 0 && s->expires_us == row->expires_us)
            continue;
        snprintf(s->token, sizeof(s->token), "%s", row->token);
        s->expires_us = row->expires_us;
        s->since_us = loop_now_us(p->loop);
    }
    return usable;
}

static const struct permit_row *pick(const struct permits *p)
{
    const struct permit_row *picked = NULL;
    uint64_t count = 0;
    for (size_t i = 0; i < p->rows.count; i++) {
        const struct permit_row *row = &p->rows.v[i];
        if (row->slot < p->o.slots && expired(p, row) && rnd_below(p->o.rnd, ++count) == 0)
            picked = row;
    }
    return picked;
}

/* How long a free row is left to others: not at all where nobody else was seen, nor where it has been free for so long that nobody can be waiting; less for
 * a wish that has waited longer than wishes do here. */
static int64_t courtesy_ms(const struct permits *p, const struct permit_row *row, int64_t since_ms)
{
    bool others = strcmp(row->token, p->last_token) != 0 && strncmp(row->token, "new", 3) != 0;
    int64_t now_ms = p->rows.server_ms > 0 ? p->rows.server_ms : loop_wall_ms(p->loop), enough_ms = p->typical_ms * 2;
    int64_t left_ms = i64_min(permits_look_ms(p) * 3 / 2, LOOK_MOST_MS) - (since_ms > 0 ? i64_max(now_ms - since_ms, 0) : 0);
    return others ? i64_max(left_ms, 0) * i64_max(enough_ms - waited_ms(p), 0) / enough_ms : 0;
}

/* Takes it, or leaves it to others for a while. since_ms: free since, by BigQuery's clock; 0: not known. */
static void take_or_leave(struct permits *p, const struct permit_row *row, int64_t since_ms)
{
    int64_t others_ms = p->courteous ? 0 : courtesy_ms(p, row, since_ms);
    p->courteous = others_ms > 0;
    if (others_ms > 0)
        permits_wait(p, others_ms);
    else
        take(p, row);
}

static bool check_closing(struct permits *p, size_t from);

static void on_checked(void *arg, const struct bq_answer *a)
{
    struct permits *p = arg;
    bool over = a->err == NULL && a->doc == NULL && p->orphan_try > 0;
    p->call = NULL;
    p->step = REST;
    snprintf(p->trouble, sizeof(p->trouble), "%.250s", a->err ? a->err->text : ""); /* perhaps it will not pass: a job of another account */
    if (TAILQ_EMPTY(&p->wishes)) {
        permits_next(p);
    } else if (over) {
        take_or_leave(p, &p->checked, p->checked_ms);
    } else if (a->err == NULL && strcmp(doc_str(a->doc, "status.state", ""), "DONE") == 0) {
        p->orphan_try++;
        p->checked_ms = doc_int(a->doc, "statistics.endTime", 0);
        p->step = CHECK;
        permits_ask_orphan(p, on_checked);
    } else if (!check_closing(p, p->checking + 1)) {
        permits_wait(p, (int64_t)((double)permits_look_ms(p) * rnd_real(p->o.rnd))); /* it may be over soon */
    }
}

/* A row that is free when its job is over: one after another, since the first one's may take long. */
static bool check_closing(struct permits *p, size_t from)
{
    for (size_t i = from; i < p->rows.count; i++) {
        const struct permit_row *row = &p->rows.v[i];
        if (row->slot >= p->o.slots || !row->closing)
            continue;
        p->checking = i;
        p->checked = *row;
        p->checked_ms = 0;
        p->orphan_try = 0;
        snprintf(p->orphan, sizeof(p->orphan), "%s", row->job);
        p->step = CHECK;
        if (permits_ask_orphan(p, on_checked))
            return true;
        p->step = REST;
    }
    return false;
}

/* A statement's answer was lost, and its job could not be asked: the row says whether it is ours. */
static bool is_ours(const struct permits *p)
{
    for (size_t i = 0; i < p->rows.count; i++)
        if (p->rows.v[i].slot == p->slot && strcmp(p->rows.v[i].token, p->token) == 0 && p->rows.v[i].expires_us > 0)
            return true;
    return false;
}

static void on_made(void *arg, const struct error *err)
{
    struct permits *p = arg;
    p->make = NULL;
    p->step = REST;
    if (err != NULL)
        permits_troubled(p, err);
    else
        permits_look(p);
}

static void on_rows(void *arg, const struct bq_answer *a)
{
    struct permits *p = arg;
    struct error err = ERROR_INIT;
    p->call = NULL;
    if (permits_rows(a, &p->rows, &err) != 0) {
        permits_troubled(p, &err);
        return;
    }
    p->step = REST;
    int usable = see(p);
    bool ours = p->unsure && is_ours(p);
    p->unsure = false;
    if (ours) {
        p->named[0] = '\0'; /* whichever: the next wish is named anew */
        hold(p);
    } else if (TAILQ_EMPTY(&p->wishes)) {
        permits_next(p);
    } else if (usable < p->o.slots) {
        p->step = MAKE;
        p->make = permits_make_start(p->o.bq, &p->o.table, p->o.location, p->o.slots, on_made, p);
    } else {
        const struct permit_row *row = pick(p);
        if (row != NULL)
            take_or_leave(p, row, i64_max(row->released_us, row->expires_us) / US_PER_MS);
        else if (!check_closing(p, 0))
            permits_wait_turn(p);
    }
}

void permits_look(struct permits *p)
{
    p->step = READ;
    p->call = permits_read(p->o.bq, &p->o.table, on_rows, p);
}

void permits_on_timer(void *arg)
{
    struct permits *p = arg;
    if (p->step == SETTLE) {
        permits_settle(p);
        return;
    }
    p->step = REST;
    if (p->unsure || (!p->held && !TAILQ_EMPTY(&p->wishes)))
        permits_look(p);
    else
        permits_next(p);
}

