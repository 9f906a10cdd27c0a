"""Processes with a terminal or an open standard input: what they can do, and how they end."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import signal
import struct
import termios
from pathlib import Path
from typing import Any

from hatchway.cluster.runtime import ContainerConfig, ContainerProcess, Runtime, Sandbox, StartError
from tests.integration.network.inside import config, sandbox, shell


class Screen:
    """The master side of a process's terminal: reads what a screen would show, and types."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.text = ""

    async def until(self, wanted: str) -> str:
        """Read until the text contains `wanted`, or the terminal is closed; return the text so far."""
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        while wanted not in self.text:
            readable.clear()
            loop.add_reader(self._descriptor, readable.set)
            await readable.wait()
            loop.remove_reader(self._descriptor)
            try:
                self.text += os.read(self._descriptor, 4096).decode()
            except OSError as error:
                assert error.errno == errno.EIO
                break
        return self.text

    def type(self, text: str) -> None:
        os.write(self._descriptor, text.encode())

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self._descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def close(self) -> None:
        os.close(self._descriptor)


def with_terminal(argv: list[str], size: tuple[int, int] | None = None) -> ContainerConfig:
    return config(argv, -1, terminal=True, size=size)


async def terminals(runtime: Runtime, directory: Path) -> Any:
    """Return the results of a container with a terminal, and of an exec in it with another terminal."""
    pod = await sandbox(runtime)
    # The first process of a PID namespace gets SIGHUP only if it handles that signal, so the script handles it.
    script = "trap 'stty size' WINCH; trap 'exit 9' HUP; echo ready; while :; do sleep 0.02; done"
    container = await pod.start(with_terminal(["sh", "-c", script]))
    screen = Screen(container.terminal)
    await screen.until("ready")
    screen.resize(33, 101)
    found: dict[str, Any] = {"resized": await screen.until("33 101")}

    script = "tty; ps -o tpgid= -p $$ | grep -qw $$ && echo leads; : >/dev/tty && echo controls; stty size; read x; echo got $x"
    process = await pod.exec(container, with_terminal(["sh", "-c", script]))
    own = Screen(process.terminal)
    await own.until("0 0")
    own.type("hello\n")
    found["exec"] = await own.until("got hello")
    found["exit"] = (await process.wait()).code
    own.close()

    process = await pod.exec(container, with_terminal(["stty", "size"], (101, 33)))
    own = Screen(process.terminal)
    found["sized"] = await own.until("\n")
    own.close()

    process = await pod.exec(container, with_terminal(["sh", "-c", "echo waiting; exec sleep 1000"]))
    own = Screen(process.terminal)
    await own.until("waiting")
    own.type("\x03")
    found["interrupted"] = (await process.wait()).signal
    own.close()

    process = await pod.exec(container, with_terminal(["sh", "-c", "echo waiting; exec sleep 1000"]))
    own = Screen(process.terminal)
    await own.until("waiting")
    own.close()
    found["hung up"] = (await process.wait()).signal
    found["no program"] = await _start_error(pod, container)
    found["open"] = len([name for name in os.listdir("/dev/fd") if _is_terminal(name)])
    screen.close()
    found["container hung up"] = (await container.wait()).code
    await pod.remove()
    return found


def _is_terminal(name: str) -> bool:
    try:
        return os.readlink(f"/dev/fd/{name}").endswith("ptmx")
    except OSError:
        return False


async def _start_error(pod: Sandbox, container: ContainerProcess) -> str:
    try:
        await pod.exec(container, with_terminal(["no-such-program"]))
    except StartError as error:
        return str(error)
    return "started"


async def replaced_terminals(runtime: Runtime, directory: Path) -> Any:
    """Return the results of a container that has replaced /dev, and with it /dev/pts."""
    pod = await sandbox(runtime)
    script = "mv /dev /old && mkdir -p /dev/pts && mknod /dev/pts/ptmx p && echo moved; exec sleep 1000"
    reading, writing = os.pipe()
    container = await pod.start(config(["sh", "-c", script], writing))
    moved = await asyncio.to_thread(os.read, reading, 100)
    try:
        process = await pod.exec(container, with_terminal(["sh", "-c", "tty"]))
        process.kill(signal.SIGKILL)
        message = "started"
    except StartError as error:
        message = str(error)
    await pod.remove()
    return [moved.decode(), message]


async def standard_input(runtime: Runtime, directory: Path) -> Any:
    """Return the results of processes whose standard input is a pipe, and of one without standard input."""
    pod = await sandbox(runtime)
    reading, writing = os.pipe()
    container = await pod.start(config(["cat"], 2, stdin=reading))
    os.close(reading)
    found: dict[str, Any] = {"nothing": await shell(pod, "wc -c", container)}
    other, to_exec = os.pipe()
    os.write(to_exec, b"some text")
    os.close(to_exec)
    found["exec"] = await shell(pod, "cat", container, stdin=other)
    os.close(other)
    os.close(writing)
    found["end"] = (await container.wait()).code
    try:
        await pod.exec(container, config(["true"], 2))
        found["after"] = "started"
    except StartError as error:
        found["after"] = str(error)
    await pod.remove()
    return found


async def execs_end_with_their_container(runtime: Runtime, directory: Path) -> Any:
    pod = await sandbox(runtime)
    container = await pod.start(config(["sleep", "1000"], 2))
    execs = [await pod.exec(container, config(["sleep", "1000"], 2)) for _ in range(3)]
    execs.append(await pod.exec(container, with_terminal(["sh", "-c", "trap '' HUP TERM; sleep 1000; sleep 1000"])))
    container.kill(signal.SIGKILL)
    ends = [(await process.wait()).signal for process in execs]
    os.close(execs[-1].terminal)
    await pod.remove()
    return ends


_LOOPBACK_ONLY = """
import os, socket, sys
server = socket.create_server((os.environ.get("HATCHWAY_POD_IP", "127.0.0.1"), 8080))
print("ready", flush=True)
while True:
    connection, _ = server.accept()
    connection.sendall(os.environ["NAME"].encode())
    connection.close()
"""


async def loopback_ports(runtime: Runtime, directory: Path) -> Any:
    """Return the results of connections to ports that are open only on a pod's own loopback."""
    found: dict[str, Any] = {}
    pods = []
    for name in ("one", "two"):
        pod = await sandbox(runtime, name)
        pods.append(pod)
        reading, writing = os.pipe()
        await pod.start(config(["python3", "-c", _LOOPBACK_ONLY], writing, env={"NAME": name}))
        os.close(writing)
        assert await asyncio.to_thread(os.read, reading, 100) == b"ready\n"
        sock = await pod.dial(8080)
        found[name] = (await asyncio.get_running_loop().sock_recv(sock, 100)).decode()
        sock.close()
        try:
            await pod.dial(8081)
        except OSError as error:
            found[f"{name} error"] = error.errno
    for pod in pods:
        await pod.remove()
    try:
        await pods[0].dial(8080)
    except OSError as error:
        found["removed"] = error.errno
    return found
