#ifndef BQF_BQ_GATE_H
#define BQF_BQ_GATE_H

#include <sys/queue.h>

#include "common/base/rnd.h"
#include "common/net/loop.h"

/*
 * What all requests of a process to one service pass through: permits, jobs, uploads, tables. While all is well it counts, and nothing more. Loop thread only.
 *
 * Too many at once. "Slow down" (429, rateLimitExceeded) makes the number of requests that may be under way smaller by a third, at most once for those that were
 * under way together, and once in a second. While it is what holds requests back, it grows by one in the time of a request; close to where it was too many, by one in
 * a second. It stays between 1 and `most`, where it begins. (After an outage it begins anew with a few, and grows by a quarter in the time of a request, up to half of
 * what it was.)
 *
 * The service is down, when GATE_SILENT_MOST requests in a row, of GATE_SILENT_CALLS different callers, had no answer or a 5xx. Then one request at a time asks whether it
 * is there again, at intervals that grow from 1 s to 30 s, with jitter; whoever comes waits. Any answer that is no 5xx ends that. From then on
 *   1. what has not failed yet goes as usual, a few at once at first; it goes before what has, but for every tenth place;
 *   2. what had failed is repeated at most once for every ten requests that succeed; and one by itself when nothing else is under way to earn that, or has been for
 *      a second: else, with nothing but repeats, nothing would ever go on;
 * until nobody who has failed is left.
 */
struct gate;

#define GATE_SILENT_MOST 5
#define GATE_SILENT_CALLS 3

enum gate_place { GATE_OUTSIDE, GATE_WAITING, GATE_INSIDE };
enum gate_answer {
    GATE_WELL,      /* an answer, whatever it says */
    GATE_SILENT,    /* none, or a 5xx */
    GATE_CROWDED,   /* slow down */
    GATE_NOT_SENT
};
/* A caller's place. Zero but for the first three at the beginning; not to be touched. */
struct gate_pass {
    void (*go)(void *arg); void *arg; /* it may send now; never from inside gate_enter */
    bool urgent;
    bool failed;         /* its request failed before: it repeats something */
    bool counted;        /* in gate->failed */
    enum gate_place place;
    uint64_t sent, era;  /* which request it was; the row of failures it is in */
    int64_t since_us;
    TAILQ_ENTRY(gate_pass) link;
};

struct gate *gate_new(struct loop *, struct rnd *, int most);
void gate_free(struct gate *); /* nobody is in it. NULL allowed */
/* True: it may send. False: it waits, and go() comes. */
bool gate_enter(struct gate *, struct gate_pass *);
/* The request is over. text: what was wrong, for people; may be NULL. */
void gate_leave(struct gate *, struct gate_pass *, enum gate_answer, const char *text);
/* The caller goes for good, wherever it is. */
void gate_forget(struct gate *, struct gate_pass *);

bool gate_is_down(const struct gate *);
/* What was wrong the last time. */
const char *gate_trouble(const struct gate *);
/* "", or for people: since when it does not answer. Valid until the next call. */
const char *gate_waits_for(struct gate *);
/* How many may be under way now. */
int gate_limit(const struct gate *);

#endif
