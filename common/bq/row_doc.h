#ifndef BQF_BQ_ROW_DOC_H
#define BQF_BQ_ROW_DOC_H

#include "common/base/schema.h"
#include "common/bq/job.h"

/* A row of a query's result ({"f":[{"v":...}]}, timestamps as integers of microseconds) as a JSON object by column: numbers where every reader keeps them
 * exact, else texts; timestamps in RFC 3339. A new reference. */
doc *bq_row_doc(const struct schema *, const doc *row);

#endif
