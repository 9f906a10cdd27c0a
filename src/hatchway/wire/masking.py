"""The masking of WebSocket payloads (RFC 6455 section 5.3)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Final

# Below this many bytes, the XOR of two Python integers is as fast as the compiled function.
_SMALL: Final = 256


def apply_mask(data: bytes | memoryview, mask: bytes) -> bytes:
    """Mask `data`, or unmask it, which is the same operation. mask: 4 bytes."""
    return _with_numbers(data, mask) if len(data) < _SMALL else _compiled()(data, mask)


def _with_numbers(data: bytes | memoryview, mask: bytes) -> bytes:
    size = len(data)
    key = int.from_bytes((mask * (size // 4 + 1))[:size], "little")
    return (int.from_bytes(data, "little") ^ key).to_bytes(size, "little")


@functools.cache
def _compiled() -> Callable[[bytes | memoryview, bytes], bytes]:
    """Return the `websockets` library's function, which is much faster for many bytes, but takes 40 ms to import."""
    try:
        from websockets.speedups import apply_mask as compiled
    except ImportError:  # the library was installed without its compiled extension
        return _with_numbers
    return compiled
