"""An API server for tests, with a few pods, whose commands run on this machine. It serves WebSockets, not SPDY.

Its answers were copied from recorded streams of kube-apiserver 1.36 and a kubelet. Tests of the client side and
`bench/exec.py` use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import http
import json
import os
import pty
import signal
import ssl
import struct
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from tests.integration.proxy.conftest import Authority

V5, V4 = "v5.channel.k8s.io", "v4.channel.k8s.io"

# The part of discovery that kubectl needs for pods.
_DISCOVERY: dict[str, dict[str, Any]] = {
    "/api": {"kind": "APIVersions", "versions": ["v1"]},
    "/apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": []},
    "/api/v1": {
        "kind": "APIResourceList",
        "groupVersion": "v1",
        "resources": [
            {"name": "pods", "singularName": "pod", "namespaced": True, "kind": "Pod", "verbs": ["get", "list"]}
        ],
    },
}


def make_pod(name: str, *containers: str, namespace: str = "default", **more: Any) -> dict[str, Any]:
    """Return a running, ready pod. more: labels, annotations."""
    names = containers or ("main",)
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": namespace, "uid": f"uid-{name}", **more},
        "spec": {"nodeName": "n1", "containers": [{"name": one, "image": "x"} for one in names]},
        "status": {
            "phase": "Running",
            "conditions": [{"type": "Ready", "status": "True"}],
            "containerStatuses": [{"name": one, "state": {"running": {}}} for one in names],
        },
    }


@dataclass
class PodServer:
    """The server. objects: path -> JSON. requests: those received, in order. protocols: the accepted subprotocols.

    forbidden: paths that are refused with 403. refused: path -> message of the response, a 403. dropped: paths at which
    the connection is closed without an answer. cut_after, cut_input_after: bytes of output and of input after which one
    connection is cut; 0 for no cut.
    environment: variables for commands, in addition to this process's.
    """

    directory: Path
    protocols: tuple[str, ...] = (V5,)
    objects: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    forbidden: set[str] = field(default_factory=set)
    refused: dict[str, str] = field(default_factory=dict)
    dropped: set[str] = field(default_factory=set)
    cut_after: int = 0
    cut_input_after: int = 0
    environment: dict[str, str] = field(default_factory=dict)
    port: int = 0

    def add(self, obj: dict[str, Any], plural: str = "pods", group: str = "") -> None:
        metadata = obj["metadata"]
        base = f"/apis/{group}/v1" if group else "/api/v1"
        self.objects[f"{base}/namespaces/{metadata['namespace']}/{plural}/{metadata['name']}"] = obj

    def kubeconfig(self, host: str = "127.0.0.1", **cluster: Any) -> Path:
        """Write a kubeconfig for this server."""
        path = self.directory / "kubeconfig"
        ca = str(self.directory / "tls/ca.crt")
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "c",
                    "cluster": {"server": f"https://{host}:{self.port}", "certificate-authority": ca, **cluster},
                }
            ],
            "users": [{"name": "u", "user": {"token": "sesame"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
            "current-context": "c",
        }
        path.write_text(yaml.safe_dump(document))
        return path

    @contextlib.contextmanager
    def running(self) -> Iterator[PodServer]:
        """Serve in a thread during a block."""
        authority = Authority(self.directory / "tls")
        started, loop = threading.Event(), asyncio.new_event_loop()
        stop = asyncio.Event()

        async def main() -> None:
            server = await self._serve(authority.server())
            self.port = next(iter(server.sockets)).getsockname()[1]
            started.set()
            await stop.wait()
            # A command that still runs ends with its connection.
            for connection in list(server.connections):
                connection.transport.abort()
            server.close()
            await server.wait_closed()

        thread = threading.Thread(target=loop.run_until_complete, args=(main(),), daemon=True)
        thread.start()
        assert started.wait(10)
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(20)
            assert not thread.is_alive()
            loop.close()

    async def _serve(self, tls: ssl.SSLContext) -> Server:
        return await serve(
            self._command,
            "127.0.0.1",
            0,
            ssl=tls,
            process_request=self._answer,
            subprotocols=[Subprotocol(one) for one in self.protocols],
            compression=None,
            max_size=1 << 24,
        )

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        self.requests.append(request.path)
        path = urlsplit(request.path).path
        if path in self.dropped:
            connection.transport.abort()
        if path in self.refused:
            return self._status(403, "Forbidden", self.refused[path])
        if path in self.forbidden:
            return self._status(403, "Forbidden", f'User "u" cannot do this at {path}')
        if request.headers.get("Upgrade", "").lower() == "websocket" and path.endswith(("/exec", "/attach")):
            pod = self.objects.get(path.rpartition("/")[0])
            if pod is None:
                return self._missing(path.rpartition("/")[0])
            names = [one["name"] for one in pod["spec"]["containers"]]
            asked = parse_qs(urlsplit(request.path).query).get("container", [""])[0]
            name = pod["metadata"]["name"]
            if not asked and len(names) > 1:
                listed = " ".join(names)
                text = f"a container name must be specified for pod {name}, choose one of: [{listed}]"
                return self._status(400, "BadRequest", text)
            if asked and asked not in names:
                text = f"container {asked} is not valid for pod {name} out of: {', '.join(names)}"
                return self._status(400, "BadRequest", text)
            offered = [one.strip() for one in request.headers.get("Sec-WebSocket-Protocol", "").split(",")]
            if not set(offered) & set(self.protocols):
                return self._status(403, "Forbidden", "no protocol in common")
            return None
        found = self.objects.get(path) or _DISCOVERY.get(path)
        if found is not None:
            return self._json(200, found)
        items = [obj for known, obj in self.objects.items() if known.rpartition("/")[0] == path]
        if items or path.rpartition("/")[2] in ("pods", "services"):
            return self._json(200, {"kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": items})
        return self._missing(path)

    def _missing(self, path: str) -> Response:
        plural, name = path.split("/")[-2:]
        return self._status(404, "NotFound", f'{plural} "{name}" not found')

    def _status(self, code: int, reason: str, message: str) -> Response:
        document = {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": message}
        return self._json(code, document)

    def _json(self, code: int, document: dict[str, Any]) -> Response:
        body = json.dumps(document).encode()
        fields = {"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"}
        return Response(code, http.HTTPStatus(code).phrase, Headers(fields), body)

    async def _command(self, connection: ServerConnection) -> None:
        """Run one command as a kubelet does; end it when its client disconnects."""
        with contextlib.suppress(ConnectionClosed):
            await self._run(connection)

    async def _run(self, connection: ServerConnection) -> None:
        assert connection.request is not None
        query = parse_qs(urlsplit(connection.request.path).query, keep_blank_values=True)
        command, tty = query["command"], query.get("tty") == ["true"]
        wants_stdin = query.get("stdin") == ["true"]
        own = os.open(os.devnull, os.O_RDWR)
        side = own
        if tty:
            own, side = pty.openpty()
        environment = {**os.environ, **self.environment}
        try:
            process = await asyncio.create_subprocess_exec(
                *command,
                stdin=side if tty else asyncio.subprocess.PIPE if wants_stdin else asyncio.subprocess.DEVNULL,
                stdout=side if tty else asyncio.subprocess.PIPE,
                stderr=side if tty else asyncio.subprocess.PIPE,
                start_new_session=True,
                preexec_fn=(lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0)) if tty else None,
                env=environment,
                limit=1 << 20,
            )
        except FileNotFoundError:
            text = f'error executing command in container: exec: "{command[0]}": executable file not found in $PATH'
            status = {"metadata": {}, "status": "Failure", "message": text, "reason": "InternalError", "code": 500}
            await connection.send(b"\x03" + json.dumps(status).encode())
            return
        if tty:
            os.close(side)
        try:
            code = await self._carry(connection, process, own if tty else -1)
        finally:
            # If the client has disconnected, the command still runs: kill all its processes.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            os.close(own)
        status = {"metadata": {}, "status": "Success"}
        if code:
            causes = [{"reason": "ExitCode", "message": str(code)}]
            text = f"command terminated with non-zero exit code: command terminated with exit code {code}"
            details = {"causes": causes}
            status = {"metadata": {}, "status": "Failure", "message": text, "reason": "NonZeroExitCode"}
            status |= {"details": details}
        await connection.send(b"\x03" + json.dumps(status, separators=(",", ":")).encode())

    async def _carry(self, connection: ServerConnection, process: Any, terminal: int) -> int:
        await connection.send(b"\x01")
        outputs = [] if terminal >= 0 else [(1, process.stdout), (2, process.stderr)]
        tasks = [asyncio.create_task(self._pump(connection, channel, source)) for channel, source in outputs]
        if terminal >= 0:
            tasks.append(asyncio.create_task(self._pump_terminal(connection, terminal)))
        feeding = asyncio.create_task(self._feed(connection, process, terminal))
        try:
            await asyncio.gather(*tasks)
            code = int(await process.wait())
        finally:
            for task in (*tasks, feeding):
                task.cancel()
        return 128 - code if code < 0 else code

    async def _pump(self, connection: ServerConnection, channel: int, source: Any) -> None:
        sent, cut = 0, False
        while data := await source.read(32768):
            await connection.send(bytes([channel]) + data)
            sent += len(data)
            # A connection that was cut may send more data before it notices. It must not also use up the cut that a
            # test has set for a later connection.
            if self.cut_after and sent >= self.cut_after and not cut:
                self.cut_after, cut = 0, True
                connection.transport.abort()

    async def _pump_terminal(self, connection: ServerConnection, own: int) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                data = await loop.run_in_executor(None, os.read, own, 32768)
            except OSError:
                return
            if not data:
                return
            await connection.send(b"\x01" + data)

    async def _feed(self, connection: ServerConnection, process: Any, terminal: int) -> None:
        taken = 0
        async for message in connection:
            assert isinstance(message, bytes)
            channel, data = message[0], message[1:]
            taken += len(data)
            if self.cut_input_after and taken >= self.cut_input_after:
                self.cut_input_after = 0
                connection.transport.abort()
                break
            if channel == 4:
                size = json.loads(data)
                packed = struct.pack("HHHH", size["Height"], size["Width"], 0, 0)
                fcntl.ioctl(terminal, termios.TIOCSWINSZ, packed)
            elif channel == 0 and data and terminal >= 0:
                os.write(terminal, data)
            elif channel == 0 and data:
                process.stdin.write(data)
                with contextlib.suppress(ConnectionError):
                    await process.stdin.drain()
            elif channel == 255 and data == b"\0" and terminal < 0:
                process.stdin.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
