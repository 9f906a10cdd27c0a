"""A webhook server over TLS in this process, and worlds whose API servers call it."""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from hatchway.cluster.api.admission.builtin import builtin_plugins, policy_plugins, webhook_plugins
from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.api.admission.webhooks.caller import WebhookCaller
from hatchway.cluster.api.connect.webhookclient import WebhookClient
from hatchway.cluster.api.http.restapp import RestApp
from hatchway.cluster.api.operations.local import LocalClient
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.auth import pki
from hatchway.cluster.auth.rbac import Authorizer

from .world import World

KINDS = {"mutating": "MutatingWebhookConfiguration", "validating": "ValidatingWebhookConfiguration"}
CONFIGURATIONS = "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations"
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"]}

# Gets the `request` of a review. Returns the `response` of the AdmissionReview, bytes to send unchanged, or None.
Handler = Callable[[dict[str, Any]], Any]


def patch(*operations: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return the `response` that allows a request and patches its object."""
    text = base64.b64encode(json.dumps(operations).encode()).decode()
    return {"allowed": True, "patchType": "JSONPatch", "patch": text, **more}


class WebhookServer:
    """Calls the handler for the path of each review, and sends its result; records the requests of all reviews.

    A handler returns the `response` of the review (the server adds the uid), or bytes: a whole HTTP message, which is
    sent unchanged. If a handler returns None, nothing is sent.
    """

    def __init__(self) -> None:
        self.handlers: dict[str, Handler] = {}
        self.requests: list[dict[str, Any]] = []
        self.lines: list[str] = []
        # Set by the first request.
        self.asked = asyncio.Event()
        self.port = 0
        self.bundle = ""
        self._tasks: set[asyncio.Task[Any]] = set()

    @asynccontextmanager
    async def running(self, keys: pki.Pki) -> AsyncIterator[WebhookServer]:
        pair = keys.issue("hook", "hook", dns=["hook.shop.svc"], ips=["127.0.0.1"], server=True)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pair.cert, pair.key)
        self.bundle = base64.b64encode(keys.ca_pem).decode()
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=tls, limit=1 << 24)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                line, *fields = head.decode().split("\r\n")
                length = next(int(one.split(":")[1]) for one in fields if one.lower().startswith("content-length"))
                review = json.loads(await reader.readexactly(length))
                self.lines.append(line)
                self.requests.append(review["request"])
                self.asked.set()
                answer = self.handlers[line.split()[1].partition("?")[0]](review["request"])
                if answer is None:
                    await asyncio.get_running_loop().create_future()
                if isinstance(answer, dict):
                    body = {key: review[key] for key in ("kind", "apiVersion")}
                    body["response"] = {"uid": review["request"]["uid"], **answer}
                    data = json.dumps(body).encode()
                    answer = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(data), data)
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.transport.abort()

    def hook(self, path: str, handler: Handler | None = None, **more: Any) -> dict[str, Any]:
        """Return a webhook of a configuration that calls `handler` at a path of this server."""
        if handler is not None:
            self.handlers[path] = handler
        return {
            "name": f"{path.strip('/') or 'root'}.example.com",
            "clientConfig": {"url": f"https://127.0.0.1:{self.port}{path}", "caBundle": self.bundle},
            "rules": [RULE],
            "sideEffects": "None",
            "admissionReviewVersions": ["v1"],
            **more,
        }


class WebhookWorld(World):
    """An API server with policies that calls webhooks by URL. hooks: the webhook server."""

    def __init__(self, store: Store, hooks: WebhookServer) -> None:
        super().__init__(store)
        self.hooks = hooks
        self.webhooks = WebhookClient()
        rows, decide = lambda: self.registry.rows, Authorizer(store).decide
        plugins = [
            *builtin_plugins(store),
            *policy_plugins(store, rows, decide),
            *webhook_plugins(store, rows, WebhookCaller(self.webhooks), decide),
        ]
        self.api = Api(store, self.registry, admission=AdmissionChain(plugins))
        self.client = LocalClient(self.api)
        self.app = RestApp(self.api)

    async def configure(self, kind: str, *hooks: dict[str, Any], name: str = "hooks") -> None:
        """Create a webhook configuration. kind: "mutating" or "validating"."""
        body = {"kind": KINDS[kind], "metadata": {"name": name}, "webhooks": list(hooks)}
        reply = await self.send("POST", CONFIGURATIONS.format(kind), body)
        assert reply.status == 201, reply.body


def make_keys(directory: Path) -> pki.Pki:
    return pki.ensure(directory, cluster_name="c", node_names=["n"], node_ips=["127.64.0.2"])


@asynccontextmanager
async def webhook_world(keys: pki.Pki) -> AsyncIterator[WebhookWorld]:
    store = Store.open(None)
    async with WebhookServer().running(keys) as hooks:
        made = WebhookWorld(store, hooks)
        try:
            for name in ("default", "kube-system"):
                await made.namespace(name)
            yield made
        finally:
            await made.webhooks.aclose()
            await store.close()
