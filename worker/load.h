#ifndef BQF_WORKER_LOAD_H
#define BQF_WORKER_LOAD_H

#include "common/base/gzip.h"
#include "common/bq/job.h"
#include "worker/core.h"

/* One load to be, or at work: the rows of items that are done, and which items these are. Its rows are in `body`, for a load job; or a statement puts them
 * into the shard (load_start_query). It grows until it is started: what its job id stands for never changes afterwards. Loop thread only. */
TAILQ_HEAD(load_list, load);
struct load {
    struct run *run;
    char id[LOAD_ID_LEN + 1];
    TAILQ_ENTRY(load) link;
    struct item_list items;   /* in the order of their bytes in the body */
    int64_t item_count, rows;
    struct ranges ranges;
    size_t measure_at;        /* ranges at which their size is looked at again */
    bool manifest_full;       /* no further item: its manifest could pass its limit */
    struct buf body;
    size_t plain;             /* bytes of its rows */
    struct gzip *gzip;        /* while the body is a member that grows */
    struct row_range range;
    int64_t opened_us;
    /* frozen */
    char digest[64];
    struct bq_feed *feed;     /* a stream's: instead of the body. Not its own */
    doc *config;
    struct http_slice slice;
    struct bq_job *job;
    int next_try;
};

struct load *load_new(struct run *, int64_t seq);
void load_free(struct load *); /* stops its job here, not at BigQuery; its items are in no list afterwards. Its bytes are given back to the worker */
/* Takes the item's rows. -1: no room, nothing was taken. */
int load_add(struct load *, struct item *);
/* Takes the item alone: its rows are not in the body. */
void load_take(struct load *, struct item *);
/* The load is a stream's, whose bytes come from the feed: what names it is this attempt of the item, and the nonce. */
void load_stream(struct load *, struct bq_feed *, const struct item *, const char *nonce);
/* Inserts the job, or takes it up again under load->next_try. */
void load_start(struct load *, const struct bq_ref *shard, bq_job_cb *, void *arg);
/* The same for a statement that puts the rows there. config: a query's, taken over the first time, NULL afterwards. timeout_ms: of the job. */
void load_start_query(struct load *, doc *config, int64_t timeout_ms, bq_job_cb *, void *arg);
/* The job could not be brought to its end, or has failed in a way that time may mend: sets the try it goes on with, and returns the milliseconds to wait. */
int64_t load_put_off(struct load *, const struct bq_job_result *);
/* Two halves by items under new ids; the load is gone. It must have two items at least. */
void load_split(struct load *, int64_t seq, struct load *halves[2]);

#endif
