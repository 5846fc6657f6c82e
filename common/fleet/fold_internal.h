#ifndef BQF_FLEET_FOLD_INTERNAL_H
#define BQF_FLEET_FOLD_INTERNAL_H

#include <uthash.h>

#include "common/base/buf.h"
#include "common/fleet/fold.h"

/* The fold's own bookkeeping, shared by fold*.c. */
struct fold_name { char id[LOAD_ID_LEN + 1]; int64_t at; UT_hash_handle hh; };
struct fold_index {
    struct fold_name *loads, *shards;
    size_t first_uncut; /* no load before it is uncut */
    size_t uncut;       /* loads without a cut */
    int64_t highest;    /* highest done item + 1 */
    size_t first_open;  /* no cut before it is open */
};
static inline struct fold_index *fold_index(const struct fold *f) { return f->load_index; }
void fold_index_free(struct fold_index *);
int64_t fold_highest(const struct fold *); /* the highest item that is done, -1 */

/* 0: folded; 1: without effect; -1: contradicts the seal (nothing changed). */
int fold_manifest(struct fold *, const struct manifest *, int64_t offset, struct error *);
/* All uncut loads become the run's next cut. */
void fold_cut_run(struct fold *, int64_t offset, bool last);
int fold_cut_shard(struct fold *, const struct log_msg *, int64_t offset); /* 0, 1 */
int fold_settle_cut(struct fold *, const struct log_msg *outcome);         /* 0; 1: no such open cut */
void fold_void_open_cuts(struct fold *, int shard); /* those that stand on one of that shard, or -1: of the run */

/* Room for one more in a list of the fold. */
#define FOLD_GROW(v, count, cap)                                  \
    do {                                                          \
        if ((count) == (cap)) {                                   \
            (cap) = (cap) ? (cap) * 2 : 16;                       \
            (v) = xreallocarray((v), (cap), sizeof(*(v)));        \
        }                                                         \
    } while (0)

#endif
