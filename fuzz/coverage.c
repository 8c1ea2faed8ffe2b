/* Which code of a native module has run, told to libFuzzer (gcc, and clang alike).
 *
 * Compiled into each native module of a fuzzing build. The compiler calls
 * __sanitizer_cov_trace_pc in every basic block; here the block's address becomes one
 * of the 8-bit counters that libFuzzer watches. libFuzzer itself is in atheris, whose
 * library fuzz/run.py has preloaded.
 */
#include <stdint.h>
#include <stdlib.h>

#ifdef __clang__
#define NOT_INSTRUMENTED __attribute__((no_sanitize("coverage", "address", "undefined")))
#else
#define NOT_INSTRUMENTED \
    __attribute__((no_sanitize_coverage, no_sanitize_address, no_sanitize_undefined))
#endif
#define STEP 3 /* one counter for each 8 bytes of code: hardly two blocks share one */

struct block {
    uintptr_t pc, flags;
};

void __sanitizer_cov_8bit_counters_init(uint8_t *start, uint8_t *stop) __attribute__((weak));
void __sanitizer_cov_pcs_init(const struct block *start, const struct block *stop)
    __attribute__((weak));

extern const char code_start[] __asm__("__ehdr_start") __attribute__((visibility("hidden")));
extern const char code_end[] __asm__("etext");

static uint8_t *counters;

__attribute__((visibility("hidden"))) NOT_INSTRUMENTED void __sanitizer_cov_trace_pc(void)
{
    if (counters) {
        uint8_t *c =
            &counters[((uintptr_t)__builtin_return_address(0) - (uintptr_t)code_start) >> STEP];
        *c += *c < 255;
    }
}

/* gcc traces comparisons of floating point too, of which libFuzzer knows nothing. */
__attribute__((visibility("hidden"))) NOT_INSTRUMENTED void __sanitizer_cov_trace_cmpf(float a, float b)
{
    (void)a, (void)b;
}

__attribute__((visibility("hidden"))) NOT_INSTRUMENTED void __sanitizer_cov_trace_cmpd(double a, double b)
{
    (void)a, (void)b;
}

__attribute__((constructor)) NOT_INSTRUMENTED static void register_counters(void)
{
    size_t n = (((uintptr_t)code_end - (uintptr_t)code_start) >> STEP) + 1;
    struct block *table;
    if (!__sanitizer_cov_8bit_counters_init || !__sanitizer_cov_pcs_init)
        return; /* no libFuzzer in this process */
    table = calloc(n, sizeof *table);
    counters = calloc(n, 1);
    if (!table || !counters)
        abort();
    for (size_t i = 0; i < n; i++)
        table[i].pc = (uintptr_t)code_start + (i << STEP);
    __sanitizer_cov_8bit_counters_init(counters, counters + n);
    __sanitizer_cov_pcs_init(table, table + n);
}
