from .receiving cimport Receiving


cdef class Engine(Receiving):
    pass
