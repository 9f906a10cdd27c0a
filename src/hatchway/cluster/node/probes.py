"""Startup, readiness and liveness probes: the state machine and the checks (`pkg/kubelet/prober`, `pkg/probe`)."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import signal
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from hatchway import __version__
from hatchway.cluster.node.runtime import ContainerConfig, Process, StartError
from hatchway.kube.api import Object
from hatchway.numerals import is_digits

Kind = Literal["startup", "readiness", "liveness"]
Dial = Callable[[str, int, float], Awaitable[socket.socket]]
Exec = Callable[[ContainerConfig], Awaitable[Process]]

_OUTPUT_LIMIT = 10240
_HEAD_LIMIT = 65536


@dataclass(frozen=True, slots=True)
class Settings:
    """core/v1 Probe without its handler; times in seconds."""

    initial_delay: float = 0
    period: float = 10
    timeout: float = 1
    successes: int = 1
    failures: int = 3
    grace: int | None = None

    @classmethod
    def of(cls, probe: Object) -> Settings:
        """From a probe; what is missing or 0 has its default."""
        return cls(
            initial_delay=probe.get("initialDelaySeconds") or 0,
            period=probe.get("periodSeconds") or 10,
            timeout=probe.get("timeoutSeconds") or 1,
            successes=probe.get("successThreshold") or 1,
            failures=probe.get("failureThreshold") or 3,
            grace=probe.get("terminationGracePeriodSeconds"),
        )


class Threshold:
    """Counts equal results in a row; `verdict` changes when enough of them came (prober/worker.go). Pure.

    verdict: None until a threshold is met for the first time.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._last: bool | None = None
        self._run = 0
        self.verdict: bool | None = None

    def observe(self, success: bool) -> bool | None:
        """Count one result and return the verdict."""
        self._run = self._run + 1 if success == self._last else 1
        self._last = success
        if self._run >= (self._settings.successes if success else self._settings.failures):
            self.verdict = success
        return self.verdict


@dataclass(frozen=True, slots=True)
class Result:
    """How one check went, with the words of an Unhealthy event when it failed."""

    success: bool
    message: str = ""


class HandlerError(Exception):
    """A probe or hook that names something that is not there."""


class Checker:
    """Carries out checks on one container. config: a template for exec checks (its name, env and cwd are used)."""

    def __init__(
        self,
        *,
        pod_ip: str,
        ports: Mapping[str, int],
        dial: Dial,
        execute: Exec,
        config: Callable[[list[str], int], ContainerConfig],
    ) -> None:
        self._pod_ip = pod_ip
        self._ports = ports
        self._dial = dial
        self._execute = execute
        self._config = config

    async def check(self, handler: Object, timeout: float) -> Result:
        """Check once, for at most `timeout` seconds."""
        try:
            if "exec" in handler:
                return await self._exec((handler["exec"] or {}).get("command") or [], timeout)
            if "httpGet" in handler:
                return await self._http(handler["httpGet"], timeout)
            if "tcpSocket" in handler:
                found = handler["tcpSocket"]
                return await self._tcp(found.get("host") or self._pod_ip, self._port(found.get("port")), timeout)
            if "grpc" in handler:
                return await self._tcp(self._pod_ip, self._port(handler["grpc"].get("port")), timeout)
        except HandlerError as error:
            return Result(False, str(error))
        return Result(True)

    async def run_hook(self, handler: Object, timeout: float) -> Result:
        """Carry out a lifecycle hook (`pkg/kubelet/lifecycle`), for at most `timeout` seconds."""
        if "sleep" in handler:
            await asyncio.sleep(min(timeout, float(handler["sleep"].get("seconds") or 0)))
            return Result(True)
        return await self.check(handler, timeout)

    def _port(self, port: int | str | None) -> int:
        number = self._ports.get(port) if isinstance(port, str) and not is_digits(port) else int(port or 0)
        if not number or not 0 < number < 65536:
            raise HandlerError(f"couldn't find port: {port!r}")
        return number

    async def _exec(self, command: list[str], timeout: float) -> Result:
        reading, writing = os.pipe()
        output = _Capture(reading)
        try:
            process = await self._execute(self._config(command, writing))
        except StartError as error:
            output.close()
            return Result(False, str(error))
        except BaseException:
            output.close()
            raise
        finally:
            os.close(writing)
        try:
            async with asyncio.timeout(timeout):
                end = await process.wait()
        except TimeoutError:
            return Result(False, f"command timed out: {' '.join(command)!r} timed out after {timeout:g}s")
        finally:
            process.kill(signal.SIGKILL)
            text = output.close()
        return Result(end.code == 0, text or f"command exited with {end.code}")

    async def _tcp(self, host: str, port: int, timeout: float) -> Result:
        try:
            (await self._dial(host, port, timeout)).close()
        except OSError as error:
            return Result(False, _dial_error(host, port, error))
        return Result(True)

    async def _http(self, action: Mapping[str, Any], timeout: float) -> Result:
        host, port = action.get("host") or self._pod_ip, self._port(action.get("port"))
        scheme = (action.get("scheme") or "HTTP").lower()
        path = action.get("path") or "/"
        path = path if path.startswith("/") else f"/{path}"
        url = f"{scheme}://{host}:{port}{path}"
        request = _request(path, f"{host}:{port}", action.get("httpHeaders") or ())
        try:
            async with asyncio.timeout(timeout):
                sock = await self._dial(host, port, timeout)
                status = await _exchange(sock, request, _unverified() if scheme == "https" else None)
        except TimeoutError:
            why = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            return Result(False, f'Get "{url}": {why}')
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            return Result(False, f'Get "{url}": malformed HTTP response')
        except ssl.SSLError as error:
            return Result(False, f'Get "{url}": tls: {error.reason or "handshake failed"}')
        except OSError as error:
            return Result(False, f'Get "{url}": {_dial_error(host, port, error)}')
        # Redirects are not followed: one is an answer, and an answer below 400 is a success.
        if 200 <= status < 400:
            return Result(True)
        return Result(False, f"HTTP probe failed with statuscode: {status}")


def _request(path: str, host: str, headers: Any) -> bytes:
    own = {
        "Host": host,
        "User-Agent": f"kube-probe/{__version__}",
        "Accept": "*/*",
        "Connection": "close",
    }
    lines = []
    for header in headers:
        name, value = str(header.get("name", "")), str(header.get("value", ""))
        # They come from a pod's author, who is not to write a second request with them.
        if not name or any(character in name + value for character in "\r\n"):
            continue
        own = {key: known for key, known in own.items() if key.lower() != name.lower() or key == "Connection"}
        lines.append(f"{name}: {value}")
    lines = [f"{key}: {value}" for key, value in own.items()] + lines
    safe = "".join(c if "!" <= c <= "~" else "".join(f"%{byte:02X}" for byte in c.encode()) for c in path)
    return (f"GET {safe} HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode()


async def _exchange(sock: socket.socket, request: bytes, tls: ssl.SSLContext | None) -> int:
    """Send a request; the answer's status."""
    try:
        reader, writer = await asyncio.open_connection(
            sock=sock, ssl=tls, server_hostname="" if tls else None, limit=_HEAD_LIMIT
        )
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(request)
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            version, _, rest = head.partition(b"\r\n")[0].partition(b" ")
            if not version.startswith(b"HTTP/1."):
                raise ValueError("not HTTP/1")
            status = int(rest[:3])
            if status >= 200:
                return status
    finally:
        writer.close()
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(0.1):
                await writer.wait_closed()


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _dial_error(host: str, port: int, error: OSError) -> str:
    what = f"dial tcp {host}:{port}"
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return f"{what}: i/o timeout"
    return f"{what}: connect: {os.strerror(error.errno).lower() if error.errno else error}"


class _Capture:
    """Reads a pipe to its end and keeps its beginning, so that a talkative command does not block."""

    def __init__(self, descriptor: int) -> None:
        os.set_blocking(descriptor, False)
        self._descriptor = descriptor
        self._kept = bytearray()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(descriptor, self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._descriptor, 65536)
        except BlockingIOError:
            return
        if not data:
            self._loop.remove_reader(self._descriptor)
        self._kept += data[: _OUTPUT_LIMIT - len(self._kept)]

    def close(self) -> str:
        """What was read, and what waits to be read now."""
        self._loop.remove_reader(self._descriptor)
        self._read()
        os.close(self._descriptor)
        return self._kept.decode("utf-8", "replace").strip()


async def watch(
    probe: Object,
    check: Callable[[Object, float], Awaitable[Result]],
    observed: Callable[[Result], None],
    verdict: Callable[[bool, Result], bool],
) -> None:
    """Check for ever, or until `verdict` returns True.

    observed: called with each result. verdict: called when a threshold has been met anew or changed.
    """
    settings = Settings.of(probe)
    threshold = Threshold(settings)
    loop = asyncio.get_running_loop()
    await asyncio.sleep(settings.initial_delay)
    due = loop.time()
    before: bool | None = None
    while True:
        result = await check(probe, settings.timeout)
        observed(result)
        now = threshold.observe(result.success)
        if now is not None and now != before:
            before = now
            if verdict(now, result):
                return
        due = max(due + settings.period, loop.time())
        await asyncio.sleep(due - loop.time())
