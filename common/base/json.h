#ifndef BQF_BASE_JSON_H
#define BQF_BASE_JSON_H

#include "common/base/buf.h"

/* JSON text without a document: values are passed over and stay bytes. For the lines between us and handlers, where rows are only carried. Brackets are
 * counted, not matched: whoever uses what is between them (the row scanner, the document parser) reads it properly. */

struct span { const char *p; size_t n; };
struct json_scan { const char *p, *end; };

static inline struct json_scan json_scan_of(const char *p, size_t n) { return (struct json_scan){.p = p, .end = p + n}; }
void json_space(struct json_scan *);
/* The next value and nothing after it; space before it is passed. 0, or -1 at its end or where it is cut short. */
int json_value(struct json_scan *, struct span *out);
/* After an object's '{' (first: true, and set to false): 1 with its next member, the key in its quotes; 0 past its '}'; -1 when it is none. */
int json_member(struct json_scan *, bool *first, struct span *key, struct span *value);
/* Whether it is one object with nothing but space around it. */
bool json_is_object(const char *p, size_t n);

bool span_is(struct span, const char *text);
/* Decimal digits, at most 18: 0, or -1. */
int span_int(struct span, int64_t *out);

/* Appends the bytes as a JSON string; what is no UTF-8 becomes U+FFFD. */
void json_put_string(struct buf *, const char *p, size_t n);
/* Appends what a JSON string (with its quotes) stands for: 0, or -1 when it is none. */
int json_get_string(struct span, struct buf *out) MUST_CHECK;

#endif
