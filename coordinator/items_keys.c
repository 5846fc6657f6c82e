#include "coordinator/items_internal.h"

#include "common/base/ids.h"

/*
 * Keys seen so far, 16 bytes each whatever their length: 96 bits of SHA-256 and the place where the key was seen first. Two different keys
 * of a million share 96 bits with a probability of 6e-18, so a hit counts as a repetition without the keys being kept. Open addressing;
 * grows by doubling, then at once to a size that holds the limit, so that old and new table together stay below 32 MB.
 */
struct slot { uint64_t high; uint32_t low, place; }; /* place 0: free */
struct keyset { struct slot *slots; size_t size, count; };

#define FIRST_SIZE ((size_t)1 << 12)
#define LAST_DOUBLED ((size_t)1 << 19)
#define FINAL_SIZE ((size_t)LIMIT_UNIQUE_KEYS * 7 / 5)

struct keyset *keyset_new(void)
{
    struct keyset *k = xcalloc(1, sizeof(*k));
    k->size = FIRST_SIZE;
    k->slots = xcalloc(k->size, sizeof(*k->slots));
    return k;
}

void keyset_free(struct keyset *k)
{
    if (k == NULL)
        return;
    free(k->slots);
    free(k);
}

size_t keyset_count(const struct keyset *k)
{
    return k->count;
}

static struct slot *find(struct slot *slots, size_t size, uint64_t high, uint32_t low)
{
    size_t i = (size_t)(high % size);
    while (slots[i].place != 0 && (slots[i].high != high || slots[i].low != low))
        i = i + 1 == size ? 0 : i + 1;
    return &slots[i];
}

static void grow(struct keyset *k)
{
    size_t size = k->size < LAST_DOUBLED ? k->size * 2 : FINAL_SIZE;
    struct slot *slots = xcalloc(size, sizeof(*slots));
    for (size_t i = 0; i < k->size; i++)
        if (k->slots[i].place != 0)
            *find(slots, size, k->slots[i].high, k->slots[i].low) = k->slots[i];
    free(k->slots);
    k->slots = slots;
    k->size = size;
}

uint32_t keyset_add(struct keyset *k, const char *key, size_t len, int64_t place)
{
    assert(k->count < LIMIT_UNIQUE_KEYS && place > 0);
    unsigned char digest[SHA256_BYTES];
    sha256(key, len, digest);
    uint64_t high;
    uint32_t low;
    memcpy(&high, digest, sizeof(high));
    memcpy(&low, digest + sizeof(high), sizeof(low));
    struct slot *found = find(k->slots, k->size, high, low);
    if (found->place != 0)
        return found->place;
    *found = (struct slot){high, low, place < UINT32_MAX ? (uint32_t)place : UINT32_MAX};
    k->count++;
    if (k->count > k->size - k->size / 4 && k->size < FINAL_SIZE)
        grow(k);
    return 0;
}
