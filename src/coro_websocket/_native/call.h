/* Look at the arguments of a call before a type's own tp_call parses them, whose errors would
 * speak of `__call__`. Costs two comparisons. */
#ifndef CORO_WEBSOCKET_CALL_H
#define CORO_WEBSOCKET_CALL_H

#include <Python.h>

/* -1, with an exception, if a call must not have these arguments; keywords may be NULL. */
typedef int (*call_check)(PyObject *arguments, PyObject *keywords);

/* Put a call in the type's slot; returns the one that was there. */
static inline ternaryfunc call_install(PyObject *type, ternaryfunc call)
{
    PyTypeObject *t = (PyTypeObject *)type;
    ternaryfunc own = t->tp_call;
    t->tp_call = call;
    PyType_Modified(t);
    return own;
}

static Py_NO_INLINE PyObject *call_checking(ternaryfunc own, call_check check, PyObject *self,
                                            PyObject *arguments, PyObject *keywords)
{
    return check(arguments, keywords) < 0 ? NULL : own(self, arguments, keywords);
}

/* What an installed call does: keywords, or more than `usual` arguments, are checked first. */
static inline PyObject *call_checked(ternaryfunc own, call_check check, Py_ssize_t usual,
                                     PyObject *self, PyObject *arguments, PyObject *keywords)
{
    if (keywords != NULL || PyTuple_GET_SIZE(arguments) > usual)
        return call_checking(own, check, self, arguments, keywords);
    return own(self, arguments, keywords);
}

#endif
