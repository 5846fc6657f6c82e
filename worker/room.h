#ifndef BQF_WORKER_ROOM_H
#define BQF_WORKER_ROOM_H

#include "worker/core.h"

/*
 * Who may hold how much of --buffer, and who gives way. Loop thread only.
 *
 * What is charged (worker->held, bytes of rows as they will be loaded):
 *   an unfinished item      its rows
 *   group loads             their bodies: gathering, waiting, loading
 *   a stream                what has come and BigQuery does not have yet
 * A window is two chunks of an upload: one that is sent, one that gathers. An item with a place becomes a stream when it has a window's worth, any other one
 * when it has its share, or gives way, if there is a place. There are so many places that all their windows are half of the buffer at most.
 * While held >= --buffer no handler's pipe is read, and nothing starts. So held passes --buffer by the rows of one line at most. Lines whose end has not come
 * are beside it (handler_line_fits).
 *
 * Why nothing stands still. Say that no pipe is read because held >= --buffer.
 * 1. A group load that could start does, and its end makes room, waiting for BigQuery alone. Likewise a stream that has more than a chunk, which is being sent,
 *    or one whose item is done.
 * 2. If there is none of these, held consists of less than windows of those that have places, half of the buffer at most, and of unfinished items without one:
 *    those have the other half, and one of them must give way. The largest becomes a stream if there is a place and it has a window's worth: that is sent (1.).
 *    Otherwise the youngest of those that need a stream is given up, or the youngest at all if none has grown so far: its rows are dropped, and those that
 *    still come are read and dropped. Either way one fewer is left, so this ends with held < --buffer, and the pipes are read again.
 * 3. A handler whose item's stream is full is not read either, whatever else goes over its pipe. Such a stream has two chunks, so one is being sent; once
 *    BigQuery has it, the pipe is read. So the "done" of others behind it in the same pipe comes, too.
 * 4. An item that was given up runs again when it gets a place at its start, before others that wait. It does not give way again. Places come free as streams
 *    end, for which BigQuery alone is waited for once their items are done, and those are read (3.).
 * A hundred large items in one child: eight stream, the others grow until the buffer is full, and are given up one after the other, youngest first. The child
 * works them off into the void; then they come again, eight at a time.
 *
 * Rows that are not loaded (mode none) have no stream: the youngest such item is given up to run with nothing beside it, and fails if it outgrows all of the
 * buffer then.
 */
void room_init(struct worker *);
/* Makes room while the buffer is full. */
void room_make(struct worker *);
/* Its next row needs a stream, which it has no place for: again later, with one. */
void room_give_up(struct item *);
/* Mode none: its rows are more than the whole buffer. */
void room_outgrown(struct item *);
bool room_place(const struct worker *); /* there is one */
void room_take(struct item *);
/* Its place is not needed any more: it is done, with few rows, or dropped. */
void room_release(struct item *);
/* So many bytes of rows make an item a stream if there is a place. */
size_t room_share(const struct item *);

#endif
