from .._rfc6455.receiving cimport Unit
from .connection cimport Connection


cdef enum Wanted:  # besides a message: what there is once the connection has closed cleanly
    ONE  # None
    ITEM  # StopAsyncIteration
    BATCH  # an empty list
    STREAM  # None
    CHUNK  # an error, as the message has not ended


cdef object next_message(Connection connection, Unit unit, bint control, Wanted wanted)
