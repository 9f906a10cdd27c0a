"""Waits until an object meets a condition, and describes the object when it does not."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time

from hatchway.errors import HatchwayError
from hatchway.kube.api import Object
from hatchway.testing.conditions import WaitCondition
from hatchway.testing.describe import describe_namespace, describe_object
from hatchway.testing.problems import ClusterError, WaitTimeout
from hatchway.testing.resources import ResourceType
from hatchway.testing.session import ClusterSession

# The maximum number of states of an object that wait for a slow condition; older ones are dropped.
_STATES = 100
# Seconds to wait for the first answer of the API server, even if the timeout is shorter.
_ANSWER_SECONDS = 10.0
# Seconds to look for the reason of a failure.
_DESCRIBE_SECONDS = 5.0

# A state of an object: the object, None when it does not exist, or the reason why it can no longer be watched.
_State = Object | None | Exception


def wait_for(
    session: ClusterSession, place: tuple[ResourceType, str, str], uid: str, condition: WaitCondition, seconds: float
) -> Object | None:
    """Wait until an object meets a condition; return the object, None for a deletion.

    The condition is evaluated in this thread. The object need not exist yet.

    Args:
        place: (type, namespace, name) of the object.
        uid: for a deletion, the uid of the object that must be gone; "" for any object with the name.

    Raises:
        WaitTimeout: the condition is not met in time.
        ClusterError: the object cannot be watched.
    """
    __tracebackhide__ = True  # pytest shows the test itself instead
    resource, namespace, name = place
    states: queue.Queue[_State] = queue.Queue(_STATES)
    watching = session.thread.submit(_watch(session, place, states))
    until = time.monotonic() + seconds
    last: Object | None = None
    why = ""
    try:
        while True:
            # Wait for the first state even beyond the timeout: a slow API server is no failure of the object.
            least = 0.0 if why else _ANSWER_SECONDS
            try:
                state = states.get(timeout=max(least, until - time.monotonic()))
            except queue.Empty:
                break
            if isinstance(state, Exception):
                raise ClusterError(f"{resource}/{name} cannot be watched: {state}") from state
            if state is None:
                last, why = None, f"there is no {resource}/{name}"
            else:
                last = state
            if condition.is_met is None:
                if last is None or (uid and last["metadata"]["uid"] != uid):
                    return None
                why = _why_not_deleted(last)
            elif last is not None:
                met, why = condition.is_met(last)
                if met:
                    return last
    finally:
        watching.cancel()
    where = f" in namespace {namespace}" if namespace else ""
    about = session.run(session.within(_describe(session, namespace, last), _DESCRIBE_SECONDS))
    text = f"{resource}/{name}{where}: {condition.text} was not met in {seconds:g} s: {why or 'no answer'}"
    raise WaitTimeout(f"{text}\n{about if about is not None else 'the cluster did not say more in time'}")


async def _watch(session: ClusterSession, place: tuple[ResourceType, str, str], states: queue.Queue[_State]) -> None:
    """Put the states of an object into the queue until cancelled."""
    known = False

    def put(state: _State) -> None:
        while True:
            try:
                states.put_nowait(state)
                return
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    states.get_nowait()

    try:
        async with contextlib.aclosing(session.watch_one(*place)) as events:
            async for event in events:
                if event.type == "SYNCED":
                    if not known:
                        put(None)
                else:
                    known = event.type != "DELETED"
                    put(event.object if known else None)
    except HatchwayError as error:
        put(error)


async def _describe(session: ClusterSession, namespace: str, obj: Object | None) -> str:
    if obj is not None:
        return await describe_object(session.client, obj)
    return await describe_namespace(session.client, namespace) if namespace else ""


def _why_not_deleted(obj: Object) -> str:
    metadata = obj["metadata"]
    if "deletionTimestamp" not in metadata:
        return "nothing has deleted it"
    finalizers = ", ".join(metadata.get("finalizers") or ())
    return f"its finalizers are left: {finalizers}" if finalizers else "it is being deleted"


async def await_account(session: ClusterSession, namespace: str, seconds: float) -> None:
    """Wait until a new namespace has its default ServiceAccount, which pods need. Raises ClusterError."""
    resource = await session.resources.of_word("serviceaccounts")
    try:
        async with asyncio.timeout(seconds):
            async with contextlib.aclosing(session.watch_one(resource, namespace, "default")) as events:
                async for event in events:
                    if event.type in ("ADDED", "MODIFIED"):
                        return
    except TimeoutError:
        raise ClusterError(
            f"namespace {namespace} got no default ServiceAccount in {seconds:g} s",
            "does the cluster's controller manager run?",
        ) from None
