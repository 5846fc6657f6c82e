#ifndef BQF_COORDINATOR_ITEMS_INTERNAL_H
#define BQF_COORDINATOR_ITEMS_INTERNAL_H

#include "common/base/buf.h"
#include "coordinator/items.h"

/* --- bytes: a file that is read at once, or a pipe that may have to be waited for ------------------------------------------------------- */

struct source {
    struct loop *loop;
    void (*ready)(void *);
    void *arg;
    int fd;
    bool waits;          /* no plain file: asked before it is read */
    struct watch *watch; /* while waiting */
    char *data;
    size_t at, len;      /* unread: data[at..len) */
};
enum { SOURCE_DATA = 1, SOURCE_END = 0, SOURCE_LATER = 2, SOURCE_FAILED = -1 };
int source_open(struct source *, const char *path, struct error *); /* "-": stdin */
/* SOURCE_DATA: there are unread bytes. SOURCE_LATER: ready(arg) will be called. */
int source_fill(struct source *, struct error *);
void source_close(struct source *);

/* --- keys seen, up to LIMIT_UNIQUE_KEYS ------------------------------------------------------------------------------------------------------ */

struct keyset;
struct keyset *keyset_new(void);
void keyset_free(struct keyset *);
/* 0: new. Else the place (from 1) it was seen at before. place: line or number, from 1. */
uint32_t keyset_add(struct keyset *, const char *key, size_t len, int64_t place);
size_t keyset_count(const struct keyset *);

/* --- readers ----------------------------------------------------------------------------------------------------------------------------------- */

struct csv;
struct query_items;

struct items {
    const struct spec *spec;
    const struct world *world;
    void (*ready)(void *);
    void *arg;
    const char *name;      /* of the source in messages */
    int64_t index;         /* of the next item */
    int64_t line;          /* last one read, from 1 */
    int64_t place;         /* where the item stands: a line, or a number in a list or result; from 1 */
    struct buf key;        /* of the item; more than LIMIT_KEY bytes: too long, and cut */
    struct buf payload;
    bool waiting;          /* the last answer was "not yet" */
    bool over;             /* the item has more than LIMIT_PAYLOAD bytes, which were dropped */
    struct source source;
    struct buf text;       /* the line being read */
    bool text_over;
    struct csv *csv;
    struct query_items *query;
    struct keyset *keys;   /* NULL: not checked (any more) */
    bool keys_dropped;
    bool ended;
    struct error failed;   /* what items_next said, once and for all */
};

/* Each gives 1 (key, payload, over and place are set), 0, 2 or -1 as items_next does. */
int items_line_next(struct items *, struct error *);  /* NDJSON, lines */
int items_csv_next(struct items *, struct error *);
int items_query_next(struct items *, struct error *);

struct csv *csv_new(void);
void csv_free(struct csv *);
struct query_items *query_items_start(struct items *, const char *run, struct error *);
void query_items_free(struct query_items *);

enum { LIMIT_PLACE = 512 };
/* Where the spec has its items: "spec.yaml:4:3"; what --set gave has no place in the file. */
const char *items_place(const struct spec *, char *out, size_t size);
/* -1 with ERR_USAGE and "players.ndjson:17: " or "spec.yaml:4:3: items.list, value 3: " before the text. */
int items_error(const struct items *, struct error *, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* The key from a field's value. -1 with an error that names the field. */
int items_key_from(struct items *, const doc *value, struct error *);
/* Bytes of a key: at most LIMIT_KEY + 1 are kept, which tells that it is too long. */
void items_key_add(struct items *, const char *p, size_t n);
/* A JSON string with its quotes. 0; -1: the ceiling; -2: no UTF-8. */
int items_json_string(struct buf *, const char *p, size_t n);

#endif
