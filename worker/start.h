#ifndef BQF_WORKER_START_H
#define BQF_WORKER_START_H

#include "common/fleet/names.h"
#include "common/fleet/settings.h"
#include "worker/worker.h"

/* One answer waited for. */
struct waiting { bool done; struct error err; };

/* The world of a bqfleet-worker process, made from its settings: Kafka, BigQuery, children. */
struct start {
    struct world world;
    struct rnd rnd;
    struct metrics metrics;
    struct http *http;
    struct auth *auth;
    struct permits_set *permits;
    struct waiting credentials; /* for the first token */
    struct handler_defs handlers;
    char name[LIMIT_NAME];
};
/* env: getenv. ERR_USAGE for what the user must change; ERR_FATAL when the broker does not answer within settings->wait_ms. */
int start_open(struct start *, const struct settings *, const char *(*env)(const char *), struct error *);
void start_close(struct start *);
void start_options(const struct start *, const struct settings *, struct worker_options *);

#endif
