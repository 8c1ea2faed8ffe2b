"""A cable between two network namespaces, for tests that break it.

    relay.py NAMESPACE NAMESPACE

Each namespace gets a TUN device `cable`, and this process carries the packets between them: some
lost, some late, some overtaken, or none at all. Many kernels have no netem for that. A line of
JSON on stdin changes how; each is answered with a line.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import json
import os
import random
import selectors
import struct
import sys
import time

TUNSETIFF = 0x400454CA
IFF_TUN_NO_PI = 0x1001
MOST = 2000  # packets on their way; a router's queue has an end too


def device_in(namespace: str) -> int:
    """A TUN device in a namespace: it belongs to the one in which it was opened."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{namespace}") as file:
        if libc.setns(file.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH22x", b"cable", IFF_TUN_NO_PI))
    return device


def main() -> None:
    devices = [device_in(name) for name in sys.argv[1:3]]
    how = {"loss": 0.0, "delay": 0.0, "reorder": 0.0, "cut": False}
    rng = random.Random(1)
    under_way: list[tuple[float, int, int, bytes]] = []
    number = 0
    selector = selectors.DefaultSelector()
    for device, other in zip(devices, reversed(devices), strict=True):
        selector.register(device, selectors.EVENT_READ, other)
    selector.register(0, selectors.EVENT_READ)
    print("ready", flush=True)
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        for key, _ in selector.select(wait):
            if key.fd == 0:
                line = sys.stdin.readline()
                if not line:
                    return
                how.update(json.loads(line))
                if how["cut"]:
                    under_way.clear()
                print("ok", flush=True)
                continue
            try:
                packet = os.read(key.fd, 65536)
            except OSError:
                continue
            if how["cut"] or rng.random() < how["loss"] or len(under_way) >= MOST:
                continue
            due = time.monotonic() + how["delay"]
            if rng.random() < how["reorder"]:
                due += 0.01
            number += 1
            heapq.heappush(under_way, (due, number, key.data, packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, _, device, packet = heapq.heappop(under_way)
            try:
                os.write(device, packet)
            except OSError:
                pass


if __name__ == "__main__":
    main()
