"""`hatchway url`: prints a target's URL in each spelling, or explains a URL."""

from __future__ import annotations

from dataclasses import asdict
from urllib.parse import quote, urlsplit

import click

from hatchway.cli import clusterflags, options
from hatchway.cli.clients import door_lines, note_for_terminal, print_lines
from hatchway.cli.printing import note, print_data
from hatchway.cli.usage import GoFlagsCommand, Text
from hatchway.errors import HatchwayError
from hatchway.kube.overrides import ChosenCluster
from hatchway.target import (
    Target,
    TargetError,
    find_domain,
    format_arguments,
    format_door_url,
    format_proxy_path,
    parse_host_name,
    parse_proxy_path,
    parse_qualified_argument,
)

# Characters of a path and its query that are not escaped; with "%", so that existing escapes are kept.
_AS_TYPED = "/?:@!$&'()*+,;=-._~%#"


@click.command(
    cls=GoFlagsCommand,
    short_help="Print a target's URL, or explain one.",
    epilog=options.examples("""
    hatchway url grafana -n monitoring /login
    hatchway url svc/grafana:http -n monitoring --host
    hatchway url grafana -n monitoring --clients
    hatchway url grafana -n monitoring --all
    hatchway url --explain https://127.0.0.1:6443/api/v1/namespaces/default/services/web:80/proxy/
    """),
)
@click.argument("target", shell_complete=options.complete_target)
@click.argument("path", type=Text(empty=True), default="")
@options.namespace
@click.option("--api", is_flag=True, help="The URL at the API server; the default.")
@click.option("--host", is_flag=True, help="The URL by host name, at the door (`hatchway proxy`).")
@click.option("--path", "proxy_path", is_flag=True, help="Only the proxy path.")
@click.option("--curl", is_flag=True, help="A line for curl that reaches the host name anywhere.")
@click.option("--clients", is_flag=True, help="Lines for programs that do not resolve the host name: wget, Python ...")
@click.option("--all", "every_port", is_flag=True, help="One URL for each port that may speak HTTP.")
@options.door_port
@click.option("--domain", metavar="DOMAIN", show_default="localhost; any with --explain", help="The door's domain.")
@click.option("--explain", is_flag=True, help="Explain the URL that is given as TARGET.")
@options.output("text", "name", "json", "yaml")
@clusterflags.cluster_options
def url(
    target: str,
    path: str,
    namespace: str | None,
    api: bool,
    host: bool,
    proxy_path: bool,
    curl: bool,
    clients: bool,
    every_port: bool,
    port: int,
    domain: str | None,
    cluster: ChosenCluster,
    explain: bool,
    output: str,
) -> None:
    """Print a target's URL at the API server or at the door, or explain one.

    TARGET: grafana, grafana.monitoring, svc/grafana:http, https:grafana:, pod/web-0:8080, node/n1.
    PATH: the path and query on the target.
    """
    if explain:
        if path or api or host or proxy_path or curl or clients or every_port:
            raise click.BadParameter(
                "--explain takes no PATH, and none of --api, --host, --path, --curl, --clients", param_hint="--explain"
            )
        _explain(target, domain, output)
        return
    if api + host + proxy_path + curl + clients > 1:
        raise click.BadParameter("choose one of --api, --host, --path, --curl, --clients", param_hint="--host")
    from hatchway.cli.targets import describe_choice, find_target

    by_name = host or curl or clients
    asked = parse_qualified_argument(target, namespace, namespace_of(cluster) if namespace is None else "")
    server = ""
    if not by_name and not proxy_path:
        from hatchway.kube import contexts

        # Load the kubeconfig before the target is looked up: without a cluster, this error is the helpful one.
        server = contexts.load(*cluster).server
    speller = _Speller(as_rest(path), port, domain or "localhost", server)
    # A host name needs no port: the door finds it.
    looked = find_target(asked, cluster, port=not (host or curl or asked.port or asked.kind == "nodes"))
    pairs = [(asked, looked.target)]
    if every_port and looked.links:
        pairs = [(link.target, link.api_target) for link in looked.links]
    elif looked.links:
        note(f"{describe_choice(looked.links)}; --all prints all of them")

    def spelled(asked: Target, found: Target) -> str:
        if proxy_path:
            return format_proxy_path(found, speller.rest)
        if curl:
            return speller.lines(asked, None)["curl"]
        return speller.door_url(asked) if by_name else server + format_proxy_path(found, speller.rest)

    if output in ("json", "yaml"):
        made = []
        for one, found in pairs:
            # A host name needs no port: the door finds it.
            resolved = None if (host or curl) and not one.port else found
            data = {"url": spelled(one, found), **asdict(one if by_name else found)}
            made.append({**data, "clients": speller.lines_if_any(one, resolved)})
        print_data(made if every_port else made[0], output)
        return
    for one, found in pairs:
        if output == "name":
            print(format_arguments(one if by_name else found))
        elif clients:
            print_lines(speller.lines(one, found), spelled(one, found))
        else:
            print(spelled(one, found))
    if host and output == "text":
        note_for_terminal(port, format_arguments(asked))


class _Speller:
    """Writes a target's URLs.

    rest: the path and the query.
    port, domain: the door's port and domain.
    server: the API server's URL.
    """

    def __init__(self, rest: str, port: int, domain: str, server: str) -> None:
        self.rest = rest
        self.server = server
        self._port = port
        self._domain = domain

    def door_url(self, target: Target) -> str:
        return format_door_url(target, self.rest, port=self._port, domain=self._domain)

    def lines(self, target: Target, resolved: Target | None) -> dict[str, str]:
        """Return the command lines for programs that cannot resolve the host name (`door_lines`)."""
        return door_lines(target, resolved, self.rest, port=self._port, domain=self._domain)

    def lines_if_any(self, target: Target, resolved: Target | None) -> dict[str, str]:
        """Return the same as `lines`; nothing for a target without a host name."""
        try:
            return self.lines(target, resolved)
        except TargetError:
            return {}


def as_rest(path: str) -> str:
    """Return the path and query of a request target for the PATH that the user has typed."""
    return "/" + quote(path.removeprefix("/"), safe=_AS_TYPED)


def namespace_of(cluster: ChosenCluster) -> str:
    """Return the namespace of a kubeconfig's context; "default" when the kubeconfig cannot be used."""
    from hatchway.kube import contexts

    try:
        return contexts.load(*cluster).namespace
    except HatchwayError:
        # Host names can be made without a kubeconfig. Code that needs the kubeconfig will report this error itself.
        return "default"


def _explain(text: str, domain: str | None, output: str) -> None:
    parts = urlsplit(text if "//" in text or text.startswith("/") else f"//{text}")
    # Rancher and others serve the API below a path.
    base, slash, tail = parts.path.partition("/api/v1/n")
    if slash:
        parsed = parse_proxy_path(slash + tail)
        found, rest, below = parsed.target, parsed.rest or "/", ""
        server = f"{parts.scheme}://{parts.netloc}{base}" if parts.scheme else ""
    elif ingress_host := _ingress_host(parts.hostname or "", domain):
        _explain_ingress_host(ingress_host, parts.path or "/", parts.query, output)
        return
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
        "scheme": found.scheme or ("(not given: the door finds it)" if below else "(not given: http)"),
        "port": found.port or _unsaid_port(found.kind, bool(below)),
        "path": rest,
        "argument": format_arguments(found),
    }
    for key, value in rows.items():
        if value:
            print(f"{key:<10} {value}")


def _ingress_host(host: str, domain: str | None) -> str:
    """Return the Ingress host in a host name of the door; "" for the host name of a target, and for other names.

    For `shop.example.ingress.localhost` it is `shop.example`.
    """
    name = host.lower().rstrip(".")
    try:
        parse_host_name(name, domain or find_domain(name))
    except TargetError:
        from hatchway.kube.ingresshosts import LABEL

        before, mark, after = name.rpartition(f".{LABEL}.")
        return before if mark and domain in (None, after) else ""
    return ""


def _explain_ingress_host(host: str, path: str, query: str, output: str) -> None:
    path += f"?{query}" if query else ""
    if output == "name":
        print(host)
    elif output != "text":
        print_data({"ingressHost": host, "path": path}, output)
    else:
        print(f"{'host':<10} {host}")
        print(f"{'path':<10} {path}")
        print(f"{'served by':<10} the controller of the Ingress that has this host (see: hatchway ls)")


def _unsaid_port(kind: str, at_door: bool) -> str:
    if at_door:
        return "(not given: the door finds it)"
    return "(not given: the unnamed port)" if kind == "services" else "(not given: the default)"


def _explain_host(text: str, host: str, domain: str | None) -> tuple[Target, str]:
    """Return (target, the door's domain in the host name)."""
    try:
        below = domain or find_domain(host)
        return parse_host_name(host, below), below
    except TargetError as error:
        raise TargetError(
            f'"{text}" is neither a proxy URL nor a host name of a target' + (f" below {domain}" if domain else ""),
            "they look like https://SERVER/api/v1/namespaces/NAMESPACE/services/NAME:PORT/proxy/PATH "
            "and NAME.NAMESPACE.svc.localhost",
        ) from error
