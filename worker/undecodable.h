#ifndef BQF_WORKER_UNDECODABLE_H
#define BQF_WORKER_UNDECODABLE_H

#include "common/bus/bus.h"

/*
 * Work messages that do not decode: each goes to `dead` with the reason, and its offset is done once that is acknowledged (or cannot ever be).
 * Entry: key PARTITION/OFFSET; {"topic","partition","offset","reason":"envelope","text","bytes","time_ms","by"}. Loop thread only.
 */
struct worker;
struct intake;
struct undecodable;
struct undecodable *undecodable_new(struct worker *, struct intake *);
void undecodable_free(struct undecodable *);
void undecodable_add(struct undecodable *, const struct bus_msg *, const struct error *why);

#endif
