#ifndef BQF_COORDINATOR_SPEC_H
#define BQF_COORDINATOR_SPEC_H

#include "common/base/yaml.h"
#include "common/fleet/handler_def.h"
#include "common/fleet/record.h"

/* The spec of a batch as its user wrote it, checked as far as a file alone can be. Durations in milliseconds. */
enum items_kind { ITEMS_FILE /* NDJSON */, ITEMS_CSV, ITEMS_LINES, ITEMS_LIST, ITEMS_RANGE, ITEMS_QUERY };

struct spec {
    char *path, *dir;                  /* of the file; "-" is stdin, with dir "." */
    char *batch, *project, *queue;
    struct {
        enum items_kind kind;
        char *source;                  /* absolute or relative to the working directory, resolved against dir; "-" is stdin; or the SQL */
        char *key;                     /* field, column; NULL: the line, value or number itself */
        char **list; size_t list_count;
        int64_t from, to;              /* range, both included */
        int line, column;              /* where it stands in the spec */
    } items;
    struct {
        char *handler;
        doc *params;
        int64_t timeout_ms, attempts;  /* 5 min, 5 */
    } job;
    struct handler_defs handlers;      /* embedded runs only */
    struct {
        enum write_mode mode;
        enum write_via via;
        char *table;                   /* as written */
        char **keys, **order_by, **insert_only;
        enum null_keys null_keys;
        int64_t permits;               /* of the target; -1: as many as fit the mode */
        bool disjoint;
        size_t key_count, order_count, insert_only_count;
        char *staging;                 /* dataset or project.dataset */
        char *location;
        int64_t max_bytes_billed;
        doc *create;                   /* {"fields":[...]} for a target that does not exist, or NULL */
        doc *create_partitioning;      /* {"timePartitioning":{...}} or {"rangePartitioning":{...}}, or NULL */
        char *create_cluster;          /* the column to cluster by, or NULL */
        doc *labels;                   /* {"name":"value"} for every job, or NULL; in the record: spec, "write.labels" */
    } write;
    struct { int64_t every_ms; struct fold_config fold; } finish;
    doc *as_written;                   /* the whole spec as JSON, after ${VAR} and --set */
    struct yaml *yaml;                 /* kept for messages with places */
};

/* sets: --set assignments, may be NULL. env as in yaml_parse. embedded: handlers must define the job's handler. ERR_USAGE with file:line:column. */
struct spec *spec_load(const char *path, char *const *sets, const char *(*env)(const char *), bool embedded, struct error *);
void spec_free(struct spec *);
/* Whether its items or its own handler read BigQuery, wherever the rows go. */
bool spec_reads_bigquery(const struct spec *);
DEFINE_AUTO(spec_free, struct spec *)
/* A commented spec that works, for `bqfleet init`. */
extern const char spec_example[];

#endif
