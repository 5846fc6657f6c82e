#ifndef BQF_TESTS_SUPPORT_BQJOB_H
#define BQF_TESTS_SUPPORT_BQJOB_H

#include "common/bq/job.h"

#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>

#include "tests/unit/support_bqscript.h"

/* The job machine against a script of replies. Jobs are named "b_t<try>"; their digest is "d1". */

#define JOB(id, digest, rest) \
    "{\"jobReference\":{\"projectId\":\"p\",\"jobId\":\"" id "\",\"location\":\"EU\"},\"configuration\":{\"labels\":{\"bqfleet_digest\":\"" digest "\"}}," rest "}"
#define OURS(k, rest) JOB("b_t" #k, "d1", rest)
#define CREATED "\"creationTime\":\"1700000001000\""
#define STATE(s) "\"statistics\":{" CREATED "},\"status\":{\"state\":\"" s "\"}"
#define LOADED "\"statistics\":{" CREATED ",\"endTime\":\"1700000002000\",\"load\":{\"outputRows\":\"12345678901\"}},\"status\":{\"state\":\"DONE\"}"
#define MERGED                                                                                                                         \
    "\"statistics\":{" CREATED ",\"endTime\":\"1700000002000\",\"query\":{\"numDmlAffectedRows\":\"6\",\"totalBytesBilled\":\"10485760\","     \
    "\"dmlStats\":{\"insertedRowCount\":\"1\",\"updatedRowCount\":\"2\",\"deletedRowCount\":\"3\"}}},\"status\":{\"state\":\"DONE\"}"
#define BROKEN(reason, text) \
    "\"statistics\":{" CREATED "},\"status\":{\"state\":\"DONE\",\"errorResult\":{\"reason\":\"" reason "\",\"message\":\"" text "\"}}"
#define ERROR_BODY(reason, text) "{\"error\":{\"message\":\"" text "\",\"errors\":[{\"reason\":\"" reason "\",\"message\":\"" text "\"}]}}"
#define GIVEN_UP(k)                                                                                                                    \
    "{\"configuration\":{\"labels\":{\"bqfleet_digest\":\"d1\",\"bqfleet_kind\":\"giveup\",\"bqfleet_error\":\"task\"}},\"statistics\":{" CREATED \
    "},\"status\":{\"state\":\"DONE\",\"errorResult\":{\"reason\":\"invalidQuery\",\"message\":\"it was hopeless\"}}}"
#define CONFLICT(k) 409, ERROR_BODY("duplicate", "Already Exists: Job p:EU.b_t" #k), NULL

#define INSERT(k) "POST", "/bigquery/v2/projects/p/jobs?prettyPrint=false", "\"jobId\":\"b_t" #k "\",\"location\":\"EU\""
#define READ(k) "GET", "/projects/p/jobs/b_t" #k "?location=EU", NULL
#define RESULTS(k) "GET", "/projects/p/queries/b_t" #k "?location=EU&maxResults=0&timeoutMs=10000", NULL
#define GIVE_UP(k) "POST", "/bigquery/v2/projects/p/jobs", "b_t" #k "\",\"location\":\"EU\"},\"configuration\":{\"query\":{\"query\":\"SELECT ERROR("

struct outcome {
    bool over;
    struct error err;
    bool failed, decided;
    char job_id[64];
    int tries, announced;
    int64_t rows, inserted, updated, deleted, affected, billed, ended_ms;
};

enum { LOAD = 1, GIVES_UP = 2, TWO_TRIES = 4, PATIENT = 8, NOWHERE = 16 /* its place is not known */ };
struct bq_job *job_start(struct script *, int how, struct outcome *);
/* To its end, and that of the script. */
struct outcome job_play(struct script *, int how);

#endif
