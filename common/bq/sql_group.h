#ifndef BQF_BQ_SQL_GROUP_H
#define BQF_BQ_SQL_GROUP_H

#include "common/base/schema.h"
#include "common/bq/dry_run.h"
#include "common/bq/table.h"

/*
 * A user's SELECT for a group of items: what it may be, and the one statement of ours that puts its rows into a shard. Pure functions.
 *
 * The SELECT reads the items from @items, an ARRAY<STRUCT<item INT64, key STRING, payload JSON>>, and returns beside the columns of its rows the index
 * of the item that each belongs to: in a column `item`, or in `bqfleet_item`, for targets that have a column `item` of their own. @params is the run's
 * params as JSON.
 */

/* Leaves one SELECT without its closing semicolon, so that it can stand in parentheses whatever its comments say. ERR_USAGE: it is none, or more than
 * one statement, or something in it is not closed. What only an analyzer can see is left to BigQuery's dry run. */
int sql_select_text(const char *text, size_t len, struct buf *out, struct error *);

/* What its dry run says: the columns of its rows, which the caller frees; NULL with an error when it cannot be run or is no SELECT. */
struct schema *sql_select_result(const struct bq_dry_result *, struct error *);

struct sql_group {
    const struct bq_ref *shard;
    const struct schema *target;               /* its columns; NULL: rows are only read (mode none), any column will do */
    const char *const *keys; size_t key_count; /* columns of the target that are never NULL */
    const char *select;                        /* as sql_select_text left it */
    const struct schema *result;               /* the columns that the dry run says it returns */
};
/* Whether the result fits: there is an INT64 index, every other column is one of the target's, and none that must have a value is missing. ERR_USAGE. Types
 * are left to BigQuery's dry run of the whole statement. */
int sql_group_check(const struct sql_group *, struct error *);
/* The result's column that holds the index; NULL: there is none. */
const struct field *sql_group_index(const struct schema *result);
/* INSERT INTO shard ... SELECT ... FROM (select). It fails when a row is of no item in @items, or a key of it is NULL. @load is the load's id. */
void sql_group_insert(const struct sql_group *, struct buf *sql);
/* What such a failure's message begins with, and what it says then: the statement is wrong, not an item. */
#define SQL_GROUP_STRAY "bqfleet: the query returned a row of item "

/* The range of a load's rows in the column that partitions the target (DATE, DATETIME, TIMESTAMP or INT64), as in struct row_range: one row of lo, hi (NULL
 * when all are) and missing, which counts those without a value. @load is the load's id. */
void sql_group_range(const struct bq_ref *shard, const struct field *column, struct buf *sql);

/* items: count * 3 texts: index, key, payload (NULL: none). params, load: NULL: none. */
doc *sql_group_params(const char *const *items, size_t count, const char *params, const char *load);

#endif
