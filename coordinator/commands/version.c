#include "coordinator/command.h"

#include "common/base/doc.h"

int command_version(struct command_env *env, char *const *args, int count)
{
    (void)args;
    (void)count;
    if (env->settings->output != NULL && strcmp(env->settings->output, "json") == 0) {
        AUTO(doc_free_auto) doc *d = doc_set_str(doc_object(), "version", BQF_VERSION);
        AUTO(free_ptr) char *text = doc_text(d);
        printf("%s\n", text);
    } else {
        printf("bqfleet %s\n", BQF_VERSION);
    }
    return EXIT_WRITTEN;
}
