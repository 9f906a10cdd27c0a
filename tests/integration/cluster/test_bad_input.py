"""Hostile and careless clients against a running cluster, on raw TLS sockets.

Each request gets an HTTP response with a `Status` that says why, or the connection is closed. The server's
log shows no traceback, and after all clients have disconnected the server has no more descriptors open than before.
"""

from __future__ import annotations

import base64
import json
import os
import re
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import Cluster, wait_for

NS = "/api/v1/namespaces/default"
MAPS = f"{NS}/configmaps"
LIMIT = 3 * 1024 * 1024
MERGE = "application/merge-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
# The plain-text answers of a kube-apiserver: for unknown paths, and for malformed percent-encoding.
_PLAIN = (b"404 page not found\n", b"400 Bad Request")
LOGGING = "/api/v1/namespaces/kube-system/services/elasticsearch-logging/proxy"


@dataclass
class Answer:
    status: int
    head: str
    body: bytes

    @property
    def message(self) -> str:
        """Return the message of the body, which must be a Status."""
        found = json.loads(self.body)
        assert found["kind"] == "Status" and found["code"] == self.status and found["message"], found
        return str(found["message"])


class Raw:
    """A client's TLS connection that can send arbitrary bytes."""

    def __init__(self, target: Target, *, certificate: tuple[Path, Path] | None = None) -> None:
        context = ssl.create_default_context(cafile=str(target.cluster.ca))
        if certificate is not None:
            context.load_cert_chain(*certificate)
        plain = socket.create_connection(("127.0.0.1", target.port), timeout=20)
        self.sock = context.wrap_socket(plain, server_hostname="127.0.0.1")
        self._buffer = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        """Send all the data, or as much as the server reads before it closes the connection."""
        try:
            self.sock.sendall(data)
        except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
            return

    def _more(self) -> bool:
        try:
            found = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError, ssl.SSLZeroReturnError):
            found = b""
        self._buffer += found
        return bool(found)

    def answer(self, method: str = "GET") -> Answer | None:
        """Read the next response; None if the connection was closed without one."""
        while True:
            while b"\r\n\r\n" not in self._buffer:
                if not self._more():
                    assert not self._buffer, self._buffer
                    return None
            raw, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            head = raw.decode("latin-1")
            status = int(head.split()[1])
            if status >= 200:
                break
        length = re.search(r"(?i)\r\ncontent-length: *(\d+)", head)
        if method == "HEAD" or status in (204, 304):
            return Answer(status, head, b"")
        if "transfer-encoding: chunked" in head.lower():
            body = b""
            while True:
                size = int(self._until(b"\r\n").split(b";")[0], 16)
                body += self._exactly(size)
                self._exactly(2)
                if not size:
                    return Answer(status, head, body)
        if length is None:
            while self._more():
                pass
            body, self._buffer = self._buffer, b""
            return Answer(status, head, body)
        return Answer(status, head, self._exactly(int(length[1])))

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            assert self._more(), self._buffer
        found, _, self._buffer = self._buffer.partition(end)
        return found

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            assert self._more(), self._buffer
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def closed(self) -> bool:
        """Wait for the server to close the connection; return whether it did."""
        while self._more():
            pass
        return True


@dataclass
class Target:
    cluster: Cluster
    port: int
    token: str

    @property
    def pid(self) -> int:
        return int(self.cluster.run["pid"])

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def resident(self) -> int:
        """Return the resident memory of the server, in bytes."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self.pid}/status").read_text())
        assert found
        return int(found[1]) * 1024

    def head(self, method: str, path: str, *fields: str) -> bytes:
        lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1", f"Authorization: Bearer {self.token}", *fields]
        return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n"

    def ask(
        self, method: str, path: str, body: bytes | None = None, content_type: str = "application/json", *fields: str
    ) -> Answer:
        """Send one request on a new connection; return the response."""
        more = list(fields)
        if body is not None:
            more += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
        return self.raw(self.head(method, path, *more) + (body or b""), method)

    def raw(self, data: bytes, method: str = "GET") -> Answer:
        with Raw(self) as client:
            client.send(data)
            found = client.answer(method)
        assert found is not None, "the connection was closed without a response"
        return found


@pytest.fixture(scope="module")
def target(cluster: Cluster) -> Iterator[Target]:
    found = Target(cluster, int(cluster.server.rpartition(":")[2]), cluster.token())
    log = cluster.state / "server.log"
    begun = log.stat().st_size
    found.ask("GET", "/readyz")
    before = found.descriptors()
    yield found
    # The pool of the proxy verb may keep some upstream connections for a time.
    wait_for(lambda: found.descriptors() <= before + 4)
    with log.open("rb") as file:
        file.seek(begun)
        written = file.read().decode()
    assert "Traceback" not in written, written
    assert " ERROR " not in written, written


# -- HTTP


GOOD = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x16\x03\x01\x00\r\n\r\n", 400),
        (b"GARBAGE\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/3.0\r\nHost: a\r\n\r\n", 505),
        (b"GET / HTTP/1.1 x\r\nHost: a\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /\x00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET /#x HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"GET readyz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n", 405),
        (b"GET /readyz HTTP/1.1\r\n\r\n", 400),
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"GET /readyz HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\nX: 1\n\r\n", 400),
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\nX: 1\r\n folded\r\n\r\n", 400),
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\nX : 1\r\n\r\n", 400),
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\n: 1\r\n\r\n", 400),
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\nNo colon\r\n\r\n", 400),
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\nX: a\x00b\r\n\r\n", 400),
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", 400),
        (b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 0x3\r\n\r\nabc", 400),
        (b"POST /api HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\nabc", 400),
        (b"POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\nabc", 400),
        (b"POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST /api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 1_100_000 + b"\r\n\r\n", 431),
        (b"GET /" + b"a" * 1_100_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 431),
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 20_000 + b"\r\n", 431),
        (b"GET /readyz HTTP/1.1\r\nHost: a\r\n" + b"X: a\r\n" * 10_001 + b"\r\n", 431),
    ],
)
def test_malformed_http(target: Target, data: bytes, status: int) -> None:
    with Raw(target) as client:
        client.send(data)
        answer = client.answer()
        assert answer is not None
        assert answer.status == status
        assert answer.message
        assert "connection: close" in answer.head.lower()


@pytest.mark.parametrize("chunks", [b"zz\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"fffffffffffffffff\r\n", b"3\nabc\n0\n\n"])
def test_malformed_chunks(target: Target, chunks: bytes) -> None:
    fields = ("Content-Type: application/json", "Transfer-Encoding: chunked")
    answer = target.raw(target.head("POST", MAPS, *fields) + chunks)
    assert (answer.status, bool(answer.message)) == (400, True)


def test_unknown_methods_are_answered(target: Target) -> None:
    for method in ("BREW", "TRACE", "PROPFIND", "LOCK", "OPTIONS"):
        answer = target.ask(method, MAPS)
        assert answer.status in (403, 405), method
        assert answer.message
    assert target.ask("POST", "/version").status == 405
    assert target.ask("PUT", MAPS, b"{}").status == 405
    assert target.ask("POST", f"{MAPS}/x", b"{}").status == 405


def test_http_1_0(target: Target) -> None:
    with Raw(target) as client:
        client.send(b"GET /readyz HTTP/1.0\r\n\r\n")
        answer = client.answer()
        assert answer is not None and (answer.status, answer.body) == (200, b"ok")
        assert client.closed()


def test_pipelining_keeps_the_order(target: Target) -> None:
    paths = ["/readyz", f"{MAPS}/missing", "/version", "/nope", "/livez"] * 20
    with Raw(target) as client:
        client.send(b"".join(target.head("GET", path) for path in paths))
        answers = [client.answer() for _ in paths]
    assert [one and one.status for one in answers] == [200, 404, 200, 404, 200] * 20


def test_a_half_closed_client_does_not_hang(target: Target) -> None:
    with Raw(target) as client:
        client.send(target.head("GET", "/version"))
        # TCP is shut down below TLS, so the client cannot read the answer; it only sees the end of the connection.
        client.sock.shutdown(socket.SHUT_WR)
        assert client.closed()


def test_clients_that_abort(target: Target) -> None:
    """Clients abort in the middle of a head, a body, a response or a TLS handshake."""
    for data in (
        b"GET /rea",
        target.head("POST", MAPS, "Content-Type: application/json", "Content-Length: 1000") + b"{",
        target.head("GET", "/openapi/v2"),
        target.head("GET", f"{MAPS}?watch=1"),
        target.head("GET", f"{LOGGING}/"),
    ):
        for _ in range(5):
            client = Raw(target)
            client.send(data)
            client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            client.sock.close()
    for data in (b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"):
        with socket.create_connection(("127.0.0.1", target.port), timeout=20) as plain:
            plain.sendall(data)
    assert target.ask("GET", "/readyz").status == 200


def test_plain_http_is_refused(target: Target) -> None:
    with socket.create_connection(("127.0.0.1", target.port), timeout=20) as plain:
        plain.sendall(GOOD)
        assert not plain.recv(10).startswith(b"HTTP/1.1 200")


def test_slow_heads_and_idle_connections_cost_nothing_to_others(target: Target) -> None:
    before = target.descriptors()
    slow = [Raw(target) for _ in range(200)]
    for number, client in enumerate(slow):
        if number % 2:
            client.send(b"GET /readyz HTTP/1.1\r\nHos")
    # Meanwhile the number of the cluster's own connections may change by a few.
    wait_for(lambda: target.descriptors() >= before + 200 - 4)
    assert target.ask("GET", "/readyz").status == 200
    for client in slow:
        client.sock.close()
    wait_for(lambda: target.descriptors() <= before + 4)


def test_a_watch_whose_client_never_reads_is_bounded(target: Target) -> None:
    target.ask("POST", MAPS, json.dumps({"metadata": {"name": "unread"}}).encode())
    before = target.resident()
    with Raw(target) as client:
        client.send(target.head("GET", f"{MAPS}?watch=1&fieldSelector=metadata.name%3Dunread"))
        with Raw(target) as writer:
            for number in range(120):
                body = json.dumps({"data": {"a": str(number) + "x" * 500_000}}).encode()
                fields = (f"Content-Type: {MERGE}", f"Content-Length: {len(body)}")
                writer.send(target.head("PATCH", f"{MAPS}/unread", *fields) + body)
                answer = writer.answer()
                assert answer is not None and answer.status == 200
        # 60 MB were written. The server may keep only its bounded history and some buffers.
        assert target.resident() < before + 48 * 1024 * 1024
        assert target.ask("GET", "/readyz").status == 200
    assert target.ask("DELETE", f"{MAPS}/unread").status == 200


# -- bodies


def nested(opening: bytes, closing: bytes, middle: bytes = b"1", times: int = 100_000) -> bytes:
    return opening * times + middle + closing * times


BOMB = b"a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + b"".join(
    b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 12)
)
MAP_BOMB = b"a0: &a0 {k: v}\n" + b"".join(
    b"a%d: &a%d {<<: *a%d, x: *a%d, y: *a%d}\n" % (n, n, n - 1, n - 1, n - 1) for n in range(1, 40)
)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", "application/json"),
        (b"\xff\xfe", "application/json"),
        (b'{"metadata":{"name":"\xff"}}', "application/json"),
        (b'{"metadata":{"name":"\\ud800"}}', "application/json"),
        (b"NaN", "application/json"),
        (b'{"metadata":{"name":"x","generation":NaN}}', "application/json"),
        (b'{"metadata":{"name":"x","generation":1e999}}', "application/json"),
        (b'{"metadata":{"name":"x","generation":' + b"9" * 400 + b"}}", "application/json"),
        (b'{"metadata":{"name":"x","generation":' + b"9" * 100_000 + b"}}", "application/json"),
        (b'{"metadata":{"name":"x","generation":1.5}}', "application/json"),
        (b'{"metadata":[]}', "application/json"),
        (b'{"metadata":"x"}', "application/json"),
        (b'{"metadata":{"name":["x"]}}', "application/json"),
        (b'{"metadata":{"name":"x"},"data":{"a":{"b":1}}}', "application/json"),
        (b'{"metadata":{"name":"x"},"data":{"a":' + nested(b"[", b"]") + b"}}", "application/json"),
        (b'{"apiVersion":1,"kind":2}', "application/json"),
        (b'{"apiVersion":{},"kind":[]}', "application/json"),
        (b'{"kind":"Pod","metadata":{"name":"x"}}', "application/json"),
        (b"[]", "application/json"),
        (b"null", "application/json"),
        (b"1", "application/json"),
        (b"{}{}", "application/json"),
        (nested(b"[", b"]"), "application/json"),
        (nested(b'{"a":', b"}"), "application/json"),
        (b'{"metadata":{"name":"x","annotations":' + nested(b'{"a":', b"}") + b"}}", "application/json"),
        (nested(b"[", b"]"), YAML),
        (nested(b"{a: ", b"}"), YAML),
        (b"- " * 50_000 + b"x", YAML),
        (BOMB, YAML),
        (MAP_BOMB, YAML),
        (b"a: &a [*a]", YAML),
        (b"a: *nope", YAML),
        (b"!!python/object/apply:os.system [id]", YAML),
        (b"!!binary aGk=", YAML),
        (b"a: !!set {x, y}", YAML),
        (b"? [a, b]\n: c", YAML),
        (b"a: .nan\nmetadata: {name: .inf}", YAML),
        (b"metadata: {name: 2026-11-23}\ndata: {a: 1}", YAML),
        (b"\x00", YAML),
        (b"\xff\xfe\xfd", YAML),
        (b"%YAML 9.9\n---\na: b", YAML),
        (b"a: b: c", YAML),
        (b"", PROTOBUF),
        (b"k8s\x00", PROTOBUF),
        (b"k8s\x00" + b"\xff" * 1000, PROTOBUF),
        (b"k8s\x00\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", PROTOBUF),
        (b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x05\x0a\x7fabc", PROTOBUF),
        (b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12" + b"\x80" * 20, PROTOBUF),
        (b"k8s\x00" + b"\x0b" * 100_000, PROTOBUF),
        (b"\x00" * 100_000, PROTOBUF),
        (b"{}", "application/xml"),
        (b"{}", "text/plain"),
        (b"{}", "application/json; charset=\xff".encode().decode("latin-1")),
        (b"{}", "multipart/form-data"),
        (b"{}", ";;;"),
        (b"{}", "x" * 10_000),
    ],
    ids=range(56),
)
def test_bodies_that_are_not_a_config_map(target: Target, body: bytes, content_type: str) -> None:
    answer = target.ask("POST", MAPS, body, content_type)
    assert answer.status in (400, 413, 415, 422), answer
    assert len(answer.message) < 100_000


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"", MERGE),
        (b"[]", MERGE),
        (b"null", MERGE),
        (b"{", STRATEGIC),
        (nested(b'{"a":', b"}"), MERGE),
        (nested(b'{"a":', b"}"), STRATEGIC),
        (b'{"metadata":{"annotations":' + nested(b'{"a":', b"}") + b"}}", STRATEGIC),
        (b'{"data":[]}', MERGE),
        (b'{"data":{"a":1}}', MERGE),
        (b'{"data":{"a":1}}', STRATEGIC),
        (b'{"$patch":"explode"}', STRATEGIC),
        (b'{"metadata":{"finalizers":{"$patch":1}}}', STRATEGIC),
        (b'{"metadata":{"ownerReferences":[1]}}', STRATEGIC),
        (b'{"metadata":{"$setElementOrder/finalizers":7}}', STRATEGIC),
        (b'{"metadata":{"$retainKeys":{}}}', STRATEGIC),
        (b'{"metadata":{"name":"\\ud800"}}', MERGE),
        (b"{}", JSON_PATCH),
        (b"[1]", JSON_PATCH),
        (b'[{"op":"explode"}]', JSON_PATCH),
        (b'[{"op":["add"],"path":"/a"}]', JSON_PATCH),
        (b'[{"op":"add","path":1,"value":1}]', JSON_PATCH),
        (b'[{"op":"add"}]', JSON_PATCH),
        (b'[{"op":"remove","path":""}]', JSON_PATCH),
        (b'[{"op":"replace","path":"","value":[]}]', JSON_PATCH),
        (b'[{"op":"replace","path":"","value":null}]', JSON_PATCH),
        (b'[{"op":"add","path":"/metadata","value":[]}]', JSON_PATCH),
        (b'[{"op":"add","path":"/metadata","value":null}]', JSON_PATCH),
        (b'[{"op":"remove","path":"/metadata"}]', JSON_PATCH),
        (b'[{"op":"remove","path":"/metadata/name"}]', JSON_PATCH),
        (b'[{"op":"add","path":"/metadata/labels/-","value":1}]', JSON_PATCH),
        (b'[{"op":"copy","from":"/metadata","path":"/metadata/x"}]', JSON_PATCH),
        (b'[{"op":"move","from":"/data","path":"/data/x"}]', JSON_PATCH),
        (
            b'[{"op":"add","path":"/data","value":{"a":"'
            + b"a" * 100
            + b'"}}'
            + b',{"op":"copy","from":"/data","path":"/data/b"}' * 40
            + b"]",
            JSON_PATCH,
        ),
        (b"[" + b",".join([b'{"op":"test","path":"/kind","value":"ConfigMap"}'] * 10_001) + b"]", JSON_PATCH),
        (b"{}", "application/apply-patch+yaml"),
        (b"{}", "application/json"),
    ],
    ids=range(36),
)  # fmt: skip
def test_patches_whose_result_is_not_a_config_map(target: Target, body: bytes, content_type: str) -> None:
    # Every cluster has this object.
    answer = target.ask("PATCH", f"{MAPS}/kube-root-ca.crt?dryRun=All", body, content_type)
    assert answer.status in (400, 413, 415, 422) or (answer.status == 200 and content_type == JSON_PATCH), answer
    if answer.status != 200:
        assert len(answer.message) < 10_000
    assert target.ask("GET", f"{MAPS}/kube-root-ca.crt").status == 200


def test_duplicate_fields(target: Target) -> None:
    body = b'{"metadata":{"name":"twice"},"data":{"a":"1","a":"2"}}'
    refused = target.ask("POST", f"{MAPS}?fieldValidation=Strict&dryRun=All", body)
    assert refused.status == 400
    assert 'duplicate field "data.a"' in refused.message
    warned = target.ask("POST", f"{MAPS}?fieldValidation=Warn&dryRun=All", body)
    assert warned.status == 201
    assert "duplicate field" in warned.head


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_bodies_that_are_too_large(target: Target, method: str) -> None:
    path = MAPS if method == "POST" else f"{MAPS}/x"
    content_type = f"Content-Type: {MERGE if method == 'PATCH' else 'application/json'}"
    stated = target.raw(target.head(method, path, content_type, f"Content-Length: {LIMIT + 1}") + b"{")
    assert (stated.status, "limit is 3145728" in stated.message) == (413, True)
    chunk = b"100000\r\n" + b" " * 0x100000 + b"\r\n"
    chunked = target.raw(
        target.head(method, path, content_type, "Transfer-Encoding: chunked") + chunk * 3 + b"1\r\n \r\n0\r\n\r\n"
    )
    assert (chunked.status, "limit is 3145728" in chunked.message) == (413, True)


# -- paths, queries, headers


@pytest.mark.parametrize(
    ("path", "status"),
    [
        (f"{MAPS}/%00", 400),
        (f"{MAPS}/%zz", 400),
        (f"{MAPS}/%", 400),
        (f"{MAPS}/%ff", 400),
        (f"{MAPS}/..", 404),
        (f"{MAPS}/%2e%2e", 404),
        (f"{MAPS}/%2F", 404),
        (f"{MAPS}/" + "a" * 5000, 404),
        (f"{MAPS}/a/b/c", 404),
        (f"{MAPS}/x/status", 404),
        (f"{NS}/nodes", 404),
        (f"{NS}/unknown", 404),
        ("/api/v2/namespaces/default/configmaps", 404),
        ("/apis/apps/v9/deployments", 404),
        ("/apis/none.example.com/v1/things", 404),
        ("/apis//v1/things", 404),
        ("/openapi/v3/apis/none/v1", 404),
        ("/api/v1/watch", 400),
        ("/api/v1/proxy", 400),
        (f"{MAPS}?limit=x", 400),
        (f"{MAPS}?limit=99999999999999999999999999", 400),
        (f"{MAPS}?timeoutSeconds=x", 400),
        (f"{MAPS}?timeoutSeconds=1e3", 400),
        (f"{MAPS}?watch=1&timeoutSeconds=99999999999999999999", 400),
        (f"{MAPS}?resourceVersion=x", 400),
        (f"{MAPS}?resourceVersion=-1", 400),
        (f"{MAPS}?watch=1&resourceVersion=x", 400),
        (f"{MAPS}?resourceVersion=99999999999999999999999", 400),
        (f"{MAPS}?resourceVersionMatch=Sideways&resourceVersion=1", 422),
        (f"{MAPS}?resourceVersionMatch=Exact", 422),
        (f"{MAPS}?continue=x", 400),
        (f"{MAPS}?continue=%00", 400),
        (f"{MAPS}?continue=" + "A" * 20_000, 400),
        (f"{MAPS}?continue=" + base64.urlsafe_b64encode(b'{"v":"meta.k8s.io/v1","rv":-5,"start":"a"}').decode(), 200),
        (f"{MAPS}?continue=" + base64.urlsafe_b64encode(b'{"v":"meta.k8s.io/v1","rv":1e99,"start":"a"}').decode(), 400),
        (f"{MAPS}?continue=" + base64.urlsafe_b64encode(b'{"v":"x","rv":true,"start":"a"}').decode(), 400),
        (f"{MAPS}?continue=" + base64.urlsafe_b64encode(b"[" * 5000).decode(), 400),
        (f"{MAPS}?labelSelector=" + "a" * 60_000, 400),
        (f"{MAPS}?labelSelector=%00", 400),
        (f"{MAPS}?labelSelector=" + "(" * 3000, 400),
        (f"{MAPS}?labelSelector=a%20in%20(", 400),
        (f"{MAPS}?labelSelector=!", 400),
        (f"{MAPS}?labelSelector=a%3E1x", 400),
        (f"{MAPS}?fieldSelector=spec.x%3Dy", 400),
        (f"{MAPS}?fieldSelector=%3D", 400),
        (f"{MAPS}?fieldSelector=metadata.name", 400),
        (f"{MAPS}?watch=1&sendInitialEvents=true", 422),
    ],
)
def test_bad_paths_and_queries(target: Target, path: str, status: int) -> None:
    answer = target.ask("GET", path)
    assert answer.status == status, answer
    if answer.body not in _PLAIN and status != 200:
        assert answer.message


@pytest.mark.parametrize(
    ("name", "good"),
    [("UPPER", False), ("-a", False), ("a" * 254, False), ("a/b", False), ("..", False), ("a b", False),
     ("é", False), ("a\0b", False), ("", False), ("a" * 253, True), ("a.b-c", True)],
)  # fmt: skip
def test_names(target: Target, name: str, good: bool) -> None:
    body = json.dumps({"metadata": {"name": name}}).encode()
    answer = target.ask("POST", f"{MAPS}?dryRun=All", body)
    assert answer.status == (201 if good else 422), answer
    assert good or "metadata.name" in answer.message


@pytest.mark.parametrize("port", [0, -1, 65536, 2**31, 2**63, 1.5, "http", None, True, [], {}])
def test_ports(target: Target, port: object) -> None:
    body = json.dumps({"metadata": {"name": "p"}, "spec": {"ports": [{"port": port}]}}).encode()
    answer = target.ask("POST", f"{NS}/services?dryRun=All", body)
    assert answer.status in (400, 422), answer
    assert "port" in answer.message


def _jwt(header: dict[str, object], payload: dict[str, object], signature: bytes = b"") -> str:
    parts = (json.dumps(header).encode(), json.dumps(payload).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


ACCOUNT = {
    "iss": "https://kubernetes.default.svc.cluster.local",
    "aud": ["https://kubernetes.default.svc.cluster.local"],
    "sub": "system:serviceaccount:default:default",
    "exp": 2**33,
    "kubernetes.io": {"namespace": "default", "serviceaccount": {"name": "default", "uid": "x"}},
}
PERSON = {
    "iss": "https://hatchway.invalid/user-tokens",
    "aud": ["hatchway"],
    "sub": "x",
    "groups": ["system:masters"],
    "exp": 2**33,
}


@pytest.mark.parametrize(
    "token",
    [
        "x",
        "a.b.c",
        "....",
        "é",
        "a" * 30_000,
        "a." + "b" * 20_000 + ".c",
        _jwt({"alg": "none"}, PERSON),
        _jwt({"alg": "none"}, ACCOUNT),
        _jwt({"alg": "None", "typ": "JWT"}, PERSON),
        _jwt({"alg": "HS256"}, PERSON, b"x" * 32),
        _jwt({"alg": "ES256"}, PERSON, b"\0" * 64),
        _jwt({"alg": "ES256"}, ACCOUNT, b"\0" * 64),
        _jwt({"alg": "ES256", "jku": "https://example.com/", "kid": "../../etc/passwd"}, ACCOUNT, b"\1" * 64),
        _jwt({"alg": "RS256", "crit": ["x"]}, PERSON, b"\1" * 64),
        _jwt({"alg": ["ES256"]}, PERSON, b"\1" * 64),
    ],
)
def test_tokens(target: Target, token: str) -> None:
    field = f"Authorization: Bearer {token}".encode()
    answer = target.raw(b"GET /api HTTP/1.1\r\nHost: a\r\n" + field + b"\r\n\r\n")
    assert answer.status == 401
    assert answer.message == "Unauthorized"
    if "." in token and len(token) > 20:
        assert token not in (target.cluster.state / "audit.log").read_text()


def test_a_good_token_that_was_tampered_with(target: Target) -> None:
    good = target.cluster.token("--user", "mallory")
    head, payload, signature = good.split(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    claims["groups"] = ["system:masters"]
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    for token in (
        good[:-10],
        f"{head}.{payload}.",
        f"{head}.{payload}",
        f"{head}.{forged}.{signature}",
        f"{_jwt({'alg': 'none'}, {}).split('.')[0]}.{payload}.",
    ):
        assert target.cluster.get("/api", token=token).status == 401
    assert target.cluster.get("/api", token=good).status == 200


@pytest.mark.parametrize(
    "field",
    ["Basic", "Basic x", "Basic !!!", "Basic " + "A" * 20_000, "Bearer", "Bearer ", "Digest x", "Negotiate", ""],
)
def test_other_authorizations(target: Target, field: str) -> None:
    answer = target.raw(f"GET /api HTTP/1.1\r\nHost: a\r\nAuthorization: {field}\r\n\r\n".encode())
    assert answer.status in (401, 403)
    assert answer.message


def test_certificates_of_others(target: Target, tmp_path: Path) -> None:
    from tests.conformance.tls import self_signed

    certificate, key = self_signed(tmp_path, ["127.0.0.1"])
    try:
        with Raw(target, certificate=(certificate, key)) as client:
            client.send(GOOD)
            answer = client.answer()
    except (ssl.SSLError, ConnectionResetError, BrokenPipeError):
        return
    assert answer is None or answer.status == 401


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        (("Impersonate-Group: system:masters",), 500),
        (("Impersonate-Uid: 1",), 500),
        (("Impersonate-Extra-x: 1",), 500),
        (("Impersonate-User: ",), 500),
        (("Impersonate-Nonsense: x",), 200),
        (("Impersonate-User: nobody", "Impersonate-Group: x"), 403),
        (("Impersonate-User: \xff\xfe",), 403),
        (("Impersonate-User: system:serviceaccount:::",), 403),
        (("Impersonate-User: a", "Impersonate-User: b"), 403),
        (("Impersonate-User: a", "Impersonate-Extra-%zz: b"), 403),
        (("Impersonate-User: " + "a" * 30_000,), 403),
    ],
)
def test_impersonation(target: Target, fields: tuple[str, ...], status: int) -> None:
    answer = target.ask("GET", MAPS, None, "", *fields)
    assert answer.status in (status, 400), answer
    if answer.status != 200:
        assert answer.message


@pytest.mark.parametrize(
    "accept", ["", "x", "text/html", "application/json;as=Nonsense;g=meta.k8s.io;v=v1", ";;;,,,", "*/*;q=0",
               "application/json;" * 3000, "application/vnd.kubernetes.protobuf", "application/json;q=nan", "\xff"]
)  # fmt: skip
def test_accept(target: Target, accept: str) -> None:
    answer = target.ask("GET", MAPS, None, "", f"Accept: {accept}")
    assert answer.status in (200, 406), answer
    if accept == "application/vnd.kubernetes.protobuf":
        assert answer.body.startswith(b"k8s\0")
    else:
        assert json.loads(answer.body)["kind"] in ("ConfigMapList", "Status")


# -- the proxy verb


@pytest.mark.parametrize(
    ("rest", "status"),
    [
        ("/..", None),
        ("/../../secrets", None),
        ("/%2e%2e/%2e%2e/%2e%2e", None),
        ("/..%2f..%2f", None),
        ("//example.com/x", None),
        ("///", None),
        ("/\\..\\..", None),
        ("/%00", 400),
        ("/%zz", 400),
        ("/%", 400),
        ("/" + "a/" * 20_000, None),
        ("/" + "../" * 15_000, None),
        ("/?" + "a" * 50_000, None),
        ("/%ff%fe", None),
        ("@evil.example/", 404),
        (":80/", 404),
    ],
)
def test_proxied_paths(target: Target, rest: str, status: int | None) -> None:
    """Each path is answered by this service or with an error, never by another part of the API."""
    answer = target.ask("GET", LOGGING + rest)
    assert b"SecretList" not in answer.body
    assert b"APIVersions" not in answer.body
    if status is None:
        assert answer.status in (200, 301, 307, 404, 405, 414, 431), answer
    else:
        assert answer.status == status
        assert answer.body in _PLAIN or answer.message


@pytest.mark.parametrize(
    "name",
    ["kube-dns:", "kube-dns:0", "kube-dns:99999", "kube-dns:-1", "kube-dns:nope", "ftp:kube-dns:dns", "a:b:c:d", ":::",
     "%3a", "%2e%2e", "kube-dns%00", "https:kube-dns:dns:", "HTTP:kube-dns:dns", "x" * 3000],
)  # fmt: skip
def test_proxied_names(target: Target, name: str) -> None:
    answer = target.ask("GET", f"/api/v1/namespaces/kube-system/services/{name}/proxy/")
    assert answer.status in (400, 404, 503), answer
    assert answer.message


@pytest.mark.parametrize("address", ["127.0.0.1", "169.254.169.254", "0.0.0.0", "224.0.0.1", "172.18.0.2"])
def test_endpoints_written_by_users_cannot_reach_protected_addresses(target: Target, address: str) -> None:
    """EndpointSlices written by a user cannot make the API server connect to the host, a metadata service or nodes."""
    name = f"evil-{address.replace('.', '-')}"
    service = {"metadata": {"name": name}, "spec": {"ports": [{"port": 80}]}}
    endpoints = {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address], "conditions": {"ready": True}}],
        "ports": [{"name": "", "port": target.port if address == "127.0.0.1" else 10250}],
    }
    slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices"
    assert target.ask("POST", f"{NS}/services", json.dumps(service).encode()).status == 201
    try:
        made = target.ask("POST", slices, json.dumps(endpoints).encode())
        assert made.status in (201, 422)
        answer = target.ask("GET", f"{NS}/services/https:{name}:/proxy/healthz")
        assert answer.status in (400, 403, 503), answer
        assert answer.message
        assert "trying to reach" not in answer.message or "refused" not in answer.message, "it was dialed"
    finally:
        target.ask("DELETE", f"{NS}/services/{name}")
        target.ask("DELETE", f"{slices}/{name}")


def test_time_is_bounded(target: Target) -> None:
    """The bodies that need the most work, sent together, do not keep the server busy for long."""
    begun = time.monotonic()
    for body, kind in ((BOMB, YAML), (MAP_BOMB, YAML), (nested(b"[", b"]"), YAML), (nested(b'{"a":', b"}"), MERGE)):
        method, path = ("PATCH", f"{MAPS}/kube-root-ca.crt") if kind == MERGE else ("POST", MAPS)
        assert target.ask(method, path, body, kind).status in (400, 422)
    assert time.monotonic() - begun < 60, "the server hangs"
