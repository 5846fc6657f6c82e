#ifndef BQF_HOST_LINES_H
#define BQF_HOST_LINES_H

#include "common/base/error.h"
#include "common/base/json.h"
#include "include/bqfleet/handler.h"

/* The exec protocol as the handler's side reads it: what a worker says. Pure. Texts of the results point into the line, or into `scratch`. */
enum { LINE_HELLO, LINE_ITEM };
/* Which of the two the line is; -1 with ERR_TASK: neither. scratch is cleared. */
int line_parse(const char *line, size_t len, struct bqfleet_hello *, struct bqfleet_item *, struct buf *scratch, struct error *);

#endif
