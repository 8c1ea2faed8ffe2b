/* Which thread this is: a number that no other thread has while this one runs. */
#ifndef CORO_WEBSOCKET_THIS_THREAD_H
#define CORO_WEBSOCKET_THIS_THREAD_H

#include <Python.h>
#include <stdint.h>

/* Older compilers know the name and cannot compile it. */
#if defined(__linux__) && (defined(__x86_64__) || defined(__aarch64__))
#if defined(__clang__)
#if __clang_major__ >= 14
#define CORO_WEBSOCKET_THREAD_POINTER
#endif
#elif defined(__GNUC__) && __GNUC__ >= 11
#define CORO_WEBSOCKET_THREAD_POINTER
#endif
#endif

/* Never 0. A thread that begins after another has ended may have its number. */
static inline uintptr_t this_thread(void)
{
#ifdef CORO_WEBSOCKET_THREAD_POINTER
    return (uintptr_t)__builtin_thread_pointer(); /* an instruction, in place of two calls */
#else
    return (uintptr_t)PyThread_get_thread_ident();
#endif
}

/* The number of a thread, kept where other threads may look at it meanwhile. */
static inline void keep_thread(uintptr_t *where, uintptr_t thread)
{
#if defined(__GNUC__) || defined(__clang__)
    __atomic_store_n(where, thread, __ATOMIC_RELAXED);
#else
    *(volatile uintptr_t *)where = thread;
#endif
}

static inline uintptr_t kept_thread(const uintptr_t *where)
{
#if defined(__GNUC__) || defined(__clang__)
    return __atomic_load_n(where, __ATOMIC_RELAXED);
#else
    return *(const volatile uintptr_t *)where;
#endif
}

#endif
