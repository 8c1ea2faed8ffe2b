/* Awaitables that return a value without building an exception.
 *
 * CPython asks an awaitable's tp_iternext (from 3.12 on) or am_send (3.11, and
 * asyncio's tasks in every version) for its next step. A value returned by am_send
 * costs no exception at all, one set here as StopIteration costs a fraction of one
 * that is raised by compiled Python code.
 */
#ifndef CORO_WEBSOCKET_AWAITABLE_H
#define CORO_WEBSOCKET_AWAITABLE_H

#include <Python.h>

/* One step: 0 and *result is what the await returns, 1 and *result is what is
 * yielded to the event loop, -1 with an exception set. *result is a new reference. */
typedef int (*awaitable_step)(PyObject *self, PyObject **result);

static inline PyObject *awaitable_next(int status, PyObject *result)
{
    if (status == 1)
        return result;
    if (status == 0) {
        if (result != Py_None)
            PyErr_SetObject(PyExc_StopIteration, result);
        Py_DECREF(result);
    }
    return NULL;
}

static inline PySendResult awaitable_send(int status)
{
    return status == 0 ? PYGEN_RETURN : status == 1 ? PYGEN_NEXT : PYGEN_ERROR;
}

/* Put the two native steps in the type's slots. The type defines __await__ and
 * __next__ itself, so both tables exist. */
static inline void awaitable_install(PyObject *type, iternextfunc next, sendfunc send)
{
    PyTypeObject *t = (PyTypeObject *)type;
    t->tp_iternext = next;
    t->tp_as_async->am_send = send;
    PyType_Modified(t);
}

#endif
