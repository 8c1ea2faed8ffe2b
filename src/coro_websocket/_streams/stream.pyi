from .memory import MemorySocket
from .user_socket import ConnectionSocket

class Stream:
    socket: ConnectionSocket | MemorySocket
    lost: bool
