from ._memory import MemorySocket
from ._socket import ConnectionSocket

class Stream:
    socket: ConnectionSocket | MemorySocket
    lost: bool
