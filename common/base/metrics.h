#ifndef BQF_BASE_METRICS_H
#define BQF_BASE_METRICS_H

#include "common/base/base.h"

/* Counters and gauges as rows; --stats prints them now, an exporter reads the same rows later. */
#define METRIC_ROWS(X)                                                                                    \
    X(ITEMS_TAKEN, counter, "items_taken_total", "Work messages taken from the queue.")                    \
    X(ITEMS_DONE, counter, "items_done_total", "Items whose manifest was acknowledged.")                   \
    X(ITEMS_FAILED, counter, "items_failed_total", "Items that failed for good.")                          \
    X(ITEMS_RETRIED, counter, "items_retried_total", "Attempts that were followed by another one.")        \
    X(ITEMS_SKIPPED, counter, "items_skipped_total", "Deliveries dropped: done before, or of no open run.") \
    X(ITEMS_IN_FLIGHT, gauge, "items_in_flight", "Items with a handler now.")                              \
    X(ITEMS_UNFINISHED, gauge, "items_unfinished", "Items taken and not yet done.")                        \
    X(ROWS, counter, "rows_total", "Rows taken from handlers.")                                            \
    X(ROW_BYTES, counter, "row_bytes_total", "Bytes of rows taken from handlers.")                         \
    X(BUFFER_BYTES, gauge, "buffer_bytes", "Bytes of rows held now.")                                      \
    X(LOADS, counter, "loads_total", "Load jobs that ended without error.")                                \
    X(LOADS_FAILED, counter, "loads_failed_total", "Load jobs that ended with an error.")                  \
    X(MANIFESTS, counter, "manifests_total", "Manifests acknowledged.")                                    \
    X(COMMITS, counter, "commits_total", "Offset commits sent.")                                           \
    X(REBALANCES, counter, "rebalances_total", "Assignments received.")                                    \
    X(CHILDREN_STARTED, counter, "children_started_total", "Handler processes started.")                   \
    X(CHILDREN_DIED, counter, "children_died_total", "Handler processes that ended unasked.")              \
    X(HTTP_REQUESTS, counter, "http_requests_total", "HTTP requests sent.")                                \
    X(HTTP_RETRIES, counter, "http_retries_total", "HTTP requests sent again.")                            \
    X(HTTP_FAILURES, counter, "http_failures_total", "HTTP requests without an answer.")                   \
    X(JOBS, counter, "jobs_total", "BigQuery jobs inserted.")                                              \
    X(ITEMS_PUBLISHED, counter, "items_published_total", "Work messages acknowledged by the bus.")         \
    X(LOG_MESSAGES, counter, "log_messages_total", "Messages of run logs folded.")

#define METRIC_ENUM(id, type, name, help) METRIC_##id,
enum metric { METRIC_ROWS(METRIC_ENUM) METRIC_COUNT };

struct metrics { int64_t value[METRIC_COUNT]; };

static inline void metric_add(struct metrics *m, enum metric id, int64_t n) { if (m) m->value[id] += n; }
static inline void metric_set(struct metrics *m, enum metric id, int64_t n) { if (m) m->value[id] = n; }
/* Prometheus text (names prefixed "bqfleet_"), with HELP and TYPE. Caller frees. */
char *metrics_text(const struct metrics *);
/* "name value" lines for --stats; zero rows are left out. Caller frees. */
char *metrics_table(const struct metrics *);

#endif
