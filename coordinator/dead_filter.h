#ifndef BQF_COORDINATOR_DEAD_FILTER_H
#define BQF_COORDINATOR_DEAD_FILTER_H

#include "common/base/doc.h"
#include "common/fleet/logmsg.h"
#include "common/fleet/settings.h"

/* Which failed items are meant: by error class, item, key, time of failure. Pure: the same log and filter give the same items in every process. */
struct dead_filter {
    char reason[64];             /* "": any */
    int64_t item;                /* -1: any */
    char key[LIMIT_KEY + 1];     /* "": any */
    int64_t since_ms, until_ms;  /* wall clock, since <= time < until; 0: unbounded */
};

/* From --reason, --item, --key, --since, --until. ERR_USAGE. */
int dead_filter_read(struct dead_filter *, const struct settings *, int64_t now_ms, struct error *);
bool dead_filter_all(const struct dead_filter *); /* nothing is left out */
/* key: as manifests have it, cut to 128 bytes; a longer one that is asked for is compared as far as that goes. */
bool dead_filter_takes(const struct dead_filter *, const struct item_failure *, int64_t time_ms);
/* As in a run's record ("selection"); NULL: all. */
doc *dead_filter_to_doc(const struct dead_filter *);
void dead_filter_from_doc(struct dead_filter *, const doc *);
/* A time as a user writes it: "2026-01-31T12:00:00Z", "2026-01-31", or how long ago: "2h". ERR_USAGE. */
int dead_filter_time(const char *flag, const char *text, int64_t now_ms, int64_t *out, struct error *);

#endif
