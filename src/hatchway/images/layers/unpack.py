"""The process that unpacks an image's layers: `python -m hatchway.images.layers.unpack`, started by `layerstore.py`.

It runs as root of the cluster's user namespace, so that it can set the owners of files. It reads one request from its
standard input, and writes one line to its standard output: `{}`, or `{"error": ..., "is_full": ...}`. Then it syncs the
files to disk, records that in the layers' marks, and removes layers for former user maps (`formerlayers.py`). It ends
when its parent process ends.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType
from typing import Final

from hatchway.files import NO_ROOM
from hatchway.images.contents import BadImage
from hatchway.images.layers.layererrors import NoRoomForLayer, UnpackLimits
from hatchway.images.layers.layerunpacking import PackedLayer, sync_layers, unpack_layers
from hatchway.images.store.formerlayers import remove_former_layers
from hatchway.images.store.layerplaces import UsersWay

_PR_SET_PDEATHSIG: Final = 1
# The largest request, in bytes.
_LONGEST: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackRequest:
    """An image to unpack. store: the image store's directory. layers: the lowest first. parent: the requester's PID."""

    store: str
    users: UsersWay
    layers: tuple[PackedLayer, ...]
    limits: UnpackLimits
    parent: int

    def encode(self) -> bytes:
        """Return the request as it is sent."""
        return json.dumps(asdict(self)).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class UnpackAnswer:
    """The result. error: why the image was not unpacked; "" for success. is_full: True when the disk is full."""

    error: str = ""
    is_full: bool = False

    def encode(self) -> bytes:
        """Return the answer as it is sent: one line."""
        return json.dumps(asdict(self)).encode() + b"\n"


def decode_request(data: bytes) -> UnpackRequest:
    """Return the request that was sent as `data`."""
    found = json.loads(data)
    return UnpackRequest(
        store=found["store"],
        users=found["users"],
        layers=tuple(PackedLayer(**layer) for layer in found["layers"]),
        limits=UnpackLimits(**found["limits"]),
        parent=found["parent"],
    )


def decode_answer(line: bytes) -> UnpackAnswer:
    """Return the answer that was sent as `line`."""
    return UnpackAnswer(**json.loads(line))


class _Stopped(BaseException):
    """The process has received SIGTERM."""


def main() -> int:
    """Answer the request on the standard input. Return the exit code."""
    signal.signal(signal.SIGTERM, _stop)
    request = decode_request(sys.stdin.buffer.read(_LONGEST))
    if not _ends_with(request.parent):
        return 1
    os.umask(0o077)
    store = Path(request.store)
    new: list[Path] = []
    try:
        new = unpack_layers(store, request.users, request.layers, request.limits)
        answer = UnpackAnswer()
    except NoRoomForLayer as error:
        answer = UnpackAnswer(error=str(error), is_full=True)
    except BadImage as error:
        answer = UnpackAnswer(error=str(error))
    except OSError as error:
        where = f": {error.filename}" if error.filename is not None else ""
        answer = UnpackAnswer(
            error=f"the image cannot be unpacked: {error.strerror or error}{where}", is_full=error.errno in NO_ROOM
        )
    except _Stopped:
        return 1
    with open(1, "wb", closefd=False) as out:
        out.write(answer.encode())
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    sync_layers(store, request.users, new)
    if not answer.error:
        for problem in remove_former_layers(store, request.users)[1]:
            print(problem, file=sys.stderr)
    return 0


def _stop(number: int, frame: FrameType | None) -> None:
    # Ignore further signals: they would interrupt the removal of the incomplete layer.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Stopped


def _ends_with(parent: int) -> bool:
    """Let the kernel end this process with its parent. Return False when the parent has already ended."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(ctypes.c_int(_PR_SET_PDEATHSIG), ctypes.c_ulong(signal.SIGKILL))
    return os.getppid() == parent


if __name__ == "__main__":
    sys.exit(main())
