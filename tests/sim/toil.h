#ifndef BQF_TESTS_SIM_TOIL_H
#define BQF_TESTS_SIM_TOIL_H

#include "tests/sim/sim.h"

/*
 * What a worker's life has besides death: it leaves in order, its items kill it, people set its queue's offsets, loads are counted wrongly, topics are not there yet. Dice of
 * their own draw all of it, for seeds with seed % 4 == 3; the others, and those that draw none of it, are as they were.
 */
void toil_draw(struct toil *, struct plan *);
void toil_text(const struct toil *, struct buf *out);
/* Of each of its items. */
const char *toil_payload(const struct batch_plan *, size_t *len);

/* --- coming and going (leaver.c) ------------------------------------------------------------------------------------------------------------------------ */

void leaver_open(struct sim *);
void leaver_calm(void);
void leaver_close(void);
/* Workers start before the topic of their work is there, and again when it is. */
void leaver_start_early(struct sim *, void (*make_topic)(struct sim *));
/* It is about to begin: perhaps it may not. */
void leaver_begins(struct proc *);
void leaver_tick(struct sim *);
/* The worker is gone, and somebody starts it anew after a while. */
void leaver_again(struct sim *, int slot);
/* No worker lives: told when all have left, or were killed; they come again after leaver_reopen(). */
void leaver_clear(struct sim *, void (*cleared)(struct sim *));
void leaver_reopen(struct sim *);
bool leaver_is_shut(void);

/* --- items that kill their worker (poison.c) ---------------------------------------------------------------------------------------------------------------- */

enum deadly { DEADLY_NOT, DEADLY_SECOND /* every second time */, DEADLY_ALWAYS };
enum deadly poison_of(const struct sim *, const struct batch_plan *, int64_t number);
void poison_open(struct sim *);
void poison_close(void);
/* A handler of the worker has the item; is rid of it. */
void poison_given(struct proc *, const struct ledger *, int64_t item);
void poison_returned(struct proc *, const struct ledger *, int64_t item);
/* It is about to be done. True: its worker dies instead. */
bool poison_strikes(struct proc *, const struct ledger *, int64_t item, int64_t number);
/* A commit of the worker says that the item runs alone now; -1: none of that partition does. */
void poison_named(struct proc *, int32_t partition, int32_t run, int64_t item);
/* The worker dies, or others must think so. */
void poison_harm(struct proc *);
/* An item has failed, for having killed its workers. */
void poison_convicted(struct sim *, const struct ledger *, int64_t item);
void poison_check_end(struct sim *);

/* --- people and services (meddler.c) -------------------------------------------------------------------------------------------------------------------------- */

void meddler_open(struct sim *);
void meddler_calm(void);
void meddler_close(void);
/* It asks for a job by that id. */
void meddler_asked(struct proc *, const char *id);
/* Why a run may end loudly after all that. */
bool meddler_excuses(const struct sim *, const struct ledger *);

#endif
