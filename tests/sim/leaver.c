#include "tests/sim/check.h"


#include "tests/sim/dice.h"
#include "tests/sim/toil.h"

/*
 * Workers that leave in order, as a rolling update or a smaller fleet makes them: a signal, a grace, perhaps a second signal; the permits they have are given back. Some are
 * killed before they are through. And those that could not begin, or ended by themselves, are started anew.
 */
struct seat { int lives; bool leaves, left, fails; int64_t kill_us, over_us, again_us; };
static struct leaver { struct sim *sim; struct rnd rnd; struct timer *timer; struct seat seats[SIM_WORKERS]; void (*cleared)(struct sim *); bool shut; } leaver;

static double real(void)
{
    return rnd_real(&leaver.rnd);
}

static int64_t below(int64_t n)
{
    return (int64_t)rnd_below(&leaver.rnd, (uint64_t)n);
}

static struct seat *seat_of(const struct proc *p)
{
    return &leaver.seats[p->slot];
}

static int64_t now_us(void)
{
    return loop_now_us(leaver.sim->loop);
}

static void on_drained(void *arg)
{
    struct proc *p = arg;
    struct seat *seat = seat_of(p);
    seat->left = true;
    seat->over_us = now_us() + 3 * US_PER_S; /* as long as its main waits for permits */
    trace(p->name, "has left");
}

static void leave(struct proc *p)
{
    static const int64_t graces_ms[] = {0, 1000, 5000, 25000, 25000};
    struct seat *seat = seat_of(p);
    int64_t grace_ms = graces_ms[below(ARRAY_LEN(graces_ms))];
    bool again = seat->leaves && seat->lives == p->lives;
    if (p->worker == NULL || p->paused || p->failed || (again && seat->left))
        return;
    sim_did(leaver.sim, DEED_LEAVE, p->name, "is told to leave within %" PRId64 " ms%s", again ? 0 : grace_ms, again ? ", again" : "");
    if (!again)
        *seat = (struct seat){.lives = p->lives, .leaves = true, .kill_us = now_us() + (real() < .3 ? (int64_t)(real() * (double)grace_ms) : grace_ms + 30000) * US_PER_MS};
    worker_drain(p->worker, again ? 0 : grace_ms, true, on_drained, p);
}

void leaver_again(struct sim *s, int slot)
{
    (void)s;
    leaver.seats[slot].again_us = now_us() + (int64_t)(1 + real() * 20) * US_PER_S;
}

static void go(struct proc *p)
{
    int slot = p->slot;
    proc_kill(p);
    if (leaver.seats[slot].fails || real() < .8)
        leaver_again(leaver.sim, slot);
}

/* As its main ends: all is freed but the client, until its permits are given back. */
static void sign_off(struct proc *p)
{
    worker_free(p->worker);
    p->worker = NULL;
    if (p->permits == NULL || permits_set_given_back(p->permits) || now_us() >= seat_of(p)->over_us)
        go(p);
}

/* As a main that cannot go on: it frees its worker, and gives back what permits it has. One that did not begin has nothing. */
static void fails(struct proc *p)
{
    if (p->worker == NULL) {
        leaver_again(leaver.sim, p->slot);
        return;
    }
    *seat_of(p) = (struct seat){.lives = p->lives, .leaves = true, .left = true, .fails = true, .over_us = now_us() + 3 * US_PER_S};
    worker_free(p->worker);
    p->worker = NULL;
    p->failed = false;
}

static void look_at(struct proc *p)
{
    struct seat *seat = seat_of(p);
    if (!proc_lives(p)) {
        if (seat->again_us != 0 && now_us() >= seat->again_us && !leaver.shut) {
            seat->again_us = 0;
            proc_worker(leaver.sim, p->slot);
            sim_did(leaver.sim, DEED_RESTART, p->name, "comes again");
        }
        return;
    }
    seat->again_us = 0;
    if (p->failed && !p->paused)
        fails(p);
    if (!seat->leaves || seat->lives != p->lives || p->paused)
        return;
    if (seat->left) {
        sign_off(p);
    } else if (now_us() >= seat->kill_us) {
        sim_did(leaver.sim, DEED_KILL, p->name, "is killed while it leaves");
        go(p);
    }
}

/* Somebody must be there when nothing goes wrong any more. */
static void fill(struct sim *s)
{
    for (int i = 0; i < s->plan.workers; i++)
        if (proc_lives(&s->workers[i]) || leaver.seats[i].again_us != 0)
            return;
    leaver_again(s, 0);
}

void leaver_tick(struct sim *s)
{
    bool any = false;
    if (!s->toil.any)
        return;
    for (int i = 0; i < s->plan.workers; i++) {
        look_at(&s->workers[i]);
        any |= proc_lives(&s->workers[i]);
    }
    if (leaver.cleared != NULL && !any) {
        void (*cleared)(struct sim *) = leaver.cleared;
        leaver.cleared = NULL;
        cleared(s);
    }
    if (s->calm && !leaver.shut)
        fill(s);
}

void leaver_clear(struct sim *s, void (*cleared)(struct sim *))
{
    leaver.shut = true;
    leaver.cleared = cleared;
    bool kill = real() < .5;
    for (int i = 0; i < s->plan.workers; i++)
        if (proc_lives(&s->workers[i]) && (kill || s->workers[i].worker == NULL || s->workers[i].paused))
            proc_kill(&s->workers[i]);
        else if (proc_lives(&s->workers[i]))
            leave(&s->workers[i]);
}

void leaver_reopen(struct sim *s)
{
    leaver.shut = false;
    for (int i = 0; i < s->plan.workers; i++)
        if (!proc_lives(&s->workers[i]) && (i == 0 || real() < .8))
            leaver_again(s, i);
}

bool leaver_is_shut(void)
{
    return leaver.shut;
}

void leaver_start_early(struct sim *s, void (*make_topic)(struct sim *))
{
    for (int i = 0; i < s->plan.workers; i++)
        proc_worker(s, i);
    int64_t until = now_us() + 3 * US_PER_S;
    while (now_us() < until)
        loop_step(s->loop, until - now_us());
    for (int i = 0; i < s->plan.workers; i++) {
        if (!s->workers[i].failed)
            sim_violated(s, INV_CRASH, "%s does not mind that its topic is not there", s->workers[i].name);
        proc_kill(&s->workers[i]);
    }
    make_topic(s);
}

void leaver_begins(struct proc *p)
{
    struct sim *s = p->sim;
    if (!s->toil.any || s->calm)
        return;
    double lot = real();
    sleeper_refuse(p->sleeper, lot < s->toil.refused ? REFUSE_GROUP : lot < 3 * s->toil.refused ? REFUSE_DEAD : 0);
}

static void again(void)
{
    dice_again(leaver.timer, &leaver.rnd, leaver.sim->toil.leaves);
}

static void on_leave(void *arg)
{
    struct sim *s = arg;
    struct proc *p = &s->workers[below(s->plan.workers)];
    again();
    if (proc_lives(p))
        leave(p);
}

void leaver_open(struct sim *s)
{
    memset(&leaver, 0, sizeof(leaver));
    leaver.sim = s;
    rnd_seeded(&leaver.rnd, s->plan.seed ^ UINT64_C(0x8ebc6af09c88c6e3));
    if (s->toil.leaves <= 0)
        return;
    leaver.timer = timer_new(s->loop, on_leave, s);
    again();
}

void leaver_calm(void)
{
    timer_free(leaver.timer);
    leaver.timer = NULL;
    leaver.cleared = NULL;
    leaver.shut = false;
}

void leaver_close(void)
{
    leaver_calm();
}
