"""Debian's docker-registry on loopback, and skopeo, which fills it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.freeports import free_port

_BESIDE_PYTHON = Path(sys.executable).parent / "docker-registry"
# `scripts/test` puts the program beside the interpreter.
_PROGRAM = str(_BESIDE_PYTHON) if _BESIDE_PYTHON.exists() else shutil.which("docker-registry")
needs_registry = pytest.mark.skipif(
    not (_PROGRAM and shutil.which("skopeo")),
    reason="docker-registry or skopeo is not installed (Debian has packages of these names)",
)


@dataclass
class DockerRegistry:
    """A running registry. address: host and port. tls: its self-signed certificate. user: name and password."""

    address: str
    tls: Path | None = None
    user: tuple[str, str] | None = None
    policy: list[str] = field(default_factory=list)

    def push(self, archive: Path, name: str, *options: str) -> None:
        """Push an OCI archive with skopeo. name: repository and tag."""
        credentials = [f"--dest-creds={':'.join(self.user)}"] if self.user else []
        command = ["skopeo", "--insecure-policy", "copy", "-q", "--dest-tls-verify=false", *credentials, *options]
        subprocess.run([*command, f"oci-archive:{archive}", f"docker://{self.address}/{name}"], check=True, timeout=60)


@contextmanager
def running(
    directory: Path, *, tls: tuple[Path, Path] | None = None, user: tuple[str, str] | None = None
) -> Iterator[DockerRegistry]:
    """Run a registry during a block. directory: for its files. tls: certificate and key."""
    address = f"127.0.0.1:{free_port()}"
    lines = [
        "version: 0.1",
        "log: {level: error, accesslog: {disabled: true}}",
        f"storage: {{filesystem: {{rootdirectory: {directory / 'data'}}}}}",
        f"http: {{addr: '{address}'" + (f", tls: {{certificate: {tls[0]}, key: {tls[1]}}}" if tls else "") + "}",
    ]
    if user is not None:
        (directory / "htpasswd").write_text(f"{user[0]}:{_bcrypt(user[1])}\n")
        lines.append(f"auth: {{htpasswd: {{realm: test, path: {directory / 'htpasswd'}}}}}")
    (directory / "config.yml").write_text("\n".join(lines) + "\n")
    with (directory / "registry.log").open("wb") as log:
        process = subprocess.Popen([_PROGRAM, "serve", directory / "config.yml"], stdout=log, stderr=log)
    try:
        _wait_for(address, process)
        yield DockerRegistry(address, tls[0] if tls else None, user)
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(address: str, process: subprocess.Popen[bytes]) -> None:
    host, _, port = address.partition(":")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection((host, int(port)), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError("docker-registry does not listen")


def _bcrypt(password: str) -> str:
    """Return the bcrypt hash of a password, as in a line of `htpasswd -B`."""
    # Debian's libcrypt has bcrypt. The lowest cost suffices for a test.
    import ctypes
    import ctypes.util

    library = ctypes.CDLL(ctypes.util.find_library("crypt") or "libcrypt.so.1")
    library.crypt.restype = ctypes.c_char_p
    hashed = library.crypt(password.encode(), b"$2y$04$abcdefghijklmnopqrstuu")
    assert hashed and hashed.startswith(b"$2y$"), "this system's crypt has no bcrypt"
    return str(hashed.decode())
