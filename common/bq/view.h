#ifndef BQF_BQ_VIEW_H
#define BQF_BQ_VIEW_H

#include "common/bq/table.h"

/* Views, and what tables.get says beside a table's columns. */

/* The table's resource as the service gives it; a 404 is an answer without a doc. */
struct bq_call *bq_table_look(struct bq *, const struct bq_ref *, bq_cb *, void *arg);

struct bq_view_new {
    const struct bq_ref *ref;
    const char *sql;           /* Standard SQL; changing: NULL leaves it as it is */
    const struct bq_label *labels; size_t label_count; /* changing: all of them */
    const char *description;   /* changing: not looked at */
};
struct bq_call *bq_view_create(struct bq *, const struct bq_view_new *, bq_cb *, void *arg);
/* Changes it, if nobody has done so since it had this etag: code 412 otherwise. One whose answer was lost and that is sent again meets its own change, and is
 * a 412, too: whoever gets that looks again. */
struct bq_call *bq_view_change(struct bq *, const struct bq_view_new *, const char *etag, bq_cb *, void *arg);

#endif
