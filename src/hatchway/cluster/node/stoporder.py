"""An order to end a pod, and how several such orders are combined. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StopOrder:
    """An order to end a pod.

    grace: the grace period of its containers, in seconds.
    deleted: True to delete its object in the API when it has ended.
    gone: True when it is no longer in the API.
    leaving: True when the whole cluster goes down.
    """

    grace: float
    deleted: bool = False
    gone: bool = False
    leaving: bool = False

    def combined(self, later: StopOrder) -> StopOrder:
        """Combine this order with a later order; the shorter grace period counts."""
        return StopOrder(
            min(self.grace, later.grace),
            self.deleted or later.deleted,
            self.gone or later.gone,
            self.leaving or later.leaving,
        )

    def grace_for(self, *, ignores_stop_signal: bool) -> float:
        """Return a container's grace period in seconds.

        When the cluster goes down, it is 0 for a program that ignores the stop signal.
        """
        return 0.0 if self.leaving and ignores_stop_signal else self.grace
