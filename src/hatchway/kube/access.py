"""Asks the API server for this user's rights (access reviews), and writes the RBAC rule that grants a missing right."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from hatchway.errors import ApiError
from hatchway.kube.api import Client, Object
from hatchway.kube.paths import parse_resource

_REVIEWS = "selfsubjectaccessreviews.authorization.k8s.io"
_RULES = "selfsubjectrulesreviews.authorization.k8s.io"
_WHO = "selfsubjectreviews.authentication.k8s.io"
# Seconds for which an answer is cached, and the most cached answers of one client.
_REMEMBERED = 10.0
_MOST_REMEMBERED = 4096
_SERVICE_ACCOUNT = "system:serviceaccount:"

Answer = tuple[bool, str]
_Question = tuple[object, str, str, str, str, str]


class _Memory:
    """The cached answers for one client. Concurrent callers with the same question share one request."""

    def __init__(self) -> None:
        self.answers: dict[_Question, tuple[float, Answer]] = {}
        self.asked: dict[_Question, asyncio.Task[Answer]] = {}


_memories: WeakKeyDictionary[Client, _Memory] = WeakKeyDictionary()


def forget(client: Client) -> None:
    """Drop the cached answers of this client. Call it when the server refuses an action that an answer allows.

    Reviews that are being made are not cached, and later callers do not share them: they may have begun before the
    refusal.
    """
    _memories.pop(client, None)


async def may(
    client: Client, *, verb: str, resource: str, subresource: str = "", namespace: str = "", name: str = ""
) -> Answer:
    """Ask the API server whether this user may do something. The answer is cached for ten seconds.

    When the server refuses the review itself (403), the action counts as not allowed.

    Args:
        resource: as `kube.api` spells it (`pods`, `endpointslices.discovery.k8s.io`).
        namespace: "" for all namespaces.

    Raises:
        ApiError: the server cannot answer now (401, 503 ...).
    """
    memory = _memories.setdefault(client, _Memory())
    # The user is part of the cache key: when the kubeconfig changes, the connection may get another user.
    question = getattr(client, "identity", None), verb, resource, subresource, namespace, name
    known = memory.answers.get(question)
    if known is not None and time.monotonic() - known[0] < _REMEMBERED:
        return known[1]
    task = memory.asked.get(question)
    if task is None:
        task = asyncio.get_running_loop().create_task(_review(client, memory, question), name="access review")
        memory.asked[question] = task
        task.add_done_callback(lambda done: _answered(memory, question, done))
    return await asyncio.shield(task)


def _answered(memory: _Memory, question: _Question, task: asyncio.Task[Answer]) -> None:
    memory.asked.pop(question, None)
    if not task.cancelled():
        task.exception()  # prevents asyncio's "never retrieved" message when every caller was cancelled


async def _review(client: Client, memory: _Memory, question: _Question) -> Answer:
    _, verb, resource, subresource, namespace, name = question
    found = parse_resource(resource)
    attributes = {
        "verb": verb,
        "group": found.group,
        "resource": found.plural,
        "subresource": subresource,
        "namespace": namespace,
        "name": name,
    }
    asked = {key: value for key, value in attributes.items() if value}
    try:
        status = await _create(client, _REVIEWS, "SelfSubjectAccessReview", {"resourceAttributes": asked})
    except ApiError as error:
        if error.code != 403:
            raise
        answer = False, error.message
    else:
        answer = bool(status.get("allowed")), status.get("reason") or status.get("evaluationError") or ""
    if len(memory.answers) >= _MOST_REMEMBERED:
        memory.answers.clear()
    memory.answers[question] = time.monotonic(), answer
    return answer


@dataclass(frozen=True, slots=True)
class Rules:
    """The rights of this user in a namespace.

    incomplete: True when the server could not list all rules; use `may` for an exact answer then.
    """

    rules: tuple[Object, ...]
    incomplete: bool

    def allow(self, verb: str, resource: str, subresource: str = "", name: str = "") -> bool:
        """Return True when one of the rules allows the action. name: "" for all objects of the type."""
        found = parse_resource(resource)
        wanted = f"{found.plural}/{subresource}" if subresource else found.plural
        return any(
            _has(rule.get("verbs"), verb)
            and _has(rule.get("apiGroups"), found.group)
            and _has(rule.get("resources"), wanted, f"*/{subresource}" if subresource else "*")
            and (not rule.get("resourceNames") or name in rule["resourceNames"])
            for rule in self.rules
        )


def _has(listed: Sequence[str] | None, *wanted: str) -> bool:
    return any(item == "*" or item in wanted for item in listed or ())


async def rules(client: Client, namespace: str) -> Rules:
    """Return this user's rights in a namespace (SelfSubjectRulesReview). Raises ApiError."""
    status = await _create(client, _RULES, "SelfSubjectRulesReview", {"namespace": namespace})
    return Rules(tuple(status.get("resourceRules") or ()), bool(status.get("incomplete")))


async def user_name(client: Client) -> str:
    """Return this user's name at the API server; "" from servers before Kubernetes 1.28, which do not report it."""
    try:
        status = await _create(client, _WHO, "SelfSubjectReview", None)
    except ApiError as error:
        if error.code in (403, 404):
            return ""
        raise
    return str((status.get("userInfo") or {}).get("username") or "")


async def _create(client: Client, resource: str, kind: str, spec: Object | None) -> dict[str, Any]:
    """Send a review to the API server and return the review's status."""
    obj: Object = {"apiVersion": parse_resource(resource).api_version, "kind": kind, "metadata": {}}
    if spec is not None:
        obj["spec"] = spec
    status = (await client.create(resource, obj)).get("status")
    if not isinstance(status, dict):
        raise ApiError(502, "", f"{kind}: the server's answer has no status")
    return status


def missing_rule(
    *,
    verb: str | Sequence[str],
    resource: str | Sequence[str],
    subresource: str = "",
    namespace: str = "",
    name: str = "",
    user: str = "",
) -> str:
    """Return YAML for `kubectl apply -f -` with the RBAC role that grants a right, and its binding to the user.

    Strings are quoted as in JSON, which YAML allows, so that a name such as `123` is not read as a number.

    Args:
        verb: one verb or several.
        resource: one resource or several.
        namespace: "" makes a ClusterRole.
        user: the user's name, as `user_name` returns it; "" writes the placeholder THE-USER.
        name: the only object to which access is granted; "" for all.
    """
    verbs = [verb] if isinstance(verb, str) else list(verb)
    resources = [resource] if isinstance(resource, str) else list(resource)
    by_group: dict[str, list[str]] = {}
    for item in resources:
        found = parse_resource(item)
        by_group.setdefault(found.group, []).append(f"{found.plural}/{subresource}" if subresource else found.plural)
    first = parse_resource(resources[0]).plural
    title = "-".join(
        ["hatchway", *verbs[:1], first if len(resources) == 1 else "targets", *([subresource] * bool(subresource))]
    )
    kind = "Role" if namespace else "ClusterRole"
    lines = ["apiVersion: rbac.authorization.k8s.io/v1", f"kind: {kind}", *_metadata(title, namespace), "rules:"]
    for group, plurals in by_group.items():
        lines.append(f"- apiGroups: {json.dumps([group])}")
        lines.append(f"  resources: {json.dumps(plurals)}")
        if name:
            lines.append(f"  resourceNames: {json.dumps([name])}")
        lines.append(f"  verbs: {json.dumps(verbs)}")
    lines += ["---", "apiVersion: rbac.authorization.k8s.io/v1", f"kind: {kind}Binding", *_metadata(title, namespace)]
    lines += [
        "roleRef:",
        "  apiGroup: rbac.authorization.k8s.io",
        f"  kind: {kind}",
        f"  name: {json.dumps(title)}",
        "subjects:",
    ]
    if user.startswith(_SERVICE_ACCOUNT) and user.count(":") == 3:
        account_namespace, account = user.removeprefix(_SERVICE_ACCOUNT).split(":")
        lines += [
            "- kind: ServiceAccount",
            f"  name: {json.dumps(account)}",
            f"  namespace: {json.dumps(account_namespace)}",
        ]
    else:
        lines += ["- kind: User", "  apiGroup: rbac.authorization.k8s.io", f"  name: {json.dumps(user or 'THE-USER')}"]
    return "\n".join(lines) + "\n"


def _metadata(title: str, namespace: str) -> list[str]:
    return [
        "metadata:",
        f"  name: {json.dumps(title)}",
        *([f"  namespace: {json.dumps(namespace)}"] if namespace else []),
    ]
