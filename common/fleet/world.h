#ifndef BQF_FLEET_WORLD_H
#define BQF_FLEET_WORLD_H

#include "common/base/metrics.h"
#include "common/bq/bq.h"
#include "common/bus/bus.h"
#include "common/net/child.h"

/* Everything a worker or a coordinator touches outside itself, passed in. Whoever made it frees it. bq is NULL where nothing is written. */
struct permits_set;
struct world {
    struct loop *loop;
    struct rnd *rnd;
    struct bus *bus;
    struct bq *bq;
    struct permits_set *permits; /* this process's; NULL where nothing is written, or nobody else writes */
    struct children *children;
    struct metrics *metrics;
    const char *prefix;   /* of topics */
};

#endif
