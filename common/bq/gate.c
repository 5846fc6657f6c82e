#include "common/bq/gate.h"

#include "common/base/log.h"
#include "common/base/units.h"

#define FEWER 0.7           /* of those under way, after "slow down" */
#define NEAR 0.9            /* of where that was said: from there on slowly */
#define RATES_US US_PER_S   /* limits on rates are counted over a second */
#define RETURN_GROWS 0.25   /* with each success */
#define RETURN_MOST 4       /* under way at first, when the service is back */
#define PROBE_FIRST_US US_PER_S
#define PROBE_LAST_US (30 * US_PER_S)
#define ALONE_US US_PER_S   /* a repeat that has been under way for so long holds no other one back */
#define REPEAT_EVERY 10     /* successes that earn a repeat */
#define EARNED_MOST (5 * REPEAT_EVERY)

enum state { WELL, DOWN, BACK };
TAILQ_HEAD(passes, gate_pass);

struct gate {
    struct loop *loop;
    struct rnd *rnd;
    struct timer *timer;     /* when somebody who waits may go */
    enum state state;
    double limit;
    double eager_to, near;   /* below, it grows by a part of itself in the time of a request; from there on, by one in a second */
    int64_t cut_us, grown_us;
    int most, inside, failed; /* failed: callers that have failed and are not done with */
    struct passes fresh, repeats;
    uint64_t sent, cut, era;  /* requests; the last one before the limit was made smaller; rows of failures */
    int silent, silent_calls; /* in this row */
    struct gate_pass *probe;
    int64_t probe_us, probe_width_us; /* when the next may go; */
    int64_t down_us, alone_us;        /* since when it is down; when the last repeat went by itself */
    int earned;
    char trouble[256], text[400];
};

static void set_state(struct gate *g, enum state to)
{
    static const unsigned legal[] = {[WELL] = 1u << DOWN, [DOWN] = 1u << BACK, [BACK] = 1u << DOWN | 1u << WELL};
    if (!(legal[g->state] >> to & 1))
        abort();
    g->state = to;
}

static void pump(void *arg);

struct gate *gate_new(struct loop *loop, struct rnd *rnd, int most)
{
    struct gate *g = xcalloc(1, sizeof(*g));
    g->loop = loop;
    g->rnd = rnd;
    g->most = most;
    g->limit = g->near = most;
    g->cut_us = -RATES_US;
    g->era = 1;
    TAILQ_INIT(&g->fresh);
    TAILQ_INIT(&g->repeats);
    g->timer = timer_new(loop, pump, g);
    return g;
}

void gate_free(struct gate *g)
{
    if (g == NULL)
        return;
    assert(g->inside == 0 && TAILQ_EMPTY(&g->fresh) && TAILQ_EMPTY(&g->repeats));
    timer_free(g->timer);
    free(g);
}

/* --- who may go --------------------------------------------------------------------------------------------------------------------------- */

static struct passes *queue_of(struct gate *g, const struct gate_pass *p)
{
    return p->failed ? &g->repeats : &g->fresh;
}

/* Urgent ones before the others, in the order in which they came. */
static void queue(struct gate *g, struct gate_pass *p)
{
    struct passes *q = queue_of(g, p);
    struct gate_pass *before = p->urgent ? TAILQ_FIRST(q) : NULL;
    while (before != NULL && before->urgent)
        before = TAILQ_NEXT(before, link);
    p->place = GATE_WAITING;
    if (before != NULL)
        TAILQ_INSERT_BEFORE(before, p, link);
    else
        TAILQ_INSERT_TAIL(q, p, link);
}

static void let_in(struct gate *g, struct gate_pass *p)
{
    p->place = GATE_INSIDE;
    p->sent = ++g->sent;
    p->since_us = loop_now_us(g->loop);
    g->inside++;
}

static bool is_free(const struct gate *g)
{
    return g->inside < (int)g->limit;
}

/* Whether a repeat may go, with the service back: it has been earned, or nothing is there that could earn it. Takes what it costs. */
static bool may_repeat(struct gate *g)
{
    int64_t now = loop_now_us(g->loop);
    if (g->earned >= REPEAT_EVERY) {
        g->earned -= REPEAT_EVERY;
        return true;
    }
    if (g->inside > 0 && now - g->alone_us < ALONE_US)
        return false;
    g->alone_us = now;
    return true;
}

/* The next one to go, out of its queue; NULL: nobody may. */
static struct gate_pass *next(struct gate *g)
{
    struct gate_pass *p = TAILQ_FIRST(&g->fresh);
    if (g->state == DOWN) {
        if (g->probe != NULL || loop_now_us(g->loop) < g->probe_us)
            return NULL;
        struct gate_pass *r = TAILQ_FIRST(&g->repeats);
        if (p == NULL || (r != NULL && r->urgent && !p->urgent))
            p = r;
        g->probe = p;
    } else if (!is_free(g)) {
        return NULL;
    } else {
        struct gate_pass *r = TAILQ_FIRST(&g->repeats);
        bool turn = p == NULL || (g->state == BACK ? g->earned >= REPEAT_EVERY : g->sent % REPEAT_EVERY == 0); /* however many others come */
        if (r != NULL && turn && (g->state != BACK || may_repeat(g)))
            p = r;
    }
    if (p != NULL)
        TAILQ_REMOVE(queue_of(g, p), p, link);
    return p;
}

static bool anybody_waits(const struct gate *g)
{
    return !TAILQ_EMPTY(&g->fresh) || !TAILQ_EMPTY(&g->repeats);
}

/* When time alone lets somebody go. */
static void arm(struct gate *g)
{
    int64_t now = loop_now_us(g->loop);
    if (!anybody_waits(g))
        timer_stop(g->timer);
    else if (g->state == DOWN && g->probe == NULL)
        timer_set(g->timer, i64_max(g->probe_us - now, 0));
    else if (g->state == BACK && is_free(g))
        timer_set(g->timer, i64_max(g->alone_us + ALONE_US - now, 0));
}

static void pump(void *arg)
{
    struct gate *g = arg;
    for (struct gate_pass *p; (p = next(g)) != NULL;) {
        let_in(g, p);
        p->go(p->arg);
    }
    arm(g);
}

static void count_failed(struct gate *g, struct gate_pass *p, bool failed)
{
    g->failed += failed - p->counted;
    p->counted = p->failed = failed;
    if (g->state != BACK || g->failed > 0)
        return;
    set_state(g, WELL);
    timer_set(g->timer, 0);
}

bool gate_enter(struct gate *g, struct gate_pass *p)
{
    assert(p->place == GATE_OUTSIDE);
    if (g->state == WELL && is_free(g) && !anybody_waits(g)) {
        let_in(g, p);
        return true;
    }
    if (p->failed && !p->counted)
        count_failed(g, p, true);
    if (g->state == BACK && !p->failed && is_free(g) && TAILQ_EMPTY(&g->fresh)) {
        let_in(g, p);
        return true;
    }
    queue(g, p);
    if (!timer_is_set(g->timer))
        timer_set(g->timer, 0);
    return false;
}

/* --- what comes of it ---------------------------------------------------------------------------------------------------------------------- */

/* Half of it at the least, so that the processes of a fleet do not ask together. */
static void plan_probe(struct gate *g)
{
    g->probe_us = loop_now_us(g->loop) + (int64_t)((0.5 + rnd_real(g->rnd) / 2) * (double)g->probe_width_us);
    g->probe_width_us = i64_min(2 * g->probe_width_us, PROBE_LAST_US);
}

static void silence(struct gate *g, struct gate_pass *p, const char *text)
{
    snprintf(g->trouble, sizeof(g->trouble), "%.255s", text ? text : "");
    count_failed(g, p, true);
    g->silent++;
    g->silent_calls += p->era != g->era;
    p->era = g->era;
    if (g->state == DOWN || g->silent < GATE_SILENT_MOST || g->silent_calls < GATE_SILENT_CALLS)
        return;
    if (g->state == WELL) {
        g->down_us = loop_now_us(g->loop);
        log_warn("BigQuery does not answer (%d requests in a row), and is asked by one at a time until it does: %s", g->silent, g->trouble);
    }
    set_state(g, DOWN);
    g->probe_width_us = PROBE_FIRST_US;
    plan_probe(g);
}

static void grow(struct gate *g)
{
    int64_t now = loop_now_us(g->loop);
    if (g->limit >= g->near && now - g->grown_us < RATES_US)
        return;
    double more = g->limit < g->eager_to ? RETURN_GROWS : g->limit < g->near ? 1 / g->limit : 1;
    g->limit = g->limit + more < g->most ? g->limit + more : g->most;
    g->grown_us = now;
}

/* It answers. */
static void heard(struct gate *g)
{
    char time[32];
    g->silent = g->silent_calls = 0;
    g->era++;
    if (g->state != DOWN)
        return;
    set_state(g, BACK);
    g->eager_to = g->limit / 2;
    g->limit = g->limit > RETURN_MOST ? RETURN_MOST : g->limit;
    g->cut = g->sent;
    g->earned = 0;
    g->alone_us = loop_now_us(g->loop);
    log_info("BigQuery answers again, after %s", units_show_ms((loop_now_us(g->loop) - g->down_us) / US_PER_MS, time, sizeof(time)));
}

static void success(struct gate *g, struct gate_pass *p)
{
    if (g->inside + 1 >= (int)g->limit || anybody_waits(g)) /* else it is not what holds them back */
        grow(g);
    if (g->state == BACK && g->earned < EARNED_MOST)
        g->earned++;
    heard(g);
    count_failed(g, p, false);
}

static void crowded(struct gate *g, struct gate_pass *p)
{
    int64_t now = loop_now_us(g->loop);
    heard(g);
    count_failed(g, p, p->failed);
    if (p->sent <= g->cut || now - g->cut_us < RATES_US)
        return;
    g->cut = g->sent;
    g->cut_us = g->grown_us = now;
    g->near = g->limit * NEAR;
    g->eager_to = 0;
    g->limit = g->limit * FEWER > 1 ? g->limit * FEWER : 1;
    log_debug("BigQuery says to slow down: %d requests at once", (int)g->limit);
}

void gate_leave(struct gate *g, struct gate_pass *p, enum gate_answer how, const char *text)
{
    assert(p->place == GATE_INSIDE);
    p->place = GATE_OUTSIDE;
    g->inside--;
    bool probed = g->probe == p;
    if (probed)
        g->probe = NULL;
    if (how == GATE_WELL)
        success(g, p);
    else if (how == GATE_SILENT)
        silence(g, p, text);
    else if (how == GATE_CROWDED)
        crowded(g, p);
    if (probed && g->state == DOWN && how != GATE_NOT_SENT)
        plan_probe(g);
    if (anybody_waits(g))
        timer_set(g->timer, 0);
}

void gate_forget(struct gate *g, struct gate_pass *p)
{
    if (p->place == GATE_INSIDE)
        gate_leave(g, p, GATE_NOT_SENT, NULL);
    if (p->place == GATE_WAITING)
        TAILQ_REMOVE(queue_of(g, p), p, link);
    p->place = GATE_OUTSIDE;
    if (p->counted)
        count_failed(g, p, false);
}

/* --- looks at it ---------------------------------------------------------------------------------------------------------------------------- */

bool gate_is_down(const struct gate *g)
{
    return g->state == DOWN;
}

const char *gate_trouble(const struct gate *g)
{
    return g->trouble;
}

int gate_limit(const struct gate *g)
{
    return (int)g->limit;
}

const char *gate_waits_for(struct gate *g)
{
    char time[32];
    if (g->state != DOWN)
        return "";
    snprintf(g->text, sizeof(g->text), "BigQuery, which has not answered for %s: %s",
             units_show_ms((loop_now_us(g->loop) - g->down_us) / US_PER_MS, time, sizeof(time)), g->trouble);
    return g->text;
}
