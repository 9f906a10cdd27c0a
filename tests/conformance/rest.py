"""Compare a response of the REST API with the recorded one (README.md has the rules)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

import yaml

from tests.conformance.deliberate import REST_DELIBERATE
from tests.conformance.replay import Answer

Recording = dict[str, Any]
Changes = dict[str, Any]
# id -> (reason, changes of the object). Changes: path of a field -> expected value; None removes the field from both
# objects; `code` also changes the expected HTTP status; "body": None compares only the HTTP status; "headers": None
# ignores header fields.
Deliberate = Mapping[str, tuple[str, Changes]]

# The compared header fields: those that describe the response itself.
_HEADERS = ("content-type", "warning", "x-content-type-options", "retry-after", "location", "allow", "www-authenticate")
# The group of the metrics server, which the recorded cluster did not have.
_NOT_RECORDED = frozenset(("metrics.k8s.io",))
# The recordings cut longer bodies at this size.
_CUT = 20_000
_VOLATILE = frozenset(("uid", "resourceVersion", "continue", "nodeName", "ca.crt", "serverAddress"))
# Field managers whose writes are in the recordings only by chance.
_CONTROLLERS = frozenset(("kube-controller-manager", "kube-apiserver", "kube-scheduler", "kubelet"))
# Messages of Go's parsers of JSON and YAML, and names of Go types, are not compared.
_GO_WORDS = re.compile(
    r"json parse error|yaml parse error|json: |JSON input|Go (?:value|struct)|in scheme \"|unknown conversion"
    r"|unmarshal|error decoding patch|unable to decode|invalid character"
)
_MASKS = tuple(
    (re.compile(pattern), mask)
    for pattern, mask in (
        (r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", "UID"),
        (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z", "TIME"),
        (r"kube-api-access-[a-z0-9]{5}\b", "kube-api-access-SUFFIX"),
        (r"\b[Gg]en-[a-z0-9]{5}\b", "gen-SUFFIX"),
        (r"(ReplicaSet \\?\"[a-z0-9-]+-)[a-z0-9]{8,10}\\?\"", r"\1HASH"),
        (r"Invalid value: \"\{.*\}\": ", "Invalid value: DUMP: "),
        (r"\b10\.9[67]\.(?!77\.77|99\.99)\d+\.\d+", "ADDRESS"),
        (r"(?<=in record \()\d+(?=\))", "VERSION"),
        (r"10\.97\.0\.0/16|10\.96\.0\.0/16", "SERVICE-RANGE"),
        (r"(?s)(pod updates may not change fields other than[^\n]*)\n.*", r"\1"),
    )
)


def _text(value: str) -> str:
    for pattern, mask in _MASKS:
        value = pattern.sub(mask, value)
    return value


def _owned_by_clients(entries: list[Any]) -> list[Any]:
    """Return managed fields without those of controllers, which may write earlier or later than in the recording."""
    kept = [one for one in entries if one["manager"] not in _CONTROLLERS]
    return sorted(({key: value for key, value in one.items() if key != "time"} for one in kept), key=str)


def _normal(value: Any, owned: bool = True) -> Any:
    """Return a value without parts that differ from server to server. owned: whether to keep managed fields."""
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list):
        return [_normal(one, owned) for one in value]
    if not isinstance(value, dict):
        return value
    found = {}
    for name, one in value.items():
        if name in _VOLATILE and isinstance(one, str | list):
            continue
        if name == "managedFields" and isinstance(one, list):
            if owned and (entries := _owned_by_clients(one)):
                found[name] = entries
            continue
        allocated = name == "healthCheckNodePort" or (name == "nodePort" and one not in (30080, 31234))
        found[name] = "allocated" if allocated else _normal(one, owned)
    return found


def _without_go_words(wanted: Any, got: Any) -> None:
    if not isinstance(wanted, dict) or wanted.get("kind") != "Status":
        return
    if _GO_WORDS.search(wanted.get("message") or ""):
        for one in (wanted, got):
            one.pop("message", None)
            for cause in (one.get("details") or {}).get("causes") or ():
                cause.pop("message", None)


def _decoded(body: str, accept: str) -> Any:
    if "yaml" in accept:
        return yaml.safe_load(body)
    try:
        return json.loads(body)
    except ValueError:
        return body


def _events(body: str) -> list[Any]:
    """Return the types and names of the events of a watch, in their order."""
    found = []
    for line in body.splitlines():
        event = json.loads(line)
        shown = event["object"]
        found.append((event["type"], shown.get("metadata", {}).get("name") or shown.get("code")))
    return found


def _headers(pairs: Any) -> list[str]:
    return sorted(f"{key.lower()}: {_text(value)}" for key, value in pairs if key.lower() in _HEADERS)


def _is_watch(recording: Recording) -> bool:
    return recording["response"]["status"] == 200 and re.search(r"[?&]watch=(1|true)", recording["path"]) is not None


def compare(recording: Recording, answer: Answer, deliberate: Deliberate = REST_DELIBERATE) -> list[str]:
    """Return the differences, one line each. deliberate: the intended ones; by default those of `api.jsonl`."""
    number, response = recording["id"], recording["response"]
    changes = deliberate.get(number, ("", {}))[1]
    head = f"{number} {recording['method']} {recording['path']}"
    status = changes.get("code", response["status"])
    if answer.status != status:
        return [f"{head}: status {answer.status}, not {status}: {answer.body[:600]}"]
    found = []
    wanted_headers, got_headers = _headers(response["headers"]), _headers(answer.headers)
    if changes.get("headers", wanted_headers) is not None and wanted_headers != got_headers:
        found.append(f"{head}: header fields {got_headers}, not {wanted_headers}")
    text = response["body"] or ""
    if changes.get("body", text) is None or len(text) >= _CUT:
        return found
    if _is_watch(recording):
        wanted, got = _events(text), _events(answer.body)
        return found if wanted == got else [*found, f"{head}: events {got}, not {wanted}"]
    accept = (recording["headers"] or {}).get("Accept") or ""
    wanted, got = _decoded(text, accept), _decoded(answer.body, accept)
    _without_go_words(wanted, got)
    if isinstance(wanted, dict) and isinstance(got, dict):
        for key, value in changes.items():
            _change(wanted, key, value)
            if value is None:
                _change(got, key, None)
        if wanted.get("kind") == "Table":
            return found + _compare_tables(head, wanted, got)
        if wanted.get("kind") == "APIGroupDiscoveryList":
            return found + _compare_aggregated(head, wanted, got)
        if str(wanted.get("kind")) in ("APIGroupList", "APIResourceList"):
            return found + _compare_discovery(head, wanted, got)
    # Some recordings were made without managed fields.
    owned = "managedFields" in text
    wanted, got = _normal(wanted, owned), _normal(got, owned)
    if wanted == got:
        return found
    return [*found, head + "".join(f"\n   {line}" for line in _differing(wanted, got, ""))]


def _change(obj: Any, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for key in parents:
        obj = obj.get(key) or {}
    if value is None:
        obj.pop(last, None)
    else:
        obj[last] = value


def _differing(wanted: Any, got: Any, at: str) -> list[str]:
    if isinstance(wanted, dict) and isinstance(got, dict):
        return [
            line
            for key in sorted(wanted.keys() | got.keys())
            for line in _differing(wanted.get(key), got.get(key), f"{at}.{key}")
        ]
    if isinstance(wanted, list) and isinstance(got, list) and len(wanted) == len(got):
        pairs = zip(wanted, got, strict=True)
        return [line for index, pair in enumerate(pairs) for line in _differing(*pair, f"{at}[{index}]")]
    return [] if wanted == got else [f"{at}: {json.dumps(got)}, not {json.dumps(wanted)}"]


def _compare_tables(head: str, wanted: Any, got: Any) -> list[str]:
    columns = [
        [(one["name"], one["type"], one["format"], one["priority"]) for one in table["columnDefinitions"]]
        for table in (wanted, got)
    ]
    if columns[0] != columns[1]:
        return [f"{head}: columns {columns[1]}, not {columns[0]}"]
    return []


def _compare_discovery(head: str, wanted: Any, got: Any) -> list[str]:
    """Return differences in discovery. Each served type must be described as recorded; types may be missing."""
    key = "groups" if wanted["kind"] == "APIGroupList" else "resources"
    there = {one["name"]: one for one in wanted[key]}
    found = []
    for one in got[key]:
        if one["name"] in _NOT_RECORDED:
            continue
        known = dict(there.get(one["name"], {}))
        if key == "groups":
            known.pop("versions", None)
            one.pop("versions", None)
        found += _differing(known, one, f"{head}: {one['name']}")
    return found


def _compare_aggregated(head: str, wanted: Any, got: Any) -> list[str]:
    """Return differences in aggregated discovery, including the order of groups."""

    def resources(document: Any) -> dict[tuple[str, str, str], Any]:
        return {
            (group["metadata"]["name"], version["version"], one["resource"]): one
            for group in document["items"]
            for version in group["versions"]
            for one in version["resources"]
        }

    there, here = resources(wanted), resources(got)
    found = []
    for key, one in here.items():
        if key[0] not in _NOT_RECORDED:
            found += _differing(there.get(key), one, f"{head}: {'/'.join(key)}")
    names = [group["metadata"]["name"] for group in wanted["items"]]
    order = [group["metadata"]["name"] for group in got["items"] if group["metadata"]["name"] not in _NOT_RECORDED]
    if order != [name for name in names if name in order]:
        found.append(f"{head}: the order of groups is {order}")
    return found
