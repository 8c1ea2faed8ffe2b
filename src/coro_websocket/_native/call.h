/* Look at the arguments of a call before a type's own tp_call parses them, whose errors would
 * speak of `__call__`. Costs a comparison where there are none. */
#ifndef CORO_WEBSOCKET_CALL_H
#define CORO_WEBSOCKET_CALL_H

#include <Python.h>

/* Put a call in the type's slot; returns the one that was there. */
static inline ternaryfunc call_install(PyObject *type, ternaryfunc call)
{
    PyTypeObject *t = (PyTypeObject *)type;
    ternaryfunc own = t->tp_call;
    t->tp_call = call;
    PyType_Modified(t);
    return own;
}

#endif
