#include "coordinator/local.h"

/* `try`: runs the handler on a few items here, checks its rows and prints them; writes nothing. */
int command_try(struct command_env *env, char *const *args, int count)
{
    (void)count;
    return local_try(env, args[0]);
}
