#include "coordinator/command.h"

#include "common/base/units.h"

/* config show|check. That the settings load at all has been checked before a command runs. */
int command_config(struct command_env *env, char *const *args, int count)
{
    static const char *const actions[] = {"show", "check"};
    (void)count;
    bool json = env->settings->output != NULL && strcmp(env->settings->output, "json") == 0;
    if (strcmp(args[0], "show") == 0) {
        AUTO(free_ptr) char *text = config_show(env->config, json);
        size_t len = strlen(text);
        printf("%s%s", text, len > 0 && text[len - 1] == '\n' ? "" : "\n");
        return EXIT_WRITTEN;
    }
    struct error err = ERROR_INIT;
    if (strcmp(args[0], "check") == 0) {
        if (settings_check_ca(env->settings, &err) != 0)
            return command_fail(&err);
        printf(json ? "{\"ok\":true}\n" : "the settings are in order\n");
        return EXIT_WRITTEN;
    }
    const char *nearest = units_nearest(args[0], actions, ARRAY_LEN(actions));
    error_set(&err, ERR_USAGE, 0, "config: \"%s\" is neither show nor check%s%s%s", args[0], nearest != NULL ? "; did you mean \"" : "",
              nearest != NULL ? nearest : "", nearest != NULL ? "\"?" : "");
    return command_fail(&err);
}
