#ifndef BQF_BASE_FILE_H
#define BQF_BASE_FILE_H

#include "common/base/error.h"

/* The whole file as text with a NUL behind it, which the caller frees. ERR_USAGE when it cannot be read or has more than max bytes. */
char *file_read(const char *path, size_t max, size_t *len, struct error *);

#endif
