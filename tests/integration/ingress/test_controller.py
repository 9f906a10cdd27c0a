"""The ingress controller with the real API server in one process: routes, certificates, statuses and Events."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import datetime
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from hatchway.addons.ingress.controller import CONTROLLER, IngressController
from hatchway.cluster.addonmanifests import ingress as manifests
from hatchway.errors import ApiError
from hatchway.proxy.routing import Forward, Peer, RequestHead, Respond
from tests.integration.api.world import World, world

INGRESSES, CLASSES = "ingresses.networking.k8s.io", "ingressclasses.networking.k8s.io"
SLICES = "endpointslices.discovery.k8s.io"
SERVICE = ("kube-system", manifests.INGRESS)
BALANCER = [{"ip": "127.16.0.1"}]
Json = dict[str, Any]


def pem(name: str) -> tuple[bytes, bytes]:
    """Return a self-signed certificate and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    return certificate.public_bytes(serialization.Encoding.PEM), private


def secret(name: str, certificate: bytes, key: bytes) -> Json:
    data = {"tls.crt": base64.b64encode(certificate).decode(), "tls.key": base64.b64encode(key).decode()}
    return {"metadata": {"name": name, "namespace": "default"}, "type": "kubernetes.io/tls", "data": data}


def ingress(name: str, *hosts: str, service: str = "web", namespace: str = "default", **spec: Any) -> Json:
    backend = {"service": {"name": service, "port": {"number": 80}}}
    http = {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}
    rules = [{"host": host, "http": http} for host in hosts]
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"rules": rules, **spec}}


class Served:
    def __init__(self, api: World, controller: IngressController, default: ssl.SSLContext) -> None:
        self.api = api
        self.client = api.client
        self.controller = controller
        self.default = default

    def answer(self, host: str, path: str = "/") -> int | str:
        """Route a request; return the status of the response, or the address to which the request is forwarded."""
        peer = Peer(("10.0.0.9", 5), "http")
        head = RequestHead("GET", path.encode(), path.encode(), None, [(b"Host", host.encode())], "1.1", peer)
        decision = self.controller.router.route(head)
        if isinstance(decision, Respond):
            return decision.status
        assert isinstance(decision, Forward)
        assert isinstance(decision.upstream.key, tuple)
        return str(decision.upstream.key[0])

    def certificate(self, name: str) -> ssl.SSLContext | None:
        """Return the TLS context for a host name; None for the default certificate."""
        found = self.controller.certificates.choose(name)
        return found if found is not self.default else None

    async def addresses(self, name: str) -> list[Json]:
        found = await self.client.get(INGRESSES, name, "default")
        return list(found["status"]["loadBalancer"].get("ingress") or [])

    async def events(self, name: str) -> list[tuple[str, str]]:
        found = await self.client.list("events", "default")
        return sorted((one["reason"], one["message"]) for one in found if one["involvedObject"]["name"] == name)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while True:
            found = condition()
            if await found if asyncio.iscoroutine(found) else found:
                return
            await asyncio.sleep(0.01)


def own_endpoint(*, ready: bool) -> Json:
    """Return the EndpointSlice of the controller's own Service."""
    labels = {"kubernetes.io/service-name": SERVICE[1]}
    return {
        "metadata": {"name": "own", "namespace": SERVICE[0], "labels": labels},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 8080}],
        "endpoints": [{"addresses": ["10.1.0.9"], "conditions": {"ready": ready}}],
    }


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(ready=True) as found:
        yield found


@contextlib.asynccontextmanager
async def serving(*, ready: bool) -> AsyncIterator[Served]:
    """Run a controller. ready: whether clients reach it by its Service."""
    async with world() as api:
        await api.client.create(SLICES, own_endpoint(ready=ready))
        for resource, obj in manifests.ingress_class():
            await api.client.create(resource, obj)
        service = dict(manifests.manifests())["services"]
        made = await api.client.create("services", service)
        status = {"loadBalancer": {"ingress": [{"ip": "127.16.0.1", "ipMode": "Proxy"}]}}
        await api.client.update("services", {**made, "status": status}, subresource="status")
        ports = [{"port": 80, "targetPort": 8080, "protocol": "TCP"}]
        await api.client.create(
            "services", {"metadata": {"name": "web", "namespace": "default"}, "spec": {"ports": ports}}
        )
        await api.client.create(
            SLICES,
            {
                "metadata": {
                    "name": "web-1",
                    "namespace": "default",
                    "labels": {"kubernetes.io/service-name": "web"},
                },
                "addressType": "IPv4",
                "ports": [{"name": "", "port": 8080}],
                "endpoints": [{"addresses": ["10.1.0.1"]}],
            },
        )
        default = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        controller = IngressController(api.client, SERVICE, default)
        task = asyncio.create_task(controller.run())
        try:
            await asyncio.wait_for(controller.synced.wait(), 20)
            yield Served(api, controller, default)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def test_names_are_those_of_the_cluster() -> None:
    assert CONTROLLER == manifests.CONTROLLER


async def test_ingress_is_served_and_gets_an_address(served: Served) -> None:
    assert served.answer("a.example") == 404
    await served.client.create(INGRESSES, ingress("a", "a.example"))
    await until(lambda: served.answer("a.example") == "10.1.0.1")
    await until(lambda: served.addresses("a"))
    assert await served.addresses("a") == BALANCER
    assert await served.events("a") == []
    await served.client.delete(INGRESSES, "a", "default")
    await until(lambda: served.answer("a.example") == 404)


async def test_endpoints_that_change(served: Served) -> None:
    await served.client.create(INGRESSES, ingress("a", "a.example"))
    await until(lambda: served.answer("a.example") == "10.1.0.1")
    change = {"endpoints": [{"addresses": ["10.1.0.2"]}]}
    await served.client.patch(SLICES, "web-1", change, "default")
    await until(lambda: served.answer("a.example") == "10.1.0.2")
    await served.client.delete("services", "web", "default")
    await until(lambda: served.answer("a.example") == 503)


async def test_address_follows_the_service(served: Served) -> None:
    await served.client.create(INGRESSES, ingress("a", "a.example"))
    await until(lambda: served.addresses("a"))
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "127.16.0.2"}]}}}
    await served.client.patch("services", SERVICE[1], status, SERVICE[0], subresource="status")

    async def moved() -> bool:
        return await served.addresses("a") == [{"ip": "127.16.0.2"}]

    await until(moved)


async def test_ingresses_have_an_address_only_when_the_controller_is_reached_there() -> None:
    async with serving(ready=False) as served:
        await served.client.create(INGRESSES, ingress("a", "a.example"))
        await until(lambda: served.answer("a.example") == "10.1.0.1")
        # If the controller wrote an address for `a`, it would do so before the Event of the next Ingress.
        await served.client.create(INGRESSES, ingress("b", "a.example"))
        await until(lambda: served.events("b"))
        assert await served.addresses("a") == []
        await served.client.update(SLICES, own_endpoint(ready=True))
        await until(lambda: served.addresses("a"))
        # An address that was published is not removed while the controller is replaced.
        await served.client.update(SLICES, own_endpoint(ready=False))
        await served.client.create(INGRESSES, ingress("c", "c.example"))
        await until(lambda: served.addresses("c"))
        assert await served.addresses("a") == BALANCER


async def test_a_status_that_another_writer_changed_is_corrected(served: Served) -> None:
    await served.client.create(INGRESSES, ingress("a", "a.example"))
    await until(lambda: served.addresses("a"))
    status = {"status": {"loadBalancer": {"ingress": [{"ip": "10.9.9.9"}]}}}
    await served.client.patch(INGRESSES, "a", status, "default", subresource="status")

    async def right() -> bool:
        return await served.addresses("a") == BALANCER

    await until(right)


async def test_other_classes_are_left_alone(served: Served) -> None:
    other = {"metadata": {"name": "other"}, "spec": {"controller": "example.com/ingress"}}
    await served.client.create(CLASSES, other)
    await served.client.create(INGRESSES, ingress("a", "a.example", ingressClassName="other"))
    await served.client.create(INGRESSES, ingress("b", "b.example"))
    await until(lambda: served.answer("b.example") == "10.1.0.1")
    assert served.answer("a.example") == 404
    assert await served.addresses("a") == []
    # The Ingress is moved to this controller's class, then to another, and its address is removed from the status.
    await served.client.patch(INGRESSES, "a", {"spec": {"ingressClassName": "hatchway"}}, "default")
    await until(lambda: served.answer("a.example") == "10.1.0.1")
    await until(lambda: served.addresses("a"))
    await served.client.patch(INGRESSES, "a", {"spec": {"ingressClassName": "other"}}, "default")
    await until(lambda: served.answer("a.example") == 404)

    async def taken_back() -> bool:
        return await served.addresses("a") == []

    await until(taken_back)
    # The Ingress is served again when this controller gets a second class.
    await served.client.delete(CLASSES, "other")
    await served.client.create(CLASSES, {"metadata": {"name": "other"}, "spec": {"controller": CONTROLLER}})
    await until(lambda: served.answer("a.example") == "10.1.0.1")


async def test_the_newer_ingress_gets_an_event_about_a_conflict(served: Served) -> None:
    await served.client.create(INGRESSES, ingress("b-old", "a.example"))
    await until(lambda: served.answer("a.example") == "10.1.0.1")
    # If both were created in the same second, the first name wins.
    await served.client.create(INGRESSES, ingress("c-new", "a.example", "b.example", service="missing"))
    await until(lambda: served.answer("b.example") == 503)
    assert served.answer("a.example") == "10.1.0.1"
    await until(lambda: served.events("c-new"))
    assert await served.events("c-new") == [
        ("Conflict", "a.example/ is served by the older Ingress default/b-old"),
    ]
    assert await served.events("b-old") == []
    await served.client.delete(INGRESSES, "b-old", "default")
    await until(lambda: served.answer("a.example") == 503)


async def test_certificates_follow_their_secrets(served: Served) -> None:
    await served.client.create("secrets", secret("one", *pem("one")))
    tls = [{"hosts": ["a.example", "*.a.example"], "secretName": "one"}]
    await served.client.create(INGRESSES, ingress("a", "a.example", tls=tls))
    await until(lambda: served.certificate("a.example"))
    first = served.certificate("a.example")
    assert served.certificate("A.Example.") is served.certificate("x.a.example") is first
    assert served.certificate("x.y.a.example") is served.certificate("b.example") is served.certificate("") is None
    assert await served.events("a") == []
    renewed = secret("one", *pem("one"))
    await served.client.patch("secrets", "one", {"data": renewed["data"]}, "default")
    await until(lambda: served.certificate("a.example") not in (None, first))
    await served.client.delete("secrets", "one", "default")
    await until(lambda: served.certificate("a.example") is None)
    await until(lambda: served.events("a"))
    assert await served.events("a") == [
        (
            "CertificateProblem",
            "Secret one cannot be used for a.example, *.a.example, which get the self-signed default certificate: "
            "it does not exist, or its type is not kubernetes.io/tls",
        )
    ]


async def test_the_use_of_the_default_certificate_is_reported(served: Served) -> None:
    await served.client.create(INGRESSES, ingress("a", "a.example", tls=[{"hosts": ["a.example"]}]))
    await until(lambda: served.events("a"))
    assert await served.events("a") == [
        ("DefaultCertificate", "no Secret is named for a.example: the self-signed default certificate is used")
    ]


# This text has the size of an RSA key of 16384 bits.
LARGE_KEY = b"-----BEGIN PRIVATE KEY-----\n" + base64.encodebytes(b"x" * 9200) + b"-----END PRIVATE KEY-----\n"
ENCRYPTED = b"-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n"


@pytest.mark.parametrize(
    ("certificate", "key", "why"),
    [
        (b"", b"", "the certificate contains no certificate in PEM"),
        (b"\xff\x00", b"x", "the certificate contains no certificate in PEM"),
        (pem("a")[0], b"", "the key contains no private key in PEM"),
        (pem("a")[0], ENCRYPTED, "the key is encrypted"),
        (pem("a")[0], pem("b")[1], "KEY_VALUES_MISMATCH"),
        (b"x" * 300_000, b"", "tls.crt is larger than 256 KiB"),
        (pem("a")[0], LARGE_KEY, "tls.key has more than 8192 bits"),
    ],
)
async def test_broken_secrets(served: Served, certificate: bytes, key: bytes, why: str) -> None:
    await served.client.create("secrets", secret("broken", certificate, key))
    tls = [{"hosts": ["a.example"], "secretName": "broken"}]
    await served.client.create(INGRESSES, ingress("a", "a.example", tls=tls))
    await until(lambda: served.events("a"))
    ((reason, message),) = await served.events("a")
    assert reason == "CertificateProblem"
    assert why in message
    assert served.certificate("a.example") is None
    assert served.answer("a.example") == "10.1.0.1"
    await served.client.patch("secrets", "broken", {"data": secret("", *pem("a"))["data"]}, "default")
    await until(lambda: served.certificate("a.example"))


async def test_certificate_of_another_namespace_is_not_replaced(served: Served) -> None:
    await served.api.namespace("z")
    await served.client.create("secrets", secret("one", *pem("one")))
    stolen = secret("one", *pem("stolen"))
    stolen["metadata"]["namespace"] = "z"
    await served.client.create("secrets", stolen)
    tls = [{"hosts": ["a.example"], "secretName": "one"}]
    await served.client.create(INGRESSES, ingress("a", "a.example", tls=tls))
    await until(lambda: served.certificate("a.example"))
    first = served.certificate("a.example")
    await served.client.create(INGRESSES, ingress("b", "b.example", namespace="z", tls=tls))

    async def told() -> bool:
        return any(one["reason"] == "Conflict" for one in await served.client.list("events", "z"))

    await until(told)
    assert served.certificate("a.example") is first


async def test_thousands_of_rules(served: Served) -> None:
    """While the table of rules is made, the event loop is not blocked, and other requests are routed."""
    backend = {"service": {"name": "web", "port": {"number": 80}}}
    for number in range(8):
        rules = [
            {
                "host": f"h{number}-{index}.example",
                "http": {
                    "paths": [{"path": f"/{step}", "pathType": "Prefix", "backend": backend} for step in range(10)]
                },
            }
            for index in range(300)
        ]
        made = ingress(f"many-{number}")
        made["spec"]["rules"] = rules
        await served.client.create(INGRESSES, made)
    await until(lambda: served.answer("h7-299.example", "/9") == "10.1.0.1")
    assert served.controller.router.table.rules == 8 * 300 * 10
    await until(lambda: served.addresses("many-7"))


async def test_thousands_of_secrets_that_do_not_exist(served: Served) -> None:
    tls = [{"hosts": [f"h{number}.example"], "secretName": f"s{number}"} for number in range(3000)]
    await served.client.create(INGRESSES, ingress("many", "a.example", tls=tls))
    await until(lambda: served.answer("a.example") == "10.1.0.1")
    await until(lambda: served.addresses("many"))

    async def told() -> bool:
        return len(await served.events("many")) == 10

    await until(told)


async def test_deleted_ingress_does_not_stop_the_statuses(served: Served) -> None:
    for number in range(5):
        await served.client.create(INGRESSES, ingress(f"gone-{number}", "a.example"))
        with contextlib.suppress(ApiError):
            await served.client.delete(INGRESSES, f"gone-{number}", "default")
    await served.client.create(INGRESSES, ingress("stays", "a.example"))
    await until(lambda: served.addresses("stays"))
