"""Passes requests for exec, attach, port-forward and the proxy verb to the admission chain (operation CONNECT).

As in apiserver's `pkg/endpoints/handlers/rest.go` (`ConnectResource`), the object that plugins get is the request's
options (`PodExecOptions`). Requests for logs do not pass the chain, because they are reads.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from hatchway.cluster.api.admission.chain import AdmissionChain
from hatchway.cluster.api.admission.contract import AdmissionAttributes
from hatchway.cluster.api.http.connectroutes import ConnectRoute
from hatchway.cluster.api.http.requestinfo import RequestInfo
from hatchway.cluster.api.operations.requestoptions import QueryParameters, parse_query
from hatchway.cluster.auth.user import UserInfo
from hatchway.kube.api import Object
from hatchway.proxy.routing import RequestHead

__all__ = ["admit_connection"]


def _flag(query: QueryParameters, key: str) -> bool:
    values = query.get(key) or ()
    return bool(values) and values[0].lower() not in ("0", "false")


def _streams(info: RequestInfo, query: QueryParameters) -> dict[str, Any]:
    found: dict[str, Any] = {key: True for key in ("stdin", "stdout", "stderr", "tty") if _flag(query, key)}
    if container := (query.get("container") or ("",))[0]:
        found["container"] = container
    return found


def _exec(info: RequestInfo, query: QueryParameters) -> dict[str, Any]:
    return {**_streams(info, query), "command": list(query.get("command") or ())}


def _ports(info: RequestInfo, query: QueryParameters) -> dict[str, Any]:
    texts = [one for text in query.get("ports") or () for one in text.split(",")]
    numbers = [int(one) for one in texts if one.isascii() and one.isdigit() and len(one) <= 5]
    return {"ports": numbers} if numbers else {}


def _path(info: RequestInfo, query: QueryParameters) -> dict[str, Any]:
    path = info.rest.decode("latin-1")
    return {"path": path} if path else {}


_OPTIONS: dict[str, Callable[[RequestInfo, QueryParameters], dict[str, Any]]] = {
    "PodAttachOptions": _streams,
    "PodExecOptions": _exec,
    "PodPortForwardOptions": _ports,
    "NodeProxyOptions": _path,
    "PodProxyOptions": _path,
    "ServiceProxyOptions": _path,
}


def admit_connection(
    chain: AdmissionChain, route: ConnectRoute, info: RequestInfo, user: UserInfo, head: RequestHead
) -> Awaitable[None] | None:
    """Pass an authorized request for a connecting subresource to the admission chain.

    Returns None when the request is admitted, or an awaitable when a plugin must wait.
    Raises ApiError when the request is refused, or when its query has too many fields.
    """
    make = _OPTIONS.get(route.kind)
    if make is None:
        return None
    row = route.row
    options: Object = {"kind": route.kind, "apiVersion": row.api_version, **make(info, parse_query(head.query))}
    attributes = AdmissionAttributes(
        user,
        "CONNECT",
        row,
        info.subresource,
        info.namespace if row.namespaced else "",
        info.name,
        (row.group, row.version, route.kind),
        options,
        None,
        audit_annotations=head.state.setdefault("audit_annotations", {}),
    )
    return chain.run(attributes)
