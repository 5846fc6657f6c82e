#ifndef BQF_TESTS_BQ_SQL_PART_H
#define BQF_TESTS_BQ_SQL_PART_H

#include "tests/bq/sql_exec.h"

/* The id of the partition of a row, as the product's statements compute it. */
struct mpart {
    char column[304], format[16];       /* of FORMAT_DATE and its like; "" for integer ranges */
    enum field_type type;
    int64_t start, end, interval;
};
#define MPART_TEXT 32
/* Of a cell of its column; fails where the column has another type than the statement says. */
int mpart_of(struct run *, const struct mpart *, const struct mtable *, const struct row *, char out[MPART_TEXT]);
/* Rows of the target in the partitions of the source's rows, as far as the statement's range lets them be seen. */
int run_replaced_parts(struct run *, struct effects *);

#endif
