"""`hatchway open`: opens a target in the browser as soon as it answers."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.printing import note, say
from hatchway.cli.url import as_rest, namespace_of
from hatchway.cli.usage import GoFlagsCommand, Seconds, Text
from hatchway.errors import HatchwayError
from hatchway.kube.overrides import ChosenCluster
from hatchway.printable import printable
from hatchway.target import Target, format_arguments, format_door_url, format_host_name, parse_qualified_argument

if TYPE_CHECKING:
    from http.client import HTTPResponse

# Seconds between two attempts.
_PAUSE = 0.3
# Statuses for a target that does not exist or is not ready yet. Any other status will not change by waiting.
_NOT_YET = (404, 502, 503, 504)


@click.command(
    "open",
    cls=GoFlagsCommand,
    short_help="Open a target in the browser.",
    epilog=options.examples("""
    hatchway open grafana -n monitoring
    hatchway open pod/web-0:8080 /status
    hatchway open grafana --print
    """),
)
@click.argument("target", shell_complete=options.complete_target)
@click.argument("path", type=Text(empty=True), default="")
@options.namespace
@options.door_port
@click.option("--domain", metavar="DOMAIN", default="localhost", show_default=True, help="The door's domain.")
@click.option(
    "--timeout", type=Seconds(), default=60.0, show_default="60", help="How many seconds to wait for an answer."
)
@click.option("--print", "print_only", is_flag=True, help="Print the URL and open nothing.")
@clusterflags.cluster_options
def open_target(
    target: str,
    path: str,
    namespace: str | None,
    port: int,
    domain: str,
    timeout: float,
    print_only: bool,
    cluster: ChosenCluster,
) -> None:
    """Open a target in the browser through `hatchway proxy`, as soon as it answers.

    TARGET: grafana, grafana.monitoring, svc/grafana:http, https:grafana:, pod/web-0:8080, node/n1.
    PATH: the path and query on the target.
    """
    default = namespace_of(cluster) if namespace is None else ""
    found = parse_qualified_argument(target, namespace, default)
    url = format_door_url(found, as_rest(path), port=port, domain=domain)
    if print_only:
        print(url)
        return
    _check(found, cluster)
    _wait(found, cluster, port, domain, as_rest(path), timeout)
    say(url)
    import webbrowser

    if not webbrowser.open(url):
        raise HatchwayError("there is no browser to open it with", "open the printed URL by hand")


def _check(target: Target, cluster: ChosenCluster) -> None:
    """Raise Missing when the target does not exist. Print which port the door will choose if there are several.

    If the target cannot be looked up, do nothing, because the door may still be able to reach the target.
    """
    from hatchway.cli.targets import Missing, describe_choice, find_target

    try:
        found = find_target(target, cluster, port=False)
    except Missing:
        raise
    except HatchwayError:
        return
    if found.links:
        note(describe_choice(found.links))


def _wait(target: Target, cluster: ChosenCluster, port: int, domain: str, rest: str, timeout: float) -> None:
    """Wait until the target answers through the door.

    Raises:
        HatchwayError: it does not answer in time. Raised at once if no door is open, or if no door can reach the
            target.
    """
    deadline = time.monotonic() + timeout
    told = False
    while True:
        problem = _ask(target, port, domain, rest, max(1.0, deadline - time.monotonic()))
        if not problem:
            return
        if time.monotonic() + _PAUSE > deadline:
            hint = "`hatchway ls` shows why the target is not ready"
            if "not found" in problem:
                hint += f"; http://{domain}:{port}/ says which context the door leads to"
            problem = _reason(target, cluster) or problem
            raise HatchwayError(f"{target} does not answer after {timeout:g} s: {printable(problem)}", hint)
        if not told:
            problem = _reason(target, cluster) or problem
            click.echo(f"waiting for {target}: {printable(problem)}", err=True)
            told = True
        time.sleep(_PAUSE)


def _reason(target: Target, cluster: ChosenCluster) -> str:
    """Return why the target is not ready, from its objects; "" when they do not show the reason.

    The API server's own words are only "no endpoints available". Raises HatchwayError if the door will never reach it.
    """
    from hatchway.cli.targets import read_state

    entry = read_state(target, cluster)
    if entry is None:
        return ""
    if entry.out_of_reach:
        raise HatchwayError(
            f"{target} is out of reach: {entry.out_of_reach}",
            f"`hatchway forward --relay {format_arguments(target)}` makes a pod that connects to it",
        )
    return entry.status if entry.endpoints.known and entry.endpoints.ready == 0 else ""


def _ask(target: Target, port: int, domain: str, rest: str, timeout: float) -> str:
    """Return why the target does not answer yet; "" when it answers. Raises HatchwayError if it will never answer."""
    import http.client

    host = format_host_name(target, domain)
    # The C library cannot resolve names below localhost, so the address is used.
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        # Only the response's head is read, because the body may be an endless stream.
        connection.request("GET", rest.partition("#")[0], headers={"Host": f"{host}:{port}", "Accept": "*/*"})
        answer = connection.getresponse()
        return _judge(target, answer, port)
    except ConnectionRefusedError as error:
        flag = f" --port {port}" if port != 8001 else ""
        raise HatchwayError(
            f"no door is open on 127.0.0.1:{port}", f"`hatchway proxy{flag}` in another terminal opens one"
        ) from error
    except TimeoutError:
        return "no answer"
    except (http.client.HTTPException, OSError) as error:
        return f"the connection was lost ({error or type(error).__name__})"
    finally:
        connection.close()


def _judge(target: Target, answer: HTTPResponse, port: int) -> str:
    body = answer.read(64 * 1024) if answer.status >= 400 else b""
    try:
        status = json.loads(body) if body else None
    except ValueError:
        status = None
    if isinstance(status, dict) and status.get("kind") == "Status":
        message = str(status.get("message") or f"status {answer.status}")
        if answer.status in _NOT_YET:
            return message
        raise HatchwayError(f"{target} cannot be reached: {message}")
    if answer.status == 403 and body.strip() == b"Forbidden":
        raise HatchwayError(
            f"the program on 127.0.0.1:{port} refuses host names of targets: it seems to be `kubectl proxy`",
            "`hatchway proxy --port N` opens a door on another port; then `hatchway open --port N`",
        )
    return ""
