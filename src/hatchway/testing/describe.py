"""Describes an object or a namespace after a test has failed: conditions, Events, pods, logs. The text is bounded."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from typing import Any

from hatchway.errors import HatchwayError
from hatchway.kube.api import Object
from hatchway.kube.client import ConnectionClient
from hatchway.printable import printable

# The most Events, pods, containers' logs, lines of each log and characters of one line that are shown.
_EVENTS, _PODS, _LOGS, _LINES, _WIDTH = 20, 10, 10, 20, 300
# The maximum number of bytes of one log that are read.
_LOG_BYTES = 64 * 1024


def cut(text: str) -> str:
    """Return a text as one line that is safe to print, of limited length."""
    found = printable(" ".join(text.split()))
    return found if len(found) <= _WIDTH else f"{found[:_WIDTH]}..."


async def describe_namespace(client: ConnectionClient, namespace: str) -> str:
    """Return the Events, pods and logs of a namespace, as far as they can be read."""
    try:
        events, pods = await asyncio.gather(client.list("events", namespace), client.list("pods", namespace))
    except (HatchwayError, OSError) as error:
        return f"cannot be read: {cut(str(error))}"
    return "\n".join([*_events(events), *await _pods(client, pods)])


async def describe_object(client: ConnectionClient, obj: Object) -> str:
    """Return an object's conditions and Events, and the states and logs of its pods, as far as they can be read."""
    lines = list(_conditions(obj))
    namespace = obj["metadata"].get("namespace")
    try:
        if namespace:
            mine, pods = await _belonging(client, obj, namespace)
        else:
            mine, pods = {obj["metadata"].get("uid", "")}, []
        events = await client.list("events", namespace)
    except (HatchwayError, OSError) as error:
        return "\n".join([*lines, f"Events and pods cannot be read: {cut(str(error))}"])
    lines += _events(one for one in events if one.get("involvedObject", {}).get("uid") in mine)
    return "\n".join([*lines, *await _pods(client, pods)])


async def _belonging(client: ConnectionClient, obj: Object, namespace: str) -> tuple[set[str], list[Object]]:
    """Return (the uids of an object, of its pods and of the objects between them; the pods)."""
    pods = await client.list("pods", namespace)
    uids = {str(obj["metadata"].get("uid"))}
    between: list[Object] = []
    for resource in ("replicasets.apps", "jobs.batch"):
        with contextlib.suppress(HatchwayError):
            between += await client.list(resource, namespace)
    for one in between:
        if _is_owned(one, uids):
            uids.add(one["metadata"]["uid"])
    mine = [pod for pod in pods if pod["metadata"]["uid"] in uids or _is_owned(pod, uids)]
    if not mine and obj.get("kind") == "Service" and (selector := (obj.get("spec") or {}).get("selector")):
        mine = [pod for pod in pods if selector.items() <= (pod["metadata"].get("labels") or {}).items()]
    return uids | {pod["metadata"]["uid"] for pod in mine}, mine


def _is_owned(obj: Object, uids: set[str]) -> bool:
    return any(owner.get("uid") in uids for owner in obj["metadata"].get("ownerReferences") or ())


def _conditions(obj: Object) -> Iterable[str]:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    if conditions:
        yield "conditions:"
    for one in conditions[:_EVENTS]:
        said = ": ".join(filter(None, (str(one.get("reason") or ""), str(one.get("message") or ""))))
        text = f"{one.get('type')}={one.get('status')} {said}"
        yield f"  {cut(text)}"


def _events(events: Iterable[Object]) -> list[str]:
    found = sorted(events, key=lambda one: str(one.get("lastTimestamp") or one.get("eventTime") or ""))
    if not found:
        return ["no Events"]
    lines = ["Events:" if len(found) <= _EVENTS else f"the last {_EVENTS} of {len(found)} Events:"]
    for one in found[-_EVENTS:]:
        involved = one.get("involvedObject") or {}
        what = f"{str(involved.get('kind', '')).lower()}/{involved.get('name', '')}"
        times = f" (x{one['count']})" if (one.get("count") or 1) > 1 else ""
        text = (
            f"{one.get('type', '')} {one.get('reason', '')} {what}{times}: {one.get('message') or one.get('note', '')}"
        )
        lines.append(f"  {cut(text)}")
    return lines


async def _pods(client: ConnectionClient, pods: list[Object]) -> list[str]:
    if not pods:
        return ["no pods"]
    lines = ["pods:" if len(pods) <= _PODS else f"{_PODS} of {len(pods)} pods:"]
    # Pods with trouble come first.
    chosen = sorted(pods, key=lambda pod: (_is_well(pod), pod["metadata"]["name"]))[:_PODS]
    containers = []
    for pod in chosen:
        name, status = pod["metadata"]["name"], pod.get("status") or {}
        why = f" {status.get('reason', '')} {status.get('message', '')}".rstrip()
        leaving = ", is being deleted" if "deletionTimestamp" in pod["metadata"] else ""
        text = f"{name} {status.get('phase', '')}{leaving}{why}"
        lines.append(f"  {cut(text)}")
        if not status.get("containerStatuses"):
            lines += [f"    {line.strip()}" for line in _conditions(pod) if "=False" in line]
        for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses"):
            for one in status.get(key) or ():
                lines.append(f"    {cut(_container(one))}")
                if "waiting" not in (one.get("state") or {}) or one.get("restartCount"):
                    containers.append((pod, one))
    for pod, one in containers[:_LOGS]:
        lines += await _log(client, pod, one)
    return lines


def _is_well(pod: Object) -> bool:
    status = pod.get("status") or {}
    statuses = status.get("containerStatuses") or ()
    return status.get("phase") == "Succeeded" or bool(
        statuses and all(one.get("ready") and not one.get("restartCount") for one in statuses)
    )


def _container(status: dict[str, Any]) -> str:
    states: dict[str, dict[str, Any]] = status.get("state") or {}
    state, details = next(iter(states.items()), ("unknown", {}))
    said = [str(details[key]) for key in ("reason", "message") if details.get(key)]
    if "exitCode" in details:
        said.insert(0, f"exit code {details['exitCode']}")
    restarts = f", restarts: {status['restartCount']}" if status.get("restartCount") else ""
    ready = "ready" if status.get("ready") else "not ready"
    return f"container {status.get('name')}: {state}{' ' if said else ''}{': '.join(said)}, {ready}{restarts}"


async def _log(client: ConnectionClient, pod: Object, status: dict[str, Any]) -> list[str]:
    metadata, container = pod["metadata"], status["name"]
    # While a container waits for its next start, its last output is in the previous log.
    previous = "&previous=true" if "waiting" in (status.get("state") or {}) else ""
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/log"
    query = f"?container={container}&tailLines={_LINES}&limitBytes={_LOG_BYTES}{previous}"
    where = f"{metadata['name']}/{container}"
    try:
        code, body = await client.exchange("GET", path + query)
    except (HatchwayError, OSError) as error:
        return [f"the log of {where} cannot be read: {cut(str(error))}"]
    if code != 200:
        return [f"the log of {where} cannot be read (status {code})"]
    lines = body.decode(errors="replace").splitlines()[-_LINES:]
    return [f"the last lines of the log of {where}:", *(f"  {cut(line)}" for line in lines)] if lines else []
