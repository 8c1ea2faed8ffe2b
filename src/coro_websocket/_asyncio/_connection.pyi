from ._writing import Writing

class Connection(Writing):
    socket: object
    lost: bool
