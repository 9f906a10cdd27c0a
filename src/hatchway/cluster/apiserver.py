"""The API server put together: store, verbs, authentication and authorization, the proxy verb, listeners."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial

from hatchway.cluster.api import metrics
from hatchway.cluster.api.app import RestApp
from hatchway.cluster.api.documents import Document
from hatchway.cluster.api.filters import Filters
from hatchway.cluster.api.health import store_health
from hatchway.cluster.api.local import LocalClient
from hatchway.cluster.api.metrics import Metrics
from hatchway.cluster.api.nonresource import NonResource
from hatchway.cluster.api.podlog import PodLog
from hatchway.cluster.api.proxyverb import ProxyVerb, Rewriting
from hatchway.cluster.api.registry import ROWS, Registry, loopback_rows
from hatchway.cluster.api.resourcelocation import Dial
from hatchway.cluster.api.rest import Api
from hatchway.cluster.api.store import Store
from hatchway.cluster.api.strategies.events import prune_forever
from hatchway.cluster.auth import bootstrap
from hatchway.cluster.auth.audit import AuditLog
from hatchway.cluster.auth.authenticators import Authenticator
from hatchway.cluster.auth.escalation import check_escalation
from hatchway.cluster.auth.noderestriction import NodeRestriction
from hatchway.cluster.auth.pki import Pki
from hatchway.cluster.auth.rbac import Rbac
from hatchway.cluster.auth.reviews import Reviews
from hatchway.cluster.controllers.bootstrap import ensure_bootstrap
from hatchway.cluster.controllers.ensure import ensure_each
from hatchway.cluster.state import StateDir
from hatchway.kube.api import Client
from hatchway.proxy.limits import Limits
from hatchway.proxy.server import Server, serve
from hatchway.proxy.upstream import Pool


class ApiServer:
    """One API server. `client` is its in-process client. Make it in an event loop; `close` it.

    dial: connects into the cluster's network. allow_loopback_pods: the cluster has no network of its own.
    address: host:port where pods reach it, which `/api` tells. rewriting: what the proxy verb does to answers.
    Raises HatchwayError when the store or a credentials file cannot be read.
    """

    def __init__(
        self,
        state: StateDir,
        store: Store,
        certificates: Pki,
        *,
        dial: Dial,
        allow_loopback_pods: bool,
        address: str = "",
        rewriting: Rewriting = "full",
    ) -> None:
        registry = Registry(loopback_rows() if allow_loopback_pods else ROWS)
        self._metrics = Metrics(registry.rows)
        self._store = store
        self._rbac = Rbac(store)
        self._authenticator = Authenticator(certificates, state.tokens_file, state.basic_file, store)
        self._audit = AuditLog(state.audit_file)
        registry.virtual.update(Reviews(self._authenticator, self._rbac, store).handlers)
        self.api = Api(
            store, registry, partial(check_escalation, self._rbac), self._rbac.require, NodeRestriction(store).admit
        )
        self.client: Client = LocalClient(self.api)
        kubelet_tls = certificates.client_context(certificates.pair("apiserver-kubelet-client"))
        proxy = ProxyVerb(
            lookup=store,
            dial=dial,
            kubelet_tls=kubelet_tls,
            allow_loopback_pods=allow_loopback_pods,
            rewriting=rewriting,
        )
        nonresource = NonResource(registry, store_health(store), server_address=address, documents=self._documents())
        self.filters = Filters(
            authenticator=self._authenticator,
            rbac=self._rbac,
            proxy=proxy,
            logs=PodLog(lookup=store, locator=proxy.locator),
            app=RestApp(self.api, nonresource),
            revision=lambda: store.revision,
            log=self._audit,
            metrics=self._metrics,
        )
        limits = Limits()
        self._pool = Pool(limits)
        self._tls = certificates.server_context()
        self._servers: list[Server] = []
        self._pruning = asyncio.get_running_loop().create_task(prune_forever(store), name="old events")

    def _documents(self) -> dict[str, Callable[[], Document]]:
        """Documents under paths of their own: how tokens of service accounts are verified elsewhere, and metrics."""
        tokens = self._authenticator.service_accounts
        return {
            "/.well-known/openid-configuration": lambda: Document.of(tokens.openid_configuration()),
            "/openid/v1/jwks": lambda: Document.of(tokens.jwks(), "application/jwk-set+json"),
            "/metrics": lambda: Document(self._metrics.text(), metrics.CONTENT_TYPE),
        }

    async def bootstrap(self, api_ip: str, api_port: int) -> list[str]:
        """Make the objects that every cluster has, or bring them up to date. api_ip: the address behind 10.96.0.1.

        Returns what could not be made, for people.
        """
        problems = await ensure_bootstrap(self.client, api_ip, api_port)
        # Nothing among them depends on another, and writes that wait together reach the disk together.
        found = await asyncio.gather(*(ensure_each(self.client, [one]) for one in bootstrap.bootstrap_objects()))
        return [*problems, *(problem for some in found for problem in some)]

    async def listen(self, sock: socket.socket) -> None:
        """Serve HTTPS on a bound socket, beside those that are served already."""
        self._servers.append(await serve(self.filters.route, sock=sock, ssl=self._tls, pool=self._pool))

    async def close(self, grace: float) -> None:
        """Stop listening, end watches, let other exchanges finish for up to `grace` seconds, bring everything to disk."""
        self._store.end_watches()
        await asyncio.gather(*(server.close(grace) for server in self._servers))
        self._pruning.cancel()
        await asyncio.wait({self._pruning})
        self._pool.close()
        self._rbac.close()
        self._authenticator.close()
        self._audit.close()
        await self._store.close()
