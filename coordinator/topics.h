#ifndef BQF_COORDINATOR_TOPICS_H
#define BQF_COORDINATOR_TOPICS_H

#include "common/base/buf.h"
#include "common/bus/bus.h"
#include "common/fleet/names.h"

/* The topics a fleet needs, for those who create them and those who check them. */
enum { TOPIC_WORK, TOPIC_RESULTS, TOPIC_BATCHES, TOPIC_WORKERS, TOPIC_DEAD, TOPIC_COUNT };

struct topic_need {
    char name[TOPIC_SIZE];
    struct bus_topic create;   /* what it is created with; name points into this struct */
    int64_t min_message;       /* bytes: the largest message we send to it */
    int64_t min_retention_ms;  /* less loses what an open run still needs; 0: any, it is compacted */
};

/* partitions: of the queue's topic. replication 0: the broker's default. */
void topics_needed(const char *prefix, const char *queue, int32_t partitions, int16_t replication, struct topic_need out[TOPIC_COUNT]);

/* What is wrong with a topic as it is, as one sentence each in `out`; false: nothing is. */
bool topic_judge(const struct topic_need *, const struct bus_topic *is, struct buf *out);

#endif
