#ifndef BQF_WORKER_CORE_H
#define BQF_WORKER_CORE_H

#include <sys/queue.h>

#include "common/base/log.h"
#include "common/base/rows.h"
#include "common/base/spares.h"
#include "common/fleet/catalog.h"
#include "worker/itemmap.h"
#include "worker/worker.h"

/* What the parts of one worker share: the worker, its runs, its items. Loop thread only. */

/* Where an item is. item_move() is the one setter; it knows the legal moves.
 *   waiting  for a handler: in a queue of its run, or for its time to come
 *   running  with a handler
 *   failing  failed for good; its entry in `dead` is on its way
 *   staged   done; its rows are in a load
 *   settled  done without rows, failed for good, or in a load that is done: waits for its manifest's acknowledgement
 *   held     of a run that a fatal error stopped: waits for the run's end */
enum item_state { ITEM_WAITING, ITEM_RUNNING, ITEM_FAILING, ITEM_STAGED, ITEM_SETTLED, ITEM_HELD, ITEM_STATES };

/* A message that carried the item. */
struct delivery { int32_t partition; int64_t offset; struct delivery *next; };

TAILQ_HEAD(item_list, item);
TAILQ_HEAD(run_list, run);
TAILQ_HEAD(handler_list, handler);
struct handler;
struct post;
struct fatal;
struct shard;
struct direct;
struct shares;
struct stream;
TAILQ_HEAD(stream_list, stream);

struct item {
    struct worker *worker;
    struct run *run;             /* NULL while the run is not known */
    int64_t index;
    enum item_state state;
    bool suspect;                /* was in flight when its child died: runs alone in one */
    bool fresh;                  /* was even alone then, in one that had worked on others before: runs in one that nobody used */
    bool solo;                   /* was given up for want of room for its long lines, or of its rows in mode none: runs with nothing beside it */
    bool large;                  /* was given up for want of room for its rows: starts with a place (room.h) */
    bool placed;                 /* has one of worker->places */
    bool spoiled;                /* its attempt has failed on our side; what its handler still says of it is dropped */
    struct delivery first;       /* and first.next... */
    TAILQ_ENTRY(item) all;       /* all of the worker's, in order of arrival */
    TAILQ_ENTRY(item) link;      /* in *list */
    struct item_list *list;
    struct item *map_next;       /* another one of the same slot in run->items */
    int64_t taken_us, started_us;
    int64_t attempts;            /* that it has lost */
    struct handler *handler;     /* while running */
    /* rows of this attempt; once done, their place in the load's body */
    struct buf rows;
    int64_t row_count;
    size_t charged;              /* bytes of them in worker->held */
    struct stream *stream;       /* what has them instead, or NULL */
    struct row_range range;
    size_t body_len;
    /* how it failed: the attempt that counts */
    const char *reason;
    char *text; size_t text_len; /* while the run is not known: the run's id */
    struct post *dead;           /* while failing */
    int64_t dead_until_us;
    size_t key_len, payload_len;
    char bytes[];                /* the key and a NUL, the payload and a NUL */
};
static inline const char *item_key(const struct item *i) { return i->bytes; }
static inline const char *item_payload(const struct item *i) { return i->bytes + i->key_len + 1; }

/* Of a capped run: how many items may be with handlers here (share.h). */
struct share { int64_t granted, said, said_wants, since_ms; };

/* An open run of which this worker has, or had, items. Lives until the run's end is known. */
struct run {
    struct worker *worker;
    char id[LIMIT_NAME];
    const struct catalog_run *known;
    const struct record *record;
    const struct handler_def *def;  /* NULL: not among this worker's handlers */
    struct bq *bq, *own_bq;         /* its jobs run in the record's project; own_bq: made for that, else NULL */
    struct rowcheck *check;         /* NULL: nothing to check against (mode none without a schema) */
    TAILQ_ENTRY(run) link;          /* worker->runs */
    struct itemmap items;           /* all unfinished ones */
    struct item_list waiting, suspects, solo, large, held;
    int64_t waiting_count;          /* in these but held, and those whose time has not come */
    int64_t running;
    struct share share;
    int64_t succeeded;              /* items that handlers were done with since the last manifest */
    struct pool *pool;
    struct staging *staging;
    struct stream_list streams;
    struct manifests *manifests;
    struct direct *direct;          /* NULL: its rows wait for its last cut */
    int64_t loads_told;             /* loads in manifests that were sent */
    struct fatal *telling;          /* of the fatal error, in its log */
    bool over;                      /* its end is in known->end */
    bool fatal;
    char fatal_text[512];
};

/* How long an item may take. */
static inline int64_t run_timeout_ms(const struct run *run) { return run->record->timeout_ms > 0 ? run->record->timeout_ms : INT64_C(300000); }

struct worker {
    struct worker_options o;
    struct world w;
    char name[LIMIT_NAME], queue[LIMIT_NAME], prefix[LIMIT_NAME];
    char incarnation[INCARNATION_LEN + 1];
    int64_t started_ms;             /* wall clock */
    char results[TOPIC_SIZE], dead[TOPIC_SIZE], workers[TOPIC_SIZE];
    struct run_list runs;
    struct item_list items;         /* all, in order of arrival */
    struct spares spares;           /* memory of items */
    int64_t unfinished;             /* deliveries aside: items, and messages on their way to `dead` */
    int64_t taken_bytes;            /* of their keys and payloads */
    int64_t in_flight;              /* items with handlers */
    int64_t in_groups;              /* of these, those that a statement works on: they take no place of `parallel` */
    int64_t handlers;               /* children of all runs */
    int64_t held;                   /* bytes of rows: unfinished items', staged and loading ones */
    int64_t chunk, window, share;   /* bytes: of a stream's requests; two of them; of an item's rows at which it becomes a stream */
    int64_t places, places_most;    /* of streams: taken, and all */
    int64_t loads_running;
    int64_t lines;                  /* bytes of handlers' lines whose end has not come */
    LIST_HEAD(, shard) leavers;     /* of runs that are over; each drops its table */
    struct handler_list closing;    /* handlers whose stdin was closed, until they have left */
    struct posts *posts;
    struct intake *intake;
    struct runs *known;
    struct dispatch *dispatch;
    struct quarantine *quarantine;
    struct shares *shares;
    bool guarded;                   /* not every item may just run: the quarantine is asked */
    struct beacon *beacon;
    struct drain *drain;            /* NULL: not draining */
    bool failed;
    struct error why;               /* it failed */
    struct timer *failure;
};

struct item *item_new(struct worker *, int64_t index, const char *key, size_t key_len, const char *payload, size_t payload_len);
/* Adds a delivery, unless it is known: a partition that was given up and came back brings its messages again. */
void item_delivered(struct item *, int32_t partition, int64_t offset);
void item_move(struct item *, enum item_state);
/* Puts it at the end of a list, out of the one it was in; NULL: in none. */
void item_enlist(struct item *, struct item_list *);
/* The rows of its attempt are forgotten. */
void item_drop_rows(struct item *);
void item_set_failure(struct item *, const char *reason, const char *text, size_t len);
/* All its deliveries are done, and it is forgotten. */
void item_finish(struct item *);
/* Forgotten without that: somebody else will have it. */
void item_abandon(struct item *);
struct log_ctx item_ctx(const struct item *);

/* This worker cannot go on: tells whoever started it, once. */
void worker_fail(struct worker *, const struct error *);
/* Something moved that a drain may be waiting for. */
void worker_moved(struct worker *);
bool worker_draining(const struct worker *);
/* Bytes of rows came or went. */
void worker_hold(struct worker *, int64_t bytes);
static inline bool worker_full(const struct worker *w) { return w->held >= w->o.buffer; }

#endif
