#ifndef BQF_COORDINATOR_PRESENCE_H
#define BQF_COORDINATOR_PRESENCE_H

#include "common/base/doc.h"
#include "common/fleet/world.h"

/* The workers of the fleet, by the topic `workers`: what each last said, and whether it still speaks. Loop thread only. */
struct presence;
struct presence_worker {
    char *name;
    const char *queue;
    const doc *said;        /* its last message */
    int64_t time_ms;        /* of that message, by the bus */
    int64_t silent_ms;      /* since it was read, or since its time if that is longer ago */
    bool live;              /* spoke within three of its intervals */
    const doc *alone;       /* {"run","item","key"}: an earlier process of that name was not heard of again after it ran this item alone; NULL */
    int64_t alone_ms;       /* how long ago */
};

struct presence *presence_start(const struct world *, void (*changed)(void *arg), void *arg, struct error *);
void presence_free(struct presence *);
bool presence_ready(const struct presence *); /* the topic was read to its end once */

size_t presence_count(const struct presence *);
void presence_at(const struct presence *, size_t i, struct presence_worker *);
/* Whether a live worker of the queue has unfinished items; true as long as nothing is known. */
bool presence_busy(const struct presence *, const char *queue);
/* Live workers of the queue; and of these, how many offer the handler. */
int presence_live(const struct presence *, const char *queue, const char *handler, int *offering);
/* "" when some live worker of the queue offers the handler, or that is not known yet; else what is waited for. */
const char *presence_waits_for(const struct presence *, const char *queue, const char *handler, char *out, size_t size);

#endif
