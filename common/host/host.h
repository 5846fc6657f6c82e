#ifndef BQF_HOST_HOST_H
#define BQF_HOST_HOST_H

#include "common/base/base.h"

/*
 * The process that C plugins live in: `bqfleet-worker --plugin-host LIB.so`, and the same of bqfleet. It loads the library (include/bqfleet/handler.h) and
 * speaks the exec protocol on what were its stdin and stdout; the plugin has an empty stdin, and a stdout that goes where stderr goes. Any program that calls
 * this first thing in its main can be that host, so a worker starts its own executable and never another version of it.
 */
#define PLUGIN_HOST_FLAG "--plugin-host"

/* Whether the command line asks for it; then plugin_host() is all that main does. Returns the exit status. */
bool plugin_host_wanted(int argc, char **argv);
int plugin_host(int argc, char **argv);

#endif
