#ifndef BQF_HOST_LIBRARY_H
#define BQF_HOST_LIBRARY_H

#include "common/base/error.h"
#include "include/bqfleet/handler.h"

/* A plugin's library, opened for good. */
struct library { const char *path; struct bqfleet_handler handler; /* as large as ours: what the plugin's does not have is NULL */ };
/* ERR_FATAL with what to do: not loadable, no bqfleet_plugin(), another version, no process(). */
int library_open(struct library *, const char *path, struct error *);

#endif
