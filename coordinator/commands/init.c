#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "coordinator/command.h"
#include "coordinator/spec.h"

/* init [FILE]: never over a file that is there. */
int command_init(struct command_env *env, char *const *args, int count)
{
    (void)env;
    struct error err = ERROR_INIT;
    if (count == 0 || strcmp(args[0], "-") == 0) {
        fputs(spec_example, stdout);
        return EXIT_WRITTEN;
    }
    int fd = open(args[0], O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd < 0) {
        if (errno == EEXIST)
            error_set(&err, ERR_USAGE, EEXIST, "%s exists already and is left as it is; give another name, or none for stdout", args[0]);
        else
            error_set(&err, ERR_USAGE, errno, "%s: cannot be written: %s", args[0], strerror(errno));
        return command_fail(&err);
    }
    FILE *f = fdopen(fd, "w");
    if (f == NULL) {
        close(fd);
        error_set(&err, ERR_FATAL, errno, "%s: %s", args[0], strerror(errno));
        return command_fail(&err);
    }
    bool ok = fputs(spec_example, f) >= 0;
    ok = fclose(f) == 0 && ok;
    if (!ok) {
        error_set(&err, ERR_FATAL, errno, "%s: cannot be written: %s", args[0], strerror(errno));
        return command_fail(&err);
    }
    fprintf(stderr, "wrote %s; next: bqfleet plan %s\n", args[0], args[0]);
    return EXIT_WRITTEN;
}
