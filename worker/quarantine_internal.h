#ifndef BQF_WORKER_QUARANTINE_INTERNAL_H
#define BQF_WORKER_QUARANTINE_INTERNAL_H

#include "worker/quarantine.h"

/* quarantine_wards.c: the partitions, and what is known to be committed of them; quarantine.c: the items, and which may run. */

/*
 * 1. waiting: there is a suspect; nothing starts, until no item is with a handler.
 * 2. naming: a commit that names it, and closes all other partitions, is on its way.
 * 3. running: it is committed; the suspect goes to a handler.
 * 4. landing: the handler is done with it and we live; its manifest is waited for, so that it need not run again should the next one kill us.
 * 5. reopening: no further suspect; the commits that open the partitions again are on their way.
 */
enum quarantine_state { QUIET, WAITING, NAMING, RUNNING, LANDING, REOPENING };

struct ward { /* a partition that is ours */
    struct marks marks;
    bool open;       /* something of it is left to do */
    bool known;      /* what a commit would say now is committed, as far as it matters */
    uint64_t number; /* of the commit that says it, 0: none yet */
    int idle;        /* ticks */
};

struct let_out { struct item *item; bool known; }; /* careful: it may be with a handler; known: that is committed */

struct quarantine {
    struct worker *w;
    struct ward **wards;  /* by partition; NULL: not ours */
    int32_t ward_count;
    struct item_list kept;     /* wait for a commit, or for others to return */
    struct item_list suspects; /* delivered */
    struct let_out out[LIMIT_CAREFUL];
    size_t out_count;
    enum quarantine_state state;
    struct item *current;
    bool stirred;              /* kept ones may be free to go */
    bool leaving;
    uint64_t numbers;
    int64_t until_us;          /* of the present step, where it has an end */
    int64_t not_before_us;     /* no suspect runs */
    struct timer *timer;
    struct marks said;         /* of the commit that is being made */
    char text[160];
};

struct ward *ward_of(const struct quarantine *, int32_t partition); /* NULL: not ours */
/* What was committed of the partition is no longer what must be. */
void ward_restate(struct quarantine *, int32_t partition);
/* All that is open is committed as it must be; of the item's partitions only, unless it is NULL. */
bool wards_known(const struct quarantine *, const struct item *);
void quarantine_look(struct quarantine *); /* whether the worker is guarded */
/* -1: it did not come from there. */
int64_t offset_in(const struct item *, int32_t partition);

#endif
