#ifndef BQF_TESTS_SUPPORT_GOLDEN_H
#define BQF_TESTS_SUPPORT_GOLDEN_H

#include "common/base/buf.h"
#include "common/base/doc.h"

/* Texts of statements kept in tests/golden/sql, one line of JSON each, which Google's analyzer judges in the same words. */
#define CORPUS_MAX (8 * 1024 * 1024) /* bytes */

/* want: true, or a piece of the complaint. Takes both docs over. */
void golden_line(struct buf *out, const char *id, const char *sql, doc *types, doc *want);
/* {"loads":"ARRAY<STRUCT<`load` STRING, ...>>"} of a query's parameters. */
doc *golden_types(const doc *params);
/* Fails unless the file of that name holds just this text. BQF_UPDATE_GOLDEN=1 in the environment writes it anew. */
void golden_compare(const char *name, const char *text);
/* The names of a list "a,b", which point into copy. How many; none of NULL. */
size_t golden_split(const char *list, char *copy, size_t size, const char **out);

#endif
