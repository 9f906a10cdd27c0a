"""Limits of open descriptors: how many each process of the cluster may have, and how many one client may use.

Each connection, UDP flow and listening socket needs one or two descriptors, and each process needs some for its other
work. So the connections of one client must not use up all descriptors.
"""

from __future__ import annotations

import resource
from collections import Counter

from hatchway.proxy.limits import Limits


def raise_limit() -> None:
    """Raise the limit of descriptors to the user's hard limit, for this process and processes that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # Descriptors above 1023 are safe here: only select(2) cannot handle them, and event loops do not use it.
        # macOS refuses the hard limit "unlimited", although that is its default.
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        except (OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 10240), hard))


def limits_for_pods() -> Limits:
    """Return the limits of a listener that pods reach: one address may take an eighth of the descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return Limits(connections_per_address=min(max(soft // 8, 64), 4096))


def listening_sockets(share: float) -> int:
    """Return how many sockets may listen. share: their part of this process's descriptors, 0 to 1."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return max(64, int(min(soft, 1 << 17) * share))


class ClientQuota:
    """Counts the connections or UDP flows that clients hold.

    total: the limit for all clients together. each: the limit for one client (one address). A client never gets more
    than is still free, so that a few clients cannot use up everything: the first client gets half, the second a quarter
    ... (the dynamic thresholds of shared-memory switches: Choudhury and Hahne, 1998).
    """

    def __init__(self, total: int, each: int) -> None:
        self.total = total
        self.each = each
        self._held: Counter[str] = Counter()
        self._sum = 0

    @classmethod
    def of_process(cls, share: float) -> ClientQuota:
        """Return a quota, of which one client may have half. share: its part of this process's descriptors, 0 to 1."""
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        # With more descriptors, memory would be the limit.
        total = max(16, int(min(soft, 1 << 18) * share))
        return cls(total, min(total // 2, 8192))

    @property
    def held(self) -> int:
        """Return the number that all clients hold together."""
        return self._sum

    def take(self, client: str) -> bool:
        """Count one more connection or flow of a client. Return False, and do not count it, if the limit is reached."""
        if self._held[client] >= min(self.each, self.total - self._sum):
            return False
        self._held[client] += 1
        self._sum += 1
        return True

    def give_back(self, client: str) -> None:
        """Count one connection or flow less for a client. Each call undoes one successful `take`."""
        self._sum -= 1
        self._held[client] -= 1
        if not self._held[client]:
            del self._held[client]
