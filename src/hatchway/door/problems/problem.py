"""A problem of the door: what was tried, on which target, what happened, and what to do next.

`pages.py` turns it into an answer. Its `kind` is also the answer's `X-Hatchway-Problem`, by which scripts and the page
itself distinguish an answer of the door from one of the application.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from http import HTTPStatus
from typing import Literal

from hatchway.errors import ApiError, Cause
from hatchway.proxy.routing import Headers
from hatchway.target import Target, TargetError, format_argument, format_arguments, format_host_name, format_proxy_path

# (text, URL) of pages that a problem leads to.
Links = Sequence[tuple[str, str]]

# Seconds after which a page tries again the first time; it waits longer each time.
RETRY_SECONDS = 2
_KINDS = {"services": "service", "pods": "pod", "nodes": "node"}


@dataclass(frozen=True, slots=True)
class Detail:
    """A pod, a port or the like that belongs to a problem.

    state: the colour of its dot; "" for none.
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
    target: the target whose spellings the page shows; None for none.
    hint: what to do next, in whole sentences.
    facts: rows of (label, value); facts_title: their heading.
    details: pods, ports or the like that belong to the problem; details_title: their heading.
    links: (text, URL) of pages to go to; links_title: their heading.
    rule: YAML that is ready to be applied; rule_title: its heading.
    commands: lines for a terminal.
    retry: seconds after which the page tries again by itself, longer each time; 0 for never. Only for GET and HEAD.
    headers: further header fields of the answer (`WWW-Authenticate`).
    portal: the portal's URL; "" to leave it out.
    original: the API server's own Status, which tools get unchanged; None when there is none.
    """

    kind: str
    status: int
    title: str
    message: str
    target: Target | None = None
    hint: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    facts_title: str = "What was asked for"
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
    """Return the target as a phrase for a sentence: kind, name, namespace and port."""
    port = f", port {target.port}" if target.port else ""
    where = f' in namespace "{target.namespace}"' if target.namespace else ""
    return f'{kind_word(target)} "{target.name}"{where}{port}'


def kind_word(target: Target) -> str:
    """Return "service", "pod" or "node"."""
    return _KINDS[target.kind]


def target_facts(target: Target, domain: str) -> tuple[tuple[str, str], ...]:
    """Return the spellings of a target as rows. domain: what the door's host names end with."""
    rows = [("Target", format_arguments(target))]
    try:
        rows.append(("Host name", format_host_name(target, domain)))
    except TargetError:
        pass  # a target that only its proxy path can name
    return (*rows, ("Proxy path", format_proxy_path(target)))


def placed_at(problem: DoorProblem, domain: str, portal: str, cluster: str) -> DoorProblem:
    """Return the problem with the spellings of its target, its cluster and a link to the portal.

    Args:
        problem: as it was found.
        domain: what the door's host names end with.
        portal: the portal's URL; "" for none.
        cluster: the cluster behind the door, as a phrase (`Connection.label`).
    """
    if problem.target is None:
        return replace(problem, portal=portal)
    facts = (*target_facts(problem.target, domain), ("Cluster", cluster), *problem.facts)
    return replace(problem, facts=facts, portal=portal)


def forward_line(target: Target) -> str:
    """Return the command line that reaches a target's port, whichever protocol it speaks."""
    kind_and_name = format_argument(replace(target, scheme="", port=""))
    # Only root may listen on a local port below 1024; ":" means any free one.
    free = ":" if target.port.isdigit() and int(target.port) < 1024 else ""
    return f"hatchway forward {kind_and_name} {free}{target.port or 'PORT'} -n {target.namespace}"


def logs_line(target: Target) -> tuple[str, ...]:
    """Return the command line of kubectl that prints a target's log, in a tuple; an empty one for nodes."""
    if target.kind == "nodes":
        return ()
    return (f"kubectl logs {kind_word(target)}/{target.name} -n {target.namespace}",)


def from_status(status: int, message: str) -> DoorProblem:
    """Return the problem of an error of the engine itself (a malformed or oversized request, a time-out)."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    return DoorProblem(kind="request", status=status, title=phrase, message=message or phrase.lower())


def from_error(error: ApiError) -> DoorProblem:
    """Return the problem of any other error that is a Kubernetes `Status`."""
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
    """Return the problem as a Kubernetes `Status`; all but the message is in `details.causes`."""
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
    """Return the header fields of the problem's answer, in addition to those of every answer of the door."""
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
