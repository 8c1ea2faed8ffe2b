"""TLS options: real handshakes between the contexts made of them, and what is refused."""

from __future__ import annotations

import datetime
import gc
import os
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from coro_websocket._errors import InvalidOption, InvalidOptionType
from coro_websocket._options import tls as _tls
from coro_websocket._options.tls import TLSOptions, client_context, server_context

HOST = "server.example"


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as text and as files."""

    cert: str
    key: str
    cert_file: Path
    key_file: Path

    @classmethod
    def of(cls, leaf: trustme.LeafCert, folder: Path, name: str) -> Pair:
        cert = b"".join(blob.bytes() for blob in leaf.cert_chain_pems)
        key = leaf.private_key_pem.bytes()
        files = folder / f"{name}.pem", folder / f"{name}-key.pem"
        files[0].write_bytes(cert)
        files[1].write_bytes(key)
        return cls(cert.decode(), key.decode(), *files)


@dataclass(frozen=True)
class Authority:
    ca: str
    ca_file: Path
    server: Pair
    client: Pair
    other_ca: str


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("pki")
    ca = trustme.CA()
    (folder / "ca.pem").write_bytes(ca.cert_pem.bytes())
    return Authority(
        ca.cert_pem.bytes().decode(),
        folder / "ca.pem",
        Pair.of(ca.issue_cert(HOST, "127.0.0.1"), folder, "server"),
        Pair.of(ca.issue_cert("client@example.org"), folder, "client"),
        trustme.CA().cert_pem.bytes().decode(),
    )


@dataclass
class Agreed:
    version: str | None
    cipher: str
    alpn: str | None
    client_cert: Any


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, host: str = HOST) -> Agreed:
    """A handshake over a socket pair, and a byte each way, as TLS 1.3 reports errors late.

    The server speaks first: a client that writes to a server that has refused it and left would
    see a broken pipe, and not the refusal.
    """
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.settimeout(10)

    def serve() -> Any:
        with theirs, server.wrap_socket(theirs, server_side=True) as tls:
            tls.sendall(b"x")
            assert tls.recv(1) == b"x"
            return tls.getpeercert()

    with ThreadPoolExecutor(1) as pool:
        serving = pool.submit(serve)
        try:
            with ours, client.wrap_socket(ours, server_hostname=host) as tls:
                assert tls.recv(1) == b"x"
                tls.sendall(b"x")
                cipher = tls.cipher()
                assert cipher is not None
                agreed = Agreed(tls.version(), cipher[0], tls.selected_alpn_protocol(), None)
        except OSError:
            serving.exception()
            raise
        agreed.client_cert = serving.result()
    return agreed


def refusal(make: Any, *args: Any, **options: Any) -> InvalidOption:
    with pytest.raises(InvalidOption) as caught:
        make(*args, **options)
    return caught.value


def key_pem(
    key: Any,
    form: str = "PKCS8",
    encryption: serialization.KeySerializationEncryption | None = None,
) -> bytes:
    text: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        getattr(serialization.PrivateFormat, form),
        encryption or serialization.NoEncryption(),
    )
    return text


def server_of(pki: Authority, **options: Any) -> ssl.SSLContext:
    return server_context({"cert": pki.server.cert, "key": pki.server.key, **options})


# cert, key and ca, in each form.


@pytest.mark.parametrize("form", ["str", "bytes", "path", "path as str", "path as bytes"])
def test_cert_key_and_ca_are_pem_text_or_paths(pki: Authority, form: str) -> None:
    def given(text: str, path: Path) -> Any:
        return {
            "str": text,
            "bytes": text.encode(),
            "path": path,
            "path as str": str(path),
            "path as bytes": os.fsencode(path),
        }[form]

    server = server_context(
        TLSOptions(
            cert=given(pki.server.cert, pki.server.cert_file),
            key=given(pki.server.key, pki.server.key_file),
        )
    )
    client = client_context({"ca": given(pki.ca, pki.ca_file)})
    assert shake_hands(client, server).version == "TLSv1.3"


def test_cert_may_hold_the_key_too(pki: Authority, tmp_path: Path) -> None:
    both = pki.server.key + pki.server.cert
    (tmp_path / "both.pem").write_text(both)
    client = client_context({"ca": pki.ca})
    for cert in (both, tmp_path / "both.pem"):
        assert shake_hands(client, server_context({"cert": cert})).alpn == "http/1.1"


def test_text_and_path_may_be_mixed(pki: Authority) -> None:
    for cert, key in (
        (pki.server.cert, pki.server.key_file),
        (pki.server.cert_file, pki.server.key),
    ):
        shake_hands(client_context({"ca": pki.ca}), server_context({"cert": cert, "key": key}))


def test_ca_may_be_a_list(pki: Authority) -> None:
    client = client_context({"ca": [pki.other_ca, pki.ca_file]})
    shake_hands(client, server_of(pki))
    assert len(client.get_ca_certs()) == 2


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to hash the names")
def test_ca_may_be_a_directory_of_hashed_names(pki: Authority, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text(pki.ca)
    subprocess.run(["openssl", "rehash", str(tmp_path)], check=True, capture_output=True)
    shake_hands(client_context({"ca": tmp_path}), server_of(pki))
    empty = tmp_path / "empty"
    empty.mkdir()
    shake_hands(client_context({"ca": [empty, tmp_path]}), server_of(pki))
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client_context({"ca": empty}), server_of(pki))


def test_comments_around_pem_text_may_be_in_any_encoding(pki: Authority) -> None:
    for ca in ("Autorité\n" + pki.ca, b"\xff\xfe\n" + pki.ca.encode()):
        shake_hands(client_context({"ca": ca}), server_of(pki))


@pytest.mark.skipif(sys.platform == "win32", reason="no FIFOs")
def test_cert_and_key_may_come_through_a_pipe(pki: Authority, tmp_path: Path) -> None:
    fifo = tmp_path / "key"
    os.mkfifo(fifo)
    writer = threading.Thread(target=lambda: fifo.write_text(pki.server.key))
    writer.start()
    server = server_context({"cert": pki.server.cert_file, "key": fifo})
    writer.join()
    shake_hands(client_context({"ca": pki.ca}), server)


# Verification.


def test_ca_replaces_the_systems_roots(pki: Authority) -> None:
    client = client_context({"ca": pki.other_ca})
    assert len(client.get_ca_certs()) == 1
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client, server_of(pki))


def test_without_options_the_systems_roots_are_trusted_and_names_checked(pki: Authority) -> None:
    nothing: list[Any] = [True, {}, TLSOptions()]
    for client in map(client_context, nothing):
        assert client.verify_mode == ssl.CERT_REQUIRED
        assert client.check_hostname
        with pytest.raises(ssl.SSLCertVerificationError):
            shake_hands(client, server_of(pki))


def test_another_name_is_refused(pki: Authority) -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="other\\.example"):
        shake_hands(client_context({"ca": pki.ca}), server_of(pki), "other.example")


def test_insecure_verifies_nothing(pki: Authority) -> None:
    for options in ({"insecure": True}, {"insecure": True, "ca": pki.other_ca}):
        shake_hands(client_context(options), server_of(pki), "other.example")


def test_insecure_false_verifies() -> None:
    assert client_context({"insecure": False}).verify_mode == ssl.CERT_REQUIRED


def test_a_server_with_ca_asks_for_client_certificates(pki: Authority) -> None:
    server = server_of(pki, ca=pki.ca)
    known = client_context({"ca": pki.ca, "cert": pki.client.cert, "key": pki.client.key})
    assert shake_hands(known, server).client_cert["subjectAltName"]
    with pytest.raises(ssl.SSLError):
        shake_hands(client_context({"ca": pki.ca}), server)
    with pytest.raises(ssl.SSLError):
        shake_hands(known, server_of(pki, ca=pki.other_ca))


def test_a_server_without_ca_asks_for_none(pki: Authority) -> None:
    known = client_context({"ca": pki.ca, "cert": pki.client.cert, "key": pki.client.key})
    assert shake_hands(known, server_of(pki)).client_cert is None


# Ciphers, versions, ALPN.


def test_ciphers_choose_a_suite_of_tls_1_2(pki: Authority) -> None:
    options = {"ca": pki.ca, "protocol": "TLSv1.2", "ciphers": "ECDHE+CHACHA20"}
    agreed = shake_hands(client_context(options), server_of(pki))
    assert agreed.version == "TLSv1.2"
    assert "CHACHA20" in agreed.cipher
    agreed = shake_hands(
        client_context({"ca": pki.ca, "protocol": "TLSv1.2"}),
        server_of(pki, ciphers="ECDHE+AES128+AESGCM"),
    )
    assert "AES128-GCM" in agreed.cipher


def test_ciphers_leave_tls_1_3_on(pki: Authority) -> None:
    client = client_context({"ca": pki.ca, "ciphers": "ECDHE+AESGCM"})
    assert shake_hands(client, server_of(pki)).version == "TLSv1.3"


@pytest.mark.parametrize(
    "ciphers", ["", "nonsense", "TLS_AES_128_GCM_SHA256", "AES\0", "é", "\ud800"]
)
def test_ciphers_that_openssl_does_not_know_are_refused(ciphers: str) -> None:
    error = refusal(client_context, {"ciphers": ciphers})
    assert error.option == "tls.ciphers"
    assert "TLS 1.3" in str(error)


@pytest.mark.parametrize(
    ("protocol", "version"),
    [
        ("TLSv1.2", "TLSv1.2"),
        ("TLSv1_2", "TLSv1.2"),
        ("tlsv1.2", "TLSv1.2"),
        ("TLS 1.2", "TLSv1.2"),
        (ssl.TLSVersion.TLSv1_2, "TLSv1.2"),
        ("TLSv1.3", "TLSv1.3"),
        ("TLSV1_3", "TLSv1.3"),
        (ssl.TLSVersion.TLSv1_3, "TLSv1.3"),
        ("TLS", "TLSv1.3"),
        ("tls", "TLSv1.3"),
        (None, "TLSv1.3"),
    ],
)
def test_protocol_is_the_one_version_spoken(pki: Authority, protocol: Any, version: str) -> None:
    client = client_context({"ca": pki.ca, "protocol": protocol})
    assert shake_hands(client, server_of(pki)).version == version
    server = server_of(pki, protocol=protocol)
    assert shake_hands(client_context({"ca": pki.ca}), server).version == version


def test_two_versions_that_do_not_meet_do_not_connect(pki: Authority) -> None:
    client = client_context({"ca": pki.ca, "protocol": "TLSv1.3"})
    with pytest.raises(ssl.SSLError):
        shake_hands(client, server_of(pki, protocol="TLSv1.2"))


@pytest.mark.parametrize(
    "protocol", ["SSLv3", "SSLv23", "TLSv1", "TLSv1.0", "TLSv1_1", ssl.TLSVersion.TLSv1]
)
def test_versions_below_1_2_are_refused_rfc_8996(protocol: Any) -> None:
    error = refusal(TLSOptions, protocol=protocol)
    assert error.option == "tls.protocol"
    assert "RFC 8996" in str(error)


@pytest.mark.parametrize("protocol", ["", "TLSv1.4", "quic", ssl.TLSVersion.MAXIMUM_SUPPORTED])
def test_other_versions_are_refused(protocol: Any) -> None:
    assert "'TLSv1.3'" in str(refusal(TLSOptions, protocol=protocol))


def test_http_1_1_is_negotiated_rfc_7301(pki: Authority) -> None:
    assert shake_hands(client_context({"ca": pki.ca}), server_of(pki)).alpn == "http/1.1"


def test_contexts_are_as_strict_as_the_standard_librarys(pki: Authority) -> None:
    default = ssl.create_default_context()
    for context in (
        client_context(True),
        client_context({"ca": pki.ca}),
        client_context({"protocol": "TLSv1.3"}),
    ):
        assert context.options & default.options == default.options
        assert context.verify_flags & default.verify_flags == default.verify_flags
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert context.minimum_version >= default.minimum_version
    default = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    for context in (server_of(pki), server_of(pki, ca=pki.ca)):
        assert context.options & default.options == default.options
        assert context.verify_flags & default.verify_flags == default.verify_flags
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


# Contexts.


def test_a_context_is_given_back_untouched(pki: Authority) -> None:
    mine = ssl.create_default_context(cadata=pki.ca)
    assert client_context(mine) is mine
    assert shake_hands(mine, server_of(pki)).alpn is None
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    assert server_context(theirs) is theirs


def test_a_context_of_the_other_side_is_refused() -> None:
    error = refusal(client_context, ssl.create_default_context(ssl.Purpose.CLIENT_AUTH))
    assert error.option == "tls"
    assert refusal(server_context, ssl.create_default_context()).option == "tls"


def test_the_context_of_no_options_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert client_context(True) is client_context({})
    before = client_context(True)
    monkeypatch.setenv("SSL_CERT_FILE", os.devnull)
    changed = client_context(True)
    assert changed is not before
    assert changed.get_ca_certs() == [] or sys.platform == "win32"


def test_equal_options_share_a_context(pki: Authority) -> None:
    for options in (
        {"protocol": "TLSv1.2"},
        {"ca": pki.ca},
        {"ca": pki.ca_file},
        {"ca": [pki.ca_file, pki.other_ca]},
        {"insecure": True},
        {"ciphers": "ECDHE+AESGCM"},
    ):
        assert client_context(options) is client_context(TLSOptions(**options))
    contexts = [
        client_context(options)
        for options in (
            True,
            {"protocol": "TLSv1.2"},
            {"protocol": "TLSv1.3"},
            {"ca": pki.ca},
            {"ca": pki.other_ca},
            {"ca": [pki.ca, pki.other_ca]},
            {"ca": pki.ca, "insecure": True},
            {"insecure": True},
            {"ciphers": "ECDHE+AESGCM"},
        )
    ]
    assert len(set(contexts)) == len(contexts)


def test_the_number_of_contexts_that_nobody_uses_is_bounded() -> None:
    made = [
        weakref.ref(client_context({"insecure": True, "ciphers": "HIGH" + ":HIGH" * n}))
        for n in range(40)
    ]
    gc.collect()
    assert sum(each() is not None for each in made) <= 8
    assert made[-1]() is not None


def test_a_file_that_has_changed_is_read_again(pki: Authority, tmp_path: Path) -> None:
    ca = tmp_path / "ca.pem"
    ca.write_text(pki.other_ca)
    first = client_context({"ca": ca})
    ca.write_text(pki.ca)
    second = client_context({"ca": ca})
    assert second is not first
    shake_hands(second, server_of(pki))
    replacement = tmp_path / "new.pem"
    replacement.write_text(pki.ca)
    os.replace(replacement, ca)
    assert client_context({"ca": ca}) is not second
    ca.unlink()
    assert refusal(client_context, {"ca": ca}).option == "tls.ca"


def test_what_is_in_a_directory_or_a_pipe_is_not_shared(pki: Authority, tmp_path: Path) -> None:
    assert client_context({"ca": tmp_path}) is not client_context({"ca": tmp_path})
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    writer = threading.Thread(target=fifo.write_text, args=(pki.ca,))
    writer.start()
    client_context({"ca": fifo})
    writer.join()


def test_a_context_with_a_key_is_shared_while_it_is_used_and_not_kept(pki: Authority) -> None:
    for cert, key in (
        (pki.client.cert, pki.client.key),
        (pki.client.cert_file, pki.client.key_file),
    ):
        options = {"ca": pki.ca, "cert": cert, "key": key}
        context: ssl.SSLContext | None = client_context(options)
        assert client_context(options) is context
        assert client_context({**options, "ca": pki.other_ca}) is not context
        assert pki.client.key not in repr(list(_tls._shared))
        kept = weakref.ref(context)
        context = None
        gc.collect()
        assert kept() is None


def test_a_client_with_a_certificate_offers_to_show_it_later(pki: Authority) -> None:
    options = {"ca": pki.ca, "cert": pki.client.cert, "key": pki.client.key}
    assert client_context(options).post_handshake_auth
    assert not client_context({"ca": pki.ca}).post_handshake_auth


def test_insecure_does_not_load_the_systems_roots(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def load(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(ssl.SSLContext, "load_default_certs", load)
    monkeypatch.setattr(ssl.SSLContext, "set_default_verify_paths", load)
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    context = client_context({"insecure": True})
    assert context.get_ca_certs() == []
    assert context.keylog_filename == str(tmp_path / "keys")
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_no_tls_makes_no_context() -> None:
    assert refusal(client_context, False).option == "tls"
    for tls in (True, False):
        assert refusal(server_context, tls).option == "tls"


# What is refused, naming the option.


def test_unknown_names_are_refused_with_a_suggestion() -> None:
    error = refusal(client_context, {"kye": "x"})
    assert isinstance(error, InvalidOptionType)
    assert error.option == "kye"
    assert "'key'" in str(error)
    assert "ciphers" in str(refusal(client_context, {"zzz": 1}))
    assert isinstance(refusal(client_context, {1: 1}), InvalidOptionType)


@pytest.mark.parametrize("tls", [None, "yes", 1, b"", [("insecure", True)]])
def test_tls_of_another_type_is_refused(tls: Any) -> None:
    for make in (client_context, server_context):
        error = refusal(make, tls)
        assert isinstance(error, InvalidOptionType)
        assert error.option == "tls"
        assert type(tls).__name__ in str(error)


@pytest.mark.parametrize("name", ["cert", "key", "ca", "insecure", "ciphers", "protocol"])
@pytest.mark.parametrize("value", [1, 1.5, {"a": 1}, [3]])
def test_fields_of_another_type_are_refused(name: str, value: Any) -> None:
    error = refusal(TLSOptions, **{name: value})
    assert isinstance(error, InvalidOptionType)
    assert error.option == f"tls.{name}"


def test_insecure_is_a_bool_and_not_something_like_it() -> None:
    for value in (None, 0, "false"):
        assert isinstance(refusal(TLSOptions, insecure=value), InvalidOptionType)


def test_a_server_needs_cert_and_key(pki: Authority) -> None:
    assert refusal(server_context, {}).option == "tls.cert"
    assert refusal(server_context, {"key": pki.server.key}).option == "tls.cert"
    error = refusal(server_context, {"cert": pki.server.cert})
    assert error.option == "tls.key"
    assert "missing" in str(error)
    assert refusal(server_of, pki, insecure=True).option == "tls.insecure"


def test_a_client_needs_cert_and_key_or_neither(pki: Authority) -> None:
    assert refusal(client_context, {"key": pki.client.key}).option == "tls.cert"
    assert refusal(client_context, {"cert": pki.client.cert}).option == "tls.key"


def test_a_key_of_another_certificate_is_refused(pki: Authority) -> None:
    for key in (pki.client.key, pki.client.key_file):
        error = refusal(server_of, pki, key=key)
        assert error.option == "tls.key"
        assert "key values mismatch" in str(error)


@pytest.mark.parametrize("name", ["cert", "key", "ca"])
@pytest.mark.parametrize("path", ["/nonexistent/x.pem", "", "a\0b", ".."])
def test_a_file_that_cannot_be_read_is_refused(pki: Authority, name: str, path: str) -> None:
    if name == "ca" and path == "..":
        return  # a directory is fine there
    error = refusal(server_of, pki, **{name: path})
    assert error.option == f"tls.{name}"
    assert "cannot be read" in str(error)
    assert ascii(path) in str(error)


def damaged(pem: str) -> str:
    lines = pem.splitlines()
    return "\n".join([*lines[:3], *lines[4:]])


@pytest.mark.parametrize("name", ["cert", "key", "ca"])
def test_damaged_pem_is_refused_with_openssls_reason(
    pki: Authority, name: str, tmp_path: Path
) -> None:
    good = {"cert": pki.server.cert, "key": pki.server.key, "ca": pki.ca}[name]
    for bad in (damaged(good), "-----BEGIN", "-----BEGIN X-----\nAAAA\n-----END X-----", "x"):
        (tmp_path / "bad.pem").write_text(bad)
        for given in (bad, tmp_path / "bad.pem"):
            if given == "x":
                continue  # is a path
            error = refusal(server_of, pki, **{name: given})
            assert error.option == f"tls.{name}"
            assert not any(line in str(error) for line in good.splitlines())


def test_ca_without_a_certificate_does_not_fall_back_to_the_systems_roots(tmp_path: Path) -> None:
    (tmp_path / "empty.pem").touch()
    assert refusal(client_context, {"ca": tmp_path / "empty.pem"}).option == "tls.ca"
    assert refusal(client_context, {"ca": []}).option == "tls.ca"


def test_a_certificate_that_is_too_weak_is_the_certificates_fault() -> None:
    key = rsa.generate_private_key(65537, 1024)
    name = x509.Name.from_rfc4514_string("CN=weak")
    now = datetime.datetime.now(datetime.UTC)
    cert = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    pem = cert.public_bytes(serialization.Encoding.PEM)
    error = refusal(server_context, {"cert": pem, "key": key_pem(key)})
    assert error.option == "tls.cert"
    assert "too small" in str(error)


# Keys are kept where they are.


@pytest.mark.parametrize("form", ["TraditionalOpenSSL", "PKCS8"])
def test_an_encrypted_key_is_refused_and_no_password_asked_for(
    pki: Authority, tmp_path: Path, form: str
) -> None:
    key = serialization.load_pem_private_key(pki.server.key.encode(), None)
    text = key_pem(key, form, serialization.BestAvailableEncryption(b"hunter2"))
    (tmp_path / "encrypted.pem").write_bytes(text)
    for given in (text, tmp_path / "encrypted.pem"):
        error = refusal(server_of, pki, key=given)
        assert error.option == "tls.key"
        assert "encrypted" in str(error)
    assert refusal(server_context, {"cert": pki.server.cert.encode() + text}).option == "tls.key"


def test_repr_and_errors_show_no_key_and_no_pem(pki: Authority) -> None:
    options = TLSOptions(cert=pki.server.cert, key=pki.server.key, ca=[pki.ca, pki.ca_file])
    assert repr(options) == (
        f"TLSOptions(cert=[PEM text], key=[hidden], ca=[[PEM text], {str(pki.ca_file)!r}])"
    )
    assert repr(TLSOptions(ca=pki.ca, insecure=True)) == "TLSOptions(ca=[PEM text], insecure=True)"
    assert repr(TLSOptions()) == "TLSOptions()"
    bare = "".join(pki.server.key.splitlines()[1:-1])
    for key in (bare, "\n".join(pki.server.key.splitlines()[1:-1]), bare.encode()):
        error = refusal(server_of, pki, key=key)
        assert "[hidden]" in str(error)
        assert bare[:20] not in f"{error!r} {error.__cause__!r}"
        assert bare[:20] not in repr(TLSOptions(cert=key, key=key, ca=key))


@pytest.mark.skipif(sys.platform != "linux", reason="needs memfd_create")
def test_pem_text_touches_no_disk_where_the_system_can_help_it(
    pki: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "mkstemp", None)
    shake_hands(client_context({"ca": pki.ca}), server_of(pki))


@pytest.mark.parametrize("missing", ["memfd_create", "exists", "attribute"])
@pytest.mark.skipif(sys.platform == "win32", reason="looks at file modes")
def test_elsewhere_a_private_file_holds_it_and_is_gone_afterwards_also_after_errors(
    pki: Authority, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, missing: str
) -> None:
    if missing == "memfd_create" and sys.platform == "linux":

        def refuse(name: str) -> int:
            raise OSError("not here")

        monkeypatch.setattr(os, "memfd_create", refuse)
    elif missing == "attribute":
        monkeypatch.delattr(os, "memfd_create", raising=False)
    else:
        monkeypatch.setattr(os.path, "exists", lambda path: False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    modes: list[int] = []
    load = ssl.SSLContext.load_cert_chain

    def spy(context: ssl.SSLContext, cert: str, key: str, password: Any) -> None:
        modes.extend(os.stat(path).st_mode & 0o777 for path in (cert, key))
        assert os.path.dirname(key) == str(tmp_path)
        load(context, cert, key, password)

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", spy)
    descriptors = len(os.listdir("/dev/fd"))
    shake_hands(client_context({"ca": pki.ca}), server_of(pki))
    for key in (pki.client.key, damaged(pki.server.key)):
        assert refusal(server_of, pki, key=key).option == "tls.key"
    assert modes == [0o600] * 6
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/dev/fd")) == descriptors


def test_where_no_file_can_be_written_the_error_says_so(
    pki: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*args: Any, **options: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.delattr(os, "memfd_create", raising=False)
    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    error = refusal(server_of, pki)
    assert error.option == "tls.cert"
    assert "No space left" in str(error)
    assert refusal(server_of, pki, cert=pki.server.cert_file).option == "tls.key"


def test_options_are_hashable_and_equal_by_value(pki: Authority) -> None:
    one = TLSOptions(ca=[pki.ca], protocol="TLSv1.2")
    assert one == TLSOptions(ca=pki.ca, protocol="tlsv1_2")
    assert hash(one) == hash(TLSOptions(ca=(pki.ca,), protocol=ssl.TLSVersion.TLSv1_2))
