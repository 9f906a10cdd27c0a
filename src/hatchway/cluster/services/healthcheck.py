"""Answers load balancers' health checks as kube-proxy does: whether a node has ready endpoints of a Service.

A Service of type LoadBalancer with externalTrafficPolicy Local has a healthCheckNodePort on every node
(pkg/proxy/healthcheck/service_health.go).
"""

from __future__ import annotations

import socket

import msgspec

from hatchway.cluster.services.balancer import Balancer
from hatchway.proxy.acceptloop import AcceptLoop
from hatchway.proxy.routing import RequestHead, Respond
from hatchway.proxy.server import Engine, serve_adopted


def answer(head: RequestHead) -> Respond:
    """Return 200 when the node has a ready endpoint, otherwise 503. It is a routing function."""
    balancer = head.peer.note
    assert isinstance(balancer, Balancer)
    rule = balancer.rule
    namespace, name = rule.key
    count = rule.endpoints.ready(rule.scope)
    body = {
        "service": {"namespace": namespace, "name": name},
        "localEndpoints": count,
        "serviceProxyHealthy": True,
    }
    headers = [
        (b"Content-Type", b"application/json"),
        (b"X-Content-Type-Options", b"nosniff"),
        (b"X-Load-Balancing-Endpoint-Weight", str(count).encode()),
    ]
    return Respond(200 if count else 503, headers, msgspec.json.encode(body))


def open_engine() -> Engine:
    """Return the engine that serves all health checks of a process. Call it in a running event loop."""
    return serve_adopted(answer)


class HealthListener:
    """The health check port of one Service on one node.

    sock: a listening, non-blocking socket, which this object owns.
    engine: serves the connections.
    """

    def __init__(self, balancer: Balancer, sock: socket.socket, engine: Engine) -> None:
        self.balancer = balancer
        self._engine = engine
        self._accepting = AcceptLoop(sock, self._accepted, f"health check of {balancer.rule.service}")

    def close(self) -> None:
        """Stop listening. Idempotent."""
        self._accepting.close()

    abort = close

    def endpoints_changed(self) -> None:
        """Do nothing: the endpoints are counted for each answer."""

    def _accepted(self, sock: socket.socket, _: object) -> None:
        self._engine.adopt(sock, self.balancer)
