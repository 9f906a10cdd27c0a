"""Remembers which webhooks or policies run a second time for a write, because the object has changed since their turn.

From apiserver's `pkg/admission/plugin/webhook/mutating/reinvocationcontext.go` and
`plugin/policy/mutating/reinvocationcontext.go`, which do the same.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

__all__ = ["Reinvocation"]


@dataclass(slots=True)
class Reinvocation:
    """The state of one plugin for one write.

    invoked: those that have run, and may run again. due: those that will. output: the object as the plugin left it, as
    JSON.
    """

    invoked: set[Hashable] = field(default_factory=set)
    due: set[Hashable] = field(default_factory=set)
    output: bytes = b""

    def require(self) -> None:
        """Note that the object has changed since all former runs."""
        self.due |= self.invoked
        self.invoked.clear()
