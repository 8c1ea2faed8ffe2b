/* Which thread this is: the same number in each call of one thread, another in every other. */
#ifndef CORO_WEBSOCKET_THIS_THREAD_H
#define CORO_WEBSOCKET_THIS_THREAD_H

#include <Python.h>
#include <stdint.h>

#if defined(__linux__) && defined(__has_builtin)
#if __has_builtin(__builtin_thread_pointer)
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

#endif
