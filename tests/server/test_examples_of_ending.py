"""The examples in docs/draining.md and docs/listening.md run as they stand there."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from pathlib import Path

import trustme
from ports import reserved_port

BOUND = 30


def example(document, name):
    text = (Path(__file__).parents[2] / "docs" / document).read_text()
    return text.split(f"<!-- example: {name} -->\n```python\n")[1].split("```")[0]


def printed(document, name, *arguments, **more):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", example(document, name), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=BOUND,
        **more,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_signals():
    with reserved_port() as port:
        code = example("draining.md", "signals").replace("8000", str(port))
        code = code.replace(
            "        await server.serve_forever",
            "        print(flush=True)\n        await server.serve_forever",
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        with socket.create_connection(("127.0.0.1", port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 426")  # by now it waits for signals
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=BOUND)
        assert process.returncode == 0


def test_handlers_that_look():
    lines = printed("draining.md", "handler").splitlines()
    assert lines[0] == "tick 1"
    assert lines[-3:] == ["the server restarts: come back", "hello", "1012 service restart"]


def test_a_unix_socket():
    assert printed("listening.md", "unix") == "srw-rw----\nover a unix socket\nFalse\n"


def test_certificates_that_change(tmp_path):
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for name in ("first.pem", "second.pem"):
        issued = authority.issue_cert("127.0.0.1")
        issued.private_key_and_cert_chain_pem.write_to_path(tmp_path / name)
    names = [tmp_path / name for name in ("first.pem", "second.pem", "ca.pem")]
    assert printed("listening.md", "reload", *names, cwd=tmp_path).splitlines() == [
        "False",
        "this connection goes on",
        "tls.cert holds no certificate in PEM",
        "still serving",
    ]
