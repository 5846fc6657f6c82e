#ifndef BQF_BQ_SQL_H
#define BQF_BQ_SQL_H

#include "common/base/schema.h"
#include "common/bq/partition.h"

/* The SQL the product emits: pure functions from structures to text and parameters. Nothing a user or a row supplies is pasted in but
 * identifiers, which are validated and quoted with backquotes. */

enum write_mode { WRITE_MERGE, WRITE_APPEND, WRITE_REPLACE, WRITE_REPLACE_PARTITIONS, WRITE_NONE };
const char *write_mode_name(enum write_mode);

/* Rows with NULL in a key: not let in; one key like any other value; or never equal to anything, so that each is inserted. */
enum null_keys { NULL_KEYS_REFUSE, NULL_KEYS_EQUAL, NULL_KEYS_DISTINCT };
extern const char *const null_keys_names[3];

struct sql_load { const char *id; int64_t rows; int shard; /* index into shards */ };
struct sql_exclusion { const char *load; int64_t item; };

struct sql_fence { const struct bq_ref *permits; int slot; const char *token; }; /* token NULL: the parameters are added later (permits_fence_params) */

struct sql_cut {
    const struct bq_ref *target;
    const struct schema *schema;       /* of the target */
    enum write_mode mode;
    const char *const *keys; size_t key_count;
    enum null_keys null_keys;
    const char *const *order_by; size_t order_count;
    const char *const *insert_only; size_t insert_only_count;
    const struct bq_ref *shards; size_t shard_count;
    /* Of each shard, where some are an adopted run's: on equal keys and equal order_by the rows of the greater age win. Loads (and exclusions) are then
     * named "AGE/ID": a worker that served both runs numbers its loads anew for each. NULL: all are of one run. */
    const int *ages;
    const struct sql_load *loads; size_t load_count;
    const struct sql_exclusion *exclusions; size_t exclusion_count;
    const struct bq_ref *side;         /* loads and exclusions as a table instead (kind STRING, load STRING, number INT64); NULL: parameters */
    /* Partition pruning: only used when the partition column is a merge key, or whole partitions are replaced; lo and hi as in row_range; range_null: some rows have NULL there. Neither:
     * where the rows lie is not known. */
    const char *partition_column; bool has_range, range_null; int64_t range_lo, range_hi;
    const struct partition *partition; /* replace-partitions: those of the target */
    const struct sql_fence *fence;     /* the permit that it runs under: it fails when that is lost; NULL: none */
    /* A table of the target's columns whose rows are there, too, each ranking behind all others of its key where order_by does not decide; NULL: none. */
    const struct bq_ref *base;
};
/*
 * One statement: MERGE (merge, replace, replace-partitions), or INSERT ... SELECT (append). It fails, never does nothing, unless every load has exactly its number of rows.
 * Equal keys: the greatest order_by wins (NULLs last), then the greatest age, then the greatest item, then the greatest row; with keys also for append and replace. A row never
 * replaces one in the target that ranks higher by order_by; on a tie it does. Without loads: replace empties, and the others have nothing to do (returns 1).
 * replace-partitions deletes what was in the partitions that rows come to, and nothing else; it fails where those are more than one job may change.
 * 0, 1, or -1 with ERR_USAGE (a key of a type that cannot be one; reason "sqlTooLong": fold the shards first). A load that has not its rows makes the
 * job fail with reason "staging". With `side`, its contents are checked against loads and exclusions, which must be given as well.
 */
int sql_consolidate(const struct sql_cut *, struct buf *sql, doc **params, struct error *);

/* What a view shows: the rows of the base and of the loads that the side table lists by now, less the exclusions there; of each key, if there are any, one, which
 * sql_consolidate() would keep. Its own loads, exclusions and target are not used. Without shards: the base as it is. 0, or -1 with ERR_USAGE (reason "sqlTooLong"). */
int sql_view(const struct sql_cut *, struct buf *sql, struct error *);

/* One statement that copies all rows of these loads, of the cut's shards, into another staging table: `target`, of the same columns, `schema` being those
 * without bookkeeping. It fails unless every load has exactly its rows. Nothing else of the cut is used. 0, or -1 with ERR_USAGE (reason "sqlTooLong"). */
int sql_fold(const struct sql_cut *, struct buf *sql, doc **params, struct error *);

/* Whether the spec's write section fits the target: keys exist and are of a type that can be compared exactly (no FLOAT64, JSON, GEOGRAPHY,
 * STRUCT, ARRAY, INTERVAL, RANGE), order_by is orderable, insert_only exists and is no key. ERR_USAGE with advice. */
int sql_check_columns(const struct schema *, enum write_mode, const char *const *keys, size_t key_count, const char *const *order_by,
                      size_t order_count, const char *const *insert_only, size_t insert_only_count, struct error *);

/* The same for a table that is looked at by itself, in the words of a command line. */
int sql_check_table(const struct schema *, const char *const *keys, size_t key_count, const char *const *order_by, size_t order_count, struct error *);

/* A statement that does nothing: a job that only says, by its id and labels, that there was nothing to write. */
void sql_nothing(struct buf *sql);
/* A statement that would change the table if there were anything to change: for dry runs, which are refused to those who may not. */
void sql_touch(const struct bq_ref *, struct buf *sql);
/* SELECT ERROR('...'): the giveup job. */
void sql_give_up(struct buf *sql, const char *why);
/* Appends `name` quoted; aborts on a name that sql_identifier_ok refuses. */
void sql_quote(struct buf *, const char *identifier);
bool sql_identifier_ok(const char *);
void sql_quote_ref(struct buf *, const struct bq_ref *);

#endif
