from .._streams.fed_stream cimport FedStream


cdef class AppStream(FedStream):
    cdef int hang_up(self) except -1
