/* Static data that the GIL protects: without one, each thread has its own. */
#ifndef CORO_WEBSOCKET_PER_THREAD_H
#define CORO_WEBSOCKET_PER_THREAD_H

#include <Python.h>

#if !defined(Py_GIL_DISABLED)
#define PER_THREAD
#elif defined(_MSC_VER)
#define PER_THREAD __declspec(thread)
#else
#define PER_THREAD _Thread_local
#endif

#endif
