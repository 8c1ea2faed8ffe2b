/* Look at the arguments of a call before a type's own tp_call parses them, whose errors would
 * speak of `__call__`. Costs a comparison where there are none. */
#ifndef CORO_WEBSOCKET_CALL_H
#define CORO_WEBSOCKET_CALL_H

#include <Python.h>

/* Raises if a call must not have these arguments; keywords is NULL if there are none. */
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

/* What is to be installed: checks what is more than so many positional arguments. */
static inline PyObject *call_checked(ternaryfunc own, call_check check, Py_ssize_t usual,
                                     PyObject *self, PyObject *arguments, PyObject *keywords)
{
    if (keywords != NULL || PyTuple_GET_SIZE(arguments) > usual)
        return call_checking(own, check, self, arguments, keywords);
    return own(self, arguments, keywords);
}

#endif
