/* Masking (RFC 6455 section 5.3): byte i of the output is byte i of the input
 * XOR byte i modulo 4 of the key. The same call masks and unmasks.
 *
 * Loads and stores go through memcpy, which is free of alignment faults. Blocks
 * of 64 bytes are the compiler's vectors: SSE2, NEON or whatever the machine has
 * at least, and with glibc on x86-64 AVX2 or AVX-512 where it turns out to have
 * them.
 */
#ifndef CORO_WEBSOCKET_MASK_H
#define CORO_WEBSOCKET_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) && defined(__x86_64__) && defined(__GLIBC__) && \
    !defined(__SANITIZE_ADDRESS__) && (!defined(__clang__) || __clang_major__ >= 17)
#define MASK_CLONES __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define MASK_CLONES
#endif

enum { MASK_BLOCK = 64 };

#ifdef __GNUC__

typedef uint64_t mask_vector __attribute__((vector_size(MASK_BLOCK)));

/* n is a multiple of MASK_BLOCK. */
MASK_CLONES static void mask_blocks(uint8_t *to, const uint8_t *from, size_t n, uint64_t pattern)
{
    mask_vector key, block;
    for (int k = 0; k < 8; k++)
        key[k] = pattern;
    for (size_t i = 0; i < n; i += MASK_BLOCK) {
        memcpy(&block, from + i, MASK_BLOCK);
        block ^= key;
        memcpy(to + i, &block, MASK_BLOCK);
    }
}

#endif

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
#ifdef __GNUC__
    if (n >= 2 * MASK_BLOCK) {
        i = n - n % MASK_BLOCK;
        mask_blocks(to, from, i, pattern);
    }
#endif
    for (; n - i >= 8; i += 8) {
        memcpy(&word, from + i, 8);
        word ^= pattern;
        memcpy(to + i, &word, 8);
    }
    for (; i < n; i++)
        to[i] = from[i] ^ turned[i & 7];
}

#endif
