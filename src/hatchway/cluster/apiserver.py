"""The API server as a whole: it connects store, verbs, authentication, authorization, the proxy verb and listeners."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable

import msgspec

from hatchway.cluster.api.admission.builtin import builtin_plugins, policy_plugins, webhook_plugins
from hatchway.cluster.api.admission.certificates import CertificateAdmission
from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.api.admission.claimstatus import ClaimStatusAdmission
from hatchway.cluster.api.admission.escalation import escalation_check
from hatchway.cluster.api.admission.paramaccess import ParamAccess
from hatchway.cluster.api.admission.webhooks.caller import WebhookCaller
from hatchway.cluster.api.aggregation.aggregator import Aggregator
from hatchway.cluster.api.aggregation.remoteanswers import MetricValueList, PodMetricsList
from hatchway.cluster.api.connect.endpointslices import IndexedObjects
from hatchway.cluster.api.connect.firststart import FirstStart
from hatchway.cluster.api.connect.handler import Backend
from hatchway.cluster.api.connect.proxyverb import Rewriting
from hatchway.cluster.api.connect.resourcelocation import DialBackend, Locator
from hatchway.cluster.api.connect.webhookclient import WebhookClient
from hatchway.cluster.api.definitions.customtypes import CustomTypes
from hatchway.cluster.api.definitions.definitioncontroller import DefinitionController
from hatchway.cluster.api.definitions.policystatus import PolicyStatusController
from hatchway.cluster.api.describe.documents import ServedDocument
from hatchway.cluster.api.http import metrics
from hatchway.cluster.api.http.connectroutes import ConnectRoutes
from hatchway.cluster.api.http.filters import WITHOUT_RIGHTS, Filters
from hatchway.cluster.api.http.health import store_health
from hatchway.cluster.api.http.metrics import RequestMetrics
from hatchway.cluster.api.http.nonresource import NonResource
from hatchway.cluster.api.http.restapp import RestApp
from hatchway.cluster.api.http.servicemetrics import ServiceMetrics
from hatchway.cluster.api.operations.local import LocalClient
from hatchway.cluster.api.operations.verbs import AccessCheck, Api
from hatchway.cluster.api.registry.custom.conversionwebhooks import ConversionWebhooks
from hatchway.cluster.api.registry.strategies.events import prune_forever
from hatchway.cluster.api.registry.types import Registry, rows_for, stored_rows
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.auth import bootstrap
from hatchway.cluster.auth.audit import AuditLog
from hatchway.cluster.auth.authenticators import Authenticator
from hatchway.cluster.auth.flowdefaults import flow_objects
from hatchway.cluster.auth.pki import Pki
from hatchway.cluster.auth.rbac import Authorizer
from hatchway.cluster.auth.reviews import Reviews
from hatchway.cluster.auth.user import UserInfo
from hatchway.cluster.componentstatus import ComponentStatuses
from hatchway.cluster.controllers.clusterobjects import ensure_bootstrap
from hatchway.cluster.controllers.ensure import ensure_each
from hatchway.cluster.controllers.servedtypes import ServedType, ServedTypes
from hatchway.cluster.firstuse import FirstUseStarts
from hatchway.cluster.sockets import PodNetworks
from hatchway.cluster.state import StateDir
from hatchway.kube.api import Client, Object
from hatchway.kube.http import HttpClient
from hatchway.proxy.limits import Limits
from hatchway.proxy.pool import Pool
from hatchway.proxy.server import Server, serve

_METRICS = ("metrics.k8s.io", "v1beta1")
_AUTOSCALER = UserInfo(
    "system:serviceaccount:kube-system:horizontal-pod-autoscaler",
    ("system:serviceaccounts", "system:serviceaccounts:kube-system", "system:authenticated"),
)


def served_types(registry: Registry) -> ServedTypes:
    """Return the types of a registry, for the controllers. The result follows changes of the registry."""

    def stored() -> dict[tuple[str, str], ServedType]:
        found = stored_rows(registry.rows)
        return {key: ServedType(row.group_resource, row.namespaced) for key, row in found.items()}

    types = ServedTypes(stored())
    registry.subscribe(lambda: types.replace(stored()))
    return types


def access_check(authorizer: Authorizer, store: Store, registry: Registry) -> AccessCheck:
    """Return a check of objects that could give users more rights: RBAC objects, and policies with parameters."""
    params = ParamAccess(authorizer, store, lambda: registry.rows)

    def check(
        user: UserInfo, resource: str, namespace: str, obj: Object, old: Object | None
    ) -> Callable[[], None] | None:
        if params.handles(resource):
            params.check(user, resource, obj, old)
            return None
        return escalation_check(authorizer, user, resource, namespace, obj, old)

    return check


class ApiServer:
    """One API server. Make it in a running event loop, and call `close` at the end.

    Args:
        dial: connects into the cluster's network.
        pod_networks: the networks of pods; None when only kubelets can reach pods.
        allow_loopback_pods: True if pods have loopback addresses, because the cluster has no network of its own.
        address: host:port at which pods reach the API server, for the answer of `/api`.
        rewriting: the mode in which the proxy verb rewrites responses.
        no_policies: why network policies are not enforced; "" when they are.

    Attributes:
        client: a client in this process.
        types: the types that are stored.
        components: the health of the control plane.

    Raises:
        HatchwayError: the store or a credentials file cannot be read.
    """

    def __init__(
        self,
        state: StateDir,
        store: Store,
        certificates: Pki,
        *,
        dial: DialBackend,
        pod_networks: PodNetworks | None = None,
        allow_loopback_pods: bool,
        address: str = "",
        rewriting: Rewriting = "full",
        no_policies: str = "",
    ) -> None:
        registry = Registry(rows_for(loopback=allow_loopback_pods, no_policies=no_policies))
        self._webhooks = WebhookClient()
        self._conversions = ConversionWebhooks(self._webhooks)
        self._custom_types = CustomTypes(store, registry, self._conversions)
        self.types = served_types(registry)
        objects = IndexedObjects(store)
        services = ServiceMetrics(lambda namespace, name: objects.get("services", namespace, name) is not None)
        self._metrics = RequestMetrics(registry.rows, services)
        registry.subscribe(lambda: self._metrics.set_rows(registry.rows))
        self._store = store
        self._authorizer = Authorizer(store)
        self._authenticator = Authenticator(certificates, state.tokens_file, state.basic_file, store)
        self._audit = AuditLog(state.audit_file)
        registry.virtual.update(Reviews(self._authenticator, self._authorizer, store).handlers)
        self.components = ComponentStatuses(store)
        registry.computed["componentstatuses"] = self.components.objects
        self.api = Api(
            store,
            registry,
            access_check(self._authorizer, store, registry),
            self._authorizer.require,
            AdmissionChain(
                [
                    *builtin_plugins(store),
                    CertificateAdmission(self._authorizer),
                    ClaimStatusAdmission(self._authorizer),
                    *policy_plugins(store, lambda: registry.rows, self._authorizer.decide),
                    *webhook_plugins(
                        store, lambda: registry.rows, WebhookCaller(self._webhooks), self._authorizer.decide
                    ),
                ]
            ),
        )
        self.client: Client = LocalClient(self.api)
        self.scheduling: Client = LocalClient(self.api, manager="kube-scheduler")
        kubelet_tls = certificates.client_context(certificates.pair("apiserver-kubelet-client"))
        self._starts = FirstUseStarts(self.client, time.monotonic)
        first_start = FirstStart(objects, self._starts.report)
        locator = Locator(
            lookup=objects,
            dial=dial,
            kubelet_tls=kubelet_tls,
            allow_loopback_pods=allow_loopback_pods,
            first_start=first_start,
        )
        self._webhooks.locator = locator
        self._http = HttpClient()
        backend = Backend(objects, locator, rewriting, pod_networks, self._http)
        nonresource = NonResource(registry, store_health(store), server_address=address, documents=self._documents())
        # The API groups of other servers, such as metrics.k8s.io.
        self.aggregator = Aggregator(
            store,
            objects,
            locator,
            self.client,
            served=lambda: ((row.group, row.version) for row in registry.rows),
            certificate=certificates.front_proxy_client.cert,
            key=certificates.front_proxy_client.key,
            publish=nonresource.set_remote,
        )
        registry.subscribe(self.aggregator.update_local)
        self._definitions = DefinitionController(store, self.client, self._custom_types.prepare)
        self._policy_status = PolicyStatusController(
            store, LocalClient(self.api, manager="validatingadmissionpolicy-status"), lambda: registry.rows
        )
        self._request_header_ca = certificates.front_proxy_ca.cert.read_text()
        self._client_ca = certificates.ca_pem.decode()
        rights = store.count_changes(WITHOUT_RIGHTS)
        application = RestApp(self.api, nonresource, first_start.wait_for_port_forward)
        self.filters = Filters(
            authenticator=self._authenticator,
            authorizer=self._authorizer,
            connections=ConnectRoutes(registry.rows, lambda connect: connect.make(backend)),
            app=application,
            aggregator=self.aggregator,
            revision=lambda: store.revision,
            rights_revision=lambda: rights.value,
            log=self._audit,
            metrics=self._metrics,
            admission=self.api.admission,
            plain_reads=application.plain_reads,
        )
        limits = Limits()
        self._pool = Pool(limits)
        self._tls = certificates.server_context()
        self._servers: list[Server] = []
        self._pruning = asyncio.get_running_loop().create_task(prune_forever(store), name="old events")

    def _documents(self) -> dict[str, Callable[[], ServedDocument]]:
        """Return the documents at fixed paths: keys for verifying service-account tokens, and metrics."""
        tokens = self._authenticator.service_accounts
        return {
            "/.well-known/openid-configuration": lambda: ServedDocument.of(tokens.openid_configuration()),
            "/openid/v1/jwks": lambda: ServedDocument.of(tokens.jwks(), "application/jwk-set+json"),
            "/metrics": self._metrics_document,
        }

    def _metrics_document(self) -> ServedDocument:
        conversions = "".join(f"{line}\n" for line in self._conversions.metrics.lines())
        return ServedDocument(self._metrics.text() + conversions.encode(), metrics.CONTENT_TYPE)

    async def bootstrap(self, api_ip: str, api_port: int) -> list[str]:
        """Create or update the objects that every cluster has. api_ip: the address behind 10.96.0.1.

        Returns messages about objects that could not be made.
        """
        problems = await ensure_bootstrap(self.client, api_ip, api_port)
        # The objects do not depend on each other, and the store commits simultaneous writes together.
        objects = [
            *bootstrap.bootstrap_objects(),
            *flow_objects(),
            *bootstrap.extension_authentication(self._client_ca, self._request_header_ca),
        ]
        found = await asyncio.gather(
            self.aggregator.ensure_local(), *(ensure_each(self.client, [one]) for one in objects)
        )
        self.aggregator.start()
        self._definitions.start()
        self._policy_status.start()
        return [*problems, *(problem for some in found for problem in some)]

    async def pod_metrics(self, namespace: str) -> list[Object]:
        """Return the PodMetrics of a namespace, for the controller of autoscalers. Raises ApiError 503."""
        path = f"/namespaces/{namespace}/pods"
        what = "pods.metrics.k8s.io"
        found = await self.aggregator.get_answer(*_METRICS, path, _AUTOSCALER, PodMetricsList, what)
        return [msgspec.to_builtins(one) for one in found.items or ()]

    def versions(self, group: str) -> list[str] | None:
        """Return the available versions of a remote API group (`controllers.metricsapis.MetricsApis`)."""
        return self.aggregator.versions(group)

    async def values(self, group: str, version: str, path: str, what: str) -> list[Object]:
        """Return the values of a metric, for the controller of autoscalers. Raises ApiError."""
        found = await self.aggregator.get_answer(group, version, path, _AUTOSCALER, MetricValueList, what)
        return [msgspec.to_builtins(one) for one in found.items or ()]

    async def listen(self, sock: socket.socket, limits: Limits | None = None) -> None:
        """Serve HTTPS on a bound socket. Call this once for each socket."""
        self._servers.append(await serve(self.filters.route, sock=sock, ssl=self._tls, pool=self._pool, limits=limits))

    async def close(self, grace: float) -> None:
        """Stop listening, end watches, wait up to `grace` seconds for other exchanges, and write all data to disk."""
        self._starts.close()
        self._store.end_watches()
        self._custom_types.close()
        await self._definitions.aclose()
        await self._policy_status.aclose()
        await self.aggregator.aclose()
        await self._conversions.aclose()
        await self._webhooks.aclose()
        await asyncio.gather(*(server.close(grace) for server in self._servers))
        await self._http.aclose()
        self._pruning.cancel()
        await asyncio.wait({self._pruning})
        self._pool.close()
        self._authorizer.close()
        self._authenticator.close()
        self._audit.close()
        await self._store.close()
