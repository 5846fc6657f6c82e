#include "common/base/oom.h"

#include <jansson.h>

#include "common/base/base.h"

void out_of_memory(const char *what)
{
    fprintf(stderr, "bqfleet: out of memory (%s)\n", what);
    abort();
}

/* Before main: jansson has to have it before its first document. Left to itself it drops characters of a text for which it finds no memory, and goes on. */
__attribute__((constructor)) static void give_libraries_our_memory(void)
{
    json_set_alloc_funcs(xmalloc, free);
}
