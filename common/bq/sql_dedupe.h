#ifndef BQF_BQ_SQL_DEDUPE_H
#define BQF_BQ_SQL_DEDUPE_H

#include "common/bq/sql.h"

/*
 * One row of each key, in a table that is there. Two statements, pure functions like the others: a survey, which changes nothing and says which partitions
 * hold rows of keys that have several; and the one that rewrites some of them.
 *
 * The rewriting statement reads and writes in one snapshot, and a row goes only when a row of its key that ranks higher is in that snapshot and stays. So no
 * key is ever lost, whatever is repeated, or is killed between two statements, or writes meanwhile; and a statement that is run again finds nothing.
 */
struct sql_scope {            /* partitions; count 0: all of the table */
    const char *const *ids; size_t count;
    bool has_range, has_null; /* some have values, those from lo to hi; the one without is among them */
    int64_t lo, hi;
};
struct sql_dedupe {
    const struct bq_ref *table;
    const struct schema *schema;
    const char *const *keys; size_t key_count;
    const char *const *order_by; size_t order_count; /* greatest first, NULLs last; then the row as JSON, so that there is an order of all rows */
    enum null_keys null_keys;  /* NULL_KEYS_EQUAL: NULL is a value; else a row with NULL in a key is the only one of its kind */
    const struct partition *partition;               /* NULL: the table has none */
    struct sql_scope compared; /* rows that are looked at: in these partitions */
    struct sql_scope rewritten;/* among those. The survey has no use for it */
    bool apart;                /* rewritten is not the same as compared: a key's rows may lie in several partitions */
    const struct sql_fence *fence; /* NULL: none */
};
/* ERR_USAGE: a column is not there, or cannot be compared exactly. */
int sql_dedupe_check(const struct sql_dedupe *, struct error *);
/* Columns of its rows, one for each partition that matters (one, with part "", where there are none): its id; its rows; those of keys that have several; how
 * many such keys are counted here (each of them in one partition); rows with NULL in a key, unless NULL is a value. So what is too much, in all, is
 * the sum of `repeated` less the sum of `keys`. */
enum { SURVEY_PART, SURVEY_ROWS, SURVEY_REPEATED, SURVEY_KEYS, SURVEY_NULLS };
int sql_dedupe_survey(const struct sql_dedupe *, struct buf *sql, doc **params, struct error *);
int sql_dedupe(const struct sql_dedupe *, struct buf *sql, doc **params, struct error *);

#endif
