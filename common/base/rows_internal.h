#ifndef BQF_BASE_ROWS_INTERNAL_H
#define BQF_BASE_ROWS_INTERNAL_H

#include "common/base/rows.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/*
 * The scanner's inside, shared by the rows*.c files only. Functions that read take the place where they begin and return the place
 * behind what they read, or NULL after scan_fail() or a relative of it has said why. Bytes are copied late, in runs: `run` is the
 * first byte of the row that is not in `out` yet, and only a value that is written otherwise than it was given ends a run early.
 */
struct scan;
struct column;
typedef const char *value_fn(struct scan *, const struct column *, const char *p);

#define KEY_HEAD 16

struct column {
    char head[KEY_HEAD];  /* the first bytes of `"name":`, for one comparison of 16 bytes */
    uint32_t head_mask;   /* which of them count */
    uint32_t key_len;     /* bytes of key */
    char *key;            /* `"name":` */
    value_fn *value;      /* reads one value; an element where the column is repeated */
    struct level *sub;    /* the columns of a STRUCT */
    const struct field *field;
    uint32_t next;        /* the column that followed this one in the row before: handlers keep their order */
    bool repeated, partition;
    bool wanted;          /* NULL is refused */
    bool merge_key;       /* for being a key, though the table would take it */
    bool ours;            /* a bookkeeping name, refused in rows */
};

/* The columns of the table or of one STRUCT. Each level has one set of seen-bits: a level is never inside itself. */
struct level {
    struct column *columns;
    uint32_t count, first; /* first: the column that came first in the row before */
    uint32_t *slots;       /* open addressing; index + 1, 0 is empty */
    uint32_t slot_mask;
    size_t words;
    uint64_t *seen, *wanted; /* wanted: may not be absent */
};

struct rowcheck {
    struct level *top;
    const struct column *partition;
    struct buf scratch; /* a string without its escapes */
};

struct scan {
    const char *begin, *end, *run;
    struct rowcheck *rc;
    struct buf *out;
    bool full;            /* out has passed its ceiling */
    bool has_partition;   /* the row has a value for the partition column */
    int64_t partition;
    char path[256];       /* of the failing column, built while unwinding */
    char what[512];       /* why it failed */
};

/* A number by JSON's grammar. The digits are in the text; exponents beyond a million are cut to it. */
struct number {
    const char *whole, *frac;
    size_t whole_len, frac_len;
    int exponent;
    bool negative, has_exponent;
};

static inline char scan_peek(const struct scan *s, const char *p)
{
    return p < s->end ? *p : '\0'; /* NUL is nowhere allowed outside a string, so it can stand for the end */
}

/* rows_text.c */
const char *scan_spaces(struct scan *, const char *p);
static inline const char *scan_space(struct scan *s, const char *p)
{
    if (p < s->end && (unsigned char)*p > ' ')
        return p;
    return scan_spaces(s, p);
}
void scan_flush(struct scan *, const char *to);                                        /* copies the run up to `to` */
void scan_replace(struct scan *, const char *from, const char *to, const char *text, size_t len);
void scan_put_quoted(struct scan *, const char *from, const char *to, const char *text, size_t len); /* the same, as a string */
const char *scan_string(struct scan *, const char *p, bool *escaped);                  /* p: behind the opening quote; returns the closing one */
/* p: the opening quote. The text without escapes: in the row, or in rc->scratch until the next call. */
const char *scan_text(struct scan *, const char *p, const char **text, size_t *len);
const char *scan_json(struct scan *, const char *p);                                   /* any JSON value */
const char *scan_number(const char *p, const char *end, struct number *);              /* NULL: not a number; says nothing */
bool number_overflows(const struct number *);                                          /* a double cannot hold it */
bool scan_word(const struct scan *, const char *p, const char *word);                  /* exactly this word stands here */
bool scan_ends(const struct scan *, const char *p);                                    /* a value may end here */

/* All return NULL. The first failure stays. */
const char *scan_fail(struct scan *, const char *fmt, ...) PRINTF_LIKE(2, 3);
const char *scan_syntax(struct scan *, const char *p, const char *wanted);
/* `VALUE is not an INT64; wanted ...`: from is the value's first byte. */
const char *scan_refuse(struct scan *, const struct column *, const char *from);
const char *scan_refuse_as(struct scan *, const char *from, const char *why); /* `VALUE WHY` */
void scan_in_column(struct scan *, const char *name);
void scan_in_element(struct scan *, size_t i);

/* rows_value.c, rows_time.c: the readers by type */
value_fn *value_reader(enum field_type);
value_fn value_date, value_time, value_datetime, value_timestamp, value_interval, value_range;
const char *value_struct(struct scan *, const struct column *, const char *p); /* rows.c */

static inline void scan_note_partition(struct scan *s, const struct column *c, int64_t v)
{
    if (c->partition) {
        s->has_partition = true;
        s->partition = v;
    }
}

#endif
