"""Reads metrics of custom.metrics.k8s.io and external.metrics.k8s.io (`podautoscaler/metrics/client.go`).

Adapters (of Prometheus, KEDA ...) serve these APIs behind API aggregation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol
from urllib.parse import quote, urlencode

from hatchway.cluster.controllers.objectfields import parse_time
from hatchway.cluster.controllers.podmetrics import NoMetrics, PodUsage
from hatchway.cluster.controllers.servedtypes import ServedTypes
from hatchway.cluster.quantity import ceil_divide, parse_quantity
from hatchway.errors import ApiError
from hatchway.kube.api import Object

CUSTOM, EXTERNAL = "custom.metrics.k8s.io", "external.metrics.k8s.io"
_CUSTOM_VERSIONS = ("v1beta2", "v1beta1")
_EXTERNAL_VERSION = "v1beta1"
# The time window (seconds) of a value without `windowSeconds`.
_WINDOW = 60
_MAX_INT64 = (1 << 63) - 1


class MetricsApis(Protocol):
    """The metrics APIs of a cluster. Adapters serve them, not the API server."""

    def versions(self, group: str) -> Sequence[str] | None:
        """Return the available versions of a group, the preferred one first; None when it is not registered."""
        ...

    async def values(self, group: str, version: str, path: str, what: str) -> list[Object]:
        """Return the items of a list of values.

        path: the path after the version, with its query.
        what: the resource and name, for error messages.

        Raises ApiError.
        """
        ...


class NoMetricsApis:
    """The `MetricsApis` of a cluster without metrics APIs."""

    def versions(self, group: str) -> Sequence[str] | None:
        """Return None."""
        return None

    async def values(self, group: str, version: str, path: str, what: str) -> list[Object]:
        """Raise ApiError 404."""
        raise ApiError(404, "NotFound", f"the server could not find the requested resource (get {what})")


class MetricsReader:
    """Reads metrics for one namespace. types: the served types, which give the resource of a metric's object."""

    def __init__(self, apis: MetricsApis, types: ServedTypes, namespace: str) -> None:
        self._apis = apis
        self._types = types
        self._namespace = namespace

    async def of_pods(self, metric: Object, selector: str, moment: datetime) -> dict[str, PodUsage]:
        """Return a metric of each pod that a label selector selects, in thousandths. Raises NoMetrics.

        moment: the time of values that have no timestamp.
        """
        items = await self._custom("pods", "*", metric, selector)
        if not items:
            raise NoMetrics("no metrics returned from custom metrics API")
        found = {}
        for item in items:
            # The window has another name in v1beta1.
            window = item.get("windowSeconds", item.get("window"))
            found[str((item.get("describedObject") or {}).get("name", ""))] = PodUsage(
                _thousandths(item),
                parse_time(item.get("timestamp")) or moment,
                float(window) if isinstance(window, int) else _WINDOW,
            )
        return found

    async def of_object(self, metric: Object, reference: Object) -> int:
        """Return a metric of one object, in thousandths. Raises NoMetrics."""
        group, kind = str(reference.get("apiVersion") or "").rpartition("/")[0], reference.get("kind", "")
        if (group, kind) == ("", "Namespace"):
            # The name of the namespace is not read from the reference: only the autoscaler's own namespace is allowed.
            items = await self._custom("metrics", "", metric, "")
        else:
            served = self._types.find(group, kind)
            if served is None:
                full = f"{kind}.{group}" if group else kind
                why = f'no matches for kind "{kind}" in group "{group}"'
                raise NoMetrics(f"{_CUSTOM_FAILED}unable to map kind {full} to resource: {why}")
            items = await self._custom(served.resource, str(reference.get("name", "")), metric, "")
        if len(items) != 1:
            count = f"the custom metrics API server returned {len(items)} results when we asked for exactly one"
            raise NoMetrics(f"{_CUSTOM_FAILED}{count}")
        return _thousandths(items[0])

    async def external(self, metric: Object) -> int:
        """Return the sum of the values of an external metric, which has no object, in thousandths. Raises NoMetrics."""
        name, chosen = str(metric.get("name", "")), format_selector(metric.get("selector"))
        path = f"/namespaces/{_quoted(self._namespace)}/{_quoted(name)}{_query(labelSelector=chosen)}"
        try:
            items = await self._apis.values(EXTERNAL, _EXTERNAL_VERSION, path, f"{name}.{EXTERNAL}")
        except ApiError as error:
            raise NoMetrics(f"unable to fetch metrics from external metrics API: {error.message}") from error
        if not items:
            raise NoMetrics("no metrics returned from external metrics API")
        return sum(map(_thousandths, items))

    async def _custom(self, resource: str, name: str, metric: Object, selector: str) -> list[Object]:
        """Return values of the custom metrics API. name: "*" for all objects that the selector selects."""
        versions = self._apis.versions(CUSTOM)
        if versions is None:
            raise NoMetrics(f"{_CUSTOM_FAILED}no custom metrics API ({CUSTOM}) registered")
        version = next((one for one in versions if one in _CUSTOM_VERSIONS), None)
        if version is None:
            raise NoMetrics(f"{_CUSTOM_FAILED}no known available metric versions found")
        parts = ["namespaces", self._namespace, resource, *((name,) if name else ()), str(metric.get("name", ""))]
        query = _query(labelSelector=selector, metricLabelSelector=format_selector(metric.get("selector")))
        path = "".join(f"/{_quoted(part)}" for part in parts) + query
        try:
            what = f"{resource}.{CUSTOM} {name or metric.get('name', '')}"
            return await self._apis.values(CUSTOM, version, path, what)
        except ApiError as error:
            raise NoMetrics(f"{_CUSTOM_FAILED}{error.message}") from error


_CUSTOM_FAILED = "unable to fetch metrics from custom metrics API: "


def _quoted(part: str) -> str:
    return quote(part, safe="*")


def _query(**parameters: str) -> str:
    given = {name: value for name, value in parameters.items() if value}
    return f"?{urlencode(given)}" if given else ""


def _thousandths(item: Object) -> int:
    """Return the value of an item in thousandths, as `Quantity.MilliValue` does. Raises NoMetrics."""
    try:
        value = ceil_divide(parse_quantity(item["value"]) * 1000, parse_quantity(1))
    except (KeyError, ValueError) as error:
        raise NoMetrics(f"a metric without a value that is a quantity: {str(item.get('value'))[:64]!r}") from error
    return max(-_MAX_INT64 - 1, min(value, _MAX_INT64))


def format_selector(selector: Mapping[str, Any] | None) -> str:
    """Return a label selector as text, as `labels.Selector.String` writes it: requirements sorted by their keys."""
    found = [(key, f"{key}={value}") for key, value in ((selector or {}).get("matchLabels") or {}).items()]
    for one in (selector or {}).get("matchExpressions") or ():
        key, operator, values = one["key"], one["operator"], ",".join(sorted(one.get("values") or ()))
        words = {
            "In": f"{key} in ({values})",
            "NotIn": f"{key} notin ({values})",
            "Exists": key,
            "DoesNotExist": f"!{key}",
        }
        found.append((key, words[operator]))
    return ",".join(text for _, text in sorted(found, key=lambda one: one[0]))


def describe_selector(selector: Mapping[str, Any] | None) -> str:
    """Return a label selector as Go prints `*metav1.LabelSelector` in messages of autoscalers."""
    if selector is None:
        return "nil"
    labels = selector.get("matchLabels") or {}
    shown = "".join(f"{key}: {labels[key]}," for key in sorted(labels))
    rules = "".join(
        f"LabelSelectorRequirement{{Key:{one['key']},Operator:{one['operator']},"
        f"Values:[{' '.join(one.get('values') or ())}],}},"
        for one in selector.get("matchExpressions") or ()
    )
    listed = f"[]LabelSelectorRequirement{{{rules}}}"
    return f"&LabelSelector{{MatchLabels:map[string]string{{{shown}}},MatchExpressions:{listed},}}"
