from .._streams.fed_stream import FedStream

class AppStream(FedStream):
    def data_received(self, data: bytes) -> None: ...
