#ifndef BQF_COORDINATOR_REPORT_H
#define BQF_COORDINATOR_REPORT_H

#include "coordinator/catalog_watch.h"

/* What is said of runs, on stdout: each run an object of one shape, wherever it is shown; or text for people. */

/* From its log: phase, end, exit, items, rows, jobs, failed items. now_ms: wall clock. The caller frees. */
doc *report_of_fold(const struct record *, const struct fold *, int64_t now_ms);
/* From its end in `batches`, when there is no need, or no way, to read the log. */
doc *report_of_end(const struct catalog_run *);
/* Prints and frees a list of them (a JSON array that is taken over): {"runs":[...]}. */
void report_print(FILE *, doc *runs, bool json);
/* One of them alone, for commands that are about one run. */
void report_print_one(FILE *, doc *run, bool json);

#endif
