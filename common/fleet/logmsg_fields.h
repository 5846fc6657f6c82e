#ifndef BQF_FLEET_LOGMSG_FIELDS_H
#define BQF_FLEET_LOGMSG_FIELDS_H

/* Field numbers are for ever; one that is dropped is not used again. */
enum {
    F_BY = 1, F_TEXT = 2, F_PUBLISHED = 3, F_ITEMS = 4, F_ENDS = 5, F_INCARNATION = 6, F_LOAD = 7, F_ROWS = 8, F_RANGES = 9, F_EMPTY = 10,
    F_FAILURE = 11, F_RANGE_LO = 12, F_RANGE_HI = 13, F_RANGE_NULL = 14, F_CUT = 15, F_SHARD = 16, F_NAMED_LOAD = 17, F_PARALLEL = 18,
    F_RUN = 19, F_MISSING = 20, F_OK = 21, F_JOB = 22, F_INSERTED = 23, F_UPDATED = 24, F_DELETED = 25, F_HEARD = 26, F_LEFT = 27,
    F_SUCCEEDED = 28,
    /* inside a failure */
    FF_ITEM = 1, FF_ATTEMPTS = 2, FF_KEY = 3, FF_REASON = 4, FF_TEXT = 5
};

#endif
