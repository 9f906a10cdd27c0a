"""Linux system calls for which Python 3.11 has no function. Linux only; all functions raise OSError."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import platform
import signal

CLONE_NEWNS = 0x00020000
CLONE_NEWCGROUP = 0x02000000
CLONE_NEWUTS = 0x04000000
CLONE_NEWIPC = 0x08000000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
_CLONE_PARENT = 0x00008000

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
_PR_SET_NAME = 15
_PR_CAPBSET_READ = 23
_PR_CAPBSET_DROP = 24
_PR_SET_NO_NEW_PRIVS = 38

_AT_FDCWD = -100
_AT_RECURSIVE = 0x8000
_MOUNT_ATTR_RDONLY = 0x1
_KEYCTL_JOIN_SESSION_KEYRING = 1
_SECCOMP_SET_MODE_FILTER = 1
_SECCOMP_FILTER_FLAG_SPEC_ALLOW = 4
_SECCOMP_FILTER_FLAG_NEW_LISTENER = 8

# mount_setattr (Linux 5.12) has the same number on all machines; older calls have different numbers on x86.
_SYS_MOUNT_SETATTR = 442
_SYS_CLONE = {"x86_64": 56, "aarch64": 220, "riscv64": 220, "loongarch64": 220}.get(platform.machine())
_SYS_SECCOMP = {"x86_64": 317, "aarch64": 277, "riscv64": 277, "loongarch64": 277}.get(platform.machine())
_SYS_KEYCTL = {"x86_64": 250, "aarch64": 219, "riscv64": 219, "loongarch64": 219}.get(platform.machine())

_libc = ctypes.CDLL(None, use_errno=True)
_libc_with_lock = ctypes.PyDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def _encode(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)


def unshare(flags: int) -> None:
    """Move this process into new namespaces (unshare(2)). flags: CLONE_NEW... of each."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def setns(descriptor: int, kind: int = 0) -> None:
    """Move this thread into a namespace (setns(2)). kind: the required CLONE_NEW...; 0 for any."""
    _check(_libc.setns(ctypes.c_int(descriptor), ctypes.c_int(kind)), "setns")


def mount(source: str | None, target: str, filesystem: str | None = None, flags: int = 0, data: str = "") -> None:
    """Mount a file system, or change a mount (mount(2)). flags: MS_... data: the file system's options."""
    result = _libc.mount(
        _encode(source), _encode(target), _encode(filesystem), ctypes.c_ulong(flags), _encode(data) if data else None
    )
    _check(result, f"mount {target}")


def umount(target: str, flags: int = 0) -> None:
    """Unmount the file system at `target` (umount2(2)). flags: MNT_DETACH, UMOUNT_NOFOLLOW."""
    _check(_libc.umount2(_encode(target), ctypes.c_int(flags)), f"umount {target}")


def pivot_root(new_root: str, put_old: str) -> None:
    """Make `new_root` the root file system and put the old one at `put_old` (pivot_root(2))."""
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


def set_parent_death_signal(number: int) -> None:
    """Have the kernel send the signal `number` to this process when its parent dies."""
    _prctl(_PR_SET_PDEATHSIG, number)


def set_no_new_privileges() -> None:
    """Disable set-user-ID and the like for this process and its children (PR_SET_NO_NEW_PRIVS)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


class _FilterProgram(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_char_p))


def set_filter(program: bytes) -> None:
    """Set a filter for the system calls of this process and of all that it starts (seccomp(2), Linux 4.17).

    program: the instructions, struct sock_filter. Call it after `set_no_new_privileges`.
    """
    if _SYS_SECCOMP is None:
        raise OSError(errno.ENOSYS, f"seccomp: unknown machine {platform.machine()}")
    result = _libc.syscall(
        ctypes.c_long(_SYS_SECCOMP),
        ctypes.c_uint(_SECCOMP_SET_MODE_FILTER),
        # Without this flag, old kernels slow down everything that runs below a filter (speculative store bypass).
        ctypes.c_uint(_SECCOMP_FILTER_FLAG_SPEC_ALLOW),
        ctypes.byref(_FilterProgram(len(program) // 8, program)),
    )
    _check(result, "seccomp")


def set_listening_filter(program: bytes) -> int:
    """Set a filter, like `set_filter`; return a descriptor for answering the calls that the filter reports (Linux 5.0).

    The descriptor is close-on-exec. Raises OSError: EBUSY when another filter of this process already has a descriptor.
    """
    if _SYS_SECCOMP is None:
        raise OSError(errno.ENOSYS, f"seccomp: unknown machine {platform.machine()}")
    result = _libc.syscall(
        ctypes.c_long(_SYS_SECCOMP),
        ctypes.c_uint(_SECCOMP_SET_MODE_FILTER),
        ctypes.c_uint(_SECCOMP_FILTER_FLAG_SPEC_ALLOW | _SECCOMP_FILTER_FLAG_NEW_LISTENER),
        ctypes.byref(_FilterProgram(len(program) // 8, program)),
    )
    return _check(result, "seccomp")


def keep_memory_private(private: bool = True) -> None:
    """Protect this process's memory and its files in /proc from other processes (PR_SET_DUMPABLE).

    Only processes with capabilities in the user namespace where its program was executed have access. The protection
    holds until the next execve(2). private: False removes it.
    """
    _prctl(_PR_SET_DUMPABLE, 0 if private else 1)


CAN_FORK_SIBLING = _SYS_CLONE is not None


def fork_sibling() -> int:
    """Fork a child of this process's parent (CLONE_PARENT); return the result of fork(2).

    Python's runtime does not notice this fork. Therefore, use it only in single-threaded processes, for children that
    soon call execve(2) or do nothing else. Raises OSError (ENOSYS: unknown machine).
    """
    if _SYS_CLONE is None:
        raise OSError(errno.ENOSYS, f"clone: its number on {platform.machine()} is not known")
    zero = ctypes.c_long(0)
    # Keep the interpreter's lock during the call: in the child, no other thread could release it.
    result = _libc_with_lock.syscall(
        ctypes.c_long(_SYS_CLONE), ctypes.c_ulong(_CLONE_PARENT | signal.SIGCHLD), zero, zero, zero, zero
    )
    return _check(result, "clone")


def set_name(name: str) -> None:
    """Set the name of this process, in `comm` and in its command line."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    zero = ctypes.c_ulong(0)
    _check(_libc.prctl(ctypes.c_int(_PR_SET_NAME), buffer, zero, zero, zero), "prctl")
    start, size = _arguments()
    if size:
        ctypes.memset(start, 0, size)
        ctypes.memmove(start, name.encode(), min(len(name.encode()), size - 1))


def fork_without_arguments() -> int:
    """Fork a child whose command line is empty; return the result of fork(2).

    Use it for children that containers can see, because they must not see this process's command line. Raises OSError.
    """
    start, size = _arguments()
    kept = ctypes.string_at(start, size) if size else b""
    pid = -1
    if size:
        # Clear the arguments before the fork: processes in the child's namespace could stop the child at once, and read
        # them.
        ctypes.memset(start, 0, size)
    try:
        pid = os.fork()
        return pid
    finally:
        if pid != 0 and size:
            ctypes.memmove(start, kept, size)


@functools.cache
def _arguments() -> tuple[int, int]:
    """Return the address of this process's arguments in its memory, and their size; 0 when unknown.

    Forks have the same address.
    """
    with open("/proc/self/stat", "rb") as file:
        # The fields after the name in parentheses begin with field 3; arg_start and arg_end are fields 48 and 49.
        fields = file.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    return (start, end - start) if 0 < start < end else (0, 0)


def capabilities() -> int:
    """Return how many capabilities the kernel has. No file is read: a container could replace it."""
    count = 0
    while True:
        try:
            _prctl(_PR_CAPBSET_READ, count)
        except OSError:
            return count
        count += 1


def drop_bounding_capability(capability: int) -> None:
    """Remove a capability from everything that this process executes from now on."""
    _prctl(_PR_CAPBSET_DROP, capability)


def join_new_session_keyring() -> None:
    """Leave the session keyring that this process has inherited. Do nothing where the call's number is not known."""
    if _SYS_KEYCTL is not None:
        result = _libc.syscall(ctypes.c_long(_SYS_KEYCTL), ctypes.c_int(_KEYCTL_JOIN_SESSION_KEYRING), None)
        _check(result, "keyctl")
