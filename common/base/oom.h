#ifndef BQF_BASE_OOM_H
#define BQF_BASE_OOM_H

/* A library found no memory for this: the process ends as it does in xmalloc, with a line on stderr. Never taken for damaged data: what is damaged is given
 * up for good. */
_Noreturn void out_of_memory(const char *what);

#endif
