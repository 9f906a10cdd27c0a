"""A limit on the memory for large message heads of all connections of the process together."""

from __future__ import annotations

from typing import Final

# Bytes of heads that each connection may use in addition to the budget. Ordinary heads are smaller.
_FREE: Final = 32 * 1024
# A complete head is in memory several times: as received, as parsed fields, as sent. Each field is three objects.
_TIMES: Final = 3
_FIELD: Final = 256
# For heads of up to this many bytes, the needed memory is not computed, to save time.
SMALL: Final = 4096


class Budget:
    """A number of bytes that all connections share.

    limit: the size of the budget, in bytes.
    taken: the bytes in use.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.taken = 0


HEADS: Final = Budget(64 * 1024 * 1024)


class Share:
    """The part of the budget that one connection uses: for the head that is being read, and for unfinished exchanges.

    taken: bytes in use.
    """

    __slots__ = ("taken",)

    def __init__(self) -> None:
        self.taken = 0

    def hold(self, size: int) -> bool:
        """Reserve memory for an incomplete head of `size` bytes so far. Return False when the budget is used up."""
        return self._take(size - _FREE - self.taken)

    def hold_complete(self, head: bytes) -> bool:
        """Reserve memory for a head that is now complete. Return False when the budget is used up."""
        return self._take(weigh(head) - _FREE - self.taken)

    def add(self, head: bytes) -> bool:
        """Reserve memory for one more complete head. Return False when the budget is used up."""
        return self._take(weigh(head) - _FREE)

    def _take(self, more: int) -> bool:
        if more > 0:
            if HEADS.taken + more > HEADS.limit:
                return False
            HEADS.taken += more
            self.taken += more
        return True

    def release(self) -> None:
        """Give back everything that was reserved."""
        if self.taken:
            HEADS.taken -= self.taken
            self.taken = 0


def weigh(head: bytes) -> int:
    """Estimate the bytes of memory that a head needs during its exchange."""
    return _TIMES * len(head) + _FIELD * head.count(b"\n")
