#include "tests/sim/check.h"

#include "tests/sim/toil.h"

/*
 * Items whose work takes the whole worker down: always, or every second time. Such a worker is started anew, as by Kubernetes. Exactly those that do it always fail, and
 * whatever else is called a killer was at least with workers that died, or seemed to, as often as that takes: nobody else is to be condemned.
 */
struct given { struct proc *proc; int lives; int32_t run; int64_t item; };
struct harmed { int32_t run; int64_t item; int times, runs; };
static struct poison {
    struct sim *sim;
    struct given *given; size_t given_count, given_cap;
    struct harmed *harmed; size_t harmed_count, harmed_cap;
    struct given doomed[SIM_WORKERS]; size_t doomed_count;
    struct given named[SIM_WORKERS][SIM_PARTITIONS]; /* with their workers alone, even before a handler has them; run -1: none */
    struct timer *timer;
} poison;

enum deadly poison_of(const struct sim *s, const struct batch_plan *b, int64_t number)
{
    uint64_t x = (s->plan.seed * UINT64_C(0x9e3779b97f4a7c15)) ^ ((uint64_t)number * UINT64_C(0xbf58476d1ce4e5b9)) ^ (uint64_t)(b - s->plan.batches);
    x = (x ^ (x >> 31)) * UINT64_C(0x94d049bb133111eb);
    x ^= x >> 29;
    if (b->deadly == 0 || (int64_t)(x % (uint64_t)b->items) >= b->deadly)
        return DEADLY_NOT;
    return (x >> 40) % 3 == 0 ? DEADLY_SECOND : DEADLY_ALWAYS;
}

static struct harmed *harmed(int32_t run, int64_t item)
{
    for (size_t i = 0; i < poison.harmed_count; i++)
        if (poison.harmed[i].run == run && poison.harmed[i].item == item)
            return &poison.harmed[i];
    if (poison.harmed_count == poison.harmed_cap)
        poison.harmed = xreallocarray(poison.harmed, poison.harmed_cap = poison.harmed_cap * 2 + 64, sizeof(*poison.harmed));
    poison.harmed[poison.harmed_count] = (struct harmed){.run = run, .item = item};
    return &poison.harmed[poison.harmed_count++];
}

static void on_death(void *arg)
{
    (void)arg;
    while (poison.doomed_count > 0) {
        struct given g = poison.doomed[--poison.doomed_count];
        if (!proc_lives(g.proc) || g.proc->lives != g.lives)
            continue;
        int slot = g.proc->slot;
        sim_did(poison.sim, DEED_KILL, g.proc->name, "is killed by item %" PRId64 " of run %d", g.item, g.run);
        proc_kill(g.proc);
        leaver_again(poison.sim, slot);
    }
}

static bool active(void)
{
    return poison.sim != NULL && poison.sim->toil.deadly;
}

void poison_given(struct proc *p, const struct ledger *l, int64_t item)
{
    if (!active())
        return;
    if (poison.given_count == poison.given_cap)
        poison.given = xreallocarray(poison.given, poison.given_cap = poison.given_cap * 2 + 64, sizeof(*poison.given));
    poison.given[poison.given_count++] = (struct given){p, p->lives, l->index, item};
}

void poison_returned(struct proc *p, const struct ledger *l, int64_t item)
{
    for (size_t i = 0; i < poison.given_count; i++)
        if (poison.given[i].proc == p && poison.given[i].run == l->index && poison.given[i].item == item) {
            poison.given[i] = poison.given[--poison.given_count];
            return;
        }
}

bool poison_strikes(struct proc *p, const struct ledger *l, int64_t item, int64_t number)
{
    enum deadly how = active() ? poison_of(p->sim, l->batch, number) : DEADLY_NOT;
    if (how == DEADLY_NOT || (how == DEADLY_SECOND && harmed(l->index, item)->runs++ % 2 != 0))
        return false;
    assert(poison.doomed_count < ARRAY_LEN(poison.doomed));
    poison.doomed[poison.doomed_count++] = (struct given){p, p->lives, l->index, item};
    timer_set(poison.timer, 0);
    return true;
}

void poison_named(struct proc *p, int32_t partition, int32_t run, int64_t item)
{
    if (active() && p->kind == PROC_WORKER)
        poison.named[p->slot][partition] = (struct given){p, p->lives, item < 0 ? -1 : run, item};
}

static bool is_given(const struct given *g)
{
    for (size_t i = 0; i < poison.given_count; i++)
        if (poison.given[i].proc == g->proc && poison.given[i].lives == g->lives && poison.given[i].run == g->run && poison.given[i].item == g->item)
            return true;
    return false;
}

void poison_harm(struct proc *p)
{
    for (size_t i = 0; i < poison.given_count && active(); i++)
        if (poison.given[i].proc == p && poison.given[i].lives == p->lives)
            harmed(poison.given[i].run, poison.given[i].item)->times++;
    for (int i = 0; i < SIM_PARTITIONS && active() && p->kind == PROC_WORKER; i++) {
        const struct given *g = &poison.named[p->slot][i];
        if (g->proc == p && g->lives == p->lives && g->run >= 0 && !is_given(g))
            harmed(g->run, g->item)->times++;
    }
}

void poison_convicted(struct sim *s, const struct ledger *l, int64_t item)
{
    if (active() && harmed(l->index, item)->times < LIMIT_KILLS)
        sim_violated(s, INV_LOUD, "item %" PRId64 " of %s is said to have killed its worker %d times, and was with workers that died or were away %d times", item,
                     l->record->run, LIMIT_KILLS, harmed(l->index, item)->times);
}

void poison_check_end(struct sim *s)
{
    for (const struct ledger *l = active() ? s->check->ledgers : NULL; l; l = l->next)
        for (int64_t i = 0; i < l->owners; i++)
            if (l->owner[i] != OWNER_NONE && l->owner[i] != OWNER_FAILED && poison_of(s, l->batch, l->numbers[i]) == DEADLY_ALWAYS)
                sim_violated(s, INV_ROWS, "item %" PRId64 " of %s is done, and nobody has outlived it", i, l->record->run);
}

void poison_open(struct sim *s)
{
    memset(&poison, 0, sizeof(poison));
    poison.sim = s;
    poison.timer = timer_new(s->loop, on_death, NULL);
}

void poison_close(void)
{
    timer_free(poison.timer);
    free(poison.given);
    free(poison.harmed);
    memset(&poison, 0, sizeof(poison));
}
