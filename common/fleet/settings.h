#ifndef BQF_FLEET_SETTINGS_H
#define BQF_FLEET_SETTINGS_H

#include "common/base/config.h"

/* The settings of both programs: one row each in settings.c. Bits of `who`: which program or command takes them. */
enum {
    WHO_WORKER = 1,      /* bqfleet-worker */
    WHO_EMBEDDED = 2,    /* run and try without brokers */
    WHO_FLEET = 4,       /* commands that speak to a fleet */
    WHO_BIGQUERY = 8,    /* commands that speak to BigQuery */
    WHO_RUN = 16, WHO_SUBMIT = 32, WHO_WATCH = 64, WHO_SERVE = 128, WHO_TOPICS = 256, WHO_PLAN = 512, WHO_TRY = 1024, WHO_STATUS = 2048,
    WHO_FINISH = 4096, WHO_CANCEL = 8192, WHO_CONFIG = 16384, WHO_INIT = 32768,
    WHO_DEAD = 65536, WHO_REDRIVE = 131072, WHO_PERMITS = 262144, WHO_DOCTOR = 524288, WHO_DEDUPE = 1048576, WHO_ALL = 0x7fffffff
};

struct settings {
    /* bus */
    char *brokers; char **kafka; char *kafka_file; char *prefix;
    /* BigQuery */
    char *project, *location, *bigquery_url, *auth, *token, *ca_file, *proxy;
    int64_t requests;
    /* work */
    int64_t parallel, buffer, streams, load_size, linger_ms, prefetch, grace_ms, session_ms;
    char *compress, *pace;
    /* worker */
    char *queue, *name, **handler, *handlers_file;
    bool static_member;
    /* commands */
    char *run_id, **set, *failed, *to, *item, *output, *progress, *text;
    char *key, *since, *until, *rate, *keys, *order_by, *null_keys, **partition;
    int64_t max_bytes_billed, limit, partitions, replication, permits, lease_ms, wait_ms, abandon_ms, takeover_ms;
    bool replace_run, accept_failed, accept_rest, dry_run, detach, yes, probe;
    /* process */
    char *config, *log_level, *log_format;
    bool stats, help, version;
};
extern const struct opt settings_rows[];
extern const size_t settings_count;

/* Sets up the process's log as they say. */
int settings_log(const struct settings *, struct error *);
/* Whether loads are paced with the service at that address. */
bool settings_paced(const struct settings *, const char *url);
/* That --ca-file, if it is given, can be read and holds certificates. 0, or -1 (ERR_USAGE). */
int settings_check_ca(const struct settings *, struct error *);
/* librdkafka properties, KEY=VALUE each: those of --kafka-file first, so that those of --kafka have the last word. A vector that strv_free releases; NULL
 * with err. */
char **settings_kafka(const struct settings *, struct error *);

#endif
