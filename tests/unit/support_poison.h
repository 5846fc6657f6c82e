#ifndef BQF_TESTS_SUPPORT_POISON_H
#define BQF_TESTS_SUPPORT_POISON_H

#include "tests/unit/support_worker.h"
#include "worker/ackmap.h"

/*
 * Items that take their worker down, for support_worker's kit. A worker that dies is freed without a word to anybody, and another one begins in its place:
 * k->worker, and k->second if it is wanted. Handlers take a tenth of a second for what they have; then all of a worker's items are answered, unless a deadly
 * one is among them.
 */
#define PLAY_TICK_MS 100
#define PLAY_ITEMS 400

struct held { int serial; int worker; int64_t item; };
struct play {
    bool deadly[PLAY_ITEMS];
    bool fails[PLAY_ITEMS];      /* its first attempt */
    int named[PLAY_ITEMS];       /* how often it was given as one that a commit names */
    int given[PLAY_ITEMS];       /* how often handlers got it */
    int attempt[PLAY_ITEMS];     /* the highest that one was told */
    int lone_deaths[PLAY_ITEMS]; /* of workers that had only it */
    struct held held[256];
    size_t held_count;
    int owner[4096];             /* 0 or 1: whose child it is, by its serial */
    int64_t next_tick_ms;
    int deaths;
    bool no_commits;             /* the bus refuses them */
    bool no_outs;                /* those that say which items are about to be with handlers */
    struct bus_group_events events; void *events_arg; /* of the membership that was taken last */
    char metadata[KIT_PARTITIONS][LIMIT_COMMIT_METADATA + 1]; /* last known to be committed */
    int64_t offsets[KIT_PARTITIONS];
    int naming;                  /* all of these */
    int open_beside;             /* likewise, with another partition of the same worker open */
    int crowded;                 /* likewise, with other items beside it */
    int unannounced;             /* items given by a careful worker before a commit said so */
};
extern struct play play;

/* Opens the kit and run "r1", publishes the items. parallel is 8. */
void play_open(struct kit *, int items, int64_t window);
void play_close(struct kit *);
void play_second(struct kit *);               /* another worker, "w2" */
void play_tick(struct kit *);
/* Until the condition is met; false: it was not in time. */
bool play_on(struct kit *, bool (*cond)(struct kit *), int64_t seconds);
void play_die(struct kit *, int worker);      /* killed and started again */
size_t play_held(int worker);                 /* items with its handlers */
struct marks play_marks(int32_t partition);   /* last known to be committed */
bool play_finished(struct kit *);             /* all done and committed */
/* Exactly the deadly ones have failed, for what they did while alone; nobody else lost an attempt. */
void play_assert_only_the_deadly_failed(struct kit *);

#endif
