"""Ready-made hooks that accept only requests with credentials: `basic_auth` and `bearer_auth`.

The rule: how long a wrong secret takes to be refused says nothing about the right one, nor about
whether the user exists; and no secret is ever logged, answered or shown.

RFC 7617 (Basic); RFC 6750 (Bearer).
"""

from __future__ import annotations

import hmac
import inspect
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from .._checks import wrong_type
from .._errors import InvalidOption, InvalidOptionType
from .._http.authorization import Malformed, basic_credentials, bearer_tokens, challenge
from .._http.http_response import HTTPResponse
from .._http.request_and_response import Request
from .._options.header_rules import is_token
from .callables import wrong_arguments

if TYPE_CHECKING:
    from .hooks import ProcessRequest

__all__ = ["basic_auth", "bearer_auth"]

BasicCheck: TypeAlias = Callable[[str, str], object]
BearerCheck: TypeAlias = Callable[[str], object]

_KEY = os.urandom(32)  # of the digests of secrets


def basic_auth(
    credentials: Mapping[str, str] | tuple[str, str] | BasicCheck,
    *,
    realm: str = "websocket",
    protect: Callable[[Request], object] | None = None,
) -> ProcessRequest:
    """A hook for `process_request` that asks for a name and a password (RFC 7617).

        serve(handler, process_request=basic_auth({"ann": "s3cret"}, realm="chat"))

    A request without them, or with wrong ones, is answered with 401. Of one that is accepted,
    `req.state.user` is the name, or what the function returned.

    Args:
        credentials: passwords by name; or one `(name, password)`; or a function or coroutine
            function of name and password, which returns True, or an object that stands for the
            user, to let it in; anything false to refuse; or an HTTPResponse to answer with.
        realm: what is protected, in words, as browsers show it to the user.
        protect: a function of the Request that says whether credentials are needed; by default
            they always are. `req.path` is as it was sent, percent-encoding included: let it
            say what is open, as `lambda req: req.path != "/health"` does.

    Raises:
        InvalidOption: an argument cannot be used.
    """
    _refuse_request("basic_auth", "credentials", credentials)
    check = credentials if callable(credentials) else _Passwords(credentials)
    _check_function("credentials", check, 2)
    _check_protect(protect)
    asking = challenge("Basic", realm=_checked_realm(realm), charset="UTF-8")
    refused = HTTPResponse(401, [asking], "expected a name and a password\n")

    def hook(req: Request) -> Any:
        if protect is not None and not protect(req):
            return None
        try:
            found = basic_credentials(req)
        except Malformed:
            return refused
        if found is None:
            return refused
        user = found[0]

        def let_in(result: object) -> None:
            req.state.user = user if result is True else result

        return _decide(check(*found), refused, let_in)

    return hook


def bearer_auth(
    tokens: str | Iterable[str] | Mapping[str, object] | BearerCheck,
    *,
    realm: str | None = None,
    query: str | None = None,
    cookie: str | None = None,
    subprotocol: str | None = None,
    protect: Callable[[Request], object] | None = None,
) -> ProcessRequest:
    """A hook for `process_request` that asks for a token (RFC 6750).

        serve(handler, process_request=bearer_auth(check_token, query="token"))

    Tokens come in `Authorization: Bearer ...`. Scripts in browsers cannot set that header, so one
    may also come in the query, in a cookie or among the offered subprotocols. A request without
    one, or with a wrong one, is answered with 401, and one with several with 400. Of one that is
    accepted, `req.state.token_claims` is what the function returned, or what the mapping has; of
    a list of tokens, True.

    Args:
        tokens: one token, or several; or a mapping from each to what it stands for; or a function
            or coroutine function of a token, which returns True, or what the token stands for, to
            let it in; anything false to refuse; or an HTTPResponse to answer with.
        realm: what is protected, in words, as browsers show it to the user.
        query: the name of a parameter that may have the token: `"token"` for `/chat?token=...`.
        cookie: the name of a cookie that may have it, where nothing else has one.
        subprotocol: how a subprotocol begins that has it: `"bearer."` for
            `new WebSocket(url, ["chat", "bearer." + token])`. It is never agreed on: browsers need
            another one that is.
        protect: a function of the Request that says whether a token is needed, as for
            `basic_auth`; by default it always is.

    Raises:
        InvalidOption: an argument cannot be used.
    """
    _refuse_request("bearer_auth", "tokens", tokens)
    check = tokens if callable(tokens) else _Tokens(tokens)
    _check_function("tokens", check, 1)
    _check_protect(protect)
    _check_places(query, cookie, subprotocol)
    if realm is not None:
        _checked_realm(realm)

    def refused(status: int, error: str | None, said: str) -> HTTPResponse:
        return HTTPResponse(status, [challenge("Bearer", realm=realm, error=error)], said + "\n")

    # Section 3.1: no code where the request had no token.
    missing = refused(401, None, "expected a token")
    invalid = refused(401, "invalid_token", "the token is not valid")
    several = refused(400, "invalid_request", "expected one token")

    def hook(req: Request) -> Any:
        if protect is not None and not protect(req):
            return None
        try:
            found = bearer_tokens(req, query=query, cookie=cookie, subprotocol=subprotocol)
        except Malformed:
            return invalid
        if len(found) != 1:
            return several if found else missing

        def let_in(result: object) -> None:
            req.state.token_claims = result

        return _decide(check(found[0]), invalid, let_in)

    return hook


def _decide(
    result: object, refused: HTTPResponse, let_in: Callable[[object], None]
) -> HTTPResponse | Awaitable[HTTPResponse | None] | None:
    """The answer that follows from what a check has returned."""
    if inspect.isawaitable(result):
        return _decide_later(result, refused, let_in)
    if isinstance(result, HTTPResponse):
        return result
    if not result:
        return refused
    let_in(result)
    return None


async def _decide_later(
    result: Awaitable[object], refused: HTTPResponse, let_in: Callable[[object], None]
) -> HTTPResponse | None:
    answer = _decide(await result, refused, let_in)
    if inspect.isawaitable(answer):
        raise InvalidOptionType("what a check awaits must not be another awaitable")
    return answer


# Secrets


def _digest(secret: str) -> bytes:
    """What is kept and compared in place of a secret: of one length, and of no use elsewhere."""
    return hmac.digest(_KEY, secret.encode("utf-8", "surrogatepass"), "sha256")


class _Passwords:
    """Checks passwords by name."""

    def __init__(self, given: object) -> None:
        if isinstance(given, tuple) and len(given) == 2:
            given = dict([given])
        if not isinstance(given, Mapping):
            raise wrong_type("credentials", "a mapping, a (name, password) or a function", given)
        self._digests: dict[str, bytes] = {}
        for user, password in given.items():
            if not isinstance(user, str) or not isinstance(password, str):
                raise InvalidOptionType("credentials must be str: name and password", "credentials")
            if ":" in user:
                raise InvalidOption(
                    "a name in credentials has a colon, behind which the password would begin "
                    "(RFC 7617 section 2)",
                    "credentials",
                )
            self._digests[user] = _digest(password)

    def __call__(self, user: str, password: str) -> bool:
        expected = self._digests.get(user)
        # Compared also where there is no such user.
        same = hmac.compare_digest(_digest(password), expected or _KEY)
        return same and expected is not None


class _Tokens:
    """Checks tokens. They are found by their digests, which nobody else can compute."""

    def __init__(self, given: object) -> None:
        if isinstance(given, str):
            given = (given,)
        if isinstance(given, (bytes, bytearray)) or not isinstance(given, Iterable):
            raise wrong_type("tokens", "str, several of them, a mapping or a function", given)
        pairs = given.items() if isinstance(given, Mapping) else [(each, True) for each in given]
        self._claims: dict[bytes, object] = {}
        for token, claims in pairs:
            if not isinstance(token, str):
                raise InvalidOptionType("tokens must be str", "tokens")
            if not token:
                raise InvalidOption("a token must not be empty", "tokens")
            if not claims:
                raise InvalidOption(
                    f"a token stands for {type(claims).__name__} that is false: it would be "
                    "refused",
                    "tokens",
                )
            self._claims[_digest(token)] = claims

    def __call__(self, token: str) -> object:
        return self._claims.get(_digest(token))


# What is given


def _refuse_request(name: str, option: str, given: object) -> None:
    """It was given as a hook itself."""
    if isinstance(given, Request):
        raise InvalidOptionType(
            f"{name} makes a hook: give process_request={name}({option}), not {name} itself", option
        )


def _check_function(option: str, function: object, arguments: int) -> None:
    wrong = wrong_arguments(function, arguments)
    if wrong is not None:
        raise InvalidOptionType(
            f"{option} must be a function of {arguments} argument{'s'[: arguments - 1]}: {wrong}",
            option,
        )


def _check_protect(protect: object) -> None:
    if protect is not None:
        if not callable(protect):
            raise wrong_type("protect", "a function of the Request, or None", protect)
        if inspect.iscoroutinefunction(protect):  # what it returns would always be true
            raise InvalidOptionType(
                "protect must be a plain function, def protect(req): it is not awaited", "protect"
            )
        _check_function("protect", protect, 1)


def _check_places(query: object, cookie: object, subprotocol: object) -> None:
    for option, value in (("query", query), ("cookie", cookie), ("subprotocol", subprotocol)):
        if value is None:
            continue
        if not isinstance(value, str):
            raise wrong_type(option, "str or None", value)
        if not value or (option != "query" and not is_token(value)):
            raise InvalidOption(f"{option} must be a token (RFC 9110 section 5.6.2)", option)


def _checked_realm(realm: object) -> str:
    if not isinstance(realm, str):
        raise wrong_type("realm", "str", realm)
    challenge("Basic", realm=realm)
    return realm
