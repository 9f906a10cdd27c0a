"""Mounts an image's layers with a writable directory on top: Linux's overlay file system, in a user namespace.

Layers are given as descriptors (`/proc/self/fd/7`): such a path is short, needs no escapes, and shows a container
nothing of this machine. The overlay's attributes are `user.overlay...` (the option `userxattr`, Linux 5.11), because a
user namespace may not write `trusted.` attributes; unpacked layers have the same attributes.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import tempfile
from collections.abc import Iterator, Sequence

from hatchway import beneath
from hatchway.cluster.network import mountcalls
from hatchway.cluster.network import syscalls as linux

UPPER, _WORK, _NOTHING = "upper", "work", "nothing"
# The maximum number of bytes of a file system's options that mount(2) reads, including the final null character.
_OPTIONS_BYTES = 4096
_RELEASE = re.compile(r"(\d{1,9})\.(\d{1,9})")
# Errors by which the kernel reports that an overlay is not supported on this machine or file system.
UNSUPPORTED = frozenset(
    {errno.EACCES, errno.EINVAL, errno.ENODEV, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM, errno.EXDEV}
)


def mount_overlay(layers: Sequence[str], changes: str, target: str) -> None:
    """Mount layers at the directory `target`, in this process's mount namespace.

    layers: directories, the topmost first; up to 500. changes: the directory for changed files; `upper` and `work` are
    created in it when they are missing.

    Raises:
        OSError: the error number is in `UNSUPPORTED` when this machine or the file system of `changes` allows no
        overlay.
    """
    for part in (UPPER, _WORK, _NOTHING):
        with contextlib.suppress(FileExistsError):
            os.mkdir(f"{changes}/{part}", 0o755)
    # An overlay needs a layer, and an image may have none.
    with _named([*(layers or [f"{changes}/{_NOTHING}"]), f"{changes}/{UPPER}", f"{changes}/{_WORK}"]) as names:
        *lower, upper, work = names
        if mounts_by_parts(os.uname().release):
            try:
                _mount_by_parts(lower, upper, work, target)
                return
            except OSError as error:
                # EINVAL: the kernel lacks the option although its release number is high enough. Distributions and
                # sandboxes change kernels.
                if error.errno not in (errno.EINVAL, errno.ENOSYS):
                    raise
        _mount_at_once(lower, upper, work, target)


def mounts_by_parts(release: str) -> bool:
    """Return True for a kernel that knows the option `lowerdir+`, since Linux 6.7.

    Older kernels log a line at each attempt to use it. release: as in uname(2), such as `6.1.0-18-amd64`.
    """
    found = _RELEASE.match(release)
    return found is None or (int(found[1]), int(found[2])) >= (6, 7)


def overlay_problem(directory: str) -> str:
    """Return why an overlay cannot have its changes in `directory`, as a message; "" when it can. Blocks.

    Raises OSError.

    This process must be root of its user namespace. No mount and no file remains.
    """
    with tempfile.TemporaryDirectory(prefix=".try-", dir=directory) as tried:
        parts = [f"{tried}/{name}" for name in (_NOTHING, UPPER, _WORK)]
        for part in parts:
            os.mkdir(part)
        try:
            with _named(parts) as (lower, upper, work):
                options = [("lowerdir", lower), ("upperdir", upper), ("workdir", work), ("userxattr", None)]
                os.close(mountcalls.new_file_system("overlay", options))
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            return (error.strerror or str(error)).lower()
        finally:
            # Remove the empty directory without permissions that the kernel has made there.
            with contextlib.suppress(FileNotFoundError):
                os.rmdir(f"{parts[2]}/work")
    return ""


@contextlib.contextmanager
def _named(directories: Sequence[str]) -> Iterator[list[str]]:
    """Open directories, and yield their short paths (`/proc/self/fd/N`)."""
    with contextlib.ExitStack() as opened:
        flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        yield [
            f"/proc/self/fd/{opened.enter_context(beneath.closing(os.open(directory, flags)))}"
            for directory in directories
        ]


def _mount_by_parts(lower: list[str], upper: str, work: str, target: str) -> None:
    options: list[tuple[str, str | None]] = [("lowerdir+", layer) for layer in lower]
    # volatile: fsync has no effect. After a crash of the machine, containers start again from their images.
    options += [("upperdir", upper), ("workdir", work), ("userxattr", None), ("volatile", None)]
    mount = mountcalls.new_file_system("overlay", options)
    with beneath.closing(mount):
        mountcalls.attach(mount, target)


def _mount_at_once(lower: list[str], upper: str, work: str, target: str) -> None:
    options = f"userxattr,volatile,lowerdir={':'.join(lower)},upperdir={upper},workdir={work}"
    if len(options) >= _OPTIONS_BYTES:
        raise OSError(errno.E2BIG, f"the image has {len(lower)} layers, more than this kernel mounts")
    linux.mount("overlay", target, "overlay", 0, options)
