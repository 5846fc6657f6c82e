#ifndef BQF_FLEET_NAMES_H
#define BQF_FLEET_NAMES_H

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/bq/bq.h"

/* Names that both sides must make alike: topics, shards, loads, jobs. Pure functions. */

#define TOPIC_SIZE 256
void topic_work(char out[TOPIC_SIZE], const char *prefix, const char *queue); /* PREFIXwork.QUEUE */
void topic_results(char out[TOPIC_SIZE], const char *prefix);
void topic_batches(char out[TOPIC_SIZE], const char *prefix);
void topic_workers(char out[TOPIC_SIZE], const char *prefix);
void topic_dead(char out[TOPIC_SIZE], const char *prefix);
void group_of_queue(char out[TOPIC_SIZE], const char *prefix, const char *queue); /* the consumer group: PREFIXworkers.QUEUE */

/* An incarnation: the fresh random part of everything one start of a worker process makes. */
#define INCARNATION_LEN 10
/* A load's id inside its run: INCARNATION-NNNNNN. Fixed length, so that rows can be given another one in place. */
#define LOAD_ID_LEN (INCARNATION_LEN + 1 + 6)
#define LOAD_SEQ_MAX 999999
void load_id(char out[LOAD_ID_LEN + 1], const char *incarnation, int64_t seq);
/* The shard's table: bqf_RUN_INCARNATION, '-' in the run id as '_'. */
void shard_table(char out[128], const char *run, const char *incarnation);
#define SHARD_PREFIX "bqf_"
/* What stands in an incarnation's place in the name of a table that coordinators make beside the shards: a letter, and the beginning of a digest of what is
 * put into it. So whoever puts in something else, another version or an earlier run of one id, means another table and another job. */
void staging_part(char out[INCARNATION_LEN + 1], char kind, const char *digest);

#define JOB_BASE_SIZE 256
void job_base_load(char out[JOB_BASE_SIZE], const char *run, const char *load);   /* bqfleet_load_RUN_LOAD */
void job_base_query(char out[JOB_BASE_SIZE], const char *run, const char *load);  /* bqfleet_query_RUN_LOAD: its rows come by a SELECT */
void job_base_range(char out[JOB_BASE_SIZE], const char *run, const char *load);  /* bqfleet_range_RUN_LOAD: where these rows lie */
void job_base_cut(char out[JOB_BASE_SIZE], const char *run, int64_t cut);         /* bqfleet_cut_RUN_CUT */
void job_base_end(char out[JOB_BASE_SIZE], const char *run);                      /* bqfleet_end_RUN_view: the release of its view */
void job_base_shard_cut(char out[JOB_BASE_SIZE], const char *run, const char *incarnation, int64_t cut); /* bqfleet_direct_RUN_INCARNATION_CUT */
void job_base_side(char out[JOB_BASE_SIZE], const char *run, int64_t cut, const char *part); /* bqfleet_side_RUN_CUT_PART */
void job_base_fold(char out[JOB_BASE_SIZE], const char *run, int64_t cut, const char *part); /* bqfleet_fold_RUN_CUT_PART */
void job_base_items(char out[JOB_BASE_SIZE], const char *run, const char *nonce); /* bqfleet_items_RUN_NONCE */

/* The partition of a run's log among `partitions` of the results topic (and of dead): by the run id's hash. */
int32_t run_partition(const char *run, int32_t partitions);

#endif
