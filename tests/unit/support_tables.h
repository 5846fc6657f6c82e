#ifndef BQF_TESTS_SUPPORT_TABLES_H
#define BQF_TESTS_SUPPORT_TABLES_H

#include "tests/unit/support_coord.h"

/* The record's run is shown by a view (write.via worker-tables), over a base without rows; there is no target table any more. Before it is published. */
void tables_stage(struct stage *, struct record *);
/* Rows of the stage's target that have this key: a view's are computed. */
int tables_rows_with(struct stage *, const char *key);
const char *tables_label(struct stage *, const char *name, char *out, size_t size); /* of the view */

#endif
