#include "common/bq/permits.h"

#include "common/base/ids.h"
#include "common/base/limits.h"
#include "common/bq/sql.h"

/*
 * The rows are made beforehand and never deleted: an UPDATE of an existing row is a compare-and-set, since of two that change one partition only one
 * commits from one snapshot. INSERT, or a MERGE that only inserts, never conflicts and would be no lock at all.
 */

void permits_table(const struct bq_ref *target, struct bq_ref *out)
{
    char hex[65];
    AUTO(free_ptr) char *whole = xasprintf("%s.%s.%s", target->project, target->dataset, target->table);
    sha256_hex(whole, strlen(whole), hex);
    *out = *target;
    snprintf(out->table, sizeof(out->table), "bqfleet_permits_%.200s_%.8s", target->table, hex);
}

void permits_job_base(char out[PERMIT_BASE_SIZE], const char *kind, const struct bq_ref *table, int slot, const char *token, int64_t seq)
{
    char hex[65], tail[24] = "";
    AUTO(free_ptr) char *whole = xasprintf("%s.%s.%s", table->project, table->dataset, table->table);
    sha256_hex(whole, strlen(whole), hex);
    if (seq >= 0)
        snprintf(tail, sizeof(tail), "_%" PRId64, seq);
    snprintf(out, PERMIT_BASE_SIZE, "bqfleet_permit_%s_%.16s_%d_%.40s%s", kind, hex, slot, token, tail);
}

void permits_fence(const struct bq_ref *table, struct buf *out)
{
    buf_xputs(out, "EXISTS (SELECT 1 FROM ");
    sql_quote_ref(out, table);
    buf_xputs(out, " WHERE slot = @permit_slot AND token = @permit_token AND expires > CURRENT_TIMESTAMP())");
}

void permits_fence_params(doc *params, const struct permit_grant *grant)
{
    bq_param_int(params, "permit_slot", grant->slot);
    bq_param(params, "permit_token", "STRING", grant->token);
}

#define UNTIL "expires = TIMESTAMP_ADD(CURRENT_TIMESTAMP(), INTERVAL @lease_ms MILLISECOND)"
static const char *const changes[] = {
    /* A job that its last holder left there stays in @job, until it is known to be over. */
    [PERMIT_TAKE] = "holder = @holder, token = @token, " UNTIL ", job = @job, purpose = @purpose\n"
                    "WHERE slot = @slot AND token = @seen_token AND job = @seen_job AND (holder = '' OR expires < CURRENT_TIMESTAMP())",
    [PERMIT_KEEP] = UNTIL ", job = @job, purpose = @purpose\nWHERE slot = @slot AND token = @token",
    [PERMIT_CLOSE] = "holder = '', " UNTIL ", job = @job, purpose = @purpose\nWHERE slot = @slot AND token = @token",
    [PERMIT_RELEASE] = "expires = CURRENT_TIMESTAMP(), holder = '', job = '', purpose = ''\nWHERE slot = @slot AND token = @token",
    [PERMIT_FREE] = "expires = TIMESTAMP_SECONDS(0), token = @token\nWHERE slot = @slot AND token = @seen_token",
};

doc *permits_statement(enum permit_statement kind, const struct bq_ref *table, const struct permit_change *c)
{
    struct buf sql = BUF_INIT(LIMIT_PERMIT_SQL);
    buf_xputs(&sql, "UPDATE ");
    sql_quote_ref(&sql, table);
    buf_xputs(&sql, " SET ");
    buf_xputs(&sql, changes[kind]);
    doc *params = bq_params();
    bq_param_int(params, "slot", c->slot);
    bq_param(params, "token", "STRING", c->token);
    if (kind == PERMIT_TAKE || kind == PERMIT_FREE)
        bq_param(params, "seen_token", "STRING", c->seen_token);
    if (kind == PERMIT_TAKE) {
        bq_param(params, "seen_job", "STRING", c->seen_job);
        bq_param(params, "holder", "STRING", c->holder);
    }
    if (kind == PERMIT_TAKE || kind == PERMIT_KEEP || kind == PERMIT_CLOSE) {
        bq_param_int(params, "lease_ms", c->lease_ms);
        bq_param(params, "job", "STRING", c->job);
        bq_param(params, "purpose", "STRING", c->purpose);
    }
    doc *configuration = bq_query_config(sql.data, params, 0);
    buf_free(&sql);
    return configuration;
}
