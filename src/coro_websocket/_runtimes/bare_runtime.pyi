from .runtime import Runtime

class BareRuntime(Runtime):
    def __init__(self) -> None: ...
