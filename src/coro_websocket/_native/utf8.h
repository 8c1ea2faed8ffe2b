/* UTF-8, checked as it arrives (RFC 6455 section 8.1, RFC 3629 section 4).
 *
 * The state between two pieces is what the next byte may be: how many
 * continuation bytes are still missing and the range of the next one. The range
 * is narrower than 80..BF only after E0, ED, F0 and F4, which is how overlong
 * forms, surrogates and code points over 10FFFF fail on the first byte that makes
 * them impossible.
 */
#ifndef CORO_WEBSOCKET_UTF8_H
#define CORO_WEBSOCKET_UTF8_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct {
    uint8_t missing;
    uint8_t low;
    uint8_t high;
} utf8_state;

static inline int utf8_lead(utf8_state *s, uint8_t c)
{
    s->low = 0x80;
    s->high = 0xBF;
    if (c >= 0xC2 && c <= 0xDF) {
        s->missing = 1;
    } else if (c >= 0xE0 && c <= 0xEF) {
        s->missing = 2;
        if (c == 0xE0)
            s->low = 0xA0;
        else if (c == 0xED)
            s->high = 0x9F;
    } else if (c >= 0xF0 && c <= 0xF4) {
        s->missing = 3;
        if (c == 0xF0)
            s->low = 0x90;
        else if (c == 0xF4)
            s->high = 0x8F;
    } else {
        return 0;
    }
    return 1;
}

/* How many bytes of p[0..n) are possible so far: n, or the index of the first
 * byte that cannot be. A sequence that is only begun is possible: whether one is
 * open is s->missing. */
static inline size_t utf8_check(utf8_state *s, const uint8_t *p, size_t n)
{
    const uint64_t high_bits = 0x8080808080808080u;
    size_t i = 0;
    while (i < n) {
        if (s->missing) {
            if (p[i] < s->low || p[i] > s->high)
                return i;
            s->missing--;
            s->low = 0x80;
            s->high = 0xBF;
            i++;
        } else if (p[i] < 0x80) {
            uint64_t a, b;
            i++;
            while (n - i >= 16) {
                memcpy(&a, p + i, 8);
                memcpy(&b, p + i + 8, 8);
                if ((a | b) & high_bits)
                    break;
                i += 16;
            }
        } else {
            if (!utf8_lead(s, p[i]))
                return i;
            i++;
        }
    }
    return n;
}

/* The length of the sequence that p[0..n), valid so far, ends in the middle of: 0 to 3. */
static inline size_t utf8_open_tail(const utf8_state *s, const uint8_t *p, size_t n)
{
    size_t back = 0;
    if (!s->missing)
        return 0;
    while (back < n) {
        back++;
        if ((p[n - back] & 0xC0) != 0x80)
            break;
    }
    return back;
}

#endif
