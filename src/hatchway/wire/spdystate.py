"""The state that a SPDY session keeps for each of its streams."""

from __future__ import annotations

from collections import deque


class StreamState:
    """The state of an open stream.

    sends, receives: that direction has not ended. ours: it was opened here. replied: SYN_REPLY was sent or received.
    outstanding: bytes that were sent and for which the peer has not opened the window again.
    unsent: bytes that wait for the window, None for none. fin: FIN follows them.
    owed: bytes that were consumed here and not yet given back by WINDOW_UPDATE.
    window: how many bytes the peer may send before some of them are given back.
    """

    __slots__ = (
        "fin",
        "ours",
        "outstanding",
        "owed",
        "receives",
        "replied",
        "sends",
        "unsent",
        "unsent_size",
        "window",
    )

    def __init__(self, ours: bool, sends: bool, receives: bool, window: int) -> None:
        self.window = window
        self.ours = ours
        self.sends = sends
        self.receives = receives
        self.replied = False
        self.outstanding = 0
        self.owed = 0
        self.unsent: deque[bytes | memoryview] | None = None
        self.unsent_size = 0
        self.fin = False
