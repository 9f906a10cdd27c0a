"""The forwards of all services of a namespace, kept up to date when services are created and deleted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Iterable
from dataclasses import dataclass, replace

from hatchway.errors import ApiError, HatchwayError
from hatchway.forward.forwarder import Forwarder, LocalForward
from hatchway.forward.localports import PlannedForward, plan_all
from hatchway.kube.api import Object
from hatchway.kube.connection import Connection
from hatchway.kube.view import View

# If the user may list the services, but not watch them, they are listed again after this many seconds.
_LIST_SECONDS = 10.0
# The maximum number of forwards of all services together. Each takes a descriptor and a local port, and a user who may
# create services must not be able to use up all descriptors and ports, or to replace the forwards of other services.
MOST_FORWARDS = 1000
# The most local ports that are stored, including those of deleted services.
_MOST_PORTS = 4 * MOST_FORWARDS
# Seconds for which changes are collected: the changes of one release, for example, come together.
_TOGETHER_SECONDS = 0.2
_TOO_MANY = f"some ports are left out: no more than {MOST_FORWARDS} are forwarded with --all"


async def follow_services(connection: Connection, namespace: str) -> AsyncGenerator[list[Object], None]:
    """Yield the list of all services of a namespace: at the beginning and after each change, without end.

    Nothing is yielded while the API server cannot be reached or refuses the credentials.
    """
    view = View(connection, [namespace], ["services"])
    changed = asyncio.Event()
    view.subscribe(lambda kind, event, obj: changed.set())
    running = asyncio.get_running_loop().create_task(view.run(), name=f"services of {namespace}")
    try:
        while True:
            changed.clear()
            scope, pause = view.scopes.get("services"), None
            if view.state.name == "live" and scope is not None:
                if scope.covers(namespace):
                    yield list(view.services.values())
                else:
                    pause = _LIST_SECONDS
                    listed = await _list(connection, namespace)
                    if listed is not None:
                        yield listed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await changed.wait()
            await asyncio.sleep(_TOGETHER_SECONDS)
    finally:
        running.cancel()
        await asyncio.wait([running])


async def _list(connection: Connection, namespace: str) -> list[Object] | None:
    try:
        return await connection.client.list("services", namespace)
    except ApiError:
        return None


def plan_first(services: list[Object], *, with_pods: bool) -> tuple[list[PlannedForward], list[str]]:
    """Return the result of `plan_all`, with at most `MOST_FORWARDS` forwards."""
    planned, left_out = plan_all(services, with_pods=with_pods)
    if len(planned) > MOST_FORWARDS:
        left_out.append(_TOO_MANY)
    return planned[:MOST_FORWARDS], left_out


@dataclass(frozen=True, slots=True)
class ServiceChanges:
    """The changes of a namespace's forwards.

    opened, closed: forwards. failed: forwards that cannot listen, each with the error.
    left_out: one sentence for each service that is left out. An error or a sentence that stays the same is reported
        once.
    """

    opened: list[LocalForward]
    closed: list[LocalForward]
    failed: list[tuple[PlannedForward, HatchwayError]]
    left_out: list[str]


class ServiceForwards:
    """The forwards of all services of a namespace. `apply` keeps them up to date."""

    def __init__(
        self,
        forwarder: Forwarder,
        planned: Iterable[PlannedForward],
        left_out: Iterable[str],
        *,
        with_pods: bool = True,
    ) -> None:
        """Take over the forwards that `forwarder` has already.

        planned, left_out: the result of `plan_first` with the same `with_pods`.
        """
        self._with_pods = with_pods
        wanted = set(planned)
        self._forwarder = forwarder
        self._forwards = {one.planned: one for one in forwarder.forwards if one.planned in wanted}
        # The present or former local port of each service's port: a service that is created again gets the same port.
        self._ports = {key.target: one.listen.port for key, one in self._forwards.items()}
        self._reported = set(left_out)
        self._failed: set[PlannedForward] = set()

    async def apply(self, services: list[Object]) -> ServiceChanges:
        """Open and close forwards, so that exactly these services have forwards."""
        planned, left_out = plan_all(services, with_pods=self._with_pods)
        wanted = set(planned)
        closed = [self._forwards.pop(key) for key in list(self._forwards) if key not in wanted]
        for one in closed:
            self._forwarder.close(one)
        self._failed &= wanted
        opened, failed = [], []
        for key in planned:
            if key in self._forwards:
                continue
            if len(self._forwards) >= MOST_FORWARDS:
                left_out.append(_TOO_MANY)
                break
            try:
                found = await self._forwarder.open(replace(key, local=self._ports.get(key.target, key.local)))
            except HatchwayError as error:
                # The forward is tried again at the next change.
                if key not in self._failed:
                    self._failed.add(key)
                    failed.append((key, error))
                continue
            self._forwards[key] = found
            self._ports[key.target] = found.listen.port
            if len(self._ports) > _MOST_PORTS:
                del self._ports[next(iter(self._ports))]
            opened.append(found)
        news = [line for line in left_out if line not in self._reported]
        self._reported = set(left_out)
        return ServiceChanges(opened, closed, failed, news)
