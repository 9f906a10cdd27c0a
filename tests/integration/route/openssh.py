"""A real OpenSSH server on a loopback address, run by an ordinary user; only this user can log in."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.freeports import free_port

_CACHE = Path(__file__).resolve().parents[3] / ".cache/openssh"
_PACKAGES = ("openssh-server", "libwrap0")


@functools.cache
def sshd() -> tuple[str, dict[str, str]]:
    """Return the path of sshd and its environment variables. If it is not installed, download it, or skip the test."""
    for place in (shutil.which("sshd"), "/usr/sbin/sshd"):
        if place and Path(place).exists():
            return place, {}
    program = _CACHE / "root/usr/sbin/sshd"
    if not program.exists():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            pytest.skip("the OpenSSH server is not installed, and can only be downloaded on Debian")
        _CACHE.mkdir(parents=True, exist_ok=True)
        got = subprocess.run(
            ["apt-get", "download", *_PACKAGES], cwd=_CACHE, capture_output=True, text=True, timeout=100, check=False
        )
        if got.returncode:
            pytest.skip(f"the OpenSSH server is not installed, and its download failed: {got.stderr.strip()[-200:]}")
        for package in _CACHE.glob("*.deb"):
            subprocess.run(["dpkg", "-x", str(package), str(_CACHE / "root")], check=True, timeout=60)
    libraries = sorted({str(found.parent) for found in (_CACHE / "root").rglob("*.so*")})
    return str(program), {"LD_LIBRARY_PATH": ":".join(libraries)}


@dataclass(frozen=True)
class Node:
    """A running SSH server, as a machine to log in to.

    user: the user who may log in. home: the client's home, whose `.ssh` has its key and the node's host key.
    authorized_keys: the file of the public keys that may log in.
    """

    port: int
    user: str
    home: Path
    authorized_keys: Path
    process: asyncio.subprocess.Process


def keygen(path: Path) -> str:
    """Make a key pair; return the public key."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True, timeout=60)
    return path.with_suffix(".pub").read_text().strip()


@contextlib.asynccontextmanager
async def running(directory: Path, *options: str, port: int = 0) -> AsyncIterator[Node]:
    """Run a server.

    Args:
        directory: for the server's keys and the client's home, which a further run in the directory uses again.
        options: further lines of its configuration.
        port: 0 for any free one.
    """
    program, environment = sshd()
    # sshd does not run as root here: for that it needs an account that only the installed package has.
    account = pwd.getpwnam("daemon") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    home, keys = directory / "home", directory / "keys"
    if not keys.exists():
        (home / ".ssh").mkdir(parents=True, mode=0o700)
        keys.mkdir()
        keygen(home / ".ssh/id_ed25519")
        keygen(keys / "host")
    with tempfile.TemporaryDirectory() as text:
        etc = Path(text)  # The account of sshd can enter this directory, but not that of the test.
        etc.chmod(0o755)
        shutil.copy(home / ".ssh/id_ed25519.pub", etc / "authorized_keys")
        shutil.copy(keys / "host", etc / "host")
        os.chown(etc / "host", account.pw_uid, account.pw_gid)
        (etc / "host").chmod(0o600)
        port = port or free_port()
        host = " ".join((keys / "host.pub").read_text().split()[:2])
        (home / ".ssh/known_hosts").write_text(f"[127.0.0.1]:{port} {host}\n[localhost]:{port} {host}\n")
        lines = [
            f"ListenAddress 127.0.0.1:{port}",
            f"HostKey {etc / 'host'}",
            f"AuthorizedKeysFile {etc / 'authorized_keys'}",
            "PidFile none",
            "StrictModes no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "UsePAM no",
            *options,
        ]
        (etc / "sshd_config").write_text("\n".join(lines) + "\n")
        told = directory / "sshd.log"
        with told.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                program,
                *("-D", "-e", "-f", str(etc / "sshd_config")),
                env={**os.environ, **environment},
                user=account.pw_uid,
                group=account.pw_gid,
                extra_groups=[] if os.geteuid() == 0 else None,
                stderr=log,
            )
        try:
            async with asyncio.timeout(30):
                while b"Server listening" not in told.read_bytes():
                    if process.returncode is not None:
                        pytest.fail(f"the OpenSSH server does not run: {told.read_text()[-300:]}")
                    await asyncio.sleep(0.02)
            yield Node(port, account.pw_name, home, etc / "authorized_keys", process)
        finally:
            if process.returncode is None:
                process.terminate()
            await process.wait()
