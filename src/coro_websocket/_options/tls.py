"""TLS: from options to an `ssl.SSLContext`.

The rule: a context made here is never weaker than what `ssl.create_default_context` gives,
except by `insecure`; and key material stays where it came from: no message, no `repr` and no
file shows it, not even for a moment if the system can help it.

RFC 8446 and RFC 5246 (TLS), RFC 7301 (ALPN), RFC 6455 sections 4.1 and 10.6. The option names
are those of coro-net, the library beneath luvit's coro-websocket.
"""

from __future__ import annotations

import collections
import contextlib
import os
import re
import ssl
import sys
import weakref
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, NoReturn, Self

from .._checks import check_names, wrong_type
from .._errors import InvalidOption
from .._quoting import clip
from .pem import PEM, as_file, pem_content, pem_text, read_pem, redacted_pem

__all__ = [
    "PEM",
    "TLSInfo",
    "TLSOptions",
    "client_context",
    "may_succeed_later",
    "server_context",
    "ssl_reason",
]

_ALPN = ["http/1.1"]

_VERSIONS = {
    "tls": None,
    "tls12": ssl.TLSVersion.TLSv1_2,
    "tls13": ssl.TLSVersion.TLSv1_3,
}

# What OpenSSL says of a certificate, though it is asked to load certificate and key at once.
_CERTIFICATE_REASONS = frozenset({"EE_KEY_TOO_SMALL", "CA_KEY_TOO_SMALL", "CA_MD_TOO_WEAK"})

# Alerts about a fault of the server's own or of the network, and not about us (RFC 8446
# section 6.2); the last is not an alert, but what we find ourselves.
_PASSING_REASONS = frozenset(
    {
        "TLSV1_ALERT_INTERNAL_ERROR",
        "TLSV1_ALERT_USER_CANCELLED",
        "SSLV3_ALERT_BAD_RECORD_MAC",
        "DECRYPTION_FAILED_OR_BAD_RECORD_MAC",
    }
)

# An option's name in our messages, which is not part of a path.
_OWN_NAME = re.compile(
    r"(?<![\w./\\'-])tls(\.(?:cert|key|ca|insecure|ciphers|protocol)\b|(?= must be | is ))"
)

# How OpenSSL's trust in the system's roots, and the log of secrets, can be turned elsewhere.
_ENVIRONMENT = ("SSL_CERT_FILE", "SSL_CERT_DIR", "SSLKEYLOGFILE")


@dataclass(frozen=True)
class TLSOptions:
    """How to use TLS; each field is optional, for a client.

    Immutable and hashable. `repr` shows neither keys nor PEM text.

    Attributes:
        cert: the certificate to show to the peer, with the chain up to its root if there are
            intermediate ones: PEM text (`str` or `bytes` with "-----BEGIN" in it) or the path of
            a PEM file. A server needs one; a client, if the server asks for it.
        key: the private key of `cert`: PEM text or a path, not encrypted. May be left out where
            `cert` holds the key too. To use an encrypted key, pass an `ssl.SSLContext`.
        ca: the certificates to trust, *instead of* the system's: PEM text, the path of a PEM
            file, the path of a directory as `openssl rehash` makes it, or a list of these. For
            a server: the authorities of its clients, which must then show a certificate.
        insecure: True turns off all verification of the server, its name included. Anyone on
            the way can then read and change everything: for tests only. Default False.
        ciphers: cipher suites of TLS 1.2, as an OpenSSL cipher list such as
            "ECDHE+AESGCM:!aNULL". Default None: Python's. It does not set the suites of TLS 1.3,
            which OpenSSL keeps apart: they stay on, so add `protocol="TLSv1.2"` if no suite but
            these may be used.
        protocol: the one version to speak: "TLSv1.2", "TLSv1.3" (in any case, also "TLSv1_2") or
            an `ssl.TLSVersion`. Default None, or "TLS": the best that both sides speak, at least
            1.2. Older ones are refused (RFC 8996).

    Raises:
        InvalidOptionType: a field is of another type; `option` names it, as in "tls.key".
        InvalidOption: `protocol` or `ca` cannot be used. What is in files and PEM text is found
            out when a context is made.
    """

    cert: PEM | None = None
    key: PEM | None = None
    ca: PEM | Sequence[PEM] | None = None
    insecure: bool = False
    ciphers: str | None = None
    protocol: str | ssl.TLSVersion | None = None

    def __post_init__(self) -> None:
        for name in ("cert", "key"):
            value = getattr(self, name)
            if value is not None:
                _check_pem(value, f"tls.{name}")
        if self.ca is not None:
            object.__setattr__(self, "ca", _authorities(self.ca))
        if not isinstance(self.insecure, bool):
            raise wrong_type("tls.insecure", "bool", self.insecure)
        if not isinstance(self.ciphers, (str, type(None))):
            raise wrong_type("tls.ciphers", "str, an OpenSSL cipher list", self.ciphers)
        object.__setattr__(self, "protocol", _tls_version(self.protocol))

    def __repr__(self) -> str:
        shown = (
            f"{field.name}={_redacted(field.name, value)}"
            for field in fields(self)
            if (value := getattr(self, field.name)) != field.default
        )
        return f"TLSOptions({', '.join(shown)})"


@dataclass(frozen=True, slots=True)
class TLSInfo:
    """What TLS has agreed on for a connection, and who the peer is (RFC 8446).

    Attributes:
        version: "TLSv1.3" or "TLSv1.2".
        cipher: the name of the cipher suite, as OpenSSL has it: "TLS_AES_256_GCM_SHA384".
        alpn: the protocol agreed on, "http/1.1" (RFC 7301); None if none was.
        peer_certificate: the fields of the peer's certificate, as `ssl.SSLSocket.getpeercert()`
            gives them; None if it has shown none, or one that was not verified (`insecure`).
        peer_certificate_der: that certificate itself, in DER; None if it has shown none.

    What TLS can no longer tell, as it has failed since, is None.
    """

    version: str | None
    cipher: str | None
    alpn: str | None
    peer_certificate: Mapping[str, Any] | None = field(hash=False)
    peer_certificate_der: bytes | None = field(repr=False)

    @classmethod
    def of(cls, tls: ssl.SSLObject | ssl.SSLSocket) -> Self:
        """What is known of a connection by now."""
        cipher = tls.cipher()
        certificate = der = None
        with contextlib.suppress(ValueError):  # TLS has failed
            der = tls.getpeercert(True)
            certificate = tls.getpeercert() or None
        return cls(
            tls.version(),
            cipher[0] if cipher is not None else None,
            tls.selected_alpn_protocol(),
            certificate,
            der,
        )


def client_context(
    tls: bool | ssl.SSLContext | TLSOptions | Mapping[str, Any],
) -> ssl.SSLContext:
    """The context to connect with. Reads files; takes milliseconds.

    True is TLSOptions(). An SSLContext is given back as it is. Equal options share a context, so
    do not change it: reading the system's trust store takes some 20 ms. Files that have changed
    are read again; the system's trust store is not.

    Raises:
        InvalidOption: an option cannot be used; `option` names it, as in "tls.ca".
    """
    if isinstance(tls, ssl.SSLContext):
        return _of_side(tls, ssl.PROTOCOL_TLS_SERVER, "a server", "a client")
    if tls is False:
        raise InvalidOption("tls is False: there is no TLS to set up", "tls")
    options = TLSOptions() if tls is True else tls_options(tls)
    key = _cache_key(options)
    context = _shared.get(key)
    if context is None:
        context = _client_context(options)
        if key is not None:
            _shared[key] = context
    if options.cert is None:
        _keep(context)
    return context


@contextlib.contextmanager
def errors_called(option: str) -> Iterator[None]:
    """Call the options in errors by the name that they were given under, such as "proxy_tls"."""
    try:
        yield
    except InvalidOption as error:
        first, dot, name = error.option.partition(".")
        raise type(error)(
            _OWN_NAME.sub(rf"{option}\1", str(error)),
            f"{option}{dot}{name}" if first == "tls" else error.option,
        ) from None


def server_context(tls: ssl.SSLContext | TLSOptions | Mapping[str, Any]) -> ssl.SSLContext:
    """The context to serve with: `cert` and `key` are needed; `ca` makes clients show theirs.

    An SSLContext is given back as it is. Raises InvalidOption as `client_context` does.
    """
    if isinstance(tls, ssl.SSLContext):
        return _of_side(tls, ssl.PROTOCOL_TLS_CLIENT, "a client", "a server")
    if isinstance(tls, bool):
        raise InvalidOption("a server needs tls.cert and tls.key, or an ssl.SSLContext", "tls")
    options = tls_options(tls)
    if options.cert is None:
        raise InvalidOption("a server needs tls.cert and tls.key", "tls.cert")
    if options.insecure:
        raise InvalidOption(
            "tls.insecure is for clients; a server that lets in clients without a certificate "
            "leaves out tls.ca",
            "tls.insecure",
        )
    context = _context(ssl.Purpose.CLIENT_AUTH, options)
    if options.ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
    return context


def may_succeed_later(error: BaseException) -> bool:
    """Whether TLS, which has failed with this, may succeed later with the same options."""
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):  # the peer has gone
        return True
    return getattr(error, "reason", None) in _PASSING_REASONS


def tls_options(tls: TLSOptions | Mapping[str, Any]) -> TLSOptions:
    """`tls`, or the TLSOptions that a mapping with its names stands for."""
    if isinstance(tls, TLSOptions):
        return tls
    if not isinstance(tls, Mapping):
        raise wrong_type("tls", "bool, an ssl.SSLContext, TLSOptions or a mapping", tls)
    check_names(tls, [field.name for field in fields(TLSOptions)], "TLS option")
    return TLSOptions(**tls)


# The values of options.


def _check_pem(value: object, option: str) -> None:
    if not isinstance(value, (str, bytes, os.PathLike)):
        raise wrong_type(option, "PEM text (str or bytes) or the path of a file", value)


def _authorities(ca: object) -> tuple[PEM, ...]:
    found: tuple[Any, ...] = tuple(ca) if isinstance(ca, (list, tuple)) else (ca,)
    for value in found:
        _check_pem(value, "tls.ca")
    if not found:
        raise InvalidOption("tls.ca is an empty list: no certificate would be trusted", "tls.ca")
    return found


def _tls_version(protocol: object) -> ssl.TLSVersion | None:
    if protocol is None:
        return None
    if isinstance(protocol, ssl.TLSVersion):
        name = protocol.name
    elif isinstance(protocol, str):
        name = protocol
    else:
        raise wrong_type("tls.protocol", "str or ssl.TLSVersion", protocol)
    short = re.sub(r"[v._ -]", "", name.strip().lower())
    if short in _VERSIONS:
        return _VERSIONS[short]
    if short in ("tls1", "tls10", "tls11") or short.startswith("ssl"):
        raise InvalidOption(
            f"tls.protocol {clip(name)} is no longer safe, and is refused (RFC 8996): use "
            "'TLSv1.2', 'TLSv1.3', or 'TLS' for the best that both sides speak",
            "tls.protocol",
        )
    raise InvalidOption(
        f"tls.protocol must be 'TLSv1.2', 'TLSv1.3' or 'TLS', not {clip(name)}", "tls.protocol"
    )


def _redacted(name: str, value: object) -> str:
    if name == "key":
        return "[hidden]"
    if name == "ca" and isinstance(value, tuple):
        return ", ".join(map(redacted_pem, value)).join("[]" if len(value) > 1 else ("", ""))
    return redacted_pem(value) if name == "cert" else repr(value)


# Contexts.


def _of_side(
    context: ssl.SSLContext, wrong: int, wrong_side: str, right_side: str
) -> ssl.SSLContext:
    if context.protocol == wrong:
        raise InvalidOption(
            f"tls is an ssl.SSLContext for {wrong_side}; one for {right_side} is needed", "tls"
        )
    return context


def _client_context(options: TLSOptions) -> ssl.SSLContext:
    context = _context(ssl.Purpose.SERVER_AUTH, options)
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    # None where the TLS library cannot do it (RFC 8446 section 4.6.2).
    if options.cert is not None and context.post_handshake_auth is not None:
        context.post_handshake_auth = True
    return context


def _context(purpose: ssl.Purpose, options: TLSOptions) -> ssl.SSLContext:
    context = _trusting(purpose, options)
    context.minimum_version = max(context.minimum_version, ssl.TLSVersion.TLSv1_2)
    version = _tls_version(options.protocol)
    if version is not None:
        context.minimum_version = context.maximum_version = version
    if options.ciphers is not None:
        try:
            context.set_ciphers(options.ciphers)
        except (ssl.SSLError, ValueError) as error:
            raise InvalidOption(
                f"tls.ciphers {clip(options.ciphers)} cannot be used: {ssl_reason(error)}. It is "
                "an OpenSSL cipher list for TLS 1.2; the suites of TLS 1.3 cannot be set by it",
                "tls.ciphers",
            ) from error
    context.set_alpn_protocols(_ALPN)
    _load_certificate(context, options)
    return context


def _trusting(purpose: ssl.Purpose, options: TLSOptions) -> ssl.SSLContext:
    """A default context, which trusts `ca` in place of the system's roots."""
    if options.ca is None:
        return _trusting_all() if options.insecure else ssl.create_default_context(purpose)
    certificates, directories = [], []
    for value in _authorities(options.ca):
        if pem_text(value) is None and os.path.isdir(value):
            directories.append(os.fsdecode(value))
        else:
            certificates.append(_certificates(read_pem(value, "tls.ca"), "tls.ca"))
    # Neither of the two is empty text, for which the system's roots would be loaded.
    context = ssl.create_default_context(
        purpose,
        cadata="\n".join(certificates) or None,
        capath=directories[0] if directories else None,
    )
    for directory in directories[1:]:
        context.load_verify_locations(capath=directory)
    return context


def _trusting_all() -> ssl.SSLContext:
    """A context for `insecure`, as a default one but for the system's roots, which take time."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    keylog = os.environ.get("SSLKEYLOGFILE")
    if keylog and not sys.flags.ignore_environment:
        context.keylog_filename = keylog
    return context


def _load_certificate(context: ssl.SSLContext, options: TLSOptions) -> None:
    """Load `cert` and `key`, each looked at by itself first, so that errors name the right one."""
    if options.cert is None:
        if options.key is not None:
            raise InvalidOption("tls.key is given without tls.cert", "tls.cert")
        return
    cert = read_pem(options.cert, "tls.cert")
    _certificates(cert, "tls.cert")
    key = cert if options.key is None else read_pem(options.key, "tls.key")
    if b" PRIVATE KEY-----" not in key:
        place = "tls.key is missing, and tls.cert" if options.key is None else "tls.key"
        raise InvalidOption(f"{place} holds no private key in PEM", "tls.key")
    with (
        as_file(options.cert, cert, "tls.cert") as cert_file,
        as_file(options.key or options.cert, key, "tls.key") as key_file,
    ):
        try:
            context.load_cert_chain(cert_file, key_file, password=_refuse_encrypted)
        except OSError as error:  # ssl.SSLError is one
            wrong = "tls.key"
            if getattr(error, "reason", None) in _CERTIFICATE_REASONS:
                wrong = "tls.cert"
            raise InvalidOption(f"{wrong} cannot be used: {ssl_reason(error)}", wrong) from error


def _refuse_encrypted() -> NoReturn:
    # Without it, OpenSSL would ask on the terminal.
    raise InvalidOption(
        "tls.key is encrypted: decrypt it first (openssl pkey), or load it into an "
        "ssl.SSLContext and pass that as tls",
        "tls.key",
    )


def _certificates(pem: bytes, option: str) -> str:
    """The text of `pem`, if OpenSSL can read each certificate in it."""
    text = pem.decode("ascii", "ignore")  # comments may be in any encoding, base64 is ASCII
    if "-----BEGIN" not in text:
        raise InvalidOption(f"{option} holds no certificate in PEM", option)
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=text)
    except (ssl.SSLError, ValueError) as error:
        raise InvalidOption(
            f"{option} holds no certificates that can be used: {ssl_reason(error)}", option
        ) from error
    return text


def ssl_reason(error: Exception) -> str:
    """What OpenSSL says, in words and without the line of its source."""
    reason = getattr(error, "reason", None)  # not every SSLError has one
    if isinstance(error, ssl.SSLError) and isinstance(reason, str):
        return reason.replace("_", " ").lower()
    text = getattr(error, "strerror", None) or (error.args[-1] if error.args else "")
    return re.sub(r" \(_ssl\.c:\d+\)$", "", str(text)).removesuffix(".")


# Sharing contexts. One that holds a private key lives only as long as a connection uses it.

_shared: weakref.WeakValueDictionary[Hashable, ssl.SSLContext] = weakref.WeakValueDictionary()
_kept: collections.deque[ssl.SSLContext] = collections.deque(maxlen=8)


def _keep(context: ssl.SSLContext) -> None:
    """Keep the contexts without a private key that were used last."""
    with contextlib.suppress(ValueError, IndexError):  # not there; another thread keeps one
        _kept.remove(context)
    _kept.append(context)


def _cache_key(options: TLSOptions) -> Hashable | None:
    """Equal for options that stand for the same context; None: they are not to be compared."""
    authorities = () if options.ca is None else _authorities(options.ca)
    try:
        files = [
            None if value is None else pem_content(value)
            for value in (options.cert, options.key, *authorities)
        ]
    except (OSError, ValueError):  # the error is for whoever reads it
        return None
    environment = (os.environ.get(name) for name in _ENVIRONMENT)
    return (*files, options.insecure, options.ciphers, options.protocol, *environment)
