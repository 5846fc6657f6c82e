#ifndef BQF_FLEET_CATALOG_H
#define BQF_FLEET_CATALOG_H

#include "common/fleet/record.h"

/*
 * The runs a fleet knows: the topic `batches`, folded. Keys:
 *   run/RUN/NONCE   the record; the first one of a run id wins, a tombstone of its key removes it
 *   state/RUN       {"paused":bool,"parallel":n,"over":bool}: a copy from the run's log; over: it is cancelled, lost, ... and only jobs of cuts before
 *                   that are waited for, so nobody needs to work on it any more
 *   end/RUN         {"end","exit","offset","time_ms","items","failed",...}: a copy of how it ended; a withdrawn submission has one too
 * A record that finds an open run of its batch's name is void from the start (the submitter withdraws), unless it replaces that run.
 *
 * Who was first must be the same for every reader, also after compaction, which moves a message that was written twice to where it was written last:
 *   1. end/A is at 15, B's record at 20, a second coordinator's copy of end/A at 25. Compaction leaves record A, record B, end/A.
 *   2. A reader that took A to be open at 20 would void B, on which a fleet works.
 * So B's record says how far its submitter had read: what was there before, it has looked at (and refused, or replaced); only a run of the name whose
 * record lies between that and B's own can be in B's way, ended or not. A run that was withdrawn never was.
 */
enum run_standing { STANDING_OPEN, STANDING_VOID, STANDING_ENDED };
struct catalog_run {
    char run[LIMIT_NAME];
    enum run_standing standing;
    struct record *record;
    char void_because[LIMIT_NAME]; /* the run that was open */
    int64_t offset;                /* of the record */
    bool paused, over; int64_t parallel;
    doc *end;                      /* NULL while open */
};
struct catalog;
struct catalog *catalog_new(void);
void catalog_free(struct catalog *);
/* One message. Messages that do not decode are counted, logged and skipped. Returns the run it concerned, or NULL (also when removed). */
struct catalog_run *catalog_apply(struct catalog *, const void *key, size_t key_len, const void *value, size_t value_len, int64_t offset);
struct catalog_run *catalog_find(struct catalog *, const char *run);
struct catalog_run *catalog_find_n(struct catalog *, const char *run, size_t run_len);
struct catalog_run *catalog_open_of(struct catalog *, const char *batch); /* the open run of that name; the newest, where it replaces others */
/* The newest of the open runs of the same name that were there before that run, which replaces them, directly or not; NULL. */
struct catalog_run *catalog_open_before(struct catalog *, const struct catalog_run *);
/* The run replaces one that is open still, directly or not: it writes only after that one's outcome, whose job might land on top of its own otherwise. The
 * same for one that was replaced by a run between, which may have ended at once and before it. */
bool catalog_older_open(struct catalog *, const struct record *);
/* The newest open run that is to adopt that one; NULL. */
struct catalog_run *catalog_heir_of(struct catalog *, const char *run);
/* The newest run that redrives that one's failed items, and is open or was written; NULL. */
struct catalog_run *catalog_redriver_of(struct catalog *, const char *run);
struct catalog_run *catalog_last_of(struct catalog *, const char *batch); /* the newest of that name, in any standing but void */
/* In order of their records; it starts at NULL. */
struct catalog_run *catalog_next(struct catalog *, const struct catalog_run *it);
size_t catalog_count(const struct catalog *);

/* Keys and values to publish. Callers free. */
char *catalog_record_key(const struct record *);
char *catalog_state_key(const char *run);
char *catalog_end_key(const char *run);
/* What the fold of a run asks for; whether that is what the fleet knows of it. */
doc *catalog_state_value(const struct fold *);
bool catalog_state_is(const struct catalog_run *, const struct fold *);
/* From the fold of a settled run. */
doc *catalog_end_value(const struct fold *, int64_t time_ms);
doc *catalog_withdrawn_value(const char *because_run, int64_t time_ms);

#endif
