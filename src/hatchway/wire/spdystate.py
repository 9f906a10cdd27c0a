"""The state that a SPDY session keeps for each of its streams."""

from __future__ import annotations

from collections import deque


class StreamState:
    """The state of an open stream.

    sends: True while this end may send data. receives: True while the peer may send data.
    ours: True when this end has opened the stream.
    replied: True when SYN_REPLY was sent or received.
    outstanding: the number of sent bytes that the peer has not yet confirmed by WINDOW_UPDATE.
    unsent: the bytes that wait for the window; None for none.
    fin: True when FIN follows `unsent`.
    owed: the number of consumed bytes that this end has not yet confirmed by WINDOW_UPDATE.
    window: the number of bytes that the peer may send before this end confirms some of them.
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
