#ifndef BQF_COORDINATOR_TRACK_INTERNAL_H
#define BQF_COORDINATOR_TRACK_INTERNAL_H

#include <sys/queue.h>

#include "common/fleet/consolidate.h"
#include "coordinator/cleanup.h"
#include "coordinator/release.h"
#include "coordinator/renew.h"
#include "coordinator/track.h"

/* How far the search for lost items is; see decide_lost. */
enum lost_step { LOST_IDLE, LOST_OFFSETS, LOST_LOWS, LOST_END, LOST_READING };

/* A message this tracker wrote: not again before it was read back, nor soon after the bus has refused it. */
struct said { struct track *track; struct letter *letter; int64_t offset, again_us; };

struct shard_cut;
#define TRACK_TROUBLE_AGAIN_MS 60000 /* after this process's own trouble with a cut, or with a message that the bus refuses */

struct track {
    struct track_options o;
    struct track_events events;
    void *arg;
    struct world world;
    struct loop *loop;
    struct record *record;
    struct fold *fold;
    struct bus_follow *follow;
    struct timer *timer;
    int64_t position;          /* the log was delivered up to here */
    bool live, unknown, broken, moved;
    struct error refused;      /* why the fold refused a message */
    int64_t alive_us;          /* when the submitter's last message was read; at least when the log's end was reached */
    int64_t news_us;           /* when the run's last message was read */
    int64_t cut_us;            /* when its last cut was read */
    struct said said[LOGM_TYPES];
    /* lost */
    enum lost_step lost;
    struct ticket *lost_ticket;
    int64_t lost_end, lost_asked_us;
    int64_t *lost_offsets; int32_t lost_partitions; size_t lost_at; /* what is committed; which of fold->ends is looked at */
    /* consolidation of fold->cuts[cut_at] */
    struct consolidate *consolidate;
    struct letter *outcome;    /* its own, on its way */
    int64_t cut_at;
    int first_try;             /* of the first cut */
    int64_t again_us;          /* not before, after this process's own trouble; 0: at once */
    char trouble[256];
    bool waits_for_older, waits_for_adopted;
    bool took_over;            /* a consolidation that another had the first right to */
    LIST_HEAD(, shard_cut) shard_cuts;
    /* a permit for the next cut, asked for before there is one */
    struct permit_use *early;
    int64_t early_cut, early_until_us; /* its number; so long it is kept without one */
    bool early_held;
    int64_t early_next_us, early_pause_us; /* not before; how long that is after it was kept in vain */
    int64_t first_done_us;     /* when the first item was done, as this process saw it; 0: none */
    /* the runs it adopts, nearest first, as far as they are its own */
    struct adopted adopted[LIMIT_ADOPTED]; size_t adopted_count;
    struct said claims[LIMIT_ADOPTED];
    char adopt_why[256];
    bool adopted_gone;
    /* copies, cleaning */
    struct letter *copy;
    int64_t copy_again_us;     /* not before, after the bus has refused one; 0: at once */
    bool end_copied, cleaned;
    int64_t state_offset;      /* of the last copy; -1 */
    struct release *release;   /* of the view that a run in worker tables is shown by */
    bool released;
    struct cleanup *cleanup;
    struct renew *renew;
};

/* No view, or it is not this run's to change any more. */
bool track_released(const struct track *);

/* track_act.c: does whatever is due. Returns milliseconds until it wants to be called again. */
int64_t track_act(struct track *);
void track_act_stop(struct track *);
letter_cb track_on_said;   /* of a struct said */
bool track_may_say(const struct said *, int64_t position /* the log is read to there */);
void track_moved(struct track *);
void track_tell_trouble(struct track *, const struct error *);

/* This process cannot do a cut: for people. */
void track_cannot_consolidate(struct track *, const struct error *);

/* track_copy.c */
void track_copy_state(struct track *);
void track_copy_end(struct track *);

/* track_shards.c: cuts of single shards, whose worker writes them unless it is gone. Returns as track_act. */
int64_t track_shards(struct track *);
void track_shards_stop(struct track *);
/* What is done here for them: "" for nothing. */
const char *track_shards_waits_for(const struct track *, char *out, size_t size);

/* track_early.c: a permit takes a second or more to come: it is asked for while the last items still run. Returns as track_act. */
int64_t track_early(struct track *);
/* What was asked for, if it is for this cut. */
struct permit_use *track_early_use(struct track *, const struct fold_cut *);

/* track_adopt.c */
enum adoption { ADOPT_MINE /* all, or there are none: they are in adopted */, ADOPT_WAITS, ADOPT_LOST /* for good; adopt_why says why, or what it waits for */ };
enum adoption track_adoption(struct track *, bool may_claim);
bool track_adopted_gone(const struct track *);
bool track_heir_open(const struct track *); /* it was adopted, by a run that has not ended yet */
void track_adopt_stop(struct track *);

#endif
