#ifndef BQF_BQ_SQL_INTERNAL_H
#define BQF_BQ_SQL_INTERNAL_H

#include "common/bq/sql.h"

/* Pieces that the statements over shards have in common. */

struct sql_text { /* the statement while it is written; adding never fails, `full` says whether it fitted */
    struct buf *sql;
    const struct sql_cut *cut;
    bool full;
};
void sql_put(struct sql_text *, const char *fmt, ...) PRINTF_LIKE(2, 3); /* a phrase with at most a name or two in it */
void sql_put_text(struct sql_text *, const char *);
void sql_put_partition(struct sql_text *, const char *alias); /* the id of the row's partition */
void sql_put_ref(struct sql_text *, const struct bq_ref *);
void sql_put_columns(struct sql_text *, const char *prefix);
void sql_put_column_nulls(struct sql_text *);
void sql_put_nulls(struct sql_text *); /* one for each column of the source */
/* What order_by compares of a row of `side`: one term, or two. */
#define SQL_TERMS_MAX 2
size_t sql_order_terms(const struct field *, const char *side, char out[SQL_TERMS_MAX][1024]);
/* bqfleet_loads, from the parameters or the side table; bqfleet_found, from bqfleet_staged. */
void sql_put_loads(struct sql_text *);
void sql_put_found(struct sql_text *);
/* The branch that fails where a load has not its rows, after "UNION ALL SELECT nulls". */
void sql_put_load_check(struct sql_text *);

/* A column by its name as a spec writes it, in whatever case; it is there (sql_check_columns). */
const struct field *sql_column(const struct sql_cut *, const char *name);
bool sql_listed(const char *const *names, size_t count, const char *name);
/* Whether the statement names the range of its partition column. */
bool sql_pruned(const struct sql_cut *);
/* Whether rows may have NULL in this key, so that it matters how that compares. */
bool sql_null_key(const struct sql_cut *, const char *key);
doc *sql_cut_params(const struct sql_cut *);

#endif
