#ifndef BQF_FLEET_RECORD_H
#define BQF_FLEET_RECORD_H

#include "common/base/doc.h"
#include "common/base/schema.h"
#include "common/bq/sql.h"
#include "common/fleet/fold.h"

/* A run's record: everything any process needs to work on it, written once to `batches`. JSON, version 1. */
enum write_via { VIA_STAGING, VIA_DIRECT, VIA_WORKER_TABLES };

struct record {
    char run[LIMIT_NAME], batch[LIMIT_NAME], nonce[17];
    int64_t created_ms;            /* the submitter's clock */
    char *by;                      /* host and process of the submitter, for people */
    char queue[LIMIT_NAME];
    /* job */
    char handler[LIMIT_NAME];
    doc *params;                   /* any JSON; NULL: none */
    int64_t timeout_ms, attempts;
    /* write */
    enum write_mode mode;
    enum write_via via;
    bool has_target;               /* false for mode none */
    struct bq_ref target;
    char location[64];             /* of the target's dataset: every job's */
    char project[64];              /* every job's */
    char staging_project[64], staging_dataset[256];
    doc *schema_doc;               /* {"fields":[...]} of the target */
    struct schema *schema;         /* parsed */
    char **keys; size_t key_count;
    enum null_keys null_keys;
    int permits;                   /* rows of the target's table of permits that the run may use; 0: its statements run without one */
    bool disjoint;                 /* rows of different items never share a key, nor do those of other writers meanwhile */
    char **order_by; size_t order_count;
    char **insert_only; size_t insert_only_count;
    char partition_column[304];    /* "" when the target has none that can prune */
    struct partition partition;    /* replace-partitions: the target's; else unit PARTITION_NONE */
    int64_t max_bytes_billed;      /* 0: none */
    doc *layout;                   /* worker-tables: what bases have beside the schema, {"timePartitioning":...,"clustering":...} as tables.insert takes it; else NULL */
    char base[64];                 /* and the view's base when the run was planned, for people */
    /* finish */
    int64_t every_ms;
    struct fold_config finish;
    int64_t parallel;              /* of the run across the fleet; 0: no cap */
    /* places on the bus */
    int32_t log_partition; int64_t log_offset;
    int32_t dead_partition; int64_t dead_offset;
    int32_t work_partitions;
    int64_t *work_starts;          /* each work partition's end when the run was opened */
    int64_t batches_seen;          /* `batches` was read up to there when this was written: its submitter answers for what it found; 0: not said */
    char replaces[LIMIT_NAME], adopts[LIMIT_NAME]; /* run ids, or "" */
    /* A redrive: the run whose failed items these are ("": it is none; the same as adopts where that run was held), which of them ({"reason","item","key",
     * "since_ms","until_ms"}; NULL: all), and how many others there were, which stay failed. */
    char redrives[LIMIT_NAME];
    doc *selection;
    int64_t left;
    doc *spec;                     /* the spec as it was given, for people */
};

doc *record_to_doc(const struct record *);
/* ERR_FATAL on an unknown version, ERR_TASK when malformed. */
struct record *record_parse(const char *text, size_t len, struct error *);
void record_free(struct record *);
DEFINE_AUTO(record_free, struct record *)
/* A digest of what a run is for: its batch, target, mode and keys, and the run it redrives. A run id used for two of these is used wrongly. */
void record_meaning(const struct record *, char out[41]);
/* The target's schema and the three columns of bookkeeping: every staging table's that holds rows. */
doc *record_shard_schema(const struct record *);
/* The table of the target's permits. */
void record_permits_ref(const struct record *, struct bq_ref *);
void record_shard_ref(const struct record *, const char *incarnation, struct bq_ref *);
/* Of every staging table of the run: its id, and its record's nonce, so that processes that run one id twice never take each other's for their own. Whether
 * a table with these labels is the run's; one without ours is, if its name says so: nobody else makes such names. */
enum { STAGING_LABELS = 2 };
void record_staging_labels(const struct record *, struct bq_label out[STAGING_LABELS]);
bool record_owns_labels(const struct record *, const doc *labels);

#endif
