/* Calling back in another context (PEP 567). */
#ifndef CORO_WEBSOCKET_CONTEXT_H
#define CORO_WEBSOCKET_CONTEXT_H

#include <Python.h>

/* Leave the context that is entered, so that what is called may enter it. Returns it, a new
 * reference; NULL, and no exception, if none was entered. */
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

/* Undo context_leave. */
static inline int context_return(PyObject *context)
{
    if (context == NULL)
        return 0;
    int status = PyContext_Enter(context);
    Py_DECREF(context);
    return status;
}

/* Out of `context`, and back to the one that context_leave has left. */
static inline int context_change_back(PyObject *context, PyObject *ours)
{
    int status = PyContext_Exit(context);
    return context_return(ours) < 0 ? -1 : status;
}

/* Call in a context, having left one's own. 1: it has been called; 0: somebody else is in that
 * context; -1, with an exception: it has raised, or a context could not be left or entered. */
static inline int context_call(PyObject *context, PyObject *callback, PyObject *argument)
{
    PyObject *ours = context_leave();
    if (PyContext_Enter(context) < 0) {
        PyErr_Clear();
        return context_return(ours);
    }
    PyObject *result = PyObject_CallOneArg(callback, argument);
    if (result != NULL) {
        Py_DECREF(result);
        return context_change_back(context, ours) < 0 ? -1 : 1;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (context_change_back(context, ours) == 0) {
        PyErr_Restore(type, value, traceback);
    } else {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(traceback);
    }
    return -1;
}

#endif
