"""Problems of targets whose program gives no useful answer, or where no program listens. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hatchway.door.problems.problem import (
    RETRY_SECONDS,
    Detail,
    DoorProblem,
    Links,
    describe,
    forward_line,
    logs_line,
)
from hatchway.target import Target


@dataclass(frozen=True, slots=True)
class _Words:
    """The texts for one cause, as `str.format` templates.

    The fields of the templates: {name} is the target's name, {what} a phrase for the target, {error} the message of the
    API server or the engine, {upgrade_status} the status of the answer to an upgrade, {scheme} the scheme that was
    tried, {other} the other scheme.

    kind, title, message, hint: as in `DoorProblem`.
    status: the HTTP status of the door's answer: 503 for errors that the API server reports, 502 for others.
    logs: True when the page shows how to read the application's log.
    forward: True when the page shows how to reach the port by a port-forward.
    retry: True when the page reloads automatically.
    """

    kind: str
    title: str
    message: str
    hint: str
    status: int = 503
    logs: bool = False
    forward: bool = False
    retry: bool = False


class NoAnswer(Enum):
    """A reason why a target gives no useful answer."""

    CLOSED = _Words(
        "closed",
        "{name} closes the connection without an answer",
        "error trying to reach {what} by {scheme}: {error}",
        "Its log may say why. The program may expect {other} on this port.",
        logs=True,
        retry=True,
    )
    CLOSED_BY_BOTH = _Words(
        "closed",
        "{name} closes the connection without an answer",
        "error trying to reach {what} by HTTP and by HTTPS: {error}",
        "Its log may say why. A program that speaks neither, a database for example, needs a port-forward.",
        logs=True,
        retry=True,
    )
    SPEAKS_TLS = _Words(
        "speaks-tls",
        "{name} speaks TLS on this port",
        "error trying to reach {what} by plain HTTP: {error}",
        "Request it by HTTPS.",
    )
    SPEAKS_TLS_BUT_NO_HTTPS = _Words(
        "speaks-tls",
        "{name} speaks TLS on this port",
        "error trying to reach {what} by plain HTTP: {error}",
        "HTTPS was tried, too, and failed. The program may speak TLS but not HTTP, or it may ask for a client "
        "certificate, and an API server has none.",
    )
    SPEAKS_NO_TLS = _Words(
        "no-tls",
        "{name} does not speak TLS on this port",
        "error trying to reach {what} by HTTPS: {error}",
        "Request it by plain HTTP.",
    )
    SPEAKS_NO_HTTP = _Words(
        "no-http",
        "{name} does not speak HTTP on this port",
        "error trying to reach {what}: {error}",
        "Its answer is not HTTP, so a browser cannot use it. Another port may be the right one.",
        forward=True,
    )
    WANTS_CERTIFICATE = _Words(
        "tls-refused",
        "{name} refuses the TLS handshake",
        "error trying to reach {what} by HTTPS: {error}",
        "It asks for a client certificate, and an API server shows none to applications: a port-forward lets the "
        "client show its own.",
        logs=True,
    )
    REFUSES_TLS = _Words(
        "tls-refused",
        "{name} refuses the TLS handshake",
        "error trying to reach {what} by HTTPS: {error}",
        "The API server may offer a version of TLS, or a server name (SNI), that the program does not accept.",
        logs=True,
    )
    BROKE_OFF = _Words(
        "broke-off",
        "{name} aborted its answer",
        "error trying to reach {what}: the connection ended without an answer: {error}",
        "The API server works. It closes the connection without an answer when the application aborts its own "
        "answer. The application's log may say why.",
        status=502,
        logs=True,
        retry=True,
    )
    NOT_UPGRADED = _Words(
        "not-upgraded",
        "{name} does not speak WebSockets at this address",
        "invalid upgrade response: status code {upgrade_status} of {what}, where 101 was expected",
        "The application has answered as if the browser had asked for a page: its WebSocket may have another path, or "
        "be switched off. A proxy in front of the API server that leaves out `Upgrade` has the same effect.",
        status=502,
        logs=True,
    )
    LARGE_HEAD = _Words(
        "large-head",
        "{name} answers with too large a head",
        "error trying to reach {what}: {error}",
        "The header fields of its answer are larger than proxies pass on: it may set too many cookies, or repeat a "
        "field without end. The application's log may say why.",
        status=502,
        logs=True,
    )
    MALFORMED = _Words(
        "malformed",
        "{name} gives an answer that is not HTTP",
        "error trying to reach {what}: {error}",
        "Its answer to this request cannot be passed on. The application's log may say more.",
        status=502,
        logs=True,
    )


def no_answer(
    cause: NoAnswer, target: Target, error: str = "", *, other: Links = (), unready: str = "", upgrade_status: int = 0
) -> DoorProblem:
    """Describe a target that gives no useful answer.

    Args:
        cause: the reason.
        target: the target, with the scheme that was tried.
        error: the message of the API server or the engine.
        other: (text, URL) of the same address with the other scheme, if that was not tried.
        unready: why its pod is not ready; "" when the pod is ready.
        upgrade_status: the status of the answer to an upgrade.
    """
    words = cause.value
    scheme, other_scheme = ("HTTPS", "plain HTTP") if target.scheme == "https" else ("HTTP", "HTTPS")
    fields = {
        "name": target.name,
        "what": describe(target),
        "error": error,
        "upgrade_status": upgrade_status,
        "scheme": scheme,
        "other": other_scheme,
    }
    forward = (forward_line(target),) if words.forward and target.kind != "nodes" and target.port else ()
    return DoorProblem(
        kind=words.kind,
        status=words.status,
        title=words.title.format(**fields),
        message=words.message.format(**fields) + _not_ready(unready),
        target=target,
        hint=words.hint.format(**fields),
        links=tuple(other),
        links_title=f"The same by {other_scheme}",
        commands=forward + (logs_line(target) if words.logs else ()),
        retry=RETRY_SECONDS if words.retry else 0,
    )


def dial_refused(target: Target, error: str, ports: Links = (), address: str = "", *, unready: str = "") -> DoorProblem:
    """Describe a target at whose address no program listens.

    Args:
        target: the target as it was requested.
        error: the API server's words.
        ports: (port, URL or "") of the other ports that it declares.
        address: the address that was tried; "" when it is not known.
        unready: why its pod is not ready; "" when the pod is ready.
    """
    return DoorProblem(
        kind="dial-refused",
        status=503,
        title=f"Nothing listens on this port of {target.name}",
        message=f"error trying to reach {describe(target)}: {error}" + _not_ready(unready),
        target=target,
        hint="Try one of the ports that are declared, or correct the service's targetPort."
        if ports
        else "The program may listen on another port, or on 127.0.0.1 only: let it listen on 0.0.0.0.",
        facts=(("Address", address),) if address else (),
        details=tuple(Detail(port, state="") for port, url in ports if not url),
        details_title="Ports that are declared",
        links=tuple((port, url) for port, url in ports if url),
        links_title="Ports to try instead",
        retry=RETRY_SECONDS,
    )


def timed_out(target: Target, message: str, *, unready: str = "") -> DoorProblem:
    """Describe a target to which the API server could not connect in time.

    Args:
        target: the target as it was requested.
        message: the API server's words.
        unready: why its pod is not ready; "" when the pod is ready.
    """
    return DoorProblem(
        kind="time-out",
        status=504,
        title=f"{target.name} did not answer in time",
        message=f"{target}: {message}" + _not_ready(unready),
        target=target,
        hint="It may be overloaded, or a network policy may drop what is sent to it. Reload the page to try once more.",
    )


def api_broken(server: str, error: str, status: int = 0) -> DoorProblem:
    """Describe a request to the API server's own API that got no answer, although the server was reached.

    Args:
        server: the API server's name for people.
        error: what happened.
        status: the status of an upgrade's answer; 0 for other requests.
    """
    return DoorProblem(
        kind="not-upgraded" if status else "broke-off",
        status=502,
        title="The API server gives no answer to this request",
        message=f"{server}: {error}",
        hint="It answers other requests. The program behind this path, or a proxy on the way, closed the connection.",
        facts=(("API server", server),),
    )


def _not_ready(unready: str) -> str:
    return f"; the pod is not ready: {unready}" if unready else ""
