#ifndef BQF_BQ_TABLE_H
#define BQF_BQ_TABLE_H

#include "common/base/schema.h"
#include "common/bq/job.h"

enum bq_partitioning { PART_NONE, PART_TIME /* DAY, HOUR, MONTH, YEAR */, PART_RANGE };
struct bq_table {
    struct bq_ref ref;
    struct schema *schema;
    enum bq_partitioning partitioning;
    char part_field[304];      /* "" when by ingestion time */
    char part_type[8];         /* "DAY", ... */
    int64_t part_start, part_end, part_interval; /* PART_RANGE */
    bool require_filter;
    char type[32];             /* "TABLE", "VIEW", ... */
    char location[64];
    int64_t rows, bytes, created_ms, modified_ms, expires_ms; /* expires 0: never */
    char etag[128];
};
/* err 404: reason "notFound", ERR_FATAL. The table is valid during the call; its schema may be taken by setting it to NULL. */
typedef void bq_table_cb(void *arg, struct bq_table *, const struct error *err);
struct bq_call *bq_table_get(struct bq *, const struct bq_ref *, bq_table_cb *, void *arg);

struct bq_table_new {
    const struct bq_ref *ref;
    const doc *schema;         /* {"fields":[...]} */
    const doc *partitioning;   /* timePartitioning or rangePartitioning object under its own key, e.g. {"timePartitioning":{...}}; NULL */
    int64_t expires_ms;        /* wall clock; 0: never */
    const struct bq_label *labels; size_t label_count;
    const char *description;
    const char *cluster_by;    /* one column, or NULL */
};
/* 409 (it exists already): err with code 409, reason "duplicate". */
struct bq_call *bq_table_create(struct bq *, const struct bq_table_new *, bq_cb *, void *arg);
struct bq_call *bq_table_expire(struct bq *, const struct bq_ref *, int64_t expires_ms, bq_cb *, void *arg);
struct bq_call *bq_table_delete(struct bq *, const struct bq_ref *, bq_cb *, void *arg); /* 404 counts as done: err NULL */
struct bq_call *bq_dataset_get(struct bq *, const char *project, const char *dataset, bq_cb *, void *arg);
/* tabledata.list: one page; the answer's doc has rows, pageToken, totalRows. */
struct bq_call *bq_table_rows(struct bq *, const struct bq_ref *, int64_t start, int64_t max, const char *page_token, bq_cb *, void *arg);
/* tables.list of a dataset whose name begins with prefix (all pages); calls back once with a doc array of {"id","labels":{}}. */
struct bq_call *bq_table_list(struct bq *, const char *project, const char *dataset, const char *prefix, bq_cb *, void *arg);

#endif
