from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import cast

import pytest

from hatchway.kube.connection import Connection
from hatchway.route.byteroute import ANY_PROTOCOL
from hatchway.route.chooser import RouteChooser
from hatchway.route.contract import Refusal, RouteCapabilities, TargetUnreached, Unreached
from hatchway.route.podstream import KEPT, PodStream
from hatchway.route.via import Via
from hatchway.target import Kind, Target
from tests.unit.route.pods import Collector, World, speaks


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World().running() as found:
        yield found


async def _connected(world: World, target: Target, patience: float = 0.0) -> tuple[PodStream, Collector]:
    stream = await world.route.connect(target, patience)
    collector = Collector()
    stream.set_protocol(collector)
    stream.resume_reading()
    return stream, collector


async def _ask(world: World, target: Target, line: bytes = b"hello\n") -> str:
    """Return the name of the pod that answers one line."""
    stream, collector = await _connected(world, target)
    stream.write(line)
    while not collector.data.endswith(b"\n") and not collector.lost.done():
        collector.changed.clear()
        await collector.changed.wait()
    stream.close()
    error = await collector.lost
    if error is not None:
        raise error
    return bytes(collector.data).split()[0].decode()


async def _three_pods(world: World) -> Target:
    target = await world.add_service()
    for name in ("a", "b", "c"):
        await world.add_pod(name, handler=speaks(name))
    await world.set_endpoints("a", "b", "c")
    return target


async def test_connections_are_spread_over_all_ready_pods_on_one_session_each(world: World) -> None:
    target = await _three_pods(world)
    answers = [await _ask(world, target) for _ in range(9)]
    assert {name: answers.count(name) for name in "abc"} == {"a": 3, "b": 3, "c": 3}
    assert sorted(pod for pod, _ in world.sessions) == ["a", "b", "c"]


async def test_connections_that_prefer_open_sessions_are_spread_too(world: World) -> None:
    """Like the forwarder, use an open session if possible, otherwise a new session."""
    target = await _three_pods(world)
    answers = []
    for _ in range(12):
        stream = world.route.connect_now(target) or await world.route.connect(target)
        collector = Collector()
        stream.set_protocol(collector)
        stream.resume_reading()
        stream.write(b"hello\n")
        await collector.until(3)
        answers.append(bytes(collector.data).split()[0].decode())
        stream.close()
        await collector.lost
    assert {name: answers.count(name) for name in "abc"} == {"a": 4, "b": 4, "c": 4}


async def test_connections_that_stay_open_are_spread_too(world: World) -> None:
    target = await _three_pods(world)
    streams = [(await _connected(world, target))[0] for _ in range(9)]
    homes = [stream.pod.name for stream in streams if stream.pod is not None]
    assert {name: homes.count(name) for name in "abc"} == {"a": 3, "b": 3, "c": 3}


async def test_a_pod_that_is_not_ready_gets_no_connection(world: World) -> None:
    target = await _three_pods(world)
    await world.set_endpoints("b", not_ready=("a", "c"))
    assert {await _ask(world, target) for _ in range(4)} == {"b"}
    await world.set_endpoints("a", not_ready=("b", "c"))
    await world.client.settle()
    assert await _ask(world, target) == "a"


async def test_after_a_refusal_another_pod_gets_all_bytes(world: World) -> None:
    target = await _three_pods(world)
    del world.programs["a", 8080], world.programs["c", 8080]
    assert {await _ask(world, target) for _ in range(6)} == {"b"}
    # A pod that has refused a connection is not chosen for a while.
    world.dialed.clear()
    assert await _ask(world, target) == "b"
    assert world.dialed == [("b", 8080)]


async def test_data_over_the_size_of_the_buffer_are_not_sent_to_another_pod(world: World) -> None:
    target = await _three_pods(world)
    world.programs.clear()
    stream, collector = await _connected(world, target)
    stream.write(b"x" * (KEPT + 1))
    error = await collector.lost
    assert "connection refused" in str(error)
    assert len(world.dialed) == 1


async def test_if_every_pod_refuses_the_error_names_the_pods(world: World) -> None:
    target = await _three_pods(world)
    world.programs.clear()
    with pytest.raises(TargetUnreached) as caught:
        await _ask(world, target)
    assert caught.value.cause is Unreached.REFUSED
    assert "pod a, port 8080" in caught.value.message and "connection refused" in caught.value.message


async def test_another_pod_is_tried_if_a_pod_does_not_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hatchway.route.portforward._HEDGE", 0.05)
    target = await _three_pods(world)
    world.silent |= {"a", "b"}
    assert {await _ask(world, target) for _ in range(3)} == {"c"}


async def test_after_a_late_refusal_of_a_deleted_pod_another_pod_is_tried(world: World) -> None:
    target = await _three_pods(world)
    await world.set_endpoints("a")
    del world.programs["a", 8080]
    world.refusals.clear()
    stream, collector = await _connected(world, target)
    stream.write(b"hello\n")
    await world.client.delete("pods", "a", "shop", grace_period=0)
    await world.set_endpoints("b")
    await world.client.settle()
    world.refusals.set()
    await collector.until(8)
    assert collector.data.startswith(b"b ")


async def test_connections_to_a_pod_that_is_deleted_end_soon(world: World) -> None:
    target = await _three_pods(world)
    await world.set_endpoints("a")
    stream, collector = await _connected(world, target)
    stream.write(b"hello\n")
    await collector.until(8)
    await world.client.delete("pods", "a", "shop", grace_period=0)
    await asyncio.wait_for(collector.lost, 5)
    assert world.sessions[0][1].closed.done()


async def test_a_connection_waits_for_a_ready_pod(world: World) -> None:
    target = await world.add_service()
    await world.add_pod("a", ready=False, handler=speaks("a"))
    await world.set_endpoints(not_ready=("a",))
    with pytest.raises(TargetUnreached) as caught:
        await world.route.connect(target)
    assert caught.value.cause is Unreached.NO_PODS and "a: " in caught.value.message
    waiting = asyncio.ensure_future(world.route.connect(target, 10.0))
    await world.client.settle()
    assert not waiting.done()
    await world.set_endpoints("a")
    stream = await waiting
    assert stream.pod is not None and stream.pod.name == "a"


async def test_a_connection_waits_for_an_unreachable_api_server(world: World) -> None:
    target = await _three_pods(world)
    await _ask(world, target)
    world.connection.be_away(True)
    for _, session in world.sessions:
        session.close()
    with pytest.raises(TargetUnreached) as caught:
        await world.route.connect(target)
    assert caught.value.cause is Unreached.AWAY and caught.value.hint == "is it running?"
    waiting = asyncio.ensure_future(world.route.connect(target, 10.0))
    await world.client.settle()
    assert not waiting.done()
    world.connection.be_away(False)
    (await waiting).abort()


async def test_new_credentials_need_new_sessions_but_old_connections_continue(world: World) -> None:
    target = await _three_pods(world)
    await world.set_endpoints("a")
    stream, collector = await _connected(world, target)
    stream.write(b"one\n")
    await collector.until(6)
    world.connection.change_credentials()
    assert await _ask(world, target) == "a"
    assert len(world.sessions) == 2
    stream.write(b"two\n")
    assert await collector.until(12) == b"a one\na two\n"
    stream.close()
    await collector.lost
    assert world.sessions[0][1].closed.done()


async def test_the_end_of_one_direction_is_forwarded_and_the_other_continues(world: World) -> None:
    async def count(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"%d bytes" % len(await reader.read()))
        writer.write_eof()

    target = await world.add_service()
    await world.add_pod("a", handler=count)
    await world.set_endpoints("a")
    stream, collector = await _connected(world, target)
    stream.write(b"x" * 1000)
    stream.write_eof()
    await asyncio.wait_for(collector.eof.wait(), 5)
    assert bytes(collector.data) == b"1000 bytes"


async def test_session_affinity_keeps_to_one_pod_while_it_is_ready(world: World) -> None:
    target = await world.add_service(sessionAffinity="ClientIP")
    for name in ("a", "b"):
        await world.add_pod(name, handler=speaks(name))
    await world.set_endpoints("a", "b")
    first = await _ask(world, target)
    assert {await _ask(world, target) for _ in range(5)} == {first}
    other = "b" if first == "a" else "a"
    await world.set_endpoints(other, not_ready=(first,))
    await world.client.settle()
    assert await _ask(world, target) == other


async def test_rights_are_reviewed_and_a_missing_right_is_named(world: World) -> None:
    target = await _three_pods(world)
    assert (await world.route.prepare(target)) == cast(RouteCapabilities, await world.route.prepare(target))
    world.client.denied.add(("create", "pods/portforward"))
    pod = Target("pods", "a", "shop", port="8080")
    other = World()
    other.client.denied = world.client.denied
    async with other.running():
        answer = await other.route.prepare(pod)
    assert isinstance(answer, Refusal)
    assert answer.missing == ("create", "pods/portforward", "shop")
    assert "pods/portforward" in answer.missing_rule and "jane" in answer.missing_rule


@pytest.mark.parametrize("kind", ["services", "pods"])
async def test_without_the_right_to_watch_the_rights_for_kubectl_are_enough(world: World, kind: str) -> None:
    await _three_pods(world)
    for resource in ("services", "pods", "endpointslices"):
        world.client.denied.add(("watch", resource))
    port = "80" if kind == "services" else "8080"
    name = await _ask(
        world,
        Target("services" if kind == "services" else "pods", "web" if kind == "services" else "b", "shop", port=port),
    )
    assert name in ("a", "b", "c") if kind == "services" else name == "b"


async def test_without_the_right_to_read_pods_the_missing_rule_is_shown(world: World) -> None:
    target = await _three_pods(world)
    for resource in ("services", "pods", "endpointslices"):
        world.client.denied |= {("watch", resource), ("list", resource), ("get", resource)}
    answer = await world.route.prepare(target)
    assert isinstance(answer, Refusal) and '"services","pods"' in answer.missing_rule.replace(" ", "")


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"type": "ExternalName", "externalName": "db.example.com"}, "db.example.com"),
        ({"selector": None}, "selector"),
    ],
)
async def test_targets_without_pods_are_refused(world: World, spec: dict[str, object], why: str) -> None:
    target = await world.add_service(**spec)
    answer = await world.route.prepare(target)
    if isinstance(answer, Refusal):
        assert why in answer.why
    with pytest.raises(TargetUnreached, match=why):
        await world.route.connect(target)


async def test_a_node_is_refused(world: World) -> None:
    assert isinstance(await world.route.prepare(Target("nodes", "n1")), Refusal)


async def test_a_target_that_does_not_exist_is_named(world: World) -> None:
    with pytest.raises(TargetUnreached, match="there is no svc/nothing in namespace shop"):
        await world.route.connect(Target("services", "nothing", "shop", port="80"))
    target = await world.add_service()
    with pytest.raises(TargetUnreached, match=r'no port "81"; it has http \(80\)'):
        await world.route.connect(Target("services", "web", target.namespace, port="81"))


@pytest.mark.parametrize("kind", ["deployments.apps", "statefulsets.apps", "daemonsets.apps", "jobs.batch"])
async def test_a_workload_s_connections_go_to_its_ready_pods(world: World, kind: Kind) -> None:
    for name, ready in (("a", True), ("b", True), ("c", False)):
        await world.add_pod(name, handler=speaks(name), ready=ready)
    await world.add_pod("other", app="other", handler=speaks("other"))
    target = await world.add_workload(kind)
    assert await world.route.prepare(target) == ANY_PROTOCOL
    answers = [await _ask(world, target) for _ in range(6)]
    assert {name: answers.count(name) for name in "ab"} == {"a": 3, "b": 3}


async def test_a_rollout_is_followed(world: World) -> None:
    target = await world.add_workload("deployments.apps", port="web")
    await world.add_pod("old", handler=speaks("old"))
    assert await _ask(world, target) == "old"
    await world.add_pod("new", handler=speaks("new"))
    await world.client.delete("pods", "old", "shop")
    await world.client.settle()
    assert [await _ask(world, target) for _ in range(3)] == ["new"] * 3


async def test_selectors_may_have_expressions_or_labels(world: World) -> None:
    await world.add_pod("a", app="web", handler=speaks("a"))
    await world.add_pod("b", app="canary", handler=speaks("b"))
    some = {"matchExpressions": [{"key": "app", "operator": "In", "values": ["canary", "beta"]}]}
    assert await _ask(world, await world.add_workload("replicasets.apps", selector=some)) == "b"
    assert await _ask(world, await world.add_workload("replicationcontrollers", selector={"app": "web"})) == "a"


async def test_reasons_why_a_workload_has_no_pod(world: World) -> None:
    async def why(target: Target) -> tuple[Unreached, str]:
        with pytest.raises(TargetUnreached) as caught:
            await world.route.connect(target)
        return caught.value.cause, caught.value.message

    absent = Target("deployments.apps", "web", "shop", port="80")
    assert await why(absent) == (Unreached.MISSING, "there is no deploy/web in namespace shop")
    scaled = await world.add_workload("deployments.apps", "scaled", replicas=0)
    assert await why(scaled) == (Unreached.NO_PODS, "deploy/scaled:8080: it is scaled to 0")
    await world.add_pod("web-1", ready=False)
    cause, message = await why(await world.add_workload("statefulsets.apps"))
    assert cause is Unreached.NO_PODS and message.startswith("sts/web:8080: no pod is ready (web-1: ")
    await world.add_pod("api-1", app="api")
    named = await world.add_workload("deployments.apps", "api", port="grpc")
    assert (await why(named))[1] == 'deploy/api:grpc: no container of its pods declares the port "grpc"'


async def test_a_user_who_may_only_get_and_list_reaches_a_workload(world: World) -> None:
    world.client.denied |= {("watch", "pods"), ("watch", "services"), ("watch", "endpointslices")}
    target = await world.add_workload("deployments.apps")
    await world.add_pod("a", handler=speaks("a"))
    assert await _ask(world, target) == "a"


async def test_the_missing_right_to_read_a_workload_is_named(world: World) -> None:
    target = await world.add_workload("deployments.apps")
    world.client.denied.add(("get", "deployments"))
    answer = await world.route.prepare(target)
    assert isinstance(answer, Refusal) and answer.missing == ("get", "deployments.apps", "shop")
    assert "deployments" in answer.missing_rule and "pods" in answer.missing_rule


async def test_a_right_that_was_reviewed_before_a_refusal_is_not_cached(world: World) -> None:
    target = await _three_pods(world)
    world.client.held_review = answered = asyncio.Event()
    before = asyncio.ensure_future(world.route.prepare(target))
    await world.client.review_begun.wait()
    # During the review, the right is withdrawn, and a connection is refused.
    world.client.denied.add(("create", "pods/portforward"))
    refused = asyncio.ensure_future(world.route.connect(target))
    for _ in range(100):
        await asyncio.sleep(0)
    answered.set()
    assert isinstance(await before, RouteCapabilities)
    with pytest.raises(TargetUnreached) as caught:
        await refused
    assert caught.value.cause is Unreached.FORBIDDEN
    assert isinstance(await world.route.prepare(target), Refusal)


async def test_a_choice_from_before_a_failed_attempt_is_not_used_later(world: World) -> None:
    target = await _three_pods(world)
    chooser = RouteChooser(Via.forward, cast(Connection, world.connection))
    running = asyncio.ensure_future(chooser.run())
    try:
        world.client.held_review = answered = asyncio.Event()
        before = asyncio.ensure_future(chooser.prepare(target))
        await world.client.review_begun.wait()
        chooser.forget(target)
        answered.set()
        assert (await before).capabilities == ANY_PROTOCOL
        assert chooser.choice(target) is None
        await chooser.prepare(target)
        assert chooser.choice(target) is not None
    finally:
        running.cancel()
        await asyncio.wait([running])


async def test_a_session_begun_with_earlier_credentials_is_not_used(world: World) -> None:
    target = await world.add_service()
    await world.add_pod("a", handler=speaks("a"))
    await world.set_endpoints("a")
    world.held_session = opened = asyncio.Event()
    before = asyncio.ensure_future(_ask(world, target))
    await world.session_begun.wait()
    world.connection.change_credentials()
    after = asyncio.ensure_future(_ask(world, target))
    for _ in range(100):
        await asyncio.sleep(0)
    opened.set()
    assert await asyncio.gather(before, after) == ["a", "a"]
    former = [session for _, session in world.sessions if not session.transports]
    assert len(former) == 1 and former[0].closed.done()
