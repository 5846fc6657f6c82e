#ifndef BQF_TESTS_SIM_EROSION_H
#define BQF_TESTS_SIM_EROSION_H

#include "tests/sim/check.h"

/* Kinds of it; each has a rate in struct oddities. */
enum erosion { ERODE_LOG, ERODE_WORK, ERODE_LATER, ERODE_BEYOND, ERODE_RASH, ERODE_HASTY, ERODE_DENY, ERODE_SLOW, ERODE_LATE_WORD };

#endif
