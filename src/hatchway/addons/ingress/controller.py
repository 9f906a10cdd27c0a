"""Watches the cluster, and updates routes, certificates, statuses and Events."""

from __future__ import annotations

import asyncio
import ssl

from hatchway.addons.ingress.backends import Backends
from hatchway.addons.ingress.certificates import CertificateStore
from hatchway.addons.ingress.hostroutes import MAX_RULES, RouteTable
from hatchway.addons.ingress.ingressrouter import IngressRouter
from hatchway.addons.ingress.ingressrules import MAX_PATH, ParsedIngress, class_of, parse_ingress
from hatchway.addons.ingress.reports import INGRESSES, AddressWriter, IngressProblem, ProblemReporter
from hatchway.kube.api import Client, Object
from hatchway.kube.events import EventRecorder
from hatchway.kube.informer import Informer
from hatchway.kube.objects import Key, endpoint_is_ready, key_of
from hatchway.kube.wellknown import SERVICE_NAME

__all__ = ["CONTROLLER", "IngressController"]

# The controller's name in IngressClasses, and in Events.
CONTROLLER = "hatchway.dev/ingress"
_COMPONENT = "hatchway-ingress"
# Seconds in which changes are collected before the table is made again.
_COLLECT = 0.02
# How many rules are added to a table in one iteration of the event loop.
_RULES_AT_ONCE = 500
# How many certificates are loaded in one iteration of the event loop, and the maximum number of problems that are
# reported for one Ingress.
_CERTIFICATES_AT_ONCE = 20
_MAX_PROBLEMS = 10
# The maximum number of hosts with a certificate.
_MAX_TLS_HOSTS = 50_000


class IngressController:
    """Serves the Ingresses of the classes whose controller is CONTROLLER.

    service: the Service by which clients reach this program. Its load balancer's addresses are published in Ingresses
        as soon as the Service has a ready endpoint.

    Attributes:
        router: routes the requests of this program's listeners. certificates: chooses their certificates.
        synced: set when requests can be routed.
    """

    def __init__(self, client: Client, service: Key, default_tls: ssl.SSLContext) -> None:
        self._client = client
        self._service = service
        self._ingresses = Informer(client, INGRESSES)
        self._classes = Informer(client, "ingressclasses.networking.k8s.io")
        self._services = Informer(client, "services")
        self._slices = Informer(client, "endpointslices.discovery.k8s.io")
        self._secrets = Informer(client, "secrets", field_selector="type=kubernetes.io/tls")
        self._backends = Backends(self._services.items)
        self.router = IngressRouter(self._backends)
        self.certificates = CertificateStore(self._secrets.items, default_tls)
        self.synced = asyncio.Event()
        self._recorder = EventRecorder(client, _COMPONENT)
        self._reporter = ProblemReporter(self._recorder)
        self._addresses = AddressWriter(client, self._ingresses.items)
        self._parsed: dict[Key, tuple[tuple[str, int], ParsedIngress]] = {}
        self._classes_of: dict[Key, str] = {}
        self._used_secrets: set[Key] = set()
        self._dirty = asyncio.Event()
        self._reachable = asyncio.Event()
        self._ingresses.subscribe(self._ingress_changed)
        self._classes.subscribe(lambda _kind, _object: self._dirty.set())
        self._services.subscribe(self._service_changed)
        self._slices.subscribe(self._slice_changed)
        self._secrets.subscribe(self._secret_changed)

    async def run(self) -> None:
        """Watch the cluster until cancelled. Raises an ExceptionGroup of ApiError when watching is not allowed."""
        informers = (self._ingresses, self._classes, self._services, self._slices, self._secrets)
        try:
            async with asyncio.TaskGroup() as group:
                for informer in informers:
                    group.create_task(informer.run(), name=f"watch {informer.resource}")
                for informer in informers:
                    await informer.synced()
                await self._rebuild()
                self.synced.set()
                group.create_task(self._write_addresses(), name="statuses")
                while True:
                    await self._dirty.wait()
                    await asyncio.sleep(_COLLECT)
                    await self._rebuild()
        finally:
            await self._recorder.aclose()

    def _ingress_changed(self, kind: str, ingress: Object) -> None:
        key = key_of(ingress)
        if kind == "DELETED":
            self._parsed.pop(key, None)
            self._classes_of.pop(key, None)
            self._dirty.set()
            return
        version, name = _version(ingress), class_of(ingress)
        known = self._parsed.get(key)
        # A change of only the status, such as this program makes, changes no route.
        if known is None or known[0] != version or self._classes_of.get(key) != name:
            self._parsed[key] = (version, parse_ingress(ingress))
            self._classes_of[key] = name
            self._dirty.set()
        self._addresses.check(key)

    def _service_changed(self, kind: str, service: Object) -> None:
        self._backends.service_changed(kind, service)
        if key_of(service) == self._service:
            self._publish()

    def _slice_changed(self, kind: str, piece: Object) -> None:
        self._backends.slice_changed(kind, piece)
        labels = piece["metadata"].get("labels") or {}
        owner = (key_of(piece)[0], str(labels.get(SERVICE_NAME) or ""))
        if kind != "DELETED" and owner == self._service and any(map(endpoint_is_ready, piece.get("endpoints") or ())):
            self._reachable.set()

    async def _write_addresses(self) -> None:
        # Clients that wait for an address use it at once, so the listeners must be open. They are open when this
        # program is a ready endpoint of the Service.
        await self._reachable.wait()
        await self._addresses.run()

    def _publish(self) -> None:
        service = self._services.items.get(self._service) or {}
        found = ((service.get("status") or {}).get("loadBalancer") or {}).get("ingress") or ()
        kept = [{name: one[name] for name in ("ip", "hostname") if one.get(name)} for one in found]
        self._addresses.use_addresses([one for one in kept if one])

    def _secret_changed(self, _kind: str, secret: Object) -> None:
        if key_of(secret) in self._used_secrets:
            self._dirty.set()

    def _served(self) -> list[ParsedIngress]:
        """Return the Ingresses of the program's classes, the oldest first."""
        names = {key[1] for key, one in self._classes.items.items() if _controller_of(one) == CONTROLLER}
        found = [parsed for key, (_, parsed) in self._parsed.items() if self._classes_of[key] in names]
        return sorted(found, key=lambda one: one.age)

    async def _rebuild(self) -> None:
        """Make new tables from all Ingresses, in several iterations of the event loop, and use them."""
        self._dirty.clear()
        served = self._served()
        table = RouteTable()
        tls = _TlsHosts(self.certificates)
        problems: dict[Key, set[IngressProblem]] = {}
        work = 0
        for ingress in served:
            table.add(ingress)
            problems[ingress.key] = await tls.add(ingress)
            if ingress.ignored:
                text = f"{ingress.ignored} paths are longer than {MAX_PATH} bytes and are not served"
                problems[ingress.key].add(IngressProblem("PathTooLong", text))
            work += 1 + len(ingress.rules)
            if work >= _RULES_AT_ONCE:
                work = 0
                await asyncio.sleep(0)
        for key, conflict in table.conflicts.items():
            winner = "/".join(conflict.winner)
            more = f", and {conflict.count - 1} more rules of this Ingress" if conflict.count > 1 else ""
            text = f"{conflict.rule} is served by the older Ingress {winner}{more}"
            problems[key].add(IngressProblem("Conflict", text))
        for key in table.cut:
            text = f"all Ingresses together have more than {MAX_RULES} paths; the newest are not served"
            problems[key].add(IngressProblem("TooManyRules", text))
        self.router.use(table)
        self.certificates.use(tls.contexts, tls.used)
        self._used_secrets = tls.used
        self._report(problems)
        self._addresses.use_served(set(problems))

    def _report(self, problems: dict[Key, set[IngressProblem]]) -> None:
        items = self._ingresses.items
        self._reporter.report((items[key], found) for key, found in problems.items() if key in items)


class _TlsHosts:
    """The certificates for hosts, from all Ingresses. Add the Ingresses one by one, the oldest first.

    Attributes:
        contexts: the context of each host.
        used: the Secrets that Ingresses name.
    """

    def __init__(self, store: CertificateStore) -> None:
        self.contexts: dict[str, ssl.SSLContext] = {}
        self.used: set[Key] = set()
        self._store = store
        self._owners: dict[str, tuple[Key, Key]] = {}

    async def add(self, ingress: ParsedIngress) -> set[IngressProblem]:
        """Add the hosts of an Ingress, in several iterations of the event loop, and return its problems."""
        problems: set[IngressProblem] = set()
        for index, (hosts, secret) in enumerate(ingress.tls):
            if index % _CERTIFICATES_AT_ONCE == _CERTIFICATES_AT_ONCE - 1:
                await asyncio.sleep(0)
            found = self._add_entry(ingress, hosts, secret)
            problems.update(found[: _MAX_PROBLEMS - len(problems)])
        return problems

    def _add_entry(self, ingress: ParsedIngress, hosts: tuple[str, ...], secret: str) -> list[IngressProblem]:
        problems = []
        key, context = ("", ""), None
        if not secret:
            text = f"no Secret is named for {_some(hosts)}: the self-signed default certificate is used"
            problems.append(IngressProblem("DefaultCertificate", text, "Normal"))
        else:
            key = (ingress.key[0], secret)
            self.used.add(key)
            loaded = self._store.load(key)
            context = loaded.context
            if context is None:
                text = (
                    f"Secret {secret} cannot be used for {_some(hosts)}, which get the self-signed default "
                    f"certificate: {loaded.problem}"
                )
                problems.append(IngressProblem("CertificateProblem", text))
        refused = [host for host in hosts if not self._claim(ingress.key, host, key, context)]
        if refused:
            winner = "/".join(self._owners[refused[0]][0])
            text = f"the certificate for {_some(tuple(refused))} is the one of the older Ingress {winner}"
            problems.append(IngressProblem("Conflict", text))
        return problems

    def _claim(self, ingress: Key, host: str, secret: Key, context: ssl.SSLContext | None) -> bool:
        """Use a certificate for a host. Return False when an older Ingress has another certificate for the host."""
        if host not in self._owners:
            if len(self._owners) < _MAX_TLS_HOSTS:
                self._owners[host] = (ingress, secret)
                if context is not None:
                    self.contexts[host] = context
            return True
        owner, owned = self._owners[host]
        return owner == ingress or owned == secret


def _controller_of(ingress_class: Object) -> str:
    return str((ingress_class.get("spec") or {}).get("controller") or "")


def _version(ingress: Object) -> tuple[str, int]:
    metadata = ingress["metadata"]
    return str(metadata.get("uid") or ""), int(metadata.get("generation") or 0)


def _some(hosts: tuple[str, ...]) -> str:
    """Return the first three hosts and the number of the others, in words."""
    if not hosts:
        return "its hosts"
    return ", ".join(hosts[:3]) + (f" and {len(hosts) - 3} more" if len(hosts) > 3 else "")
