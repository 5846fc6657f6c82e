#ifndef BQF_FLEET_LOGMSG_H
#define BQF_FLEET_LOGMSG_H

#include "common/base/buf.h"
#include "common/base/error.h"
#include "common/fleet/names.h"

/*
 * The messages of a run's log (topic results; key: the run id). One version byte, one type byte, then fields (wire.h); unknown fields are
 * skipped, an unknown version or type is an error that the reader reports. Pure functions, fuzzed.
 */
enum log_type {
    LOGM_ALIVE = 1, LOGM_SEAL, LOGM_MANIFEST, LOGM_CUT, LOGM_PAUSE, LOGM_RESUME, LOGM_PARALLEL, LOGM_ACCEPT, LOGM_ADOPTED, LOGM_CANCEL,
    LOGM_ABANDON, LOGM_FATAL, LOGM_LOST, LOGM_OUTCOME, LOGM_TYPES
};
enum { LOGM_VERSION = 1 };
const char *log_type_name(enum log_type); /* "alive", ... */

struct item_range { int64_t first, count; };

struct item_failure {
    int64_t item;
    int64_t attempts;
    const char *key;     /* at most 128 bytes, cut */
    const char *reason;  /* error class: "row", "timeout", "crash", "handler", "load", "size", "start" */
    const char *text;    /* at most LIMIT_FAILURE_TEXT bytes, cut */
};

/* What is done: the items of a load, items without rows, items that failed for good. Sorted, without overlaps inside one list. */
struct manifest {
    const char *incarnation;              /* its shard; "" when there is no load */
    const char *load;                     /* the load's id; "" when there is no load */
    int64_t rows;                         /* the job's outputRows */
    struct item_range *ranges; size_t range_count;       /* items of the load (only with one) */
    struct item_range *empty; size_t empty_count;        /* done without rows */
    struct item_failure *failures; size_t failure_count;
    bool has_range, range_null;           /* of the partition column over the load's rows: rows.h */
    int64_t range_lo, range_hi;
    int64_t succeeded;                    /* items that its writer's handlers were done with since its last manifest; their loads may come later */
};

struct seal_end { int32_t partition; int64_t offset; };

struct log_msg {
    enum log_type type;
    /* alive */      int64_t published;   /* items acknowledged so far */
                     bool left;           /* it is the submitter's last word: all is sealed, and it does not stay to consolidate */
    /* seal */       int64_t items; struct seal_end *ends; size_t end_count; /* each work partition's end after the last item */
    /* manifest */   struct manifest manifest;
    /* cut */        int64_t cut;         /* number, from 0 in its scope */
                     const char *shard;   /* incarnation for a cut of one shard, "" for one of the run */
                     const char **loads; size_t load_count; /* named by a shard's cut */
    /* parallel */   int64_t parallel;    /* run_cap */
    /* adopted */    const char *run;     /* by this run */
    /* cancel, fatal, abandon, lost, outcome: why, for people */
                     const char *text;
    /* lost */       int64_t missing;
    /* abandon */    int64_t heard;      /* the offset after the submitter's last message that its writer had read; 0: none */
    /* outcome */    bool ok; const char *job; int64_t inserted, updated, deleted, rows; /* of cut (and shard) */
    /* who wrote it, for people */
                     const char *by;
};

/* Items of a run at once across the fleet: what was set while it went on (0: nothing was; LIMIT_ITEMS: no cap), else what its record says. 0: no cap. */
static inline int64_t run_cap(int64_t set, int64_t own)
{
    int64_t cap = set > 0 ? set : own;
    return cap < LIMIT_ITEMS ? cap : 0;
}

/* Appends the encoded message. Only passing out's ceiling fails (-1). */
int logmsg_encode(const struct log_msg *, struct buf *out) MUST_CHECK;
/* Everything the message points to lives in *memory, which the caller frees with logmsg_free. -1 with ERR_FATAL on unknown version or
 * type ("written by a later version"), ERR_TASK when malformed. */
struct logmsg_memory;
int logmsg_decode(const void *data, size_t len, struct log_msg *, struct logmsg_memory **memory, struct error *);
void logmsg_free(struct logmsg_memory *);

/* Adds an item to a growing list of ranges, which is kept sorted and merged at the end by ranges_sort. */
struct ranges { struct item_range *v; size_t count, cap; };
void ranges_add(struct ranges *, int64_t item);
void ranges_sort(struct ranges *); /* sorts, merges neighbours, drops repeats */
int64_t ranges_items(const struct item_range *, size_t count);
size_t ranges_encoded_size(const struct item_range *, size_t count); /* bytes in a manifest; ranges must be sorted */
void ranges_free(struct ranges *);

#endif
