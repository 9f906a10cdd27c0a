"""Makes the content of an object's pages: its YAML without secrets, its events, its containers. Pure.

Objects have the form in which the API server sends them. The functions do not change their arguments.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import yaml

from hatchway.door.problems.problem import DoorProblem
from hatchway.errors import HatchwayError
from hatchway.kube.api import Object
from hatchway.kube.wellknown import LAST_APPLIED
from hatchway.target import Target

# The maximum number of events on one page; older events are left out.
MAX_EVENTS = 200
HIDDEN = "<hidden>"

_SECRET = r"(?i:passw(?:or)?d|passphrase|secret|token|credential|api_?key|access_?key|private_?key|authorization)"
_SECRET_NAME = re.compile(_SECRET)
# The text comes from the authors of pods. The pattern is bounded and begins at the start of a word, so that a search
# always takes linear time.
_FLAG = rf"(?<![\w.-])--?[\w.-]{{0,60}}?{_SECRET.replace('_?', '[-_]?')}[\w.-]{{0,60}}"
_SECRET_FLAG = re.compile(rf"({_FLAG})(=|\s{{1,20}})(\S+)")
_SECRET_FLAG_ALONE = re.compile(rf"{_FLAG}\Z")
_USERINFO = re.compile(r"(://[^/@:\s]*:)[^/@\s]+@")
_CONTAINERS = ("initContainers", "containers", "ephemeralContainers")


class ObjectSource(Protocol):
    """The source of the objects from which pages are made."""

    async def get(self, target: Target) -> Object:
        """Return a target's object.

        Raises:
            HatchwayError: the object cannot be read.
        """
        ...

    async def events(self, target: Target, obj: Object) -> list[Object]:
        """Return the events of an object, in any order.

        Raises:
            HatchwayError: the events cannot be read.
        """
        ...

    def log_path(self, target: Target) -> str:
        """Return the path of a pod's log on the page's own origin, without a query."""
        ...

    async def problem(self, error: HatchwayError, target: Target) -> DoorProblem:
        """Turn the error of a failed call into a problem for a page."""
        ...

    @property
    def form_action(self) -> str:
        """Return the origins to which forms of the pages may lead, as a source of a Content-Security-Policy."""
        ...


_BaseDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class _BlockTextDumper(_BaseDumper):  # type: ignore[misc]
    """A dumper that writes strings of several lines as block scalars."""


def _represent_text(dumper: Any, text: str) -> Any:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_BlockTextDumper.add_representer(str, _represent_text)


def yaml_text(obj: Object) -> tuple[str, bool]:
    """Return an object as YAML without managed fields, in kubectl's order, and True when values were hidden."""
    shown = dict(obj)
    metadata = {key: value for key, value in (obj.get("metadata") or {}).items() if key != "managedFields"}
    annotations = dict(metadata.get("annotations") or {})
    # This annotation contains the whole object, including secrets.
    if annotations.pop(LAST_APPLIED, None) is not None:
        metadata["annotations"] = annotations
        if not annotations:
            del metadata["annotations"]
    shown["metadata"] = metadata
    hiding = _Hiding()
    spec = obj.get("spec")
    if obj.get("kind") == "Pod" and isinstance(spec, dict):
        lists = {key: [hiding.container(one) for one in spec[key]] for key in _CONTAINERS if spec.get(key)}
        shown["spec"] = {**spec, **lists}
    text = yaml.dump(
        shown, Dumper=_BlockTextDumper, sort_keys=True, allow_unicode=True, default_flow_style=False, width=110
    )
    return text, hiding.hidden


class _Hiding:
    """Replaces values that look like secrets.

    hidden: True once a value was replaced.
    """

    def __init__(self) -> None:
        self.hidden = False

    def container(self, container: Object) -> Object:
        """Return a container without the secrets in its environment, command and probes."""
        found = dict(container)
        if container.get("env"):
            found["env"] = [self._variable(variable) for variable in container["env"]]
        for key in ("command", "args"):
            if container.get(key):
                found[key] = self._words(container[key])
        for key in ("livenessProbe", "readinessProbe", "startupProbe", "lifecycle"):
            if container.get(key):
                found[key] = self._handlers(container[key])
        return found

    def _variable(self, variable: Object) -> Object:
        value = variable.get("value")
        if not isinstance(value, str) or not value:
            return variable
        if _SECRET_NAME.search(str(variable.get("name", ""))):
            self.hidden = True
            return {**variable, "value": HIDDEN}
        return {**variable, "value": self._text(value)}

    def _words(self, words: Iterable[Any]) -> list[Any]:
        """Return a command line's words without secrets (the word after `--password` ...); if any, set `hidden`."""
        out: list[Any] = []
        follows = False
        for word in words:
            if follows and isinstance(word, str) and not word.startswith("-"):
                self.hidden = True
                out.append(HIDDEN)
                follows = False
                continue
            follows = isinstance(word, str) and _SECRET_FLAG_ALONE.match(word) is not None
            out.append(self._text(word) if isinstance(word, str) else word)
        return out

    def _handlers(self, found: Any) -> Any:
        """Return a probe or hooks without secrets in commands and header fields; set `hidden` if there were any."""
        if isinstance(found, list):
            return [self._handlers(one) for one in found]
        if not isinstance(found, dict):
            return found
        out = {key: self._words(value) if key == "command" else self._handlers(value) for key, value in found.items()}
        if isinstance(out.get("value"), str) and _SECRET_NAME.search(str(out.get("name", ""))):
            self.hidden = True
            out["value"] = HIDDEN
        return out

    def _text(self, text: str) -> str:
        found = _USERINFO.sub(rf"\1{HIDDEN}@", _SECRET_FLAG.sub(rf"\1\2{HIDDEN}", text))
        self.hidden = self.hidden or found != text
        return found


@dataclass(frozen=True, slots=True)
class EventRow:
    """An event.

    warning: True when its type is Warning.
    source: the component that has reported it.
    count: the number of times that it has happened.
    at: when it happened last, in the API server's format.
    part: the container to which it refers; "" for none.
    """

    warning: bool
    reason: str
    message: str
    source: str
    count: int
    at: str
    part: str


def event_rows(events: Iterable[Object]) -> list[EventRow]:
    """Return the events to display, the latest first."""
    rows = sorted((_event_row(event) for event in events), key=lambda row: row.at, reverse=True)
    return rows[:MAX_EVENTS]


def _event_row(event: Object) -> EventRow:
    series = event.get("series") or {}
    metadata = event.get("metadata") or {}
    times = (
        series.get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
        metadata.get("creationTimestamp"),
    )
    source = event.get("reportingComponent") or (event.get("source") or {}).get("component") or ""
    # `fieldPath` is like "spec.containers{web}".
    part = re.search(r"\{(.+)\}", (event.get("involvedObject") or {}).get("fieldPath") or "")
    return EventRow(
        event.get("type") == "Warning",
        event.get("reason") or "",
        (event.get("message") or event.get("note") or "").strip(),
        source,
        int(series.get("count") or event.get("count") or 1),
        next((time for time in times if time), ""),
        part[1] if part else "",
    )


@dataclass(frozen=True, slots=True)
class ContainerChoice:
    """A container of a pod whose log can be chosen.

    note: its kind (init, ephemeral; nothing for an ordinary container) and its state.
    ran_before: True when it was restarted, so that there is a log of the previous run.
    """

    name: str
    note: str
    ran_before: bool


def container_choices(pod: Object) -> list[ContainerChoice]:
    """Return a pod's containers. kubectl's default container (by annotation or order) comes first, then the others."""
    spec, status = pod.get("spec") or {}, pod.get("status") or {}
    statuses = {
        found.get("name"): found
        for key in ("initContainerStatuses", "containerStatuses", "ephemeralContainerStatuses")
        for found in status.get(key) or ()
    }
    words = {"containers": "", "initContainers": "init", "ephemeralContainers": "ephemeral"}
    found = [
        ContainerChoice(
            one["name"],
            ", ".join(part for part in (word, _how(statuses.get(one["name"]) or {})) if part),
            bool((statuses.get(one["name"]) or {}).get("restartCount")),
        )
        for key, word in words.items()
        for one in spec.get(key) or ()
    ]
    annotations = (pod.get("metadata") or {}).get("annotations") or {}
    default = annotations.get("kubectl.kubernetes.io/default-container")
    return sorted(found, key=lambda one: one.name != default)


def _how(status: Object) -> str:
    state = status.get("state") or {}
    if "running" in state:
        return "running"
    for key in ("terminated", "waiting"):
        if key in state:
            word = "ended" if key == "terminated" else "waiting"
            reason = (state[key] or {}).get("reason") or ""
            return f"{word}: {reason}" if reason else word
    return ""
