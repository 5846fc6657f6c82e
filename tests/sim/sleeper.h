#ifndef BQF_TESTS_SIM_SLEEPER_H
#define BQF_TESTS_SIM_SLEEPER_H

#include "common/bus/bus.h"
#include "common/net/http.h"

/*
 * A process's view of the world that can be stopped as SIGSTOP does, and killed: a loop, a bus and a transport before the real (virtual) ones. While it is
 * stopped its timers do not fire and nothing reaches it; what it had sent is on its way all the same, or leaves only when it goes on, by chance. Then
 * what it missed comes in the worst order: its own timers and answers first, the log last (or the other way round, by chance). Acknowledgements
 * can be told as lost, as a producer does whose time is over.
 */
struct sleeper;
struct sleeper *sleeper_new(struct loop *, struct bus *, struct http *, struct rnd *);
struct loop *sleeper_loop(struct sleeper *);
struct bus *sleeper_bus(struct sleeper *);   /* what processes use of it: publishing, following, groups, questions */
struct http *sleeper_http(struct sleeper *);
void sleeper_stop(struct sleeper *);
void sleeper_go_on(struct sleeper *);
bool sleeper_stopped(const struct sleeper *);
/* Nothing reaches it any more, and what has not left it never does. What stands on it may then be freed in any order. */
void sleeper_kill(struct sleeper *);
/* It is cut off from the bus in one direction: what it publishes waits. */
void sleeper_mute(struct sleeper *, bool mute);
/* Acknowledgements are told even when it is dead, to what is left of it: a worker's messages are freed then. Before it is killed. */
void sleeper_tells_the_dead(struct sleeper *);
void sleeper_calm(struct sleeper *); /* no acknowledgement is told as lost any more */
void sleeper_free(struct sleeper *); /* when everything that it asked for is answered: at the end */

#endif
