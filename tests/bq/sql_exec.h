#ifndef BQF_TESTS_BQ_SQL_EXEC_H
#define BQF_TESTS_BQ_SQL_EXEC_H

#include "tests/bq/internal.h"

#include <strings.h>

/* Between the two halves of running a statement: its source (sql_source.c) and what becomes of the target (sql_exec.c). */

/* Texts to numbers. */
struct entry { UT_hash_handle hh; char *key; size_t len; int64_t value, found; };
struct entry *entry_find(struct entry *, const char *key, size_t len);
struct entry *entry_put(struct entry **, const char *key, size_t len); /* the one of that key, made when there is none */
void entries_free(struct entry **);

struct shard {
    const struct mtable *table;
    size_t *columns;       /* where the statement's columns are in it */
    size_t item, row, load;
};
struct src { const struct row *row; const struct shard *shard; int64_t item, number; int age; };

struct run {
    struct bqmodel *m;
    const struct stmt *s;
    const doc *params;
    struct error *err;
    const struct mtable *target;
    size_t *columns;       /* where the statement's columns are in the target */
    struct shard *shards;
    struct entry *loads, *excluded;
    struct src *rows;      /* the source's, in the end */
    size_t count, cap;
};

int run_fail(struct run *, const char *reason, const char *fmt, ...) PRINTF_LIKE(3, 4); /* -1 */
const struct mtable *run_table(struct run *, const struct bq_ref *);                   /* NULL: failed */
int run_column(struct run *, const struct mtable *, const char *name, size_t *out);
size_t run_position(const struct run *, const char *column);                           /* in the statement's columns; SIZE_MAX: none */
int run_source(struct run *);
void run_release(struct run *);
int run_fence(struct run *);
int run_update(struct run *, struct effects *);
int run_group(struct run *, struct effects *);
int run_range(struct run *, struct effects *);
/* The text of a scalar parameter of this type. */
int run_param(struct run *, const char *name, enum field_type, const char **text);
static inline const struct cell *src_cell(const struct src *r, size_t column) { return &r->row->cells[r->shard->columns[column]]; }
/* Greater than 0: a ranks higher; a NULL is lowest. */
int terms_compare(const struct run *, const struct cell *const *a, const struct cell *const *b);
/* The cells that the order is about. */
void src_terms(const struct run *, const struct src *, const struct cell **out);
/* Adds a cell to the text of a key. */
void key_add(struct buf *key, const struct cell *);
/* The rows of the target that the statement's constant range lets be seen. Closed also when opening failed. */
struct seen_range { const struct stmt *s; const struct field *field; size_t at; struct cell lo, hi; char *texts[2]; };
int seen_range_open(struct run *, struct seen_range *);
bool seen_range_has(const struct seen_range *, const struct row *);
void seen_range_close(struct seen_range *);
#define KEY_MAX (256 * 1024 * 1024) /* bytes */

#endif
