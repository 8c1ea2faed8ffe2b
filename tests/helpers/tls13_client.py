"""A TLS 1.3 client that goes on by hand after the handshake: it can say what ssl has no call for.

RFC 8446 sections 4.6.3 (KeyUpdate), 5.2 (records), 7.1 and 7.2 (secrets).
"""

from __future__ import annotations

import socket
import ssl
import struct
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

HANDSHAKE, APPLICATION_DATA = 22, 23


class HandMadeClient:
    """A socket whose TLS handshake is done, and which makes its records itself."""

    def __init__(self, sock: socket.socket, ca: str, folder: Path) -> None:
        """Set TLS up on a blocking socket. folder: where the secrets are put for a moment."""
        context = ssl.create_default_context(cadata=ca)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        keys = folder / "keys"
        context.keylog_filename = str(keys)
        self.tls = context.wrap_socket(sock, server_hostname="localhost")
        name = self.tls.cipher()[0]
        self.hash = hashes.SHA384() if name.endswith("SHA384") else hashes.SHA256()
        self.aead = ChaCha20Poly1305 if "CHACHA20" in name else AESGCM
        self.key_size = 16 if "AES_128" in name else 32
        lines = keys.read_text().splitlines()
        secret = next(line for line in lines if line.startswith("CLIENT_TRAFFIC_SECRET_0 "))
        self._use(bytes.fromhex(secret.split()[2]))

    def _expand(self, label: str, size: int) -> bytes:
        """HKDF-Expand-Label without a context (section 7.1)."""
        name = b"tls13 " + label.encode()
        info = struct.pack(">HB", size, len(name)) + name + b"\0"
        return HKDFExpand(self.hash, size, info).derive(self.secret)

    def _use(self, secret: bytes) -> None:
        self.secret = secret
        self.cipher = self.aead(self._expand("key", self.key_size))
        self.iv = int.from_bytes(self._expand("iv", 12), "big")
        self.number = 0

    def record(self, kind: int, data: bytes) -> bytes:
        """The next record (section 5.2)."""
        head = struct.pack(">BHH", APPLICATION_DATA, 0x0303, len(data) + 1 + 16)
        nonce = (self.iv ^ self.number).to_bytes(12, "big")
        self.number += 1
        return head + self.cipher.encrypt(nonce, data + bytes([kind]), head)

    def key_update(self) -> bytes:
        """A KeyUpdate that wants one in answer; what follows has the next key."""
        made = self.record(HANDSHAKE, b"\x18\x00\x00\x01\x01")
        self._use(self._expand("traffic upd", self.hash.digest_size))
        return made

    def detach(self) -> socket.socket:
        """The socket without ssl."""
        return socket.socket(fileno=self.tls.detach())
