#ifndef BQF_BQ_PARTITION_H
#define BQF_BQ_PARTITION_H

#include "common/bq/table.h"

/*
 * The partitions of a table by one of its columns. Values are as in row_range: INT64; days since 1970-01-01 (DATE); microseconds since then (TIMESTAMP, and
 * DATETIME as if it were UTC). A partition's id is BigQuery's own: "2026013107", "20260131", "202601", "2026", the first number of a range; PARTITION_NULL for
 * rows without a value, PARTITION_OUTSIDE for numbers that are in no range.
 */
enum partition_unit { PARTITION_NONE, PARTITION_HOUR, PARTITION_DAY, PARTITION_MONTH, PARTITION_YEAR, PARTITION_RANGE };
struct partition {
    enum partition_unit unit;
    char column[304];
    enum field_type type;        /* DATE, DATETIME, TIMESTAMP; INT64 for PARTITION_RANGE */
    int64_t start, end, interval;/* PARTITION_RANGE: [start, end) in steps */
};
#define PARTITION_NULL "__NULL__"
#define PARTITION_OUTSIDE "__UNPARTITIONED__"
#define PARTITIONS_PER_JOB 4000 /* BigQuery's limit of partitions that one job changes */

/* "DAY"; "RANGE". NULL for PARTITION_NONE. */
const char *partition_unit_name(enum partition_unit);
/* kind and the rest as in struct bq_table. unit PARTITION_NONE where the table has no partitions. ERR_USAGE for what cannot be named by a column's value:
 * ingestion time. */
int partition_make(const struct schema *, enum bq_partitioning kind, const char *column, const char *unit, int64_t start, int64_t end, int64_t interval,
                   struct partition *, struct error *);
/* The smallest and the greatest value of a value's partition. Numbers outside of all ranges share one, which is all of INT64 here. */
void partition_bounds(const struct partition *, int64_t value, int64_t *lo, int64_t *hi);
/* Of an id, as BigQuery writes it, or with separators as people write times ("2026-01-31"). is_null: rows without a value, and no bounds. *id is in
 * BigQuery's form. ERR_USAGE. */
#define PARTITION_ID_SIZE 24
int partition_parse(const struct partition *, const char *text, char id[PARTITION_ID_SIZE], bool *is_null, int64_t *lo, int64_t *hi, struct error *);
/* A value as a query parameter of its type. */
void partition_value(enum field_type, int64_t value, char out[64]);
/* SQL: the id of the partition of a row; alias is the row's table. */
void partition_sql(const struct partition *, const char *alias, struct buf *out);

#endif
