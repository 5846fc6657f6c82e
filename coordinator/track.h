#ifndef BQF_COORDINATOR_TRACK_H
#define BQF_COORDINATOR_TRACK_H

#include "coordinator/catalog_watch.h"
#include "coordinator/outbox.h"

/*
 * One run: follows its log and folds it. A tracker that acts also does what the log asks for: decides abandon, lost, fatal and cuts by
 * writing them, runs consolidations, writes their outcomes, copies state and end to `batches`, drops the staging tables. Any number of
 * them may act on one run at once. Loop thread only. Not to be freed inside its callbacks.
 */
struct track;

enum track_role {
    TRACK_LOOKS,    /* folds, and does nothing */
    TRACK_SECOND,   /* acts; leaves consolidations to the first coordinator for takeover_ms, until it had to take one over */
    TRACK_FIRST     /* acts at once: it is the submitter, or nobody else has a better right */
};

struct track_events {
    void (*changed)(void *arg, struct track *);                     /* something moved: at most once a turn */
    /* The log cannot be followed or folded any further, or this process cannot do what is its part; for the latter it goes on trying
     * (at longer intervals), in case nobody leaves. */
    void (*trouble)(void *arg, struct track *, const struct error *);
};

struct track_options {
    const struct world *world;       /* its bq, if any, runs jobs in the record's project */
    struct outbox *outbox;
    struct catalog_watch *watch;
    const struct record *record;     /* copied */
    enum track_role role;
    int64_t abandon_ms;              /* a submitter silent for so long is given up; 0: WAIT_ABANDON */
    int64_t takeover_ms;             /* 0: WAIT_SECOND_COORDINATOR */
    size_t shards_at_once, params_at_once; /* of a consolidation; 0: the limits */
    /* Whether a live worker of that queue has unfinished items, or that is not known yet. */
    bool (*busy)(void *busy_arg, const char *queue);
    void *busy_arg;
    /* The tracker of a run that this one adopts; it returns NULL where there is none. */
    struct track *(*find)(void *find_arg, const char *run);
    void *find_arg;
};
struct track *track_start(const struct track_options *, const struct track_events *, void *arg, struct error *);
void track_free(struct track *); /* NULL allowed. Before the outbox is freed. */

/* NULL with err when it does not survive its own text, which is a bug. */
struct record *track_copy_record(const struct record *, struct error *);
void track_poke(struct track *); /* what it waits for may have come */
/* Of the first cut's job, so many tries are known to have failed: in an earlier process, in the embedded mode. */
void track_first_try(struct track *, int tries);
const struct record *track_record(const struct track *);
const struct fold *track_fold(const struct track *);
bool track_live(const struct track *);     /* the log was read to its end once */
/* The log no longer reaches back to the run's beginning: its outcome is not known from it. */
bool track_unknown(const struct track *);
/* Settled, and an acting tracker has nothing more to do. */
bool track_done(const struct track *);
/* What the run waits for just now, and until when: "" when it simply works. */
const char *track_waits_for(const struct track *, char *out, size_t size);
/* Its submitter has said that it does not stay, or never meant to: whoever is there consolidates at once. */
bool track_submitter_left(const struct track *);
/* Milliseconds since the submitter's last word, while it publishes; as this process saw it. */
int64_t track_submitter_silent_ms(const struct track *);

#endif
