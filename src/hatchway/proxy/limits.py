"""The limits of a listener: sizes, numbers and times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one listener. Sizes are in bytes, times in seconds. Times are exact to about a second.

    head: the largest head of a request, request line included; a larger one is answered with 431. Go's net/http has
        the same (DefaultMaxHeaderBytes).
    response_head: the largest head of a response; a larger one is a protocol error. Go's http.Transport has the same.
    trailers: the largest trailer section.
    fields: the most header fields in one head or one trailer section.
        (The heads of all connections together are limited by `proxy/budget.py`.)
    head_timeout: for a whole head, from its first byte or from the start of the connection; also for a TLS handshake.
    idle_timeout: for a client's connection between two requests.
    buffer: bytes that wait unread by their consumer before the socket is no longer read; also the high-water mark of
        the write buffer.
    tls_buffer: encrypted bytes that a TLS transport buffers in each direction, when the peer reads slowly.
    drain: the largest rest of a request's body that is read and discarded so that the connection can be kept.
    linger: for reading from a connection that is about to close, so that a reset does not destroy the last response.
    close_timeout: for sending the last bytes of a closing connection.
    half_closed_timeout: the longest pause between two writes to a client that has shut its sending side. Such a client
        looks like one that has disconnected, and Go's and nginx's servers treat it so at once.
    idle_upstreams: the most idle connections in the pool. idle_upstreams_per_key: the most of them for one upstream.
    upstream_idle_timeout: for an idle connection in the pool.
    upstream_tls_timeout: for a TLS handshake with an upstream.
    connections_per_address: the most connections of one client address; more are reset. 0 for no limit, for listeners
        whose clients all have the same address.
    """

    head: int = 1024 * 1024
    response_head: int = 10 * 1024 * 1024
    trailers: int = 64 * 1024
    fields: int = 10_000
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
    connections_per_address: int = 0

    @property
    def tick(self) -> float:
        """Return the step of the coarse clock (seconds): short enough for the shortest of the times."""
        shortest = min(
            self.head_timeout,
            self.idle_timeout,
            self.linger,
            self.close_timeout,
            self.half_closed_timeout * 2,
            self.upstream_idle_timeout,
        )
        return max(0.02, min(1.0, shortest / 4))
