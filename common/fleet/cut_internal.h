#ifndef BQF_FLEET_CUT_INTERNAL_H
#define BQF_FLEET_CUT_INTERNAL_H

#include "common/fleet/cut_text.h"

/* What the statements of a cut want, gathered from the folds. */
struct cut_gathered {
    struct sql_load *loads; size_t load_count;
    const char **ids;                 /* of the loads, as their rows have them */
    struct sql_exclusion *exclusions; size_t exclusion_count;
    struct bq_ref *shards; size_t shard_count;
    int *ages;                        /* of the shards */
    char (*names)[CUT_LOAD_SIZE];     /* of the loads */
    int64_t rows;                     /* of the cut's own loads */
    bool placed;                      /* where all rows lie is known: */
    bool has_range, range_null; int64_t lo, hi;
};

/* Puts folded tables in the place of the shards: t->folds, and what is gathered then speaks of those. 0, or -1 as cut_text_make. */
int cut_folds_make(const struct cut_of *, struct cut_gathered *, size_t shards_at_once, struct cut_text *, struct error *);

/* A digest of any length of text, in pieces. */
struct cut_digest { struct buf b; };
void cut_digest_add(struct cut_digest *, const char *fmt, ...) PRINTF_LIKE(2, 3);
void cut_digest_end(struct cut_digest *, char out[41]);
#define CUT_DIGEST_INIT ((struct cut_digest){BUF_INIT(SIZE_MAX / 2)})

#endif
