r"""The wire format of protobuf, and the envelope of Kubernetes' protobuf bodies.

A body is the magic `k8s\0` and a `runtime.Unknown` (apimachinery's `runtime/serializer/protobuf`).
"""

from __future__ import annotations

__all__ = ["I32", "I64", "LEN", "MAGIC", "MEDIA_TYPE", "VARINT", "encode_varint", "length_delimited"]

MAGIC = b"k8s\x00"
MEDIA_TYPE = "application/vnd.kubernetes.protobuf"
# Wire types.
VARINT, I64, LEN, I32 = 0, 1, 2, 5


def encode_varint(value: int) -> bytes:
    """Encode an integer as a varint. A negative integer is encoded as 64-bit two's complement."""
    value &= 0xFFFFFFFFFFFFFFFF
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def length_delimited(number: int, data: bytes) -> bytes:
    """Encode a field of wire type 2: a string, bytes or a message."""
    return encode_varint(number << 3 | LEN) + encode_varint(len(data)) + data
