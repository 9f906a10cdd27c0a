"""The steps of a new process in an image's container between fork(2) and exec(3): its first process, or an exec.

CVE-2024-21626: before the process follows a path in the container, it has closed all descriptors that lead to
directories of this machine.

CVE-2019-5736: a container can make this process execute Python, its own program, again (`/proc/self/exe`). In this way
the container gets access to the file of Python, which may belong to the container's user. But the kernel refuses writes
to a file that is being executed (ETXTBSY), and the network's first process executes this file as long as any container
runs. `why_not_safe` finds kernels that allow such writes.

All functions raise `StartFailure`, with the messages of runc and containerd.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from hatchway import beneath
from hatchway.cluster.network import syscalls as linux
from hatchway.cluster.network.accounts import Account, AccountError, find_home, look_up_account
from hatchway.cluster.network.commandlookup import StartFailure, reason
from hatchway.cluster.network.forked import report_account, report_mounts
from hatchway.cluster.network.imageroot import ImageRootConfig, build_image_root
from hatchway.cluster.network.linuxnamespaces import Namespaces, open_namespace
from hatchway.cluster.network.mounts import remount_one_read_only
from hatchway.cluster.network.rights import Rights, take_rights
from hatchway.cluster.network.roottemplate import Template
from hatchway.cluster.network.volumemounts import RootError

# Larger than any descriptor (fs.nr_open).
_MOST_DESCRIPTORS = 1 << 30
# Called with the environment and a function that changes the user; executes the program.
Execute = Callable[[dict[str, str], Callable[[], None]], NoReturn]


def why_not_safe() -> str:
    """Return why containers of images cannot be run safely on this machine; "" when they can."""
    try:
        os.close(os.open("/proc/self/exe", os.O_WRONLY | os.O_CLOEXEC))
    except OSError:
        # ETXTBSY: the file is protected. EACCES, EPERM, EROFS: this user cannot write to it in any case.
        return ""
    return (
        "this machine's kernel lets containers overwrite running programs (Linux 6.11.0 to 6.11.10, 6.12.0, 6.12.1); "
        "containers of images need a newer one"
    )


def start_in_image(
    template: Template,
    namespaces: Namespaces,
    etc: Mapping[str, str],
    config: dict[str, Any],
    report: socket.socket,
    execute: Execute,
) -> NoReturn:
    """Become the first process of a container of an image. execute: runs the program."""
    if config["unsafe"]:
        raise StartFailure(config["unsafe"])
    rights = _rights(config)
    users = config["node_users"]
    if rights.administers and users < 0:
        raise StartFailure("containers that may mount need nested user namespaces, which this machine forbids")
    try:
        namespaces.enter()
        linux.unshare(linux.CLONE_NEWNS)
        build_image_root(
            template,
            ImageRootConfig(**config["image"]),
            etc=etc,
            mounts=config["mounts"],
            read_only_root=config["read_only_root"],
            masked=rights.masked,
            # No cgroup namespace for a container that may mount: in it, the container could mount other control groups.
            control_groups=not rights.administers,
        )
        # From here on, /proc is the container's. It can be trusted: nothing is mounted over it (`RootError`), and no
        # program of the container has run yet.
        _close_all_but(report.fileno(), config.get("console", -1), users)
        _make_working_directory(config["cwd"])
        if config["read_only_root"]:
            remount_one_read_only("/")
        if rights.administers:
            _lock_mounts(users)
        report_mounts(report)
    except RootError as error:
        raise StartFailure(str(error)) from error
    except OSError as error:
        raise StartFailure(f"cannot make the container's file system: {reason(error)}") from error
    wish = config["privileges"]
    try:
        account = look_up_account(wish["user"], wish["groups"], merge=wish["merge_groups"])
    except AccountError as error:
        raise StartFailure(str(error)) from error
    report_account(report, account._asdict())
    execute(_environment(config, account), lambda: take_rights(report, account, rights, users, is_first=True))


def enter_image(
    namespaces: Namespaces, mount_namespace: int, config: dict[str, Any], report: socket.socket, execute: Execute
) -> NoReturn:
    """Become another process of a running container of an image, as its user. execute: runs the program.

    mount_namespace: see `containerstart.enter`. report: the child's end of `report_pair`.
    """
    rights = _rights(config)
    found = config["account"]
    account = Account(found["uid"], found["gid"], tuple(found["groups"]), found["home"])
    _enter_control_groups(config["container_pid"])
    try:
        namespaces.enter()
        linux.setns(mount_namespace, linux.CLONE_NEWNS)
    except OSError as error:
        raise StartFailure(f"cannot enter the container: {reason(error)}") from error
    users = config["node_users"]
    _close_all_but(report.fileno(), config.get("console", -1), users)
    execute(_environment(config, account), lambda: take_rights(report, account, rights, users))


def _enter_control_groups(pid: int) -> None:
    """Enter the cgroup namespace of the container's first process `pid`, if the container has its own."""
    # Errors are expected: the first process may have ended, or this process may be in the same namespace already.
    with contextlib.suppress(OSError), beneath.closing(open_namespace(str(pid), "cgroup")) as groups:
        linux.setns(groups, linux.CLONE_NEWCGROUP)


def _rights(config: dict[str, Any]) -> Rights:
    return Rights.of(config["privileges"], config["users"], config["root_of_machine"])


def _environment(config: dict[str, Any], account: Account) -> dict[str, str]:
    env: dict[str, str] = dict(config["env"])
    if not env.get("HOME"):
        env["HOME"] = account.home or find_home(account.uid) or "/"
    if config["terminal"]:
        env.setdefault("TERM", "xterm")
    return env


def _close_all_but(*kept: int) -> None:
    """Close all descriptors except the standard streams and `kept`. Numbers below 0 in `kept` are ignored."""
    # One of the closed descriptors receives the signals of the network's first process (signal.set_wakeup_fd).
    signal.set_wakeup_fd(-1)
    first = 3
    for descriptor in sorted({number for number in kept if number >= first}):
        os.closerange(first, descriptor)
        first = descriptor + 1
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    os.closerange(first, limit if limit != resource.RLIM_INFINITY else _MOST_DESCRIPTORS)


def _make_working_directory(cwd: str | None) -> None:
    """Make a missing working directory. Like container engines, do so as root."""
    try:
        os.makedirs(cwd or "/", 0o755, exist_ok=True)
    except OSError as error:
        raise StartFailure(f'mkdir cwd ("{cwd}") set in config.json failed: {reason(error)}') from error


def _lock_mounts(users: int) -> None:
    """Move this process to a copy of its mount namespace in which no existing mount can be removed or made writable.

    Otherwise a container that may mount could uncover hidden files of /proc and /sys, to which this machine's root may
    write. It could also make a `hostPath` mount writable, although some programs below it belong to this user. The
    kernel locks mounts that are copied into a namespace of other users (mount_namespaces(7)).

    users: a descriptor of the user namespace that the copy belongs to.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        pid = os.fork()
        if pid == 0:
            try:
                linux.setns(users, linux.CLONE_NEWUSER)
                linux.unshare(linux.CLONE_NEWNS)
                report_mounts(theirs)
            finally:
                os._exit(0)
        theirs.close()
        _, found, _, _ = ours.recvmsg(64, socket.CMSG_SPACE(4), socket.MSG_CMSG_CLOEXEC)
        os.waitpid(pid, 0)
    if not found:
        raise OSError(0, "its mounts cannot be locked")
    copy = int.from_bytes(found[0][2], "little")
    try:
        linux.setns(copy, linux.CLONE_NEWNS)
    finally:
        os.close(copy)
    os.chdir("/")
