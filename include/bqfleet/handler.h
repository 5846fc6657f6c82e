#ifndef BQFLEET_HANDLER_H
#define BQFLEET_HANDLER_H

/*
 * A bqfleet handler as a shared library, in C or anything with C linkage. Version 1. Needs no other header of bqfleet, and nothing to link with.
 *
 * A handler turns an item into rows. A worker starts a process of its own for the library (never in the worker itself: a crash is a crash of that process
 * only), which loads it and calls, always from its main thread and never two at a time:
 *
 *     bqfleet_plugin()            once: which functions there are
 *     open()                      once, before the first item: what the run is; where models are loaded
 *     process()                   for each item, one after another
 *     close()                     once, when there is no more to do; not when the process is killed (5 s after its work has ended, or because the run
 *                                 has), so nothing may depend on it
 *
 * With a `window` of k, the next k - 1 items already wait in the process while one is worked on; it still works on them one by one. More items at once are
 * more processes. The library may have threads of its own, but only the thread that was called may call the host, and only until it returns.
 *
 * stdout and stderr of the process go to the worker's log, stdin is empty. No C++ exception may leave a function.
 *
 * Ownership: whatever is passed in belongs to the caller and is valid during that call only, except the table of the host's functions, which stays.
 * Texts are UTF-8 bytes with a length, without a NUL at the end; JSON texts have no line breaks.
 *
 * Versions: BQFLEET_ABI changes when something here changes its meaning; a library of another version is refused when it is loaded. What is added
 * comes at the end of the structs, each of which begins with its version or its size as the side that filled it in was compiled: ask BQFLEET_HAS() before
 * using a member that version 1 did not have from the beginning.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define BQFLEET_ABI 1      /* of struct bqfleet_handler and of what its functions are given */
#define BQFLEET_HOST_ABI 1 /* of struct bqfleet_host */

#if defined(__GNUC__)
#define BQFLEET_EXPORT __attribute__((visibility("default")))
#else
#define BQFLEET_EXPORT
#endif

/* Whether the struct that `pointer` points to, by its size, has the member. */
#define BQFLEET_HAS(pointer, member) ((pointer)->size >= (size_t)((const char *)(&(pointer)->member + 1) - (const char *)(pointer)))

struct bqfleet_text {
    const char *data; /* never NULL */
    size_t len;       /* bytes */
};

/* What open() and process() return. */
enum bqfleet_result {
    BQFLEET_DONE = 0,
    BQFLEET_RETRY = 1, /* this attempt failed by something that passes: the item is tried again later */
    BQFLEET_TASK = 2,  /* this attempt failed by the item itself: tried again until its attempts are spent, then it has failed */
    BQFLEET_FATAL = 3  /* nothing can be done by anybody: the run ends */
};

/* The item, or the start, that is worked on: passed back to the host's functions. */
struct bqfleet_call;

struct bqfleet_host {
    uint32_t abi; /* BQFLEET_HOST_ABI */
    size_t size;  /* bytes of this table */
    /* A row of the item: one JSON object, checked against the target's schema by the worker (NaN and Infinity are taken for FLOAT64 columns). At most 32 MiB.
     * Copied. May block while the worker has no room. 0; else the item has failed: not an object, or no item is being processed. Rows of an item that fails
     * are dropped. */
    int (*emit)(struct bqfleet_call *call, const char *row, size_t len);
    /* Says why, for people. Returns `result`, so that `return host->fail(call, BQFLEET_TASK, text, len);` reads well. A failure that was told stands,
     * whatever is returned in the end; of several the first. The message is copied; beyond 64 KiB it is cut. */
    int (*fail)(struct bqfleet_call *call, int result, const char *message, size_t len);
    /* How much of the item is done, 0 to 1: for people who watch. As often as wanted. */
    void (*progress)(struct bqfleet_call *call, double share);
};

struct bqfleet_hello {
    size_t size;                /* bytes of this struct */
    struct bqfleet_text run;    /* the run's id */
    struct bqfleet_text batch;  /* its name */
    struct bqfleet_text params; /* JSON: the spec's job.params, "null" when it has none */
    struct bqfleet_text schema; /* JSON: {"fields":[...]} as BigQuery's REST API writes it, "null" when there is no target */
};

struct bqfleet_item {
    size_t size;                 /* bytes of this struct */
    int64_t index;               /* in the run, from 0 */
    struct bqfleet_text key;     /* may hold any character */
    struct bqfleet_text payload; /* JSON, "null" when there is none */
    int64_t attempt;             /* 1: the first */
    int64_t deadline_ms;         /* wall clock, milliseconds since 1970: then the worker kills the process */
};

struct bqfleet_handler {
    uint32_t abi;     /* BQFLEET_ABI */
    size_t size;      /* sizeof(struct bqfleet_handler) */
    const char *name; /* for messages; may be NULL */
    /* Works on one item: a bqfleet_result. Required. */
    int (*process)(void *state, const struct bqfleet_host *host, struct bqfleet_call *call, const struct bqfleet_item *item);
    /* Makes *state, which the others are given (NULL without open). A bqfleet_result: BQFLEET_FATAL ends the run; BQFLEET_RETRY and BQFLEET_TASK end the process, which
     * is started again after a while, three times at most. Must return within the handler's start_timeout, or items' time-outs run meanwhile. May be NULL. */
    int (*open)(const struct bqfleet_host *host, struct bqfleet_call *call, const struct bqfleet_hello *hello, void **state);
    /* May be NULL. Not called when open() failed. */
    void (*close)(void *state);
};

/* The one function that a library exports. What it returns stays valid for as long as the library is loaded. */
BQFLEET_EXPORT const struct bqfleet_handler *bqfleet_plugin(void);

/* Defines it: BQFLEET_PLUGIN("predict", open, process, close) */
#define BQFLEET_PLUGIN(name_, open_, process_, close_) \
    BQFLEET_EXPORT const struct bqfleet_handler *bqfleet_plugin(void) \
    { \
        static const struct bqfleet_handler handler_ = {BQFLEET_ABI, sizeof(struct bqfleet_handler), name_, process_, open_, close_}; \
        return &handler_; \
    }

#ifdef __cplusplus
}
#endif

#endif
