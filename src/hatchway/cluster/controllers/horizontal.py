"""Scales Deployments and ReplicaSets by the usage of their pods (`pkg/controller/podautoscaler/horizontal.go`).

`replicacalculator.py` computes the number of replicas that a metric asks for, `scalingbehavior.py` limits its changes.
This file reads metrics and objects, and writes the number and the status.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.objectfields import clone, is_deleting, labels_of, set_condition, timestamp
from hatchway.cluster.controllers.podmetrics import NoMetrics, fetch_usage
from hatchway.cluster.controllers.replicacalculator import Delays, Proposal, Tolerance, pod_requests, propose
from hatchway.cluster.controllers.scalingbehavior import ScalingHistory
from hatchway.cluster.quantity import parse_quantity
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key
from hatchway.kube.selectors import selector_is_empty, selector_matches

RESOURCE = "horizontalpodautoscalers.autoscaling"
# Reasons of conditions for metrics that no server in the cluster serves.
_OTHER_SOURCES = {
    "Pods": ("FailedGetPodsMetric", "pods", "custom"),
    "Object": ("FailedGetObjectMetric", "object", "custom"),
    "External": ("FailedGetExternalMetric", "external", "external"),
}


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The number of replicas to have.

    metric: the metric that asks for it, in words; "" when no metric was asked. statuses: `status.currentMetrics`.
    """

    replicas: int
    metric: str
    statuses: list[Object]


class _FailedMetrics(Exception):
    """The metrics give no number of replicas. statuses: the statuses of the metrics that could be read."""

    def __init__(self, message: str, statuses: list[Object]) -> None:
        super().__init__(message)
        self.statuses = statuses


class HorizontalController(Controller):
    """Check every HorizontalPodAutoscaler at intervals, and scale its target."""

    name = "horizontal-pod-autoscaler"

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.autoscalers = context.cache(RESOURCE)
        self.targets = {key: context.cache(resource) for key, resource in context.config.scalable.items()}
        self.pods = context.cache("pods")
        self.events = context.recorder(self.name)
        self.histories: dict[Key, ScalingHistory] = {}
        self.autoscalers.subscribe(self._changed)

    def _changed(self, kind: str, obj: Object, before: Object | None) -> None:
        """Queue an autoscaler that is new or whose spec has changed. Only this controller writes its status."""
        if kind == "DELETED" or before is None or before["spec"] != obj["spec"]:
            self.enqueue(obj)

    async def reconcile(self, key: Key) -> float | None:
        """Scale the target of the autoscaler `key` once. Return the seconds until the next check."""
        autoscaler = self.autoscalers.get(key)
        if autoscaler is None:
            self.histories.pop(key, None)
            return None
        if not is_deleting(autoscaler):
            await _Run(self, key, autoscaler).work()
        return self.context.config.autoscaler_sync


def _kind_of(reference: Object) -> tuple[str, str]:
    """Return the (API group, kind) of a scaleTargetRef; without an apiVersion it is of the group apps."""
    return str(reference.get("apiVersion") or "apps/v1").rpartition("/")[0], str(reference.get("kind") or "")


class _Run:
    """One check of one autoscaler: it scales the target and writes the new status."""

    def __init__(self, controller: HorizontalController, key: Key, autoscaler: Object) -> None:
        self.controller = controller
        self.config = controller.context.config
        self.namespace = key[0]
        self.autoscaler = autoscaler
        self.spec: dict[str, Any] = autoscaler["spec"]
        self.status: dict[str, Any] = clone(autoscaler.get("status") or {})
        self.moment = controller.context.now()
        self.history = controller.histories.setdefault(key, ScalingHistory())

    def _report(self, kind: Literal["Normal", "Warning"], reason: str, message: str) -> None:
        """Write an Event about the autoscaler."""
        self.controller.events.event(self.autoscaler, kind, reason, message)

    def _set_condition(self, kind: str, status: bool, reason: str, message: str) -> None:
        """Set a condition in the new status."""
        condition = {"type": kind, "status": str(status), "reason": reason, "message": message}
        self.status["conditions"] = set_condition(self.status.get("conditions") or (), condition, self.moment)

    async def work(self) -> None:
        reference = self.spec.get("scaleTargetRef") or {}
        target = self._target(reference)
        if target is None:
            kind, name = reference.get("kind", ""), reference.get("name", "")
            resource = self.config.scalable.get(_kind_of(reference))
            why = f'{resource} "{name}" not found'
            if resource is None:
                why = f'no matches for kind "{kind}" in group "{_kind_of(reference)[0]}"'
            self._report("Warning", "FailedGetScale", why)
            text = f"the HPA controller was unable to get the target's current scale: {why}"
            self._set_condition("AbleToScale", False, "FailedGetScale", text)
            await self._write_status()
            return
        text = "the HPA controller was able to get the target's current scale"
        self._set_condition("AbleToScale", True, "SucceededGetScale", text)
        current = target["spec"].get("replicas") or 0
        try:
            wanted, reason = await self._decide(target, current)
        except _FailedMetrics as error:
            self._set_status(current, self.status.get("desiredReplicas") or 0, error.statuses)
            await self._write_status()
            self._report("Warning", "FailedComputeMetricsReplicas", str(error))
            return
        if wanted.replicas != current:
            await self._rescale(target, current, wanted.replicas, reason)
        self._set_status(current, wanted.replicas, wanted.statuses)
        await self._write_status()

    def _target(self, reference: Object) -> Object | None:
        cache = self.controller.targets.get(_kind_of(reference))
        return cache.get((self.namespace, reference.get("name", ""))) if cache is not None else None

    async def _decide(self, target: Object, current: int) -> tuple[_Wanted, str]:
        """Decide how many replicas to have; return this with the reason for a change. Raises _FailedMetrics."""
        least, most = self.spec.get("minReplicas", 1), self.spec.get("maxReplicas", 1)
        statuses: list[Object] = self.status.get("currentMetrics") or []
        if current == 0 and least != 0:
            text = "scaling is disabled since the replica count of the target is zero"
            self._set_condition("ScalingActive", False, "ScalingDisabled", text)
            return _Wanted(0, "", statuses), ""
        if current > most:
            return _Wanted(most, "", statuses), "Current number of replicas above Spec.MaxReplicas"
        if current < least:
            return _Wanted(least, "", statuses), "Current number of replicas below Spec.MinReplicas"
        found = await self._evaluate_metrics(target, current)
        replicas = self._limit(current, found.replicas, least, most)
        reason = f"{found.metric} above target" if found.replicas > current else "All metrics below target"
        return _Wanted(replicas, found.metric, found.statuses), reason

    def _limit(self, current: int, desired: int, least: int, most: int) -> int:
        """Apply windows, policies and limits, and return the number that they allow. Sets their conditions."""
        now, behavior = self.moment.timestamp(), self.spec.get("behavior")
        window = self.config.downscale_stabilization
        if behavior is None:
            found = self.history.limit_by_default(now, current, desired, least, most, window)
        else:
            up, down = behavior.get("scaleUp") or {}, behavior.get("scaleDown") or {}
            found = self.history.limit_by_rules(now, current, desired, least, most, up, down, window)
        self._set_condition("AbleToScale", True, *found.stabilized)
        self._set_condition("ScalingLimited", found.is_limited, *found.limit)
        return found.replicas

    async def _evaluate_metrics(self, target: Object, current: int) -> _Wanted:
        """Return the highest number that a metric asks for (computeReplicasForMetrics). Raises _FailedMetrics."""
        selector = target["spec"].get("selector")
        if target["kind"] == "ReplicationController":
            # Its selector is plain labels.
            selector = {"matchLabels": selector or {}}
        if selector_is_empty(selector):
            self._report("Warning", "SelectorRequired", "selector is required")
            text = "the HPA target's scale is missing a selector"
            self._set_condition("ScalingActive", False, "InvalidSelector", text)
            raise _FailedMetrics("selector is required", [])
        pods = [one for one in self.controller.pods.in_namespace(self.namespace) if self._selects(selector, one)]
        most, name, statuses, failures = 0, "", [], []
        metrics = self.spec.get("metrics") or []
        for metric in metrics:
            try:
                proposal, metric_name, status = await self._propose(metric, pods, current)
            except _FailedMetric as error:
                failures.append(error)
                continue
            statuses.append(status)
            if proposal.replicas > most or not name:
                most, name = proposal.replicas, metric_name
        # A metric that cannot be read might ask for more replicas, so the target is not scaled down without it.
        if failures and (len(failures) == len(metrics) or most < current):
            first = failures[0]
            text = f"the HPA was unable to compute the replica count: {first}"
            self._set_condition("ScalingActive", False, first.reason, text)
            count = f"invalid metrics ({len(failures)} invalid out of {len(metrics)})"
            raise _FailedMetrics(f"{count}, first error is: {first.described}", statuses)
        text = f"the HPA was able to successfully calculate a replica count from {name}"
        self._set_condition("ScalingActive", True, "ValidMetricFound", text)
        return _Wanted(most, name, statuses)

    @staticmethod
    def _selects(selector: Object, pod: Object) -> bool:
        return selector_matches(selector, labels_of(pod))

    async def _propose(self, metric: Object, pods: list[Object], current: int) -> tuple[Proposal, str, Object]:
        """Return one metric's proposal, its name for people, and its status. Raises _FailedMetric."""
        kind = metric.get("type", "")
        if kind in _OTHER_SOURCES:
            reason, noun, api = _OTHER_SOURCES[kind]
            name = ((metric.get(noun) or {}).get("metric") or {}).get("name", "")
            why = f"unable to fetch metrics from {api} metrics API: no known available metric versions found"
            raise self._failed(reason, f"unable to get metric {name}: {why}", f"failed to get {noun} metric value: ")
        key = "resource" if kind == "Resource" else "containerResource"
        source = metric.get(key) or {}
        resource, container, target = source.get("name", ""), source.get("container", ""), source.get("target") or {}
        percent, value = target.get("averageUtilization"), target.get("averageValue")
        what = f"{resource} container resource" if container else f"{resource} resource"
        try:
            names = {pod["metadata"]["name"] for pod in pods}
            try:
                usage = await fetch_usage(self.config.pod_metrics, self.namespace, names, resource, container)
            except NoMetrics as error:
                raise NoMetrics(f"unable to get metrics for resource {resource}: {error}") from error
            goal = percent if percent is not None else int(parse_quantity(value or "0") * 1000)
            proposal = propose(
                current,
                max(1, goal),
                pods,
                usage,
                resource=resource,
                requests=pod_requests(pods, resource, container) if percent is not None else None,
                tolerance=self._tolerance(),
                delays=Delays(self.config.cpu_initialization, self.config.initial_readiness),
                moment=self.moment,
            )
        except NoMetrics as error:
            reason = "FailedGetContainerResourceMetric" if container else "FailedGetResourceMetric"
            why = f"failed to get {resource} utilization: {error}" if percent is not None else str(error)
            raise self._failed(reason, why, f"failed to get {what} metric value: ") from error
        shown: Object = {"averageValue": _quantity(proposal.average, resource)}
        if percent is not None:
            shown["averageUtilization"] = proposal.utilization
            what += " utilization (percentage of request)"
        current_value = {"name": resource, **({"container": container} if container else {}), "current": shown}
        return proposal, what, {"type": kind, key: current_value}

    def _failed(self, reason: str, message: str, prefix: str) -> _FailedMetric:
        self._report("Warning", reason, message)
        return _FailedMetric(reason, message, prefix + message)

    def _tolerance(self) -> Tolerance:
        behavior = self.spec.get("behavior") or {}

        def given(direction: str) -> float:
            value = (behavior.get(direction) or {}).get("tolerance")
            return self.config.autoscaler_tolerance if value is None else float(parse_quantity(value))

        return Tolerance(given("scaleDown"), given("scaleUp"))

    async def _rescale(self, target: Object, current: int, replicas: int, reason: str) -> None:
        """Set the target's number of replicas. Raises ApiError."""
        resource = self.config.scalable[_kind_of(self.spec["scaleTargetRef"])]
        metadata = {key: target["metadata"][key] for key in ("name", "namespace", "resourceVersion")}
        scale: Object = {"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata}
        try:
            await self.controller.client.update(
                resource, {**scale, "spec": {"replicas": replicas}}, subresource="scale"
            )
        except ApiError as error:
            text = f"the HPA controller was unable to update the target scale: {error.message}"
            self._set_condition("AbleToScale", False, "FailedUpdateScale", text)
            self._report("Warning", "FailedRescale", f"New size: {replicas}; reason: {reason}; error: {error.message}")
            self._set_status(current, current, self.status.get("currentMetrics") or [])
            await self._write_status()
            raise
        text = f"the HPA controller was able to update the target scale to {replicas}"
        self._set_condition("AbleToScale", True, "SucceededRescale", text)
        self._report("Normal", "SuccessfulRescale", f"New size: {replicas}; reason: {reason}")
        self.history.record_change(self.moment.timestamp(), current, replicas)
        self.status["lastScaleTime"] = timestamp(self.moment)

    def _set_status(self, current: int, desired: int, statuses: list[Object]) -> None:
        self.status |= {"currentReplicas": current, "desiredReplicas": desired, "currentMetrics": statuses}
        if not statuses:
            del self.status["currentMetrics"]

    async def _write_status(self) -> None:
        if self.status != (self.autoscaler.get("status") or {}):
            written = await self.controller.client.update(
                RESOURCE, {**self.autoscaler, "status": self.status}, subresource="status"
            )
            await self.controller.autoscalers.wait_for_write(written)


class _FailedMetric(Exception):
    """A metric that cannot be read.

    reason: the reason of the condition ScalingActive. described: the message, with the metric's name before it.
    """

    def __init__(self, reason: str, message: str, described: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.described = described


def _quantity(thousandths: int, resource: str) -> str:
    """Return usage as a quantity in canonical form: bytes, or cores with thousandths. thousandths: of the unit."""
    if thousandths % 1000 == 0 or resource != "cpu":
        return str(thousandths // 1000)
    return f"{thousandths}m"
