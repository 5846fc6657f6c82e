#include "worker/pace.h"

#define DAY_US (INT64_C(24) * 3600 * US_PER_S)
#define SPARE 500.0
#define PER_DAY 900.0          /* beyond those */
#define PROJECT 90000.0        /* loads a day of all workers */
#define WINDOW_US (INT64_C(10500) * US_PER_MS) /* 10 s, and what two clocks may differ in */
#define FREE_UPDATES 2         /* of a window, before loads are spread over it */

void pace_init(struct pace *p, int64_t now_us, bool updates)
{
    *p = (struct pace){.updates = updates, .spare = SPARE, .spared_us = now_us, .last_us = now_us - DAY_US};
}

/* The part of a table's daily loads that this process may use, from 0 to 1. */
static double part(int64_t workers)
{
    double most = (SPARE + PER_DAY) * (double)i64_max(workers, 1);
    return most > PROJECT ? PROJECT / most : 1;
}

static int64_t day_wait_us(struct pace *p, const struct pace_view *v)
{
    double of = part(v->workers), most = SPARE * of, every = (double)DAY_US / (PER_DAY * of);
    p->spare += (double)(v->now_us - p->spared_us) / every;
    p->spare = p->spare < most ? p->spare : most;
    p->spared_us = v->now_us;
    if (v->leaving || p->spare > most / 2 || (v->hurry && p->spare >= 1))
        return 0;
    return i64_max(p->last_us + (int64_t)(every * (most / 2 - p->spare) / (most / 2)) - v->now_us, 0);
}

static int64_t window_wait_us(const struct pace *p, int64_t now_us)
{
    int used = p->running;
    int64_t oldest = now_us;
    for (int i = p->ended - 1; i >= 0 && i >= p->ended - PACE_UPDATES; i--) {
        int64_t at = p->ended_us[i % PACE_UPDATES];
        if (now_us - at >= WINDOW_US)
            break;
        used++;
        oldest = at;
    }
    int64_t left = oldest + WINDOW_US - now_us;
    if (used < FREE_UPDATES)
        return 0;
    if (used >= PACE_UPDATES)
        return left;
    return i64_max(p->last_us + left / (PACE_UPDATES + 1 - used) - now_us, 0);
}

int64_t pace_wait_us(struct pace *p, const struct pace_view *v)
{
    int64_t day = day_wait_us(p, v);
    return p->updates ? i64_max(day, window_wait_us(p, v->now_us)) : day;
}

bool pace_is_short(const struct pace *p)
{
    return p->spare <= SPARE / 2;
}

void pace_begins(struct pace *p, int64_t now_us)
{
    p->running++;
    p->last_us = now_us;
    pace_tries(p, 1);
}

void pace_tries(struct pace *p, int more)
{
    p->spare = p->spare > more ? p->spare - (more > 0 ? more : 0) : 0;
}

void pace_updated(struct pace *p, int64_t now_us)
{
    p->ended_us[p->ended++ % PACE_UPDATES] = now_us;
    if (p->ended == 1000 * PACE_UPDATES)
        p->ended = PACE_UPDATES;
}

void pace_ends(struct pace *p, int64_t now_us)
{
    p->running--;
    pace_updated(p, now_us);
}
