/* What cppcheck has to know of uthash.h, which it does not read: that this is a loop that may free what it stands at. */
#define HASH_ITER(hh, head, el, tmp) for ((el) = (tmp) = (head); (el) && ((tmp) = (el)->hh.next, 1); (el) = (tmp))
