#include "common/base/spares.h"

#include "common/base/limits.h"

#if defined(__SANITIZE_ADDRESS__)
#define KEEPS 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define KEEPS 0
#endif
#endif
#ifndef KEEPS
#define KEEPS 1
#endif

static size_t class_of(size_t size)
{
    return (size - 1) / SPARES_STEP;
}

void *spares_take(struct spares *s, size_t size)
{
    assert(size > 0);
    size_t class = class_of(size);
    if (!KEEPS || class >= SPARES_SIZES)
        return xmalloc(size);
    struct spare *first = s->lists[class];
    if (first == NULL)
        return xmalloc((class + 1) * SPARES_STEP);
    s->lists[class] = first->next;
    s->kept -= (class + 1) * SPARES_STEP;
    return first;
}

void spares_give(struct spares *s, void *p, size_t size)
{
    size_t class = class_of(size), bytes = (class + 1) * SPARES_STEP;
    if (!KEEPS || class >= SPARES_SIZES || s->kept + bytes > LIMIT_SPARES) {
        free(p);
        return;
    }
    struct spare *spare = p;
    spare->next = s->lists[class];
    s->lists[class] = spare;
    s->kept += bytes;
}

void spares_free(struct spares *s)
{
    for (size_t i = 0; i < SPARES_SIZES; i++) {
        struct spare *next;
        for (struct spare *spare = s->lists[i]; spare != NULL; spare = next) {
            next = spare->next;
            free(spare);
        }
    }
    *s = (struct spares){.kept = 0};
}
