from .._errors import ConnectionClosedError
from ._writing import Writing

class Connection(Writing):
    socket: object
    lost: bool
    ended_with: ConnectionClosedError | None
