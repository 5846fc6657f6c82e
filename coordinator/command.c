#include "coordinator/command.h"

int command_fail(const struct error *err)
{
    fprintf(stderr, "bqfleet: %s\n", err->text);
    return err->kind == ERR_USAGE ? EXIT_USAGE : EXIT_UNFINISHED;
}
