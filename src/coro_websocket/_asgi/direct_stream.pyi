from .._runtimes.runtime import Runtime
from .app_stream import AppStream

class DirectStream(AppStream):
    @staticmethod
    def can_serve(runtime: Runtime) -> bool: ...
