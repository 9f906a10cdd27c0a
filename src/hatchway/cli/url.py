"""`hatchway url`: a target's URL in every spelling, or a URL taken apart."""

from __future__ import annotations

import shlex
import sys
from dataclasses import asdict
from urllib.parse import quote, urlsplit

import click

from hatchway.cli import options
from hatchway.cli.printing import print_data
from hatchway.errors import HatchwayError
from hatchway.target import (
    Target,
    TargetError,
    find_domain,
    format_arguments,
    format_door_url,
    format_host_name,
    format_proxy_path,
    parse_argument,
    parse_host_name,
    parse_proxy_path,
)

# What may stand in a path and its query as it is, percent escapes included.
_AS_TYPED = "/?:@!$&'()*+,;=-._~%#"

# A URL is printed in any case; so long the cluster is asked which port is meant.
_PATIENCE = 5.0


@click.command(
    short_help="Print a target's URL, or explain one.",
    epilog=options.examples("""
    hatchway url grafana -n monitoring /login
    hatchway url svc/grafana:http -n monitoring --host
    hatchway url grafana -n monitoring --curl
    hatchway url --explain https://127.0.0.1:6443/api/v1/namespaces/default/services/web:80/proxy/
    """),
)
@click.argument("target", shell_complete=options.complete_target)
@click.argument("path", default="")
@options.namespace
@click.option("--api", is_flag=True, help="At the API server: the default.")
@click.option("--host", is_flag=True, help="By host name, at the door (`hatchway proxy`).")
@click.option("--path", "proxy_path", is_flag=True, help="The proxy path alone.")
@click.option("--curl", is_flag=True, help="A line for curl that reaches the host name anywhere.")
@options.door_port
@click.option("--domain", show_default="localhost; any with --explain", help="The door's domain.")
@options.of_cluster
@click.option("--explain", is_flag=True, help="Take the URL given as TARGET apart.")
@options.output("text", "name", "json", "yaml")
def url(
    target: str,
    path: str,
    namespace: str | None,
    api: bool,
    host: bool,
    proxy_path: bool,
    curl: bool,
    port: int,
    domain: str | None,
    kubeconfig: str | None,
    context: str | None,
    name: str | None,
    explain: bool,
    output: str,
) -> None:
    """Print a target's URL at the API server or at the door, or explain one.

    TARGET: grafana, svc/grafana:http, https:grafana:, pod/web-0:8080, node/n1. PATH: the path, and the query, behind it.
    """
    if explain:
        if path or api or host or proxy_path or curl:
            raise click.BadParameter("a URL is explained alone, without PATH and spellings", param_hint="--explain")
        _explain(target, domain, output)
        return
    if api + host + proxy_path + curl > 1:
        raise click.BadParameter("choose one of --api, --host, --path, --curl", param_hint="--host")
    chosen = options.context_of(name, context)
    found = parse_argument(target, namespace or namespace_of(kubeconfig, chosen))
    rest = as_rest(path)
    if not (host or curl or found.port or found.kind == "nodes"):
        found = _with_port(found, kubeconfig, chosen)
    if proxy_path:
        text = format_proxy_path(found, rest)
    elif host:
        text = format_door_url(found, rest, port=port, domain=domain or "localhost")
    elif curl:
        own = format_host_name(found, domain or "localhost")
        address = format_door_url(found, rest, port=port, domain=domain or "localhost")
        text = f"curl --resolve {own}:{port}:127.0.0.1 {shlex.quote(address)}"
    else:
        from hatchway.kube import settings

        text = settings.load(kubeconfig, chosen).server + format_proxy_path(found, rest)
    if output == "text":
        print(text)
    elif output == "name":
        print(format_arguments(found))
    else:
        print_data({"url": text, **asdict(found)}, output)


def as_rest(path: str) -> str:
    """What was typed as PATH, as a request-target's path and query."""
    return "/" + quote(path.removeprefix("/"), safe=_AS_TYPED)


def namespace_of(kubeconfig: str | None, context: str | None) -> str:
    """The namespace that a context of the kubeconfig names; "default" where there is none to ask."""
    from hatchway.kube import settings

    try:
        return settings.load(kubeconfig, context).namespace
    except HatchwayError:
        # Spelling a name needs no cluster; whoever needs one finds out by himself, and says it better.
        return "default"


def _with_port(target: Target, kubeconfig: str | None, context: str | None) -> Target:
    """With the port that the door would choose: when none is said the API server knows the unnamed one only.

    A target that cannot be asked for stays as it was said. Raises HatchwayError when none of its ports speaks HTTP.
    """
    import asyncio

    from hatchway.door.lookup import Lookup
    from hatchway.door.resolve import resolve
    from hatchway.kube.connection import Connection
    from hatchway.kube.links import links

    async def ask() -> Target:
        connection = Connection.load(kubeconfig, context)
        try:
            async with asyncio.timeout(_PATIENCE):
                lookup = Lookup(connection)
                known = await lookup.get(target.kind, target.namespace, target.name)
                if known.object is None:
                    raise HatchwayError(f"there is no {target}" if known.readable else f"you may not read {target}")
                resolved = await resolve(target, lookup)
        except TimeoutError as error:
            raise HatchwayError(f"{connection.label} does not answer in {_PATIENCE:g} s") from error
        finally:
            await connection.aclose()
        if not resolved.http:
            raise _NoHttp(
                target, [link.target for link in links(target.kind, known.object) if link.port.protocol == "TCP"]
            )
        return resolved.target

    try:
        return asyncio.run(ask())
    except _NoHttp:
        raise
    except HatchwayError as error:
        print(f"note: no port was said, and which one is meant is not known: {error.message}", file=sys.stderr)
        return target


class _NoHttp(HatchwayError):
    """ports: the target with each of them."""

    def __init__(self, target: Target, ports: list[Target]) -> None:
        lines = " or ".join(f"`hatchway url {format_arguments(port)}`" for port in ports)
        super().__init__(
            f"{target} has no port that is known to speak HTTP, and none was said",
            f"if one of them does: {lines}" if lines else "none of its ports speaks TCP",
        )


def _explain(text: str, domain: str | None, output: str) -> None:
    parts = urlsplit(text if "//" in text or text.startswith("/") else f"//{text}")
    # Rancher and others have the API below a path of their own.
    base, slash, tail = parts.path.partition("/api/v1/n")
    if slash:
        parsed = parse_proxy_path(slash + tail)
        found, rest, below = parsed.target, parsed.rest or "/", ""
        server = f"{parts.scheme}://{parts.netloc}{base}" if parts.scheme else ""
    else:
        found, below = _explain_host(text, parts.hostname or "", domain)
        server, rest = "", parts.path or "/"
    if parts.query:
        rest += "?" + parts.query
    if output == "name":
        print(format_arguments(found))
        return
    if output != "text":
        print_data({"server": server, **asdict(found), "path": rest}, output)
        return
    rows = {
        "server": server,
        "kind": found.kind.removesuffix("s"),
        "namespace": found.namespace,
        "name": found.name,
        "scheme": found.scheme or ("(not said: the door finds it)" if below else "(not said: http)"),
        "port": found.port or _unsaid_port(found.kind, bool(below)),
        "path": rest,
        "argument": format_arguments(found),
    }
    for key, value in rows.items():
        if value:
            print(f"{key:<10} {value}")


def _unsaid_port(kind: str, at_door: bool) -> str:
    if at_door:
        return "(not said: the door finds it)"
    return "(not said: the unnamed port)" if kind == "services" else "(not said: the default)"


def _explain_host(text: str, host: str, domain: str | None) -> tuple[Target, str]:
    """(target, the domain below which it is spelled)."""
    try:
        below = domain or find_domain(host)
        return parse_host_name(host, below), below
    except TargetError as error:
        raise TargetError(
            f'"{text}" is neither a proxy URL nor a host name of a target' + (f" below {domain}" if domain else ""),
            "they look like https://SERVER/api/v1/namespaces/NAMESPACE/services/NAME:PORT/proxy/PATH "
            "and NAME.NAMESPACE.svc.localhost",
        ) from error
