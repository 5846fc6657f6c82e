#ifndef BQF_COORDINATOR_OUTBOX_H
#define BQF_COORDINATOR_OUTBOX_H

#include "common/fleet/catalog.h"
#include "common/fleet/world.h"

/*
 * Messages that must arrive. Each is kept until the bus has acknowledged it, and is sent again while that may help: every message of
 * this product may be in its topic twice. Loop thread only. Unbounded by itself: whoever sends much watches its own letters.
 *
 * Letters and tickets outlive those who sent them, since the bus cannot be told to forget. So the outbox ends in two steps: outbox_stop()
 * before the bus and the loop are closed, outbox_free() after.
 */
struct outbox;
struct letter;

struct outbox *outbox_new(const struct world *, const char *by /* this process, for people */);
void outbox_stop(struct outbox *); /* no callbacks any more, nothing is sent again; NULL allowed */
void outbox_free(struct outbox *);
const char *outbox_by(const struct outbox *);

/* err NULL: it is in the topic, at that offset. Otherwise it certainly is not and will not be (ERR_TASK, ERR_FATAL). The letter goes when
 * this returns; never called from inside the call that sends. */
typedef void letter_cb(void *arg, int64_t offset, const struct error *err);

struct letter_out {
    const char *topic;
    int32_t partition;
    const void *key;   size_t key_len;
    const void *value; size_t value_len; /* NULL: a tombstone */
    const char *run;                     /* a header; may be NULL */
    const char *type;                    /* content type, static; may be NULL */
    size_t room;                         /* bytes in the letter for its sender; then they, and not arg, are what cb gets */
};
/* Copies. cb may be NULL. */
struct letter *outbox_send(struct outbox *, const struct letter_out *, letter_cb *, void *arg);
/* A message into a run's log. Its `by` is filled in. */
struct letter *outbox_log(struct outbox *, const struct record *, struct log_msg *, letter_cb *, void *arg);
/* A message into `batches`; takes over key and value (NULL: a tombstone). */
struct letter *outbox_batches(struct outbox *, char *key, doc *value, letter_cb *, void *arg);
/* An item that never became work: its entry in `dead`, as a worker writes them. */
void outbox_dead(struct outbox *, const struct record *, const struct item_failure *);
void *letter_room(struct letter *);  /* uninitialised */
const char *letter_key(const struct letter *);
void letter_forget(struct letter *); /* no callback any more; it is sent all the same. NULL allowed */

int64_t outbox_waiting(const struct outbox *); /* letters not acknowledged */
/* "", or what keeps them: "kafka 127.0.0.1:9092: ...". */
const char *outbox_waits_for(const struct outbox *);

/* A question to the bus cannot be taken back. Its answer goes to a ticket, which may have forgotten who asked. */
struct ticket;
struct ticket *ticket_new(struct outbox *, void *owner);
void *ticket_take(struct ticket *);  /* in the callback: the owner, or NULL; the ticket is gone */
void ticket_forget(struct ticket *); /* NULL allowed */

#endif
