from .._streams.fed_stream cimport FedStream


cdef class AppStream(FedStream):
    cdef bint lingers

    cdef int hang_up(self) except -1
