"""What can go wrong at the door, in words: what was tried, on what, what happened, what to do next. Pure.

One function for each kind makes a `Problem` (domain: what the door's host names end with); `pages.py` turns it into an answer. `Problem.kind` is also the answer's
`X-Hatchway-Problem`, by which scripts and the page itself tell an answer of the door from one of the application.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Literal

from hatchway.errors import ApiError, Cause
from hatchway.kube.access import missing_rule
from hatchway.proxy.routing import Headers
from hatchway.target import Target, TargetError, format_arguments, format_host_name, format_proxy_path

_KIND = {"services": "service", "pods": "pod", "nodes": "node"}
# How soon a page tries again at first; it waits longer each time.
RETRY = 2


@dataclass(frozen=True, slots=True)
class Detail:
    """One thing that has to do with the problem (a pod, a port). state: the colour of its dot: "ready", "partly", "down"."""

    name: str
    text: str = ""
    state: Literal["", "ready", "partly", "down"] = "down"


@dataclass(frozen=True, slots=True)
class Problem:
    """Why the door answers in place of an application.

    kind: a short word for programs. status: HTTP's. reason: a metav1.StatusReason, "" for none.
    title: what is wrong, a short sentence. message: what was tried, on what, and what happened; one line, without a
    final full stop; `Status.message`. hint: what to do next, whole sentences.
    facts: (label, value) rows. details, and details_title: a list of what has to do with it. links: (text, URL) to go to.
    rule: YAML that is ready to be applied, and rule_title what stands above it. commands: lines for a terminal.
    retry: the page tries again by itself after so many seconds, longer each time; 0 for never. Set it only for GET and HEAD.
    headers: more header fields of the answer (`WWW-Authenticate`). portal: the portal's URL, "" to leave it out.
    original: the Status that tools get, word for word, where there is one already.
    """

    kind: str
    status: int
    reason: str
    title: str
    message: str
    hint: str = ""
    facts: tuple[tuple[str, str], ...] = ()
    details: tuple[Detail, ...] = ()
    details_title: str = ""
    links: tuple[tuple[str, str], ...] = ()
    links_title: str = ""
    rule: str = ""
    rule_title: str = "The rule that is missing, for whoever administers the cluster"
    commands: tuple[str, ...] = ()
    retry: int = 0
    headers: tuple[tuple[bytes, bytes], ...] = ()
    portal: str = ""
    original: ApiError | None = None


def _what(target: Target) -> str:
    kind = _KIND[target.kind]
    port = f", port {target.port}" if target.port else ""
    return f'{kind} "{target.name}"' + (f' in namespace "{target.namespace}"' if target.namespace else "") + port


def _target_facts(target: Target, domain: str) -> tuple[tuple[str, str], ...]:
    rows = [("Target", format_arguments(target))]
    try:
        rows.append(("Host name", format_host_name(target, domain)))
    except TargetError:
        pass  # reached by its path only
    return (*rows, ("Proxy path", format_proxy_path(target)))


def forward_line(target: Target) -> str:
    """The command line that reaches a target whatever it speaks."""
    return f"hatchway forward {format_arguments(target)}"


def no_endpoints(
    target: Target, pods: Iterable[tuple[str, str]], selector: str = "", *, domain: str = "localhost"
) -> Problem:
    """A service with no ready endpoint. pods: (name, why it is not ready) of those that it selects."""
    found = tuple(Detail(name, text) for name, text in pods)
    if found:
        hint = "Look why they are not ready; everything works again as soon as one of them is."
        commands = tuple(f"kubectl describe pod {d.name} -n {target.namespace}" for d in found[:1])
    else:
        hint = "Start what it selects, or mend its selector." if selector else "Give it a selector, or endpoints."
        commands = (f"kubectl get pods -n {target.namespace} --show-labels",)
    said = "none of its pods is ready" if found else "no pod matches its selector" if selector else "it selects no pods"
    return Problem(
        kind="no-endpoints",
        status=503,
        reason="ServiceUnavailable",
        title=f"Nothing is ready behind {target.name}",
        message=f"no endpoints available for {_what(target)}: {said}",
        hint=hint,
        facts=(*_target_facts(target, domain), *((("Selector", selector),) if selector else ())),
        details=found,
        details_title="Its pods",
        commands=commands,
        retry=RETRY,
    )


def no_such_port(target: Target, ports: Sequence[tuple[str, str]], domain: str = "localhost") -> Problem:
    """The service has no such port, or several of which none was said. ports: (port, URL or "") that it has."""
    said = f'has no port "{target.port}"' if target.port else "has several ports, and none was said"
    return Problem(
        kind="no-such-port",
        status=503,
        reason="ServiceUnavailable",
        title=f"{target.name} has no such port" if target.port else f"Which port of {target.name}?",
        message=f'service "{target.name}" in namespace "{target.namespace}" {said}',
        hint="Take one of the ports that it has.",
        facts=_target_facts(target, domain),
        details=tuple(Detail(port, state="ready") for port, url in ports if not url),
        details_title="Ports that it has",
        links=tuple((port, url) for port, url in ports if url),
        links_title="Ports that it has",
    )


def out_of_reach(target: Target, why: str, domain: str = "localhost") -> Problem:
    """Neither the API server's proxy nor a port-forward gets there."""
    return Problem(
        kind="out-of-reach",
        status=503,
        reason="ServiceUnavailable",
        title=f"{target.name} is out of reach",
        message=f"{_what(target)} cannot be proxied: {why}",
        hint="The API server's proxy and port-forward lead to pods only; reach it where it really is.",
        facts=_target_facts(target, domain),
    )


def no_tls(target: Target, error: str, plain: Sequence[tuple[str, str]], domain: str = "localhost") -> Problem:
    """HTTPS was asked for, and plain HTTP is spoken there. plain: (text, URL) of that."""
    return Problem(
        kind="no-tls",
        status=503,
        reason="ServiceUnavailable",
        title=f"{target.name} speaks no TLS there",
        message=f"error trying to reach {_what(target)} by HTTPS: {error}",
        hint="Ask for it by plain HTTP.",
        facts=_target_facts(target, domain),
        links=tuple(plain),
        links_title="The same by plain HTTP",
    )


def dial_refused(
    target: Target,
    error: str,
    open_ports: Sequence[tuple[str, str]] = (),
    address: str = "",
    *,
    domain: str = "localhost",
) -> Problem:
    """Nothing listens where the target should be. open_ports: (port, URL or "") that are declared or open instead."""
    return Problem(
        kind="dial-refused",
        status=503,
        reason="ServiceUnavailable",
        title=f"Nothing listens there on {target.name}",
        message=f"error trying to reach {_what(target)}: {error}",
        hint="The program may listen on another port, or on 127.0.0.1 only: let it listen on 0.0.0.0."
        if not open_ports
        else "Try one of the ports that are declared, or mend the service's targetPort.",
        facts=(*_target_facts(target, domain), *((("Address", address),) if address else ())),
        details=tuple(Detail(port, state="ready") for port, url in open_ports if not url),
        details_title="Ports that are declared",
        links=tuple((port, url) for port, url in open_ports if url),
        links_title="Ports to try instead",
        retry=RETRY,
    )


def forbidden(user: str, verb: str, resource: str, namespace: str = "", name: str = "", why: str = "") -> Problem:
    """The cluster refuses the user. user: "" when it is not known. resource: with its subresource (`services/proxy`).
    name: of the one object, "" for all of them. why: the server's own words."""
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    said = why or f'User "{user}" cannot {verb} resource "{resource}" in API group "" {where}'
    plain, _, subresource = resource.partition("/")
    return Problem(
        kind="forbidden",
        status=403,
        reason="Forbidden",
        title=f"You may not {verb} {resource}" + (f' of "{name}"' if name else ""),
        message=f'{plain} "{name}" is forbidden: {said}' if name else f"{plain} is forbidden: {said}",
        hint="Ask an administrator of the cluster to apply the rule below, then try again.",
        facts=(
            *((("User", user),) if user else ()),
            ("Verb", verb),
            ("Resource", resource),
            ("Namespace", namespace or "(whole cluster)"),
        ),
        rule=missing_rule(
            verb=verb, resource=plain, subresource=subresource, namespace=namespace, name=name, user=user
        ),
    )


def certificate(server: str, error: str, hint: str = "") -> Problem:
    """The API server's certificate was not accepted."""
    return Problem(
        kind="certificate",
        status=502,
        reason="ServiceUnavailable",
        title="The cluster's certificate is not the one expected",
        message=f"connecting to {server}: {error}",
        hint=hint
        or "Either the kubeconfig's certificate authority is out of date, or something else answers at this address "
        "(another cluster, a VPN's or a proxy's login page). Nothing was sent to it.",
        facts=(("API server", server),),
        commands=("kubectl config view --minify", "kubectl cluster-info"),
    )


def timed_out(
    target: Target,
    seconds: float,
    doing: str = "waiting for the first byte of an answer",
    *,
    domain: str = "localhost",
) -> Problem:
    return Problem(
        kind="time-out",
        status=504,
        reason="Timeout",
        title=f"{target.name} did not answer in time",
        message=f"gave up on {_what(target)} after {seconds:g} s of {doing}",
        hint="It may be overloaded, or a network policy drops what is sent to it. Reload the page to try once more.",
        facts=_target_facts(target, domain),
    )


def cluster_away(server: str, error: str, since: str = "") -> Problem:
    """The API server cannot be reached. since: a time for people, "" when it was never seen."""
    return Problem(
        kind="cluster-away",
        status=503,
        reason="ServiceUnavailable",
        title="The cluster does not answer",
        message=f"connecting to {server}: {error}",
        hint="Is the VPN connected? Is the cluster running? It is tried again by itself, and what you asked for appears "
        "as soon as the cluster is back.",
        facts=(("API server", server), *((("Last seen", since),) if since else ())),
        retry=RETRY,
    )


def cluster_silent(server: str, error: str) -> Problem:
    """The API server accepts connections and says nothing. error: what was waited for, and how long."""
    return Problem(
        kind="time-out",
        status=504,
        reason="Timeout",
        title="The cluster did not answer in time",
        message=f"connected to {server}, but it says nothing: {error}",
        hint="Its API server may be overloaded or starting, or something on the way (a proxy, a VPN) holds the connection "
        "and passes nothing on. It is tried again by itself.",
        facts=(("API server", server),),
        commands=("kubectl get --raw /readyz",),
        retry=RETRY,
    )


def not_found(target: Target, similar: Iterable[tuple[str, str]] = (), *, domain: str = "localhost") -> Problem:
    """No such service, pod or node. similar: (text, URL) of what may have been meant."""
    links = tuple(similar)
    kind = _KIND[target.kind]
    where = f' in the namespace "{target.namespace}"' if target.namespace else ""
    scope = f" -n {target.namespace}" if target.namespace else ""
    return Problem(
        kind="not-found",
        status=404,
        reason="NotFound",
        title=f"There is no {kind} {target.name}",
        message=f'{target.kind} "{target.name}" not found{where}',
        hint="" if links else "Look through the portal, or list what there is.",
        facts=_target_facts(target, domain),
        links=links,
        links_title="Did you mean",
        commands=() if links else (f"kubectl get {target.kind}{scope}",),
    )


def no_namespace(
    target: Target, meant: Iterable[tuple[str, str]] = (), similar: Iterable[str] = (), *, domain: str = "localhost"
) -> Problem:
    """No such namespace. meant: (text, URL) of targets of that name elsewhere. similar: namespaces."""
    links = tuple(meant)
    names = () if links else tuple(Detail(name, state="") for name in similar)
    return Problem(
        kind="not-found",
        status=404,
        reason="NotFound",
        title=f"There is no namespace {target.namespace}",
        message=f'{target.kind} "{target.name}" not found: there is no namespace "{target.namespace}"',
        hint="" if links or names else "Look through the portal, or list what there is.",
        facts=_target_facts(target, domain),
        details=names,
        details_title="Namespaces that are called alike",
        links=links,
        links_title="Did you mean",
        commands=() if links else ("kubectl get namespaces",),
    )


def similar_names(wanted: str, known: Iterable[str], limit: int = 5) -> list[str]:
    """The names that may have been meant, the most similar first: near misses, then those that contain it."""
    names = list(dict.fromkeys(known))
    close = difflib.get_close_matches(wanted, names, n=limit, cutoff=0.6)
    containing = sorted(name for name in names if (wanted in name or name in wanted) and name not in close)
    return [*close, *containing][:limit]


def unknown_host(host: str, domain: str = "localhost", similar: Iterable[tuple[str, str]] = ()) -> Problem:
    """A host name below the domain that spells no target."""
    return Problem(
        kind="unknown-host",
        status=404,
        reason="NotFound",
        title="This host name names nothing",
        message=f'the host name "{host}" is none of a service, a pod or a node',
        hint="Put a port's name or number, or https, in front of a name if you need to.",
        facts=(
            ("A service", f"NAME.NAMESPACE.svc.{domain}"),
            ("One of its ports", f"PORT.NAME.NAMESPACE.svc.{domain}"),
            ("A pod", f"PORT.NAME.NAMESPACE.pod.{domain}"),
            ("A node", f"NAME.node.{domain}"),
        ),
        links=tuple(similar),
        links_title="Did you mean",
    )


def refused_by_guard(why: str, hint: str = "", facts: Sequence[tuple[str, str]] = ()) -> Problem:
    """The door's own guard refuses: the request comes from a page of another origin, or for a foreign host."""
    return Problem(
        kind="refused",
        status=403,
        reason="Forbidden",
        title="The door does not let this in",
        message=f"refused: {why}",
        hint=hint
        or "Pages of other sites may not use your rights in the cluster. If you came here by a link, type or paste the "
        "address into the address bar instead.",
        facts=tuple(facts),
    )


def credentials_expired(context: str, error: str, command: str = "") -> Problem:
    """The cluster does not accept the credentials (401) and renewing them did not help. command: how to log in again."""
    return Problem(
        kind="credentials-expired",
        status=401,
        reason="Unauthorized",
        title="Your credentials are not accepted any more",
        message=f'the cluster of context "{context}" refuses the credentials: {error}',
        hint="Log in again as you do for kubectl; the door notices by itself and needs no restart.",
        facts=(("Context", context),),
        commands=(command or "kubectl auth whoami",),
        retry=5,
    )


def needs_forward(target: Target, why: str, status: int = 502, *, domain: str = "localhost") -> Problem:
    """The application needs something that the API server's proxy verb loses (Authorization, an upgrade's query ...)."""
    return Problem(
        kind="needs-forward",
        status=status,
        reason="",
        title=f"{target.name} needs another route",
        message=f"the API server's proxy cannot carry what {_what(target)} needs: {why}",
        hint="A port-forward carries everything, byte for byte.",
        facts=(*_target_facts(target, domain), ("Route", "API server's proxy verb")),
        commands=(forward_line(target),),
    )


def from_status(status: int, message: str) -> Problem:
    """An error of the engine itself (a malformed or oversized request, a time-out)."""
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "Error"
    return Problem(
        kind="request", status=status, reason=_REASONS.get(status, ""), title=phrase, message=message or phrase.lower()
    )


def from_error(error: ApiError) -> Problem:
    """Any other error that is a Kubernetes Status."""
    causes = (error.details or {}).get("causes") or ()
    return Problem(
        kind=error.reason.lower() or "error",
        status=error.code,
        reason=error.reason,
        title=from_status(error.code, "").title,
        message=error.message,
        hint=error.hint,
        details=tuple(Detail(c.get("field") or c.get("reason") or "", c.get("message") or "") for c in causes),
        headers=tuple(error.headers()),
        original=error,
    )


def as_error(problem: Problem) -> ApiError:
    """The problem as a Kubernetes Status; what helps beside the message stands in `details.causes`."""
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
    return ApiError(problem.status, problem.reason, problem.message, found or None)


def extra_headers(problem: Problem) -> Headers:
    return [*problem.headers, (b"X-Hatchway-Problem", problem.kind.encode())]


_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    408: "Timeout",
    413: "RequestEntityTooLarge",
    421: "",
    431: "RequestHeaderFieldsTooLarge",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}
