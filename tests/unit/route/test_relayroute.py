"""The route through a relay pod: the life of the pod, and connections from the pod."""

# ruff: noqa: ASYNC110  no event reports the awaited changes of objects

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from hatchway.errors import ApiError, HatchwayError
from hatchway.kube.api import Object
from hatchway.route import relaypod
from hatchway.route.contract import Refusal, TargetUnreached, Unreached
from hatchway.route.relaypod import relay_pod
from hatchway.target import Target
from tests.unit.route.pods import Collector, speaks
from tests.unit.route.relays import RelayWorld


@contextlib.asynccontextmanager
async def _running(world: RelayWorld) -> AsyncIterator[None]:
    task = asyncio.get_running_loop().create_task(world.relay_route.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[RelayWorld]:
    monkeypatch.setattr(relaypod, "RENEW_SECONDS", 0.02)
    found = RelayWorld()
    async with found.running():
        yield found
        found.close_relays()


async def _until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


async def _program(handler: Any) -> int:
    server = await asyncio.start_server(handler, "127.0.0.1", 0)
    _servers.append(server)
    return int(server.sockets[0].getsockname()[1])


_servers: list[asyncio.Server] = []


@pytest.fixture(autouse=True)
def ending() -> Any:
    yield
    for server in _servers:
        server.close()
    _servers.clear()


async def _service(world: RelayWorld, port: int, **spec: Any) -> Target:
    """Make a Service whose ClusterIP is a loopback address. Only an API server can set such an address."""
    return await world.add_service("db", port=port, selector=None, clusterIP="127.0.0.1", **spec)


async def _talk(world: RelayWorld, target: Target, line: bytes = b"hello\n") -> bytes:
    stream = await world.relay_route.connect(target)
    collector = Collector()
    stream.set_protocol(collector)
    stream.resume_reading()
    stream.write(line)
    stream.write_eof()
    async with asyncio.timeout(30):
        await collector.eof.wait()
    stream.close()
    return bytes(collector.data)


def _names(world: RelayWorld) -> list[str]:
    return [pod["metadata"]["name"] for pod in world.relay_pods()]


async def test_a_service_without_pods_through_a_relay_pod_that_is_removed_at_the_end(world: RelayWorld) -> None:
    target = await _service(world, await _program(speaks("db")))
    async with _running(world):
        assert not world.relay_pods()
        await world.relay_route.begin()
        assert len(world.relay_pods()) == 1
        assert await _talk(world, target) == b"db hello\n"
        assert (await world.relay_route.ready_pods(target)).reachable is False
        assert len(world.relay_pods()) == 1
    assert not world.relay_pods()


async def test_parallel_connections_share_one_relay_pod(world: RelayWorld) -> None:
    target = await _service(world, await _program(speaks("db")))
    async with _running(world):
        assert await asyncio.gather(*(_talk(world, target) for _ in range(20))) == [b"db hello\n"] * 20
        assert len(world.relay_pods()) == 1


async def test_data_that_a_server_sends_first_arrive(world: RelayWorld) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        writer.close()

    target = await _service(world, await _program(greet))
    async with _running(world):
        for _ in range(20):
            assert await _talk(world, target, b"") == b"220 ready\r\n"


async def test_hosts_and_their_errors(world: RelayWorld) -> None:
    async with _running(world):
        with pytest.raises(TargetUnreached) as refused:
            await world.relay_route.connect(Target("hosts", "127.0.0.1", port="1"))
        assert refused.value.cause is Unreached.REFUSED
        assert refused.value.message == "host/127.0.0.1:1: from the relay pod to 127.0.0.1, port 1: Connection refused"
        with pytest.raises(TargetUnreached) as unknown:
            await world.relay_route.connect(Target("hosts", "no-such-name.invalid", port="80"))
        assert unknown.value.cause is Unreached.MISSING
        with pytest.raises(TargetUnreached) as own:
            await world.relay_route.connect(Target("hosts", "localhost", port="80"))
        assert own.value.cause is Unreached.FAILED


async def test_a_service_cannot_lead_to_the_relay_itself(world: RelayWorld) -> None:
    async with _running(world):
        for number, name in enumerate(("127.0.0.1", "localhost", "169.254.169.254")):
            target = await world.add_service(
                f"x-{number}", port=80, selector=None, type="ExternalName", externalName=name
            )
            with pytest.raises(TargetUnreached):
                await world.relay_route.connect(target)
        assert not world.relay_pods(), "an address that is refused needs no pod"


@pytest.mark.parametrize("delete", [True, False])
async def test_a_missing_relay_pod_is_replaced_at_the_next_connection(
    world: RelayWorld, delete: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaypod, "RENEW_SECONDS", 1000.0)
    target = await _service(world, await _program(speaks("db")))
    async with _running(world):
        assert await _talk(world, target) == b"db hello\n"
        (first,) = _names(world)
        await world.end_relay(first, delete=delete)
        assert await _talk(world, target) == b"db hello\n"
        assert len(_names(world)) == 1 and _names(world) != [first]
    assert not world.relay_pods()


async def test_a_missing_relay_pod_is_replaced_before_the_next_connection(world: RelayWorld) -> None:
    async with _running(world):
        await world.relay_route.begin()
        (first,) = _names(world)
        await world.end_relay(first, delete=False)
        await _until(lambda: _names(world) not in ([first], []))
        assert first not in _names(world)


async def test_the_relay_is_renewed(world: RelayWorld) -> None:
    async with _running(world):
        await world.relay_route.begin()
        (relay,) = world.relays.values()
        for _ in range(2):
            relay.renewed = 0.0
            await _until(lambda: relay.renewed > 0.0)


async def test_the_same_pod_is_used_after_the_api_server_was_unreachable(world: RelayWorld) -> None:
    target = await _service(world, await _program(speaks("db")))
    async with _running(world):
        await world.relay_route.begin()
        (first,) = _names(world)
        world.connection.be_away(True)
        for _, session in world.sessions:
            session.close()
        with pytest.raises(TargetUnreached) as away:
            await world.relay_route.connect(target)
        assert away.value.cause is Unreached.AWAY
        world.connection.be_away(False)
        assert await _talk(world, target) == b"db hello\n"
        assert _names(world) == [first]


async def test_a_pod_that_does_not_start_is_reported_and_removed(world: RelayWorld) -> None:
    target = await _service(world, 5432)
    world.broken = "couldn't parse image name"
    async with _running(world):
        with pytest.raises(HatchwayError, match="couldn't parse image name") as error:
            await world.relay_route.begin()
        assert "--relay-image" in error.value.hint
        assert not world.relay_pods()
        made = world.client.calls.count(("create", "pods", ""))
        with pytest.raises(TargetUnreached, match="couldn't parse image name"):
            await world.relay_route.connect(target)
        assert world.client.calls.count(("create", "pods", "")) == made


async def test_a_missing_right_is_reported_before_a_pod_is_made(world: RelayWorld) -> None:
    target = await _service(world, 5432)
    async with _running(world):
        for verb, resource in (("create", "pods"), ("delete", "pods"), ("create", "pods/portforward")):
            world.client.denied = {(verb, resource)}
            world.client.identity = (verb, resource)  # reviews are cached for each user
            refusal = await world.relay_route.prepare(target)
            assert isinstance(refusal, Refusal)
            assert refusal.why == f'a relay pod needs the right to {verb} {resource} in namespace "shop"'
            assert '"pods/portforward"' in refusal.missing_rule and '"delete"' in refusal.missing_rule
            with pytest.raises(HatchwayError, match=f"right to {verb} {resource}"):
                await world.relay_route.begin()
        assert not world.relay_pods()


async def test_relays_that_have_ended_or_never_started_are_removed(world: RelayWorld) -> None:
    long_ago, just_now = "2020-01-01T00:00:00Z", datetime.now(UTC).isoformat(timespec="seconds")
    for name, phase, made in (
        ("ended", "Succeeded", just_now),
        ("stuck", "Pending", long_ago),
        ("starting", "Pending", just_now),
        ("another", "Running", long_ago),
    ):
        pod = relay_pod("shop", f"hatchway-relay-{name}", "any", 1, "s")
        pod["metadata"] |= {"uid": name, "resourceVersion": "1", "creationTimestamp": made}
        world.client.objects["pods", "shop", pod["metadata"]["name"]] = {**pod, "status": {"phase": phase}}
    async with _running(world):
        await _until(lambda: _names(world) == ["hatchway-relay-another", "hatchway-relay-starting"])


async def test_no_relay_pod_is_made_in_another_cluster(world: RelayWorld) -> None:
    target = await _service(world, await _program(speaks("db")))
    async with _running(world):
        await world.relay_route.begin()
        (first,) = _names(world)
        world.connection.identity = ("another server",)
        await world.end_relay(first, delete=True)
        with pytest.raises(TargetUnreached, match="another cluster"):
            await world.relay_route.connect(target)
        assert not world.relay_pods()
        world.connection.identity = ("server",)
        assert await _talk(world, target) == b"db hello\n"


async def test_a_cluster_that_sets_the_user_of_pods(world: RelayWorld) -> None:
    def refuse(verb: str, resource: str, obj: Object | None) -> ApiError | None:
        if verb == "create" and resource == "pods" and "runAsUser" in str(obj):
            return ApiError(
                403, "Forbidden", "unable to validate: runAsUser: Invalid value: 65532: must be in the ranges"
            )
        return None

    world.client.refuse = refuse
    async with _running(world):
        await world.relay_route.begin()
        (pod,) = world.relay_pods()
        assert pod["spec"]["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}


async def test_a_second_relay_is_not_made_when_the_command_ends_while_the_first_starts(world: RelayWorld) -> None:
    async with _running(world):
        beginning = asyncio.ensure_future(world.relay_route.begin())
        await _until(world.relay_pods)
    await asyncio.wait([beginning])
    assert not world.relay_pods()
    with pytest.raises(TargetUnreached, match="this command ends"):
        await world.relay_route.connect(Target("hosts", "10.0.0.1", port="1"))


def test_the_pod_is_restricted_and_its_object_does_not_contain_the_secret() -> None:
    pod = relay_pod("shop", "hatchway-relay-x", "python:3-alpine", 12345, "5ec2e7")
    assert "5ec2e7" not in str(pod)
    spec: Object = pod["spec"]
    (container,) = spec["containers"]
    # The `restricted` profile of the Pod Security Standards.
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert spec["automountServiceAccountToken"] is False
    assert spec["activeDeadlineSeconds"] > 0 and spec["restartPolicy"] == "Never"
    assert set(container["resources"]["limits"]) == {"cpu", "memory"}


# Datagrams


class Doubling(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data * 2, addr)


async def test_datagrams_to_a_service_and_back(world: RelayWorld) -> None:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Doubling, ("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    both = [{"name": "a", "port": port, "protocol": "TCP"}, {"name": "b", "port": port, "protocol": "UDP"}]
    target = await _service(world, port, ports=both)
    found: asyncio.Queue[bytes] = asyncio.Queue()
    async with _running(world), asyncio.timeout(30):
        link = await world.relay_route.connect_datagrams(target, found.put_nowait, lambda error: None)
        link.send(b"ab")
        link.send(b"c" * 1000)
        assert [await found.get(), await found.get()] == [b"abab", b"c" * 2000]
        link.close()
        (relay,) = world.relays.values()
        await _until(lambda: not relay.clients)
    transport.close()


async def test_the_end_of_datagrams_is_reported(world: RelayWorld) -> None:
    ended: asyncio.Queue[TargetUnreached | None] = asyncio.Queue()
    async with _running(world), asyncio.timeout(30):
        host = Target("hosts", "no-such-name.invalid", port="53")
        await world.relay_route.connect_datagrams(host, lambda data: None, ended.put_nowait)
        error = await ended.get()
        assert error is not None and error.cause is Unreached.MISSING
        await world.relay_route.connect_datagrams(
            Target("hosts", "127.0.0.1", port="53"), lambda data: None, ended.put_nowait
        )
        (name,) = _names(world)
        await _until(lambda: any(client.datagrams for client in world.relays[name].clients))
        await world.end_relay(name, delete=True)
        assert await ended.get() is None
        with pytest.raises(TargetUnreached, match="TCP, not UDP"):
            await world.relay_route.connect_datagrams(await _service(world, 80), lambda data: None, ended.put_nowait)
