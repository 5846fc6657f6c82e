#ifndef BQF_BASE_DOC_H
#define BQF_BASE_DOC_H

#include "common/base/error.h"

/* JSON documents (not rows: those have their own scanner): jansson behind one adapter. Reference counted. */
typedef struct json_t doc;

/* NULL with ERR_TASK and "WHAT: line 3, column 7: ..." on bad text; duplicates of a key are refused. */
doc *doc_parse(const char *text, size_t len, const char *what, struct error *);
doc *doc_ref(doc *);
void doc_free(doc *);
DEFINE_AUTO(doc_free, doc *)

enum doc_type { DOC_NONE, DOC_NULL, DOC_BOOL, DOC_INT, DOC_REAL, DOC_STRING, DOC_ARRAY, DOC_OBJECT };
enum doc_type doc_type(const doc *);

/* Reading. path: "status.errorResult.reason", "errors.0.reason"; NULL or "" is the document itself. A missing or null field gives
 * the fallback. */
const doc *doc_get(const doc *, const char *path);
const doc *doc_field(const doc *object, const char *key); /* one key as it is, dots and all: for names a user chose */
const char *doc_str(const doc *, const char *path, const char *fallback); /* only strings, and none with a NUL inside */
int64_t doc_int(const doc *, const char *path, int64_t fallback);         /* numbers, and strings of digits as BigQuery's int64 */
double doc_real(const doc *, const char *path, double fallback);
bool doc_bool(const doc *, const char *path, bool fallback);              /* true, "true" */
size_t doc_len(const doc *);                                              /* of an array or object; else 0 */
const doc *doc_at(const doc *array, size_t i);
/* for (void *it = doc_first(o); it; it = doc_next(o, it)) doc_key(it), doc_value(it) */
void *doc_first(const doc *object);
void *doc_next(const doc *object, void *it);
const char *doc_key(void *it);
const doc *doc_value(void *it);

/* Building. Strings must be UTF-8 (others are replaced by U+FFFD). The setters return the object, for chains;
 * doc_set and doc_add take over the child. NULL strings are left out. */
doc *doc_object(void);
doc *doc_array(void);
doc *doc_string(const char *);
doc *doc_stringn(const char *, size_t);
doc *doc_integer(int64_t);
doc *doc_number(double);
doc *doc_boolean(bool);
doc *doc_null(void);
doc *doc_set(doc *object, const char *key, doc *child);
doc *doc_set_str(doc *object, const char *key, const char *value);
doc *doc_set_int(doc *object, const char *key, int64_t value);
doc *doc_set_int_text(doc *object, const char *key, int64_t value); /* as a string: BigQuery's int64 */
doc *doc_set_bool(doc *object, const char *key, bool value);
doc *doc_add(doc *array, doc *child);
doc *doc_copy(const doc *);      /* deep */
doc *doc_copy_top(const doc *);  /* its members are shared */
bool doc_equal(const doc *, const doc *);

/* Text the caller frees: one line, keys in the order they were set. */
char *doc_text(const doc *);

#endif
