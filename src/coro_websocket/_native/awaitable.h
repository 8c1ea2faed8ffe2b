/* Awaitables that return a value without building an exception.
 *
 * CPython asks an awaitable's tp_iternext (from 3.12 on) or am_send (3.11, and
 * asyncio's tasks in every version) for its next step. A value returned by am_send
 * costs no exception at all, one set here as StopIteration costs a fraction of one
 * that is raised by compiled Python code, and least if it need not be made.
 */
#ifndef CORO_WEBSOCKET_AWAITABLE_H
#define CORO_WEBSOCKET_AWAITABLE_H

#include <Python.h>

/* One step: 0 and *result is what the await returns, 1 and *result is what is
 * yielded to the event loop, -1 with an exception set. *result is a new reference. */
typedef int (*awaitable_step)(PyObject *self, PyObject **result);

/* A StopIteration that is raised again and again: to make one costs more than all the rest of
 * returning a small message. It keeps its value until the next one, so it is for small ones; who
 * gets hold of it, calling next() by hand, keeps it, and another one is made.
 *
 * What is let go of may run finalizers, and these may come here again: each call has references
 * of its own to the one that it raises and to what that replaces, and lets go of these last. */
static inline void stop_iteration_again(PyObject *value)
{
#if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_GIL_DISABLED) /* which its count of references needs */
    static PyStopIterationObject *spare = NULL;
    PyStopIterationObject *replaced = NULL;
    PyStopIterationObject *stop = spare;
    if (stop != NULL && Py_REFCNT(stop) == 1 && !stop->traceback && !stop->context &&
        !stop->cause && !stop->notes && !stop->dict) {
        Py_INCREF(stop);
    } else {
        stop = (PyStopIterationObject *)PyObject_CallNoArgs(PyExc_StopIteration);
        if (stop == NULL)
            return;
        replaced = spare;
        spare = (PyStopIterationObject *)Py_NewRef(stop);
    }
    PyObject *last = stop->value;
    stop->value = Py_NewRef(value);
    PyErr_SetRaisedException((PyObject *)stop);
    Py_XDECREF(last);
    Py_XDECREF(replaced);
#else
    PyErr_SetObject(PyExc_StopIteration, value);
#endif
}

static inline PyObject *awaitable_next(int status, PyObject *result, int small)
{
    if (status == 1)
        return result;
    if (status == 0) {
        if (small)
            stop_iteration_again(result);
        else if (result != Py_None)
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

/* Have instances made by our own native code only, which fills them in. */
static inline void forbid_construction(PyObject *type)
{
    PyTypeObject *t = (PyTypeObject *)type;
    t->tp_new = NULL;
    t->tp_vectorcall = NULL;
    if (PyDict_DelItemString(t->tp_dict, "__new__") < 0)
        PyErr_Clear();
    PyType_Modified(t);
}

#endif
