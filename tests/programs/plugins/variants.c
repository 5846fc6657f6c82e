#include <stddef.h>
#include <stdint.h>

/*
 * Libraries as another version of the header, or none, would have made them. VARIANT_...:
 *   old       a struct that ends with process(): members that were added later are not there
 *   newer     one with a member that this version does not know
 *   version   of another version
 *   small     a size that cannot be
 *   empty     no process()
 *   null      no struct at all
 *   other     exports something else
 * Written by hand, on purpose: what the header once was must stay what plugins were built with.
 */
struct text { const char *data; size_t len; };
struct host { uint32_t abi; size_t size; int (*emit)(void *call, const char *row, size_t len); };
struct item { size_t size; int64_t index; struct text key; };
typedef int process_fn(void *state, const struct host *host, void *call, const struct item *item);

struct handler {
    uint32_t abi;
    size_t size;
    const char *name;
    process_fn *process;
#ifdef VARIANT_newer
    int (*open)(void);
    void (*close)(void *state);
    void (*invented)(void);
#endif
};

static int process(void *state, const struct host *host, void *call, const struct item *item)
{
    (void)state;
    return item->key.len > 0 ? host->emit(call, "{\"k\":\"old\",\"v\":1}", 17) : 0;
}

#ifdef VARIANT_other
__attribute__((visibility("default"))) int bqfleet_something(void);
int bqfleet_something(void) { return process != NULL; }
#else
__attribute__((visibility("default"))) const struct handler *bqfleet_plugin(void);
const struct handler *bqfleet_plugin(void)
{
    static struct handler h;
    h.abi = 1;
    h.size = sizeof(h);
    h.name = "variant";
    h.process = process;
#if defined(VARIANT_version)
    h.abi = 2;
#elif defined(VARIANT_small)
    h.size = 8;
#elif defined(VARIANT_empty)
    h.process = NULL;
#elif defined(VARIANT_null)
    return NULL;
#endif
    return &h;
}
#endif
