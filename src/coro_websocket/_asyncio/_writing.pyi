from .._engine import Engine
from ._loop_state import Sender

class Writing(Sender):
    engine: Engine
