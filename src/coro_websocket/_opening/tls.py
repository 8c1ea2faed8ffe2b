"""TLS with a server or a proxy: the name in its certificate, and in words why it has failed."""

from __future__ import annotations

import ssl

from .._http.opening_errors import TLSError
from .._options.tls import ssl_reason
from .._options.url import without_zone

__all__ = ["tls_error", "tls_name", "tls_reason"]

# X509_V_ERR_...: no issuer is known that is trusted, among them certificates that sign themselves.
UNKNOWN_ISSUER = frozenset({2, 18, 19, 20, 21})
WITHOUT_TLS = {"the server": "ws://", "the proxy": "an http:// proxy"}


def tls_name(host: str) -> str:
    """The name that the peer's certificate must have (RFC 6066 section 3, RFC 6874 section 4)."""
    return without_zone(host).removesuffix(".")


def tls_error(where: str, error: Exception) -> TLSError:
    """What to raise where TLS with the server has failed."""
    return TLSError(f"TLS with {where} failed: {tls_reason(error)}")


def tls_reason(error: Exception, peer: str = "the server") -> str:
    """Why TLS failed, and what may help."""
    hint = ""
    if getattr(error, "verify_code", None) in UNKNOWN_ISSUER:
        option = "tls" if peer == "the server" else "proxy_tls"
        hint = f"; trust an authority of your own by {option}={{'ca': ...}}"
    elif isinstance(error, (ConnectionError, ssl.SSLEOFError)):
        hint = " (does it speak TLS on this port?)"
    return _what_failed(error, peer) + hint


def _what_failed(error: Exception, peer: str) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        # One that was made in Python has no `verify_message`.
        why = getattr(error, "verify_message", None) or ssl_reason(error)
        return f"{peer}'s certificate is not accepted: {why}"
    if isinstance(error, (ConnectionError, ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return f"{peer} closed the connection during the TLS handshake"
    if isinstance(error, ssl.SSLError):
        reason = ssl_reason(error)
        if "wrong version number" in reason or "record layer failure" in reason:
            return f"{reason} (does {peer} speak TLS on this port? If not, try {WITHOUT_TLS[peer]})"
        return reason
    return str(error) or type(error).__name__
