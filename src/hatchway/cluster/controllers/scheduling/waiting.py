"""The pods that fit on no node: which changes make another attempt useful, and when (`backend/queue`). Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hatchway.kube.objects import Key

__all__ = ["NODE_FILTERS", "POD_FILTERS", "WaitingPods"]

# The filters whose result depends only on the node. The result of any other filter may change when a pod is removed.
NODE_FILTERS = frozenset(("NodeAffinity", "NodeUnschedulable", "TaintToleration"))
# The filters whose result may change when a pod is added, or gets other labels.
POD_FILTERS = frozenset(("InterPodAffinity", "PodTopologySpread"))
# The wait after the first attempt and the longest wait, in seconds (`podInitialBackoffSeconds`,
# `podMaxBackoffSeconds`). While few pods wait, they are tried at once, as kube-scheduler does when its queue is empty
# (`SchedulerPopFromBackoffQ`).
_FIRST_WAIT, _LAST_WAIT = 1.0, 10.0
_FEW = 20
# After a decision that took T seconds, the pod waits at least this number times T for the next decision. So a pod with
# slow decisions leaves most of the event loop's time to other work, even when other pods end all the time.
_COST_SHARE = 20
# A wait that is shorter than this (seconds) is skipped.
_AT_ONCE = 0.05


@dataclass(slots=True)
class _WaitingPod:
    plugins: frozenset[str]
    attempts: int
    last: float
    cost: float


class WaitingPods:
    """Remembers for each pod which filters refused it, how often it was tried, and how long the decisions took."""

    def __init__(self) -> None:
        self._pods: dict[Key, _WaitingPod] = {}
        self._attempts: dict[Key, int] = {}

    def __len__(self) -> int:
        return len(self._pods)

    def add(self, key: Key, plugins: frozenset[str], now: float, cost: float) -> None:
        """Remember a pod that fits on no node.

        now: when it was tried, in seconds.
        cost: the processor time of the decision, in seconds.
        """
        attempts = self._attempts[key] = self._attempts.get(key, 0) + 1
        self._pods[key] = _WaitingPod(plugins, attempts, now, cost)

    def start(self, key: Key) -> None:
        """Forget which filters refused a pod, because it is being tried again."""
        self._pods.pop(key, None)

    def forget(self, key: Key) -> None:
        """Forget everything about a pod."""
        self._pods.pop(key, None)
        self._attempts.pop(key, None)

    def affected(self, plugins: frozenset[str], now: float, *, others: bool = False) -> Iterator[tuple[Key, float]]:
        """Yield each pod that one of these filters has refused, and the seconds until it may be tried again.

        others: True to yield, instead, the pods that any other filter has refused.
        """
        for key, one in self._pods.items():
            if one.plugins - plugins if others else one.plugins & plugins:
                yield key, self._left(one, now)

    def left(self, key: Key, now: float) -> float:
        """Return the seconds until a waiting pod may be tried again."""
        return self._left(self._pods[key], now)

    def _left(self, one: _WaitingPod, now: float) -> float:
        backoff = 0.0 if len(self._pods) <= _FEW else min(_FIRST_WAIT * 2.0 ** min(one.attempts - 1, 10), _LAST_WAIT)
        wait = max(backoff, one.cost * _COST_SHARE) - (now - one.last)
        return wait if wait > _AT_ONCE else 0.0
