"""docs/deployment.md: systemd and Kubernetes, whose files are checked, and done by hand what they do."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from websockets.asyncio.client import connect as their_connect

from coro_websocket import Options
from coro_websocket._server.server import DRAIN_TIMEOUT

from .documented import BOUND, app, documented, listener, program, refused, running

asyncio_only = pytest.mark.asyncio(loop_factories=["asyncio"])

CLOSE_TIMEOUT = Options.build(None, host="localhost").close_timeout
PYTHON = "/opt/app/bin/python"

# It does what systemd does: the socket as descriptor 3, and its own process in LISTEN_PID.
LAUNCH = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.executable, [sys.executable, sys.argv[2]])
"""


def verified(folder: Path, service: str) -> str:
    """What systemd says of the units."""
    units = {"app.socket": documented("app.socket"), "app.service": service}
    for name, text in units.items():
        (folder / name).write_text(text)
    done = subprocess.run(
        [program("systemd-analyze"), "verify", *(str(folder / name) for name in units)],
        capture_output=True,
        text=True,
        timeout=BOUND,
    )
    return done.stderr if done.returncode == 0 else f"{done.stderr} {done.returncode}"


def test_systemd_finds_nothing_wrong_with_the_units(tmp_path: Path):
    service = documented("app.service", {PYTHON: sys.executable})
    assert verified(tmp_path, service) == ""
    assert "KilMode" in verified(tmp_path, service.replace("KillMode", "KilMode"))


def test_systemd_waits_for_longer_than_a_drain_takes():
    (given,) = re.findall(r"TimeoutStopSec=(\d+)", documented("app.service"))
    assert float(given) > DRAIN_TIMEOUT + CLOSE_TIMEOUT


@asyncio_only
async def test_the_program_takes_over_systemds_socket_and_says_when_it_is_ready(tmp_path: Path):
    path = tmp_path / "app.py"
    path.write_text(documented("app.py", {"host, port, ": 'sock="systemd", '}))
    with (
        listener() as sock,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified,
    ):
        port = sock.getsockname()[1]
        notified.bind(str(tmp_path / "notify"))
        notified.setblocking(False)
        loop = asyncio.get_running_loop()
        command = (sys.executable, "-c", LAUNCH, str(sock.fileno()), str(path))
        env = {"LISTEN_FDS": "1", "NOTIFY_SOCKET": str(tmp_path / "notify")}
        async with asyncio.timeout(BOUND), httpx.AsyncClient() as client:
            # Who connects before the program runs waits for it.
            early = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/healthz"))
            for _ in range(2):
                async with running(*command, env=env, pass_fds=(sock.fileno(),)) as process:
                    assert await loop.sock_recv(notified, 100) == b"READY=1"
                    assert (await early).status_code == 200
                    process.send_signal(signal.SIGTERM)
                    assert await loop.sock_recv(notified, 100) == b"STOPPING=1"
                    assert await process.wait() == 0
                # So does who connects between two runs: a restart refuses nobody.
                early = asyncio.create_task(client.get(f"http://127.0.0.1:{port}/healthz"))
                await asyncio.sleep(0)
            early.cancel()


# Kubernetes

MANIFESTS: list[Any] = list(yaml.safe_load_all(documented("kubernetes")))
POD = MANIFESTS[0]["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
PROBES = ["startupProbe", "readinessProbe", "livenessProbe"]


def test_kubernetes_knows_every_field_of_the_manifests():
    kubernetes_validate = pytest.importorskip("kubernetes_validate")
    assert [each["kind"] for each in MANIFESTS] == ["Deployment", "Service", "Ingress"]
    for manifest in MANIFESTS:
        kubernetes_validate.validate(manifest, "1.30", strict=True)
    wrong = {**MANIFESTS[1], "spec": {**MANIFESTS[1]["spec"], "port": 80}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, "1.30", strict=True)


def test_kubernetes_waits_for_longer_than_a_drain_takes():
    command, asleep = CONTAINER["lifecycle"]["preStop"]["exec"]["command"]
    assert command == "sleep"
    grace = POD["terminationGracePeriodSeconds"]
    assert grace > float(asleep) + DRAIN_TIMEOUT + CLOSE_TIMEOUT


def test_the_ingress_waits_for_longer_than_the_keepalive_is_silent():
    options = Options.build(None, host="localhost")
    annotations = MANIFESTS[2]["metadata"]["annotations"]
    for value in annotations.values():
        assert float(value) > options.ping_interval + options.ping_timeout


@asyncio_only
async def test_the_probes_are_answered_and_fail_once_the_server_drains(tmp_path: Path):
    env = {each["name"]: each["value"] for each in CONTAINER["env"]}
    assert env == {"HOST": "0.0.0.0", "PORT": "8000", "PROXIES": "10.0.0.0/8"}
    assert CONTAINER["ports"][0]["containerPort"] == 8000
    paths = {CONTAINER[probe]["httpGet"]["path"] for probe in PROBES}
    async with (
        asyncio.timeout(BOUND),
        app(tmp_path, env=env) as (process, port),
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as kubelet,
    ):
        for path in paths:
            assert (await kubelet.get(path)).status_code == 200
            assert (await kubelet.head(path)).status_code == 200
        async with their_connect(f"ws://127.0.0.1:{port}/echo", proxy=None) as theirs:
            assert await theirs.recv() == "ws from 127.0.0.1"
            process.send_signal(signal.SIGTERM)
            await refused(port)
            for path in paths:
                with pytest.raises(httpx.ConnectError):
                    await kubelet.get(path)
            await theirs.send("still here")
            assert await theirs.recv() == "still here"
        assert await process.wait() == 0
