#include "common/fleet/settings.h"

#define AT(field) offsetof(struct settings, field)
#define BUS (WHO_WORKER | WHO_FLEET)
#define BQ (WHO_WORKER | WHO_BIGQUERY)
#define WORK (WHO_WORKER | WHO_EMBEDDED)
#define MAX_BYTES (INT64_C(1) << 40)
#define DAY_MS INT64_C(86400000)

/* One setting a row: the source of --help, of `config show` and of the README's table. */
const struct opt settings_rows[] = {
    {"brokers", OPT_STR, AT(brokers), NULL, 0, 0, BUS, "HOST:PORT,...", "Kafka bootstrap servers; without them `run` works in one process.", NULL},
    {"kafka", OPT_LIST, AT(kafka), NULL, 0, 0, BUS, "KEY=VALUE", "A librdkafka property, passed through (TLS, SASL, ...); repeatable.", NULL},
    {"kafka-file", OPT_STR, AT(kafka_file), NULL, 0, 0, BUS, "FILE", "librdkafka properties, one key=value a line.", NULL},
    {"prefix", OPT_STR, AT(prefix), "bqfleet.", 0, 0, BUS, "TEXT", "Prefix of the topics and of the consumer groups.", NULL},
    {"project", OPT_STR, AT(project), NULL, 0, 0, BQ, "ID", "Project that runs the jobs; default: the spec's, then GOOGLE_CLOUD_PROJECT, then the credentials'.", NULL},
    {"location", OPT_STR, AT(location), NULL, 0, 0, WHO_BIGQUERY, "NAME", "Location of the jobs; default: the target dataset's.", NULL},
    {"bigquery-url", OPT_STR, AT(bigquery_url), NULL, 0, 0, BQ, "URL", "Where BigQuery's API is; default: BIGQUERY_EMULATOR_HOST, then https://bigquery.googleapis.com.", NULL},
    {"auth", OPT_STR, AT(auth), "auto", 0, 0, BQ, "HOW", "Credentials: none, the token, or application default credentials (auto: none for an emulator, else the token if there is one, else adc).", "auto|anonymous|bearer|adc"},
    {"token", OPT_SECRET, AT(token), NULL, 0, 0, BQ, "TOKEN", "Bearer token; better given by BQFLEET_TOKEN or BQFLEET_TOKEN_FILE than on the command line.", NULL},
    {"ca-file", OPT_STR, AT(ca_file), NULL, 0, 0, BQ, "FILE", "Certificates to trust instead of the system's.", NULL},
    {"requests", OPT_INT, AT(requests), "32", 1, 300, BQ, "N", "HTTP requests at once in this process.", NULL},
    {"parallel", OPT_INT, AT(parallel), "cores", 1, 100000, WORK | WHO_TRY, "N", "Items at once.", NULL},
    {"buffer", OPT_SIZE, AT(buffer), "64MiB", 1 << 20, MAX_BYTES, WORK, "SIZE", "Bytes of rows held at once, in all.", NULL},
    {"streams", OPT_INT, AT(streams), "8", 1, 64, WORK, "N", "Items too large for the buffer that are loaded at once, while their rows come.", NULL},
    {"load-size", OPT_SIZE, AT(load_size), "16MiB", 1 << 10, MAX_BYTES, WORK, "SIZE", "Bytes of rows at which a load starts.", NULL},
    {"linger", OPT_MS, AT(linger_ms), "2s", 0, 600000, WORK, "TIME", "Longest wait before a load starts.", NULL},
    {"prefetch", OPT_SIZE, AT(prefetch), "8MiB", 1 << 16, MAX_BYTES, WHO_WORKER, "SIZE", "Bytes of messages fetched ahead.", NULL},
    {"grace", OPT_MS, AT(grace_ms), "25s", 0, DAY_MS, WORK, "TIME", "After SIGTERM: how long items in flight may take to finish; in one process, how long BigQuery is waited for.", NULL},
    {"session", OPT_MS, AT(session_ms), "45s", 6000, 1800000, WHO_WORKER, "TIME", "Consumer session time-out.", NULL},
    {"queue", OPT_STR, AT(queue), "default", 0, 0, WHO_WORKER | WHO_TOPICS | WHO_STATUS, "NAME", "The queue that is served.", NULL},
    {"name", OPT_STR, AT(name), NULL, 0, 0, WHO_WORKER, "NAME", "This worker's name; default: the host's name and the process id.", NULL},
    {"static-member", OPT_BOOL, AT(static_member), "false", 0, 0, WHO_WORKER, NULL, "Use --name as group.instance.id: a restart under the same name causes no rebalance.", NULL},
    {"handler", OPT_LIST, AT(handler), NULL, 0, 0, WHO_WORKER, "NAME=COMMAND", "A handler this worker offers: a program kept running, or `query:FILE`, a SELECT (repeatable).", NULL},
    {"handlers-file", OPT_STR, AT(handlers_file), NULL, 0, 0, WHO_WORKER, "FILE", "Handlers as YAML, in the form of a spec's `handlers`.", NULL},
    {"run-id", OPT_STR, AT(run_id), NULL, 0, 0, WHO_RUN | WHO_SUBMIT | WHO_REDRIVE, "ID", "The run's id; a run that exists already is attached to instead of submitted again.", NULL},
    {"set", OPT_LIST, AT(set), NULL, 0, 0, WHO_RUN | WHO_SUBMIT | WHO_PLAN | WHO_TRY, "PATH=VALUE", "Overrides a field of the spec, e.g. write.table=d.t (repeatable).", NULL},
    {"replace", OPT_BOOL, AT(replace_run), "false", 0, 0, WHO_RUN | WHO_SUBMIT, NULL, "Cancel an open run of the same batch first.", NULL},
    {"failed", OPT_STR, AT(failed), NULL, 0, 0, WHO_RUN | WHO_WATCH | WHO_FINISH | WHO_REDRIVE, "FILE", "Write failed items there as NDJSON, to be run again by items.file.", NULL},
    {"to", OPT_STR, AT(to), NULL, 0, 0, WHO_RUN, "FILE", "With write.mode none: where rows go; default: stdout.", NULL},
    {"limit", OPT_INT, AT(limit), "3", 1, 1000000, WHO_PLAN | WHO_TRY, "N", "How many items.", NULL},
    {"item", OPT_STR, AT(item), NULL, 0, 0, WHO_TRY | WHO_DEAD | WHO_REDRIVE, "ITEM", "Only that item: its key for try, its number for dead and redrive.", NULL},
    {"key", OPT_STR, AT(key), NULL, 0, 0, WHO_DEAD | WHO_REDRIVE, "KEY", "Only the failed item of that key.", NULL},
    {"since", OPT_STR, AT(since), NULL, 0, 0, WHO_DEAD | WHO_REDRIVE, "WHEN", "Only items that failed then or later: 2026-01-31T12:00:00Z, or how long ago (2h).", NULL},
    {"until", OPT_STR, AT(until), NULL, 0, 0, WHO_DEAD | WHO_REDRIVE, "WHEN", "Only items that failed before.", NULL},
    {"dry-run", OPT_BOOL, AT(dry_run), "false", 0, 0, WHO_REDRIVE, NULL, "Say what would be redriven, and whether all of it is still in the queue.", NULL},
    {"rate", OPT_STR, AT(rate), NULL, 0, 0, WHO_REDRIVE, "N/s", "Publish at most so many items a second (or N/m, N/h).", NULL},
    {"accept-rest", OPT_BOOL, AT(accept_rest), "false", 0, 0, WHO_REDRIVE, NULL, "Failed items of a held run that are not selected no longer count against finish.tolerate.", NULL},
    {"accept-failed", OPT_BOOL, AT(accept_failed), "false", 0, 0, WHO_FINISH, NULL, "Write a held run without its failed items.", NULL},
    {"reason", OPT_STR, AT(text), NULL, 0, 0, WHO_CANCEL | WHO_DEAD | WHO_REDRIVE, "TEXT", "For cancel: why, for the run's log. For dead and redrive: only items that failed for this reason.", NULL},
    {"permits", OPT_INT, AT(permits), "1", 1, 64, WHO_PERMITS, "N", "For permits init: how many there are at least.", NULL},
    {"yes", OPT_BOOL, AT(yes), "false", 0, 0, WHO_PERMITS, NULL, "For permits free: also one that is held.", NULL},
    {"partitions", OPT_INT, AT(partitions), "16", 1, 10000, WHO_TOPICS, "N", "Partitions of a queue's topic.", NULL},
    {"replication", OPT_INT, AT(replication), "0", 0, 100, WHO_TOPICS, "N", "Replicas of each topic; 0: the broker's default.", NULL},
    {"wait", OPT_MS, AT(wait_ms), "30s", 100, DAY_MS, WHO_FLEET | WHO_BIGQUERY, "TIME", "How long a service may take to answer at the start.", NULL},
    {"abandon-after", OPT_MS, AT(abandon_ms), "5m", 1000, DAY_MS, WHO_RUN | WHO_SERVE, "TIME", "A submitter silent for so long is given up, and its run ended.", NULL},
    {"permit-lease", OPT_MS, AT(lease_ms), "60s", 2000, DAY_MS, WHO_WORKER | WHO_RUN | WHO_SERVE | WHO_WATCH | WHO_FINISH | WHO_REDRIVE, "TIME",
     "A permit of a process that is gone may be taken by others after so long; as long in all processes.", NULL},
    {"takeover-after", OPT_MS, AT(takeover_ms), "30s", 1000, DAY_MS, WHO_RUN | WHO_SERVE | WHO_WATCH, "TIME", "A consolidation is left to the run's submitter for so long, then done here.", NULL},
    {"output", OPT_STR, AT(output), "text", 0, 0, WHO_ALL & ~WHO_WORKER, "FORM", "What stdout carries.", "text|json"},
    {"progress", OPT_STR, AT(progress), "auto", 0, 0, WHO_RUN | WHO_SUBMIT | WHO_WATCH | WHO_FINISH | WHO_REDRIVE, "HOW", "Progress on stderr.", "auto|plain|json|none"},
    {"config", OPT_STR, AT(config), NULL, 0, 0, WHO_ALL, "FILE", "Settings as YAML.", NULL},
    {"log-level", OPT_STR, AT(log_level), "info", 0, 0, WHO_ALL, "LEVEL", "What is logged.", "debug|info|warn|error"},
    {"log-format", OPT_STR, AT(log_format), "auto", 0, 0, WHO_ALL, "FORM", "How it is logged.", "auto|plain|json"},
    {"stats", OPT_BOOL, AT(stats), "false", 0, 0, WORK | WHO_RUN | WHO_SERVE, NULL, "Print the counters at the end.", NULL},
    {"help", OPT_BOOL, AT(help), "false", 0, 0, WHO_ALL, NULL, "Show this help.", NULL},
    {"version", OPT_BOOL, AT(version), "false", 0, 0, WHO_ALL, NULL, "Show the version.", NULL},
};
const size_t settings_count = ARRAY_LEN(settings_rows);
