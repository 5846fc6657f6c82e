#ifndef BQF_COORDINATOR_PLAN_SQL_H
#define BQF_COORDINATOR_PLAN_SQL_H

#include "common/base/buf.h"
#include "common/fleet/record.h"

/* The statement of a run's last cut, as `plan` shows it: with two shards of an imagined fleet. */
struct plan_sql {
    struct buf sql;
    struct buf dry_sql;  /* the same with typed, empty stand-ins for the shards, which do not exist before the run */
    doc *params;
};
#define PLAN_SQL_INIT ((struct plan_sql){.sql = BUF_INIT(LIMIT_SQL), .dry_sql = BUF_INIT(4 * LIMIT_SQL)})
int plan_sql_make(const struct record *, struct plan_sql *, struct error *);
void plan_sql_free(struct plan_sql *);

#endif
