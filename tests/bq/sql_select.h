#ifndef BQF_TESTS_BQ_SQL_SELECT_H
#define BQF_TESTS_BQ_SQL_SELECT_H

#include "tests/bq/sql_exec.h"

/*
 * What the model understands of a user's SELECT over a group of items, which is little:
 *
 *   SELECT expr [AS name], ... FROM UNNEST(@items) AS i [, UNNEST(GENERATE_ARRAY(1, expr)) AS r] [WHERE expr = expr]
 *   expr: i.item, i.key, r, 'text', 12, expr + expr, expr * expr, DIV(expr, expr), CAST(expr AS INT64|STRING|FLOAT64), ERROR(expr),
 *         IF(expr = expr, expr, expr), JSON_VALUE(i.payload, '$.name'), JSON_VALUE(@params, '$.name')
 *
 * Comments may stand anywhere, and what it computes wrongly fails as in BigQuery: "Bad int64 value: x", "division by zero: 1 / 0".
 */
struct select;
/* NULL: it is none of these; *at is where it stopped to be. */
struct select *select_parse(const char *sql, size_t len, const char **at);
void select_free(struct select *);
size_t select_columns(const struct select *);
const char *select_name(const struct select *, size_t column);
enum field_type select_type(const struct select *, size_t column);

struct selected { char **texts; size_t count, cap; }; /* row by row; NULL: NULL */
/* 0; -1: run_fail. params: the query's. */
int select_run(struct run *, const struct select *, struct selected *);
void selected_free(struct selected *);
/* The row's column. */
static inline const char *selected_at(const struct selected *s, size_t columns, size_t row, size_t column) { return s->texts[row * columns + column]; }
static inline size_t selected_rows(const struct selected *s, size_t columns) { return s->count / columns; }

/* The parameter of @items: the items' indexes, in its order. -1: run_fail. */
struct group_item { int64_t item; const char *key, *payload; };
int select_items(struct run *, struct group_item **out, size_t *count); /* the caller frees */

#endif
