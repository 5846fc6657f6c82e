#include "common/net/loop_internal.h"

/*
 * Time that stands still. Timers lie in a binary heap by (time, order of setting), so that a run repeats exactly; a turn jumps to the
 * earliest one. There are no descriptors and no signals.
 */

/* Turns without any passing of time after which somebody is surely waiting for himself. */
#define STUCK_TURNS 50000000

struct loop_virtual {
    struct loop loop;
    int64_t now_us;
    int64_t wall_at_zero_us;
    uint64_t order;      /* timer_set calls so far */
    struct timer **heap; /* the earliest first */
    size_t count, cap;
    uint64_t turns_at_now;
};

static struct loop_virtual *of(struct loop *l)
{
    return (struct loop_virtual *)l;
}

static bool earlier(const struct timer *a, const struct timer *b)
{
    return a->due_us != b->due_us ? a->due_us < b->due_us : a->order < b->order;
}

static void place(struct loop_virtual *v, struct timer *t, size_t at)
{
    v->heap[at] = t;
    t->at = at;
}

static void sift_up(struct loop_virtual *v, struct timer *t, size_t at)
{
    while (at > 0 && earlier(t, v->heap[(at - 1) / 2])) {
        place(v, v->heap[(at - 1) / 2], at);
        at = (at - 1) / 2;
    }
    place(v, t, at);
}

static void sift_down(struct loop_virtual *v, struct timer *t, size_t at)
{
    for (;;) {
        size_t child = 2 * at + 1;
        if (child >= v->count)
            break;
        if (child + 1 < v->count && earlier(v->heap[child + 1], v->heap[child]))
            child++;
        if (!earlier(v->heap[child], t))
            break;
        place(v, v->heap[child], at);
        at = child;
    }
    place(v, t, at);
}

static void heap_remove(struct loop_virtual *v, struct timer *t)
{
    assert(v->heap[t->at] == t);
    struct timer *last = v->heap[--v->count];
    if (last == t)
        return;
    if (earlier(last, t))
        sift_up(v, last, t->at);
    else
        sift_down(v, last, t->at);
}

static void virtual_timer_init(struct timer *t)
{
    (void)t;
}

static void virtual_timer_disarm(struct timer *t)
{
    heap_remove(of(t->loop), t);
}

static void virtual_timer_arm(struct timer *t, int64_t delay_us)
{
    struct loop_virtual *v = of(t->loop);
    if (t->set)
        heap_remove(v, t);
    if (v->count == v->cap) {
        v->cap = v->cap ? v->cap * 2 : 64;
        v->heap = xreallocarray(v->heap, v->cap, sizeof(struct timer *));
    }
    t->due_us = delay_us > INT64_MAX - v->now_us ? INT64_MAX : v->now_us + delay_us;
    t->order = v->order++;
    sift_up(v, t, v->count++);
}

static int64_t virtual_now_us(struct loop *l)
{
    return of(l)->now_us;
}

static int64_t virtual_wall_us(struct loop *l)
{
    return of(l)->wall_at_zero_us + of(l)->now_us;
}

static void virtual_spend(struct loop *l, int64_t us)
{
    of(l)->now_us += us;
}

static void jump(struct loop_virtual *v, int64_t to_us)
{
    v->turns_at_now = to_us > v->now_us ? 0 : v->turns_at_now + 1;
    v->now_us = to_us;
    if (v->turns_at_now > STUCK_TURNS) {
        fprintf(stderr, "bqfleet: virtual time stands still at %" PRId64 " us: this is a bug\n", to_us);
        abort();
    }
}

static enum turn virtual_turn(struct loop *l, int64_t max_wait_us)
{
    struct loop_virtual *v = of(l);
    bool forever = max_wait_us == TURN_FOREVER || max_wait_us > INT64_MAX - v->now_us;
    if (v->count == 0 && forever)
        return TURN_EMPTY;
    int64_t limit = forever ? INT64_MAX : v->now_us + max_wait_us;
    int64_t next = v->count > 0 ? v->heap[0]->due_us : INT64_MAX;
    jump(v, i64_max(i64_min(next, limit), v->now_us));
    /* A timer that is set while these run waits for the next turn, even with no delay: so it is in the real loop. */
    uint64_t orders = v->order;
    while (v->count > 0 && v->heap[0]->due_us <= v->now_us && v->heap[0]->order < orders) {
        struct timer *t = v->heap[0];
        heap_remove(v, t);
        timer_fire(t);
    }
    return v->count > 0 || max_wait_us > 0 ? TURN_WENT : TURN_EMPTY;
}

static void virtual_free(struct loop *l)
{
    free(of(l)->heap);
    free(l);
}

static const struct loop_ops virtual_ops = {
    .free = virtual_free,
    .now_us = virtual_now_us,
    .wall_us = virtual_wall_us,
    .spend = virtual_spend,
    .turn = virtual_turn,
    .timer_init = virtual_timer_init,
    .timer_arm = virtual_timer_arm,
    .timer_disarm = virtual_timer_disarm,
    .timer_fini = virtual_timer_init,
};

struct loop *loop_new_virtual(int64_t wall_us_at_start)
{
    struct loop_virtual *v = xcalloc(1, sizeof(*v));
    v->loop.ops = &virtual_ops;
    v->now_us = US_PER_S; /* as on a real machine, "now" is never 0 */
    v->wall_at_zero_us = wall_us_at_start - v->now_us;
    return &v->loop;
}
