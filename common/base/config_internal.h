#ifndef BQF_BASE_CONFIG_INTERNAL_H
#define BQF_BASE_CONFIG_INTERNAL_H

#include "common/base/config.h"

/* For config.c and config_show.c only: where a row's value lives. */
static inline void *config_at(const struct config *c, size_t i)
{
    return (char *)c->settings + c->rows[i].offset;
}

#endif
