#ifndef BQF_FLEET_FOLD_H
#define BQF_FLEET_FOLD_H

#include "common/fleet/logmsg.h"

/*
 * A run's state: what its log says, folded message by message in offset order. Every process that folds the same log has the same state,
 * which is why every decision about a run is a message in it. Pure: no clock, no I/O.
 *
 *   - First manifest wins: an item that is done keeps its first load (or failure); a later load is accepted with the exclusion (load, item).
 *   - A load is folded once; a second manifest that names it changes nothing, nor do manifests after the end.
 *   - The message that completes the run (the last manifest, or the seal) ends it and is its last cut when failures are within tolerance;
 *     otherwise the run is held: cuts are void until accept (the last cut), cancel or adopted.
 *   - The first of {completing message within tolerance, accept while held, cancel, adopted while held, fatal, abandon before the seal, lost after
 *     it} ends the run. Cuts before it are consolidated, later ones are void. The first cut of its number wins; numbers go up by one.
 *   - Adopted is valid only when every increment of the held run has its outcome: what the heir takes is then just what no increment took, and an
 *     increment that failed has ended the run before, visibly, instead of leaving a hole in what was adopted.
 *   - An abandon says how far its writer had heard the submitter. When the submitter has spoken since, it is void: a coordinator that was cut off or
 *     asleep for minutes takes its own silence for the submitter's.
 *   - A load none of whose items is new is not accepted: nothing of it would be left, and a queue that is replayed costs no exclusions.
 *   - The first outcome of a cut wins. An outcome that failed ends the run; later cuts are then void.
 */
enum run_phase { RUN_PUBLISHING, RUN_WORKING, RUN_HELD, RUN_ENDED };
enum run_end { END_NONE, END_COMPLETE, END_ACCEPTED, END_CANCEL, END_ADOPTED, END_FATAL, END_ABANDON, END_LOST, END_FAILED };
const char *run_phase_name(enum run_phase);
const char *run_end_name(enum run_end);

struct fold_config {
    int64_t tolerate_count;   /* < 0: by percent */
    double tolerate_percent;
    int64_t stop_after;       /* 0: never */
};

enum { LOAD_UNCUT = -1, LOAD_UNNEEDED = -2 };
struct fold_load {
    char id[LOAD_ID_LEN + 1];
    int shard;                /* index */
    int64_t rows, items;
    int64_t cut;              /* index into cuts; LOAD_UNCUT: not yet; LOAD_UNNEEDED: never, all its items were done */
    size_t first_exclusion, exclusion_count;
    bool has_range, range_null;
    int64_t range_lo, range_hi;
    int64_t offset;           /* of its manifest */
};
struct fold_exclusion { size_t load; int64_t item; };
struct fold_failure { int64_t item, attempts; char *key, *reason, *text; };

enum cut_state { CUT_OPEN, CUT_DONE, CUT_FAILED, CUT_VOID };
struct fold_cut {
    int64_t number;           /* in its scope */
    int shard;                /* index, or -1: of the run */
    bool last;                /* the run's last cut */
    int64_t offset;           /* of the message that made it */
    int64_t loads;            /* how many loads it has */
    enum cut_state state;
    char *job, *text;         /* of the outcome */
    int64_t inserted, updated, deleted, rows;
};

struct fold_shard {
    char incarnation[INCARNATION_LEN + 1];
    int64_t cuts;             /* of its own so far: the number the next one must have */
    int64_t loads;            /* that manifests named */
    int64_t uncut;            /* accepted loads without a cut */
};

struct fold {
    struct fold_config config;
    enum run_phase phase;
    enum run_end end;
    int64_t end_offset;       /* of the message that ended it, -1 */
    char *end_text;           /* why, for people; who */
    char *adopted_by;
    int64_t items;            /* from the seal; -1 before it */
    struct seal_end *ends; size_t end_count;
    int64_t published;        /* the last alive, or items */
    int64_t last_alive_ms;    /* time of the submitter's last message */
    int64_t heard;            /* the offset after it; 0: there was none */
    bool left;                /* that was its last word; it has not stayed to consolidate */
    int64_t done, failed, empty; /* items; done counts all three kinds */
    int64_t in_a_row;         /* failed items in a row, in the log's order, in manifests that tell of no success */
    bool paused;
    int64_t parallel;         /* 0: not set */
    int64_t rows;             /* of accepted loads, exclusions included */
    uint64_t *bits; int64_t bits_len; /* done items */
    uint64_t *failed_bits; int64_t failed_len; /* those of them that failed; NULL while none has */
    struct fold_load *loads; size_t load_count, load_cap;
    struct fold_exclusion *exclusions; size_t exclusion_count, exclusion_cap;
    struct fold_failure *failures; size_t failure_count, failure_cap; /* at most FOLD_FAILURES are kept for people; failed counts all */
    struct fold_shard *shards; size_t shard_count, shard_cap;
    struct fold_cut *cuts; size_t cut_count, cut_cap;
    int64_t run_cuts;         /* cuts of the run so far: the number the next one must have */
    void *load_index;         /* internal: ids of loads and shards */
    int64_t now_ms;           /* time of the message that is folded */
    /* Told of each item that fails, in the log's order; set by the owner, NULL: nobody. */
    void (*on_failure)(void *arg, const struct item_failure *, int64_t time_ms);
    void *on_failure_arg;
    int64_t next_offset;      /* the offset after the last folded message */
    int64_t effect_ms;        /* time of the last message that had an effect: the end's, once the run is settled */
    int64_t messages, ignored;/* folded; of these without effect */
};
#define FOLD_FAILURES 10000

struct fold *fold_new(const struct fold_config *);
void fold_free(struct fold *);
/* offset and time of the message on the bus. Returns 0; -1 with ERR_FATAL when the log contradicts itself (an item beyond the seal...), which leaves
 * the state as it was. */
int fold_apply(struct fold *, const struct log_msg *, int64_t offset, int64_t time_ms, struct error *);

bool fold_is_done(const struct fold *, int64_t item);
bool fold_is_failed(const struct fold *, int64_t item);
/* The first failed item from there on; -1: there is none. */
int64_t fold_next_failed(const struct fold *, int64_t from);
bool fold_over_tolerance(const struct fold *);  /* with the failures so far; percent needs the seal */
/* How many failed items the run tolerates; a percentage needs the seal. */
int64_t fold_tolerated(const struct fold *);
bool fold_must_stop(const struct fold *);       /* stop_after failures in a row: a coordinator writes fatal */
/* The next cut to consolidate: the first open one, in log order; NULL when there is none now. */
const struct fold_cut *fold_open_cut(const struct fold *);
/* The next open one after that, in log order; NULL: there is none. */
const struct fold_cut *fold_next_open(const struct fold *, const struct fold_cut *);
/* An open cut's turn has come: one of the run waits for all before it; one of a shard for the run's and its own shard's, so that of equal keys a later
 * increment's row is written later. */
bool fold_cut_ready(const struct fold *, const struct fold_cut *);
/* The shard's index; -1: no load of it was accepted. */
int fold_find_shard(const struct fold *, const char *incarnation);
/* Calls back for loads of the shard that have no cut, in log order, until it returns false. */
void fold_uncut_loads(const struct fold *, int shard, bool (*each)(void *arg, const struct fold_load *), void *arg);
/* Ended, and every cut that stands has its outcome: nothing will change any more, and shards may go. */
bool fold_settled(const struct fold *);
/* Exit code of the run's commands (error.h), once settled or held. */
int fold_exit_code(const struct fold *);
/* Whether a cut message with the next number would have any load to take. */
bool fold_has_uncut(const struct fold *);
/* Digest of everything that decides the state: two folds of one log must agree. */
void fold_digest(const struct fold *, char out[65]);

#endif
