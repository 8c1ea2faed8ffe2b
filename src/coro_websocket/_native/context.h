/* Leaving the context that is entered, and returning to it (PEP 567). */
#ifndef CORO_WEBSOCKET_CONTEXT_H
#define CORO_WEBSOCKET_CONTEXT_H

#include <Python.h>

/* The context that was left, a new reference; NULL, and no exception, if none was entered. */
static inline PyObject *context_leave(void)
{
    PyObject *context = PyThreadState_Get()->context;
    if (context == NULL)
        return NULL;
    Py_INCREF(context);
    if (PyContext_Exit(context) < 0) { /* the thread's own, which is never entered */
        PyErr_Clear();
        Py_CLEAR(context);
    }
    return context;
}

/* Undo context_leave, whatever exception is set. */
static inline int context_return(PyObject *context)
{
    if (context == NULL)
        return 0;
    int status = PyContext_Enter(context);
    Py_DECREF(context);
    return status;
}

#endif
