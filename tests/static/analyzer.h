/*
 * What clang's analyzer has to know of lists; it reads this before every source. Who takes the first element off a list changes the head through the element's
 * link, or through the element's own pointer to the owner of the list. That both lead to the same head is an invariant which the analyzer cannot conclude: it
 * meets the element that was just freed at the head again. So here a head's first element is any element, and one that leaves a hash is compared with the head.
 * What is used after it was freed by the name that it was freed by is still found; an element that is freed and left in its list is not.
 */
#include <sys/queue.h>
#include <uthash.h>

void *analyzer_any(void);
#define ANALYZER_SOME(first) __extension__ ({ \
    __typeof__((0, (first))) analyzer_it = (first); \
    if (analyzer_it != NULL && (analyzer_it = analyzer_any()) == NULL) \
        __builtin_unreachable(); \
    analyzer_it; \
})

#undef LIST_FIRST
#define LIST_FIRST(head) ANALYZER_SOME((head)->lh_first)
#undef LIST_FOREACH
#define LIST_FOREACH(var, head, field) for ((var) = LIST_FIRST(head); (var); (var) = LIST_NEXT(var, field))
#undef TAILQ_FIRST
#define TAILQ_FIRST(head) ANALYZER_SOME((head)->tqh_first)

#undef HASH_DEL
#define HASH_DEL(head, elm) do { \
    _Bool analyzer_first = (head) == (elm); \
    void *analyzer_next = (elm)->hh.next; \
    HASH_DELETE(hh, head, elm); \
    if (analyzer_first) \
        (head) = analyzer_next; \
} while (0)
