#ifndef BQF_TESTS_SUPPORT_ITEMS_H
#define BQF_TESTS_SUPPORT_ITEMS_H

#include "coordinator/items.h"

#include "tests/unit/support_bqscript.h"

/* Reads the items of a spec as a submitter does, and says what they should be. */
struct reading {
    struct world world;
    struct rnd rnd;
    struct spec spec;
    struct items *items;
    bool ready;
    struct error err;
};

/* A real loop; or that of a script, whose client answers then. source: path or SQL. */
void reading_begin(struct reading *, enum items_kind, const char *source, const char *key, struct script *);
void reading_open(struct reading *);
void reading_end(struct reading *);
/* items_next, waited for. */
int reading_next(struct reading *, struct item *);

/* payload NULL: any. */
void gives(struct reading *, int64_t index, const char *key, const char *payload);
/* The item is given as one that fails for its size. */
void fails_alone(struct reading *, int64_t index, const char *key, const char *why);
void ends(struct reading *);
/* Reads to the error, which must begin like this behind the source's path, and stay. */
void ends_in_error(struct reading *, const char *said);

#endif
