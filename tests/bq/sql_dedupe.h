#ifndef BQF_TESTS_BQ_SQL_DEDUPE_H
#define BQF_TESTS_BQ_SQL_DEDUPE_H

#include "tests/bq/sql_words.h"

/* The statements of `bqfleet dedupe`: a survey of a table, and the MERGE that leaves one row of each key in some of its partitions. */

/* Whether it is one of them. stmt->dedupe is then set, and kind; the caller frees the statement in any case. */
bool dedupe_stmt_parse(struct parser *);
void dedupe_stmt_free(struct dedupe_stmt *);
doc *dedupe_stmt_fields(void); /* of a survey */
int run_survey(struct run *, struct effects *);
int run_dedupe(struct run *, struct effects *);

#endif
