"""Which extensions a connection uses: the server chooses among the offers, the client checks.

The rule: of what was offered, and no two on the same reserved bit. What a server cannot do as it
was offered it declines; what a client has not offered so fails the handshake.

RFC 6455 sections 4.1, 4.2.2 and 9.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from .._checks import is_int
from .._errors import InvalidOptionType
from .._quoting import clip
from .answers import refusal
from .extension_header import format_extensions, parse_extensions
from .opening_errors import HandshakeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .._rfc6455.extension import Extension, ExtensionFactory, Parameters
    from .request_and_response import Request, Response

__all__ = ["NO_EXTENSIONS", "AgreedExtensions", "accept_extensions", "agree_on_extensions"]


class AgreedExtensions(NamedTuple):
    """What a server uses of a client's offers, and what it says of it in `header`."""

    extensions: tuple[Extension, ...]
    header: str


NO_EXTENSIONS = AgreedExtensions((), "")


def agree_on_extensions(
    request: Request, extensions: Sequence[ExtensionFactory] = ()
) -> AgreedExtensions:
    """Those of the extensions that `request` offers which both sides can use.

    Of several offers of one extension the first that can be agreed on counts (RFC 6455
    section 9.1). What is unknown, or cannot be done as offered, is declined.

    Raises:
        HandshakeError: the header is not a list of extensions; or one of ours failed, which is
            the error's cause.
    """
    values = request._values_of("sec-websocket-extensions")
    if not values:
        return NO_EXTENSIONS
    try:
        offers = parse_extensions(values)
    except ValueError as error:
        raise refusal(
            400, f"expected extensions in Sec-WebSocket-Extensions, {error} (RFC 6455 section 9.1)"
        ) from None
    factories = {factory.name: factory for factory in extensions}
    agreed: list[Extension] = []
    said: list[str] = []
    used = 0
    for name, offered in offers:
        factory = factories.get(name)
        if factory is None:
            continue
        try:
            answer = factory.agree(offered)
            if answer is None:
                continue
            parameters, extension = answer
            _check_extension(name, extension)
            text = format_extensions([(name, parameters)])
        except Exception as error:
            raise refusal(500, f"the extension {clip(name)} has failed") from error
        if not extension.rsv & used:
            used |= extension.rsv
            agreed.append(extension)
            said.append(text)
            del factories[name]
    return AgreedExtensions(tuple(agreed), ", ".join(said))


def accept_extensions(
    response: Response, extensions: Sequence[ExtensionFactory] = ()
) -> list[tuple[str, Parameters, Extension]]:
    """The extensions that `response` agrees on, of those that were offered.

    Raises:
        HandshakeError: one was not offered, or not so, or they get in each other's way.
            RFC 6455 sections 4.1 and 9.1.
    """

    def refused(why: str) -> HandshakeError:
        came = clip(", ".join(response.get_all("Sec-WebSocket-Extensions")))
        return HandshakeError(
            f"the server's answer does not complete the handshake: {why}, received "
            f"Sec-WebSocket-Extensions: {came} (RFC 6455 section 4.1 and section 9.1)",
            response,
        )

    try:
        named = parse_extensions(response.get_all("Sec-WebSocket-Extensions"))
    except ValueError as error:
        raise refused(f"expected a list of extensions, {error}") from None
    factories = {factory.name: factory for factory in extensions}
    accepted: list[tuple[str, Parameters, Extension]] = []
    used = 0
    for name, parameters in named:
        factory = factories.pop(name, None)
        if factory is None:
            offered = ", ".join(each.name for each in extensions)
            raise refused(
                f"expected each of the extensions that were offered ({clip(offered)}) at most once"
                if offered
                else "expected no extension, as none was offered"
            )
        try:
            extension = factory.accept(parameters)
        except ValueError as error:
            raise refused(f"{name} does not answer the offer: {error}") from None
        _check_extension(name, extension)
        if extension.rsv & used:
            raise refused("two extensions use the same reserved bit")
        used |= extension.rsv
        accepted.append((name, parameters, extension))
    return accepted


def _check_extension(name: str, extension: Extension) -> None:
    """InvalidOptionType if what a factory made cannot be used as an extension."""
    rsv = getattr(extension, "rsv", None)
    if (
        not callable(getattr(extension, "encode", None))
        or not callable(getattr(extension, "decode", None))
        or not is_int(rsv)
        or rsv not in (4, 2, 1)
    ):
        raise InvalidOptionType(
            f"{clip(name)} made {type(extension).__name__} with rsv={rsv!r}: expected an Extension "
            "whose rsv is 4, 2 or 1",
            "extensions",
        )
