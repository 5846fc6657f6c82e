#ifndef BQF_COORDINATOR_PROBE_H
#define BQF_COORDINATOR_PROBE_H

#include "common/fleet/record.h"
#include "common/fleet/world.h"

/* What BigQuery knows of a run's cuts, for when its log cannot say: the log is gone, or was in a process that ended. Reads the cuts' jobs by
 * their deterministic ids, cut by cut and try by try, until there is none. Loop thread only. */
enum probe_state { PROBE_NONE /* no job */, PROBE_RUNNING, PROBE_WRITTEN, PROBE_FAILED };
struct probe_result {
    enum probe_state state;      /* of the last cut that has a job */
    int64_t cuts;                /* how many cuts have one */
    int64_t written;             /* how many of them are written */
    bool last;                   /* that cut was the run's last one */
    int tries;                   /* of that cut: all of them failed, when state is FAILED */
    char meaning[41];            /* that cut's bqfleet_meaning: see record_meaning() */
    char job[JOB_BASE_SIZE + 16];               /* the last one; the one that is missing, when there is none */
    int64_t inserted, updated, deleted; /* of all written cuts */
    char text[512];              /* of a failure */
    bool direct;                 /* set by whoever asked: its workers wrote increments under other ids, which are not known */
};
typedef void probe_cb(void *arg, const struct probe_result *, const struct error *err);

struct probe;
/* wait: a job that runs is waited for. on_wait (may be NULL) is told its id. */
struct probe *probe_start(const struct world *, const char *run, const char *location, bool wait, void (*on_wait)(void *arg, const char *job),
                          probe_cb *, void *arg);
void probe_stop(struct probe *); /* NULL allowed */
/* A sentence for people: what is written, and where to look. */
const char *probe_sentence(const struct probe_result *, char *out, size_t size);

#endif
