#ifndef BQF_COORDINATOR_SPEC_INTERNAL_H
#define BQF_COORDINATOR_SPEC_INTERNAL_H

#include "coordinator/spec.h"

/* The sections of a spec, one reader each. at: the section's node, or the whole document where the section is missing. */
int spec_read_items(struct spec *, struct yaml *items, struct yaml *root, struct error *);
int spec_read_write(struct spec *, struct yaml *write, struct yaml *root, struct error *);
int spec_read_create(struct spec *, struct yaml *create, struct error *);

/* The section as a map, with no keys but these. -1 when it is missing ("SECTION is missing") or something else. */
int spec_section(struct yaml *root, const char *name, bool required, const char *const *keys, size_t count, struct yaml **out, struct error *);
/* -1 with "KEY is missing; WHY" at the map. */
int spec_require(struct yaml *map, const char *section, const char *key, const char *why, struct error *);
/* Puts the node's place, and the key's path unless it is NULL, before an error that knows none; -1. */
int spec_at(const struct yaml *, const char *path, struct error *);
/* A path of the spec, against its folder; "-" stays. Caller frees. */
char *spec_path(const struct spec *, const char *path);

#endif
