"""Records which webhooks or policies must run again for a write, because the object has changed since their first run.

Source: apiserver's `pkg/admission/plugin/webhook/mutating/reinvocationcontext.go` and
`plugin/policy/mutating/reinvocationcontext.go`.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

__all__ = ["Reinvocation"]


@dataclass(slots=True)
class Reinvocation:
    """The state of one plugin for one write.

    invoked: the webhooks or policies that have run, and may run a second time.
    due: the webhooks or policies that must run a second time.
    output: the object after the plugin's previous run, as JSON.
    """

    invoked: set[Hashable] = field(default_factory=set)
    due: set[Hashable] = field(default_factory=set)
    output: bytes = b""

    def require(self) -> None:
        """Require a second run of everything in `invoked`, because the object has changed."""
        self.due |= self.invoked
        self.invoked.clear()
