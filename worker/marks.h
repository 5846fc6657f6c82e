#ifndef BQF_WORKER_MARKS_H
#define BQF_WORKER_MARKS_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/base/limits.h"
#include "common/fleet/names.h"
#include "common/fleet/wire.h"

/*
 * What the commits of a partition say, beside what is done, about workers that died while they had it. Pure.
 *
 * While items of the partition may be with handlers, its commits carry the holder's incarnation; they lose it when the partition is given up in order, or
 * nothing of it is left to do. So whoever finds another one's incarnation there knows that its holder died (or was expelled), and counts that: once, as it
 * commits the new count before it runs anything. What is counted are take-overs in a row, about the offsets below `until`: once all those are done, it is 0.
 * After LIMIT_TAKEOVERS of them the holder is careful: it first commits which few offsets handlers are about to get (`out`). If it dies as well, those are
 * the suspects, and each runs alone in its whole process, named in an acknowledged commit before. Who was alone when a worker died has killed it; after
 * LIMIT_KILLS of these in a row it has failed.
 *
 * In the metadata (offsets are distances from the committed one, lists of them the gaps between them as varints):
 *   field 2   bytes: the holder's incarnation; left out: in order
 *   field 3   int: take-overs in a row; left out: 0
 *   field 4   int: until
 *   field 5   bytes: suspects
 *   field 6   bytes: out
 *   field 7   int: the offset that runs alone now
 *   field 8   int: the offset that killed a worker while alone; field 9 int: how often in a row
 */
struct offsets { size_t count; int64_t v[LIMIT_SUSPECTS]; }; /* ascending */
bool offsets_has(const struct offsets *, int64_t);
bool offsets_add(struct offsets *, int64_t); /* false: no room */
void offsets_remove(struct offsets *, int64_t);

struct marks {
    char holder[INCARNATION_LEN + 1];
    int64_t takeovers, until;
    struct offsets suspects, out;
    int64_t alone;          /* -1: none */
    int64_t killed, kills;  /* -1, 0: none */
};
void marks_init(struct marks *);

/* base: the committed offset. What lies below it is left out. At most MARKS_MOST bytes. */
#define MARKS_MOST (LIMIT_SUSPECTS * 2 * 10 + 128)
void marks_put(const struct marks *, int64_t base, struct buf *fields);
/* One field of the metadata; those that are others' are ignored. -1: it makes no sense. */
int marks_take(struct marks *, const struct wire_field *, int64_t base);

/* Who takes the partition over makes what it read its own: counts the death of a holder, if there was one, and clears what was the holder's. end: above the
 * highest offset known to be done. True: the holder had died. */
bool marks_take_over(struct marks *, const char *incarnation, int64_t base, int64_t end);
/* All below base is done: what that settles is forgotten. */
void marks_pass(struct marks *, int64_t base);
/* The offset is done, or it ran alone and the worker lives. */
void marks_clear(struct marks *, int64_t offset);

static inline bool marks_careful(const struct marks *m) { return m->takeovers >= LIMIT_TAKEOVERS; }
static inline bool marks_guilty(const struct marks *m, int64_t offset) { return m->killed == offset && m->kills >= LIMIT_KILLS; }

#endif
