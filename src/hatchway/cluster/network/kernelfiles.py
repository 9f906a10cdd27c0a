"""Mounts /dev, /proc and /sys for a container, without the parts that a container must not see or change.

All paths are paths of the process that builds the container; no container has access to them yet.
"""

from __future__ import annotations

import errno
import os

from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.mounts import bind, mask, remount_one_read_only

_DEVICES = ("full", "null", "random", "tty", "urandom", "zero")

# Paths that runc protects by default (libcontainer's maskedPaths, readonlyPaths), because uid 0 may be the host's root.
_PROC_MASKED = (
    *("acpi", "asound", "kcore", "keys", "latency_stats", "sched_debug", "scsi", "timer_list"),
    "timer_stats",
)
_PROC_READ_ONLY = ("bus", "fs", "irq", "sys", "sysrq-trigger")
_SYS_MASKED = ("firmware", "kernel/debug", "kernel/security", "devices/virtual/powercap")
_QUIET = linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC


def keep_devices() -> None:
    """Mount the devices of containers read-only in this process's mount namespace. Raises OSError.

    Programs can still write to the devices, but cannot change their owner and mode. (This machine's root owns them, and
    may be root in a container.) The same holds for bind mounts of the devices, and for descriptors that are opened
    later.
    """
    for name in _DEVICES:
        path = f"/dev/{name}"
        linux.mount(path, path, None, linux.MS_BIND)
        remount_one_read_only(path)


def make_devices(dev: str) -> None:
    """Fill the empty directory `dev`."""
    for name in _DEVICES:
        bind(f"/dev/{name}", f"{dev}/{name}")
    for name, to in (("fd", ""), ("stdin", "/0"), ("stdout", "/1"), ("stderr", "/2")):
        os.symlink(f"/proc/self/fd{to}", f"{dev}/{name}")
    os.symlink("pts/ptmx", f"{dev}/ptmx")
    for name in ("pts", "shm"):
        os.mkdir(f"{dev}/{name}")
    quiet = linux.MS_NOSUID | linux.MS_NOEXEC
    linux.mount("devpts", f"{dev}/pts", "devpts", quiet, "newinstance,ptmxmode=0666,mode=0620")
    linux.mount("shm", f"{dev}/shm", "tmpfs", quiet | linux.MS_NODEV, "mode=1777,size=64m")


def mount_message_queues(dev: str) -> None:
    """Mount the POSIX message queues of this IPC namespace at `mqueue` below `dev`, if the kernel supports them."""
    os.mkdir(f"{dev}/mqueue")
    try:
        linux.mount("mqueue", f"{dev}/mqueue", "mqueue", _QUIET)
    except OSError as error:
        if error.errno not in (errno.ENODEV, errno.EPERM):
            raise
        os.rmdir(f"{dev}/mqueue")


def mount_proc(proc: str, empty: str, *, masked: bool = True) -> None:
    """Mount this PID namespace's /proc at the directory `proc`.

    masked: True to hide parts that a container must not see, and to make others read-only. empty: an empty directory.
    """
    linux.mount("proc", proc, "proc", _QUIET)
    if not masked:
        return
    for name in _PROC_READ_ONLY:
        path = f"{proc}/{name}"
        if os.path.exists(path):
            linux.mount(path, path, None, linux.MS_BIND | linux.MS_REC)
            linux.mount(None, path, None, linux.MS_REMOUNT | linux.MS_BIND | linux.MS_RDONLY | _QUIET)
    mask(proc, [f"/{name}" for name in _PROC_MASKED], empty)


def mount_sys(sys_: str, empty: str, *, writable: bool = False) -> bool:
    """Mount /sys at the directory `sys_`. Return False if the kernel refuses the mount.

    writable: False to hide the parts that a container must not see, and to make /sys read-only. True to show all of it,
    and to make it as writable as this machine's own /sys. If parts of this machine's own /sys are covered by other
    mounts, the kernel refuses to mount a new one, and /sys stays empty.
    """
    for flags in (0, linux.MS_RDONLY) if writable else (linux.MS_RDONLY,):
        try:
            linux.mount("sysfs", sys_, "sysfs", _QUIET | flags)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EBUSY):
                raise
            continue
        if not writable:
            mask(sys_, [f"/{name}" for name in _SYS_MASKED], empty)
        return True
    return False
