#include "common/fleet/names.h"

static void topic(char out[TOPIC_SIZE], const char *prefix, const char *what, const char *queue)
{
    int n = snprintf(out, TOPIC_SIZE, "%s%s%s", prefix, what, queue);
    assert(n < TOPIC_SIZE);
    (void)n;
}

void topic_work(char out[TOPIC_SIZE], const char *prefix, const char *queue)
{
    topic(out, prefix, "work.", queue);
}

void topic_results(char out[TOPIC_SIZE], const char *prefix)
{
    topic(out, prefix, "results", "");
}

void topic_batches(char out[TOPIC_SIZE], const char *prefix)
{
    topic(out, prefix, "batches", "");
}

void topic_workers(char out[TOPIC_SIZE], const char *prefix)
{
    topic(out, prefix, "workers", "");
}

void topic_dead(char out[TOPIC_SIZE], const char *prefix)
{
    topic(out, prefix, "dead", "");
}

void group_of_queue(char out[TOPIC_SIZE], const char *prefix, const char *queue)
{
    topic(out, prefix, "workers.", queue);
}

void load_id(char out[LOAD_ID_LEN + 1], const char *incarnation, int64_t seq)
{
    assert(strlen(incarnation) == INCARNATION_LEN && seq >= 0 && seq <= LOAD_SEQ_MAX);
    snprintf(out, LOAD_ID_LEN + 1, "%.10s-%06d", incarnation, (int)seq);
}

void shard_table(char out[128], const char *run, const char *incarnation)
{
    int n = snprintf(out, 128, SHARD_PREFIX "%s_%s", run, incarnation);
    assert(n < 128);
    (void)n;
    for (char *p = out; *p; p++)
        if (*p == '-')
            *p = '_';
}

static void job_base(char out[JOB_BASE_SIZE], const char *kind, const char *run, const char *rest)
{
    int n = snprintf(out, JOB_BASE_SIZE, "bqfleet_%s_%s_%s", kind, run, rest);
    assert(n < JOB_BASE_SIZE);
    (void)n;
}

void job_base_load(char out[JOB_BASE_SIZE], const char *run, const char *load)
{
    job_base(out, "load", run, load);
}

void job_base_query(char out[JOB_BASE_SIZE], const char *run, const char *load)
{
    job_base(out, "query", run, load);
}

void job_base_range(char out[JOB_BASE_SIZE], const char *run, const char *load)
{
    job_base(out, "range", run, load);
}

void job_base_cut(char out[JOB_BASE_SIZE], const char *run, int64_t cut)
{
    char number[24];
    snprintf(number, sizeof(number), "%" PRId64, cut);
    job_base(out, "cut", run, number);
}

void job_base_end(char out[JOB_BASE_SIZE], const char *run)
{
    job_base(out, "end", run, "view");
}

void job_base_shard_cut(char out[JOB_BASE_SIZE], const char *run, const char *incarnation, int64_t cut)
{
    char rest[48];
    snprintf(rest, sizeof(rest), "%.*s_%" PRId64, INCARNATION_LEN, incarnation, cut);
    job_base(out, "direct", run, rest);
}

static void job_base_part(char out[JOB_BASE_SIZE], const char *kind, const char *run, int64_t cut, const char *part)
{
    char rest[48];
    snprintf(rest, sizeof(rest), "%" PRId64 "_%.*s", cut, INCARNATION_LEN, part);
    job_base(out, kind, run, rest);
}

void job_base_side(char out[JOB_BASE_SIZE], const char *run, int64_t cut, const char *part)
{
    job_base_part(out, "side", run, cut, part);
}

void job_base_fold(char out[JOB_BASE_SIZE], const char *run, int64_t cut, const char *part)
{
    job_base_part(out, "fold", run, cut, part);
}

void staging_part(char out[INCARNATION_LEN + 1], char kind, const char *digest)
{
    snprintf(out, INCARNATION_LEN + 1, "%c%.*s", kind, INCARNATION_LEN - 1, digest);
}

void job_base_items(char out[JOB_BASE_SIZE], const char *run, const char *nonce)
{
    job_base(out, "items", run, nonce);
}

int32_t run_partition(const char *run, int32_t partitions)
{
    assert(partitions > 0);
    return (int32_t)(hash_bytes(HASH_START, run, strlen(run)) % (uint64_t)partitions);
}
