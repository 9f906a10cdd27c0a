"""`hatchway url`: build a proxy URL, or take one apart."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated
from urllib.parse import quote, urlsplit

import typer

from hatchway.cli.options import Context, Format, Kubeconfig, OfName, Output, context_of
from hatchway.target import (
    TargetError,
    format_argument,
    format_proxy_path,
    parse_argument,
    parse_host_name,
    parse_proxy_path,
)

# What may stand in a path and its query as it is, percent escapes included.
_AS_TYPED = "/?:@!$&'()*+,;=-._~%#"


def url(
    target: Annotated[str, typer.Argument(help="grafana, svc/grafana:http, https:grafana:, pod/web-0:8080, node/n1")],
    path: Annotated[str, typer.Argument(help="The path, and the query, behind it.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="The target's namespace.")] = "default",
    kubeconfig: Kubeconfig = None,
    context: Context = None,
    name: OfName = None,
    explain: Annotated[bool, typer.Option("--explain", help="Take the URL given as TARGET apart.")] = False,
    output: Output = Format.text,
) -> None:
    """Print a proxy URL of the API server, or explain one."""
    if explain:
        if path:
            raise typer.BadParameter("a URL is explained alone, without PATH", param_hint="PATH")
        _explain(target, output)
        return
    from hatchway.kube import clusterinfo

    found = parse_argument(target, namespace)
    rest = "/" + quote(path.removeprefix("/"), safe=_AS_TYPED)
    address = clusterinfo.server_of(kubeconfig, context_of(name, context)) + format_proxy_path(found, rest)
    print(json.dumps({"url": address, **asdict(found)}, indent=2) if output is Format.json else address)


def _explain(text: str, output: Format) -> None:
    parts = urlsplit(text)
    if parts.path.startswith(("/api/v1/namespaces/", "/api/v1/nodes/")):
        parsed = parse_proxy_path(parts.path)
        found, rest, server = (
            parsed.target,
            parsed.rest or "/",
            f"{parts.scheme}://{parts.netloc}" if parts.netloc else "",
        )
    elif not (parts.hostname or text).endswith(".localhost"):
        raise TargetError(
            f'"{text}" is neither a proxy URL nor a host name of a target',
            "they look like https://SERVER/api/v1/namespaces/NAMESPACE/services/NAME:PORT/proxy/PATH "
            "and NAME.NAMESPACE.svc.localhost",
        )
    else:
        found, rest, server = parse_host_name(parts.hostname or text), parts.path or "/", ""
    if parts.query:
        rest += "?" + parts.query
    if output is Format.json:
        print(json.dumps({"server": server, **asdict(found), "path": rest}, indent=2))
        return
    rows = {
        "server": server,
        "kind": found.kind.removesuffix("s"),
        "namespace": found.namespace,
        "name": found.name,
        "scheme": found.scheme or "(not said: http)",
        "port": found.port
        or ("(not said: the unnamed port)" if found.kind == "services" else "(not said: the default)"),
        "path": rest,
        "argument": format_argument(found) + (f" -n {found.namespace}" if found.namespace else ""),
    }
    for key, value in rows.items():
        if value:
            print(f"{key:<10} {value}")
