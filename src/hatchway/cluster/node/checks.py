"""Performs the actions of probes and lifecycle hooks: a command, an HTTP or gRPC request, a TCP connection.

Behaviour: `pkg/probe`, `pkg/kubelet/lifecycle`.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from hatchway.cluster.node import checkgrpc, checkhttp
from hatchway.cluster.node.checkhttp import Dial
from hatchway.cluster.node.probes import Result
from hatchway.cluster.runtime import ContainerProcess, StartError
from hatchway.kube.api import Object
from hatchway.numerals import is_digits

# Starts a command whose output goes to a descriptor.
Exec = Callable[[list[str], int], Awaitable[ContainerProcess]]

_OUTPUT_LIMIT = 10240
# The maximum number of seconds that a hook waits for a response. (Kubernetes sets no timeout for hooks.)
_HOOK_SECONDS = 24 * 3600.0


class HandlerError(Exception):
    """A probe or hook refers to a port that does not exist."""


class Checker:
    """Performs checks on one container."""

    def __init__(
        self,
        *,
        pod_ip: str,
        ports: Mapping[str, int],
        dial: Dial,
        execute: Exec,
    ) -> None:
        self._pod_ip = pod_ip
        self._ports = ports
        self._dial = dial
        self._execute = execute

    async def check(self, handler: Object, timeout: float) -> Result:
        """Perform a probe's action once, within `timeout` seconds."""
        try:
            if "exec" in handler:
                return await self._exec((handler["exec"] or {}).get("command") or [], timeout)
            if "httpGet" in handler:
                return await self._http(handler["httpGet"], timeout)
            if "tcpSocket" in handler:
                found = handler["tcpSocket"]
                return await self._tcp(found.get("host") or self._pod_ip, self._port(found.get("port")), timeout)
            if "grpc" in handler:
                found = handler["grpc"]
                return await self._grpc(self._port(found.get("port")), found.get("service") or "", timeout)
        except HandlerError as error:
            return Result(False, str(error), errored=True)
        return Result(True)

    async def run_hook(self, handler: Object, timeout: float) -> Result:
        """Perform a lifecycle hook (`pkg/kubelet/lifecycle`), within `timeout` seconds."""
        timeout = min(timeout, _HOOK_SECONDS)
        if "sleep" in handler:
            await asyncio.sleep(min(timeout, float(handler["sleep"].get("seconds") or 0)))
            return Result(True)
        if "httpGet" in handler:
            return await self._http_hook(handler["httpGet"], timeout)
        if "exec" in handler:
            return await self.check(handler, timeout)
        return Result(False, "Cannot run handler: Invalid handler: only exec, httpGet and sleep can be hooks")

    def _port(self, port: int | str | None) -> int:
        number = self._ports.get(port) if isinstance(port, str) and not is_digits(port) else int(port or 0)
        if not number or not 0 < number < 65536:
            raise HandlerError(f"couldn't find port: {port!r}")
        return number

    async def _exec(self, command: list[str], timeout: float) -> Result:
        reading, writing = os.pipe()
        output = _Capture(reading)
        try:
            process = await self._execute(command, writing)
        except StartError as error:
            output.close()
            return Result(False, str(error), errored=True)
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

    async def _grpc(self, port: int, service: str, timeout: float) -> Result:
        return await checkgrpc.check_health(self._dial, self._pod_ip, port, service, timeout)

    async def _http(self, action: Mapping[str, Any], timeout: float) -> Result:
        request = self._request(action)
        try:
            answer = await checkhttp.get(request, self._connect, timeout)
        except checkhttp.BodyError as error:
            return Result(False, str(error), errored=True)
        except checkhttp.RequestError as error:
            return Result(False, str(error))
        if not 200 <= answer.status < 400:
            # The message goes into an event, so it must not contain the body, which may be secret.
            return Result(False, f"HTTP probe failed with statuscode: {answer.status}")
        if answer.status >= 300:
            return Result(True, f"Probe terminated redirects, Response body: {answer.text}", warning=True)
        return Result(True)

    async def _http_hook(self, action: Mapping[str, Any], timeout: float) -> Result:
        """Send one request. Any response is a success, even plain HTTP in answer to HTTPS (runHTTPHandler)."""
        try:
            request = self._request({"port": 80, **action})
            try:
                await checkhttp.get(request, self._connect, timeout)
            except checkhttp.PlainAnswerError:
                await checkhttp.get(self._request({"port": 80, **action, "scheme": "HTTP"}), self._connect, timeout)
        except checkhttp.BodyError:
            # The server has answered, although not completely.
            return Result(True)
        except (HandlerError, checkhttp.RequestError) as error:
            return Result(False, str(error))
        return Result(True)

    def _request(self, action: Mapping[str, Any]) -> checkhttp.CheckRequest:
        scheme = (action.get("scheme") or "HTTP").lower()
        host = action.get("host") or self._pod_ip
        return checkhttp.CheckRequest(
            checkhttp.url_of(scheme, host, self._port(action.get("port")), action.get("path") or "/"),
            [(str(field.get("name", "")), str(field.get("value", ""))) for field in action.get("httpHeaders") or ()],
        )

    async def _connect(self, host: str, port: int, timeout: float) -> socket.socket:
        try:
            return await self._dial(host, port, timeout)
        except OSError as error:
            raise checkhttp.DialError(_dial_error(host, port, error)) from error


def _dial_error(host: str, port: int, error: OSError) -> str:
    what = f"dial tcp {host}:{port}"
    if isinstance(error, TimeoutError) or error.errno == errno.ETIMEDOUT:
        return f"{what}: i/o timeout"
    return f"{what}: connect: {os.strerror(error.errno).lower() if error.errno else error}"


class _Capture:
    """Reads a pipe to its end, and keeps the beginning, so that a command with much output does not block."""

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
        """Read the output that is available without waiting; return all output so far."""
        self._loop.remove_reader(self._descriptor)
        self._read()
        os.close(self._descriptor)
        return self._kept.decode("utf-8", "replace").strip()
