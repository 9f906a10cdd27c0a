"""How much of everything the engine accepts, and how long it waits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one listener. Sizes in bytes, times in seconds; times are kept by a coarse clock (a second or so).

    head: a message's head, request line included; more is 431 to a client, a protocol error of an upstream.
    fields: header fields in one head or one trailer section.
    head_timeout: from a head's first byte (or from the connection's start) to its end, TLS handshakes likewise.
    idle_timeout: a client's connection between two requests.
    buffer: what may wait, unread by its consumer, before a socket is no longer read; also the write high-water mark.
    tls_buffer: what a TLS transport holds of encrypted bytes, each way; a slow reader's connection fills it.
    drain: how much of an unwanted request body is read and thrown away so that the connection can be kept.
    linger: how long a connection that is about to be closed is still read, so that the answer is not lost to a reset.
    close_timeout: how long the last bytes of a closing connection may take to leave.
    half_closed_timeout: a client that shut its sending side gets its answer as long as bytes keep flowing at least
        this often. It cannot be told from one that is gone, which Go's and nginx's servers take it for at once.
    idle_upstreams, idle_upstreams_per_key, upstream_idle_timeout: idle connections kept in the pool.
    upstream_tls_timeout: a TLS handshake with an upstream.
    """

    head: int = 64 * 1024
    fields: int = 256
    head_timeout: float = 15.0
    idle_timeout: float = 120.0
    buffer: int = 64 * 1024
    tls_buffer: int = 4 * (16 * 1024 + 64)  # whole records (RFC 8446 section 5.1), with what encryption adds
    drain: int = 256 * 1024
    linger: float = 2.0
    close_timeout: float = 30.0
    half_closed_timeout: float = 1.0
    idle_upstreams: int = 512
    idle_upstreams_per_key: int = 64
    upstream_idle_timeout: float = 30.0
    upstream_tls_timeout: float = 10.0

    @property
    def tick(self) -> float:
        """The coarse clock's step: fine enough for the shortest of the times."""
        shortest = min(
            self.head_timeout,
            self.idle_timeout,
            self.linger,
            self.close_timeout,
            self.half_closed_timeout * 2,
            self.upstream_idle_timeout,
        )
        return max(0.02, min(1.0, shortest / 4))
