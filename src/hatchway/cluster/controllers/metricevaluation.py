"""Computes the number of replicas that each metric of an autoscaler requires (`horizontal.go`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from typing import Any

from hatchway.cluster.controllers.controller import ControllerConfig
from hatchway.cluster.controllers.metricsapis import MetricsReader, describe_selector
from hatchway.cluster.controllers.podmetrics import NoMetrics, PodUsage, fetch_usage
from hatchway.cluster.controllers.replicacalculator import (
    Delays,
    Proposal,
    Tolerance,
    pod_requests,
    propose,
    propose_by_average,
    propose_by_value,
)
from hatchway.cluster.quantity import format_quantity, parse_quantity
from hatchway.kube.api import Object


class FailedMetric(Exception):
    """A metric cannot be read.

    reason: the reason for the condition ScalingActive.
    described: the message, with the metric's name in front.
    """

    def __init__(self, reason: str, message: str, described: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.described = described


@dataclass(frozen=True, slots=True)
class ScaledPods:
    """The pods of an autoscaler's target.

    wanted: `spec.replicas` of the target's Scale.
    counted: `status.replicas` of the Scale.
    selector: the label selector as text.
    pods: the pods that the selector selects.
    """

    wanted: int
    counted: int
    selector: str
    pods: list[Object]


@dataclass(frozen=True, slots=True)
class Evaluated:
    """The number of replicas that a metric requires.

    name: the metric's name for messages.
    status: the metric's entry in `status.currentMetrics`.
    """

    replicas: int
    name: str
    status: Object


class MetricEvaluator:
    """Evaluates the metrics of one autoscaler.

    spec: the autoscaler's spec. target: the pods that it scales. moment: the time of the evaluation.
    """

    def __init__(
        self, config: ControllerConfig, namespace: str, spec: Mapping[str, Any], target: ScaledPods, moment: datetime
    ) -> None:
        self._config = config
        self._namespace = namespace
        self._behavior: Mapping[str, Any] = spec.get("behavior") or {}
        self._target = target
        self._moment = moment
        self._reader = MetricsReader(config.metrics_apis, config.types, namespace)

    async def evaluate(self, metric: Object) -> Evaluated:
        """Return the number of replicas that one metric requires. Raises FailedMetric."""
        kind = metric.get("type", "")
        if kind == "Pods":
            return await self._pods(metric["pods"])
        if kind == "Object":
            return await self._object(metric["object"])
        if kind == "External":
            return await self._external(metric["external"])
        return await self._resource(kind, metric.get("resource" if kind == "Resource" else "containerResource") or {})

    def _propose(self, goal: int, usage: Mapping[str, PodUsage], resource: str, requests: Any = None) -> Proposal:
        return propose(
            self._target.wanted,
            max(1, goal),
            self._target.pods,
            usage,
            resource=resource,
            requests=requests,
            tolerance=self._tolerance(),
            delays=Delays(self._config.cpu_initialization, self._config.initial_readiness),
            moment=self._moment,
        )

    async def _resource(self, kind: str, source: Object) -> Evaluated:
        resource, container, target = source.get("name", ""), source.get("container", ""), source.get("target") or {}
        percent, value = target.get("averageUtilization"), target.get("averageValue")
        what = f"{resource} container resource" if container else f"{resource} resource"
        pods = self._target.pods
        try:
            names = {pod["metadata"]["name"] for pod in pods}
            try:
                usage = await fetch_usage(self._config.pod_metrics, self._namespace, names, resource, container)
            except NoMetrics as error:
                raise NoMetrics(f"unable to get metrics for resource {resource}: {error}") from error
            goal = percent if percent is not None else _thousandths(value)
            requests = pod_requests(pods, resource, container) if percent is not None else None
            proposal = self._propose(goal, usage, resource, requests)
        except NoMetrics as error:
            reason = "FailedGetContainerResourceMetric" if container else "FailedGetResourceMetric"
            why = f"failed to get {resource} utilization: {error}" if percent is not None else str(error)
            raise FailedMetric(reason, why, f"failed to get {what} metric value: {why}") from error
        shown: Object = {"averageValue": _quantity(proposal.average)}
        if percent is not None:
            shown["averageUtilization"] = proposal.utilization
            what += " utilization (percentage of request)"
        key = "containerResource" if container else "resource"
        current = {"name": resource, **({"container": container} if container else {}), "current": shown}
        return Evaluated(proposal.replicas, what, {"type": kind, key: current})

    async def _pods(self, source: Object) -> Evaluated:
        metric, name = source["metric"], source["metric"]["name"]
        try:
            try:
                usage = await self._reader.of_pods(metric, self._target.selector, self._moment)
            except NoMetrics as error:
                raise NoMetrics(f"unable to get metric {name}: {error}") from error
            proposal = self._propose(_thousandths(source["target"].get("averageValue")), usage, "")
        except NoMetrics as error:
            raise FailedMetric(
                "FailedGetPodsMetric", str(error), f"failed to get pods metric value: {error}"
            ) from error
        current = {"averageValue": _quantity(proposal.average)}
        status = {"type": "Pods", "pods": {"metric": metric, "current": current}}
        return Evaluated(proposal.replicas, f"pods metric {name}", status)

    async def _object(self, source: Object) -> Evaluated:
        metric, described, target = source["metric"], source["describedObject"], source["target"]
        name, kind = metric["name"], described.get("kind", "")
        by_value = target.get("value") is not None
        try:
            try:
                usage = await self._reader.of_object(metric, described)
            except NoMetrics as error:
                # The order of the words is that of Kubernetes (GetObjectMetricReplicas).
                where = f"{kind} on {self._namespace} {described.get('name', '')}"
                raise NoMetrics(f"unable to get metric {name}: {where}/{error}") from error
            replicas, current = self._propose_sum(usage, target)
        except NoMetrics as error:
            prefix = "failed to get object metric value: "
            prefix += "" if by_value else f"failed to get {name} object metric: "
            raise FailedMetric("FailedGetObjectMetric", str(error), f"{prefix}{error}") from error
        status = {"type": "Object", "object": {"describedObject": described, "metric": metric, "current": current}}
        words = f"{kind} metric {name}" if by_value else _external_name(metric)
        return Evaluated(replicas, words, status)

    async def _external(self, source: Object) -> Evaluated:
        metric, target = source["metric"], source["target"]
        name = metric["name"]
        try:
            try:
                usage = await self._reader.external(metric)
            except NoMetrics as error:
                shown = describe_selector(metric.get("selector"))
                raise NoMetrics(f"unable to get external metric {self._namespace}/{name}/{shown}: {error}") from error
            replicas, current = self._propose_sum(usage, target)
        except NoMetrics as error:
            by_average = target.get("averageValue") is not None
            inner = f"failed to get {name} external metric" if by_average else f"failed to get external metric {name}"
            described = f"failed to get {name} external metric value: {inner}: {error}"
            raise FailedMetric("FailedGetExternalMetric", str(error), described) from error
        status = {"type": "External", "external": {"metric": metric, "current": current}}
        return Evaluated(replicas, _external_name(metric), status)

    def _propose_sum(self, usage: int, target: Mapping[str, Any]) -> tuple[int, Object]:
        """Return (the required replicas, the value as the status shows it) for a value that all pods share."""
        scaled, tolerance = self._target, self._tolerance()
        if target.get("value") is not None:
            goal = max(1, _thousandths(target["value"]))
            replicas = propose_by_value(scaled.wanted, usage, goal, scaled.pods, tolerance)
            return replicas, {"value": _quantity(usage)}
        goal = max(1, _thousandths(target.get("averageValue")))
        replicas, average = propose_by_average(scaled.counted, usage, goal, tolerance)
        return replicas, {"averageValue": _quantity(average)}

    def _tolerance(self) -> Tolerance:
        def given(direction: str) -> float:
            value = (self._behavior.get(direction) or {}).get("tolerance")
            return self._config.autoscaler_tolerance if value is None else float(parse_quantity(value))

        return Tolerance(given("scaleDown"), given("scaleUp"))


def _external_name(metric: Object) -> str:
    return f"external metric {metric['name']}({describe_selector(metric.get('selector'))})"


def _thousandths(quantity: str | None) -> int:
    return int(parse_quantity(quantity or "0") * 1000)


def _quantity(thousandths: int) -> str:
    """Return a value as a quantity in canonical form (`NewMilliQuantity`). thousandths: the value times 1000."""
    if thousandths % 1000:
        return f"{thousandths}m"
    return format_quantity(Fraction(thousandths, 1000), "")
