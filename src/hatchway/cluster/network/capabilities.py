"""Takes capabilities away from a container's processes, as runc and containerd do.

The bounding set has the container's capabilities. The inheritable and the ambient set are empty. So a process of a user
other than root has no capabilities, and a program with file capabilities or a setuid bit gets at most the bounding set.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable

from hatchway.cluster.capabilitynames import ALL_CAPABILITIES
from hatchway.cluster.network import syscalls as linux

_NUMBERS = {name: number for number, name in enumerate(ALL_CAPABILITIES)}

_VERSION = 0x20080522
_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 47, 4

_libc = ctypes.CDLL(None, use_errno=True)


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def numbers(names: Iterable[str]) -> frozenset[int]:
    """Return the numbers of capabilities. Names may begin with `CAP_`; unknown names are skipped."""
    return frozenset(_NUMBERS[short] for name in names if (short := name.upper().removeprefix("CAP_")) in _NUMBERS)


def limit_bounding_set(kept: frozenset[int]) -> None:
    """Drop all capabilities except `kept` from the bounding set, which limits the programs that are executed.

    Raises OSError.
    """
    for capability in range(linux.capabilities()):
        if capability not in kept:
            linux.drop_bounding_capability(capability)


def limit_to(kept: frozenset[int]) -> None:
    """Drop this process's capabilities except `kept`, and clear its inheritable and ambient sets. Raises OSError.

    Capabilities of `kept` that the process lacks are ignored.
    """
    zero = ctypes.c_ulong(0)
    # Kernels before 4.3 have no ambient set.
    _libc.prctl(ctypes.c_int(_PR_CAP_AMBIENT), ctypes.c_ulong(_PR_CAP_AMBIENT_CLEAR_ALL), zero, zero, zero)
    header, data = _Header(_VERSION, 0), (_Data * 2)()
    _check(_libc.capget(ctypes.byref(header), data))
    for half in range(2):
        mask = sum(1 << (number - 32 * half) for number in kept if number // 32 == half)
        permitted = data[half].permitted & mask
        data[half] = _Data(permitted, permitted, 0)
    _check(_libc.capset(ctypes.byref(header), data))


def _check(result: int) -> None:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
