"""The pods that fit nowhere: which changes make it worth to try again, and when (`backend/queue`). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hatchway.kube.objects import Key

__all__ = ["NODE_FILTERS", "POD_FILTERS", "WaitingPods"]

# The filters whose answer depends on the node alone; any other one may change when a pod goes.
NODE_FILTERS = frozenset(("NodeAffinity", "NodeUnschedulable", "TaintToleration"))
# The filters whose answer may change when a pod comes, or gets other labels.
POD_FILTERS = frozenset(("InterPodAffinity", "PodTopologySpread"))
# Seconds after the first attempt and at most (`podInitialBackoffSeconds`, `podMaxBackoffSeconds`). As long as few pods
# wait they are tried at once, as kube-scheduler does when its queue is empty (`SchedulerPopFromBackoffQ`).
_FIRST_WAIT, _LAST_WAIT = 1.0, 10.0
_FEW = 20
# A decision about a pod is repeated only after this many times the time that it took. So a pod with slow decisions
# leaves most of the event loop to others, even when other pods end all the time.
_COST_SHARE = 20
# A shorter wait (in seconds) is left out.
_AT_ONCE = 0.05


@dataclass(slots=True)
class _WaitingPod:
    plugins: frozenset[str]
    attempts: int
    last: float
    cost: float


class WaitingPods:
    """Remembers by which filters a pod was refused, how often it was tried, and how long the decisions took."""

    def __init__(self) -> None:
        self._pods: dict[Key, _WaitingPod] = {}
        self._attempts: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._pods)

    def add(self, key: Key, plugins: frozenset[str], now: float, cost: float) -> None:
        """Remember a pod that fits nowhere. now, cost: when it was tried and how long that took (seconds)."""
        attempts = self._attempts[key] = self._attempts.get(key, 0) + 1
        self._pods[key] = _WaitingPod(plugins, attempts, now, cost)

    def start(self, key: Key) -> None:
        """Forget by which filters a pod was refused, because it is tried now."""
        self._pods.pop(key, None)

    def forget(self, key: Key) -> None:
        """Forget everything about a pod."""
        self._pods.pop(key, None)
        self._attempts.pop(key, None)

    def affected(self, plugins: frozenset[str], now: float, *, others: bool = False) -> Iterator[tuple[Key, float]]:
        """Yield each pod that one of these filters has refused, and the seconds until it may be tried again.

        others: yield those that another filter than these has refused instead.
        """
        few = len(self._pods) <= _FEW
        for key, one in self._pods.items():
            if one.plugins - plugins if others else one.plugins & plugins:
                yield key, self._left(one, now, few)

    def _left(self, one: _WaitingPod, now: float, few: bool) -> float:
        backoff = 0.0 if few else min(_FIRST_WAIT * 2.0 ** min(one.attempts - 1, 10), _LAST_WAIT)
        wait = max(backoff, one.cost * _COST_SHARE) - (now - one.last)
        return wait if wait > _AT_ONCE else 0.0
