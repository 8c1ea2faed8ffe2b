/* Masking (RFC 6455 section 5.3): byte i of the output is byte i of the input
 * XOR byte i modulo 4 of the key. The same call masks and unmasks.
 *
 * The loop takes a word at a time through memcpy, which is free of alignment
 * faults and which the compiler turns into vector instructions.
 */
#ifndef CORO_WEBSOCKET_MASK_H
#define CORO_WEBSOCKET_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* to and from are the same place or do not overlap; offset is the position of
 * from[0] in its frame. */
static inline void mask_copy(uint8_t *to, const uint8_t *from, size_t n,
                             const uint8_t key[4], uint64_t offset)
{
    uint8_t turned[8];
    uint64_t word, pattern;
    size_t i = 0;

    for (int k = 0; k < 8; k++)
        turned[k] = key[(offset + (unsigned)k) & 3];
    memcpy(&pattern, turned, 8);
    for (; n - i >= 8; i += 8) {
        memcpy(&word, from + i, 8);
        word ^= pattern;
        memcpy(to + i, &word, 8);
    }
    for (; i < n; i++)
        to[i] = from[i] ^ turned[i & 7];
}

#endif
