#include "common/host/library.h"

#include <dlfcn.h>

/* The smallest struct there ever was: up to process(). */
#define SMALLEST (offsetof(struct bqfleet_handler, process) + sizeof(((struct bqfleet_handler *)0)->process))

static int check(struct library *l, const struct bqfleet_handler *h, struct error *err)
{
    if (h == NULL)
        return error_set(err, ERR_FATAL, 0, "plugin %s: bqfleet_plugin() returned NULL", l->path);
    if (h->abi != BQFLEET_ABI)
        return error_set(err, ERR_FATAL, 0, "plugin %s was built for version %" PRIu32 " of bqfleet/handler.h, and this program has version %d; build it "
                         "with the header that came with this program", l->path, h->abi, BQFLEET_ABI);
    if (h->size < SMALLEST)
        return error_set(err, ERR_FATAL, 0, "plugin %s says that its struct bqfleet_handler has %zu bytes; write sizeof(struct bqfleet_handler)", l->path,
                         h->size);
    memcpy(&l->handler, h, size_min(h->size, sizeof(l->handler)));
    if (l->handler.process == NULL)
        return error_set(err, ERR_FATAL, 0, "plugin %s has no process()", l->path);
    return 0;
}

int library_open(struct library *l, const char *path, struct error *err)
{
    *l = (struct library){.path = path};
    AUTO(free_ptr) char *name = strchr(path, '/') ? xstrdup(path) : xasprintf("./%s", path); /* a file, never looked up among the system's */
    void *handle = dlopen(name, RTLD_NOW | RTLD_LOCAL);
    if (handle == NULL)
        return error_set(err, ERR_FATAL, 0, "the plugin cannot be loaded: %.800s (a relative path counts from the folder of the spec or the handlers file)", dlerror());
    union {
        void *found;
        const struct bqfleet_handler *(*entry)(void); /* ISO C has no cast from an object's pointer to a function's */
    } symbol = {.found = dlsym(handle, "bqfleet_plugin")};
    if (symbol.found == NULL)
        return error_set(err, ERR_FATAL, 0, "plugin %s exports no function bqfleet_plugin(); define it with BQFLEET_PLUGIN() of bqfleet/handler.h", path);
    return check(l, symbol.entry(), err);
}
