"""The limits of a listener: sizes, numbers and times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one listener. Sizes are in bytes, times in seconds. Times are exact to about a second.

    head: the largest head of a request, including the request line; a larger one is answered with 431. Go's net/http
        has the same default (DefaultMaxHeaderBytes).
    response_head: the largest head of a response; a larger one is a protocol error. Go's http.Transport has the same
        default.
    trailers: the largest trailer section.
    fields: the most header fields in one head or one trailer section.
        (The heads of all connections together are limited by `proxy/budget.py`.)
    head_timeout: the longest time for a head, from its first byte (the first head: from the start of the connection)
        to its end; also the longest time for a TLS handshake.
    idle_timeout: the longest time between two requests of a client's connection.
    buffer: while more received bytes than this are not consumed, reading from the socket is paused; also the high-water
        mark of the write buffer.
    tls_buffer: encrypted bytes that a TLS transport buffers in each direction when the peer reads slowly.
    drain: the largest rest of a request's body that is read and discarded so that the connection can be kept.
    linger: how long a connection that is about to close is still read, so that no reset destroys the last response.
    close_timeout: the longest time for sending the last bytes of a closing connection.
    half_closed_timeout: the longest pause between two writes to a client that has shut its sending side. Such a client
        cannot be distinguished from one that has disconnected; Go's and nginx's servers close its connection at once.
    idle_upstreams: the most idle connections in the pool.
    idle_upstreams_per_key: the most idle connections to one upstream.
    upstream_idle_timeout: how long an idle connection stays in the pool.
    upstream_tls_timeout: the longest time for a TLS handshake with an upstream.
    connections_per_address: the maximum number of connections of one client address; further ones are reset. 0 for no
        limit: this is for listeners whose clients all have the same address.
    """

    head: int = 1024 * 1024
    response_head: int = 10 * 1024 * 1024
    trailers: int = 64 * 1024
    fields: int = 10_000
    head_timeout: float = 15.0
    idle_timeout: float = 120.0
    buffer: int = 64 * 1024
    tls_buffer: int = 4 * (16 * 1024 + 64)  # complete TLS records (RFC 8446 section 5.1) with their overhead
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
        """Return the interval of the coarse clock in seconds; it is short enough for the shortest timeout."""
        shortest = min(
            self.head_timeout,
            self.idle_timeout,
            self.linger,
            self.close_timeout,
            self.half_closed_timeout * 2,
            self.upstream_idle_timeout,
        )
        return max(0.02, min(1.0, shortest / 4))
