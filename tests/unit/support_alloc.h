#ifndef BQF_TESTS_SUPPORT_ALLOC_H
#define BQF_TESTS_SUPPORT_ALLOC_H

#include "common/base/base.h"

/*
 * Memory that a library asks for and does not get. A shared library reaches malloc and its like through a table of addresses of its own; alloc_fail_each puts
 * ours there, so that only this library's calls are counted and refused, also of those that have no hook.
 */
#define ALLOC_OURS "" /* the program itself, and so the libraries that were given our functions */

/* From inside a try: refuses nothing more, for what is only a check of the result. */
void alloc_refuse_no_more(void);

/* What is tried says: 0 the result is right; 1 there was an error; anything else: it is wrong. */
typedef int tried_fn(void *arg);
/* In children: fn with the nth call of the library ("libzstd.so") refused, from the first on (one by one to 32, then in growing steps) until no call is left to
 * refuse; then with that one and all later ones. Fails the test when one crashes, hangs or is wrong, or when the library was never asked. */
void alloc_fail_each(const char *library, tried_fn *, void *arg);

#endif
