"""The Linux system calls that Python 3.11 has no function for. Linux only; every call raises OSError."""

from __future__ import annotations

import ctypes
import os
import platform

CLONE_NEWNS = 0x00020000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_NODIRATIME = 0x800
MS_BIND = 0x1000
MS_MOVE = 0x2000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_RELATIME = 0x200000

MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1
_KEYCTL_JOIN_SESSION_KEYRING = 1

# mount_setattr (Linux 5.12) has one number everywhere; keyctl has the old one on x86 and the generic one elsewhere.
_SYS_MOUNT_SETATTR = 442
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219}.get(platform.machine())

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _encode(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def unshare(flags: int) -> None:
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(descriptor: int, kind: int = 0) -> None:
    _check(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: str | None, target: str, filesystem: str | None = None, flags: int = 0, data: str = "") -> None:
    result = _libc.mount(
        _encode(source), _encode(target), _encode(filesystem), ctypes.c_ulong(flags), _encode(data) if data else None
    )
    _check(result, f"mount {target}")


def umount(target: str, flags: int = 0) -> None:
    _check(_libc.umount2(_encode(target), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    _check(_libc.pivot_root(_encode(new_root), _encode(put_old)), f"pivot_root {new_root}")


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_read_only(target: str) -> None:
    """Make the mount at `target` and all mounts below it read-only (mount_setattr, Linux 5.12; else ENOSYS)."""
    attributes = _MountAttributes(attr_set=_MOUNT_ATTR_RDONLY)
    result = _libc.syscall(
        ctypes.c_long(_SYS_MOUNT_SETATTR),
        ctypes.c_int(_AT_FDCWD),
        ctypes.c_char_p(os.fsencode(target)),
        ctypes.c_uint(_AT_RECURSIVE),
        ctypes.byref(attributes),
        ctypes.c_size_t(ctypes.sizeof(attributes)),
    )
    _check(result, f"mount_setattr {target}")


def _prctl(option: int, value: int) -> int:
    zero = ctypes.c_ulong(0)
    return _check(_libc.prctl(ctypes.c_int(option), ctypes.c_ulong(value), zero, zero, zero), "prctl")


def set_parent_death_signal(signal: int) -> None:
    """Have the kernel send `signal` to this process when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, signal)


def set_no_new_privileges() -> None:
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def keep_memory_private() -> None:
    """Let no process without capabilities over this one's first user namespace trace it or look into its /proc files.

    Holds until the next execve(2).
    """
    _prctl(_PR_SET_DUMPABLE, 0)


def capabilities() -> int:
    """How many capabilities the kernel knows: it, and no file that a container may have put there, says so."""
    count = 0
    while True:
        try:
            _prctl(_PR_CAPBSET_READ, count)
        except OSError:
            return count
        count += 1


def drop_bounding_capability(capability: int) -> None:
    """Take a capability from everything that this process executes from now on."""
    _prctl(_PR_CAPBSET_DROP, capability)


def join_new_session_keyring() -> None:
    """Leave the session keyring of whoever started this process. Does nothing where the call's number is not known."""
    if _SYS_KEYCTL is not None:
        result = _libc.syscall(ctypes.c_long(_SYS_KEYCTL), ctypes.c_int(_KEYCTL_JOIN_SESSION_KEYRING), None)
        _check(result, "keyctl")
