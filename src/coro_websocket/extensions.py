"""Extensions: permessage-deflate, and the interface for your own (RFC 6455 section 9).

An `ExtensionFactory` negotiates in the opening handshake, on either side; what it
agrees on becomes an `Extension`, one for each connection, which transforms payloads.
`Deflate` is the factory of permessage-deflate (RFC 7692).

    class Reverse(Extension):
        rsv = 2                                          # it marks messages with rsv2

        def encode(self, payload, *, opcode, begins, ends):
            return payload[::-1]

        def decode(self, payload, *, ends, limit):
            return payload[::-1]

    class Reversing(ExtensionFactory):
        name = "x-reverse"

        def accept(self, parameters):
            return Reverse()

        def agree(self, parameters):
            return (), Reverse()

    connect(url, extensions=[Reversing()])
"""

from ._rfc6455.deflate import Deflate
from ._rfc6455.extension import Extension, ExtensionFactory

__all__ = ["Deflate", "Extension", "ExtensionFactory"]
