#ifndef BQF_COORDINATOR_SUBMIT_INTERNAL_H
#define BQF_COORDINATOR_SUBMIT_INTERNAL_H

#include "coordinator/submit.h"

/*
 *   places    asks where the run will lie on the bus
 *   catalog   waits until `batches` was read to its end
 *   record    writes the record, waits until it was read back
 *   replace   cancels the run that is replaced
 *   items     publishes
 *   marks     asks for the ends of the work partitions
 *   seal      writes the seal
 */
enum submit_step { SUBMIT_PLACES, SUBMIT_CATALOG, SUBMIT_RECORD, SUBMIT_REPLACE, SUBMIT_ITEMS, SUBMIT_MARKS, SUBMIT_SEAL, SUBMIT_DONE, SUBMIT_FAILED };

struct submit {
    struct submit_options o;
    struct submit_events events;
    void *arg;
    struct loop *loop;
    char work[TOPIC_SIZE], results[TOPIC_SIZE], dead[TOPIC_SIZE], batches[TOPIC_SIZE];
    enum submit_step step;
    struct timer *timer, *alive_timer;
    /* places */
    struct submit_question *questions; /* open ones */
    int open;                          /* how many */
    /* record */
    int64_t record_offset;             /* -1: not acknowledged */
    struct letter *letter;             /* of the step, if it waits for one */
    /* items */
    int64_t next_item;                 /* read from the source so far */
    int64_t acknowledged;
    int64_t out, out_bytes;            /* published and not acknowledged; bytes of them */
    bool at_end, source_waits;
    struct flight *flights;            /* all that are out */
    struct buf envelope;               /* of the item that is being published */
    int64_t block_end;                 /* the items below it go to */
    int32_t block_partition;           /* this partition */
    struct item_failure *failures; size_t failure_count, failure_cap; /* gathered for a manifest */
    int64_t failed;                    /* items */
    struct seal_end *ends;
    /* failed */
    struct error error; int code;
    bool error_due, cancelling;
    bool undoing;                      /* aborted while the record was on its way: see submit_abort */
};

void submit_go(struct submit *, enum submit_step);
/* Ends the submission; reported on the next turn. */
void submit_fail(struct submit *, int code, const struct error *);
/* Fails, and cancels the run in its log first. */
void submit_cancel(struct submit *, int code, const struct error *);

/* submit_items.c */
void submit_items_start(struct submit *);
void submit_items_pump(struct submit *);
void submit_items_free(struct submit *);
/* submit_places.c */
void submit_ask_places(struct submit *);
void submit_ask_ends(struct submit *);
void submit_questions_free(struct submit *);

#endif
