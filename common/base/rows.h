#ifndef BQF_BASE_ROWS_H
#define BQF_BASE_ROWS_H

#include "common/base/buf.h"
#include "common/base/schema.h"

/*
 * Rows from handlers, on the hot path: one pass over the bytes of a JSON object that checks it against the schema and appends it
 * to a buffer as one NDJSON line, with the bookkeeping columns added. What passes here is what a load job would take; what a load
 * job would refuse is found here, with the column's name, so that one item's bad row never sinks the load of its neighbours.
 */
struct rowcheck;

struct rowcheck_options {
    const char *const *required; /* columns that may be neither NULL nor absent besides the REQUIRED ones: merge keys */
    size_t required_count;
    const char *partition_column; /* NULL, or the column whose range is gathered (DATE, DATETIME, TIMESTAMP or INT64) */
};

/* The schema must outlive it. NULL with ERR_FATAL when a column of the options is not in the schema. */
struct rowcheck *rowcheck_new(const struct schema *, const struct rowcheck_options *, struct error *);
void rowcheck_free(struct rowcheck *);
DEFINE_AUTO(rowcheck_free, struct rowcheck *)

/* The smallest and greatest value of the partition column so far: days since 1970-01-01 for DATE, microseconds since then for
 * DATETIME and TIMESTAMP, the value itself for INT64. */
struct row_range { int64_t lo, hi; bool any, null; };

/*
 * row: the bytes of one JSON object (space around it is allowed). Appends it to out as one line, without its closing brace, because the
 * load that will carry it is not known before its item is done:
 *     {"a":1,"bqfleet_item":7,"bqfleet_row":0\n
 * Line breaks between tokens are dropped; an empty object is fine when nothing is required.
 * Returns 0; -1 with ERR_TASK (reason "row") and a text such as `column score: "x" is not an INT64`, nothing appended; -2 when out
 * would pass its ceiling, nothing appended. NaN, Infinity and -Infinity are taken for FLOAT64, bare or quoted, and written quoted, as
 * load jobs want them. Unknown columns, repeated names and names that begin with "bqfleet_" are refused. What a load job would refuse
 * or read inexactly for its form alone is written in the form that it reads exactly: integers beyond 2^53 and bare decimals quoted,
 * epochs as text, dates and times with two digits everywhere, intervals in ISO 8601, GeoJSON objects as strings, NULL arrays as [].
 */
int rowcheck_add(struct rowcheck *, const char *row, size_t len, int64_t item, int64_t row_number, struct buf *out, struct row_range *,
                 struct error *) MUST_CHECK;

/* Appends the lines of `in` to out, each closed as ,"bqfleet_load":"ID"}: 0, or -1 when out would pass its ceiling. */
#define ROWS_SEAL_BYTES(load_id_len) (sizeof(",\"bqfleet_load\":\"\"}") - 1 + (load_id_len)) /* added to each line */
int rows_seal(const char *in, size_t len, const char *load_id, struct buf *out) MUST_CHECK;
/* Sealed lines get another load's id of the same length, in place: when a load that was rejected is split. */
void rows_reseal(char *lines, size_t len, const char *new_load_id);

#endif
