#ifndef BQF_WORKER_BEACON_H
#define BQF_WORKER_BEACON_H

#include "worker/core.h"

/*
 * The worker's own line in topic `workers`: key its name, every WAIT_PRESENCE_EVERY and on change, at most once a second; a tombstone when it has drained.
 * {"worker","queue","handlers":["predict"],"in_flight","waiting","unfinished","oldest":{"run","item","key","age_ms"} or null,"buffered","loads",
 *  "waits_for","alone":{"run","item","key"} while that item is in quarantine,"draining","parallel","started_ms","time_ms","version"}. Loop thread only.
 */
struct beacon;
struct beacon *beacon_new(struct worker *);
void beacon_free(struct beacon *);
void beacon_changed(struct beacon *);
/* At once: what may be this process's last line. */
void beacon_now(struct beacon *);
/* The tombstone; done(arg) comes once it is acknowledged, or could not be within a short while. */
void beacon_leave(struct beacon *, void (*done)(void *), void *arg);

#endif
