"""Scales objects that have a Scale, according to metrics (`pkg/controller/podautoscaler/horizontal.go`).

`metricevaluation.py` computes the number of replicas that each metric requires. `scalingbehavior.py` limits the
changes. This file reads and writes the Scale, and writes the autoscaler's status.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from hatchway.cluster.controllers.controller import Controller, ControllerContext
from hatchway.cluster.controllers.metricevaluation import FailedMetric, MetricEvaluator, ScaledPods
from hatchway.cluster.controllers.objectfields import clone, is_deleting, set_condition, timestamp, uid_of
from hatchway.cluster.controllers.scalingbehavior import ScalingHistory
from hatchway.errors import ApiError
from hatchway.kube.api import Object
from hatchway.kube.objects import Key

RESOURCE = "horizontalpodautoscalers.autoscaling"
# The maximum number of characters of the label selector in a Scale. In objects of custom types, this text may have any
# length.
_LONGEST_SELECTOR = 16 * 1024


@dataclass(frozen=True, slots=True)
class _Wanted:
    """The wanted number of replicas.

    metric: the name, for messages, of the metric that requires this number; "" when no metric was evaluated.
    statuses: `status.currentMetrics`.
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
    """Checks every HorizontalPodAutoscaler at intervals, and scales its target."""

    name = "horizontal-pod-autoscaler"
    # Several workers, because a metrics API may answer slowly. The number is the default of kube-controller-manager's
    # option --concurrent-horizontal-pod-autoscaler-syncs.
    workers = 5

    def __init__(self, context: ControllerContext) -> None:
        super().__init__(context)
        self.autoscalers = context.cache(RESOURCE)
        self.events = context.recorder(self.name)
        self.histories: dict[Key, ScalingHistory] = {}
        # By namespace, the UIDs of the pods that each autoscaler scales.
        self.scaled: dict[str, dict[str, frozenset[str]]] = {}
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
            self.forget(key)
            return None
        if not is_deleting(autoscaler):
            await _Run(self, key, autoscaler).work()
        return self.context.config.autoscaler_sync

    def forget(self, key: Key) -> None:
        """Forget which pods the autoscaler `key` scales."""
        others = self.scaled.get(key[0], {})
        others.pop(key[1], None)
        if not others:
            self.scaled.pop(key[0], None)

    def record_scaled(self, key: Key, pods: frozenset[str]) -> list[str]:
        """Record which pods the autoscaler `key` scales. Return all autoscalers that scale some of them."""
        others = self.scaled.setdefault(key[0], {})
        others[key[1]] = pods
        return sorted(f"{key[0]}/{name}" for name, theirs in others.items() if not pods.isdisjoint(theirs))


def _kind_of(reference: Object) -> tuple[str, str]:
    """Return the (API group, kind) of a scaleTargetRef."""
    return str(reference.get("apiVersion") or "").rpartition("/")[0], str(reference.get("kind") or "")


class _Run:
    """One check of one autoscaler: it scales the target and writes the new status."""

    def __init__(self, controller: HorizontalController, key: Key, autoscaler: Object) -> None:
        self.controller = controller
        self.key = key
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
        resource = self._resource_of(reference)
        try:
            if resource is None:
                group, kind = _kind_of(reference)
                raise ApiError(404, "NotFound", f'no matches for kind "{kind}" in group "{group}"')
            scale = await self.controller.client.get(
                resource, reference.get("name", ""), self.namespace, subresource="scale"
            )
        except ApiError as error:
            self.controller.forget(self.key)
            self._report("Warning", "FailedGetScale", error.message)
            text = f"the HPA controller was unable to get the target's current scale: {error.message}"
            self._set_condition("AbleToScale", False, "FailedGetScale", text)
            await self._write_status()
            return
        text = "the HPA controller was able to get the target's current scale"
        self._set_condition("AbleToScale", True, "SucceededGetScale", text)
        current = (scale.get("spec") or {}).get("replicas") or 0
        self.history.begin(self.moment.timestamp(), current)
        try:
            wanted, reason = await self._decide(scale, current)
        except _FailedMetrics as error:
            self._set_status(current, self.status.get("desiredReplicas") or 0, error.statuses)
            await self._write_status()
            self._report("Warning", "FailedComputeMetricsReplicas", str(error))
            return
        if wanted.replicas != current:
            await self._rescale(resource, scale, current, wanted.replicas, reason)
        self._set_status(current, wanted.replicas, wanted.statuses)
        await self._write_status()

    def _resource_of(self, reference: Object) -> str | None:
        """Return the resource of a scaleTargetRef, also of a custom type; None when no such type is served."""
        group, kind = _kind_of(reference)
        served = self.config.types.find(group, kind)
        return served.resource if served is not None else self.config.scalable.get((group, kind))

    async def _decide(self, scale: Object, current: int) -> tuple[_Wanted, str]:
        """Return (the wanted number of replicas, the reason for a change). Raises _FailedMetrics."""
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
        found = await self._evaluate_metrics(scale, current)
        replicas = self._limit(current, found.replicas, least, most)
        reason = f"{found.metric} above target" if found.replicas > current else "All metrics below target"
        return _Wanted(replicas, found.metric, found.statuses), reason

    def _limit(self, current: int, desired: int, least: int, most: int) -> int:
        """Apply stabilization windows, policies and limits. Set their conditions, and return the allowed number."""
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

    async def _evaluate_metrics(self, scale: Object, current: int) -> _Wanted:
        """Return the highest number that a metric requires (computeReplicasForMetrics). Raises _FailedMetrics."""
        target = await self._scaled_pods(scale, current)
        evaluator = MetricEvaluator(self.config, self.namespace, self.spec, target, self.moment)
        most, name, statuses, failures = 0, "", [], []
        metrics = self.spec.get("metrics") or []
        for metric in metrics:
            try:
                found = await evaluator.evaluate(metric)
            except FailedMetric as error:
                self._report("Warning", error.reason, str(error))
                failures.append(error)
                continue
            statuses.append(found.status)
            if found.replicas > most or not name:
                most, name = found.replicas, found.name
        # A metric that cannot be read might require more replicas, so the target is not scaled down without it.
        if failures and (len(failures) == len(metrics) or most < current):
            first = failures[0]
            text = f"the HPA was unable to compute the replica count: {first}"
            self._set_condition("ScalingActive", False, first.reason, text)
            count = f"invalid metrics ({len(failures)} invalid out of {len(metrics)})"
            raise _FailedMetrics(f"{count}, first error is: {first.described}", statuses)
        text = f"the HPA was able to successfully calculate a replica count from {name}"
        self._set_condition("ScalingActive", True, "ValidMetricFound", text)
        return _Wanted(most, name, statuses)

    async def _scaled_pods(self, scale: Object, current: int) -> ScaledPods:
        """Return the target's pods (validateAndParseSelector). Raises _FailedMetrics."""
        status = scale.get("status") or {}
        selector = status.get("selector") or ""
        if not selector:
            self._report("Warning", "SelectorRequired", "selector is required")
            text = "the HPA target's scale is missing a selector"
            self._set_condition("ScalingActive", False, "InvalidSelector", text)
            raise _FailedMetrics("selector is required", [])
        try:
            if len(selector) > _LONGEST_SELECTOR:
                raise ApiError(400, "BadRequest", f"it is longer than {_LONGEST_SELECTOR} characters")
            pods = await self.controller.client.list("pods", self.namespace, label_selector=selector)
        except ApiError as error:
            why = f"couldn't convert selector into a corresponding internal selector object: {error.message}"
            raise self._selector_fault("InvalidSelector", why) from error
        scaling = self.controller.record_scaled(self.key, frozenset(map(uid_of, pods)))
        if len(scaling) > 1:
            why = f"pods by selector {selector} are controlled by multiple HPAs: [{' '.join(scaling)}]"
            raise self._selector_fault("AmbiguousSelector", why)
        return ScaledPods(current, status.get("replicas") or 0, selector, pods)

    def _selector_fault(self, reason: str, message: str) -> _FailedMetrics:
        self._report("Warning", reason, message)
        self._set_condition("ScalingActive", False, reason, message)
        return _FailedMetrics(message, [])

    async def _rescale(self, resource: str, scale: Object, current: int, replicas: int, reason: str) -> None:
        """Set the target's number of replicas. Raises ApiError."""
        try:
            changed = {**scale, "spec": {"replicas": replicas}}
            await self.controller.client.update(resource, changed, subresource="scale")
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
