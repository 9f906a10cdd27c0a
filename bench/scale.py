"""Does the work for one change grow with the number of other objects?

The API, its store and all controllers run in one process, without a network. For each kind of change, the benchmark
makes 100, 1,000 and 5,000 objects. At each number, it measures the processor time of some further changes, until all
controllers have finished. It prints microseconds per change, and the result: the ratio of the time with the most
objects to the time with the fewest. At the end, it deletes a namespace with many objects.

    .venv/bin/python bench/scale.py [--most 5000] [--profile FILE] [kind ...]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import cProfile
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import uvloop

from hatchway.cluster.api.operations.local import LocalClient
from hatchway.cluster.api.operations.verbs import Api
from hatchway.cluster.api.registry.types import Registry
from hatchway.cluster.api.storage.store import Store
from hatchway.cluster.controllers.clusterobjects import ensure_bootstrap
from hatchway.cluster.controllers.manager import ControllerConfig, run_controllers
from hatchway.kube.api import Object

NAMESPACE = "full"
MEASURED = 100
AT_ONCE = 50


class World:
    """One API server without a network, with all controllers."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.client = LocalClient(Api(store, Registry()))

    async def rest(self) -> None:
        """Wait until the controllers have written nothing for a moment."""
        quiet = 0
        while quiet < 5:
            before = self.store.revision
            await asyncio.sleep(0.02)
            quiet = quiet + 1 if self.store.revision == before else 0

    async def make(self, resource: str, objects: list[Object]) -> None:
        """Create objects, some at once."""
        for start in range(0, len(objects), AT_ONCE):
            batch = objects[start : start + AT_ONCE]
            await asyncio.gather(*(self.client.create(resource, obj, NAMESPACE) for obj in batch))


@contextlib.asynccontextmanager
async def world() -> AsyncIterator[World]:
    """Run an API server without a network and its controllers, in a directory of its own."""
    with tempfile.TemporaryDirectory() as directory:
        store = Store.open(Path(directory) / "store")
        found = World(store)
        await ensure_bootstrap(found.client, "172.18.0.2")
        task = asyncio.create_task(run_controllers(found.client, config=ControllerConfig()))
        try:
            await found.client.create("namespaces", {"metadata": {"name": NAMESPACE}})
            await found.rest()
            yield found
        finally:
            task.cancel()
            await asyncio.wait({task})
            await store.close()


def config_map(number: int) -> Object:
    """Return a ConfigMap of this number."""
    return {"metadata": {"name": f"c{number}"}, "data": {"key": "value"}}


def service(number: int, **more: object) -> Object:
    """Return a Service of this number. more: further fields of its spec."""
    ports = [{"name": "http", "port": 80}, {"name": "https", "port": 443}]
    return {"metadata": {"name": f"s{number}"}, "spec": {"selector": {"app": f"a{number}"}, "ports": ports, **more}}


def node_port(number: int) -> Object:
    """Return a Service of this number; each fifth one has node ports."""
    return service(number, type="NodePort") if number % 5 == 0 else service(number)


def pod(number: int) -> Object:
    """Return a Pod of this number, which the Service of the same number selects."""
    spec = {"containers": [{"name": "c", "image": "i"}], "nodeName": "n"}
    return {"metadata": {"name": f"p{number}", "labels": {"app": f"a{number}"}}, "spec": spec}


def replica_set(number: int) -> Object:
    """Return a ReplicaSet of this number."""
    labels = {"app": f"a{number}"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"replicas": 1, "selector": {"matchLabels": labels}, "template": template}
    return {"metadata": {"name": f"r{number}"}, "spec": spec}


def deployment(number: int) -> Object:
    """Return a Deployment of this number."""
    return replica_set(number)


KINDS: dict[str, list[tuple[str, Callable[[int], Object]]]] = {
    "configmaps": [("configmaps", config_map)],
    "services": [("services", service)],
    "node-ports": [("services", node_port)],
    "services-and-pods": [("services", service), ("pods", pod)],
    "replicasets": [("replicasets.apps", replica_set)],
    "deployments": [("deployments.apps", deployment)],
}


async def cost(found: World, kind: str, first: int, count: int) -> float:
    """Return the microseconds of processor time for one change, over `count` new objects numbered from `first`."""
    await found.rest()
    began = time.process_time()
    for resource, make in KINDS[kind]:
        await found.make(resource, [make(number) for number in range(first, first + count)])
    await found.rest()
    return (time.process_time() - began) / count * 1e6


async def measure(kind: str, sizes: list[int]) -> None:
    """Print the cost of a change of one kind with each number of other objects."""
    async with world() as found:
        count, costs = 0, []
        for size in sizes:
            for resource, make in KINDS[kind]:
                await found.make(resource, [make(number) for number in range(count, size)])
            costs.append(await cost(found, kind, size, MEASURED))
            count = size + MEASURED
        shown = "   ".join(f"{size}: {each:6.0f} us" for size, each in zip(sizes, costs, strict=True))
        print(f"{kind:<18} {shown}   ratio {costs[-1] / costs[0]:.2f}", flush=True)


async def empty(maps: int, services: int) -> None:
    """Print the time for the deletion of a namespace that has this number of ConfigMaps and of Services."""
    async with world() as found:
        await found.make("configmaps", [config_map(number) for number in range(maps)])
        await found.make("services", [service(number) for number in range(services)])
        await found.rest()
        began, used = time.monotonic(), time.process_time()
        await found.client.delete("namespaces", NAMESPACE)
        longest = 0.0
        while found.store.get("namespaces", "", NAMESPACE) is not None:
            turn = time.monotonic()
            await asyncio.sleep(0.005)
            longest = max(longest, time.monotonic() - turn - 0.005)
        took, used = time.monotonic() - began, time.process_time() - used
        print(f"a namespace of {maps} ConfigMaps and {services} Services is gone after {took:.1f} s", end="")
        print(f" ({used:.1f} s of processor time); the loop was held {longest * 1000:.0f} ms at most", flush=True)
        await found.rest()
        used = time.process_time()
        await asyncio.sleep(2)
        print(f"at rest: {(time.process_time() - used) / 2 * 100:.1f} % of a core")


async def run(kinds: list[str], sizes: list[int]) -> None:
    """Measure these kinds of changes (all kinds if none is given), and the deletion of a namespace."""
    steps: list[Awaitable[None]] = [measure(kind, sizes) for kind in kinds or KINDS]
    if not kinds or "namespace" in kinds:
        steps.append(empty(sizes[-1], sizes[-1] * 2100 // 5000))
    for step in steps:
        await step


def main() -> None:
    """Measure with the options of the command line, and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", help="of those above")
    parser.add_argument("--most", type=int, default=5000)
    parser.add_argument("--profile", help="write a profile to this file")
    options = parser.parse_args()
    sizes = sorted({options.most // 50, options.most // 5, options.most})
    kinds = [kind for kind in options.kinds if kind != "namespace"]
    with cProfile.Profile() if options.profile else contextlib.nullcontext() as profile:
        if "namespace" in options.kinds and not kinds:
            uvloop.run(empty(options.most, options.most * 2100 // 5000))
        else:
            uvloop.run(run(kinds, sizes))
    if profile is not None:
        profile.dump_stats(options.profile)


if __name__ == "__main__":
    main()
