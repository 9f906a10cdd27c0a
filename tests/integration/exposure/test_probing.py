"""`--probe` against real sockets: its findings, its requests, and the addresses that it does not contact."""

from __future__ import annotations

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from hatchway.exposure import probing
from hatchway.exposure.answers import ProbeAnswer
from hatchway.exposure.findings import Exposure, Location
from hatchway.exposure.probing import Prober

Reply = Callable[[bytes], bytes]


def html(body: str, *fields: str, status: str = "200 OK") -> bytes:
    head = [f"HTTP/1.1 {status}", "Content-Type: text/html", f"Content-Length: {len(body)}", *fields]
    return ("\r\n".join(head) + "\r\n\r\n" + body).encode()


class World:
    """Servers on ports of this machine, and the heads of their requests."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.connections = 0
        self._servers: list[asyncio.Server] = []

    async def serve(self, reply: Reply | bytes, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> int:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            self.connections += 1
            try:
                head = await reader.readuntil(b"\r\n\r\n")
                self.requests.append(head)
                writer.write(reply(head) if callable(reply) else reply)
                await writer.drain()
            except (asyncio.IncompleteReadError, ConnectionError, asyncio.LimitOverrunError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(handle, host, 0, ssl=tls)
        self._servers.append(server)
        return int(server.sockets[0].getsockname()[1])

    async def close(self) -> None:
        for server in self._servers:
            server.close()
            await server.wait_closed()


@pytest.fixture
async def world() -> AsyncIterator[World]:
    found = World()
    yield found
    await found.close()


def tls_context(directory: Path, days: int = 10) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=20))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("shop.example")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    file = directory / "tls.pem"
    no_password = serialization.NoEncryption()
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, no_password)
    file.write_bytes(text + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def ask(*locations: Location, on_this_machine: bool = True, **more: object) -> list[ProbeAnswer]:
    way = Exposure("Service", "shop", "web", "LoadBalancer", locations, "internet")
    found = await Prober(on_this_machine=on_this_machine, **more).probe([way])  # type: ignore[arg-type]
    answers: list[ProbeAnswer] = list(found[0].answers)  # type: ignore[arg-type]
    return answers


def at(port: int, host: str = "", tls: bool | None = None, address: str = "127.0.0.1") -> Location:
    return Location(address, port, host=host, tls=tls)


async def test_one_request_without_credentials(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    port = await world.serve(html("<title>Hello</title>"))
    (answer,) = await ask(at(port), at(port))
    assert (answer.kind, answer.tls) == ("page", False)
    assert '"Hello"' in str(answer)
    (head,) = world.requests
    lines = head.decode().split("\r\n")
    assert lines[0] == "GET / HTTP/1.1"
    assert f"Host: 127.0.0.1:{port}" in lines
    assert not any(line.lower().startswith(("authorization", "cookie", "proxy")) for line in lines)


async def test_tls_is_found_on_any_port_with_its_certificate(world: World, tmp_path: Path) -> None:
    port = await world.serve(html("x"), tls_context(tmp_path))
    (answer,) = await ask(at(port, host="shop.example"))
    assert (answer.kind, answer.tls) == ("page", True)
    assert answer.certificate is not None
    assert (answer.certificate.names, answer.certificate.issuer) == (("shop.example",), "Test CA")
    assert b"Host: shop.example" in world.requests[0]
    assert len(world.requests) == 1


async def test_an_expired_certificate_is_a_finding(world: World, tmp_path: Path) -> None:
    port = await world.serve(html("x"), tls_context(tmp_path, days=-1))
    way = Exposure("Service", "shop", "web", "LoadBalancer", (at(port, tls=True),), "internet")
    (found,) = await Prober(on_this_machine=True).probe([way])
    assert "bad-certificate" in {issue.rule for issue in found.issues}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the timeout: the servers of these tests do not answer a TLS handshake."""
    monkeypatch.setattr(probing, "_TRY_SECONDS", 0.5)


@pytest.mark.usefixtures("impatient")
async def test_http_where_tls_was_expected(world: World) -> None:
    port = await world.serve(html("x", status="401 Unauthorized"))
    (answer,) = await ask(at(port, tls=True))
    assert (answer.kind, answer.tls) == ("login", False)


@pytest.mark.usefixtures("impatient")
async def test_servers_that_say_that_they_want_tls(world: World) -> None:
    """If a server answers plain HTTP only to demand TLS, as in Go, that answer is not a page of the application."""
    text = "Client sent an HTTP request to an HTTPS server."
    port = await world.serve(html(text, status="400 Bad Request"))
    (answer,) = await ask(at(port))
    assert answer.kind == "no-http"


async def test_redirects_are_followed_at_the_same_address_only(world: World) -> None:
    elsewhere = await world.serve(html("elsewhere"))

    def reply(head: bytes) -> bytes:
        if head.startswith(b"GET / "):
            return html("", "Location: /ui/", status="302 Found")
        if head.startswith(b"GET /ui/ "):
            return html("", f"Location: http://127.0.0.1:{elsewhere}/secret", status="302 Found")
        return html("unexpected")

    port = await world.serve(reply)
    (answer,) = await ask(at(port))
    assert answer.kind == "other"
    assert answer.told.startswith(f"redirects to http://127.0.0.1:{elsewhere}/secret")
    assert [head.split()[1] for head in world.requests] == [b"/", b"/ui/"]


async def test_redirects_to_invalid_urls_are_not_followed(world: World) -> None:
    port = await world.serve(lambda head: html("", "Location: http://[::", status="302 Found"))
    (answer,) = await ask(at(port))
    assert answer.kind == "other"


async def test_redirects_in_a_circle_end(world: World) -> None:
    port = await world.serve(lambda head: html("", f"Location: {head.split()[1].decode()}x", status="302 Found"))
    (answer,) = await ask(at(port))
    assert answer.kind == "other"
    assert len(world.requests) == 3


async def test_long_and_hostile_answers_are_bounded(world: World) -> None:
    endless = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<title>\x1b[2J\n" + b"x" * (8 << 20)
    port = await world.serve(endless)
    (answer,) = await ask(at(port))
    assert answer.kind == "page"
    broken = await world.serve(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n<p>")
    assert (await ask(at(broken)))[0].kind == "page"


@pytest.mark.usefixtures("impatient")
async def test_servers_that_do_not_speak_http(world: World) -> None:
    port = await world.serve(b"-ERR unknown command\r\n")
    (answer,) = await ask(at(port))
    assert (answer.kind, answer.told) == ("no-http", "accepts connections, and does not speak HTTP")


async def test_an_unreachable_address_is_not_called_safe(world: World) -> None:
    port = await world.serve(b"")
    await world.close()
    (answer,) = await ask(at(port))
    assert answer.kind == "unreachable"
    assert "cannot be reached from this machine: " in answer.told


async def test_addresses_of_this_machine_are_not_contacted(world: World) -> None:
    port = await world.serve(html("private"))

    async def resolve(host: str, port: int) -> list[str]:
        return {"rebound.example": ["127.0.0.1"]}.get(host, [host])

    for address in ("127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "0.0.0.0", "rebound.example"):
        (answer,) = await ask(at(port, address=address), on_this_machine=False, resolve=resolve)
        assert answer.kind == "unasked", address
    for address in ("169.254.169.254", "0.0.0.0", "fe80::1", "fd00:ec2::254", "100.100.100.200"):
        (answer,) = await ask(at(port, address=address), resolve=resolve)
        assert answer.kind == "unasked", address
    assert world.connections == 0


async def test_loopback_addresses_of_nodes_are_not_contacted(world: World) -> None:
    port = await world.serve(html("mine"))
    way = Exposure("Pod", "shop", "p", "hostPort", (at(port),), "machine", "machine")
    (found,) = await Prober(on_this_machine=True).probe([way])
    assert found.answers == ()
    assert world.connections == 0


async def test_names_that_would_change_the_request_are_not_contacted(world: World) -> None:
    port = await world.serve(html("x"))
    for host in ("a\r\nX-Evil: 1", "a b", "http://x/", "x:1"):
        (answer,) = await ask(at(port, host=host))
        assert answer.kind == "unasked", host
    assert world.connections == 0


async def test_only_one_address_of_each_port_is_contacted(world: World) -> None:
    port = await world.serve(html("x"))
    answers = await ask(at(port), at(port, address="127.0.0.2"), Location("127.0.0.1", port, "UDP"))
    assert len(answers) == 1
    assert world.connections == 1
