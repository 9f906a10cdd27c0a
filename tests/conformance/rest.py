"""How an answer of the REST API is compared with the recorded one, and where Hatchway deliberately answers otherwise."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Protocol

import yaml

Recording = dict[str, Any]


class Reply(Protocol):
    """An answer: `json` is its decoded body."""

    @property
    def status(self) -> int: ...
    @property
    def body(self) -> bytes: ...
    @property
    def json(self) -> Any: ...


# Of these only the status is compared.
_DOCUMENTS = {"008", "010", "011", "012", "013", "014", "024"}
_GO_WORDS = "Go's own wording: status and reason are compared"
_JSON_VALUES = "since 1.32 structured values are shown as JSON"
_NEWER = "newer releases answer so"

# id -> (reason, changes of the object: None removes a field; `code` is the status, too; "body": None compares the status alone).
DELIBERATE: dict[str, tuple[str, dict[str, Any]]] = {
    "063": (_GO_WORDS, {"message": None}),
    "066": (_GO_WORDS, {"message": None}),
    "069": (_GO_WORDS, {"message": None}),
    "073": (_GO_WORDS, {"message": None}),
    "075": (_GO_WORDS, {"message": None}),
    "186": (_GO_WORDS, {"message": None}),
    "102": (
        "a patch that does not parse is the client's mistake: 400",
        {"message": None, "reason": "BadRequest", "code": 400},
    ),
    "089": (_JSON_VALUES, {"message": None, "details": None}),
    "154": (_JSON_VALUES, {"message": None, "details": None}),
    "149": (_JSON_VALUES, {"message": None, "details": None}),
    "185": (_JSON_VALUES, {"message": None, "details": None}),
    "140": (_NEWER + " (the allocator's words)", {"message": None, "details": None}),
    "145": (_NEWER + " (both loopback ranges are named)", {"message": None, "details": None}),
    "172": (_NEWER + " (the list of mutable fields grew; the diff is Go's)", {"message": None, "details": None}),
    "083": ("the generated suffix differs", {"message": None, "details": None}),
    "096": ("the uid differs", {"message": None}),
    "204": ("the uid differs", {"message": None}),
}
DELIBERATE_STATUS = {
    "166": ("environment variable names are relaxed since 1.34", 201),
    "157": ("a deleted Service is returned since 1.22", 200),
}


def _normal(value: Any, key: str = "") -> Any:
    """Without what differs from server to server, and without fields that newer releases add."""
    if isinstance(value, list):
        return [_normal(one) for one in value]
    if not isinstance(value, dict):
        return value
    out = {}
    for name, one in value.items():
        if name in _VOLATILE or one is None:
            continue
        if name == "clusterIP" and str(one).startswith("10.96.") and one != "10.96.77.77":
            one = "allocated"
        if name == "clusterIPs":
            one = ["allocated" if str(ip).startswith("10.96.") and ip != "10.96.77.77" else ip for ip in one]
        if name == "nodePort" and one != 30080:
            one = "allocated"
        if name == "labels":
            one = {label: text for label, text in one.items() if label != "kubernetes.io/metadata.name"}
            if not one:
                continue
        if name in ("volumes", "volumeMounts"):
            # Tokens were Secrets, they are projected now: the number and the place are compared.
            one = [{"mountPath": entry.get("mountPath")} for entry in one]
        out[name] = _normal(one, name)
    return out


_VOLATILE = frozenset(
    (
        "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp", "managedFields", "generation", "continue", "selfLink",
        "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy", "allocateLoadBalancerNodePorts", "preemptionPolicy",
        "conditions", "ca.crt",
    )
)  # fmt: skip


def _body(reply: Reply) -> Any:
    return reply.json if reply.body.startswith((b"{", b"[")) else reply.body.decode()


def compare(
    recording: Recording, reply: Reply, more: Mapping[str, tuple[str, dict[str, Any]]] | None = None
) -> list[str]:
    """What differs, a line each. more: further deliberate differences, as `DELIBERATE` holds them."""
    number, response = recording["id"], recording["response"]
    if number in DELIBERATE_STATUS:
        wanted = DELIBERATE_STATUS[number][1]
        return [] if reply.status == wanted else [f"{number}: status {reply.status}, not {wanted}: {reply.body!r}"]
    changes = (DELIBERATE | dict(more or {})).get(number, ("", {}))[1]
    status = changes.get("code", response["status"])
    if reply.status != status:
        return [f"{number}: status {reply.status}, not {status}: {reply.body!r}"]
    if number in _DOCUMENTS:
        return []
    text = response["body"]
    if changes.get("body", text) is None:
        return []
    if recording["headers"].get("Accept") == "application/yaml":
        wanted, got = yaml.safe_load(text), yaml.safe_load(reply.body)
    else:
        wanted, got = json.loads(text) if text.startswith("{") else text, _body(reply)
    if isinstance(wanted, dict) and "paths" in wanted:
        return [] if got.get("paths") else [f"{number}: no paths"]
    if isinstance(wanted, dict) and wanted.get("kind") == "Table":
        return _compare_tables(number, wanted, got)
    if changes:
        for key, value in changes.items():
            if value is None:
                wanted.pop(key, None)
                got.pop(key, None)
            else:
                wanted[key] = value
    wanted, got = _normal(wanted), _normal(got)
    if wanted == got:
        return []
    return [
        f"{number} {recording['method']} {recording['path']}\n   wanted {json.dumps(wanted)}\n   got    {json.dumps(got)}"
    ]


def _compare_tables(number: str, wanted: Any, got: Any) -> list[str]:
    columns = [
        [(one["name"], one["type"], one["format"], one["priority"]) for one in table["columnDefinitions"]]
        for table in (wanted, got)
    ]
    if columns[0] != columns[1]:
        return [f"{number}: columns {columns[1]}, not {columns[0]}"]
    return []
