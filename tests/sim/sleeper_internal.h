#ifndef BQF_TESTS_SIM_SLEEPER_INTERNAL_H
#define BQF_TESTS_SIM_SLEEPER_INTERNAL_H

#include "common/bus/bus_ops.h"
#include "common/net/loop_internal.h"
#include "tests/sim/sleeper.h"

#include <sys/queue.h>

/* Something that happened to a process while it was stopped, or that happens to it now. */
struct happening {
    TAILQ_ENTRY(happening) link;
    void (*fn)(void *arg);
    void *arg;
    unsigned way;   /* by which it comes: CUT_BUS_IN; 0: by none that can be cut */
};

struct shade;   /* of a timer */
struct parcel;  /* a publish */
struct watcher; /* a follow */
struct member;  /* of a group */
TAILQ_HEAD(happenings, happening);
TAILQ_HEAD(parcels, parcel);

struct sleeper {
    struct loop loop;           /* first */
    struct bus bus;
    struct http http;
    struct loop *base;
    struct bus *outer_bus;
    struct http *outer_http;
    struct rnd *rnd;
    bool stopped, dead, tells_the_dead, mute;
    unsigned cut, refused;
    struct sleeper_faults faults;
    struct sleeper_observer observer; void *observer_arg;
    int64_t skew_us;
    int64_t outstanding;        /* callbacks that the outer ones still owe */
    int64_t commits;            /* that it has had no answer to */
    LIST_HEAD(, shade) shades;
    struct happenings happened;
    LIST_HEAD(, http_call) calls;
    struct parcels parcels;     /* not yet handed on, in order */
    struct timer *post, *wake, *session, *rejoin;
    LIST_HEAD(, watcher) watchers;
    LIST_HEAD(, member) members;
};

bool sleeper_chance(struct sleeper *, double);
int64_t sleeper_delay_us(struct sleeper *); /* of things on their way out */
/* Now, or when it goes on and that way is open; to nobody when it is dead. */
void sleeper_happen(struct sleeper *, unsigned way, void (*fn)(void *), void *arg);

void sleeper_bus_init(struct sleeper *);
void sleeper_bus_stop(struct sleeper *);
void sleeper_bus_deaf(struct sleeper *);
void sleeper_bus_late(struct sleeper *); /* CUT_LOG and CUT_RUNS hold from now on */
void sleeper_bus_blind(struct sleeper *); /* CUT_READS */
void sleeper_bus_follow(struct sleeper *);
void sleeper_bus_post(struct sleeper *);
void sleeper_bus_kill(struct sleeper *);
void sleeper_ask_init(struct bus_ops *);
void sleeper_group_init(struct bus_ops *);
void sleeper_group_stop(struct sleeper *);
void sleeper_group_join(struct sleeper *);
void sleeper_group_cut(struct sleeper *);
void sleeper_http_init(struct sleeper *);
void sleeper_http_leave(struct sleeper *);
void sleeper_http_kill(struct sleeper *);

#endif
