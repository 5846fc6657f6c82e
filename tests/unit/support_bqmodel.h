#ifndef BQF_TESTS_SUPPORT_BQMODEL_H
#define BQF_TESTS_SUPPORT_BQMODEL_H

#include "common/bq/sql.h"
#include "tests/bq/bqmodel.h"
#include "tests/unit/support_net.h"

/* For tests of the model: a virtual world with it, and requests as the product sends them. */

#define START_US (INT64_C(1767225600) * US_PER_S) /* 2026-01-01 */
#define TARGET "k:STRING, v:INT64, at:TIMESTAMP, x:FLOAT64"
#define SHARD TARGET ", bqfleet_item:INT64, bqfleet_row:INT64, bqfleet_load:STRING"
#define URL "http://model/bigquery/v2/projects/local"
#define UPLOAD "http://model/upload/bigquery/v2/projects/local/jobs"

struct world {
    struct loop *loop;
    struct bqmodel *m;
    struct http *http;
    struct reply last;
    char location[256], range[64]; /* headers of the last answer */
    doc *doc; /* of the last answer */
};
void world_begin(struct world *, const struct bqmodel_options *);
void world_end(struct world *);
int world_setup(void **state); /* with ds.t of TARGET and ds.s of SHARD */
int world_teardown(void **state);
void world_sleep(struct world *, int64_t ms);

/* One request to its end; the status, 0 when there was no answer. */
int ask_with(struct world *, const char *method, const char *url, const char *const *headers, const char *body, size_t len);
int ask(struct world *, const char *method, const char *path, const char *body);
void assert_answer(const struct world *, const char *path, const char *text);
void assert_rows(struct world *, const char *table, const char *json);

char *load_job(const char *id, const char *table); /* its JSON; the caller frees */
int insert_load(struct world *, const char *id, const char *table, const char *lines);
int insert_query(struct world *, const char *id, const char *sql, doc *params);
void get_job(struct world *, const char *id);
void wait_job(struct world *, const char *id);
void load(struct world *, const char *id, const char *table, const char *lines);

struct cut { /* what differs from a merge on k of load "l1" with one row in ds.s */
    enum write_mode mode;
    const char *key, *order, *keep;
    struct sql_load loads[3];
    struct sql_exclusion exclusions[2];
    bool side, unkeyed, nothing;
    const struct sql_fence *fence;
    const char *part;
    int64_t lo, hi;
    bool part_null, no_range;
    const struct partition *partition;
    enum null_keys nulls;
};
/* The statement as the product writes it, under this job id; the status of the insert. */
int insert_cut(struct world *, const char *id, const struct cut *);
void run_cut(struct world *, const struct cut *); /* to its end */
void assert_good(const struct world *);           /* the job that was read last */
void assert_counts(const struct world *, int inserted, int updated, int deleted);

#define ROW(k, v, at, x, item, row, load) \
    "{\"k\":" k ",\"v\":" #v ",\"at\":" at ",\"x\":" x ",\"bqfleet_item\":" #item ",\"bqfleet_row\":" #row ",\"bqfleet_load\":\"" load "\"}\n"
#define PLAIN(k, v, item, load) ROW("\"" k "\"", v, "null", "null", item, 0, load)

#endif
