#ifndef BQF_BASE_LIMITS_H
#define BQF_BASE_LIMITS_H

/* Every ceiling of every buffer, queue and wait, in one place. Bytes, counts, milliseconds as named. */

/* Names and small texts */
#define LIMIT_NAME 128             /* bytes of a batch, handler, queue, worker name or run id */
#define LIMIT_KEY 1024             /* bytes of an item's key */
#define LIMIT_FAILURE_TEXT 512     /* bytes of an item's error in a manifest */
#define LIMIT_DEAD_TEXT 65536      /* bytes of an item's error in the dead topic */

/* Memory */
#define LIMIT_SPARES (2 * 1024 * 1024) /* bytes of small objects that are kept for the next ones, in one place that makes them */

/* Messages on the bus */
#define LIMIT_PAYLOAD (900 * 1024) /* bytes of an item's payload: below Kafka's usual 1 MB message limit */
#define LIMIT_MANIFEST (256 * 1024)/* bytes of a manifest */
#define LIMIT_RECORD (768 * 1024)  /* bytes of a run's record */
#define LIMIT_COMMIT_METADATA 4096 /* bytes of a commit's metadata: Kafka's offset.metadata.max.bytes */

/* Runs */
#define LIMIT_ITEMS INT64_C(1000000000)   /* items of a run: a bitmap of 125 MB */
#define LIMIT_UNIQUE_KEYS 1000000         /* items up to which repeated keys are found when submitting */
#define LIMIT_BACKLOG 100000              /* items submitted in one process and not yet done; at half of it more are read */
#define LIMIT_BACKLOG_BYTES (32 * 1024 * 1024) /* bytes of their keys and payloads, likewise */
#define LIMIT_TRIES 8                     /* tries of one job before it is given up */
#define LIMIT_CONTENDED_TRIES 1000        /* tries of one consolidation that others' statements were in the way of, which are not counted either: some eight hours */
#define LIMIT_QUOTA_TRIES 400             /* tries of one job that a quota refused, which are not counted among those: a week of them */
#define LIMIT_PARAM_LOADS 10000           /* loads or exclusions as array parameters; beyond, a side table */
#define LIMIT_SHARDS_PER_QUERY 900        /* shards in one statement; beyond, they are folded first */
#define LIMIT_SHARDS_PER_VIEW 500         /* in a view, whose readers' statements have other tables, too; beyond, they are compacted */
#define LIMIT_ADOPTED 16                  /* held runs, one redriving the other, that one run can take over */
#define EXPIRY_STAGING (INT64_C(7) * 24 * 3600 * 1000) /* milliseconds after which a staging table that nobody renews goes away */

/* Coordinators */
#define LIMIT_PUBLISHING 10000            /* items published and not acknowledged at which a submitter reads no more */
#define LIMIT_PUBLISHING_BYTES (16 * 1024 * 1024) /* bytes of them, likewise */
#define LIMIT_SIDE_BYTES (256 * 1024 * 1024) /* bytes of a side table's rows */
#define LIMIT_FAILED_SHOWN 20             /* failed items named in a summary */

/* Workers */
#define LIMIT_UNFINISHED 20000            /* items taken and not yet done at which a worker takes no more; it goes on at half of it */
#define LIMIT_TAKEN_BYTES (8 * 1024 * 1024) /* bytes of their keys and payloads, likewise */
#define LIMIT_ACK_SPAN (INT64_C(1) << 31) /* offsets of a partition above its oldest unfinished one: no more is taken beyond it */
#define LIMIT_ACK_RUNS (256 * 1024)       /* bytes of run lengths in a commit's metadata, before compression */
#define LIMIT_TAKEOVERS 3                 /* deaths of a partition's holders in a row, after which the next one is careful with its items */
#define LIMIT_DOUBT 1000                  /* offsets above those known to be done that a death is about */
#define LIMIT_CAREFUL 16                  /* items that a careful worker lets go to handlers at once */
#define LIMIT_SUSPECTS 32                 /* items of a partition that are suspected of their worker's death */
#define LIMIT_KILLS 2                     /* deaths of workers in a row, with nothing but the same item running, after which it has failed */
#define LIMIT_MANIFEST_ITEMS 4000         /* items without rows that wait for a manifest of their own */
#define LIMIT_GROUP_ITEMS 10000           /* items of one statement: with every second index its manifest still fits */
#define LIMIT_GROUP_BYTES (1024 * 1024) /* bytes of a statement's items as parameters, but for one item more; a request takes 10 MB */
#define LIMIT_GROUPS 4                    /* statements of one run at once in a worker: BigQuery takes 25 in 10 s on one table */
#define LIMIT_BUFFER_LEAST (4 * UPLOAD_UNIT) /* bytes of rows held at once: the least --buffer */
#define LIMIT_STREAMS 8                   /* loads at once whose rows are sent while they come, unless --streams says otherwise */
#define LIMIT_STARTS 3                    /* starts in a row of a handler that never worked before its run is stopped */

/* Rows and handlers */
#define LIMIT_ROW (32 * 1024 * 1024)      /* bytes of one row as JSON */
#define LIMIT_LINE (64 * 1024 * 1024)     /* bytes of one line from a handler */
#define LIMIT_NEST 15                     /* depth of nested STRUCTs: BigQuery's own limit */
#define LIMIT_COLUMNS 10000               /* columns of a table: BigQuery's own limit */
#define LIMIT_CHILD_STDIN (256 * 1024 * 1024) /* bytes written to a child that its pipe has not taken yet */
#define LIMIT_LAST_WORDS 4096             /* bytes of a dying handler's stderr that are kept */

/* HTTP */
#define LIMIT_HTTP_BODY (32 * 1024 * 1024)   /* bytes of an answer */
#define LIMIT_HTTP_REQUESTS 64               /* requests at once in one process */
#define LIMIT_HTTP_HEADERS (64 * 1024)       /* bytes of an answer's headers */
#define LIMIT_HTTP_HEADER_COUNT 200          /* headers of an answer */

#define LIMIT_MULTIPART (4 * 1024 * 1024)    /* bytes of a load sent in one request; more goes by a resumable session */
#define UPLOAD_UNIT 262144                   /* bytes: every PUT of a session but its last one has a multiple of them, as the service demands */
#define UPLOAD_CHUNK (32 * UPLOAD_UNIT)      /* bytes of one PUT of a session */
#define LIMIT_UPLOAD_SESSIONS 5              /* sessions of one upload that may be lost without any getting through */

/* Credentials */
#define LIMIT_CREDENTIALS (64 * 1024)        /* bytes of a file of credentials, or of one that holds a subject token */
#define LIMIT_CA_FILE (64 * 1024 * 1024)     /* bytes of --ca-file */
#define LIMIT_TOKEN_ANSWER (64 * 1024)       /* bytes of an answer that holds a token */
#define LIMIT_TOKEN_REQUEST (512 * 1024)     /* bytes of a request for one: two such files, each byte escaped as three, and names */

/* Documents */
#define LIMIT_DOCUMENT (64 * 1024 * 1024) /* bytes of a JSON document */
#define LIMIT_SPEC (4 * 1024 * 1024)      /* bytes of a YAML spec */
#define LIMIT_SQL (1024 * 1024)           /* bytes of a statement: BigQuery's own limit */
#define LIMIT_VIEW_SQL (256 * 1024)       /* bytes of a view's: likewise */
#define LIMIT_PERMIT_SQL 4096             /* bytes of a permit's statement */

/* Waits, in milliseconds */
#define WAIT_ALIVE_EVERY 10000            /* a submitter's alive messages */
#define WAIT_ABANDON 300000               /* a submitter silent for so long is given up */
#define WAIT_SECOND_COORDINATOR 30000     /* before a second coordinator inserts the same job */
#define WAIT_PERMIT_LEASE 60000           /* a permit that is not renewed, before others may take it */
#define WAIT_PERMIT_QUANTUM 4000          /* a permit held while work waits here, before others get their turn */
#define WAIT_LOG_BACK 30000               /* a message in a run's log, for it to be there, before the permit that waits for it goes to others */
#define WAIT_COMMIT_EVERY 250             /* offset commits */
#define WAIT_PRESENCE_EVERY 10000         /* a worker's state on the workers topic */
#define WAIT_MANIFEST 50                  /* items without rows, for others that share their manifest */
#define WAIT_DEAD 5000                    /* an item's manifest, for its entry in `dead` */
#define WAIT_HANDLER_IDLE 10000           /* a handler without work, before it is closed */
#define WAIT_HANDLER_EXIT 5000            /* a handler whose stdin was closed, before it is killed */
#define WAIT_HANDLER_PROBATION 2000       /* a handler whose predecessor died at its start, before it is given an item */
#define WAIT_SOLO 30000                   /* an item that must run alone, before others are held back for it */
#define WAIT_ALONE 30000                  /* an item that is to run alone in its process, for its handler; likewise for its manifest, before the next one */
#define WAIT_ALONE_AGAIN 60000            /* before one that got no handler then is tried again */
#define WAIT_LOST_CHECK 3000              /* a run's log without news, before its queue's offsets are looked at */
#define WAIT_LOST_DELETED 30000           /* likewise, before items that were deleted from the queue are taken for lost */
#define WAIT_SERVICE 30000                /* for a broker or BigQuery to answer at start */

#endif
