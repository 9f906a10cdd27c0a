"""Logs and watches over WebSockets, read with the asyncio client of the library websockets.

The synchronous client of that library reads and writes a TLS connection in two threads. The `ssl` module of Python 3.11
does not lock the connection, so a request that is sent while session tickets (TLS 1.3) arrive can be lost.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.conftest import Cluster

_TALKER = """
echo first
head -c 5000 /dev/zero | tr '\\0' x
until [ -e /tmp/go ]; do sleep 0.1; done
echo last
"""


@pytest.fixture(scope="module")
def talking(stream_cluster: Cluster) -> Iterator[Cluster]:
    """Yield the cluster with the pod `talker`. It logs `first` and 5,000 x, and `last` once the file /tmp/go exists."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "talker", "namespace": "streams"},
        "spec": {
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "main", "image": "hatchway/shell", "command": ["sh", "-c", _TALKER]}],
        },
    }
    stream_cluster.kubectl("apply", "-f", "-", stdin=json.dumps(pod))
    stream_cluster.kubectl("-n", "streams", "wait", "--for=condition=Ready", "pod/talker", "--timeout=60s")
    yield stream_cluster
    stream_cluster.kubectl("-n", "streams", "delete", "pod", "talker", "--wait=false")


def opened(cluster: Cluster, path: str, *protocols: str, token: str = "", accept: str = "*/*") -> connect:
    return connect(
        f"wss://{urlsplit(cluster.server).netloc}{path}",
        ssl=ssl.create_default_context(cafile=str(cluster.ca)),
        additional_headers={"Authorization": f"Bearer {token or cluster.admin_token()}", "Accept": accept},
        subprotocols=[Subprotocol(name) for name in protocols] or None,
        origin="http://localhost",  # type: ignore[arg-type]
        proxy=None,
        open_timeout=30,
    )


async def refused(cluster: Cluster, path: str, *protocols: str, token: str = "") -> tuple[int, str]:
    with pytest.raises(InvalidStatus) as caught:
        await opened(cluster, path, *protocols, token=token)
    body = (caught.value.response.body or b"").decode()
    return caught.value.response.status_code, json.loads(body)["message"] if body.startswith("{") else body


async def received(client: ClientConnection) -> bytes | str:
    async with asyncio.timeout(30):
        return await client.recv()


_LOG = "/api/v1/namespaces/streams/pods/talker/log"


async def test_a_log_is_followed_to_its_end(talking: Cluster) -> None:
    async with (
        opened(talking, f"{_LOG}?follow=true", "binary.k8s.io") as binary,
        opened(talking, f"{_LOG}?follow=true", "base64.binary.k8s.io") as text,
    ):
        assert (binary.subprotocol, text.subprotocol) == ("binary.k8s.io", "base64.binary.k8s.io")
        assert (await received(binary), await received(text)) == (b"", "")
        got = b""
        while b"first\n" not in got:
            message = await received(binary)
            assert isinstance(message, bytes)
            got += message
        talking.kubectl("-n", "streams", "exec", "talker", "--", "touch", "/tmp/go")
        rest = [message async for message in binary]
        assert got + b"".join(map(_bytes, rest)) == b"first\n" + b"x" * 5000 + b"last\n"
        assert max(map(len, rest)) <= 2048
        assert b"".join([base64.b64decode(message) async for message in text]) == b"first\n" + b"x" * 5000 + b"last\n"
        assert (binary.close_code, text.close_code) == (1000, 1000)
    async with opened(talking, f"{_LOG}?limitBytes=3", "binary.k8s.io") as binary:
        assert [message async for message in binary] == [b"", b"fir"]


async def test_a_log_is_refused_before_the_upgrade(talking: Cluster) -> None:
    assert await refused(talking, f"{_LOG}?container=x") == (400, "container x is not valid for pod talker")
    assert await refused(talking, _LOG.replace("talker", "nobody")) == (404, 'pods "nobody" not found')
    previous = await refused(talking, f"{_LOG}?previous=true", "binary.k8s.io")
    assert previous == (400, 'previous terminated container "main" in pod "talker" not found')
    assert (await refused(talking, _LOG, "v4.channel.k8s.io"))[0] == 403
    talking.kubectl("-n", "streams", "create", "serviceaccount", "reads-no-logs")
    token = talking.kubectl("-n", "streams", "create", "token", "reads-no-logs").strip()
    status, message = await refused(talking, _LOG, "binary.k8s.io", token=token)
    assert status == 403
    assert 'cannot get resource "pods/log" in API group "" in the namespace "streams"' in message


async def test_a_watch_in_protobuf_is_binary(talking: Cluster) -> None:
    path = "/api/v1/namespaces/streams/pods?watch=1&fieldSelector=metadata.name%3Dtalker"
    async with opened(talking, path, accept="application/vnd.kubernetes.protobuf;stream=watch") as watch:
        event = await received(watch)
        assert isinstance(event, bytes)
        # The first field of a WatchEvent in protobuf is its type.
        assert event.startswith(b"\x0a\x05ADDED") and b"k8s\0" in event and b"talker" in event


def _bytes(message: bytes | str) -> bytes:
    assert isinstance(message, bytes)
    return message
