"""A problem of the door: what was tried, on which target, what happened, and what to do next.

`pages.py` turns a problem into an answer, whose header field `X-Hatchway-Problem` has the problem's `kind`. By this
field, scripts and the page itself distinguish the door's answers from the application's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal

from hatchway.errors import ApiError, Cause
from hatchway.proxy.routing import Headers
from hatchway.target import Target, TargetError, format_argument, format_arguments, format_host_name, format_proxy_path

# (text, URL) of the pages to which a problem links.
Links = Sequence[tuple[str, str]]

# Seconds after which a page reloads the first time. Each later wait is longer.
RETRY_SECONDS = 2
_KINDS = {"services": "service", "pods": "pod", "nodes": "node"}


@dataclass(frozen=True, slots=True)
class Detail:
    """An object, such as a pod or a port, that belongs to a problem.

    state: the colour of the dot beside it; "" for no dot.
    """

    name: str
    text: str = ""
    state: Literal["", "ready", "partly", "down"] = "down"


@dataclass(frozen=True, slots=True)
class DoorProblem:
    """A reason why the door answers in place of an application.

    kind: a short word for programs (`X-Hatchway-Problem`).
    status: the HTTP status.
    title: what is wrong, as a short sentence.
    message: what was tried, on which target, and what happened, in one line without a full stop; `Status.message`.
    target: the target whose spellings the page displays; None for none.
    hint: what to do next, in complete sentences.
    facts, facts_title: rows of (label, value), and their heading.
    details, details_title: objects that belong to the problem, and their heading.
    links, links_title: (text, URL) of pages to which the page links, and their heading.
    rule, rule_title: YAML for `kubectl apply`, and its heading.
    commands: command lines for a terminal.
    retry: seconds after which the page reloads, longer each time; 0 for never. Only for GET and HEAD.
    headers: further header fields of the answer (`WWW-Authenticate`).
    portal: the portal's URL; "" to leave it out.
    original: the API server's own Status, which tools get unchanged; None without one.
    """

    kind: str
    status: int
    title: str
    message: str
    target: Target | None = None
    hint: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    facts_title: str = "What was requested"
    details: tuple[Detail, ...] = ()
    details_title: str = ""
    links: tuple[tuple[str, str], ...] = ()
    links_title: str = ""
    rule: str = ""
    rule_title: str = "The missing rule, for an administrator of the cluster"
    commands: tuple[str, ...] = ()
    retry: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    portal: str = ""
    original: ApiError | None = None


def describe(target: Target) -> str:
    """Return a phrase for the target with its kind, name, namespace and port."""
    port = f", port {target.port}" if target.port else ""
    where = f' in namespace "{target.namespace}"' if target.namespace else ""
    return f'{kind_word(target)} "{target.name}"{where}{port}'


def kind_word(target: Target) -> str:
    """Return "service", "pod" or "node"."""
    return _KINDS[target.kind]


def target_facts(target: Target, domain: str) -> tuple[tuple[str, str], ...]:
    """Return the spellings of a target as rows. domain: the domain with which the door's host names end."""
    rows = [("Target", format_arguments(target))]
    try:
        rows.append(("Host name", format_host_name(target, domain)))
    except TargetError:
        pass  # the target has a proxy path, but no host name or argument
    return (*rows, ("Proxy path", format_proxy_path(target)))


def placed_at(problem: DoorProblem, domain: str, portal: str, cluster: str) -> DoorProblem:
    """Return a problem to which the spellings of its target, its cluster and a link to the portal are added.

    Args:
        problem: the problem.
        domain: the domain with which the door's host names end.
        portal: the portal's URL; "" for none.
        cluster: the cluster behind the door, as a phrase (`Connection.label`).
    """
    if problem.target is None:
        return replace(problem, portal=portal)
    facts = (*target_facts(problem.target, domain), ("Cluster", cluster), *problem.facts)
    return replace(problem, facts=facts, portal=portal)


def forward_line(target: Target) -> str:
    """Return the command line of `hatchway forward` for a target's port."""
    kind_and_name = format_argument(replace(target, scheme="", port=""))
    # Only root may listen on local ports below 1024; ":" means any free port.
    free = ":" if target.port.isdigit() and int(target.port) < 1024 else ""
    return f"hatchway forward {kind_and_name} {free}{target.port or 'PORT'} -n {target.namespace}"


def logs_line(target: Target) -> tuple[str, ...]:
    """Return the command line of kubectl that prints a target's log, in a tuple; an empty one for nodes."""
    if target.kind == "nodes":
        return ()
    return (f"kubectl logs {kind_word(target)}/{target.name} -n {target.namespace}",)


def from_status(status: int, message: str) -> DoorProblem:
    """Turn an error that the engine itself has found into a problem (a malformed or oversized request, a timeout)."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    return DoorProblem(kind="request", status=status, title=phrase, message=message or phrase.lower())


def from_error(error: ApiError) -> DoorProblem:
    """Turn an error with a Kubernetes `Status` into a problem, when no other function describes the error."""
    causes = (error.details or {}).get("causes") or ()
    return DoorProblem(
        kind=error.reason.lower() or "error",
        status=error.code,
        title=from_status(error.code, "").title,
        message=error.message,
        hint=error.hint,
        details=tuple(Detail(c.get("field") or c.get("reason") or "", c.get("message") or "") for c in causes),
        headers=tuple(error.headers()),
        original=error,
    )


def as_error(problem: DoorProblem) -> ApiError:
    """Return the problem as a Kubernetes `Status`. `details.causes` has details, links, hint, commands and rule."""
    if problem.original is not None:
        return problem.original
    causes = [
        Cause("Related", f"{detail.name}: {detail.text}" if detail.text else detail.name) for detail in problem.details
    ]
    causes += [Cause("Alternative", f"{text}: {url}") for text, url in problem.links]
    causes += [Cause("Hint", problem.hint)] if problem.hint else []
    causes += [Cause("Command", line) for line in problem.commands]
    causes += [Cause("MissingRule", problem.rule)] if problem.rule else []
    details = {"causes": [cause.as_dict() for cause in causes], "retryAfterSeconds": problem.retry}
    found = {key: value for key, value in details.items() if value}
    return ApiError(problem.status, _REASONS.get(problem.status, ""), problem.message, found or None)


def extra_headers(problem: DoorProblem) -> Headers:
    """Return the additional header fields of the problem's answer."""
    return [*problem.headers, (b"X-Hatchway-Problem", problem.kind.encode())]


# metav1.StatusReason by status; other statuses have none.
_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "Timeout",
    413: "RequestEntityTooLarge",
    431: "RequestHeaderFieldsTooLarge",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
